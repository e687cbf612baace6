"""Orders that cost money: the durable record of one, and the decision what a worker may do. Pure.

The record is written before the order is placed. A worker that wants to order claims the order first, which object
storage allows only one of several workers to do, and may order only within a short window after that. If the outcome
of that is unknown, the provider is queried, and no worker orders again before the window is long over: until then a
request may still be on its way.
"""

from dataclasses import dataclass
from typing import Literal

from schemas.events import Frozen


class OrderRecord(Frozen):
    """Durable state of an order.

    claimed: it may be under way. Only the worker that wrote `token` may place it; others may claim it from
    `expires_at_ms` on (ms since the epoch). submitted: the provider has it as `remote_id`. done: its result is stored
    and the provider keeps nothing. So a submitted order whose result is stored still has to be released.
    """

    state: Literal["claimed", "submitted", "done"]
    token: str = ""
    expires_at_ms: int = 0
    remote_id: str = ""


@dataclass(frozen=True, slots=True)
class PlaceOrder:
    """No worker has ordered or is about to: claim the order, then place it."""


@dataclass(frozen=True, slots=True)
class AdoptOrder:
    """The provider has the order, but its id was not recorded: record it, then collect the result."""

    remote_id: str


@dataclass(frozen=True, slots=True)
class PollResult:
    """The order is placed: collect the result."""

    remote_id: str


@dataclass(frozen=True, slots=True)
class WaitForLease:
    """Another worker may be ordering right now: look again after `seconds`."""

    seconds: float


def next_action(
    order: OrderRecord | None, found: str | None, asked_ms: int
) -> PlaceOrder | AdoptOrder | PollResult | WaitForLease:
    """Returns the next action for a job that has no result yet. Pure.

    found: the id that the provider returned for the job's key, queried after the order was read; it is only needed for
    a claimed order. asked_ms: the clock before that query. A later reading would be wrong: "no such order" says nothing
    about a request that arrived after the query, and this process may have been frozen since.
    """
    if order is None:
        return PlaceOrder()  # a record precedes every order
    if order.state != "claimed":
        return PollResult(order.remote_id)
    if found is not None:
        return AdoptOrder(found)
    if asked_ms < order.expires_at_ms:
        return WaitForLease((order.expires_at_ms - asked_ms) / 1000)
    return PlaceOrder()
