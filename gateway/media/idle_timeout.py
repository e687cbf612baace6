"""Idle timeout of a media socket: the gateway closes a socket that is silent, or whose stream never starts.

A watcher checks every socket ten times a second, so a message itself costs nothing. A stream may be silent for a long
time, because the call is on hold. The answer to a ping shows that the other side still exists, so the gateway pings a
silent socket. AudioSocket has no pings; TCP keepalive replaces them there.
"""

from dataclasses import dataclass
from typing import Literal

from core.settings import GatewaySettings
from gateway.media.session import Session
from schemas.media import EosReason

TICK_S = 0.1
"""Interval at which the gateway checks its sockets (s)."""

_UNANSWERED = 3
"""Number of ping intervals without a message or an answer after which the other side counts as gone."""


@dataclass(frozen=True, slots=True)
class CloseDecision:
    """Decision to close a socket. label: for the metric of refused sockets; reason: of the stream's end."""

    label: str
    text: str
    reason: EosReason


class IdleTimeout:
    """Idle timeout of one open socket. Times are time.monotonic(). pings: the socket's protocol has pings."""

    def __init__(self, session: Session, now_s: float, *, pings: bool = True) -> None:
        self._session = session
        self._pings = pings
        self._opened_at = self._heard_at = self._alive_at = self._pinged_at = now_s
        self._messages = 0

    def check(self, now_s: float, limits: GatewaySettings) -> CloseDecision | Literal["ping"] | None:
        """Lets the session emit old audio. Returns a decision to close the socket, "ping" to ping it, or None."""
        session = self._session
        session.tick(now_s)
        if session.messages != self._messages:
            self._messages = session.messages
            self._heard_at = self._alive_at = now_s
        elif now_s - self._heard_at > limits.idle_timeout_s:
            text = f"no message for {limits.idle_timeout_s:g} s: AUDIOTEXT_GATEWAY__IDLE_TIMEOUT_S"
            return CloseDecision("idle", text, EosReason.IDLE)
        if not session.started and now_s - self._opened_at > limits.start_timeout_s:
            text = f"no start within {limits.start_timeout_s:g} s: AUDIOTEXT_GATEWAY__START_TIMEOUT_S"
            return CloseDecision("late-start", text, EosReason.PROTOCOL_ERROR)
        return self._ping(now_s, limits) if self._pings else None

    def answered(self, now_s: float) -> None:
        """Records that the other side answered a ping, or sent one."""
        self._alive_at = now_s

    def _ping(self, now_s: float, limits: GatewaySettings) -> CloseDecision | Literal["ping"] | None:
        silent_s = now_s - self._alive_at
        if silent_s > _UNANSWERED * limits.ping_interval_s:
            text = f"no message and no answer to a ping for {silent_s:.0f} s: AUDIOTEXT_GATEWAY__PING_INTERVAL_S"
            return CloseDecision("peer-gone", text, EosReason.PEER_GONE)
        if silent_s < limits.ping_interval_s or now_s - self._pinged_at < limits.ping_interval_s:
            return None
        self._pinged_at = now_s
        return "ping"
