"""Maps Soniox' error types to the runtime's error classes. Pure.

Source: https://soniox.com/docs/api-reference/errors
"""

from collections.abc import Mapping

from pydantic import BaseModel, ValidationError

from pipelines.providers.base import RemoteJobGoneError
from pipelines.providers.common.http import error_for_status, retry_after_s
from pipelines.runtime.errors import PermanentError, QuotaError, RetryableError, StageError

# These errors are caused by the audio or the request, so another order would fail too.
_AUDIO_ERRORS = {"invalid_audio_file", "transcription_output_too_long", "max_duration_reached", "invalid_request"}
_SETTINGS_ERRORS = {"model_not_available", "permission_denied"}
# Limits of storage and of the request rate have the same type, `limit_exceeded`. Words in the message distinguish them.
_STORAGE_WORDS = ("delete", "storage", "file count", "total transcription", "total file")


class ErrorBody(BaseModel):
    """Body of an error response."""

    error_type: str = ""
    message: str = ""
    request_id: str = ""


def parse_error(body: str | bytes) -> ErrorBody:
    """Parses the body of an error response. Returns an empty one for other content, such as a proxy's page."""
    try:
        return ErrorBody.model_validate_json(body)
    except ValidationError:
        return ErrorBody()


def api_error(status: int, body: str | bytes, headers: Mapping[str, str]) -> StageError:
    """Returns the error for a rejected or failed request."""
    error = parse_error(body)
    text = f"Soniox responded {status} {error.error_type}: {error.message}".rstrip(": ")
    if error.request_id:
        text += f" (request {error.request_id})"
    if error.error_type == "limit_exceeded" and _is_storage(error.message, headers):
        return QuotaError(text)
    if error.error_type.endswith("_exhausted"):
        return QuotaError(f"{text}; add credit or raise the budget in the Soniox Console")
    if error.error_type == "file_not_found":
        # The upload was deleted before the order: the next attempt uploads it again.
        return RetryableError(text, refused=True)
    if error.error_type in ("invalid_cursor", "transcription_invalid_state"):
        return RetryableError(text)
    return error_for_status(status, text, headers)


def failed_job(error_type: str | None, message: str | None) -> StageError:
    """Returns the error for an order that Soniox accepted and then failed.

    RemoteJobGoneError means that another order may succeed. Soniox charges only for successful orders.
    """
    text = f"Soniox failed to transcribe: {error_type or 'unknown'}: {message or ''}".rstrip(": ")
    if error_type in _AUDIO_ERRORS | _SETTINGS_ERRORS:
        return PermanentError(text)
    return RemoteJobGoneError(text)


def _is_storage(message: str, headers: Mapping[str, str]) -> bool:
    """True if waiting does not clear the limit.

    A response with Retry-After means a limit of the request rate, and pending orders end without our help.
    """
    text = message.lower()
    if retry_after_s(headers) is not None or "pending" in text:
        return False
    return any(word in text for word in _STORAGE_WORDS)
