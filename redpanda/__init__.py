"""The log: its topics as data, what applies and checks them, and how clients connect to it."""
