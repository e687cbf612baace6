"""Helpers of the tests: factories, processes, servers and clients. Tests import helpers from here, never from tests."""
