"""All endpoints: the one table that the server and its OpenAPI document are made of."""

from typing import Any

from gateway.api.endpoint import Endpoint
from gateway.api.handlers import calls, recording, replays, service, sessions, usage, words
from gateway.api.models import (
    Call,
    CallList,
    CallSummary,
    EventList,
    Health,
    JoinedTranscript,
    Link,
    LinkRequest,
    Readiness,
    Replay,
    ReplayAnswer,
    ReplayList,
    ReplayRequest,
    SearchResults,
    Session,
    SignIn,
    Usage,
    Waveform,
)
from gateway.api.params import (
    CallsQuery,
    NoQuery,
    PartQuery,
    RecordingQuery,
    ReplaysQuery,
    SearchQuery,
    TranscriptQuery,
    UsageQuery,
)

# Call ids are the carrier's and may hold braces, which aiohttp's own pattern for a path segment leaves out.
CALL = "/v1/calls/{id:[^/]+}"
REPLAY = "/v1/replays/{id:[^/]+}"
REPLAY_ID = "The replay's id."

ENDPOINTS: tuple[Endpoint[Any], ...] = (
    Endpoint("/healthz", service.healthz, "healthz", "Liveness", body=Health, public=True),
    Endpoint(
        "/readyz",
        service.readyz,
        "readyz",
        "Readiness: ClickHouse, S3 and Qdrant answer",
        body=Readiness,
        public=True,
        own_statuses={503: Readiness},
    ),
    Endpoint("/metrics", service.metrics, "metrics", "Prometheus metrics", media=("text/plain",), public=True),
    Endpoint(
        "/openapi.json",
        service.openapi,
        "openapi",
        "This document",
        media=("application/json",),
        public=True,
    ),
    Endpoint("/v1/calls", calls.list_calls, "listCalls", "Calls, newest first", query=CallsQuery, body=CallList),
    Endpoint(CALL, calls.get_call, "getCall", "One call", query=NoQuery, body=Call, shared=True),
    Endpoint(
        f"{CALL}/recording",
        recording.get_recording,
        "getRecording",
        "A part's recording: 16-bit PCM WAV, inbound left, outbound right",
        query=RecordingQuery,
        media=("audio/wav",),
        ranges=True,
        shared=True,
    ),
    Endpoint(
        f"{CALL}/waveform",
        calls.get_waveform,
        "getWaveform",
        "A part's waveform, to draw it without the audio",
        query=RecordingQuery,
        body=Waveform,
        shared=True,
    ),
    Endpoint(
        f"{CALL}/transcript",
        words.get_transcript,
        "getTranscript",
        "The transcript, as JSON, text or subtitles",
        query=TranscriptQuery,
        body=JoinedTranscript,
        media=("text/plain", "application/x-subrip", "text/vtt"),
        shared=True,
    ),
    Endpoint(
        f"{CALL}/summary",
        words.get_summary,
        "getSummary",
        "The summary",
        query=PartQuery,
        body=CallSummary,
        shared=True,
    ),
    Endpoint(f"{CALL}/events", calls.get_events, "getEvents", "What happened, in order", query=NoQuery, body=EventList),
    Endpoint(
        f"{CALL}/links",
        sessions.share_call,
        "shareCall",
        "A link that shows this call to somebody without a key, for a while",
        body=Link,
        method="POST",
        request=LinkRequest,
        status=201,
    ),
    Endpoint(
        "/v1/search", words.search, "search", "Search by meaning, best first", query=SearchQuery, body=SearchResults
    ),
    Endpoint("/v1/usage", usage.get_usage, "getUsage", "The bill", query=UsageQuery, body=Usage),
    Endpoint(
        "/v1/session",
        sessions.sign_in,
        "signIn",
        "Sign a browser in with a key: sets a cookie that stands for it",
        body=Session,
        method="POST",
        request=SignIn,
        status=201,
        public=True,
    ),
    Endpoint("/v1/session", sessions.get_session, "getSession", "Who asks", query=NoQuery, body=Session, shared=True),
    Endpoint("/v1/session", sessions.sign_out, "signOut", "Sign out", method="DELETE", status=204),
    Endpoint(
        "/v1/replays", replays.list_replays, "listReplays", "Replays, newest first", query=ReplaysQuery, body=ReplayList
    ),
    Endpoint(
        "/v1/replays",
        replays.start_replay,
        "startReplay",
        "Process calls again from a stage on, or say what that would cost",
        body=ReplayAnswer,
        method="POST",
        request=ReplayRequest,
        status=202,
    ),
    Endpoint(REPLAY, replays.get_replay, "getReplay", "One replay and its progress", body=Replay, subject=REPLAY_ID),
    Endpoint(
        f"{REPLAY}/stop",
        replays.stop_replay,
        "stopReplay",
        "Stop a replay; what is under way is finished",
        body=Replay,
        method="POST",
        status=202,
        subject=REPLAY_ID,
    ),
    Endpoint(
        f"{REPLAY}/resume",
        replays.resume_replay,
        "resumeReplay",
        "Go on with a replay: with what is not done, what failed included",
        body=Replay,
        method="POST",
        status=202,
        subject=REPLAY_ID,
    ),
)
