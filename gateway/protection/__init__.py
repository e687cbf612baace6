"""Limits for connections and requests of unauthenticated clients."""
