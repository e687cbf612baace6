"""Maps Gemini's errors and finish reasons to the runtime's error classes. Pure.

Sources: https://ai.google.dev/gemini-api/docs/troubleshooting and
https://ai.google.dev/api/generate-content#FinishReason
"""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from google.genai.errors import APIError
from google.genai.types import FinishReason

from pipelines.providers.common.http import error_for_status
from pipelines.runtime.errors import BilledFailureError, PermanentError, QuotaError, RetryableError, StageError

_KEY_FIX = "set AUDIOTEXT_GEMINI__API_KEY to a key of the Gemini API that may use the model"
_MODEL_FIX = "set AUDIOTEXT_GEMINI__SUMMARY_MODEL or __EMBEDDING_MODEL to a model the key may use"
_LENGTH_FIX = "raise AUDIOTEXT_SUMMARY__MAX_OUTPUT_TOKENS, or lower __MAX_PROMPT_TOKENS"

# Limits per day and used-up credit arrive as a 429 with a RetryInfo of some seconds, like a limit per minute.
_LASTING_LIMIT = re.compile(
    r"per_?day|prepa(?:y|id)|credits? (?:are|is) depleted|spend(?:ing)? cap|billing account", re.I
)
_CANCELLED = 499  # the connection was closed before the response
_DURATION = re.compile(r"(\d+(?:\.\d+)?)s")

# The model's output is random: another response to the same prompt may be usable.
_RANDOM_REASONS = frozenset(
    {
        FinishReason.RECITATION,
        FinishReason.OTHER,
        FinishReason.MALFORMED_RESPONSE,
        FinishReason.MALFORMED_FUNCTION_CALL,
        FinishReason.UNEXPECTED_TOOL_CALL,
        FinishReason.TOO_MANY_TOOL_CALLS,
        FinishReason.MISSING_THOUGHT_SIGNATURE,
        FinishReason.FINISH_REASON_UNSPECIFIED,
    }
)


def api_error(error: APIError) -> StageError:
    """Returns the error for a response with a status other than 200."""
    details = _details(error.details)
    text = f"Gemini responded {error.code} {error.status or ''}: {error.message or 'no reason given'}"[:500]
    if is_key_invalid(error):
        return PermanentError(f"{text}: {_KEY_FIX}")
    if error.code == HTTPStatus.NOT_FOUND:
        return PermanentError(f"{text}: {_MODEL_FIX}")
    if error.code == HTTPStatus.TOO_MANY_REQUESTS and _is_lasting(details, error.message or ""):
        return QuotaError(f"{text} (the project's limits and credit: https://ai.dev/rate-limit)")
    stage_error = (
        RetryableError(text) if error.code == _CANCELLED else error_for_status(error.code, text, _headers(error))
    )
    wait_s = _retry_delay_s(details)
    if isinstance(stage_error, RetryableError) and wait_s is not None:
        stage_error.retry_after_s = wait_s
    return stage_error


def blocked_prompt_error(reason: str) -> StageError:
    """Returns the error for a blocked prompt (status 200 without a candidate)."""
    return PermanentError(f"Gemini refuses this call: {reason}")


def finish_error(reason: FinishReason | None, message: str | None) -> StageError | None:
    """Returns the error for a response that ended early; None if it is complete."""
    if reason in (FinishReason.STOP, None):
        return None
    name = getattr(reason, "value", reason)
    text = f"Gemini stopped with {name}{': ' + message if message else ''}"
    if reason is FinishReason.MAX_TOKENS:
        return PermanentError(f"{text}: {_LENGTH_FIX}")
    if reason in _RANDOM_REASONS:
        return BilledFailureError(text)
    return PermanentError(text)  # SAFETY, PROHIBITED_CONTENT, BLOCKLIST, SPII, LANGUAGE …: caused by the call's content


def is_key_invalid(error: APIError) -> bool:
    """True if Gemini rejects the API key."""
    return error.code in (401, 403) or _reason(_details(error.details)) == "API_KEY_INVALID"


def _details(answer: Any) -> Sequence[Mapping[str, Any]]:
    inner = answer.get("error") if isinstance(answer, Mapping) else None
    found = inner.get("details") if isinstance(inner, Mapping) else None
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _of_type(details: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    return next((one for one in details if str(one.get("@type", "")).endswith(f"google.rpc.{name}")), {})


def _reason(details: Sequence[Mapping[str, Any]]) -> str:
    return str(_of_type(details, "ErrorInfo").get("reason", ""))


def _retry_delay_s(details: Sequence[Mapping[str, Any]]) -> float | None:
    """Returns the seconds of a RetryInfo, a protobuf Duration such as "8.94s"."""
    found = _DURATION.fullmatch(str(_of_type(details, "RetryInfo").get("retryDelay", "")))
    return float(found[1]) if found else None


def _is_lasting(details: Sequence[Mapping[str, Any]], message: str) -> bool:
    """True if waiting for some minutes does not clear the limit."""
    violations = _of_type(details, "QuotaFailure").get("violations")
    ids = [str(one.get("quotaId", "")) for one in violations or () if isinstance(one, Mapping)]
    return any(_LASTING_LIMIT.search(text) for text in (*ids, message))


def _headers(error: APIError) -> Mapping[str, str]:
    headers = getattr(error.response, "headers", None)
    return headers if isinstance(headers, Mapping) else {}
