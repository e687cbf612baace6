"""Plays the calls and stores each frame with the time when it left."""

import asyncio
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from gateway.carriers.base import Frame
from gateway.simulator import CallRefusedError, play
from tests.chaos.plans import CallPlan, write_audio
from tests.support.up_process import TWILIO_TOKEN, UpProcess

_REDIAL_S = 0.3


class Ending(StrEnum):
    """Way in which a stream ended."""

    STOPPED = "stopped"
    CUT = "cut"  # by the carrier, without a stop
    BROKEN = "broken"  # by the gateway
    REFUSED = "refused"  # nobody there, or on its way out: not one message was sent
    LIVE = "live"


@dataclass(slots=True)
class Stream:
    """A media stream from the carrier's view. Times are time.monotonic().

    sent: each media message and the time when it left, with repetitions.
    """

    stream_id: str
    began: float
    digits: int
    sent: list[tuple[float, Frame]] = field(default_factory=list)
    ending: Ending = Ending.LIVE
    ended: float = 0.0
    why: str = ""


@dataclass(slots=True)
class Call:
    """A call and its real streams. refused: times (time.monotonic()) when the gateway refused it at first."""

    plan: CallPlan
    refused: list[float] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)

    @property
    def broken(self) -> bool:
        """True if the gateway ended one of its streams."""
        return any(stream.ending is Ending.BROKEN for stream in self.streams)


async def make(plan: CallPlan, up: UpProcess, folder: Path, over: Callable[[], bool]) -> Call:
    """Plays the call, leg by leg.

    It retries a gateway that is not available. A stream that the gateway breaks is over; if the call `redials`, a new
    stream follows. over: set when no more calls may be played.
    """
    call = Call(plan)
    for number, leg in enumerate(plan.legs):
        await asyncio.sleep(leg.after_s)
        audio = await asyncio.to_thread(write_audio, plan, number, folder)
        while True:
            stream = await _stream(call, number, audio, up)
            if stream.ending is Ending.REFUSED:
                call.refused.append(stream.ended)
                call.streams.remove(stream)
            elif stream.ending is not Ending.BROKEN or not plan.redials:
                break
            if over():
                break
            await asyncio.sleep(_REDIAL_S)
        audio.unlink()
    return call


async def _stream(call: Call, number: int, audio: Path, up: UpProcess) -> Stream:
    leg = call.plan.legs[number]
    stream = Stream(f"MZ{uuid.uuid4().hex}", time.monotonic(), len(leg.dtmf))
    call.streams.append(stream)
    try:
        await play(
            audio,
            url=up.media_url,
            auth_token=TWILIO_TOKEN,
            public_url=up.url,
            call_id=call.plan.call_id,
            stream_id=stream.stream_id,
            codec=leg.codec,
            faults=leg.faults,
            dtmf=leg.dtmf,
            on_sent=lambda frame: stream.sent.append((time.monotonic(), frame)),
        )
        stream.ending = Ending.STOPPED if leg.faults.drop_at_ms is None else Ending.CUT
    except CallRefusedError as error:
        stream.why = str(error)
        # Before the first frame has left, these are all there can be: the upgrade was not answered, or with a 503.
        refused = "Cannot connect" in stream.why or "refused the call" in stream.why
        stream.ending = Ending.REFUSED if refused and not stream.sent else Ending.BROKEN
    stream.ended = time.monotonic()
    return stream
