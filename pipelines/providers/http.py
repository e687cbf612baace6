"""Failures of a provider's HTTP API as the runtime's classes."""

import email.utils
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus

import httpx

from pipelines.runtime.errors import PermanentError, ProviderOutageError, QuotaError, RetryableError, StageError

CONNECT_S = 5.0


@contextmanager
def classified(provider: str) -> Iterator[None]:
    """Turns failures of the connection into the runtime's."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise ProviderOutageError(f"no connection to {provider}: {error}", refused=True) from error
    except httpx.TimeoutException as error:
        raise RetryableError(f"{provider} did not answer in time: {error!r}") from error
    except httpx.HTTPError as error:
        raise RetryableError(f"the connection to {provider} was lost: {error!r}") from error


def failure(status: int, message: str, headers: Mapping[str, str]) -> StageError:
    """The class of an HTTP status that is no success, where the provider says no more about it."""
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
    """Seconds of the Retry-After header, which may also be a date; None without, or if it makes no sense."""
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
