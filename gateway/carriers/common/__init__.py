"""Helpers that several carriers use: credentials, signatures, wire formats."""
