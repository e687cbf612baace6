"""Replays of many calls, with workers killed meanwhile: everything must be as before. `python -m tests.replay`."""
