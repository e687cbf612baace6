"""Keys: nothing answers without one, a key sees its tenant alone, a revoked one ends."""

import logging
import time
import uuid
from collections.abc import Callable

import pytest

from api.auth.api_keys import create_key, list_keys, revoke_key
from api.auth.key_authenticator import Authenticator, token_hash
from api.errors import ApiError
from api.openapi import path_template
from api.routes import ENDPOINTS
from core.settings import Settings
from core.token_signer import TokenSigner
from sinks.clickhouse.api_key_queries import ApiKey
from tests.api.conftest import ADMIN_KEY, Client, Put, Tenant, bearer

_NEED_A_LOG = ("useVersion", "eraseCall")  # these are asked in tests of their own
_PUBLIC = {"/healthz", "/readyz", "/metrics", "/openapi.json"}
_PAGES = {"/", "/sign-in", "/search", "/usage", "/operations", "/calls/x"}
_SEAL = TokenSigner("a secret of no worth")


async def test_nothing_answers_without_a_key(api: Client) -> None:
    """Walks the routes of the running server with no key and with wrong ones. If it failed, calls would be open to
    anybody."""
    app = api.app
    assert app is not None
    walked: set[tuple[str, str]] = set()
    for route in app.router.routes():
        assert route.resource is not None
        path = path_template(route.resource.canonical).replace("{id}", "x")
        if path in _PUBLIC | _PAGES or path.startswith("/ui/"):
            continue
        walked.add((route.method, path))
        if (route.method, path) == ("POST", "/v1/session"):
            assert (await api.post(path, json={"key": "at_unknown"})).status == 401
            continue
        for headers in (
            {},
            bearer("at_unknown"),
            bearer("unknown"),
            bearer(""),
            {"Authorization": ADMIN_KEY},
            {"Authorization": f"Basic {ADMIN_KEY}"},
        ):
            response = await api.request(route.method, path, headers=headers)
            assert response.status == 401, (route.method, path, headers)
            assert response.headers["WWW-Authenticate"].startswith("Bearer")
            if route.method != "HEAD":
                assert (await response.json())["error"]["code"] == "unauthorized"
    assert len([method for method, _ in walked if method != "HEAD"]) == len(ENDPOINTS) - len(_PUBLIC)
    for path in ("/v1/nothing", "/v1/calls/x/nothing", "/healthz/", "/healthz/x", "/%2Fhealthz"):
        assert (await api.get(path)).status == 401
    for path in _PUBLIC | _PAGES:
        assert (await api.get(path)).status == 200, path


async def test_a_key_sees_its_tenant_alone(api: Client, put: Put, new_tenant: Callable[[], Tenant]) -> None:
    """Asks with one tenant's key for the other's call on every path that has an id, in the list and in the bill. If it
    failed, customers would hear each other's calls, or could find out which there are."""
    mine, other = new_tenant(), new_tenant()
    call_id = f"CA{uuid.uuid4().hex}"
    put.call(other.name, call_id)
    about_calls = [
        one for one in ENDPOINTS if "/calls/{id" in one.path and one.name not in (*_NEED_A_LOG, "revokeLink")
    ]
    paths = [(one.method, path_template(one.path), one.status) for one in about_calls]
    assert len(paths) == 10
    for method, path, status in paths:
        filled = path.replace("{id}", call_id)
        assert (await api.request(method, filled, headers=other.auth)).status == status, path
        assert (await api.request(method, filled, headers=bearer(ADMIN_KEY))).status == status
        response = await api.request(method, filled, headers=mine.auth)
        assert response.status == 404
        unknown = await api.request(method, path.replace("{id}", "no-such-call"), headers=mine.auth)
        assert (await response.text()).replace(call_id, "") == (await unknown.text()).replace("no-such-call", "")
    for key, seen in ((mine.key, []), (other.key, [call_id])):
        calls = (await (await api.get("/v1/calls", headers=bearer(key))).json())["calls"]
        assert [call["id"] for call in calls] == seen
        lines = (await (await api.get("/v1/usage?group_by=call", headers=bearer(key))).json())["groups"]
        assert [line["group"] for line in lines] == seen


