"""`audiotext call FILE`."""

import argparse
import asyncio
import uuid

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from audiotext.commands.running import settings_for
from audiotext.errors import UserError
from audiotext.settings import Settings
from gateway import simulator


def run(args: argparse.Namespace) -> int:
    """Plays the file and prints the call's id, alone on stdout."""
    if not args.file.is_file():
        raise UserError(f"{args.file} is no file")
    settings, _ = settings_for(args.data_dir)
    token = settings.twilio.auth_token
    if token is None:
        raise UserError(
            "the gateway refuses every Twilio socket without AUDIOTEXT_TWILIO__AUTH_TOKEN: set it for `audiotext up` "
            "and here (any text will do on one machine)"
        )
    call_id = args.call_id or f"CA{uuid.uuid4().hex}"
    url = args.url or _media_url(settings, args.carrier)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[audio]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("calling", total=None, audio="")

        def on_progress(sent: simulator.Progress) -> None:
            audio = f"{sent.sent_ms / 1000:.0f} of {sent.total_ms / 1000:.0f} s of audio"
            progress.update(bar, completed=sent.sent_ms, total=sent.total_ms, audio=audio)

        asyncio.run(
            simulator.play(
                args.file,
                url=url,
                call_id=call_id,
                speed=args.speed,
                auth_token=token.get_secret_value(),
                public_url=settings.base_url,
                on_progress=on_progress,
            )
        )
    print(call_id)
    return 0


def _media_url(settings: Settings, carrier: str) -> str:
    gateway = settings.gateway
    host = "127.0.0.1" if gateway.host in ("0.0.0.0", "::") else gateway.host
    return f"ws://{host}:{gateway.port}/v1/media/{carrier}"
