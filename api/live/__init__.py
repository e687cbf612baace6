"""Calls as they go on, for whoever watches: their levels from the log, their state from ClickHouse once the log says
that it has changed. Nothing runs while nobody watches."""
