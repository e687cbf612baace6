"""People's sessions at Ory Kratos, against a real server that answers as documented."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.auth import authentication
from api.auth.kratos import Kratos, KratosSession, principal_of
from api.endpoint import ApiContext
from api.errors import ApiError
from audiotext.doctor.checks import checks_for
from core.settings import KratosSettings, Settings
from tests.api.conftest import Client, Put, Tenant, bearer, client_of
from tests.fakes.kratos import COOKIE, FakeKratos


@pytest.fixture
async def server() -> AsyncIterator[FakeKratos]:
    """A Kratos of the test's own."""
    one = FakeKratos()
    await one.start()
    yield one
    await one.stop()


def api_with(services: ApiContext, server: FakeKratos, **more: Any) -> Client:
    """An API that takes that server's sessions."""
    kratos = KratosSettings(url=server.url, **more)
    return client_of(replace(services, settings=services.settings.model_copy(update={"kratos": kratos})))


def in_metadata(tenant: str) -> dict[str, Any]:
    """The part of an identity that says whose calls it sees."""
    return {"metadata_public": {"tenant": tenant}}


async def test_a_person_sees_their_tenants_calls(
    services: ApiContext, server: FakeKratos, put: Put, new_tenant: Callable[[], Tenant]
) -> None:
    """Somebody signs in at Kratos and asks with its cookie, and with its token: they see their own tenant's call, and
    another tenant's does not exist. Only Kratos' own cookie is passed on to it."""
    mine, other = new_tenant(), new_tenant()
    put.call(mine.name, "CA-mine", "recorded")
    put.call(other.name, "CA-theirs", "recorded")
    proof = server.sign_in(**in_metadata(mine.name))

    async with api_with(services, server) as api:
        jar = {COOKIE: proof, "another": "secret"}
        ways: list[dict[str, Any]] = [{"cookies": jar}, {"headers": {"X-Session-Token": proof}}]
        for asking in ways:
            session = await (await api.get("/v1/session", **asking)).json()
            assert (session["tenant"], session["via"]) == (mine.name, "kratos")
            assert session["expires_at_ms"] > time.time() * 1000
            assert (await api.get("/v1/calls/CA-mine", **asking)).status == 200
            assert (await api.get("/v1/calls/CA-theirs", **asking)).status == 404
        assert (await api.get("/v1/calls/CA-mine", headers=mine.auth)).status == 200

    assert [headers.get("Cookie") for headers in server.asked] == [f"{COOKIE}={proof}", None]


async def test_without_the_setting_nothing_of_it_counts(services: ApiContext, server: FakeKratos) -> None:
    """Kratos is not configured: its cookie and token are as good as none."""
    proof = server.sign_in(**in_metadata("acme"))
    async with client_of(services) as api:
        assert (await api.get("/v1/session", cookies={COOKIE: proof})).status == 401
        assert (await api.get("/v1/session", headers={"X-Session-Token": proof})).status == 401
    assert server.asked == []


async def test_who_is_let_in(services: ApiContext, server: FakeKratos) -> None:
    """Who is no session's, whose second factor is missing, who belongs to no tenant: each is told what to do, and an
    operator of this installation sees every tenant."""
    known = server.sign_in(id="person-1")
    boss = server.sign_in(id="boss")
    half = server.sign_in(**in_metadata("acme"))
    server.needs_aal2.add(half)

    async with api_with(services, server, tenants={"person-1": "umbrella"}, admins=["boss"]) as api:

        async def asked(proof: str) -> tuple[int, Any]:
            answer = await api.get("/v1/session", headers={"X-Session-Token": proof})
            return answer.status, await answer.json()

        assert (await asked(known))[1]["tenant"] == "umbrella"
        assert (await asked(boss))[1]["tenant"] is None
        for proof, status, says in (
            ("nobody", 401, "sign in again"),
            ("", 401, "sign in again"),
            ("a b; other=1", 401, "sign in again"),
            ("x" * 5_000, 401, "sign in again"),
            (half, 403, "second factor"),
            (server.sign_in(id="person-2"), 403, "person-2 is not assigned to a tenant"),
            (server.sign_in(id="person-2", metadata_public={"tenant": ["acme"]}), 403, "not assigned to a tenant"),
            (server.sign_in(traits={"tenant": "acme"}), 403, "not assigned to a tenant"),
            (server.sign_in(state="inactive", **in_metadata("acme")), 403, "not active"),
        ):
            code, body = await asked(proof)
            assert (code, says in body["error"]["message"]) == (status, True), (proof, body)
    assert not [headers for headers in server.asked if "other" in str(headers)]


