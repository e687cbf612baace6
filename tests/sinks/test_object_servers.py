"""Everything that is asked of object storage, asked of every kind of it that is at hand."""

import hashlib
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import urllib3
from pydantic import SecretStr

from core.settings import S3Settings
from sinks.object_store import ObjectMissingError, ObjectStore, ObjectStoreError
from tests.conftest import s3_settings
from tests.support import object_servers
from tests.support.running_server import RunningServer

Servers = {"seaweedfs": object_servers.seaweedfs, "minio": object_servers.minio}


@pytest.fixture(scope="module", params=object_servers.STORES)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Settings]:
    """A running store with its bucket."""
    running = RunningServer(tmp_path_factory.mktemp(request.param), lambda state: [Servers[request.param](state)])
    try:
        settings = s3_settings(running.start())
        ObjectStore(settings).ensure_bucket()
        yield settings
    finally:
        running.kill()


@pytest.fixture
def store(server: S3Settings) -> ObjectStore:
    """A client of it."""
    return ObjectStore(server)


@pytest.mark.parametrize("size", [0, 1, 100_000, 12_000_000], ids=["empty", "an octet", "one part", "three parts"])
def test_what_was_put_is_there(store: ObjectStore, server: S3Settings, tmp_path: Path, size: int) -> None:
    """Stores so many octets from memory and from a file; both are found with the SHA-256 they were given and read back
    whole, in part, and by a URL that is good for a minute. A recording in several parts has an ETag that is no MD5, so
    it is read back to be checked."""
    data = hashlib.shake_256(b"a recording").digest(size)
    sha256 = hashlib.sha256(data).hexdigest()
    key = f"calls/acme/{uuid.uuid4()}"
    path = tmp_path / "recording.wav"
    browser = urllib3.PoolManager(ca_certs=str(server.ca_file) if server.ca_file else None)
    path.write_bytes(data)
    for ref in (store.put(f"{key}/1", data, "audio/wav"), store.put_file(f"{key}/2", path, "audio/wav", sha256)):
        assert (ref.sha256, ref.size) == (sha256, size)
        assert store.find(ref.key) == ref
        assert store.get_verified(ref) == data
        assert browser.request("GET", store.presigned(ref.key, timedelta(minutes=1))).data == data
    if size > 1:
        assert b"".join(store.stream(f"{key}/1", start=size // 2, length=100)) == data[size // 2 :][:100]
    assert sorted(store.list(key)) == [f"{key}/1", f"{key}/2"]
    store.remove(f"{key}/1")
    store.remove(f"{key}/1")
    assert list(store.list(key)) == [f"{key}/2"]


@pytest.mark.parametrize("name", ["ü ö", "a+b", "100%25", "q?x=1&y=2#z", "a:b;c,d@e$f!g'h(i)*", "日本語"])
def test_any_name(store: ObjectStore, name: str) -> None:
    """Stores, lists, swaps and removes under names with characters that mean something in URLs: carriers choose call
    ids, and one that cannot be stored is a lost recording."""
    key = f"names/{uuid.uuid4()}/{name}/x"
    ref = store.put(key, b"1", "text/plain")
    assert store.get_verified(ref) == b"1"
    assert list(store.list(key.rpartition("/")[0])) == [key]
    assert store.key_from_url(store.presigned(key, timedelta(minutes=1))) == key
    assert store.compare_and_swap(key, b"2", "text/plain", replaces=store.get_versioned(key))
    assert store.get(key) == b"2"
    store.remove(key)
    assert store.find(key) is None


def test_what_is_missing(store: ObjectStore, server: S3Settings) -> None:
    """Asks for what is not there, in a bucket that is and in one that is not, and with a wrong secret: told apart."""
    with pytest.raises(ObjectMissingError):
        store.get("nothing")
    assert store.find("nothing") is None
    assert store.get_versioned("nothing") is None
    elsewhere = ObjectStore(server.model_copy(update={"bucket": "no-such-bucket"}))
    assert not elsewhere.bucket_exists()
    with pytest.raises(ObjectMissingError):
        elsewhere.get("nothing")
    stranger = ObjectStore(server.model_copy(update={"secret_key": SecretStr("wrong")}))
    with pytest.raises(ObjectStoreError) as refused:
        stranger.get("nothing")
    assert not isinstance(refused.value, ObjectMissingError)
    store.ensure_bucket()  # a second time: nothing happens
    assert store.bucket_exists()


def test_a_swap_needs_what_it_replaces(store: ObjectStore) -> None:
    """Writes on condition: that there is nothing, that there is just this. What comes too late changes nothing, nor
    does what would replace an object that is gone. Intents are written so; a store that took them all would pay a
    provider twice."""
    key = f"intents/{uuid.uuid4()}"
    first = store.compare_and_swap(key, b"1", "application/json", replaces=None)
    assert first
    assert store.compare_and_swap(key, b"1", "application/json", replaces=None) is None
    second = store.compare_and_swap(key, b"2", "application/json", replaces=first)
    assert second == store.get_versioned(key)
    assert store.compare_and_swap(key, b"3", "application/json", replaces=first) is None
    assert store.get(key) == b"2"
    store.remove(key)
    assert store.compare_and_swap(key, b"4", "application/json", replaces=second) is None
    assert store.find(key) is None


def test_of_many_one_wins(store: ObjectStore) -> None:
    """Eight write at the same time, three times over, each on condition that what it read is still there: one of them
    succeeds each time, and what it wrote is what is read."""
    key = f"intents/{uuid.uuid4()}"
    before = None
    with ThreadPoolExecutor(8) as pool:
        for turn in range(3):
            contents = [f"{turn} {number}".encode() for number in range(8)]
            swap = partial(store.compare_and_swap, key, content_type="text/plain", replaces=before)
            swapped = list(pool.map(swap, contents))
            won = [one for one in swapped if one is not None]
            assert len(won) == 1, turn
            before = store.get_versioned(key)
            assert before == won[0]
