"""The log: topic definitions, their creation and check, and the Kafka clients."""