async def test_kratos_away_is_503_and_keys_work(
    services: ApiContext, server: FakeKratos, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers 500, answers nonsense, says nothing, is not there: nobody is told that they are not signed in, and who
    has a key is let in all the same."""
    monkeypatch.setattr("api.auth.kratos._TIMEOUT_S", 0.5)
    proof = server.sign_in(**in_metadata("acme"))
    async with api_with(services, server, cache_s=0) as api:

        async def refused() -> None:
            answer = await api.get("/v1/session", cookies={COOKIE: proof})
            assert answer.status == 503
            assert "Kratos" in (await answer.json())["error"]["message"]
            assert answer.headers["Retry-After"]

        for status in (500, 404, 302):
            server.status = status
            await refused()
        server.status, server.sessions[proof] = 0, {"hello": "world"}
        await refused()
        server.silent = True
        await refused()
        await server.stop()
        await refused()
        assert (await api.get("/v1/session", headers=tenant.auth)).status == 200


async def test_a_session_that_is_over_keeps_nobody_out(services: ApiContext, server: FakeKratos) -> None:
    """A browser still has the cookie of an earlier sign-in with a key, which is over, and signs in at Kratos: that
    counts. It was 401, and signing out was, too, for half a day."""
    proof = server.sign_in(**in_metadata("acme"))
    async with api_with(services, server) as api:
        for stale in ("nonsense", services.token_signer.sign("session", {"key": "0" * 64}, -1)):
            answer = await api.get("/v1/session", cookies={COOKIE: proof, authentication.COOKIE: stale})
            assert (answer.status, (await answer.json())["tenant"]) == (200, "acme")


async def test_what_is_no_origin_is_foreign(services: ApiContext, server: FakeKratos) -> None:
    """Asks for a session with origins that are none: 403, and no crash."""
    async with api_with(services, server) as api:
        for origin in ("http://[", "null", "http://\udcff"):
            answer = await api.post("/v1/session", json={"key": "x"}, headers={"Origin": origin})
            assert answer.status == 403, origin


async def test_another_sites_page_cannot_change_anything(services: ApiContext, server: FakeKratos) -> None:
    """A browser sends Kratos' cookie along with what any page asks. A change needs the token that only our own page can
    read, and no foreign Origin; a token in a header is sent by no browser by itself, so it needs neither."""
    proof = server.sign_in(**in_metadata("acme"))
    cookie = {COOKIE: proof}
    async with api_with(services, server) as api:
        token = (await (await api.get("/v1/session", cookies=cookie)).json())["csrf_token"]
        for headers, status in (
            ({}, 403),
            ({"X-CSRF-Token": "guess"}, 403),
            ({"X-CSRF-Token": token, "Origin": "https://evil.example"}, 403),
            ({"X-CSRF-Token": token, "Origin": f"http://{api.host}:{api.port}"}, 204),
            ({"X-CSRF-Token": token}, 204),
        ):
            assert (await api.delete("/v1/session", cookies=cookie, headers=headers)).status == status, headers
        assert (await api.delete("/v1/session", headers={"X-Session-Token": proof})).status == 204


async def test_an_answer_is_remembered_but_not_for_long(server: FakeKratos) -> None:
    """Ten requests of a page are one question; a session that is ended ends here within the time that is set, and never
    after its own end. What is remembered has a bound, and what is refused is not remembered: who signs in is in."""
    now_s = 1_000.0
    kratos = Kratos(KratosSettings(url=server.url, cache_s=5), server.url, clock=lambda: now_s)
    proof = server.sign_in(**in_metadata("acme"))
    for _ in range(10):
        await kratos.by_cookie(proof)
    assert len(server.asked) == 1

    del server.sessions[proof]
    now_s += 4.9
    await kratos.by_cookie(proof)
    now_s += 0.2
    with pytest.raises(ApiError) as ended:
        await kratos.by_cookie(proof)
    assert ended.value.status == 401

    short = server.sign_in(lifetime_s=1.0, **in_metadata("acme"))
    await kratos.by_cookie(short)
    now_s += 1.1
    asked = len(server.asked)
    del server.sessions[short]
    with pytest.raises(ApiError):
        await kratos.by_cookie(short)
    assert len(server.asked) == asked + 1
    await kratos.close()


async def test_a_flood_of_made_up_cookies_is_bounded(server: FakeKratos, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many good sessions and many bad ones at once: what is remembered stays within its bound."""
    monkeypatch.setattr("api.auth.kratos._CACHE_ENTRIES", 10)
    kratos = Kratos(KratosSettings(url=server.url), server.url)
    proofs = [server.sign_in(**in_metadata("acme")) for _ in range(20)] + [f"made-up-{n}" for n in range(40)]

    answers = await asyncio.gather(*(kratos.by_cookie(proof) for proof in proofs), return_exceptions=True)

    assert sum(isinstance(answer, ApiError) for answer in answers) == 40
    assert len(kratos._cache) == 10
    await kratos.close()


def test_whose_calls_they_see() -> None:
    """From what Kratos says of a session to a principal: the settings before the field, the field by its path, nothing
    that is not a text, and no session that has ended."""
    traits = {"org": {"name": "acme"}}
    identity: dict[str, Any] = {"id": "p1", "traits": traits, "metadata_public": {"tenant": "umbrella"}}
    session = KratosSession.model_validate({"id": "s1", "active": True, "identity": identity})

    assert principal_of(session, KratosSettings()).tenant == "umbrella"
    assert principal_of(session, KratosSettings(tenant_field="traits.org.name")).tenant == "acme"
    assert principal_of(session, KratosSettings(tenants={"p1": "globex"})).tenant == "globex"
    for change, status in (
        ({"active": False}, 401),
        ({"identity": None}, 401),
        ({"expires_at": (datetime.now(UTC) - timedelta(seconds=1)).isoformat()}, 401),
        ({"identity": identity | {"metadata_public": "acme"}}, 403),
        ({"identity": identity | {"metadata_public": {"tenant": ""}}}, 403),
    ):
        changed = KratosSession.model_validate({"id": "s1", "active": True, "identity": identity} | change)
        with pytest.raises(ApiError) as refused:
            principal_of(changed, KratosSettings())
        assert refused.value.status == status, change


async def test_a_tenant_that_people_can_choose_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """Traits are people's own to change: with the tenant in them they could choose whose calls they see."""
    with caplog.at_level(logging.WARNING):
        await Kratos(KratosSettings(tenant_field="traits.tenant"), "http://127.0.0.1:9").close()
        assert "TENANT_FIELD" in caplog.text
        caplog.clear()
        await Kratos(KratosSettings(), "http://127.0.0.1:9").close()
    assert caplog.text == ""


async def test_check(server: FakeKratos) -> None:
    """One line for `audiotext doctor`, where it is configured."""
    assert "Ory Kratos" in [
        check.name for check in checks_for(Settings(kratos=KratosSettings(url=server.url)), embedded=True)
    ]
    kratos = Kratos(KratosSettings(), server.url)
    good = await kratos.check()
    server.status = 503
    unready = await kratos.check()
    await server.stop()
    away = await kratos.check()

    assert good.ok
    for bad in (unready, away):
        assert (bad.ok, "AUDIOTEXT_KRATOS__URL" in bad.fix) == (False, True)
    await kratos.close()


async def test_a_key_goes_before_a_session(services: ApiContext, server: FakeKratos, tenant: Tenant) -> None:
    """Who sends a key is who the key says, whatever cookies come along; a bad key is not made good by a session."""
    proof = server.sign_in(**in_metadata("acme"))
    async with api_with(services, server) as api:
        session = await (await api.get("/v1/session", headers=tenant.auth, cookies={COOKIE: proof})).json()
        assert (session["tenant"], session["via"]) == (tenant.name, "key")
        assert (await api.get("/v1/session", headers=bearer("at_unknown"), cookies={COOKIE: proof})).status == 401
