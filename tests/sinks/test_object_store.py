"""What the object store says of settings that cannot be used. Its work is tested where it is used."""

import socket
import time

import pytest
from pydantic import SecretStr

from core.errors import exit_code
from core.heartbeat import HANG_TIMEOUT_S
from core.settings import S3Settings, SettingsError
from sinks import object_store
from sinks.object_store import ObjectRefusedError, ObjectStore, ObjectStoreError

KEYS = {"access_key": "audiotext", "secret_key": SecretStr("hunter2")}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (S3Settings(), "AUDIOTEXT_S3__ENDPOINT"),
        (S3Settings(endpoint="http://127.0.0.1:9"), "AUDIOTEXT_S3__ACCESS_KEY"),
        (S3Settings(endpoint="http://127.0.0.1:99999", **KEYS), "AUDIOTEXT_S3__ENDPOINT.*port"),
        (S3Settings(endpoint="http://somebody:hunter2@127.0.0.1:9", **KEYS), "AUDIOTEXT_S3__ENDPOINT.*username"),
        (S3Settings(endpoint="http://127.0.0.1:9", region="over there", **KEYS), "AUDIOTEXT_S3__REGION.*over there"),
    ],
    ids=["nothing", "no credentials", "no port", "a user", "no region"],
)
def test_settings_that_cannot_be_used_are_named(settings: S3Settings, named: str) -> None:
    """Makes a store without or with broken settings: the error names the setting, the command line tells it in one
    line, and no secret is in it. It is no error of the store's: services wait for a store that is away, and would wait
    for one that is not configured for ever."""
    with pytest.raises(SettingsError, match=named) as raised:
        ObjectStore(settings)

    assert exit_code(raised.value) == 2
    assert not isinstance(raised.value, ObjectStoreError)
    assert "hunter2" not in str(raised.value)


def test_a_store_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store takes connections and never answers. Whoever asks it is told so in time: two tries of 20 s, here 0.2 s.
    The sum stays well under the time after which who does not come round passes for hanging; else one hung store would
    have every service killed that merely waits for it."""
    monkeypatch.setattr(object_store, "READ_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        store = ObjectStore(S3Settings(endpoint=f"http://127.0.0.1:{listener.getsockname()[1]}", **KEYS))
        began = time.monotonic()
        with pytest.raises(ObjectStoreError):
            store.get("key")
        assert time.monotonic() - began < 10
    monkeypatch.undo()
    longest_s = (object_store.CONNECT_TIMEOUT_S + object_store.READ_TIMEOUT_S) * (1 + object_store.RETRIES)
    assert longest_s < HANG_TIMEOUT_S / 2


def test_object_that_can_never_be_stored_is_distinguished_from_an_outage(s3: S3Settings) -> None:
    """Stores an object under a key of 1,100 bytes, and one with a wrong secret key.

    Only the first error may be permanent: somebody may correct the settings.
    """
    with pytest.raises(ObjectRefusedError, match="KeyTooLongError"):
        ObjectStore(s3).put("k" * 1100, b"content", "text/plain")
    with pytest.raises(ObjectStoreError) as outage:
        ObjectStore(s3.model_copy(update={"secret_key": SecretStr("wrong")})).put("key", b"content", "text/plain")
    assert not isinstance(outage.value, ObjectRefusedError)
