"""Google's Gemini for every test of a provider."""

import ssl
from collections.abc import AsyncIterator

import pytest

from tests.fakes.gemini import FakeGemini

_TLS = ssl.create_default_context()


@pytest.fixture
async def google(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeGemini]:
    """A Gemini of the test's own. Google's client reads the machine's certificates three times, a quarter of a second
    for each test: here they are read once."""
    monkeypatch.setattr(ssl, "create_default_context", lambda *_, **__: _TLS)
    one = FakeGemini()
    await one.start()
    yield one
    await one.stop()
