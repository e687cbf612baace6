"""The files in `deploy/proxy` with real proxies and TLS, in front of a running stack.

Names, ports and certificates in the files are replaced by those of the test; everything else stays. Without the proxy a
test is skipped (`apt-get install nginx-light caddy`; `.ci/run` does this).
"""

import http.client
import io
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import urllib.request
import uuid
import wave
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from audiotext.stack.datadir import running_stack
from core.audio.g711 import decode_ulaw
from gateway.simulator import telephone_audio
from schemas.media import Codec
from tests.support import certificates
from tests.support.certificates import Certificates
from tests.support.up_process import ADMIN_KEY, TWILIO_TOKEN, UpProcess, free_port
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.server, pytest.mark.timeout(240)]

FOLDER = Path(__file__).parents[2] / "deploy" / "proxy"
PROXIES = ("nginx", "caddy")
RATE_HZ = 8000
_CHECK = """
import asyncio, dataclasses, json
from audiotext.doctor.https import public_url
from core.settings import load
print(json.dumps(dataclasses.asdict(asyncio.run(public_url(load())))))
"""


@dataclass(frozen=True, slots=True)
class Proxy:
    """Running proxy."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"https://127.0.0.1:{self.port}"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Makes a certificate for 127.0.0.1 and its authority."""
    return certificates.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UpProcess]:
    """Runs `audiotext up`, which trusts proxies on 127.0.0.1. Exotel's requests must come from 127.0.0.2."""
    env = {
        "AUDIOTEXT_GATEWAY__TRUSTED_PROXIES": '["127.0.0.1/32"]',
        "AUDIOTEXT_EXOTEL__ALLOWED_PEERS": '["127.0.0.2/32"]',
    }
    process = UpProcess(tmp_path_factory.mktemp("proxied") / "data", env)
    process.start()
    yield process
    process.stop()


@pytest.fixture(params=PROXIES)
def proxy(request: pytest.FixtureRequest, stack: UpProcess, tls: Certificates, tmp_path: Path) -> Iterator[Proxy]:
    """Runs a proxy with its file in front of the stack."""
    name: str = request.param
    started = start(name, (FOLDER / {"nginx": "nginx.conf", "caddy": "Caddyfile"}[name]).read_text(), stack.port, tls)
    yield started
    started.process.terminate()
    started.process.wait(20)


