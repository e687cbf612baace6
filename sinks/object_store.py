"""Objects in S3. Synchronous (the client is): call it from a thread when an event loop must not wait.

Keys are deterministic and contents never change under a key, so writing twice is writing once. What must change, or
be written by one of several, goes through `swap`.
"""

import base64
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from urllib.parse import unquote, urlsplit

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error
from urllib3.exceptions import HTTPError

from core.errors import UserError
from core.settings import S3Settings, SettingsError
from core.tls import client_context
from schemas.events import ObjectRef

# Short: whoever calls has a retry schedule of its own, and a store that is dead or hangs must be noticed, well before
# the caller passes for hanging itself (core.heartbeat.HANGS_S).
CONNECT_S = 3.0
SILENT_S = 20.0
"""A store that says nothing for so long, in the middle of an answer or before it, is given up."""
RETRIES = 1

_CHUNK = 1 << 20
_SHA256 = "sha256"  # user metadata that carries the content's SHA-256 (hex)


class ObjectStoreError(UserError):
    """The store did not do what was asked (away, refused, wrong content). Worth another try."""


class ObjectMissingError(ObjectStoreError):
    """There is no object under that key."""


@dataclass(frozen=True, slots=True)
class VersionedObject:
    """An object's bytes and its ETag, which names this content and no other."""

    data: bytes
    etag: str


