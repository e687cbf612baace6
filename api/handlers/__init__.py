"""Handlers of the endpoints: each takes parameters and returns a body of api.models."""
