"""The XML that answers a voice request: stream the call, say something, go on."""

from typing import Protocol
from xml.sax.saxutils import escape, quoteattr

from gateway.carriers import Answer, Offer

_HOLD_S = 3600  # a call whose XML has run out is hung up; this keeps it as long as a verb can


class Plan(Protocol):
    """The settings of how a call goes on."""

    @property
    def say(self) -> str | None: ...
    @property
    def dial(self) -> str | None: ...
    @property
    def redirect(self) -> str | None: ...


def twiml(offer: Offer, plan: Plan, *, query_token: bool = False, stream_attributes: str = "") -> Answer:
    """TwiML, and what speaks like it. query_token: the address itself carries the token."""
    url = with_token(offer) if query_token else offer.stream_url
    stream = (
        f'<Start><Stream url={quoteattr(url)} track="both_tracks" statusCallback={quoteattr(offer.status_url)}'
        f"{stream_attributes}>"
        f'<Parameter name="tenant" value={quoteattr(offer.tenant)}/>'
        f'<Parameter name="token" value={quoteattr(offer.token)}/>'
        "</Stream></Start>"
    )
    return response(stream, _said("Say", plan), _next(plan, "Sip", number_tag="") or f'<Pause length="{_HOLD_S}"/>')


def plivo_xml(offer: Offer, plan: Plan) -> Answer:
    """Plivo's. Without a way to go on, the stream itself keeps the call."""
    on = _next(plan, "User", number_tag="Number")
    stream = (
        f'<Stream audioTrack="both" keepCallAlive="{"false" if on else "true"}" '
        f"statusCallbackUrl={quoteattr(offer.status_url)}>{escape(with_token(offer))}</Stream>"
    )
    said = _said("Speak", plan)
    # A stream that keeps the call alive lets nothing after it happen before it ends.
    return response(stream, said, on) if on else response(said, stream)


def response(*elements: str) -> Answer:
    """A document of these elements."""
    return Answer(f'<?xml version="1.0" encoding="UTF-8"?>\n<Response>{"".join(elements)}</Response>')


def with_token(offer: Offer) -> str:
    """The media socket's URL with the token in its query string."""
    return f"{offer.stream_url}?token={offer.token}" if offer.token else offer.stream_url


def _said(verb: str, plan: Plan) -> str:
    return f"<{verb}>{escape(plan.say)}</{verb}>" if plan.say else ""


def _next(plan: Plan, sip_tag: str, number_tag: str) -> str:
    if plan.redirect:
        return f"<Redirect>{escape(plan.redirect)}</Redirect>"
    if not plan.dial:
        return ""
    tag = sip_tag if plan.dial.startswith(("sip:", "sips:")) else number_tag
    target = f"<{tag}>{escape(plan.dial)}</{tag}>" if tag else escape(plan.dial)
    return f"<Dial>{target}</Dial>"