class ObjectStore:
    """One bucket. Thread-safe."""

    def __init__(self, settings: S3Settings) -> None:
        """Connects to nothing yet. Raises SettingsError if endpoint or credentials are missing or unusable."""
        if not settings.endpoint:
            raise SettingsError("no object storage is configured: set AUDIOTEXT_S3__ENDPOINT, or use `audiotext up`")
        if not settings.access_key or not settings.secret_key:
            raise SettingsError("object storage needs AUDIOTEXT_S3__ACCESS_KEY and AUDIOTEXT_S3__SECRET_KEY")
        url = urlsplit(settings.endpoint if "//" in settings.endpoint else f"http://{settings.endpoint}")
        secure = url.scheme == "https"
        self.bucket = settings.bucket
        self._http = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=CONNECT_S, read=SILENT_S),
            maxsize=16,
            retries=urllib3.Retry(total=RETRIES, backoff_factor=0.1),
            ssl_context=client_context(settings) if secure else None,
        )
        try:
            self._client = Minio(
                url.netloc,
                access_key=settings.access_key,
                secret_key=settings.secret_key.get_secret_value(),
                session_token=settings.session_token.get_secret_value() if settings.session_token else None,
                secure=secure,
                region=settings.region,
                http_client=self._http,
            )
        except ValueError as error:
            raise SettingsError(f"AUDIOTEXT_S3__ENDPOINT or AUDIOTEXT_S3__REGION cannot be used: {error}") from None
        if settings.addressing == "host":
            self._client.enable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
        elif settings.addressing == "path":
            self._client.disable_virtual_style_endpoint()  # type: ignore[no-untyped-call]

    def bucket_exists(self) -> bool:
        """Whether the bucket is there."""
        with _translated(self.bucket):
            return bool(self._client.bucket_exists(self.bucket))

    def ensure_bucket(self) -> None:
        """Creates the bucket unless it is there."""
        with _translated(self.bucket):
            if not self._client.bucket_exists(self.bucket):
                try:
                    self._client.make_bucket(self.bucket)
                except S3Error as error:
                    if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                        raise

    def put(self, key: str, data: bytes, content_type: str) -> ObjectRef:
        """Stores the bytes and checks that the store has them."""
        digest = hashlib.sha256(data).hexdigest()
        with _translated(key):
            self._client.put_object(
                self.bucket, key, io.BytesIO(data), len(data), content_type, metadata={_SHA256: digest}
            )
        return self._verified(ObjectRef(key=key, sha256=digest, size=len(data)), hashlib.md5(data).hexdigest())

    def put_file(self, key: str, path: Path, content_type: str, sha256: str) -> ObjectRef:
        """Stores a file whose SHA-256 (hex) is known and checks that the store has it: size, and content by ETag
        where the store gives an MD5, else by reading it back."""
        md5 = hashlib.md5()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                md5.update(chunk)
        with _translated(key):
            self._client.fput_object(self.bucket, key, str(path), content_type, metadata={_SHA256: sha256})
        return self._verified(ObjectRef(key=key, sha256=sha256, size=path.stat().st_size), md5.hexdigest())

    def find(self, key: str) -> ObjectRef | None:
        """The object under the key, or None. Only objects written by this class are found."""
        try:
            with _translated(key):
                stat = self._client.stat_object(self.bucket, key)
        except ObjectMissingError:
            return None
        digest = (stat.metadata or {}).get(f"x-amz-meta-{_SHA256}")
        return ObjectRef(key=key, sha256=digest, size=stat.size or 0) if digest else None

    def get(self, key: str) -> bytes:
        """The whole object. Raises ObjectMissingError."""
        return b"".join(self.stream(key))

    def get_verified(self, ref: ObjectRef) -> bytes:
        """The whole object, checked against its claim. Raises ObjectStoreError if it differs."""
        data = self.get(ref.key)
        if hashlib.sha256(data).hexdigest() != ref.sha256:
            raise ObjectStoreError(f"{ref.key}: content does not match its SHA-256")
        return data

    def get_versioned(self, key: str) -> VersionedObject | None:
        """The whole object as `swap` wants it, or None if there is none."""
        try:
            with _translated(key):
                response = self._client.get_object(self.bucket, key)
                try:
                    return VersionedObject(response.read(), response.headers.get("ETag", ""))
                finally:
                    response.close()
                    response.release_conn()
        except ObjectMissingError:
            return None

    def compare_and_swap(
        self, key: str, data: bytes, content_type: str, *, replaces: VersionedObject | None
    ) -> VersionedObject | None:
        """Stores the bytes if the object is still the one it `replaces` (None: if there is none), else does nothing and
        returns None. Of several that try at the same time one succeeds.

        None can also mean that it succeeded and the store's answer was lost: the caller must be able to recognise what
        it wrote. Raises ObjectStoreError, after which it may or may not have been stored.
        """
        condition = {"If-Match": replaces.etag} if replaces else {"If-None-Match": "*"}
        md5 = base64.b64encode(hashlib.md5(data).digest()).decode()
        with _translated(key):
            # The client has no conditional put, but it signs one.
            url = self._client.presigned_put_object(self.bucket, key, expires=timedelta(minutes=5))
            response = self._http.request(
                "PUT", url, body=data, headers={"Content-Type": content_type, "Content-MD5": md5} | condition
            )
        # 409: another conditional write of the same key is under way; 404: what it replaces is gone.
        lost = {HTTPStatus.PRECONDITION_FAILED, HTTPStatus.CONFLICT} | ({HTTPStatus.NOT_FOUND} if replaces else set())
        if response.status in lost:
            return None
        if response.status != HTTPStatus.OK:
            raise ObjectStoreError(f"{key}: the store answered {response.status} to a conditional write")
        return VersionedObject(data, response.headers.get("ETag", ""))

    def stream(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The object's bytes from `start`, `length` of them or all, in chunks. Raises ObjectMissingError."""
        with _translated(key):
            response = self._client.get_object(self.bucket, key, offset=start, length=length or 0)
            try:
                yield from response.stream(_CHUNK)
            finally:
                response.close()
                response.release_conn()

    def list(self, prefix: str = "") -> Iterator[str]:
        """Keys below the prefix."""
        with _translated(prefix):
            for item in self._client.list_objects(self.bucket, prefix=prefix, recursive=True):
                if item.object_name:
                    yield item.object_name

    def presigned(self, key: str, lifetime: timedelta) -> str:
        """A URL by which anybody who reaches the store can read the object that long."""
        with _translated(key):
            return self._client.presigned_get_object(self.bucket, key, expires=lifetime)

    def key_in(self, url: str) -> str:
        """The key of an object of this bucket, from a URL of it."""
        path = unquote(urlsplit(url).path).removeprefix("/")
        return path.removeprefix(f"{self.bucket}/")

    def remove(self, key: str) -> None:
        """Deletes the object if it is there."""
        with _translated(key):
            self._client.remove_object(self.bucket, key)

    def _verified(self, ref: ObjectRef, md5: str) -> ObjectRef:
        with _translated(ref.key):
            stat = self._client.stat_object(self.bucket, ref.key)
        if stat.size != ref.size:
            raise ObjectStoreError(f"{ref.key}: stored {stat.size} of {ref.size} bytes")
        if (stat.etag or "").strip('"') == md5:
            return ref
        # A multipart upload's or an encrypted object's ETag is no MD5: read it back.
        digest = hashlib.sha256()
        for chunk in self.stream(ref.key):
            digest.update(chunk)
        if digest.hexdigest() != ref.sha256:
            raise ObjectStoreError(f"{ref.key}: the store holds other bytes than were sent")
        return ref


class _translated:
    """Turns the client's exceptions into ours."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, S3Error) and error.code in ("NoSuchKey", "NoSuchObject", "NoSuchBucket"):
            raise ObjectMissingError(f"{self._key}: {error.code}") from error
        if isinstance(error, (MinioException, HTTPError, OSError)):
            raise ObjectStoreError(f"{self._key}: {error}") from error
