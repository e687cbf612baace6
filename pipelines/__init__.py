"""One module per consumer group, the runtime of the slow stages, and the providers they call."""
