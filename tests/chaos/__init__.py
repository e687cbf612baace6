"""Many calls, many faults, and then a look at everything: `python -m tests.chaos`."""
