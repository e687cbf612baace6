"""Faults of the stack and their times: a schedule that depends only on its seed. No I/O."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """Kind of fault."""

    KILL = "SIGKILL"  # as the out-of-memory killer does
    END = "SIGTERM"  # as an update does
    PAUSE = "SIGSTOP"  # hangs, holds its connections, and goes on later
    CUT = "cut off"  # all connections to it are reset
    FILL = "disk full"
    LOSE = "SIGKILL, disk lost"
    SLOW = "slow"
    WRONG = "wrong"  # does what it is asked for, and says that it failed
    LIMIT = "rate-limited"
    VANISH = "absent"


@dataclass(frozen=True, slots=True)
class Card:
    """A kind of fault and its target. shortest_s, longest_s: its duration, if it has one."""

    action: Action
    target: str
    shortest_s: float = 0.0
    longest_s: float = 0.0

    def __str__(self) -> str:
        return f"{self.target} {self.action}"


@dataclass(frozen=True, slots=True)
class Fault:
    """A card with its time. at_s: seconds since the first call. for_s: duration."""

    at_s: float
    for_s: float
    card: Card


SERVICES = ("recorder", "transcriber", "summarizer", "embedder", "usage", "analytics", "replayer", "api", "gateway")
STORES = ("objects", "clickhouse", "qdrant")
SUPERVISOR = "supervisor"  # and with it everything but brokers of their own
PROVIDER = "provider"  # of speech to text, which is paid per order
FRONT = "log-front"  # the way to the embedded log, which itself is spared: it does not survive its own SIGKILL

_GATEWAY = "gateway"
# What a gateway holds when it is killed is bounded only while the log takes what it is given.
_APART_S = 3.0


def deck(brokers: Sequence[str], *, disk: bool) -> list[Card]:
    """Returns all possible faults.

    brokers: names of the nodes of the log; empty for the embedded log. disk: True if the recorder has its own disk,
    which can be filled.
    """
    # On a real broker whoever hangs for so long is thrown out of its group (see target.SESSION_S).
    longest_s = 9.0 if brokers else 4.0
    cards = [Card(Action.KILL, name) for name in (*SERVICES, *STORES, SUPERVISOR)]
    cards.append(Card(Action.LOSE, "recorder"))
    cards += [Card(Action.END, name) for name in ("gateway", "recorder", "transcriber", "embedder")]
    cards += [Card(Action.PAUSE, name, 1.0, longest_s) for name in (*SERVICES, *STORES)]
    cards += [Card(Action.CUT, name) for name in STORES]
    if brokers:
        for name in brokers:
            cards += [Card(Action.KILL, name, 1.0, 15.0), Card(Action.PAUSE, name, 1.0, 5.0), Card(Action.CUT, name)]
    else:
        cards += [Card(Action.KILL, FRONT), Card(Action.PAUSE, FRONT, 1.0, 4.0), Card(Action.CUT, FRONT)]
    cards += [Card(action, PROVIDER, 3.0, 10.0) for action in (Action.SLOW, Action.WRONG, Action.LIMIT, Action.VANISH)]
    if disk:
        cards.append(Card(Action.FILL, "recorder", 2.0, 4.0))
    return cards


def schedule(seed: int, cards: Sequence[Card], *, seconds: float, every_s: float) -> list[Fault]:
    """Returns one fault every `every_s` on average. Faults may overlap. Each card is used once before any is repeated.

    The end of the gateway keeps a distance to faults of the log (see the `Card`s of brokers), because the limit for
    lost audio is promised only for a working log.
    """
    chance = random.Random(f"faults {seed}")
    faults: list[Fault] = []
    waiting = _shuffled_for_ever(chance, cards)
    put_off: list[Card] = []
    at_s = every_s / 2
    while at_s < seconds:
        card = next((card for card in put_off if _fits(card, at_s, faults)), None)
        if card is not None:
            put_off.remove(card)
        while card is None:
            drawn = next(waiting)
            if _fits(drawn, at_s, faults):
                card = drawn
            else:
                put_off.append(drawn)
        faults.append(Fault(at_s, chance.uniform(card.shortest_s, card.longest_s), card))
        at_s += every_s * chance.uniform(0.5, 1.5)
    return faults


def _shuffled_for_ever(chance: random.Random, cards: Sequence[Card]) -> Iterator[Card]:
    while True:
        yield from chance.sample(list(cards), len(cards))


def _fits(card: Card, at_s: float, earlier: Sequence[Fault]) -> bool:
    """True if the card keeps its distance to the other faults."""
    lasting = [fault for fault in earlier if fault.at_s + fault.for_s + _APART_S > at_s]
    if any(fault.card.target == card.target for fault in lasting):
        return False
    if _ends_gateway(card):
        return not any(_holds_audio_up(fault.card) for fault in lasting)
    if _holds_audio_up(card):
        return not any(_ends_gateway(fault.card) for fault in lasting)
    return True


def _ends_gateway(card: Card) -> bool:
    return card.target == SUPERVISOR or (card.target == _GATEWAY and card.action in (Action.KILL, Action.END))


def _holds_audio_up(card: Card) -> bool:
    return card.target not in (*SERVICES, *STORES, SUPERVISOR, PROVIDER) or (
        card.target == _GATEWAY and card.action is Action.PAUSE
    )
