"""What a carrier's webhook says, however it says it: as a form, as a JSON object, or in the query string."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import msgspec

from gateway.carriers.base import MAX_ID_LENGTH, CallReport, CarrierError, IncomingRequest
from gateway.carriers.common.json_wire import REFUSALS, texts
from gateway.carriers.common.parties import parties
from gateway.carriers.common.text_repair import repair

T = TypeVar("T")

OVER = frozenset({"completed", "busy", "failed", "no-answer", "canceled", "cancelled", "rejected", "timeout"})
"""Statuses that the carriers agree upon: the call has ended."""

MOST_FIELDS = 500
"""Of a form; they send some forty, and sorting thousands is what a forger would have us do."""

_FORM = "application/x-www-form-urlencoded"

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def read_form(content_type: str, body: bytes) -> Sequence[tuple[str, str]]:
    """The fields of a body that is a form, else none. Raises ValueError if they are more than MOST_FIELDS.

    content_type: without parameters. Not the HTTP library's way: nobody is authorized yet, and that fails on what is no
    well-formed form.
    """
    if content_type != _FORM:
        return ()
    return parse_qsl(body.decode(errors="replace"), keep_blank_values=True, max_num_fields=MOST_FIELDS)


def fields(proof: IncomingRequest) -> Mapping[str, str]:
    """Its fields by name, a value that is no string as JSON. Raises CarrierError for a body that is no JSON object."""
    if proof.form:
        return dict(proof.form)
    if proof.body:
        return texts(read_json(_decode, proof.body))
    return dict(parse_qsl(urlsplit(proof.target).query, keep_blank_values=True))


def read_json(decode: Callable[[bytes], T], body: bytes) -> T:
    """A webhook's JSON body, repaired if its text is damaged. Raises CarrierError."""
    try:
        try:
            return decode(body)
        except REFUSALS:
            repaired = repair(body)
            if repaired is None:
                raise
            return decode(repaired.data)
    except REFUSALS as error:
        raise CarrierError(f"malformed webhook: {error}") from None


def first(told: Mapping[str, str], *names: str) -> str:
    """The first of these fields that says something, at most as long as an id may be."""
    return next((told[name] for name in names if told.get(name)), "")[:MAX_ID_LENGTH]


def call_report(
    told: Mapping[str, str],
    *,
    call: Collection[str],
    status: Collection[str],
    stream: Collection[str] = (),
    key: Collection[str] = (),
    reason: Collection[str] = (),
) -> CallReport | None:
    """The report in these fields, each under the first of its names that is there; None without call or status."""
    call_id, word = first(told, *call), first(told, *status)
    if not call_id or not word:
        return None
    from_number, to_number = parties(told)
    return CallReport(
        call_id=call_id,
        from_number=from_number,
        to_number=to_number,
        status=word,
        stream_id=first(told, *stream),
        over=word.lower() in OVER,
        key=first(told, *key),
        reason=first(told, *reason),
    )
