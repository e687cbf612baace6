"""Voice and status requests of every carrier, at a whole gateway over the real log."""

import asyncio
import base64
import hashlib
import json
import logging
import uuid
from xml.etree import ElementTree

import pytest

from core.settings import KafkaSettings
from core.settings.carriers import DEFAULT_MESSAGE
from core.token_signer import TokenSigner
from gateway.carriers.base import FROM_PARAMETER, TO_PARAMETER
from gateway.carriers.common.signatures import HEADER, sign
from schemas.events import CallStatusReported
from schemas.media import EosReason, RecordType
from tests.gateway.conftest import Client, Serve
from tests.support.twilio_messages import PUBLIC_URL, events_on_log, records_on_log
from tests.support.webhook_requests import (
    BASIC,
    KEY,
    TWILIO_TOKEN,
    WITH_WEBHOOKS,
    Request,
    end_fields,
    request,
    stream_in,
    voice_fields,
    vonage_token,
)
from tests.support.webhook_settings import SECRET, settings_with_every_carrier


async def post(client: Client, made: Request) -> tuple[int, str, str]:
    """Status, content type and text of the answer."""
    answer = await client.post(made.path, data=made.body, headers=made.headers)
    return answer.status, answer.content_type, await answer.text()


@pytest.mark.parametrize("name", WITH_WEBHOOKS)
async def test_a_call_is_answered_by_streaming_it(serve: Serve, kafka: KafkaSettings, name: str) -> None:
    """Asks as each carrier does: both tracks go to our media socket with a stream token that is good for this call.
    Unsigned: 403. Without the token no carrier that signs nothing could stream."""
    _, client = await serve(settings_with_every_carrier(kafka))
    made = request(name, f"/v1/voice/{name}", voice_fields(name, "c-1"))
    status, kind, text = await post(client, made)
    assert status == 200, text
    assert kind == ("application/json" if text[0] in "[{" else "application/xml")
    address, token = stream_in(name, text)
    assert address.partition("?")[0] == f"wss://calls.example.com/v1/media/{name}"
    assert name in ("plivo", "exotel") or "acme" in text  # the tenant, for whoever reads it there
    claims = TokenSigner(SECRET).verify("stream", token)
    assert (claims["tenant"], claims["carrier"], claims["call"]) == ("acme", name, "c-1")
    made.headers = {"Content-Type": made.headers["Content-Type"]}
    assert (await post(client, made))[0] == 403


@pytest.mark.parametrize("name", sorted(set(WITH_WEBHOOKS) - {"exotel", "vonage"}))
@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({"say": "Hello & welcome"}, ["Hello"]),
        ({"dial": "+15550142"}, ["+15550142"]),
        ({"dial": "sip:agent@example.com", "say": "One moment"}, ["One moment", "sip:agent@example.com"]),
        ({"redirect": "https://example.com/on?a=1&b=2"}, ["https://example.com/on?a=1"]),
    ],
)
async def test_a_call_goes_on_as_configured(
    serve: Serve, kafka: KafkaSettings, name: str, plan: dict[str, str], words: list[str]
) -> None:
    """Configures what is said, whom to dial, or where the rest of the answer is: it is in the answer, in that order and
    after the stream, so that all of it is recorded."""
    _, client = await serve(settings_with_every_carrier(kafka, **plan))
    status, _, text = await post(client, request(name, f"/v1/voice/{name}", voice_fields(name, "c-1")))
    assert status == 200
    assert stream_in(name, text)[1]
    places = [text.index(word) for word in ["/v1/media/", *words]]
    assert places == sorted(places)
    if name != "jambonz":
        ElementTree.fromstring(text)
        assert ("<Pause" in text or "<Wait" in text) is (set(plan) == {"say"})


@pytest.mark.parametrize("name", sorted(set(WITH_WEBHOOKS) - {"exotel"}))
async def test_a_call_without_a_target_is_asked_for_a_message(serve: Serve, kafka: KafkaSettings, name: str) -> None:
    """Configures neither a number nor an address to continue with.

    The caller hears the default text, can speak for two minutes, and the carrier hangs up. A failure means that callers
    hear nothing, and that each call is billed until they hang up.
    """
    _, client = await serve(settings_with_every_carrier(kafka))
    status, _, text = await post(client, request(name, f"/v1/voice/{name}", voice_fields(name, "c-1")))
    assert status == 200
    if text.startswith("["):
        verbs = json.loads(text)
        said = next(verb["text"] for verb in verbs if "text" in verb)
        seconds = verbs[-1].get("length", verbs[-1].get("limit"))
        assert stream_in(name, text)[0]
    else:
        document = ElementTree.fromstring(text)
        stream, speech, pause = document
        assert (stream.tag, speech.tag, pause.tag) in [("Start", "Say", "Pause"), ("Stream", "Speak", "Wait")]
        said, seconds = speech.text, int(pause.get("length", ""))
    assert (said, seconds) == (DEFAULT_MESSAGE, 120)


