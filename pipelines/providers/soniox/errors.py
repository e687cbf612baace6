"""What Soniox' error types mean for a job. Pure. The list: https://soniox.com/docs/api-reference/errors"""

from collections.abc import Mapping

from pydantic import BaseModel, ValidationError

from pipelines.providers.base import RemoteJobGoneError
from pipelines.providers.common.http import failure, retry_after_s
from pipelines.runtime.errors import PermanentError, QuotaError, RetryableError, StageError

# A transcription that failed for what was sent: it would again.
_AUDIO_TO_BLAME = {"invalid_audio_file", "transcription_output_too_long", "max_duration_reached", "invalid_request"}
_SETTINGS_TO_BLAME = {"model_not_available", "permission_denied"}
# Both limits are `limit_exceeded`; what the message asks for tells which of them it is.
_STORAGE_WORDS = ("delete", "storage", "file count", "total transcription", "total file")


class ApiError(BaseModel):
    """The body of an answer that is no success."""

    error_type: str = ""
    message: str = ""
    request_id: str = ""


def parse(body: str | bytes) -> ApiError:
    """The error in a body; an empty one in what is not Soniox' (a proxy's page)."""
    try:
        return ApiError.model_validate_json(body)
    except ValidationError:
        return ApiError()


def error_of(status: int, body: str | bytes, headers: Mapping[str, str]) -> StageError:
    """The class of a refused or failed request."""
    error = parse(body)
    text = f"Soniox answered {status} {error.error_type}: {error.message}".rstrip(": ")
    if error.request_id:
        text += f" (request {error.request_id})"
    if error.error_type == "limit_exceeded" and _is_storage(error.message, headers):
        return QuotaError(text)
    if error.error_type.endswith("_exhausted"):
        return QuotaError(f"{text}; add credit or raise the budget in the Soniox Console")
    if error.error_type == "file_not_found":
        # An upload that was tidied away before it was ordered: the next attempt uploads again.
        return RetryableError(text, refused=True)
    if error.error_type in ("invalid_cursor", "transcription_invalid_state"):
        return RetryableError(text)
    return failure(status, text, headers)


def failed_job(error_type: str | None, message: str | None) -> StageError:
    """The class of a transcription that Soniox took and then failed at: RemoteJobGoneError where another may fare
    better, among them what costs nothing (only what succeeds is billed)."""
    text = f"Soniox failed at it: {error_type or 'unknown'}: {message or ''}".rstrip(": ")
    if error_type in _AUDIO_TO_BLAME | _SETTINGS_TO_BLAME:
        return PermanentError(text)
    return RemoteJobGoneError(text)


def _is_storage(message: str, headers: Mapping[str, str]) -> bool:
    """Whether a limit is one that waiting does not clear. A server that says when to come back means a rate; what is
    pending ends by itself."""
    said = message.lower()
    if retry_after_s(headers) is not None or "pending" in said:
        return False
    return any(word in said for word in _STORAGE_WORDS)
