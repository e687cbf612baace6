"""Authentication: API keys, sessions, user accounts, and the tokens that the API signs."""
