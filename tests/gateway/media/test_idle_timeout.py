"""Tests of the idle timeout. The test controls the clock."""

from core.settings import GatewaySettings
from gateway.media.idle_timeout import CloseDecision, IdleTimeout
from schemas.media import EosReason
from tests.support.carrier_messages import session_for
from tests.support.twilio_messages import MemorySink, media, start

LIMITS = GatewaySettings(idle_timeout_s=3600, start_timeout_s=10, ping_interval_s=30)


def label(verdict: object) -> str:
    return verdict.label if isinstance(verdict, CloseDecision) else ""


def test_a_socket_that_never_starts_is_closed() -> None:
    """Sends messages, but no start: the socket is closed after the start time-out.

    If this fails, slow-loris sockets accumulate.
    """
    session = session_for("twilio", MemorySink())
    watched = IdleTimeout(session, 0.0)
    for second in range(1, 11):
        session.on_text(b'{"event":"connected"}')
        assert watched.check(float(second), LIMITS) is None
    assert label(watched.check(10.1, LIMITS)) == "late-start"


def test_a_call_on_hold_stays_while_pings_are_answered() -> None:
    """Starts a stream and is silent for an hour, but answers every ping: the socket stays until the idle time.

    It is pinged every 30 s. Music on hold may be silence, and a closed socket loses the rest of the call.
    """
    session = session_for("twilio", MemorySink())
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


def test_a_stream_without_answers_to_pings_is_closed() -> None:
    """Starts a stream, then sends nothing and answers no ping: the socket is closed after 90 s and three pings.

    Such a peer sends no FIN; without the close the call would stay live.
    """
    session = session_for("twilio", MemorySink())
    watched = IdleTimeout(session, 0.0)
    session.on_text(start())
    watched.check(0.0, LIMITS)
    found = [watched.check(float(second), LIMITS) for second in range(1, 92)]
    assert [second for second, one in enumerate(found, 1) if one == "ping"] == [30, 60, 90]
    verdict = found[-1]
    assert isinstance(verdict, CloseDecision)
    assert (verdict.label, verdict.reason) == ("peer-gone", EosReason.PEER_GONE)


def test_a_stream_with_messages_is_not_pinged() -> None:
    """Sends a message every 20 s for ten minutes: the socket is neither pinged nor closed."""
    session = session_for("twilio", MemorySink())
    watched = IdleTimeout(session, 0.0)
    session.on_text(start())
    for number in range(30):
        session.on_text(media(number))
        assert watched.check(number * 20.0, LIMITS) is None


def test_a_protocol_without_pings() -> None:
    """Checks a silent connection of a protocol without pings: it stays open until the idle time."""
    session = session_for("twilio", MemorySink())
    watched = IdleTimeout(session, 0.0, pings=False)
    session.on_text(start())
    assert all(watched.check(float(second), LIMITS) is None for second in range(0, 3601, 10))
    assert label(watched.check(3601.0, LIMITS)) == "idle"
