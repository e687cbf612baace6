"""Maps failures of a provider's HTTP API to the runtime's error classes."""

import asyncio
import email.utils
import time
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus

import httpx

from core.health_check import Check
from pipelines.runtime.errors import PermanentError, ProviderOutageError, QuotaError, RetryableError, StageError

CONNECT_S = 5.0
_CHECK_S = 5.0


@contextmanager
def translate_http_errors(provider: str) -> Iterator[None]:
    """Translates failures of the connection into the runtime's error classes."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise ProviderOutageError(f"no connection to {provider}: {error}", refused=True) from error
    except httpx.TimeoutException as error:
        raise RetryableError(f"{provider} did not respond in time: {error!r}") from error
    except httpx.HTTPError as error:
        raise RetryableError(f"the connection to {provider} was lost: {error!r}") from error


def error_for_status(status: int, message: str, headers: Mapping[str, str]) -> StageError:
    """Returns the error for an HTTP error status. Use it if the body gives no better classification."""
    wait_s = retry_after_s(headers)
    match status:
        case HTTPStatus.TOO_MANY_REQUESTS:
            return RetryableError(message, retry_after_s=wait_s, refused=True)
        case HTTPStatus.REQUEST_TIMEOUT | HTTPStatus.TOO_EARLY:
            return RetryableError(message, retry_after_s=wait_s)
        case HTTPStatus.SERVICE_UNAVAILABLE:
            return ProviderOutageError(message, retry_after_s=wait_s)
        case HTTPStatus.PAYMENT_REQUIRED:
            return QuotaError(message)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return RetryableError(message, retry_after_s=wait_s)
    return PermanentError(message)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Returns the seconds of the Retry-After header, which may also be a date; None if it is missing or invalid."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


async def check_model_available(provider: str, models: Awaitable[Sequence[str]], model: str, section: str) -> Check:
    """Checks that a provider responds, accepts the key and has the model.

    Args:
        provider: Name of the provider.
        models: Request for the names of its models.
        model: Model in the settings.
        section: Section of the settings, for example "SONIOX".
    """
    try:
        found = await asyncio.wait_for(models, _CHECK_S)
    except PermanentError as error:
        fix = f"set AUDIOTEXT_{section}__API_KEY to a key that belongs to AUDIOTEXT_{section}__BASE_URL"
        return Check(provider, False, str(error), fix)
    except QuotaError as error:
        return Check(provider, False, str(error), f"add credit, or raise the budget, at {provider}")
    except (RetryableError, TimeoutError) as error:
        fix = f"check that AUDIOTEXT_{section}__BASE_URL is correct and reachable from this machine, or wait"
        return Check(provider, False, str(error) or f"no response within {_CHECK_S:g} s", fix)
    if model not in found:
        fix = f"set AUDIOTEXT_{section}__MODEL to one of {', '.join(sorted(set(found))) or 'its models'}"
        return Check(provider, False, f"it accepts the key, but has no model {model!r}", fix)
    return Check(provider, True, f"it accepts the key and has {model}")
