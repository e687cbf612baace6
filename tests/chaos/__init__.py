"""Chaos suite: many calls and many faults, then a check of every result. Run it with `python -m tests.chaos`."""
