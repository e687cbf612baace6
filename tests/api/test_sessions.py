"""Signing in with a key, and links that show one call."""

import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from api.auth.api_keys import list_keys, revoke_key
from api.auth.authentication import COOKIE
from api.auth.key_authenticator import token_hash
from api.endpoint import ApiContext
from core.settings import ApiSettings, Settings
from core.token_signer import TokenSigner
from tests.api.conftest import ADMIN_KEY, Client, Put, Tenant, bearer, client_of


async def _signed_in(api: Client, key: str) -> dict[str, Any]:
    response = await api.post("/v1/session", json={"key": key})
    assert response.status == 201, await response.text()
    session: dict[str, Any] = await response.json()
    return session


async def test_a_session_stands_for_its_key(services: ApiContext, settings: Settings, tenant: Tenant, put: Put) -> None:
    """Signs in as a browser does, reads, and revokes the key. If it failed, a page would have to keep the key where
    scripts can steal it, or a revoked key would live on in a cookie."""
    put.call(tenant.name, "call")
    async with client_of(services) as api:
        assert (await api.get("/v1/session")).status == 401
        session = await _signed_in(api, tenant.key)
        assert session["tenant"] == tenant.name
        cookie = api.session.cookie_jar.filter_cookies(api.make_url("/"))[COOKIE]
        assert tenant.key not in cookie.value
        calls = (await (await api.get("/v1/calls")).json())["calls"]
        assert [call["id"] for call in calls] == ["call"]
        found = await (await api.get("/v1/session")).json()
        assert found == session | {"expires_at_ms": found["expires_at_ms"]}
        (key,) = [key for key in list_keys(settings) if key.tenant == tenant.name]
        assert revoke_key(settings, key.id)
    async with client_of(services) as restarted:  # whose memory of the key is empty
        assert (await restarted.get("/v1/session", cookies={COOKIE: cookie.value})).status == 401


async def test_the_cookie_is_kept_from_scripts_and_other_sites(services: ApiContext) -> None:
    """Reads Set-Cookie over http and behind https. If it failed, a script could read it, or it would travel in the
    clear or along with other sites' requests."""
    secured = services.settings.model_copy(update={"public_url": "https://calls.example"})
    for given, secure in ((services, False), (replace(services, settings=secured), True)):
        async with client_of(given) as api:
            response = await api.post("/v1/session", json={"key": ADMIN_KEY})
            said = response.headers["Set-Cookie"]
            assert "HttpOnly" in said
            assert "SameSite=Strict" in said
            assert "Max-Age=43200" in said
            assert ("Secure" in said) == secure


async def test_a_session_ends(services: ApiContext, tenant: Tenant) -> None:
    """Signs out; lets one run out; forges one; changes the secret. If it failed, a cookie would be for ever."""
    async with client_of(services) as api:
        session = await _signed_in(api, tenant.key)
        response = await api.delete("/v1/session", headers={"X-CSRF-Token": session["csrf_token"]})
        assert response.status == 204
        assert (await api.get("/v1/session")).status == 401
        subject = "0" * 64
        expired = services.token_signer.sign("session", {"key": subject}, -1)
        forged = TokenSigner("another secret").sign("session", {"key": subject}, 60)
        link = services.token_signer.sign("link", {"key": subject, "tenant": "", "call": ""}, 60)
        for value in (expired, forged, link, "nonsense"):
            assert (await api.get("/v1/session", cookies={COOKIE: value})).status == 401


async def test_a_sign_out_ends_the_session_everywhere(services: ApiContext, tenant: Tenant) -> None:
    """Signs in twice within a second and copies both cookies; one session signs out. Its cookie is refused at once by
    the same process, and by a process that has not seen it before; the other session stays. Without an end at the
    server, a stolen cookie works for twelve hours, whatever its owner does."""
    async with client_of(services) as api, client_of(services) as second:
        cookies = []
        for _ in range(2):
            session = await _signed_in(api, tenant.key)
            cookies.append(api.session.cookie_jar.filter_cookies(api.make_url("/"))[COOKIE].value)
        assert cookies[0] != cookies[1]
        response = await api.delete("/v1/session", headers={"X-CSRF-Token": session["csrf_token"]})
        assert response.status == 204
        for client in (api, second):
            client.session.cookie_jar.clear()
            assert (await client.get("/v1/session", cookies={COOKIE: cookies[1]})).status == 401
            assert (await client.get("/v1/session", cookies={COOKIE: cookies[0]})).status == 200


async def test_a_link_is_listed_and_revoked(services: ApiContext, put: Put, new_tenant: Callable[[], Tenant]) -> None:
    """Creates two links and revokes one: it is refused at once, by every process, and is not listed any more; the other
    one still shows the call. Another tenant neither lists nor revokes them, and a link cannot list links. A failure
    means that a call that was shared by mistake stays readable for 30 days."""
    mine, other = new_tenant(), new_tenant()
    call_id = f"CA{uuid.uuid4().hex}"
    put.call(mine.name, call_id)
    path = f"/v1/calls/{call_id}/links"
    async with client_of(services) as api, client_of(services) as second:
        made = [await (await api.post(path, json={"expires_in_s": 600}, headers=mine.auth)).json() for _ in range(2)]
        listed = (await (await api.get(path, headers=mine.auth)).json())["links"]
        assert {link["id"] for link in listed} == {link["id"] for link in made}
        assert made[0]["token"] not in str(listed)
        assert (await api.get(path, headers=other.auth)).status == 404
        assert (await api.get(path, params={"share": made[0]["token"]})).status == 403
        assert (await api.delete(f"{path}/{made[0]['id']}", headers=other.auth)).status == 404
        assert (await api.delete(f"{path}/{made[0]['id']}", headers=mine.auth)).status == 204
        assert (await api.delete(f"{path}/{made[0]['id']}", headers=mine.auth)).status == 404
        for client in (api, second):
            assert (await client.get(f"/v1/calls/{call_id}", params={"share": made[0]["token"]})).status == 401
            assert (await client.get(f"/v1/calls/{call_id}", params={"share": made[1]["token"]})).status == 200
        (left,) = (await (await api.get(path, headers=mine.auth)).json())["links"]
        assert left["id"] == made[1]["id"]


