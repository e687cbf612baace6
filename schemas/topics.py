"""Names of the topics. Their partitions, retention and sizes are data: `redpanda/topics.yaml`."""

from enum import StrEnum


class Topic(StrEnum):
    """Every topic AudioText reads or writes; all are keyed by call id."""

    CALL_MEDIA = "call.media"  # audio as the carrier sent it, and the decisions about it (schemas.media)
    CALL_EVENTS = "call.events"  # streams starting and ending, keypad digits
    RECORDING_READY = "recording.ready"
    TRANSCRIPT_READY = "transcript.ready"
    SUMMARY_READY = "summary.ready"
    EMBEDDING_READY = "embedding.ready"
    USAGE_RECORDED = "usage.recorded"
    DEAD_LETTERS = "dead.letters"
    TRANSCRIBE_RETRY = "transcribe.retry"
    SUMMARIZE_RETRY = "summarize.retry"
    EMBED_RETRY = "embed.retry"
    PROVIDER_NOTICES = "provider.notices"  # that an order is done; keyed by nothing, nobody depends on them
    REPLAY_COMMANDS = "replay.commands"  # replays asked for, stopped and resumed; keyed by replay
    REPLAY_JOBS = "replay.jobs"
    REPLAY_PROGRESS = "replay.progress"  # what became of each part
    REPLAY_RETRY = "replay.retry"
    REPLAY_COMMANDS_RETRY = "replay.commands.retry"
    ERASURE_REQUESTS = "erasure.requests"
    ERASURE_RETRY = "erasure.retry"
