"""Fields of a carrier's webhook: from a form, a JSON object, or the query string."""

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
"""Statuses that mean, for every carrier, that the call has ended."""

MAX_FIELDS = 500
"""Limit of fields in a form. Carriers send about forty; an attacker could send thousands, which are slow to sort."""

_FORM = "application/x-www-form-urlencoded"

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def read_form(content_type: str, body: bytes) -> Sequence[tuple[str, str]]:
    """Returns the fields of a form, or () for another body. Raises ValueError for more than MAX_FIELDS fields.

    content_type: without parameters. The HTTP library's parser is not used here: the client is not yet authenticated,
    and that parser fails on a malformed form.
    """
    if content_type != _FORM:
        return ()
    return parse_qsl(body.decode(errors="replace"), keep_blank_values=True, max_num_fields=MAX_FIELDS)


def fields(request: IncomingRequest) -> Mapping[str, str]:
    """Returns the fields by name, each as a string or JSON. Raises CarrierError if the body is not a JSON object."""
    if request.form:
        return dict(request.form)
    if request.body:
        return texts(read_json(_decode, request.body))
    return dict(parse_qsl(urlsplit(request.target).query, keep_blank_values=True))


def read_json(decode: Callable[[bytes], T], body: bytes) -> T:
    """Returns a webhook's decoded JSON body, repaired if its text is damaged. Raises CarrierError."""
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


def first(values: Mapping[str, str], *names: str) -> str:
    """Returns the first of these fields that is not empty, cut to MAX_ID_LENGTH characters."""
    return next((values[name] for name in names if values.get(name)), "")[:MAX_ID_LENGTH]


def call_report(
    values: Mapping[str, str],
    *,
    call: Collection[str],
    status: Collection[str],
    stream: Collection[str] = (),
    key: Collection[str] = (),
    reason: Collection[str] = (),
) -> CallReport | None:
    """Returns the report in these fields: the first of each list of names. None if call or status is missing."""
    call_id, status_text = first(values, *call), first(values, *status)
    if not call_id or not status_text:
        return None
    from_number, to_number = parties(values)
    return CallReport(
        call_id=call_id,
        from_number=from_number,
        to_number=to_number,
        status=status_text,
        stream_id=first(values, *stream),
        over=status_text.lower() in OVER,
        key=first(values, *key),
        reason=first(values, *reason),
    )
