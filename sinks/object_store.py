"""Object storage (S3). Synchronous, like its client: use a thread if an event loop must not wait.

Keys are deterministic and the content of a key never changes, so writing twice equals writing once. An object that
must change, or that only one of several writers may create, uses `compare_and_swap`.
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

# Short: callers have their own retry schedules, and they must notice a dead or hanging store well before a watchdog
# takes the caller itself for hanging (core.heartbeat.HANG_TIMEOUT_S).
CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 20.0
"""A request fails if the store sends nothing for this long, before or during a response."""
RETRIES = 1

_CHUNK = 1 << 20
# S3's codes for an object that can never be stored. Other errors depend on settings, rights or the store's state.
_REFUSED = frozenset(
    {
        *("EntityTooLarge", "InvalidObjectName", "InvalidURI", "KeyTooLongError", "MetadataTooLarge"),
        "XMinioInvalidObjectName",
    }
)
_SHA256 = "sha256"  # user metadata with the content's SHA-256 (hex)


class ObjectStoreError(UserError):
    """The store is unavailable, refused a request or returned wrong content. A retry may succeed."""


class ObjectMissingError(ObjectStoreError):
    """The object does not exist."""


class ObjectRefusedError(ObjectStoreError):
    """The store never accepts this object, because of its key or its size. A retry fails as well."""


@dataclass(frozen=True, slots=True)
class VersionedObject:
    """Bytes of an object and its ETag, which identifies this content."""

    data: bytes
    etag: str


class ObjectStore:
    """One bucket. Thread-safe."""

    def __init__(self, settings: S3Settings) -> None:
        """Does not connect yet. Raises SettingsError if endpoint or credentials are missing or invalid."""
        if not settings.endpoint:
            raise SettingsError("no object storage is configured: set AUDIOTEXT_S3__ENDPOINT, or use `audiotext up`")
        if not settings.access_key or not settings.secret_key:
            raise SettingsError("object storage needs AUDIOTEXT_S3__ACCESS_KEY and AUDIOTEXT_S3__SECRET_KEY: set both")
        url = urlsplit(settings.endpoint if "//" in settings.endpoint else f"http://{settings.endpoint}")
        secure = url.scheme == "https"
        self.bucket = settings.bucket
        self._http = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S),
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
            raise SettingsError(f"AUDIOTEXT_S3__ENDPOINT or AUDIOTEXT_S3__REGION is invalid: {error}") from None
        if settings.addressing == "host":
            self._client.enable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
        elif settings.addressing == "path":
            self._client.disable_virtual_style_endpoint()  # type: ignore[no-untyped-call]

    def bucket_exists(self) -> bool:
        """True if the bucket exists."""
        with _TranslatedErrors(self.bucket):
            return bool(self._client.bucket_exists(self.bucket))

    def ensure_bucket(self) -> None:
        """Creates the bucket unless it exists."""
        with _TranslatedErrors(self.bucket):
            if not self._client.bucket_exists(self.bucket):
                try:
                    self._client.make_bucket(self.bucket)
                except S3Error as error:
                    if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                        raise

    def put(self, key: str, data: bytes, content_type: str) -> ObjectRef:
        """Stores the bytes and verifies them."""
        digest = hashlib.sha256(data).hexdigest()
        with _TranslatedErrors(key):
            self._client.put_object(
                self.bucket, key, io.BytesIO(data), len(data), content_type, metadata={_SHA256: digest}
            )
        return self._verified(ObjectRef(key=key, sha256=digest, size=len(data)), hashlib.md5(data).hexdigest())

    def put_file(self, key: str, path: Path, content_type: str, sha256: str) -> ObjectRef:
        """Stores a file with a known SHA-256 (hex) and verifies it.

        Verifies the size, and the content by the ETag if that is an MD5, else by reading the object back.
        """
        md5 = hashlib.md5()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                md5.update(chunk)
        with _TranslatedErrors(key):
            self._client.fput_object(self.bucket, key, str(path), content_type, metadata={_SHA256: sha256})
        return self._verified(ObjectRef(key=key, sha256=sha256, size=path.stat().st_size), md5.hexdigest())

    def find(self, key: str) -> ObjectRef | None:
        """Returns a reference to the object, or None. Finds only objects that this class has written."""
        try:
            with _TranslatedErrors(key):
                stat = self._client.stat_object(self.bucket, key)
        except ObjectMissingError:
            return None
        digest = (stat.metadata or {}).get(f"x-amz-meta-{_SHA256}")
        return ObjectRef(key=key, sha256=digest, size=stat.size or 0) if digest else None

    def get(self, key: str) -> bytes:
        """Returns the content of the object. Raises ObjectMissingError."""
        return b"".join(self.stream(key))

    def get_verified(self, ref: ObjectRef) -> bytes:
        """Returns the content of the object, verified against its SHA-256. Raises ObjectStoreError if it differs."""
        data = self.get(ref.key)
        if hashlib.sha256(data).hexdigest() != ref.sha256:
            raise ObjectStoreError(f"{ref.key}: content does not match its SHA-256")
        return data

    def get_versioned(self, key: str) -> VersionedObject | None:
        """Returns the object for a later `compare_and_swap`, or None if it does not exist."""
        try:
            with _TranslatedErrors(key):
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
        """Stores the bytes if the object still equals `replaces` (None: if it does not exist), else returns None.

        Of several concurrent writers one succeeds. None can also mean that the write succeeded and the store's response
        was lost, so the caller must be able to recognise its own content. Raises ObjectStoreError; the bytes may or may
        not be stored then.
        """
        condition = {"If-Match": replaces.etag} if replaces else {"If-None-Match": "*"}
        md5 = base64.b64encode(hashlib.md5(data).digest()).decode()
        with _TranslatedErrors(key):
            # The client has no conditional put, but it signs one.
            url = self._client.presigned_put_object(self.bucket, key, expires=timedelta(minutes=5))
            response = self._http.request(
                "PUT", url, body=data, headers={"Content-Type": content_type, "Content-MD5": md5} | condition
            )
        # 409: another conditional write of the same key is in progress; 404: the object to replace is gone.
        lost = {HTTPStatus.PRECONDITION_FAILED, HTTPStatus.CONFLICT} | ({HTTPStatus.NOT_FOUND} if replaces else set())
        if response.status in lost:
            return None
        if response.status != HTTPStatus.OK:
            raise ObjectStoreError(f"{key}: the store answered {response.status} to a conditional write")
        return VersionedObject(data, response.headers.get("ETag", ""))

    def stream(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yields the object's bytes from `start`, at most `length` or all, in chunks. Raises ObjectMissingError."""
        with _TranslatedErrors(key):
            response = self._client.get_object(self.bucket, key, offset=start, length=length or 0)
            try:
                yield from response.stream(_CHUNK)
            finally:
                response.close()
                response.release_conn()

    def list(self, prefix: str = "") -> Iterator[str]:
        """Yields the keys with the prefix."""
        with _TranslatedErrors(prefix):
            for item in self._client.list_objects(self.bucket, prefix=prefix, recursive=True):
                if item.object_name:
                    yield item.object_name

    def presigned(self, key: str, lifetime: timedelta) -> str:
        """Returns a URL that gives read access to the object for `lifetime`, without credentials."""
        with _TranslatedErrors(key):
            return self._client.presigned_get_object(self.bucket, key, expires=lifetime)

    def key_from_url(self, url: str) -> str:
        """Returns the key in the URL of an object of this bucket."""
        path = unquote(urlsplit(url).path).removeprefix("/")
        return path.removeprefix(f"{self.bucket}/")

    def remove(self, key: str) -> None:
        """Deletes the object if it exists."""
        with _TranslatedErrors(key):
            self._client.remove_object(self.bucket, key)

    def _verified(self, ref: ObjectRef, md5: str) -> ObjectRef:
        with _TranslatedErrors(ref.key):
            stat = self._client.stat_object(self.bucket, ref.key)
        if stat.size != ref.size:
            raise ObjectStoreError(f"{ref.key}: stored {stat.size} of {ref.size} bytes")
        if (stat.etag or "").strip('"') == md5:
            return ref
        # The ETag of a multipart upload or an encrypted object is not an MD5: read the object back.
        digest = hashlib.sha256()
        for chunk in self.stream(ref.key):
            digest.update(chunk)
        if digest.hexdigest() != ref.sha256:
            raise ObjectStoreError(f"{ref.key}: the stored bytes differ from the sent bytes")
        return ref


class _TranslatedErrors:
    """Turns the client's exceptions into ours."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, S3Error) and error.code in ("NoSuchKey", "NoSuchObject", "NoSuchBucket"):
            raise ObjectMissingError(f"{self._key}: {error.code}") from error
        if isinstance(error, S3Error) and error.code in _REFUSED:
            raise ObjectRefusedError(f"{self._key}: the store refuses the object: {error.code}") from error
        if isinstance(error, (MinioException, HTTPError, OSError)):
            raise ObjectStoreError(f"{self._key}: {error}") from error
