"""The API as a process, its readiness and its metrics, and what it says when a store is away."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from api.app import make_context, run
from api.endpoint import ApiContext
from core.settings import ApiSettings, ClickHouseSettings, QdrantSettings, S3Settings, Settings
from tests.api.conftest import ADMIN_KEY, Client, Put, Tenant, bearer, client_of
from tests.conftest import StartServer, clickhouse_settings, qdrant_settings

_ADMIN = bearer(ADMIN_KEY)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture
def away() -> Settings:
    """Settings of stores that nobody answers for."""
    address = f"127.0.0.1:{_free_port()}"
    return Settings(
        clickhouse=ClickHouseSettings(dsn=SecretStr(f"clickhouse://u:p@{address}/default")),
        s3=S3Settings(endpoint=f"http://{address}", access_key="a", secret_key=SecretStr("s")),
        qdrant=QdrantSettings(url=f"http://{address}"),
    )


async def test_ready(api: Client) -> None:
    """Asks for health and readiness over running stores. If it failed, the gateway would never be sent a call."""
    await _until_missing(api, set())
    response = await api.get("/readyz")
    assert (response.status, await response.json()) == (200, {"ready": True, "missing": {}, "api_missing": {}})
    response = await api.get("/healthz")
    assert (response.status, await response.json()) == (200, {"status": "ok"})
    assert response.headers["Server"] == "audiotext"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_target_that_is_not_a_path_is_refused(api: Client) -> None:
    """Sends a request with the target form of a proxy: 400, although the path in it exists and needs no key.

    Otherwise a handler could build links or check rights for a host that is not ours.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(b"GET http://example.com/healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    assert answer.split(b" ")[1] == b"400"
    assert b"the request target must begin with /" in answer


async def test_not_ready_names_what_is_missing(services: ApiContext, settings: Settings, away: Settings) -> None:
    """Takes the stores away, each by itself and all, and the bucket. If it failed, an operator would not learn what to
    start, or traffic would be sent where nothing works."""
    gone = make_context(away)
    elsewhere = settings.s3.model_copy(update={"bucket": "no-such-bucket"})
    bucketless = make_context(settings.model_copy(update={"s3": elsewhere}))
    for stores, missing in [
        (_with_clickhouse_of(gone, services), {"ClickHouse"}),
        (replace(services, objects=gone.objects), {"S3"}),
        (replace(services, objects=bucketless.objects), {"S3"}),
        (replace(services, vectors=gone.vectors), {"Qdrant"}),
        (gone, {"ClickHouse", "S3", "Qdrant"}),
    ]:
        async with client_of(stores) as api:
            await _until_missing(api, missing)
            assert (await api.get("/healthz")).status == 200


async def test_stores_that_are_away_are_named(services: ApiContext, away: Settings, put: Put, tenant: Tenant) -> None:
    """Asks each path while the store it needs is away. If it failed, a client would get a 500 or a stack trace, or an
    empty answer for a true one."""
    put.call(tenant.name, "call")
    gone = make_context(away)
    for stores, name, paths in [
        (
            _with_clickhouse_of(gone, services),
            "ClickHouse",
            ["/v1/calls", "/v1/calls/x", "/v1/calls/x/recording", "/v1/calls/x/events", "/v1/usage"],
        ),
        (replace(services, objects=gone.objects), "S3", ["/v1/calls/call/recording", "/v1/calls/call/transcript"]),
        (replace(services, vectors=gone.vectors), "Qdrant", ["/v1/search?q=x"]),
    ]:
        async with client_of(stores) as api:
            for path in paths:
                response = await api.get(path, headers=_ADMIN)
                error = (await response.json())["error"]
                assert (response.status, error["code"]) == (503, "unavailable"), path
                assert name in error["message"]
                assert int(response.headers["Retry-After"]) > 0
            # A key that cannot be looked up is not a wrong one.
            response = await api.get("/v1/calls", headers=tenant.auth)
            assert response.status == (503 if name == "ClickHouse" else 200)


async def test_clickhouse_comes_back(services: ApiContext, settings: Settings, start_server: StartServer) -> None:
    """Kills a ClickHouse that has been used and starts it again. If it failed, the API would have to be restarted after
    its store was."""
    server = start_server("clickhouse")
    own = make_context(settings.model_copy(update={"clickhouse": clickhouse_settings(server)}))
    async with client_of(_with_clickhouse_of(own, services)) as api:
        assert (await api.get("/v1/calls", headers=_ADMIN)).status == 200
        server.kill()
        assert (await api.get("/v1/calls", headers=_ADMIN)).status == 503
        await asyncio.to_thread(server.start)
        deadline = time.monotonic() + 10
        while (await api.get("/v1/calls", headers=_ADMIN)).status != 200:
            assert time.monotonic() < deadline


async def test_a_store_that_hangs(services: ApiContext, settings: Settings, start_server: StartServer) -> None:
    """Stops Qdrant so that it takes connections and says nothing. If it failed, readiness would hang with it, or calls
    could not be seen because search cannot."""
    server = start_server("qdrant")
    own = make_context(settings.model_copy(update={"qdrant": qdrant_settings(server)}))
    async with client_of(replace(services, vectors=own.vectors)) as api:
        await _until_missing(api, set())
        server.pause()
        try:
            started = time.monotonic()
            ready, calls = await asyncio.gather(api.get("/readyz"), api.get("/v1/calls", headers=_ADMIN))
            assert calls.status == 200
            assert ready.status == 503
            assert "Qdrant" in (await ready.json())["missing"]
            assert time.monotonic() - started < 9  # before the client's own timeout
        finally:
            server.resume()


async def test_our_own_mistakes_stay_inside(
    services: ApiContext, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Makes a handler fail in a way nobody thought of. If it failed, a client would read a stack trace, or the operator
    would not."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("the secret is 42")

    monkeypatch.setattr(services.calls, "get_call", broken)
    async with client_of(services) as api:
        response = await api.get("/v1/calls/x", headers=_ADMIN)
        text = await response.text()
    assert response.status == 500
    assert '"code":"internal"' in text
    assert "42" not in text
    assert "the secret is 42" in caplog.text


async def test_metrics(api: Client) -> None:
    """Makes requests and reads what was counted. If it failed, an outage would not show, or each call id would make a
    series of its own."""
    await api.get("/v1/calls/some-id", headers=_ADMIN)
    await api.get("/nowhere", headers=_ADMIN)
    text = await (await api.get("/metrics")).text()
    assert 'audiotext_api_requests_total{method="GET",route="/v1/calls/{id}",status="404"} 1.0' in text
    assert 'route="unmatched"' in text
    assert "some-id" not in text
    assert re.search(r'audiotext_api_request_seconds_count\{method="GET",route="/v1/calls/{id}"\} 1.0', text)


@pytest.mark.parametrize("target", ["http://e/healthz", "http://e/v1/calls", "*"])
async def test_target_that_is_no_path_is_refused(api: Client, target: str) -> None:
    """Requests targets for other hosts, as from a proxy: each must get 400 in the shape of the API's errors."""
    answer = await _raw(api, f"OPTIONS {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'{"error":{"code":"malformed"' in answer


async def test_incomplete_body_is_refused_after_the_time_limit(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Posts the head of a sign-in without its body, with a limit of 0.2 s: 408 in the shape of the API's errors.

    Otherwise clients without a key can hold all descriptors of the API.
    """
    monkeypatch.setattr("api.endpoint._BODY_TIMEOUT_S", 0.2)
    answer = await _raw(api, b"POST /v1/session HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'{"error":{"code":"timeout"' in answer


async def _raw(api: Client, data: bytes) -> bytes:
    """Sends the bytes and returns what arrives until the connection is closed."""
    reader, writer = await asyncio.open_connection(api.server.host, api.server.port)
    writer.write(data)
    try:
        async with asyncio.timeout(30):
            return await reader.read()
    finally:
        writer.close()


def test_the_process(settings: Settings) -> None:
    """Starts the service as a process with few descriptors, reads from it and ends it by SIGTERM.

    It must raise its limit of descriptors, answer malformed HTTP with JSON and without a stack trace, and end soon. If
    it failed, `up` would not see it start, or Ctrl-C would take long or look like a crash.
    """
    port = _free_port()
    process = _spawn(settings, port)
    try:
        _wait(lambda: _answers(port), process)
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        soft, hard = re.findall(r"Max open files +(\d+) +(\d+)", limits)[0]
        assert soft == hard
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.0 400 ")
        assert b'{"error":{"code":"malformed"' in answer
        process.send_signal(signal.SIGTERM)
        ending = time.monotonic()
        _, said = process.communicate(timeout=20)
        assert time.monotonic() - ending < 5
        assert process.returncode == 0
        assert "Traceback" not in said
    finally:
        process.kill()
        process.communicate()


def test_a_taken_port(settings: Settings) -> None:
    """Starts on a port that somebody has. If it failed, the user would get a stack trace and not what to do."""
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        port = somebody.getsockname()[1]
        taken = settings.model_copy(update={"api": ApiSettings(port=port)})
        with pytest.raises(SystemExit, match=f"port {port} .* is already in use.*AUDIOTEXT_API__PORT"):
            run(taken)


def test_unconfigured() -> None:
    """Starts without any store. If it failed, the user would get a stack trace and not the setting's name."""
    with pytest.raises(SystemExit, match="AUDIOTEXT_CLICKHOUSE__DSN"):
        run(Settings())


def _with_clickhouse_of(other: ApiContext, services: ApiContext) -> ApiContext:
    """Returns the services with the other context's ClickHouse."""
    return replace(services, calls=other.calls, usage=other.usage, api_keys=other.api_keys)


async def _until_missing(api: Client, missing: set[str]) -> None:
    """Polls readiness, as whoever uses it does, until just these stores are missing."""
    deadline = time.monotonic() + 20
    while True:
        response = await api.get("/readyz")
        body = await response.json()
        assert response.status == (503 if body["missing"] else 200)
        assert body["ready"] == (not body["missing"])
        if set(body["missing"]) == missing:
            return
        assert time.monotonic() < deadline, body


_START = "from core import settings; from api.app import run; run(settings.load())"


def _spawn(settings: Settings, port: int) -> subprocess.Popen[str]:
    assert settings.clickhouse.dsn
    variables = {
        "AUDIOTEXT_API__PORT": str(port),
        "AUDIOTEXT_CLICKHOUSE__DSN": settings.clickhouse.dsn.get_secret_value(),
        "AUDIOTEXT_S3__ENDPOINT": settings.s3.endpoint or "",
        "AUDIOTEXT_CLICKHOUSE__CA_FILE": str(settings.clickhouse.ca_file or ""),
        "AUDIOTEXT_QDRANT__CA_FILE": str(settings.qdrant.ca_file or ""),
        **({"AUDIOTEXT_S3__CA_FILE": str(settings.s3.ca_file)} if settings.s3.ca_file else {}),
        "AUDIOTEXT_S3__ACCESS_KEY": "unused",
        "AUDIOTEXT_S3__SECRET_KEY": "unused",
        "AUDIOTEXT_QDRANT__URL": settings.qdrant.url or "",
    }
    return subprocess.Popen(
        [sys.executable, "-c", _START],
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
