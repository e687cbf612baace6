"""What lies in S3, and under which key. Keys are deterministic, so writing twice is writing once."""

from pydantic import Field

from schemas.events import ActionItem, Frozen, SpeakerSentiment, TrackReport

LEFTOVERS = "~leftovers/"  # no tenant's prefix: a tilde in a tenant's name is encoded


class Word(Frozen):
    """One word. Times in ms from the recording's start; confidence 0 to 1."""

    start_ms: int
    end_ms: int
    text: str
    confidence: float


class Segment(Frozen):
    """What one speaker said without a break. channel: 0 inbound, 1 outbound."""

    start_ms: int
    end_ms: int
    channel: int
    speaker: str
    text: str
    words: list[Word] = Field(default_factory=list)


class Transcript(Frozen):
    """A call's transcript, segments ordered by start."""

    call_id: str
    language: str
    duration_ms: int
    provider: str
    model: str
    segments: list[Segment]


class Summary(Frozen):
    """A call's summary. Only a language model gives `topics`, `sentiment`, `outcome` and `fields`.

    actions: action_items once more, with their owners apart. outcome: how the call ended ("resolved", "follow_up", …),
    "" if it was not asked. fields: the tenant's own, by name; those the call said nothing about are left out.
    """

    call_id: str
    provider: str
    model: str
    abstract: str
    key_points: list[str]
    action_items: list[str]
    topics: list[str] = Field(default_factory=list)
    actions: list[ActionItem] = Field(default_factory=list)
    sentiment: list[SpeakerSentiment] = Field(default_factory=list)
    outcome: str = ""
    fields: dict[str, str] = Field(default_factory=dict)


class Peaks(Frozen):
    """Waveform overview: per channel, `min, max` pairs of 8 bits, one pair per `samples_per_peak` samples."""

    rate_hz: int
    samples_per_peak: int
    channels: list[list[int]]


class Manifest(Frozen):
    """Says of a recording what it is made of."""

    call_id: str
    tenant: str
    part: int
    carrier: str
    rate_hz: int
    duration_ms: int
    tracks: list[TrackReport]
    streams: list[str]
    close_reason: str
    audio_sha256: str
    audio_size: int
    started_at_ms: int
    ended_at_ms: int
    partition: int
    first_offset: int
    close_offset: int


class PlannedPart(Frozen):
    """A part of a call that a replay is about."""

    tenant: str
    call_id: str
    part: int


class ReplayPlan(Frozen):
    """The parts a replay is about. Decided once, when it is asked for, so that stopping and resuming change nothing."""

    parts: list[PlannedPart]


def recording_prefix(tenant: str, call_id: str, part: int) -> str:
    """Prefix of a part's recording objects; they are audio.wav, peaks.json and manifest.json below it."""
    return f"{_safe(tenant)}/{_safe(call_id)}/recording/{part}"


def transcript_key(tenant: str, call_id: str, transcript_id: str) -> str:
    """Key of a transcript's JSON."""
    return f"{_safe(tenant)}/{_safe(call_id)}/transcript/{transcript_id}.json"


def intent_key(tenant: str, call_id: str, transcript_id: str) -> str:
    """Key of what is known about a transcript's order at a provider."""
    return f"{_safe(tenant)}/{_safe(call_id)}/transcript/{transcript_id}.intent.json"


def sent_audio_key(tenant: str, call_id: str, transcript_id: str) -> str:
    """Key of the audio a provider fetches for a transcript; there only until it has."""
    return f"{_safe(tenant)}/{_safe(call_id)}/transcript/{transcript_id}.flac"


def leftover_key(provider: str, remote_id: str) -> str:
    """Key of the note that a provider still keeps what it should not."""
    return f"{LEFTOVERS}{_safe(provider)}/{_safe(remote_id)}.json"


def charge_key(tenant: str, call_id: str, transcript_id: str) -> str:
    """Key of what a transcript costs."""
    return f"{_safe(tenant)}/{_safe(call_id)}/transcript/{transcript_id}.charge.json"


def summary_key(tenant: str, call_id: str, summary_id: str) -> str:
    """Key of a summary's JSON."""
    return f"{_safe(tenant)}/{_safe(call_id)}/summary/{summary_id}.json"


def call_prefix(tenant: str, call_id: str) -> str:
    """Prefix of everything that is kept of a call."""
    return f"{_safe(tenant)}/{_safe(call_id)}/"


def plan_key(replay_id: str) -> str:
    """Key of a replay's plan. No tenant's objects begin so: `_safe` writes a tilde otherwise."""
    return f"~replays/{replay_id}.json"


def answers_key(tenant: str, call_id: str, summary_id: str) -> str:
    """Key of what a language model answered on the way to a summary."""
    return f"{_safe(tenant)}/{_safe(call_id)}/summary/{summary_id}.answers.json"


def summary_charge_key(tenant: str, call_id: str, summary_id: str) -> str:
    """Key of what a summary costs."""
    return f"{_safe(tenant)}/{_safe(call_id)}/summary/{summary_id}.charge.json"


def embedding_answers_key(tenant: str, call_id: str, embedding_id: str) -> str:
    """Key of what was counted on the way to a transcript's vectors."""
    return f"{_safe(tenant)}/{_safe(call_id)}/embedding/{embedding_id}.answers.json"


def embedding_charge_key(tenant: str, call_id: str, embedding_id: str) -> str:
    """Key of what a transcript's vectors cost."""
    return f"{_safe(tenant)}/{_safe(call_id)}/embedding/{embedding_id}.charge.json"


def told_key(tenant: str, call_id: str, told_id: str) -> str:
    """Key of what a stage has told of an event."""
    return f"{_safe(tenant)}/{_safe(call_id)}/told/{told_id}.json"


def charged_key(tenant: str, call_id: str, part: int, kind: str) -> str:
    """Key of which line of a part was the first to be charged. kind: transcription, summary, embedding."""
    return f"{_safe(tenant)}/{_safe(call_id)}/charged/{part}-{kind}.json"


def _safe(name: str) -> str:
    """A name as one path segment: what S3 or a file system could take amiss is percent-encoded, dots included
    when they are all there is. Distinct names stay distinct."""
    encoded = "".join(
        char
        if char.isascii() and (char.isalnum() or char in "-_.:+@")
        else "".join(f"%{byte:02X}" for byte in char.encode())
        for char in name
    )
    return encoded if encoded.strip(".") else encoded.replace(".", "%2E")
