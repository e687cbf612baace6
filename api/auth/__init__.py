"""Authentication: API keys, sessions, people's accounts, and the tokens that the API signs."""
