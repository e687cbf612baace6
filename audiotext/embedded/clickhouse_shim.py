"""HTTP server of the embedded ClickHouse: ClickHouse's HTTP protocol over its engine (chDB).

Only one process can own the engine's directory, so all services connect to this process with the client library of a
real server. It implements what that client needs: queries and inserts by POST, settings and parameters in the URL or
in a form, compressed bodies, and errors in ClickHouse's format. It is for local use only: it listens on the loopback
interface and requires a password. There are two users: the services' user, and a read-only user for analysts.
"""

import argparse
import asyncio
import base64
import hmac
import importlib
import json
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lz4.frame  # type: ignore[import-untyped]  # publishes no types
from aiohttp import web
from backports import zstd

from audiotext.embedded.clickhouse import ANALYST, ANALYST_PASSWORD_VARIABLE, PASSWORD_VARIABLE, USER
from audiotext.embedded.clickhouse_readonly import READONLY_SETTINGS, canonical_sql, refusal, syntax_tree_sql
from audiotext.embedded.shim import serve

_MAX_BODY = 1 << 30  # bytes of one insert, as transmitted
_AUTHENTICATION_FAILED = 516
_READONLY = 164

# URL parameters of the transport; all others are settings of the engine.
_TRANSPORT = frozenset(
    (
        *("query", "database", "default_format", "user", "password", "query_id", "quota_key", "role"),
        *("session_id", "session_timeout", "session_check", "compress", "decompress", "buffer_size"),
        *("wait_end_of_query", "client_protocol_version", "send_progress_in_http_headers"),
        *("http_headers_progress_interval_ms", "enable_http_compression"),
        "cancel_http_readonly_queries_on_client_close",
    )
)

_NAME = r"(?:`(?:[^`\\]|\\.|``)*`|[\w]+)"
# An insert whose rows follow the statement. The part before FORMAT is matched strictly, so that text inside a VALUES
# list cannot match.
_INSERT_DATA = re.compile(
    rf"\s*INSERT\s+INTO\s+(?:TABLE\s+)?(?P<target>{_NAME}(?:\.{_NAME})?\s*(?:\((?:[^()`]|`(?:[^`\\]|\\.|``)*`)*\))?)"
    r"\s+FORMAT\s+(?P<format>\w+)[ \t]*(?:\r?\n|\s|$)".encode(),
    re.IGNORECASE,
)
_FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)
# Statements with a result, which may be empty. Only for these ClickHouse returns a format header, which clients read.
_HAS_RESULT = re.compile(r"[\s(]*(?:SELECT|WITH|SHOW|DESC|DESCRIBE|EXISTS|EXPLAIN|CHECK)\b", re.IGNORECASE)
_CODE = re.compile(r"Code: (\d+)\.")
_SETTING = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL statement without data. format: the format of its result."""

    sql: str
    format: str


@dataclass(frozen=True, slots=True)
class Insert:
    """Rows for a table. target: table, and columns in parentheses. data: the rows in that format."""

    target: str
    format: str
    data: bytes


def parse(query: str, body: bytes, default_format: str = "TabSeparated") -> Statement | Insert:
    """Parses a request from its `query` parameter and its decompressed body. Raises UnicodeDecodeError."""
    text = query.encode() + b"\n" + body if query else body
    match = _INSERT_DATA.match(text)
    if match:
        return Insert(match["target"].decode(), match["format"].decode(), text[match.end() :])
    sql = text.decode()
    wanted = _FORMAT.search(sql)
    return Statement(sql, wanted[1] if wanted else default_format)


def decompress(body: bytes, encoding: str) -> bytes:
    """Returns the decompressed body. Raises ValueError for a damaged body or an unknown encoding.

    Clients send one frame per block, so all frames are read; reading only the first would silently lose rows.
    """
    if encoding in ("", "identity"):
        return body
    parts = []
    while body:
        decoder = _decoder(encoding)
        try:
            parts.append(decoder.decompress(body))
        except Exception as error:  # each library has its own exceptions
            raise ValueError(f"body is not {encoding}: {error}") from error
        if not decoder.eof:
            raise ValueError(f"{encoding} body is truncated")
        body = decoder.unused_data
    return b"".join(parts)


def _decoder(encoding: str) -> Any:
    if encoding == "lz4":
        return lz4.frame.LZ4FrameDecompressor()
    if encoding == "zstd":
        return zstd.ZstdDecompressor()
    if encoding == "gzip":
        return zlib.decompressobj(wbits=31)
    if encoding == "deflate":
        return zlib.decompressobj()
    raise ValueError(f"unknown content encoding {encoding!r}")


class EngineError(Exception):
    """Error of the engine. code: ClickHouse's error code."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        found = _CODE.search(message)
        self.code = int(found[1]) if found else 1002  # UNKNOWN_EXCEPTION

    @property
    def status(self) -> int:
        """HTTP status that ClickHouse returns for such an error."""
        # Unknown function, identifier, table, database; not allowed.
        statuses = {46: 404, 47: 404, 60: 404, 81: 404, _READONLY: 403}
        return statuses.get(self.code, 400 if self.code in (6, 36, 41, 43, 53, 62, 115, 386) else 500)


