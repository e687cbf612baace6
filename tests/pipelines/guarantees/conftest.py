"""Providers and stores of the tests in this folder."""

import ssl
from collections.abc import AsyncIterator

import pytest

from core.settings import S3Settings
from sinks.object_store import ObjectStore
from tests.fakes.gemini import FakeGemini
from tests.fakes.openai import FakeOpenAi
from tests.fakes.soniox import FakeSoniox

_TLS = ssl.create_default_context()


@pytest.fixture(autouse=True)
def _certificates_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every worker has clients of its own, and each would read the machine's certificates."""
    monkeypatch.setattr(ssl, "create_default_context", lambda *_, **__: _TLS)


@pytest.fixture
def objects(s3: S3Settings) -> ObjectStore:
    """The shared object storage, as the test looks at it."""
    return ObjectStore(s3)


@pytest.fixture
async def soniox() -> AsyncIterator[FakeSoniox]:
    """A provider of orders, that is done with each at once."""
    server = FakeSoniox(takes_s=0, per_minute=1_000_000)
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
