"""Replay: calls processed again from any stage on, beside the live ones and without keeping them waiting."""