@dataclass(frozen=True, slots=True)
class Result:
    """Result in the requested format, and the content of X-ClickHouse-Summary."""

    data: bytes
    summary: Mapping[str, str]


class Engine:
    """The chDB engine of this process. Not thread-safe: one query at a time."""

    def __init__(self, path: Path) -> None:
        """Opens the directory, which no other process may have open. Raises RuntimeError."""
        # Rows of an insert, which contain text of calls. A killed process may have left some.
        self._inserts = path.with_name(f"{path.name}-inserts")
        shutil.rmtree(self._inserts, ignore_errors=True)
        self._inserts.mkdir(mode=0o700, parents=True)
        # Imported here, because the library takes 300 MB of memory.
        chdb: Any = importlib.import_module("chdb")
        self._connect = chdb.connect
        self._path = str(path)
        self._keep_open = chdb.connect(self._path)

    def run(
        self,
        query: Statement | Insert,
        *,
        database: str,
        settings: Mapping[str, str],
        params: Mapping[str, str],
        readonly: bool = False,
    ) -> Result:
        """Runs the query in its own session, so that settings end with the request.

        readonly: runs only what the user for analysts may run. Raises EngineError.
        """
        session = self._connect(self._path)
        try:
            if database:
                session.query(f"USE {_quoted_name(database)}")
            for name, value in settings.items():
                session.query(f"SET {name} = {_quoted(value)}")
            if readonly:
                _check_readonly(session, query, params)
            if isinstance(query, Insert):
                return self._insert(session, query)
            result = session.query(query.sql, query.format, params=dict(params))
            read = {"read_rows": str(result.rows_read()), "read_bytes": str(result.bytes_read())}
            return Result(result.bytes() or b"", read | {"elapsed_ns": _nanoseconds(result)})
        except RuntimeError as error:
            raise EngineError(str(error)) from None
        finally:
            session.close()

    def close(self) -> None:
        """Closes the engine."""
        self._keep_open.close()

    def _insert(self, session: Any, query: Insert) -> Result:
        if not query.data:
            return Result(b"", {"written_rows": "0", "written_bytes": "0"})
        with tempfile.NamedTemporaryFile(suffix=".rows", dir=self._inserts) as file:
            file.write(query.data)
            file.flush()
            result = session.query(f"INSERT INTO {query.target} FROM INFILE {_quoted(file.name)} FORMAT {query.format}")
        written = {"written_rows": str(result.rows_read()), "written_bytes": str(result.bytes_read())}
        return Result(b"", written | {"elapsed_ns": _nanoseconds(result)})


def _check_readonly(session: Any, query: Statement | Insert, params: Mapping[str, str]) -> None:
    """Makes the session read-only. Raises EngineError for a query that the user for analysts may not run."""

    def result(sql: str) -> str:
        return (session.query(sql, "TSVRaw", params=dict(params)).bytes() or b"").decode()

    for name, value in READONLY_SETTINGS.items():
        session.query(f"SET {name} = {value}")
    reason: str | None = "INSERT is not allowed"
    if isinstance(query, Statement):
        canonical = result(canonical_sql(query.sql))
        functions = result("SELECT name FROM system.table_functions").split()
        reason = refusal(canonical, result(syntax_tree_sql(canonical)), functions)
    if reason:
        raise EngineError(f"Code: {_READONLY}. DB::Exception: {ANALYST} has read-only access: {reason}. (READONLY)")