async def test_other_sites_cannot_change_anything(services: ApiContext, tenant: Tenant, put: Put) -> None:
    """Asks for a link and for signing out as a page of another site could make a browser ask. If it failed, a link in a
    mail could act in the name of whoever is signed in."""
    put.call(tenant.name, "call")
    async with client_of(services) as api:
        session = await _signed_in(api, tenant.key)
        token = {"X-CSRF-Token": session["csrf_token"]}
        path = "/v1/calls/call/links"
        for headers in ({}, {"X-CSRF-Token": "wrong"}, token | {"Origin": "https://evil.example"}):
            assert (await api.post(path, json={}, headers=headers)).status == 403, headers
            assert (await api.delete("/v1/session", headers=headers)).status == 403, headers
        own = str(api.make_url("/")).rstrip("/")
        assert (await api.post(path, json={}, headers=token | {"Origin": own})).status == 201
        # A key in a header is sent by nobody's browser by itself.
        assert (await api.post(path, json={}, headers=bearer(tenant.key))).status == 201
        other = {"Origin": "https://evil.example"}
        assert (await api.post("/v1/session", json={"key": tenant.key}, headers=other)).status == 403


async def test_a_proxy_need_not_pass_the_host_on(services: ApiContext, tenant: Tenant) -> None:
    """The page is at the public URL, and a proxy asks us under another name, as nginx does unless it is told otherwise:
    the page signs in all the same, another site's does not, and neither does one without a name."""
    public = services.settings.model_copy(update={"public_url": "https://Calls.example"})
    async with client_of(replace(services, settings=public)) as api:
        for origin, status in (
            ("https://calls.example", 201),
            ("https://evil.example", 403),
            ("null", 403),
        ):
            answer = await api.post("/v1/session", json={"key": tenant.key}, headers={"Origin": origin})
            assert answer.status == status, origin


async def test_a_link_shows_one_call(
    services: ApiContext, settings: Settings, put: Put, new_tenant: Callable[[], Tenant]
) -> None:
    """Makes a link and uses it without a key on everything there is. If it failed, whoever is sent one call could read
    others, or change something."""
    mine, other = new_tenant(), new_tenant()
    call_id = f"CA{uuid.uuid4().hex}"
    for tenant in (mine, other):
        put.call(tenant.name, call_id, audio=tenant.name.encode())
    put.call(mine.name, "another")
    async with client_of(services) as api:
        response = await api.post(f"/v1/calls/{call_id}/links", json={"expires_in_s": 60}, headers=mine.auth)
        made = await response.json()
        assert made["url"] == f"{settings.base_url}/calls/{call_id}?share={made['token']}"
        share = {"share": made["token"]}
        for path in ("", "/transcript?format=txt", "/summary", "/waveform"):
            response = await api.get(f"/v1/calls/{call_id}{path}", params=share)
            assert response.status == 200, path
        assert (await (await api.get(f"/v1/calls/{call_id}", headers=mine.auth)).json())["usage"]
        assert (await (await api.get(f"/v1/calls/{call_id}", params=share)).json())["usage"] == []
        response = await api.get(f"/v1/calls/{call_id}/recording", params=share)
        assert await response.read() == mine.name.encode()  # and not of the other tenant's call of the same id
        session = await (await api.get("/v1/session", params=share)).json()
        assert (session["via"], session["tenant"]) == ("link", mine.name)
        for path in ("/v1/calls", "/v1/calls/another", "/v1/usage", "/v1/search?q=x", f"/v1/calls/{call_id}/events"):
            assert (await api.get(path, params=share)).status == 403, path
        assert (await api.post(f"/v1/calls/{call_id}/links", json={}, params=share)).status == 403
        expired = services.token_signer.sign("link", {"key": "x", "tenant": mine.name, "call": call_id}, -1)
        for token in (expired, made["token"] + "x"):
            assert (await api.get(f"/v1/calls/{call_id}", params={"share": token})).status == 401
    for key in list_keys(settings):
        if key.tenant == mine.name:
            revoke_key(settings, key.id)
    async with client_of(services) as api:
        assert (await api.get(f"/v1/calls/{call_id}", params=share)).status == 401


async def test_an_admin_key_is_not_given_away(services: ApiContext, put: Put) -> None:
    """Makes a session and a link with the admin key and reads what is in them. If it failed, whoever is sent a link
    could try words until one fits."""
    put.call("somebody", "shared-by-admin")
    async with client_of(services) as api:
        await _signed_in(api, ADMIN_KEY)
        response = await api.post("/v1/calls/shared-by-admin/links", json={}, headers=bearer(ADMIN_KEY))
        token = (await response.json())["token"]
        claims = services.token_signer.verify("link", token)
        assert claims is not None
        assert token_hash(ADMIN_KEY) not in str(claims)
        assert (await api.get("/v1/calls/shared-by-admin", params={"share": token})).status == 200


def test_secret_and_lifetime_are_settings() -> None:
    """If it failed, sessions could not outlive a restart, or not be ended at once."""
    assert ApiSettings().session_ttl_s == 43_200
    assert ApiSettings().session_secret is None
