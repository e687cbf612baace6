"""Random and broken messages for every dialect, by seed: `python -m tests.support.carrier_fuzzing 1000000`."""

import argparse
import gc
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gateway.carriers.base import CarrierError, Frame, StreamStart
from gateway.carriers.common.media_format import normaliser
from gateway.simulator.encoders import load_dialects
from schemas.codecs import PayloadError
from tests.support.carrier_messages import CARRIERS, frame_bytes, new_decoder, spoken

SEED = 20261122
"""Of the first messages; a long run counts on from here, so that what it finds can be found again."""

_AT_ONCE = 50_000  # messages of one seed in a long run

Say = str | bytes

_VALUES: Sequence[Callable[[random.Random], Any]] = (
    lambda _: None,
    lambda chance: chance.random() < 0.5,
    lambda chance: chance.choice([0, -1, 1, 2**31, 2**53, 2**63, 2**64, 10**400]),
    lambda chance: chance.uniform(-1e308, 1e308),
    lambda chance: "".join(map(chr, chance.choices(range(1, 0xD800), k=chance.randrange(8)))),
    lambda chance: chance.choice(["", "inbound", "NaN", "1e999", "AAAA", "\ud800", "start", "audio/l16;rate=99999999"]),
    lambda chance: [chance.random()] * chance.randrange(4),
    lambda chance: {"event": chance.choice(["start", "media", "x"])},
)


def corpus(name: str) -> list[list[Say]]:
    """Returns valid messages of a few sockets, in every format of the carrier."""
    dialect = load_dialects()[name]
    calls = []
    for audio in dialect.formats:
        frames = [bytes([number]) * frame_bytes(audio, dialect.frame_ms) for number in range(3)]
        calls += spoken(name, audio, {"inbound": frames, "outbound": frames}, custom={"k": "v"}, digit="1")
    return calls


def messages(name: str, seed: int, count: int) -> Iterator[tuple[bool, Say]]:
    """Yields the messages, each with True if it is the first of a new socket."""
    chance = random.Random(f"{name} {seed}")
    calls = corpus(name)
    while count > 0:
        call = chance.choice(calls)
        for number, message in enumerate(call):
            yield number == 0, _mutated(chance, message, chance.choice(call))
            count -= 1


def fuzz(name: str, seed: int, count: int) -> int:
    """Decodes that many messages and returns how many were valid. Raises every error except CarrierError."""
    understood = 0
    decoder, normalise = new_decoder(name), None
    for first, message in messages(name, seed, count):
        if first:
            decoder, normalise = new_decoder(name), None
        try:
            data = message.encode(errors="surrogatepass") if isinstance(message, str) else message
            found = decoder.text(data) if isinstance(message, str) else decoder.binary(data)
            for one in found:
                if isinstance(one, StreamStart):
                    normalise = normaliser(one.codec, one.byte_order)
                    # These become keys, headers and JSON on the log.
                    json.dumps([one.call_id, one.stream_id, one.custom], ensure_ascii=False).encode()
                elif isinstance(one, Frame) and normalise is not None:
                    normalise(one.payload)
        except (CarrierError, PayloadError):
            continue
        understood += 1
    return understood


def _mutated(chance: random.Random, message: Say, other: Say) -> Say:
    """Returns the message unchanged, broken, or replaced by a random one."""
    dice = chance.random()
    if dice < 0.3:
        return message
    if dice < 0.9:
        return _broken(chance, message, other)
    noise = chance.randbytes(chance.randrange(400))
    return noise if chance.random() < 0.5 else noise.decode(errors="surrogateescape")


def _broken(chance: random.Random, message: Say, other: Say) -> Say:
    if isinstance(message, str):
        if chance.random() < 0.5:
            return _retyped(chance, message)
        return _cut(chance, message.encode(), other).decode(errors="surrogateescape")
    return _cut(chance, message, other)


def _cut(chance: random.Random, message: bytes, other: Say) -> bytes:
    """Replaces a part of the message by random bytes, by nothing, or by a part of another message."""
    begin = chance.randrange(len(message) + 1)
    end = min(len(message), begin + chance.randrange(1 + chance.choice([1, 4, len(message)])))
    donor = other.encode() if isinstance(other, str) else other
    start = chance.randrange(len(donor) + 1)
    piece = chance.choice([b"", chance.randbytes(chance.randrange(12)), donor[start : start + 40]])
    return message[:begin] + piece + message[end:]


def _retyped(chance: random.Random, message: str) -> str:
    """Replaces or removes one value at any depth."""
    told = json.loads(message)
    place = told
    name = chance.choice(sorted(place))
    while isinstance(place[name], dict) and place[name] and chance.random() < 0.8:
        place = place[name]
        name = chance.choice(sorted(place))
    if chance.random() < 0.1:
        del place[name]
    else:
        place[name] = chance.choice(_VALUES)(chance)
    return json.dumps(told)


def _resident_kib() -> int:
    """Returns the resident memory of this process in KiB."""
    gc.collect()
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmRSS:")).split()[1])


def _run_long(name: str, count: int, seed: int) -> str:
    """Decodes messages and returns a row of a table. An unexpected error has a note with its seed."""
    began, understood, early = time.monotonic(), 0, 0
    for done in range(0, count, _AT_ONCE):
        at = seed + done // _AT_ONCE
        try:
            understood += fuzz(name, at, min(_AT_ONCE, count - done))
        except Exception as error:
            error.add_note(f"found in {name} with --seed {at}")
            raise
        early = early or _resident_kib()
    took_s = time.monotonic() - began
    grown = _resident_kib() - early
    return f"| {name} | {count:,} | {understood:,} | {took_s:.0f} s | {early / 1024:.1f} MiB | {grown:+,} KiB |"


def main() -> None:
    """Runs many messages for the named carriers, or for all. Ends with the first unexpected error of a decoder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, help="messages per dialect")
    parser.add_argument("carriers", nargs="*", default=CARRIERS, metavar="carrier", help=", ".join(CARRIERS))
    parser.add_argument("--seed", type=int, default=SEED)
    asked = parser.parse_args()
    print(f"| dialect | messages | understood | took | memory after {_AT_ONCE:,} | and at the end |")
    print("|---|---|---|---|---|---|")
    for name in asked.carriers:
        print(_run_long(name, asked.count, asked.seed), flush=True)


if __name__ == "__main__":
    main()
