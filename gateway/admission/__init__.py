"""Decides whether a media socket or webhook may bring a stream."""
