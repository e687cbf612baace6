"""Providers and stores of the tests in this folder."""

import ssl
from collections.abc import AsyncIterator
from functools import cache

import pytest

from core.settings import S3Settings
from sinks.object_store import ObjectStore
from tests.fakes.gemini import FakeGemini
from tests.fakes.openai import FakeOpenAi
from tests.fakes.soniox import FakeSoniox

# A client changes nothing of its context. Contexts differ by the authority that they trust.
_cached_context = cache(ssl.create_default_context)


@pytest.fixture(autouse=True)
def _certificates_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares the TLS contexts: every worker has its own clients, and each would read the machine's certificates."""
    monkeypatch.setattr(ssl, "create_default_context", _cached_context)


@pytest.fixture
def objects(s3: S3Settings) -> ObjectStore:
    """The shared object storage, as the test looks at it."""
    return ObjectStore(s3)


@pytest.fixture
async def soniox(s3: S3Settings) -> AsyncIterator[FakeSoniox]:
    """A provider of orders, that is done with each at once. It downloads audio from the shared object storage."""
    server = FakeSoniox(takes_s=0, per_minute=1_000_000)
    server.ca_file = s3.ca_file
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def openai() -> AsyncIterator[FakeOpenAi]:
    """A provider whose answer to a request is the result."""
    server = FakeOpenAi()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def gemini() -> AsyncIterator[FakeGemini]:
    """A language model that is paid by the token."""
    server = FakeGemini()
    await server.start()
    yield server
    await server.stop()
