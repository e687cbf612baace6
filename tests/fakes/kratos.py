"""The public API of Ory Kratos as a real server, for the two used requests: session and readiness.

Answers as in https://www.ory.com/docs/kratos/reference/api#tag/frontend/operation/toSession
"""

import asyncio
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

COOKIE = "ory_kratos_session"


@dataclass
class FakeKratos:
    """The server.

    sessions: by cookie value or token. status: answer to every request. silent: never answers. needs_aal2: cookies or
    tokens whose second factor is missing. asked: the headers of each request.
    """

    sessions: dict[str, dict[str, Any]] = field(default_factory=dict)
    needs_aal2: set[str] = field(default_factory=set)
    status: int = 0
    silent: bool = False
    asked: list[dict[str, str]] = field(default_factory=list)
    url: str = ""
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listens on a free port."""
        app = web.Application()
        app.router.add_get("/sessions/whoami", self._whoami)
        app.router.add_get("/health/ready", self._ready)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stops the server."""
        if self._runner:
            await self._runner.cleanup()

    def sign_in(self, *, lifetime_s: float = 3600, **identity: Any) -> str:
        """Creates a session of an identity with these fields and returns its cookie value or token."""
        proof = f"MTcz{uuid.uuid4().hex}=="
        now = datetime.now(UTC)
        self.sessions[proof] = {
            "id": str(uuid.uuid4()),
            "active": True,
            "expires_at": (now + timedelta(seconds=lifetime_s)).isoformat(),
            "authenticated_at": now.isoformat(),
            "authenticator_assurance_level": "aal1",
            "authentication_methods": [{"method": "password", "aal": "aal1", "completed_at": now.isoformat()}],
            "issued_at": now.isoformat(),
            "identity": {
                "id": str(uuid.uuid4()),
                "schema_id": "default",
                "schema_url": f"{self.url}/schemas/ZGVmYXVsdA",
                "state": "active",
                "traits": {"email": "somebody@example.com"},
                "metadata_public": None,
            }
            | identity,
        }
        return proof

    async def _ready(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"}, status=self.status or 200)

    async def _whoami(self, request: web.Request) -> web.Response:
        self.asked.append(dict(request.headers))
        if self.silent:
            await asyncio.sleep(30)
        if self.status:
            return web.json_response({"error": {"code": self.status}}, status=self.status)
        proof = request.headers.get("X-Session-Token") or request.cookies.get(COOKIE, "")
        if proof in self.needs_aal2:
            return _error(
                403,
                "Forbidden",
                "An active session was found but it does not fulfil the requested Authenticator Assurance Level.",
                id="session_aal2_required",
            )
        session = self.sessions.get(proof)
        if session is None:
            return _error(401, "Unauthorized", "No valid session credentials found in the request.")
        return web.json_response(session, headers={"X-Kratos-Authenticated-Identity-Id": session["identity"]["id"]})


def _error(code: int, status: str, reason: str, **more: str) -> web.Response:
    message = "The request could not be authorized"
    return web.json_response(
        {"error": {"code": code, "status": status, "reason": reason, "message": message} | more}, status=code
    )