def start(name: str, text: str, upstream: int, tls: Certificates) -> Proxy:
    """Starts a proxy with this configuration and waits until it listens. Skips the test if it is not installed."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    port = free_port()
    assert "127.0.0.1:8080" in text
    text = text.replace("127.0.0.1:8080", f"127.0.0.1:{upstream}")
    folder = tls.ca.parent / uuid.uuid4().hex
    folder.mkdir()
    command, text = (_nginx if name == "nginx" else _caddy)(text, port, tls, folder)
    (folder / "conf").write_text(text)
    env = os.environ | {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=output)

    def listens() -> bool:
        assert process.poll() is None, (folder / "output").read_text()
        try:
            http.client.HTTPSConnection("127.0.0.1", port, context=_context(tls), timeout=5).connect()
        except OSError:
            return False
        return True

    try:
        wait_until(listens, f"{name} listens")
    except BaseException:
        process.kill()
        raise
    return Proxy(port, process)


def _nginx(text: str, port: int, tls: Certificates, folder: Path) -> tuple[tuple[str, ...], str]:
    text = text.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl").replace("calls.example.com;", "127.0.0.1;")
    text = re.sub(r"ssl_certificate .*;", f"ssl_certificate {tls.cert};", text)
    text = re.sub(r"ssl_certificate_key .*;", f"ssl_certificate_key {tls.key};", text)
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = (
        f"daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log stderr;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{paths}{text}\n}}\n"
    )
    return ("nginx", "-p", str(folder), "-e", "stderr", "-c", str(folder / "conf")), whole


def _caddy(text: str, port: int, tls: Certificates, folder: Path) -> tuple[tuple[str, ...], str]:
    own = f"https://127.0.0.1:{port} {{\n\tbind 127.0.0.1\n\ttls {tls.cert} {tls.key}\n"
    whole = "{\n\tadmin off\n\tauto_https disable_redirects\n}\n" + text.replace("calls.example.com {\n", own)
    assert own in whole
    return ("caddy", "run", "--config", str(folder / "conf"), "--adapter", "caddyfile"), whole


def _context(tls: Certificates) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(tls.ca))


@pytest.mark.parametrize("name", ["nginx.conf", "Caddyfile"])
def test_the_page_shows_the_tested_directives(name: str) -> None:
    """Compares the block in docs/https.md with the file: the directives are the same, the file has comments as well.

    A failure means that readers copy something that no test has run.
    """
    directives = re.sub(r"^\s*#.*", "", (FOLDER / name).read_text(), flags=re.MULTILINE).split()
    page = (FOLDER.parents[1] / "docs" / "https.md").read_text()
    assert directives in [block.split() for block in re.findall(r"```\n(.*?)```", page, re.DOTALL)]


def test_a_call_through_the_proxy_is_recorded_exactly(
    proxy: Proxy, stack: UpProcess, tls: Certificates, tmp_path: Path
) -> None:
    """Plays a file by `audiotext call --url wss://…` through the proxy, and downloads the recording through it.

    Each sample of the recording is the G.711 decoding of the sample that was sent. A failure means that the file for
    this proxy does not forward media sockets, or loses audio.
    """
    sound = tmp_path / "call.wav"
    noise = np.random.default_rng(7).integers(-8_000, 8_000, (3 * RATE_HZ, 2), np.int16)
    with wave.open(str(sound), "wb") as file:
        file.setparams((2, 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes(noise.tobytes())
    call_id = f"CA{uuid.uuid4().hex}"
    url = f"wss://127.0.0.1:{proxy.port}/v1/media/twilio"
    words = ("call", str(sound), "--speed", "4", "--call-id", call_id, "--url", url, "--data-dir", str(stack.data_dir))
    env = os.environ | {"SSL_CERT_FILE": str(tls.ca)}
    played = subprocess.run(
        (sys.executable, "-m", "audiotext", *words), env=env, check=False, capture_output=True, text=True
    )
    assert played.stdout == f"{call_id}\n", played.stderr
    stack.wait_for(call_id, "recorded", "transcribed", "summarized", "complete")

    request = urllib.request.Request(
        f"{proxy.url}/v1/calls/{call_id}/recording", headers={"Authorization": f"Bearer {ADMIN_KEY}"}
    )
    with urllib.request.urlopen(request, context=_context(tls), timeout=20) as response:
        recording = response.read()
    with wave.open(io.BytesIO(recording)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, 2)
    sent = [decode_ulaw(b"".join(track)) for track in telephone_audio.frames(sound, Codec.PCMU, RATE_HZ, 20)]
    np.testing.assert_array_equal(samples, np.stack(sent, axis=1))


def test_the_gateway_sees_the_clients_address(proxy: Proxy, tls: Certificates) -> None:
    """Requests a voice answer from an address that Exotel may use, and from one that claims it in X-Forwarded-For.

    The first is accepted, the second is refused. A failure means that the proxy's own address counts, or that anybody
    can choose an address.
    """
    for source, forwarded, status in (("127.0.0.2", "10.9.9.9", 200), ("127.0.0.3", "127.0.0.2", 403)):
        connection = http.client.HTTPSConnection(
            "127.0.0.1", proxy.port, context=_context(tls), source_address=(source, 0), timeout=20
        )
        connection.request("GET", "/v1/voice/exotel?CallSid=c-1", headers={"X-Forwarded-For": forwarded})
        assert connection.getresponse().status == status
        connection.close()


def check(settings: Mapping[str, str], authority: Path | None) -> tuple[bool, str, str]:
    """Returns the finding of `audiotext doctor` about the public URL: ok, text and fix. authority: trusted, or None.

    It runs in a process, because its libraries read the trusted authorities once.
    """
    env = os.environ | settings | ({"SSL_CERT_FILE": str(authority)} if authority else {})
    done = subprocess.run((sys.executable, "-c", _CHECK), env=env, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    return found["ok"], found["detail"], found["fix"]


def settings_of(stack: UpProcess, url: str) -> dict[str, str]:
    """Returns the settings of a check: the stack's secrets and this public URL."""
    running = running_stack(stack.data_dir)
    assert running is not None
    secret = running.environment["AUDIOTEXT_GATEWAY__STREAM_TOKEN_SECRET"]
    return {
        "AUDIOTEXT_PUBLIC_URL": url,
        "AUDIOTEXT_TWILIO__AUTH_TOKEN": TWILIO_TOKEN,
        "AUDIOTEXT_GATEWAY__STREAM_TOKEN_SECRET": secret,
    }


