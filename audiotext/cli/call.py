"""`audiotext call FILE`."""

import argparse
import asyncio

from pydantic import SecretStr
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from audiotext.cli.connection import settings_for
from core.errors import UserError
from core.settings import Settings
from gateway import simulator
from gateway.admission.stream_authorizer import StreamAuthorizer
from gateway.simulator.audio_files import AudioFileError
from schemas.media import Codec


def run(args: argparse.Namespace) -> int:
    """Plays the file and prints the call's id, alone on stdout."""
    if not args.file.is_file():
        raise AudioFileError(f"{args.file}: there is no such file")
    settings, _ = settings_for(args.data_dir)
    faults = simulator.Faults(
        shuffle_ms=args.jitter,
        duplicate=args.duplicate,
        loss=args.loss,
        drop_at_ms=args.cut_at,
        seed=args.seed,
    )
    secret = _secret(settings, args.carrier)
    url = args.url or _media_url(settings, args.carrier)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[audio]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("calling", total=None, audio="")

        def on_progress(sent: simulator.Progress) -> None:
            audio = f"{sent.sent_ms / 1000:.0f} of {sent.total_ms / 1000:.0f} s of audio"
            progress.update(bar, completed=sent.sent_ms, total=sent.total_ms, audio=audio)

        played = asyncio.run(
            simulator.play(
                args.file,
                carrier=args.carrier,
                url=url,
                call_id=args.call_id,
                from_number=args.from_number,
                to_number=args.to_number,
                speed=args.speed,
                codec=Codec(args.codec) if args.codec else None,
                rate_hz=args.rate,
                faults=faults,
                auth_token=secret,
                public_url=settings.base_url,
                on_progress=on_progress,
            )
        )
    print(played.call_id)
    return 0


# Where each carrier's secret is set that proves a media socket. The others are played with a stream token of our own.
_SECRETS = {
    "twilio": "auth_token",
    "telnyx": "stream_token",
    "signalwire": "stream_token",
}


def _secret(settings: Settings, carrier: str) -> str:
    name = _SECRETS.get(carrier)
    if name is None:
        return "" if carrier == "audiosocket" else _stream_token(settings, carrier)
    secret: SecretStr | None = getattr(getattr(settings, carrier), name)
    if secret is None:
        raise UserError(
            f"the gateway refuses every such socket without AUDIOTEXT_{carrier.upper()}__{name.upper()}: set it for "
            "`audiotext up` and here (any text will do on one machine)"
        )
    return secret.get_secret_value()


def _stream_token(settings: Settings, carrier: str) -> str:
    token = StreamAuthorizer(settings).issue(getattr(settings, carrier).tenant, carrier, call_id="")
    if not token:
        raise UserError(
            f"{carrier}'s sockets are let in by a stream token: set AUDIOTEXT_GATEWAY__STREAM_TOKEN_SECRET here as for "
            "the gateway, or name the directory of a running `audiotext up` with --data-dir"
        )
    return token


def _media_url(settings: Settings, carrier: str) -> str:
    if carrier == "audiosocket":
        if settings.audiosocket.port is None:
            raise UserError(
                "the gateway has no AudioSocket port: set AUDIOTEXT_AUDIOSOCKET__PORT and "
                "AUDIOTEXT_AUDIOSOCKET__ALLOWED_PEERS for `audiotext up` and here"
            )
        return f"tcp://{_reachable(settings.audiosocket.host)}:{settings.audiosocket.port}"
    return f"ws://{_reachable(settings.gateway.host)}:{settings.gateway.port}/v1/media/{carrier}"


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in ("0.0.0.0", "::") else host
