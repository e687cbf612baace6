"""Client of the Gemini API: Google's library without its automatic behaviour.

By default the library repeats requests (each response is charged), continues responses, and waits without a limit. Here
the runtime decides how often and for how long something is tried.
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
from pipelines.providers.common.http import CONNECT_S, translate_http_errors
from pipelines.providers.gemini.errors import api_error, is_key_invalid
from pipelines.runtime.errors import BilledFailureError

_CHECK_S = 5.0
_BYTES_PER_TOKEN = 4
_NAME = "Gemini"


def connect(settings: GeminiSettings, key: str, timeout_s: float) -> genai.Client:
    """Creates a client. It connects with the first request.

    Args:
        settings: Settings of Gemini.
        key: API key.
        timeout_s: Time-out of one request, in seconds.
    """
    # We pass our own transport: the default one repeats a request if the connection is lost after sending it.
    http = httpx.AsyncClient(timeout=httpx.Timeout(timeout_s, connect=CONNECT_S))
    return genai.Client(
        api_key=key,
        vertexai=False,  # otherwise an environment variable decides
        http_options=types.HttpOptions(
            base_url=settings.base_url,
            api_version="v1beta",  # v1 has no JSON Schema
            timeout=round(timeout_s * 1000),
            retry_options=types.HttpRetryOptions(attempts=1),
            httpx_async_client=http,
        ),
    )


@contextmanager
def translate_gemini_errors() -> Iterator[None]:
    """Translates failures of a request into the runtime's error classes."""
    with translate_http_errors("Gemini"):
        try:
            yield
        except APIError as error:
            raise api_error(error) from error
        except ValueError as error:  # not JSON, or JSON of another shape than in the API reference
            raise BilledFailureError(f"Gemini's response cannot be parsed: {error}") from error


def estimated_tokens(*texts: str) -> int:
    """Estimates the tokens of texts (four bytes per token), for a server that does not report its count.

    Without an estimate the cost would be 0, which would show a wrong margin.
    """
    return sum(-(-len(text.encode()) // _BYTES_PER_TOKEN) for text in texts)


async def check_model(client: genai.Client, model: str, *, action: str, setting: str) -> Check:
    """Checks that the API responds, accepts the key and has the model. It costs nothing.

    Args:
        client: Client of the API.
        model: Name of the model.
        action: Action that the model must support, for example "generateContent".
        setting: Setting that names the model.
    """
    try:
        found = await asyncio.wait_for(client.aio.models.get(model=model), _CHECK_S)
    except APIError as error:
        return _check_of_error(error, model, setting)
    except (httpx.HTTPError, TimeoutError) as error:
        fix = "check that AUDIOTEXT_GEMINI__BASE_URL is correct and reachable from this machine"
        return Check(_NAME, False, f"no response: {error!r}", fix)
    except ValueError:
        fix = "check that AUDIOTEXT_GEMINI__BASE_URL is the address of a Gemini API"
        return Check(_NAME, False, "the response does not come from a Gemini API", fix)
    # Some endpoints do not list the actions of their models.
    if found.supported_actions and action not in found.supported_actions:
        return Check(_NAME, False, f"{model} does not support {action}", f"set {setting} to a model that does")
    return Check(_NAME, True, f"{model}, up to {found.input_token_limit or '?'} tokens per request")


def _check_of_error(error: APIError, model: str, setting: str) -> Check:
    text = f"{error.code} {error.status or ''}: {error.message or ''}"[:300]
    if is_key_invalid(error):
        return Check(_NAME, False, text, "set AUDIOTEXT_GEMINI__API_KEY to a key from aistudio.google.com/apikey")
    if error.code == HTTPStatus.NOT_FOUND:
        return Check(_NAME, False, f"it accepts the key, but has no model {model}", f"set {setting} to another model")
    return Check(_NAME, False, text, "see https://ai.google.dev/gemini-api/docs/troubleshooting, or wait")
