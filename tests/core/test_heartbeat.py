"""Tests of the heartbeat between a service and its supervisor."""

from core.heartbeat import Heartbeat, WatchdogSocket


def test_a_beat_is_received_once() -> None:
    """Sends two beats and reads the socket twice.

    systemd requires that the first beat is sent at once. The second read must find nothing; otherwise an old beat would
    make a hung service look alive.
    """
    watchdog = WatchdogSocket()
    heartbeat = Heartbeat(watchdog.environment["NOTIFY_SOCKET"])
    assert not watchdog.received()
    assert heartbeat.age_s == 0  # the watchdog starts with the first beat
    heartbeat.beat()
    heartbeat.beat()
    assert watchdog.received()
    assert not watchdog.received()
    watchdog.close()


def test_a_beat_without_a_listener_does_not_fail() -> None:
    """Beats without a socket, with a closed listener and with a missing socket: none may raise.

    A failure means that a service started by hand, or orphaned by its supervisor, stops.
    """
    Heartbeat().beat()
    watchdog = WatchdogSocket()
    heartbeat = Heartbeat(watchdog.environment["NOTIFY_SOCKET"])
    watchdog.close()
    heartbeat.beat()
    Heartbeat("/no/such/socket").beat()
