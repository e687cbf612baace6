"""Fixtures that run a gateway in the test's process, with a real embedded log."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from pydantic import SecretStr

from core.settings import GatewaySettings, KafkaSettings, Settings, TwilioSettings
from gateway.app import Gateway
from tests.support.twilio_messages import PUBLIC_URL, TOKEN

Client = TestClient[Any, Any]
Serve = Callable[..., Awaitable[tuple[Gateway, Client]]]


def settings_for(kafka: KafkaSettings, **gateway: object) -> Settings:
    """A gateway's settings over this log; keywords are fields of GatewaySettings."""
    return Settings(
        public_url=PUBLIC_URL,
        kafka=kafka,
        twilio=TwilioSettings(auth_token=SecretStr(TOKEN), tenant="acme"),
        gateway=GatewaySettings.model_validate(gateway),
    )


@pytest.fixture
async def serve(kafka: KafkaSettings) -> AsyncIterator[Serve]:
    """Starts gateways; keywords are fields of GatewaySettings, `settings` replaces them all."""
    clients: list[Client] = []

    async def start(settings: Settings | None = None, **fields: object) -> tuple[Gateway, Client]:
        gateway = Gateway(settings or settings_for(kafka, **fields))
        client: Client = TestClient(TestServer(gateway.app))
        await client.start_server()
        clients.append(client)
        return gateway, client

    yield start
    for client in clients:
        await client.close()
