"""All endpoints: the one table that the server and its OpenAPI document are made of."""

from typing import Any

from gateway.api.endpoint import Endpoint
from gateway.api.handlers import calls, recording, service, usage, words
from gateway.api.models import (
    Call,
    CallList,
    CallSummary,
    EventList,
    Health,
    JoinedTranscript,
    Readiness,
    SearchResults,
    Usage,
)
from gateway.api.params import (
    CallsQuery,
    NoQuery,
    PartQuery,
    RecordingQuery,
    SearchQuery,
    TranscriptQuery,
    UsageQuery,
)

# Call ids are the carrier's and may hold braces, which aiohttp's own pattern for a path segment leaves out.
CALL = "/v1/calls/{id:[^/]+}"

ENDPOINTS: tuple[Endpoint[Any], ...] = (
    Endpoint("/", service.landing, "landing", "Where to look", media=("text/plain",), public=True),
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
    Endpoint(CALL, calls.get_call, "getCall", "One call", query=NoQuery, body=Call),
    Endpoint(
        f"{CALL}/recording",
        recording.get_recording,
        "getRecording",
        "A part's recording: 16-bit PCM WAV, inbound left, outbound right",
        query=RecordingQuery,
        media=("audio/wav",),
        ranges=True,
    ),
    Endpoint(
        f"{CALL}/transcript",
        words.get_transcript,
        "getTranscript",
        "The transcript, as JSON, text or subtitles",
        query=TranscriptQuery,
        body=JoinedTranscript,
        media=("text/plain", "application/x-subrip", "text/vtt"),
    ),
    Endpoint(f"{CALL}/summary", words.get_summary, "getSummary", "The summary", query=PartQuery, body=CallSummary),
    Endpoint(f"{CALL}/events", calls.get_events, "getEvents", "What happened, in order", query=NoQuery, body=EventList),
    Endpoint(
        "/v1/search", words.search, "search", "Search by meaning, best first", query=SearchQuery, body=SearchResults
    ),
    Endpoint("/v1/usage", usage.get_usage, "getUsage", "The bill", query=UsageQuery, body=Usage),
)
