"""Names of the topics. `redpanda/topics.yaml` has their partitions, retention and sizes."""

from enum import StrEnum


class Topic(StrEnum):
    """Every topic that AudioText reads or writes; keyed by call id unless noted."""

    CALL_MEDIA = "call.media"  # audio as the carrier sent it, and the decisions about it (schemas.media)
    CALL_EVENTS = "call.events"  # starts and ends of streams, keypad digits
    RECORDING_READY = "recording.ready"
    TRANSCRIPT_READY = "transcript.ready"
    SUMMARY_READY = "summary.ready"
    EMBEDDING_READY = "embedding.ready"
    USAGE_RECORDED = "usage.recorded"
    DEAD_LETTERS = "dead.letters"
    TRANSCRIBE_RETRY = "transcribe.retry"
    SUMMARIZE_RETRY = "summarize.retry"
    EMBED_RETRY = "embed.retry"
    PROVIDER_NOTICES = "provider.notices"  # an order is done; without a key, since no guarantee depends on them
    REPLAY_COMMANDS = "replay.commands"  # replays requested, stopped and resumed; keyed by replay
    REPLAY_JOBS = "replay.jobs"
    REPLAY_PROGRESS = "replay.progress"  # outcome of each part
    REPLAY_RETRY = "replay.retry"
    REPLAY_COMMANDS_RETRY = "replay.commands.retry"
    ERASURE_REQUESTS = "erasure.requests"
    ERASURE_RETRY = "erasure.retry"
