"""The XML that answers a voice request: stream the call, say something, go on."""

from typing import Protocol
from xml.sax.saxutils import escape, quoteattr

from gateway.carriers.base import FROM_PARAMETER, TO_PARAMETER, StreamInstructions, VoiceResponse

_HOLD_S = 3600  # a call whose XML has run out is hung up; this keeps it as long as a verb can


class VoicePlan(Protocol):
    """The settings of how a call goes on."""

    @property
    def say(self) -> str | None: ...
    @property
    def dial(self) -> str | None: ...
    @property
    def redirect(self) -> str | None: ...


def twiml(
    offer: StreamInstructions, plan: VoicePlan, *, query_token: bool = False, stream_attributes: str = ""
) -> VoiceResponse:
    """TwiML, and what speaks like it. query_token: the address itself carries the token."""
    url = with_token(offer) if query_token else offer.stream_url
    stream = (
        f'<Start><Stream url={quoteattr(url)} track="both_tracks" statusCallback={quoteattr(offer.status_url)}'
        f"{stream_attributes}>"
        f'<Parameter name="tenant" value={quoteattr(offer.tenant)}/>'
        f'<Parameter name="token" value={quoteattr(offer.token)}/>'
        f"{_parties(offer)}</Stream></Start>"
    )
    return response(stream, _said("Say", plan), _next(plan, "Sip", number_tag="") or f'<Pause length="{_HOLD_S}"/>')


def plivo_xml(offer: StreamInstructions, plan: VoicePlan) -> VoiceResponse:
    """Plivo's. It would send linear PCM by default, of which no page says the byte order."""
    stream = (
        '<Stream audioTrack="both" contentType="audio/x-mulaw;rate=8000" keepCallAlive="false" '
        f"statusCallbackUrl={quoteattr(offer.status_url)}>{escape(with_token(offer))}</Stream>"
    )
    on = _next(plan, "User", number_tag="Number")
    return response(stream, _said("Speak", plan), on or f'<Wait length="{_HOLD_S}"/>')


def response(*elements: str) -> VoiceResponse:
    """A document of these elements."""
    return VoiceResponse(f'<?xml version="1.0" encoding="UTF-8"?>\n<Response>{"".join(elements)}</Response>')


def with_token(offer: StreamInstructions) -> str:
    """The media socket's URL with the token in its query string."""
    return f"{offer.stream_url}?token={offer.token}" if offer.token else offer.stream_url


def _parties(offer: StreamInstructions) -> str:
    named = ((FROM_PARAMETER, offer.from_number), (TO_PARAMETER, offer.to_number))
    return "".join(f'<Parameter name="{name}" value={quoteattr(value)}/>' for name, value in named if value)


def _said(verb: str, plan: VoicePlan) -> str:
    return f"<{verb}>{escape(plan.say)}</{verb}>" if plan.say else ""


def _next(plan: VoicePlan, sip_tag: str, number_tag: str) -> str:
    if plan.redirect:
        return f"<Redirect>{escape(plan.redirect)}</Redirect>"
    if not plan.dial:
        return ""
    tag = sip_tag if plan.dial.startswith(("sip:", "sips:")) else number_tag
    target = f"<{tag}>{escape(plan.dial)}</{tag}>" if tag else escape(plan.dial)
    return f"<Dial>{target}</Dial>"
