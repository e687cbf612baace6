"""What Gemini says when it does not do what it was asked, as the runtime's classes. Pure.

https://ai.google.dev/gemini-api/docs/troubleshooting and https://ai.google.dev/api/generate-content#FinishReason
"""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from google.genai.errors import APIError
from google.genai.types import FinishReason

from pipelines.providers.common.http import failure
from pipelines.runtime.errors import BilledFailureError, PermanentError, QuotaError, RetryableError, StageError

_KEY_CURE = "set AUDIOTEXT_GEMINI__API_KEY to a key of the Gemini API that may use the model"
_MODEL_CURE = "set AUDIOTEXT_GEMINI__SUMMARY_MODEL or __EMBEDDING_MODEL to a model the key may use"
_LENGTH_CURE = "raise AUDIOTEXT_SUMMARY__MAX_OUTPUT_TOKENS, or lower __MAX_PROMPT_TOKENS"

# A limit per day, and credit that is used up, come as the 429 of a limit per minute, with a RetryInfo of some seconds.
_LASTING = re.compile(r"per_?day|prepa(?:y|id)|credits? (?:are|is) depleted|spend(?:ing)? cap|billing account", re.I)
_CANCELLED = 499  # the connection was closed before the answer
_DURATION = re.compile(r"(\d+(?:\.\d+)?)s")

# The model samples: another answer to the same question may well be fine.
_CHANCE = frozenset(
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


def error_of(error: APIError) -> StageError:
    """An answer other than 200."""
    details = _details(error.details)
    said = f"Gemini answered {error.code} {error.status or ''}: {error.message or 'no reason given'}"[:500]
    if is_key_invalid(error):
        return PermanentError(f"{said}: {_KEY_CURE}")
    if error.code == HTTPStatus.NOT_FOUND:
        return PermanentError(f"{said}: {_MODEL_CURE}")
    if error.code == HTTPStatus.TOO_MANY_REQUESTS and _lasts(details, error.message or ""):
        return QuotaError(f"{said} (the project's limits and credit: https://ai.dev/rate-limit)")
    classified = RetryableError(said) if error.code == _CANCELLED else failure(error.code, said, _headers(error))
    wait_s = _retry_delay_s(details)
    if isinstance(classified, RetryableError) and wait_s is not None:
        classified.retry_after_s = wait_s
    return classified


def refusal_of(reason: str) -> StageError:
    """A prompt that was blocked (200, and no candidate)."""
    return PermanentError(f"Gemini does not work on this call: {reason}")


def finish_of(reason: FinishReason | None, message: str | None) -> StageError | None:
    """An answer that ended otherwise than it should; None if it ended well."""
    if reason in (FinishReason.STOP, None):
        return None
    name = getattr(reason, "value", reason)
    said = f"Gemini stopped with {name}{': ' + message if message else ''}"
    if reason is FinishReason.MAX_TOKENS:
        return PermanentError(f"{said}: {_LENGTH_CURE}")
    if reason in _CHANCE:
        return BilledFailureError(said)
    return PermanentError(said)  # SAFETY, PROHIBITED_CONTENT, BLOCKLIST, SPII, LANGUAGE …: about what was said


def is_key_invalid(error: APIError) -> bool:
    """Whether the key is the reason."""
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
    """Seconds of a RetryInfo, a protobuf Duration ("8.94s")."""
    found = _DURATION.fullmatch(str(_of_type(details, "RetryInfo").get("retryDelay", "")))
    return float(found[1]) if found else None


def _lasts(details: Sequence[Mapping[str, Any]], message: str) -> bool:
    """Whether the limit is one that some minutes do not clear."""
    violations = _of_type(details, "QuotaFailure").get("violations")
    ids = [str(one.get("quotaId", "")) for one in violations or () if isinstance(one, Mapping)]
    return any(_LASTING.search(text) for text in (*ids, message))


def _headers(error: APIError) -> Mapping[str, str]:
    headers = getattr(error.response, "headers", None)
    return headers if isinstance(headers, Mapping) else {}
