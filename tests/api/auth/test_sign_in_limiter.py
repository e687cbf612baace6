"""Tests of the limit for failed sign-ins."""

import logging
from dataclasses import replace

import pytest
from pydantic import SecretStr

from api.auth.admin_key import require_long_admin_key
from api.auth.authentication import COOKIE
from api.auth.sign_in_limiter import SignInLimiter
from api.endpoint import ApiContext
from core.settings import ApiSettings, GatewaySettings, Settings, SettingsError
from tests.api.conftest import ADMIN_KEY, Tenant, bearer, client_of

LIMIT = 5


async def test_failures_are_limited_and_logged_and_valid_keys_are_not(
    services: ApiContext, tenant: Tenant, caplog: pytest.LogCaptureFixture
) -> None:
    """Sends wrong keys and cookies from the loopback address until they get 429, then valid ones.

    The wrong ones must get 401 and then 429 with Retry-After, on every path of a sign-in. The valid key, the admin key
    and the session must work all the time. The log must name address and hash, never a key. Without the limit, a
    client behind a proxy could try keys without end and without a trace.
    """
    settings = services.settings.model_copy(update={"api": ApiSettings(failed_sign_ins=LIMIT)})
    async with client_of(replace(services, settings=settings)) as api:
        wrong = bearer("at_wrong-key-that-nobody-has")
        with caplog.at_level(logging.WARNING):
            statuses = [(await api.get("/v1/calls", headers=wrong)).status for _ in range(LIMIT + 1)]
        assert statuses == [401] * LIMIT + [429]
        refused = [
            await api.get("/v1/calls", headers=wrong),
            await api.post("/v1/session", json={"key": "at_another"}),
            await api.get("/v1/calls", cookies={COOKIE: "nonsense"}),
            await api.get("/v1/calls?share=nonsense"),
        ]
        assert [response.status for response in refused] == [429] * 4
        assert all(int(response.headers["Retry-After"]) >= 1 for response in refused)
        assert "failed sign-in from 127.0.0.1 with a key whose SHA-256 begins with" in caplog.text
        assert "at_wrong" not in caplog.text
        api.session.cookie_jar.clear()
        assert (await api.get("/v1/calls")).status == 401  # without credentials: not a sign-in
        for key in (tenant.key, ADMIN_KEY):
            assert (await api.get("/v1/calls", headers=bearer(key))).status == 200
            assert (await api.post("/v1/session", json={"key": key})).status == 201


def test_an_address_recovers_and_does_not_block_another() -> None:
    """Uses up the failures of one address, then those of all. Each must recover at its rate."""
    now = [0.0]
    limiter = SignInLimiter(6, now_s=lambda: now[0])
    assert [limiter.fail("10.0.0.1", "x") is None for _ in range(7)] == [True] * 6 + [False]
    assert limiter.wait_s("10.0.0.1") == 10
    assert limiter.wait_s("10.0.0.2") == 0
    now[0] = 10.0
    assert limiter.fail("10.0.0.1", "x") is None
    for number in range(100):
        limiter.fail(f"10.1.0.{number}", "x")
    assert limiter.wait_s("10.0.0.3") > 0


@pytest.mark.parametrize(
    ("key", "host", "public_url", "refused"),
    [
        ("short", "127.0.0.1", None, False),
        ("short", "0.0.0.0", None, True),
        ("short", "127.0.0.1", "https://calls.example", True),
        ("a" * 16, "0.0.0.0", "https://calls.example", False),
    ],
)
def test_a_short_admin_key_is_refused_outside_loopback(
    key: str, host: str, public_url: str | None, refused: bool
) -> None:
    """Checks keys at the start. A short key that other machines can try must be refused by name."""
    settings = Settings(admin_key=SecretStr(key), gateway=GatewaySettings(host=host), public_url=public_url)
    if refused:
        with pytest.raises(SettingsError, match="AUDIOTEXT_ADMIN_KEY has only 5 characters"):
            require_long_admin_key(settings)
    else:
        require_long_admin_key(settings)