def test_doctor_opens_a_media_socket(proxy: Proxy, stack: UpProcess, tls: Certificates) -> None:
    """Checks the public URL behind the proxy, with the stack's secret, without it, and with a wrong one.

    With the secret a media socket opens. A failure means that a working proxy looks broken, or the reverse.
    """
    settings = settings_of(stack, proxy.url)
    assert check(settings, tls.ca) == (True, f"{proxy.url} leads to a gateway; media sockets open", "")
    del settings["AUDIOTEXT_GATEWAY__STREAM_TOKEN_SECRET"]
    ok, text, _ = check(settings, tls.ca)
    assert ok
    assert "refuses a media socket without a token" in text
    ok, text, fix = check(settings | {"AUDIOTEXT_GATEWAY__STREAM_TOKEN_SECRET": "another-secret-of-others"}, tls.ca)
    assert (ok, text) == (False, f"{proxy.url}/v1/media/twilio refuses our stream token")
    assert "AUDIOTEXT_GATEWAY__STREAM_TOKEN_SECRET" in fix


def test_doctor_names_the_fault_of_a_proxy(stack: UpProcess, tls: Certificates) -> None:
    """Breaks the configuration of nginx in several ways: the finding names the fault and the fix.

    A failure means that a user sees only calls without recordings.
    """
    text = (FOLDER / "nginx.conf").read_text()
    page = 'return 200 "welcome"'
    for broken, upstream, authority, fault, cure in (
        (re.sub(r"proxy_set_header Upgrade.*", "", text), stack.port, tls.ca, "removes the headers", "WebSockets"),
        (text, free_port(), tls.ca, "/healthz answers 502", "port in the proxy's configuration"),
        (text, stack.port, None, "the certificate is not valid", "certificate of a public authority"),
        (text.replace("proxy_pass", f"{page}; #"), stack.port, tls.ca, "not with the gateway's answer", "all paths"),
    ):
        proxy = start("nginx", broken, upstream, tls)
        ok, found, fix = check(settings_of(stack, proxy.url), authority)
        proxy.process.terminate()
        proxy.process.wait(20)
        assert (ok, fault in found, cure in fix) == (False, True, True), (found, fix)


@pytest.mark.parametrize(
    ("url", "fault", "cure"),
    [
        ("https://no-such-host.invalid", "no-such-host.invalid does not resolve", "DNS record"),
        ("https://127.0.0.1:9", "https://127.0.0.1:9 does not answer", "start the proxy"),
    ],
)
def test_doctor_names_a_wrong_address(url: str, fault: str, cure: str) -> None:
    """Checks a name that does not exist and a port on which nothing listens: each finding names its own fix."""
    ok, found, fix = check({"AUDIOTEXT_PUBLIC_URL": url}, None)
    assert (ok, fault in found, cure in fix) == (False, True, True), (found, fix)
