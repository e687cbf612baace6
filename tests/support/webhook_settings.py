"""Settings of a gateway that accepts the webhooks of every carrier."""

from core.settings import KafkaSettings, Settings
from tests.support.twilio_messages import PUBLIC_URL
from tests.support.webhook_requests import (
    DOORS,
    PLIVO_TOKEN,
    SIGNING_KEY,
    TELNYX_KEY,
    TWILIO_TOKEN,
    VONAGE_SECRET,
)

SECRET = "a-secret-of-some-length"


def settings_with_every_carrier(kafka: KafkaSettings, **plan: str) -> Settings:
    """Returns settings with every carrier for tenant acme. plan: settings of the answer to a call, for each carrier."""
    doors = DOORS | {"tenant": "acme"}
    vonage = {"say": plan["say"]} if "say" in plan else {}
    return Settings.model_validate(
        {
            "public_url": PUBLIC_URL,
            "kafka": kafka,
            "twilio": {"auth_token": TWILIO_TOKEN, "tenant": "acme"} | plan,
            "signalwire": {"signing_key": SIGNING_KEY, "tenant": "acme"} | plan,
            "telnyx": {"public_key": TELNYX_KEY, "tenant": "acme"} | plan,
            "plivo": {"auth_token": PLIVO_TOKEN, "tenant": "acme"} | plan,
            "exotel": doors,
            "vonage": {"signature_secret": VONAGE_SECRET, "tenant": "acme"} | vonage,
            "jambonz": doors | plan,
            "gateway": {"stream_token_secret": SECRET, "call_end_delay_s": 0.2},
        }
    )
