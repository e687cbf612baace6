"""XML answers to a voice request: stream the call, say a text, continue the call."""

from typing import Protocol
from xml.sax.saxutils import escape, quoteattr

from gateway.carriers.base import FROM_PARAMETER, TO_PARAMETER, StreamInstructions, VoiceResponse


class VoicePlan(Protocol):
    """Settings for the rest of a call."""

    @property
    def spoken(self) -> str:
        """Text to say first, or ""."""

    @property
    def message_s(self) -> int:
        """Time to leave a message, if there is neither `dial` nor `redirect`. Carriers hang up after the XML's end."""

    @property
    def dial(self) -> str | None:
        """Number or SIP address to connect the caller with."""

    @property
    def redirect(self) -> str | None:
        """URL of further instructions."""


def twiml(
    instructions: StreamInstructions, plan: VoicePlan, *, query_token: bool = False, stream_attributes: str = ""
) -> VoiceResponse:
    """Returns TwiML, also for carriers that use it. query_token: the stream's address contains the token."""
    url = with_token(instructions) if query_token else instructions.stream_url
    stream = (
        f'<Start><Stream url={quoteattr(url)} track="both_tracks" statusCallback={quoteattr(instructions.status_url)}'
        f"{stream_attributes}>"
        f'<Parameter name="tenant" value={quoteattr(instructions.tenant)}/>'
        f'<Parameter name="token" value={quoteattr(instructions.token)}/>'
        f"{_parties(instructions)}</Stream></Start>"
    )
    return response(
        stream, _said("Say", plan), _next(plan, "Sip", number_tag="") or f'<Pause length="{plan.message_s}"/>'
    )


def plivo_xml(instructions: StreamInstructions, plan: VoicePlan) -> VoiceResponse:
    """Returns Plivo XML. It requests mu-law: Plivo's default is linear PCM with an undocumented byte order."""
    stream = (
        '<Stream audioTrack="both" contentType="audio/x-mulaw;rate=8000" keepCallAlive="false" '
        f"statusCallbackUrl={quoteattr(instructions.status_url)}>{escape(with_token(instructions))}</Stream>"
    )
    rest = _next(plan, "User", number_tag="Number")
    return response(stream, _said("Speak", plan), rest or f'<Wait length="{plan.message_s}"/>')


def response(*elements: str) -> VoiceResponse:
    """Returns a document with these elements."""
    return VoiceResponse(f'<?xml version="1.0" encoding="UTF-8"?>\n<Response>{"".join(elements)}</Response>')


def with_token(instructions: StreamInstructions) -> str:
    """Returns the media socket's URL with the token in its query string."""
    return f"{instructions.stream_url}?token={instructions.token}" if instructions.token else instructions.stream_url


def _parties(instructions: StreamInstructions) -> str:
    named = ((FROM_PARAMETER, instructions.from_number), (TO_PARAMETER, instructions.to_number))
    return "".join(f'<Parameter name="{name}" value={quoteattr(value)}/>' for name, value in named if value)


def _said(verb: str, plan: VoicePlan) -> str:
    return f"<{verb}>{escape(plan.spoken)}</{verb}>" if plan.spoken else ""


def _next(plan: VoicePlan, sip_tag: str, number_tag: str) -> str:
    if plan.redirect:
        return f"<Redirect>{escape(plan.redirect)}</Redirect>"
    if not plan.dial:
        return ""
    tag = sip_tag if plan.dial.startswith(("sip:", "sips:")) else number_tag
    target = f"<{tag}>{escape(plan.dial)}</{tag}>" if tag else escape(plan.dial)
    return f"<Dial>{target}</Dial>"