@pytest.mark.parametrize("name", sorted(set(WITH_WEBHOOKS) - {"exotel", "vonage"}))
@pytest.mark.parametrize("plan", [{"dial": "+15550142"}, {"redirect": "https://example.com/on"}, {"say": ""}])
async def test_a_connected_call_hears_no_default_text(
    serve: Serve, kafka: KafkaSettings, name: str, plan: dict[str, str]
) -> None:
    """Configures a target, or an empty text: the carrier speaks nothing."""
    _, client = await serve(settings_with_every_carrier(kafka, **plan))
    _, _, text = await post(client, request(name, f"/v1/voice/{name}", voice_fields(name, "c-1")))
    assert not [word for word in ("<Say>", "<Speak>", '"say"', '"talk"', DEFAULT_MESSAGE) if word in text]


@pytest.mark.parametrize("name", WITH_WEBHOOKS)
async def test_a_voice_request_names_the_parties(serve: Serve, kafka: KafkaSettings, name: str) -> None:
    """Requests instructions for a call twice, as a carrier does that got no answer: the answers are equal, one event of
    the call has the numbers, and the stream's parameters have them if the answer has parameters. Most carriers' streams
    do not name the numbers, and a call without numbers cannot be found."""
    _, client = await serve(settings_with_every_carrier(kafka))
    call = uuid.uuid4().hex
    made = request(name, f"/v1/voice/{name}", voice_fields(name, call))
    answers = [await post(client, made) for _ in range(2)]
    assert answers[0] == answers[1]
    other = request(name, f"/v1/status/{name}", end_fields(name, call))
    assert (await post(client, other))[0] == 204
    first, second = await asyncio.to_thread(events_on_log, kafka, call, 2)
    assert isinstance(first, CallStatusReported)
    assert isinstance(second, CallStatusReported)
    assert (first.from_number, first.to_number, first.over) == ("+15550100", "+15550199", False)
    assert second.over  # no second event of the voice request is before it
    text = answers[0][2]
    if "<Parameter" in text:
        stream = ElementTree.fromstring(text).find("Start/Stream")
        assert stream is not None
        given = {one.get("name"): one.get("value") for one in stream.findall("Parameter")}
        assert given[FROM_PARAMETER] == "+15550100"
        assert given[TO_PARAMETER] == "+15550199"


@pytest.mark.parametrize("name", WITH_WEBHOOKS)
async def test_a_status_request_names_the_parties(serve: Serve, kafka: KafkaSettings, name: str) -> None:
    """Reports the end of a call with its numbers: they are in the event."""
    _, client = await serve(settings_with_every_carrier(kafka))
    call = uuid.uuid4().hex
    told = end_fields(name, call)
    numbers = {"from": "+15550100", "to": "+15550199"}
    match told:
        case {"data": {"payload": dict(payload)}}:
            payload.update(numbers)
        case _:
            told |= numbers
    assert (await post(client, request(name, f"/v1/status/{name}", told)))[0] == 204
    (event,) = await asyncio.to_thread(events_on_log, kafka, call, 1)
    assert isinstance(event, CallStatusReported)
    assert (event.from_number, event.to_number) == ("+15550100", "+15550199")


@pytest.mark.parametrize("name", WITH_WEBHOOKS)
async def test_what_the_carrier_tells_is_the_call_s(serve: Serve, kafka: KafkaSettings, name: str) -> None:
    """Reports the end of a call forty times at once: one event and one end of the call are on the log, without waiting
    for a socket, and every report gets the same answer. Without the end, a call whose carrier lost its socket waits for
    the idle time. A second effect would mean that somebody who has seen a signed webhook can repeat it."""
    gateway, client = await serve(settings_with_every_carrier(kafka))
    call = uuid.uuid4().hex
    made = request(name, f"/v1/status/{name}", end_fields(name, call))
    answers = await asyncio.gather(*(post(client, made) for _ in range(40)))
    assert {status for status, _, _ in answers} == {204}
    await gateway.drain()
    (first,) = await asyncio.to_thread(events_on_log, kafka, call, 1)
    with pytest.raises(AssertionError, match="the log has only"):
        await asyncio.to_thread(events_on_log, kafka, call, 2, timeout_s=0.3)
    assert isinstance(first, CallStatusReported)
    assert (first.carrier, first.tenant, first.over) == (name, "acme", True)
    end = (await asyncio.to_thread(records_on_log, kafka, call))[0]
    assert (end.type, end.stream_id, end.detail, end.tenant) == (RecordType.EOS, "", EosReason.CALL_ENDED, "acme")
    made.body += b" "  # what was signed or not: without its proof it is nobody's
    made.headers = {"Content-Type": made.headers["Content-Type"]}
    assert (await post(client, made))[0] == 403


async def test_equal_webhooks_at_once_end_the_call_once(
    serve: Serve, kafka: KafkaSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """Posts the same signed webhook 40 times at once, as a carrier that repeats it, or an attacker, does.

    Each must get 204, nothing may fail in the gateway, and the end of the call must be on the log once.
    """
    gateway, client = await serve(settings_with_every_carrier(kafka))
    call = uuid.uuid4().hex
    made = request("twilio", "/v1/status/twilio", end_fields("twilio", call))
    answers = await asyncio.gather(*(post(client, made) for _ in range(40)))
    assert {status for status, _, _ in answers} == {204}
    await asyncio.to_thread(records_on_log, kafka, call)
    await gateway.drain()
    (end,) = await asyncio.to_thread(records_on_log, kafka, call)
    assert (end.type, end.detail) == (RecordType.EOS, EosReason.CALL_ENDED)
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]


