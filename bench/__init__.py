"""Benchmarks of the gateway, the recorder and replays."""
