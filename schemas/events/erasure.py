"""Events of erasures."""

from typing import Literal

from schemas.events.base import Event


class ErasureRequested(Event):
    """Erasure of the call was requested: everything about it is deleted when no work on it is in progress."""

    type: Literal["erasure.requested"] = "erasure.requested"


class CallErased(Event):
    """Everything about the call except its ledger lines was deleted. Later events of the call are ignored."""

    type: Literal["call.erased"] = "call.erased"
