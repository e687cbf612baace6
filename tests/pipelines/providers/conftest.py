"""Google's Gemini for every test of a provider."""

import ssl
from collections.abc import AsyncIterator
from functools import cache

import pytest

from tests.fakes.gemini import FakeGemini

# A client changes nothing of its context. Contexts differ by the authority that they trust.
_cached_context = cache(ssl.create_default_context)


@pytest.fixture
async def google(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeGemini]:
    """A Gemini of the test's own. Google's client reads the machine's certificates three times, a quarter of a second
    for each test: here they are read once."""
    monkeypatch.setattr(ssl, "create_default_context", _cached_context)
    one = FakeGemini()
    await one.start()
    yield one
    await one.stop()
