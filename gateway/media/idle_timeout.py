"""When a socket has to go because it says nothing, or never starts. Looked at from outside, ten times a second, so that
a message costs nothing."""

from dataclasses import dataclass

from core.settings import GatewaySettings
from gateway.media.session import Session

TICK_S = 0.1
"""How often sockets are looked at."""


@dataclass(frozen=True, slots=True)
class CloseDecision:
    """Why a socket is to be closed. label: for the metric of refused sockets."""

    label: str
    text: str


class IdleTimeout:
    """An open socket's session. Times are time.monotonic()."""

    def __init__(self, session: Session, now_s: float) -> None:
        self._session = session
        self._opened_at = self._heard_at = now_s
        self._messages = 0

    def check(self, now_s: float, limits: GatewaySettings) -> CloseDecision | None:
        """Lets the session hand on what is due; a verdict if the socket has to go."""
        session = self._session
        session.tick(now_s)
        if session.messages != self._messages:
            self._messages, self._heard_at = session.messages, now_s
        elif now_s - self._heard_at > limits.idle_timeout_s:
            return CloseDecision(
                "idle", f"no message for {limits.idle_timeout_s:g} s: AUDIOTEXT_GATEWAY__IDLE_TIMEOUT_S"
            )
        if not session.started and now_s - self._opened_at > limits.start_timeout_s:
            text = f"no start within {limits.start_timeout_s:g} s: AUDIOTEXT_GATEWAY__START_TIMEOUT_S"
            return CloseDecision("late-start", text)
        return None