def _nanoseconds(result: Any) -> str:
    return str(int(result.elapsed() * 1_000_000_000))


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _quoted_name(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


def application(engine: Engine, passwords: Mapping[str, str]) -> web.Application:
    """Returns ClickHouse's HTTP interface for the engine. Queries run one after the other in a separate thread.

    passwords: by user.
    """
    thread = ThreadPoolExecutor(1, thread_name_prefix="engine")

    async def query(request: web.Request) -> web.Response:
        user = authenticated_user(request.headers, request.query, passwords)
        if user is None:
            return _error(
                f"Code: {_AUTHENTICATION_FAILED}. DB::Exception: Authentication failed. (AUTHENTICATION_FAILED)", 403
            )
        url: Mapping[str, str] = request.query
        try:
            if request.content_type == "multipart/form-data":
                url, body = {**url, **await _form(request)}, b""
            else:
                body = decompress(await request.read(), request.headers.get("Content-Encoding", "").lower())
            parsed = parse(url.get("query", ""), body, url.get("default_format", "TabSeparated"))
        except ValueError as error:
            return _error(f"Code: 1001. DB::Exception: {error}. (STD_EXCEPTION)", 400)
        params = {name[6:]: value for name, value in url.items() if name.startswith("param_")}
        settings = {
            name: value
            for name, value in url.items()
            if name not in _TRANSPORT and not name.startswith("param_") and _SETTING.fullmatch(name)
        }
        running = asyncio.get_running_loop().run_in_executor(
            thread,
            lambda: engine.run(
                parsed, database=url.get("database", ""), settings=settings, params=params, readonly=user == ANALYST
            ),
        )
        try:
            result = await asyncio.shield(running)  # a client that disconnects must not interrupt an insert
        except EngineError as error:
            return _error(str(error), error.status)
        headers = {
            "X-ClickHouse-Summary": json.dumps(dict(result.summary)),
            "X-ClickHouse-Query-Id": url.get("query_id", ""),
            "X-ClickHouse-Timezone": "UTC",
        }
        if isinstance(parsed, Statement) and _HAS_RESULT.match(parsed.sql):
            headers["X-ClickHouse-Format"] = parsed.format
        return web.Response(body=result.data, headers=headers, content_type="text/plain")

    async def ping(_request: web.Request) -> web.Response:
        return web.Response(text="Ok.\n")

    async def close(_app: web.Application) -> None:
        thread.shutdown(wait=True)
        engine.close()

    app = web.Application(client_max_size=_MAX_BODY)
    app.add_routes([web.get("/ping", ping), web.get("/", query), web.post("/", query)])
    app.on_cleanup.append(close)
    return app


def authenticated_user(headers: Mapping[str, str], url: Mapping[str, str], passwords: Mapping[str, str]) -> str | None:
    """Returns the user whose name and password the request contains, in one of ClickHouse's three forms, or None."""
    user, given = url.get("user", ""), url.get("password", "")
    basic = headers.get("Authorization", "")
    if "X-ClickHouse-User" in headers:
        user, given = headers["X-ClickHouse-User"], headers.get("X-ClickHouse-Key", "")
    elif basic.lower().startswith("basic "):
        try:
            user, _, given = base64.b64decode(basic[6:]).decode().partition(":")
        except ValueError:
            return None
    password = passwords.get(user)
    return user if password and hmac.compare_digest(given.encode(), password.encode()) else None


async def _form(request: web.Request) -> dict[str, str]:
    """Returns the fields of a form, which have the same meaning as those of the URL.

    Clients send the statement and its parameters in a form if the parameters are long. Raises ValueError for a file,
    because external tables are not supported.
    """
    fields: dict[str, str] = {}
    for name, value in (await request.post()).items():
        if not isinstance(value, str):
            raise ValueError(f"{name}: tables that come with a query are not supported")
        fields[name] = value
    return fields


def _error(message: str, status: int) -> web.Response:
    code = str(EngineError(message).code)
    return web.Response(text=message + "\n", status=status, headers={"X-ClickHouse-Exception-Code": code})


def main() -> None:
    """Serves `--data-dir` with TLS on the loopback `--port` until SIGTERM; the environment contains the password."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    args = parser.parse_args()
    path: Path = args.data_dir / "clickhouse"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    passwords = {USER: os.environ[PASSWORD_VARIABLE], ANALYST: os.environ[ANALYST_PASSWORD_VARIABLE]}
    serve("clickhouse", application(Engine(path), passwords), args.port, args.data_dir)


if __name__ == "__main__":
    main()
