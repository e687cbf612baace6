"""Who may stream: the carrier's own proof or one of our stream tokens, and no more streams than the limits allow.

A socket is judged twice: by its upgrade request, and by its stream's start, which tells the call, the account and, of
carriers whose upgrade can carry nothing, the token.
"""

import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

import msgspec

from core.settings import Settings
from gateway.admission import stream_tokens
from gateway.admission.stream_tokens import PREFIX, StreamClaims, TokenError
from gateway.carriers.base import Authorization, Carrier, IncomingRequest, StreamStart, UnauthorizedError
from gateway.carriers.common.auth import basic_password, credentials
from gateway.media.session import Admit, SessionClosedError, StreamKey
from gateway.protection.client_limiter import ClientLimiter

TOKEN = "token"
"""What a stream token is called in a query string and among what a customer attaches to a stream."""

TOO_MANY_UNPROVEN = "too many sockets that have proved nothing yet; try again"
"""What is said when as many sockets wait for the token in their start as may at once."""


_UNBOUND_TTL_S = 120
"""How long a token that names no call is good: such a stream begins as soon as the carrier has our answer."""


@dataclass(frozen=True, slots=True)
class Admission:
    """How the start of a socket's stream will be judged. proven: whether the upgrade request proved anything."""

    judge: Admit
    proven: bool = True

    def __call__(self, start: StreamStart) -> tuple[str, StreamStart]:
        """Tenant and start. Raises SessionClosedError."""
        return self.judge(start)


class StreamAuthorizer:
    """The judge of every socket of this process. streams: those that live, with how many sockets each.
    gateway: its name on the log. strangers: who
    is told what addresses prove."""

    def __init__(self, settings: Settings, strangers: ClientLimiter | None = None) -> None:
        self.streams: Counter[StreamKey] = Counter()
        self.gateway = secrets.token_hex(6)
        self._settings = settings
        self.strangers = strangers or ClientLimiter(settings.gateway)
        secret = settings.gateway.stream_token_secret
        self._secret = secret.get_secret_value() if secret else ""
        # Which call has used a token that names none, and until when that must be remembered.
        self._used: dict[str, tuple[str, int]] = {}

    def issue(self, tenant: str, carrier: str, call_id: str) -> str:
        """A stream token for this call, "" if there is no secret. Without a call id: for the first that uses it."""
        if not self._secret:
            return ""
        ttl_s = self._settings.gateway.stream_token_ttl_s
        expires_s = int(time.time()) + (ttl_s if call_id else min(ttl_s, _UNBOUND_TTL_S))
        nonce = "" if call_id else secrets.token_urlsafe(9)
        return stream_tokens.issue(self._secret, StreamClaims(tenant, carrier, call_id, nonce, expires_s))

    def authorize(self, name: str, carrier: Carrier, proof: IncomingRequest) -> Admission:
        """How the start of a socket's stream will be judged, by its upgrade request. Raises UnauthorizedError."""
        token = _token_in(proof)
        if token:
            claims = self._claims(token, name, proof.at_s)
            self.strangers.authenticated(proof.peer)
            return Admission(lambda start: self._admit(name, Authorization(claims.tenant), claims, start))
        try:
            grant = carrier.authorize_socket(proof, self._settings)
        except UnauthorizedError:
            if not (carrier.token_at_start and self._secret):
                raise
            return Admission(lambda start: self._admit_unproven(name, proof.peer, start), proven=False)
        self.strangers.authenticated(proof.peer)
        return Admission(lambda start: self._admit(name, grant, None, start))

    def webhook(self, carrier: Carrier, proof: IncomingRequest) -> Authorization:
        """What a voice or status request proves. Raises UnauthorizedError."""
        grant = carrier.authorize_webhook(proof, self._settings)
        self.strangers.authenticated(proof.peer)
        return grant

    def of_tenant(self, tenant: str) -> Admit:
        """For streams that have been let in by other means."""
        return lambda start: (tenant, self._within_limits(tenant, start))

    def _admit_unproven(self, name: str, peer: str, start: StreamStart) -> tuple[str, StreamStart]:
        admitted = self._admit(name, None, None, start)
        self.strangers.authenticated(peer)
        return admitted

    def _admit(
        self, name: str, grant: Authorization | None, claims: StreamClaims | None, start: StreamStart
    ) -> tuple[str, StreamStart]:
        """Tenant and start, the token taken out of it. claims: of the token in the upgrade request."""
        given = start.custom.get(TOKEN, "")
        if given:
            start = msgspec.structs.replace(start, custom={k: v for k, v in start.custom.items() if k != TOKEN})
        try:
            if given.startswith(PREFIX):
                in_start = self._claims(given, name, time.time())
                if grant is not None and in_start.tenant != grant.tenant:
                    raise TokenError("a stream token of another tenant")
                self._bind(in_start, start.call_id)
                grant = grant or Authorization(in_start.tenant)
            if claims is not None:
                self._bind(claims, start.call_id)
        except (TokenError, UnauthorizedError) as error:
            raise SessionClosedError(1008, str(error), "unauthorized") from None
        if grant is None:
            raise SessionClosedError(1008, "no stream token in the stream's start", "unauthorized")
        if grant.account and start.account and grant.account != start.account:
            raise SessionClosedError(1008, "the stream is of another account", "unauthorized")
        return grant.tenant, self._within_limits(grant.tenant, start)

    def _claims(self, token: str, name: str, now_s: float) -> StreamClaims:
        try:
            claims = stream_tokens.verify(self._secret, token, now_s)
        except TokenError as error:
            raise UnauthorizedError(str(error)) from None
        if claims.carrier != name:
            raise UnauthorizedError(f"a stream token for {claims.carrier}, not {name}")
        return claims

    def _bind(self, claims: StreamClaims, call_id: str) -> None:
        """Lets a token be used by one call only. Raises TokenError for a second one."""
        bound = claims.call_id
        if not bound:
            now_s = time.time()
            self._used = {nonce: used for nonce, used in self._used.items() if used[1] > now_s}
            bound, _ = self._used.setdefault(claims.nonce, (call_id, claims.expires_s))
        if bound != call_id:
            raise TokenError("a stream token of another call")

    def _within_limits(self, tenant: str, start: StreamStart) -> StreamStart:
        limits = self._settings.gateway
        if (tenant, start.call_id, start.stream_id) in self.streams:
            return start  # a second socket of a stream that is there already
        calls = {call_id for whose, call_id, _ in self.streams if whose == tenant}
        if start.call_id not in calls:
            if len(calls) >= limits.max_calls_per_tenant:
                raise SessionClosedError(
                    1013, f"{len(calls)} calls at once: AUDIOTEXT_GATEWAY__MAX_CALLS_PER_TENANT", "tenant-calls"
                )
        else:
            streams = sum(key[:2] == (tenant, start.call_id) for key in self.streams)
            if streams >= limits.max_streams_per_call:
                raise SessionClosedError(
                    1008, f"{streams} streams of one call: AUDIOTEXT_GATEWAY__MAX_STREAMS_PER_CALL", "call-streams"
                )
        return start


def _token_in(proof: IncomingRequest) -> str:
    """A stream token in the query string, as a bearer token or as the password of Basic credentials; "" without."""
    candidates: tuple[Callable[[], str], ...] = (
        lambda: dict(parse_qsl(urlsplit(proof.target).query)).get(TOKEN, "") if "?" in proof.target else "",
        lambda: credentials(proof, "bearer"),
        lambda: basic_password(proof),
    )
    return next((token for one in candidates if (token := one()).startswith(PREFIX)), "")
