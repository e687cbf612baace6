"""Replay suite: replays many calls while workers are killed. Nothing may change. `python -m tests.replay`."""
