"""When a socket has to go. The clock is the test's."""

from core.settings import GatewaySettings
from gateway.media.idle_timeout import CloseDecision, IdleTimeout
from tests.gateway.carriers.talk import session_for
from tests.gateway.wire import Remembering, media, start

LIMITS = GatewaySettings(idle_timeout_s=60, start_timeout_s=10)


def label(verdict: CloseDecision | None) -> str:
    return verdict.label if verdict else ""


def test_a_socket_that_never_starts_has_to_go() -> None:
    """Says something now and then, but no start: closed after its time, however lively. Slow-loris sockets would pile
    up otherwise."""
    session = session_for("twilio", Remembering())
    watched = IdleTimeout(session, 0.0)
    for second in range(1, 11):
        session.on_text(b'{"event":"connected"}')
        assert watched.check(float(second), LIMITS) is None
    assert label(watched.check(10.1, LIMITS)) == "late-start"


def test_a_silent_stream_has_to_go_and_a_talking_one_stays() -> None:
    """Starts and talks once a minute, then no more."""
    session = session_for("twilio", Remembering())
    watched = IdleTimeout(session, 0.0)
    session.on_text(start())
    for minute in range(5):
        session.on_text(media(minute))
        assert watched.check(minute * 60.0 + 1, LIMITS) is None
    assert watched.check(300.0, LIMITS) is None
    assert label(watched.check(302.0, LIMITS)) == "idle"
