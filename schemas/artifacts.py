"""Objects in S3 and their keys. Keys are deterministic, so writing twice equals writing once."""

from urllib.parse import unquote

from pydantic import Field

from schemas.events import Frozen, SummaryContent, TrackReport
from schemas.ids import sha256_hex

_MAX_NAME_BYTES = 255  # of one path segment
_HASH_DIGITS = 32  # hexadecimal, of a SHA-256
RELEASES = "~releases/"  # not a tenant's prefix: a tilde in a tenant's name is encoded


class Word(Frozen):
    """Word of a segment. Times in ms from the recording's start; confidence 0 to 1."""

    start_ms: int
    end_ms: int
    text: str
    confidence: float


class Segment(Frozen):
    """Continuous speech of one speaker. channel: 0 inbound, 1 outbound. language: ISO 639-1, "" if unknown."""

    start_ms: int
    end_ms: int
    channel: int
    speaker: str
    text: str
    words: list[Word] = Field(default_factory=list)
    language: str = ""


class Omitted(Frozen):
    """Stretch of audio whose text is omitted.

    reason: `repetition` (the engine repeated itself and did not recover) or `echo` (the words of the other channel came
    back over the line).
    """

    start_ms: int
    end_ms: int
    channel: int
    reason: str


class Transcript(Frozen):
    """Transcript of a call, segments ordered by start.

    language: that of the channel with most speech, "und" if nobody spoke. omitted: stretches whose text is left out,
    ordered by start.
    """

    call_id: str
    language: str
    duration_ms: int
    provider: str
    model: str
    segments: list[Segment]
    omitted: list[Omitted] = Field(default_factory=list)


class Summary(SummaryContent):
    """Summary of a call."""

    call_id: str
    provider: str
    model: str


class Peaks(Frozen):
    """Waveform overview: per channel, 8-bit pairs of `min, max`, one pair per `samples_per_peak` samples."""

    rate_hz: int
    samples_per_peak: int
    channels: list[list[int]]


class Manifest(Frozen):
    """Description of a recording: its tracks, its streams, and its position on the log."""

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
    """Part of a call in a replay."""

    tenant: str
    call_id: str
    part: int


class ReplayPlan(Frozen):
    """Parts of a replay. Fixed when the replay is requested, so that stopping and resuming do not change them."""

    parts: list[PlannedPart]


def recording_prefix(tenant: str, call_id: str, part: int) -> str:
    """Returns the prefix of a part's recording objects: audio.wav, peaks.json and manifest.json."""
    return f"{_safe(tenant)}/{_safe(call_id)}/recording/{part}"


def transcript_key(tenant: str, call_id: str, transcript_id: str) -> str:
    """Returns the key of a transcript's JSON."""
    return f"{_safe(tenant)}/{_safe(call_id)}/transcript/{transcript_id}.json"


def sent_audio_key(tenant: str, call_id: str, transcript_id: str) -> str:
    """Returns the key of the audio that a provider fetches for a transcript; the object is deleted afterwards."""
    return f"{_safe(tenant)}/{_safe(call_id)}/transcript/{transcript_id}.flac"


def summary_key(tenant: str, call_id: str, summary_id: str) -> str:
    """Returns the key of a summary's JSON."""
    return f"{_safe(tenant)}/{_safe(call_id)}/summary/{summary_id}.json"


def call_prefix(tenant: str, call_id: str) -> str:
    """Returns the prefix of all objects of a call."""
    return f"{_safe(tenant)}/{_safe(call_id)}/"


def plan_key(replay_id: str) -> str:
    """Returns the key of a replay's plan. It is never a tenant's key, since `_safe` encodes a tilde."""
    return f"~replays/{replay_id}.json"


def job_records_prefix(tenant: str, call_id: str) -> str:
    """Prefix of the records of a call's jobs."""
    return f"{call_prefix(tenant, call_id)}jobs/"


def job_record_key(tenant: str, call_id: str, job_id: str) -> str:
    """Key of the record of a job: its order, its paid answers, its charge."""
    return f"{job_records_prefix(tenant, call_id)}{job_id}.json"


def stage_record_key(tenant: str, call_id: str, stage: str, part: int) -> str:
    """Key of the record of what a stage has published and charged for a part."""
    return f"{call_prefix(tenant, call_id)}stages/{stage}/{part}.json"


def pending_releases_prefix(provider: str) -> str:
    """Prefix of the markers of what a provider still has to delete."""
    return f"{RELEASES}{_safe(provider)}/"


def pending_release_key(provider: str, remote_id: str) -> str:
    """Key of the marker that a provider still has to delete an order. The object is empty: its key says everything."""
    return pending_releases_prefix(provider) + _safe(remote_id)


def remote_id_of(pending_release_key: str) -> str:
    """Returns the order's id from the key of its marker."""
    return unquote(pending_release_key.rsplit("/", 1)[1])


def _safe(name: str) -> str:
    """Returns a name as one path segment.

    Percent-encodes characters that S3 or a file system could misinterpret, and dots if the name has only dots. The end
    of a long name is replaced by a tilde and a hash: S3 accepts keys of 1,024 bytes, file systems names of 255 bytes.
    Distinct names stay distinct.
    """
    encoded = "".join(
        char
        if char.isascii() and (char.isalnum() or char in "-_.:+@")
        else "".join(f"%{byte:02X}" for byte in char.encode(errors="surrogatepass"))
        for char in name
    )
    if len(encoded) > _MAX_NAME_BYTES:
        digest = sha256_hex(name.encode(errors="surrogatepass"))[:_HASH_DIGITS]
        return f"{encoded[: _MAX_NAME_BYTES - _HASH_DIGITS - 1]}~{digest}"
    return encoded if encoded.strip(".") else encoded.replace(".", "%2E")
