"""Shared foundations: settings, errors, clock, processes, logging, metrics, health checks. No domain logic."""
