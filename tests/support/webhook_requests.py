"""Signed webhooks of every carrier, and readers of the gateway's answers."""

import base64
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit
from xml.etree import ElementTree

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.carriers.common.signatures import HEADER, sign, sign_body, sign_v3
from tests.support.twilio_messages import PUBLIC_URL

TWILIO_TOKEN, SIGNING_KEY, PLIVO_TOKEN = "twilio-token", "signing-key", "plivo-token"
VONAGE_SECRET = "vonage-signature-secret-of-some-length"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
BASIC = {"Authorization": "Basic " + base64.b64encode(b"user:door-key").decode()}
TELNYX_KEY = base64.b64encode(KEY.public_key().public_bytes_raw()).decode()
"""What Telnyx' portal shows."""

DOORS = {"username": "user", "password": "door-key"}
WITH_WEBHOOKS = ("twilio", "signalwire", "telnyx", "plivo", "exotel", "vonage", "jambonz")


@dataclass
class Request:
    """A signed webhook."""

    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def request(name: str, path: str, told: Mapping[str, object], public_url: str = PUBLIC_URL) -> Request:
    """Returns the request of the carrier with these fields."""
    url = public_url + path
    form = [(key, str(value)) for key, value in told.items()]
    is_json = name in ("vonage", "jambonz") or "data" in told
    made = Request(path, json.dumps(told).encode() if is_json else urlencode(form).encode())
    made.headers["Content-Type"] = "application/json" if is_json else "application/x-www-form-urlencoded"
    match name:
        case "twilio":
            made.headers[HEADER] = sign(TWILIO_TOKEN, url, form)
        case "signalwire" if is_json:
            made.headers["X-SignalWire-Signature"] = sign_body(SIGNING_KEY, url, made.body)
        case "signalwire":
            made.headers["X-SignalWire-SHA256-Signature"] = sign(SIGNING_KEY, url, form, "sha256")
        case "telnyx":
            stamp = str(int(time.time()))
            signature = base64.b64encode(KEY.sign(f"{stamp}|".encode() + made.body)).decode()
            made.headers |= {"telnyx-timestamp": stamp, "telnyx-signature-ed25519": signature}
        case "plivo":
            signature = sign_v3(PLIVO_TOKEN, url, "7", form)
            made.headers |= {"X-Plivo-Signature-V3": signature, "X-Plivo-Signature-V3-Nonce": "7"}
        case "vonage":
            made.headers["Authorization"] = f"Bearer {vonage_token(made.body)}"
        case _:
            made.headers |= BASIC
    return made


def vonage_token(body: bytes) -> str:
    """Returns the token with which Vonage signs a webhook with this body."""
    claims = {"iat": int(time.time()), "jti": "j-1", "iss": "Vonage", "api_key": "a1b2c3d"}
    claims["payload_hash"] = hashlib.sha256(body).hexdigest()
    return jwt.encode(claims, VONAGE_SECRET, algorithm="HS256")


def voice_fields(name: str, call_id: str) -> dict[str, object]:
    """Returns the fields of a voice request."""
    key = {"plivo": "CallUUID", "vonage": "uuid", "jambonz": "call_sid"}.get(name, "CallSid")
    return {key: call_id, "from": "+15550100", "to": "+15550199"}


def end_fields(name: str, call_id: str) -> dict[str, object]:
    """Returns the fields of a status request that reports the end of the call."""
    match name:
        case "telnyx":
            payload = {"call_control_id": call_id, "hangup_cause": "normal_clearing"}
            return {"data": {"event_type": "call.hangup", "id": "e-1", "payload": payload}}
        case "plivo":
            return {"CallUUID": call_id, "CallStatus": "completed", "Event": "Hangup"}
        case "vonage":
            return {"uuid": call_id, "status": "completed", "timestamp": "2026-11-22T12:00:00Z"}
        case "jambonz":
            return {"call_sid": call_id, "call_status": "completed", "sip_status": 200}
        case _:
            return {"CallSid": call_id, "CallStatus": "completed", "SequenceNumber": "3"}


def stream_in(name: str, text: str) -> tuple[str, str]:
    """Returns the address of the media socket in an answer, with its query string, and the token."""
    address, token = "", ""
    match name:
        case "twilio" | "signalwire" | "telnyx":
            stream = ElementTree.fromstring(text).find("Start/Stream")
            assert stream is not None
            assert stream.get("track") == "both_tracks"
            address = stream.get("url", "")
            parameters = {one.get("name"): one.get("value") or "" for one in stream.findall("Parameter")}
            token = parameters["token"]
            if name == "signalwire":
                assert stream.get("authBearerToken") == token
        case "plivo":
            element = ElementTree.fromstring(text).find("Stream")
            assert element is not None
            assert element.get("audioTrack") == "both"
            address = element.text or ""
        case "exotel":
            address = json.loads(text)["url"]
        case "vonage":
            (endpoint,) = json.loads(text)[-1]["endpoint"]
            address, token = endpoint["uri"], endpoint["headers"]["token"]
            assert endpoint["authorization"] == {"type": "custom", "value": f"Bearer {token}"}
        case "jambonz":
            listen = json.loads(text)[0]["listen"]
            assert (listen["mixType"], listen["passDtmf"]) == ("stereo", True)
            address, token = listen["url"], listen["wsAuth"]["password"]
    query = dict(parse_qsl(urlsplit(address).query))
    return address, query.get("token", token)
