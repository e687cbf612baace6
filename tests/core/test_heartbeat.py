"""The heartbeat, between a service and whoever started it."""

from core.heartbeat import Heartbeat, WatchdogSocket


def test_what_is_told_is_heard_once() -> None:
    """The first beat is told at once, as systemd wants it; what was heard is not heard again, or a service that hangs
    would be taken for alive."""
    listener = WatchdogSocket()
    heart = Heartbeat(listener.environment["NOTIFY_SOCKET"])
    assert not listener.heard()
    assert heart.age_s == 0  # nothing is expected before the first
    heart.beat()
    heart.beat()
    assert listener.heard()
    assert not listener.heard()
    listener.close()


def test_nobody_has_to_listen() -> None:
    """Run by hand, or by somebody who is gone: the service must not notice."""
    Heartbeat().beat()
    listener = WatchdogSocket()
    heart = Heartbeat(listener.environment["NOTIFY_SOCKET"])
    listener.close()
    heart.beat()
    Heartbeat("/no/such/socket").beat()
