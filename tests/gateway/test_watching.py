"""When a socket has to go. The clock is the test's."""

import pytest

from audiotext.settings import GatewaySettings
from gateway.watching import Verdict, Watched
from tests.gateway.carriers.talk import session_for
from tests.gateway.wire import Remembering, media, start

LIMITS = GatewaySettings(idle_timeout_s=60, start_timeout_s=10, max_speed=2)


def label(verdict: Verdict | None) -> str:
    return verdict.label if verdict else ""


def test_a_socket_that_never_starts_has_to_go() -> None:
    """Says something now and then, but no start: closed after its time, however lively. Slow-loris sockets would pile
    up otherwise."""
    session = session_for("twilio", Remembering())
    watched = Watched(session, 0.0)
    for second in range(1, 11):
        session.on_text(b'{"event":"connected"}')
        assert watched.look(float(second), LIMITS) is None
    assert label(watched.look(10.1, LIMITS)) == "late-start"


def test_a_silent_stream_has_to_go_and_a_talking_one_stays() -> None:
    """Starts and talks once a minute, then no more."""
    session = session_for("twilio", Remembering())
    watched = Watched(session, 0.0)
    session.on_text(start())
    for minute in range(5):
        session.on_text(media(minute))
        assert watched.look(minute * 60.0 + 1, LIMITS) is None
    assert watched.look(300.0, LIMITS) is None
    assert label(watched.look(302.0, LIMITS)) == "idle"


@pytest.mark.parametrize(("frames", "expected"), [(40, ""), (130, "too-fast")])
def test_more_audio_than_a_call_can_have_has_to_go(frames: int, expected: str) -> None:
    """Sends one-second frames: a minute may come at once, as from a carrier that was held up; far more than the
    configured multiple of real time is a flood."""
    session = session_for("twilio", Remembering())
    watched = Watched(session, 0.0)
    session.on_text(start())
    for number in range(frames):
        session.on_text(media(number).replace(b'"payload": "', b'"payload": "' + b"AAAA" * (10_240 // 4)))
    assert label(watched.look(0.1, LIMITS)) == expected


def test_a_flood_of_small_messages_has_to_go() -> None:
    """Sends messages without audio, faster than any call."""
    session = session_for("twilio", Remembering())
    watched = Watched(session, 0.0)
    session.on_text(start())
    for _ in range(13_000):
        session.on_text(b'{"event":"connected"}')
    verdict = watched.look(0.1, LIMITS)
    assert label(verdict) == "too-fast"
    assert verdict is not None
    assert "MAX_SPEED" in verdict.text