async def test_the_same_call_id_at_two_tenants(api: Client, put: Put, new_tenant: Callable[[], Tenant]) -> None:
    """Two tenants' carriers gave out the same call id. If it failed, one would get the other's audio or events."""
    call_id = f"CA{uuid.uuid4().hex}"
    for tenant, audio in ((mine := new_tenant(), b"mine"), (other := new_tenant(), b"other's")):
        put.call(tenant.name, call_id, audio=audio)
    for tenant, audio in ((mine, b"mine"), (other, b"other's")):
        response = await api.get(f"/v1/calls/{call_id}/recording", headers=tenant.auth)
        assert await response.read() == audio
        for query in ("", f"?tenant={tenant.name}"):
            auth = bearer(ADMIN_KEY) if query else tenant.auth
            events = (await (await api.get(f"/v1/calls/{call_id}/events{query}", headers=auth)).json())["events"]
            assert {event["tenant"] for event in events} == {tenant.name}


async def test_revocation(api: Client, settings: Settings, tenant: Tenant) -> None:
    """Revokes a key that is in use; it must end within 5 s, for good. If it failed, a leaked key would live on."""
    assert (await api.get("/v1/calls", headers=tenant.auth)).status == 200
    (key,) = [key for key in list_keys(settings) if key.tenant == tenant.name]
    assert key.hash == token_hash(tenant.key)
    assert tenant.key not in key.model_dump_json()
    assert revoke_key(settings, key.id)
    deadline = time.monotonic() + 5
    while (await api.get("/v1/calls", headers=tenant.auth)).status != 401:
        assert time.monotonic() < deadline
    assert not revoke_key(settings, "no-such-key")
    assert revoke_key(settings, key.id)


def test_keys_are_unlike_and_need_a_tenant(settings: Settings) -> None:
    """Makes keys. If it failed, keys could be guessed, or one would see calls of nobody in particular."""
    keys = {create_key(settings, "somebody", "n") for _ in range(3)}
    assert len(keys) == 3
    assert all(key.startswith("at_") and len(key) == 46 for key in keys)
    with pytest.raises(ValueError, match="tenant"):
        create_key(settings, " ", "n")


async def test_no_admin_key_means_none() -> None:
    """Serves without an admin key, and with an empty one. If it failed, an empty token would open everything."""
    for admin in (None, "", "  "):
        authenticator = Authenticator(lambda _: _nothing(), admin, _SEAL)
        for header in (None, "", "Bearer", "Bearer ", "Bearer   ", f"Bearer {admin}", "Bearer None"):
            with pytest.raises(ApiError):
                await authenticator.authenticate(header)


async def _nothing() -> ApiKey | None:
    return None


async def test_short_admin_keys_work_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Any admin key opens every tenant; a short one is warned of, without being told. If it failed, a trial would not
    start, or a guessable key would go unnoticed."""
    with caplog.at_level(logging.WARNING):
        authenticator = Authenticator(lambda _: _nothing(), "abcde", _SEAL)
    assert "AUDIOTEXT_ADMIN_KEY" in caplog.text
    assert "abcde" not in caplog.text
    assert (await authenticator.authenticate("bearer abcde")).tenant is None
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        Authenticator(lambda _: _nothing(), ADMIN_KEY, _SEAL)
    assert not caplog.text


async def test_keys_are_looked_up_rarely_and_guesses_never() -> None:
    """Counts look-ups over time. If it failed, each request would cost a query, guesses would keep ClickHouse busy, or
    a revoked key would live on."""
    now, asked = [100.0], []
    stored = ApiKey(id="k", tenant="t", name="n", hash=token_hash("at_good"), created_at_ms=0)

    async def find(key_hash: str) -> ApiKey | None:
        asked.append(key_hash)
        return answer[0] if key_hash == stored.hash else None

    answer: list[ApiKey | None] = [stored]
    authenticator = Authenticator(find, None, _SEAL, clock=lambda: now[0])
    for _ in range(5):
        assert (await authenticator.authenticate("Bearer at_good")).tenant == "t"
    assert len(asked) == 1
    with pytest.raises(ApiError):
        await authenticator.authenticate("Bearer guess")
    assert len(asked) == 1
    answer[0] = stored.model_copy(update={"revoked_at_ms": 1})
    now[0] += 5
    with pytest.raises(ApiError):
        await authenticator.authenticate("Bearer at_good")
    answer[0] = stored.model_copy(update={"admin": True})
    assert (await authenticator.authenticate("Bearer at_good")).tenant is None
