"""When a socket has to go because it says nothing, or never starts. Looked at from outside, ten times a second, so that
a message costs nothing.

A stream may be silent for long: the call is on hold. What tells it from a stream whose other side is gone is the
answer to a ping, so a silent socket is pinged. AudioSocket has no pings; TCP itself finds out there.
"""

from dataclasses import dataclass
from typing import Literal

from core.settings import GatewaySettings
from gateway.media.session import Session
from schemas.media import EosReason

TICK_S = 0.1
"""How often sockets are looked at."""

_UNANSWERED = 3
"""Ping intervals without any sign of life after which the other side is gone."""


@dataclass(frozen=True, slots=True)
class CloseDecision:
    """Why a socket is to be closed. label: for the metric of refused sockets; reason: its stream's end."""

    label: str
    text: str
    reason: EosReason


class IdleTimeout:
    """An open socket's session. Times are time.monotonic(). pings: whether its protocol has them."""

    def __init__(self, session: Session, now_s: float, *, pings: bool = True) -> None:
        self._session = session
        self._pings = pings
        self._opened_at = self._heard_at = self._alive_at = self._pinged_at = now_s
        self._messages = 0

    def check(self, now_s: float, limits: GatewaySettings) -> CloseDecision | Literal["ping"] | None:
        """Lets the session hand on what is due; a verdict if the socket has to go, "ping" if it is to be pinged."""
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
        """The other side answered a ping, or sent one."""
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
