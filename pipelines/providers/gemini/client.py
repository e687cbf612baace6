"""The Gemini API by Google's own client, with everything it does by itself turned off.

It would repeat requests (two that are answered are two that are billed), continue answers, and wait without end: how
often something is tried, and for how long, is decided by the runtime.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

import httpx
from google import genai
from google.genai import types
from google.genai.errors import APIError

from core.health_check import Check
from core.settings import GeminiSettings
from pipelines.providers.common.http import CONNECT_S
from pipelines.providers.common.http import classified as connection_classified
from pipelines.providers.gemini.errors import error_of, is_key_invalid
from pipelines.runtime.errors import BilledFailureError

_CHECK_S = 5.0
_BYTES_PER_TOKEN = 4
_NAME = "Gemini"


def connect(settings: GeminiSettings, key: str, timeout_s: float) -> genai.Client:
    """A client; connects to nothing yet. timeout_s: of one request."""
    # A transport of ours: its default one asks again, on its own, when a connection is lost after the request.
    http = httpx.AsyncClient(timeout=httpx.Timeout(timeout_s, connect=CONNECT_S))
    return genai.Client(
        api_key=key,
        vertexai=False,  # else an environment variable decides
        http_options=types.HttpOptions(
            base_url=settings.base_url,
            api_version="v1beta",  # v1 has no JSON Schema
            timeout=round(timeout_s * 1000),
            retry_options=types.HttpRetryOptions(attempts=1),
            httpx_async_client=http,
        ),
    )


@contextmanager
def classified() -> Iterator[None]:
    """Turns failures into the runtime's classes."""
    with connection_classified("Gemini"):
        try:
            yield
        except APIError as error:
            raise error_of(error) from error
        except ValueError as error:  # no JSON, or none of the reference's shape
            raise BilledFailureError(f"Gemini's answer cannot be read: {error}") from error


def estimated_tokens(*texts: str) -> int:
    """Tokens of texts, where the server does not say what it counted: four bytes make one. A cost of nothing would be
    a false margin."""
    return sum(-(-len(text.encode()) // _BYTES_PER_TOKEN) for text in texts)


async def check_model(client: genai.Client, model: str, *, action: str, setting: str) -> Check:
    """Whether the API is there, takes the key and has the model. It costs nothing. action: what the model
    must be able to do ("generateContent"); setting: where the model is set."""
    try:
        found = await asyncio.wait_for(client.aio.models.get(model=model), _CHECK_S)
    except APIError as error:
        return _refused(error, model, setting)
    except (httpx.HTTPError, TimeoutError) as error:
        cure = "see whether AUDIOTEXT_GEMINI__BASE_URL is right and can be reached from here"
        return Check(_NAME, False, f"no answer: {error!r}", cure)
    except ValueError:
        cure = "see whether AUDIOTEXT_GEMINI__BASE_URL is that of a Gemini API"
        return Check(_NAME, False, "something answers that is no Gemini API", cure)
    # Not every endpoint says what its models can do.
    if found.supported_actions and action not in found.supported_actions:
        return Check(_NAME, False, f"{model} cannot {action}", f"set {setting} to a model that can")
    return Check(_NAME, True, f"{model}, up to {found.input_token_limit or '?'} tokens a request")


def _refused(error: APIError, model: str, setting: str) -> Check:
    said = f"{error.code} {error.status or ''}: {error.message or ''}"[:300]
    if is_key_invalid(error):
        return Check(_NAME, False, said, "set AUDIOTEXT_GEMINI__API_KEY to a key from aistudio.google.com/apikey")
    if error.code == HTTPStatus.NOT_FOUND:
        return Check(_NAME, False, f"it takes the key, but has no model {model}", f"set {setting} to another")
    return Check(_NAME, False, said, "see https://ai.google.dev/gemini-api/docs/troubleshooting, or wait")
