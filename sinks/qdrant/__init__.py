"""Vector store: collections, points and keyword weights."""
