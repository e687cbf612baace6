"""Checks of `audiotext doctor`: for each configured system a finding in one line, and how to fix it."""
