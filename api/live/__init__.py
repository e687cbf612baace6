"""Live calls for subscribers: audio levels from the log, and states from ClickHouse after an event on the log.

Nothing runs while there are no subscribers.
"""