STREAM_TOLD: list[tuple[str, dict[str, object], str]] = [
    ("twilio", {"StreamSid": "s-1", "StreamEvent": "stream-stopped", "Timestamp": "2026"}, "stream-stopped"),
    ("signalwire", {"StreamSid": "s-1", "StreamEvent": "stream-started", "Timestamp": "2026"}, "stream-started"),
    ("signalwire", {"data": 1, "CallStatus": "in-progress"}, "in-progress"),  # in JSON
    ("telnyx", {"StreamSid": "s-1", "StreamEvent": "stream-started", "Timestamp": "2026"}, "stream-started"),  # TeXML
    ("telnyx", {"event_type": "streaming.stopped", "id": "e-2"}, "streaming.stopped"),
    ("plivo", {"StreamID": "s-1", "Event": "DroppedStream", "CallStatus": "in-progress"}, "DroppedStream"),
    ("exotel", {"StreamSid": "s-1", "Status": "in-progress"}, "in-progress"),
    ("vonage", {"status": "ringing", "timestamp": "2026"}, "ringing"),
    ("jambonz", {"call_status": "in-progress"}, "in-progress"),
]


@pytest.mark.parametrize(("name", "told", "status"), STREAM_TOLD)
async def test_what_is_no_end_ends_no_call(
    serve: Serve, kafka: KafkaSettings, name: str, told: dict[str, object], status: str
) -> None:
    """Tells of a stream, or that a call rings: an event of the call, under the carrier's word, with the stream's id
    where there is one; but no end of the call is on the log, not even when the gateway is emptied. Hold ends a stream
    and no call."""
    gateway, client = await serve(settings_with_every_carrier(kafka))
    call, key = uuid.uuid4().hex, next(iter(voice_fields(name, "")))
    if "event_type" in told:
        told = {"data": told | {"payload": {"call_control_id": call, "stream_id": "s-1"}}}
    else:
        told = {key: call} | told
    assert (await post(client, request(name, f"/v1/status/{name}", told)))[0] == 204
    (report,) = await asyncio.to_thread(events_on_log, kafka, call, 1)
    assert isinstance(report, CallStatusReported)
    assert (report.status, report.over) == (status, False)
    assert (report.stream_id == "s-1") is ("s-1" in str(told))
    await gateway.drain()
    with pytest.raises(AssertionError, match="the log has only"):
        await asyncio.to_thread(records_on_log, kafka, call, timeout_s=0.3)


@pytest.mark.parametrize("name", ["vonage", "jambonz", "telnyx"])
async def test_a_body_that_is_no_json_is_a_mistake_of_the_sender(serve: Serve, kafka: KafkaSettings, name: str) -> None:
    """Posts what is no JSON with the right proof: 400 and no server error."""
    _, client = await serve(settings_with_every_carrier(kafka))
    made = request(name, f"/v1/status/{name}", {"data": 1})
    made.body = b"{"
    if name == "vonage":
        made.headers["Authorization"] = f"Bearer {vonage_token(made.body)}"
    if name == "telnyx":
        stamp = made.headers["telnyx-timestamp"]
        made.headers["telnyx-signature-ed25519"] = base64.b64encode(KEY.sign(f"{stamp}|".encode() + b"{")).decode()
    assert (await post(client, made))[0] == 400


async def test_an_unsigned_body_beside_a_signed_url_is_refused(serve: Serve, kafka: KafkaSettings) -> None:
    """Puts a JSON body to a request of Twilio's that was signed without one, and one whose hash is in the signed URL
    (which is how Twilio signs JSON): only the latter passes."""
    _, client = await serve(settings_with_every_carrier(kafka))
    body = json.dumps({"CallSid": "c-1", "CallStatus": "ringing"}).encode()
    plain = Request("/v1/status/twilio", body, {"Content-Type": "application/json"})
    plain.headers[HEADER] = sign(TWILIO_TOKEN, PUBLIC_URL + plain.path)
    assert (await post(client, plain))[0] == 403

    hashed = Request(f"{plain.path}?bodySHA256={hashlib.sha256(body).hexdigest()}", body, dict(plain.headers))
    hashed.headers[HEADER] = sign(TWILIO_TOKEN, PUBLIC_URL + hashed.path)
    assert (await post(client, hashed))[0] == 204


async def test_a_carrier_that_asks_by_get(serve: Serve, kafka: KafkaSettings) -> None:
    """Asks as Exotel and Vonage do, with a GET: the same answer."""
    _, client = await serve(settings_with_every_carrier(kafka))
    answer = await client.get("/v1/voice/exotel?CallSid=c-7", headers=BASIC)
    _, token = stream_in("exotel", await answer.text())
    assert TokenSigner(SECRET).verify("stream", token)["call"] == "c-7"
    assert (await client.get("/v1/voice/exotel?CallSid=c-7")).status == 403
