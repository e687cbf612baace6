"""Table of the stages: the consumer groups that do the work on the log.

A stage that is added here is a service of the command line, `audiotext up`, the operations page and `audiotext doctor`,
and may write dead letters. Tests compare the table with the topics, the metrics, Compose, Kubernetes and Prometheus.
This module is light: a service's own module, with its libraries, is imported only when the service runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from schemas.topics import Topic

Store = Literal["s3", "clickhouse", "qdrant"]
Engine = Literal["stt", "summary", "embedding"]


@dataclass(frozen=True, slots=True)
class StageSpec:
    """A consumer group, and what other parts of the system know about it.

    Attributes:
        group: Consumer group. Also the stage's name in dead letters and in the label `stage` of metrics.
        service: Service (process) that runs the stage.
        run: Function `run(settings)` of the service, written as "module:function".
        reads: Topics with the stage's work.
        writes: Topics with the stage's results, without `retry` and dead letters.
        retry: Topic where failed jobs wait for the next attempt; None if the stage has no retries.
        stores: Stores that the stage uses. Each is also a section of the settings.
        engine: Section of the settings whose field `provider` selects the stage's engine; None without an engine.
        settings: Further settings that the stage reads: a section, a field `section.field`, or a field without section.
        latency_critical: True if a call or a user waits for the stage. The others run with a lower priority.
    """

    group: str
    service: str
    run: str
    reads: tuple[Topic, ...]
    writes: tuple[Topic, ...] = ()
    retry: Topic | None = None
    stores: tuple[Store, ...] = ()
    engine: Engine | None = None
    settings: tuple[str, ...] = ()
    latency_critical: bool = False

    @property
    def source(self) -> Topic:
        """The topic with the stage's work, if there is only one."""
        (topic,) = self.reads
        return topic

    @property
    def retry_topic(self) -> Topic:
        """The topic where failed jobs wait. Raises ValueError if the stage has no retries."""
        if self.retry is None:
            raise ValueError(f"the stage {self.group} has no retry topic")
        return self.retry


RECORDER = StageSpec(
    group="recorder",
    service="recorder",
    run="pipelines.recorder.app:run",
    reads=(Topic.CALL_MEDIA,),
    writes=(Topic.CALL_MEDIA, Topic.RECORDING_READY),
    stores=("s3",),
    settings=("recorder",),
    latency_critical=True,
)
TRANSCRIBE = StageSpec(
    group="transcribe",
    service="transcriber",
    run="pipelines.transcribe.handler:run",
    reads=(Topic.RECORDING_READY,),
    writes=(Topic.TRANSCRIPT_READY, Topic.USAGE_RECORDED),
    retry=Topic.TRANSCRIBE_RETRY,
    stores=("s3",),
    engine="stt",
    settings=("pricing", "retry", "public_url", "gateway.port"),  # a provider sends its callbacks to the gateway
)
SUMMARIZE = StageSpec(
    group="summarize",
    service="summarizer",
    run="pipelines.summarize.handler:run",
    reads=(Topic.TRANSCRIPT_READY,),
    writes=(Topic.SUMMARY_READY, Topic.USAGE_RECORDED),
    retry=Topic.SUMMARIZE_RETRY,
    stores=("s3",),
    engine="summary",
    settings=("pricing", "retry"),
)
EMBED = StageSpec(
    group="embed",
    service="embedder",
    run="pipelines.embed.handler:run",
    reads=(Topic.TRANSCRIPT_READY,),
    writes=(Topic.EMBEDDING_READY, Topic.USAGE_RECORDED),
    retry=Topic.EMBED_RETRY,
    stores=("s3", "qdrant"),
    engine="embedding",
    settings=("pricing", "retry"),
)
USAGE = StageSpec(
    group="usage",
    service="usage",
    run="pipelines.billing.ledger:run",
    reads=(Topic.USAGE_RECORDED,),
    stores=("clickhouse",),
)
ANALYTICS = StageSpec(
    group="analytics",
    service="analytics",
    run="pipelines.analytics:run",
    reads=(
        Topic.CALL_EVENTS,
        Topic.RECORDING_READY,
        Topic.TRANSCRIPT_READY,
        Topic.SUMMARY_READY,
        Topic.EMBEDDING_READY,
        Topic.DEAD_LETTERS,
        Topic.REPLAY_COMMANDS,
        Topic.REPLAY_PROGRESS,
        Topic.ERASURE_REQUESTS,
    ),
    writes=(Topic.ERASURE_REQUESTS,),
    stores=("clickhouse", "s3"),
)
# The stages of the replayer also create the engines of the other stages.
REPLAY = StageSpec(
    group="replay",
    service="replayer",
    run="pipelines.replay.app:run",
    reads=(Topic.REPLAY_JOBS,),
    writes=(
        Topic.REPLAY_PROGRESS,
        Topic.RECORDING_READY,
        Topic.TRANSCRIPT_READY,
        Topic.SUMMARY_READY,
        Topic.EMBEDDING_READY,
        Topic.USAGE_RECORDED,
    ),
    retry=Topic.REPLAY_RETRY,
    stores=("s3", "clickhouse", "qdrant"),
    settings=("replay", "pricing", "retry", "stt", "summary", "embedding", "public_url", "gateway.port"),
)
REPLAY_PLAN = StageSpec(
    group="replay-plan",
    service="replayer",
    run="pipelines.replay.app:run",
    reads=(Topic.REPLAY_COMMANDS,),
    writes=(Topic.REPLAY_JOBS, Topic.REPLAY_PROGRESS),
    retry=Topic.REPLAY_COMMANDS_RETRY,
    stores=("s3", "clickhouse"),
    settings=("replay", "retry"),
)
ERASE = StageSpec(
    group="erase",
    service="replayer",
    run="pipelines.replay.app:run",
    reads=(Topic.ERASURE_REQUESTS,),
    writes=(Topic.CALL_EVENTS, Topic.CALL_MEDIA),
    retry=Topic.ERASURE_RETRY,
    stores=("s3", "clickhouse", "qdrant"),
    settings=("replay", "retry", "stt"),
)

# In the order in which `audiotext up` starts them.
STAGES: Sequence[StageSpec] = (RECORDER, TRANSCRIBE, SUMMARIZE, EMBED, USAGE, ANALYTICS, REPLAY, REPLAY_PLAN, ERASE)

# The stages that send requests to an engine, by the section of the settings that selects the engine.
ENGINE_STAGES: Mapping[Engine, StageSpec] = {spec.engine: spec for spec in STAGES if spec.engine is not None}
