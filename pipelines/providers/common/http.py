"""Failures of a provider's HTTP API as the runtime's classes."""

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


async def checked(provider: str, models: Awaitable[Sequence[str]], model: str, section: str) -> Check:
    """What came of asking a provider for its models. model: the one that is set; section: where ("SONIOX")."""
    try:
        found = await asyncio.wait_for(models, _CHECK_S)
    except PermanentError as error:
        cure = f"set AUDIOTEXT_{section}__API_KEY to a key that belongs to AUDIOTEXT_{section}__BASE_URL"
        return Check(provider, False, str(error), cure)
    except QuotaError as error:
        return Check(provider, False, str(error), f"add credit, or raise the budget, at {provider}")
    except (RetryableError, TimeoutError) as error:
        cure = f"see whether AUDIOTEXT_{section}__BASE_URL is right and can be reached from here; else wait"
        return Check(provider, False, str(error) or f"no answer within {_CHECK_S:g} s", cure)
    if model not in found:
        cure = f"set AUDIOTEXT_{section}__MODEL to one of {', '.join(sorted(set(found))) or 'its models'}"
        return Check(provider, False, f"it takes the key, but has no model {model!r}", cure)
    return Check(provider, True, f"it takes the key and has {model}")
