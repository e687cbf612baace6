"""Rules of the fake Soniox: documented errors, valid orders, and the shape of its answers.

Where the reference is silent, it follows reports of users: both kinds of limit are `limit_exceeded` and differ in their
message (https://github.com/Actual-Chat/actual-chat/issues/4223,
https://github.com/TypeWhisper/typewhisper-mac/issues/1063).
"""

import json
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from aiohttp import web

KEY = "a-key-of-the-fake"
MODELS = ("stt-async-v5", "stt-rt-v5")
COST_PER_HOUR = Decimal("0.0975")
MAX_FILE_BYTES = 1_073_741_824
_PIECES = (" he", "llo", ".")

FILES_FULL = "Total file count limit has been exceeded for your organization. Please delete some."
STORAGE_FULL = "Total file storage limit has been exceeded for your organization. Please delete some."
ORDERS_FULL = "Total transcription count limit for your organization has been exceeded. Please delete some."
PENDING_FULL = "Pending transcription count limit has been exceeded. Please wait for some to finish."
TOO_FAST = "Requests per minute limit has been exceeded. Please try again later."

# Every error of a request the reference lists for what is used here: status, error_type, message.
ERRORS: tuple[tuple[int, str, str], ...] = (
    (400, "invalid_request", "Invalid request."),
    (400, "invalid_cursor", "Invalid cursor parameter."),
    (400, "model_not_available", "The model is not available."),
    (401, "unauthenticated", "Incorrect API key provided. You can get an API key at https://console.soniox.com"),
    (402, "organization_balance_exhausted", "Organization balance exhausted."),
    (402, "organization_monthly_budget_exhausted", "Organization monthly budget exhausted."),
    (402, "project_monthly_budget_exhausted", "Project monthly budget exhausted."),
    (403, "permission_denied", "Permission denied."),
    (403, "temp_api_key_session_expired", "Session of the temporary API key expired."),
    (404, "file_not_found", "File could not be found."),
    (404, "transcription_not_found", "Transcription could not be found."),
    (408, "request_timeout", "Request timeout."),
    (409, "transcription_invalid_state", "Cannot delete transcription with processing status."),
    (413, "max_duration_reached", "Maximum duration reached."),
    (429, "limit_exceeded", FILES_FULL),
    (429, "limit_exceeded", STORAGE_FULL),
    (429, "limit_exceeded", ORDERS_FULL),
    (429, "limit_exceeded", PENDING_FULL),
    (429, "limit_exceeded", TOO_FAST),
    (500, "internal_error", "The server encountered an error. Please try again."),
    (503, "service_unavailable", "Service unavailable."),
)
# Why a transcription that was taken can fail later.
JOB_ERRORS = (
    "invalid_audio_file",
    "transcription_output_too_long",
    "max_duration_reached",
    "model_not_available",
    "file_download_error",
    "file_download_timeout",
    "organization_balance_exhausted",
    "internal_error",
    "service_unavailable",
)


@dataclass
class StoredFile:
    """An uploaded file."""

    id: str
    filename: str
    audio: bytes
    reference: str | None
    created_at: datetime


def problem_of(asked: dict[str, Any]) -> tuple[str, str] | None:  # noqa: PLR0911 - one rule after the other
    """Returns the field and the problem of an invalid order, or None."""
    if not isinstance(asked.get("model"), str) or len(asked["model"]) > 32:
        return "body.payload.model", "Field required"
    if asked["model"] not in MODELS or "-rt-" in asked["model"]:
        return "body.payload.model", "Invalid model"
    if ("file_id" in asked) == ("audio_url" in asked):
        return "body.payload", "Exactly one of audio_url and file_id must be given"
    for name, most in (("audio_url", 4096), ("webhook_url", 256)):
        if name in asked and (len(asked[name]) > most or not re.fullmatch(r"https?://[^\s]+", asked[name])):
            return f"body.payload.{name}", "Invalid URL"
    for name in ("client_reference_id", "webhook_auth_header_name", "webhook_auth_header_value"):
        if len(asked.get(name, "")) > 256:
            return f"body.payload.{name}", "String should have at most 256 characters"
    if len(json.dumps(asked.get("context", ""))) > 10_000:
        return "body.payload.context", "Context is too long"
    return None


def tokens_of(sounds: list[tuple[int, int]], order: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns a word in three tokens for each sound.

    With diarization two speakers alternate, and with language identification the languages of the hints: every token of
    a sentence has the same language (https://soniox.com/docs/stt/concepts/language-identification).
    """
    tokens = []
    languages = order["language_hints"] or ["en"]
    for number, (start_ms, end_ms) in enumerate(sounds):
        third = (end_ms - start_ms) // 3
        for index, piece in enumerate(_PIECES):
            token: dict[str, Any] = {
                "text": piece,
                "start_ms": start_ms + index * third,
                "end_ms": end_ms if index == 2 else start_ms + (index + 1) * third,
                "confidence": 0.9 + index / 100,
            }
            if order["enable_speaker_diarization"]:
                token["speaker"] = str(number % 2 + 1)
            if order["enable_language_identification"]:
                token["language"] = languages[number % len(languages)]
            tokens.append(token)
    return tokens


def logged(order: dict[str, Any], duration_ms: int) -> dict[str, Any]:
    """Returns a line of the usage log."""
    cost = (COST_PER_HOUR * duration_ms / 3_600_000).quantize(Decimal("0.0000000001"))
    return {
        "uuid": new_id(), "request_scope": "api", "client_reference_id": order["client_reference_id"],
        "model": order["model"], "start_time": order["created_at"], "end_time": stamp(datetime.now(UTC)),
        "input_audio_duration_ms": duration_ms, "cost_usd": str(cost),
    }  # fmt: skip


def file_body(file: StoredFile) -> dict[str, Any]:
    """Returns the answer for a file."""
    return {
        "id": file.id, "filename": file.filename, "size": len(file.audio), "created_at": stamp(file.created_at),
        "client_reference_id": file.reference,
    }  # fmt: skip


def masked(order: dict[str, Any]) -> dict[str, Any]:
    """Returns the answer for an order, without its secret."""
    hidden = {"webhook_auth_header_value": "*" * 18} if order.get("webhook_auth_header_value") else {}
    return order | hidden


def refused(status: int, error_type: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    """Returns the body of an error."""
    body = {
        "status_code": status, "error_type": error_type, "message": message, "validation_errors": [],
        "request_id": new_id(),
    }  # fmt: skip
    return web.json_response(body, status=status or 500, headers=headers)


def invalid(location: str, message: str) -> web.Response:
    """Returns the error for a wrong field."""
    body = {
        "status_code": 400, "error_type": "invalid_request", "message": "Invalid request.",
        "validation_errors": [{"error_type": "value_error", "location": location, "message": message}],
        "request_id": new_id(),
    }  # fmt: skip
    return web.json_response(body, status=400)


def no_order() -> web.Response:
    """Returns the error for an unknown order."""
    return refused(404, "transcription_not_found", "Transcription could not be found.")


def new_id() -> str:
    """Returns a new id."""
    return str(uuid.uuid4())


def stamp(moment: datetime) -> str:
    """Returns a time in the format of the answers."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
