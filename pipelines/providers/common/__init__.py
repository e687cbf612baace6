"""Helpers that several providers use."""
