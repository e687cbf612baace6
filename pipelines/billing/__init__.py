"""Prices, charge policies and the ledger."""
