"""When a socket has to go: it says nothing, never starts, or sends more than a call can. Looked at from outside, ten
times a second, so that a message costs nothing."""

from dataclasses import dataclass

from audiotext.settings import GatewaySettings
from gateway.session import Session

TICK_S = 0.1
"""How often sockets are looked at."""

_BURST_S = 60.0  # audio that may come at once: a carrier that was held up empties its buffers
_MESSAGES_PER_S = 200  # of a stream in real time: two tracks in frames of 10 ms
_TRACKS = 2


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a socket is to be closed. label: for the metric of refused sockets."""

    label: str
    text: str


class Watched:
    """An open socket's session. Times are time.monotonic()."""

    def __init__(self, session: Session, now_s: float) -> None:
        self._session = session
        self._opened_at = self._heard_at = now_s
        self._messages = 0

    def look(self, now_s: float, limits: GatewaySettings) -> Verdict | None:
        """Lets the session hand on what is due; a verdict if the socket has to go."""
        session = self._session
        session.tick(now_s)
        if session.messages != self._messages:
            self._messages, self._heard_at = session.messages, now_s
        elif now_s - self._heard_at > limits.idle_timeout_s:
            return Verdict("idle", f"no message for {limits.idle_timeout_s:g} s: AUDIOTEXT_GATEWAY__IDLE_TIMEOUT_S")
        if not session.started and now_s - self._opened_at > limits.start_timeout_s:
            text = f"no start within {limits.start_timeout_s:g} s: AUDIOTEXT_GATEWAY__START_TIMEOUT_S"
            return Verdict("late-start", text)
        allowed_s = _BURST_S + limits.max_speed * (now_s - self._opened_at)
        if session.messages > allowed_s * _MESSAGES_PER_S or session.audio_s > allowed_s * _TRACKS:
            return Verdict("too-fast", f"more than {limits.max_speed:g} times real time: AUDIOTEXT_GATEWAY__MAX_SPEED")
        return None
