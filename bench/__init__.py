"""Benchmarks. `python -m bench` runs them side by side."""
