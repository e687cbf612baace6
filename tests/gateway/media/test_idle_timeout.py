"""When a socket has to go. The clock is the test's."""

from core.settings import GatewaySettings
from gateway.media.idle_timeout import CloseDecision, IdleTimeout
from schemas.media import EosReason
from tests.gateway.carriers.talk import session_for
from tests.gateway.wire import Remembering, media, start

LIMITS = GatewaySettings(idle_timeout_s=3600, start_timeout_s=10, ping_interval_s=30)


def label(verdict: object) -> str:
    return verdict.label if isinstance(verdict, CloseDecision) else ""


def test_a_socket_that_never_starts_has_to_go() -> None:
    """Says something now and then, but no start: closed after its time, however lively. Slow-loris sockets would pile
    up otherwise."""
    session = session_for("twilio", Remembering())
    watched = IdleTimeout(session, 0.0)
    for second in range(1, 11):
        session.on_text(b'{"event":"connected"}')
        assert watched.check(float(second), LIMITS) is None
    assert label(watched.check(10.1, LIMITS)) == "late-start"


def test_a_call_on_hold_stays_as_long_as_its_other_side_answers() -> None:
    """Starts, and then says nothing for an hour, but answers every ping: it stays, and is pinged every 30 s. Music on
    hold may be silence, and a closed socket loses the rest of the call. After an hour it has to go."""
    session = session_for("twilio", Remembering())
    watched = IdleTimeout(session, 0.0)
    session.on_text(start())
    watched.check(0.1, LIMITS)
    pings = []
    for second in range(1, 3601):
        found = watched.check(float(second), LIMITS)
        assert found in (None, "ping"), (second, found)
        if found == "ping":
            pings.append(second)
            watched.answered(second + 0.5)
    assert len(pings) == 3600 // 31
    verdict = watched.check(3600.2, LIMITS)
    assert isinstance(verdict, CloseDecision)
    assert (verdict.label, verdict.reason) == ("idle", EosReason.IDLE)


def test_a_stream_whose_other_side_is_gone_has_to_go() -> None:
    """Starts, and then neither speaks nor answers: pinged three times, and closed after 90 s. Such sockets leave no
    FIN, and the call would stay live."""
    session = session_for("twilio", Remembering())
    watched = IdleTimeout(session, 0.0)
    session.on_text(start())
    watched.check(0.0, LIMITS)
    found = [watched.check(float(second), LIMITS) for second in range(1, 92)]
    assert [second for second, one in enumerate(found, 1) if one == "ping"] == [30, 60, 90]
    verdict = found[-1]
    assert isinstance(verdict, CloseDecision)
    assert (verdict.label, verdict.reason) == ("peer-gone", EosReason.PEER_GONE)


def test_a_talking_stream_is_not_pinged() -> None:
    """Talks every 20 s for ten minutes: it is neither pinged nor closed."""
    session = session_for("twilio", Remembering())
    watched = IdleTimeout(session, 0.0)
    session.on_text(start())
    for number in range(30):
        session.on_text(media(number))
        assert watched.check(number * 20.0, LIMITS) is None


def test_a_protocol_without_pings() -> None:
    """Looks at a silent connection of a protocol without pings: it stays until the idle time."""
    session = session_for("twilio", Remembering())
    watched = IdleTimeout(session, 0.0, pings=False)
    session.on_text(start())
    assert all(watched.check(float(second), LIMITS) is None for second in range(0, 3601, 10))
    assert label(watched.check(3601.0, LIMITS)) == "idle"
