"""Command `audiotext call FILE`: plays an audio file into a gateway, as a carrier would stream it."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from audiotext.cli.arguments import Parser, add_running_stack_option, positive, probability
from core.errors import UserError
from gateway.carriers import carrier_names
from schemas.media import Codec

if TYPE_CHECKING:
    from pydantic import SecretStr

    from core.settings import Settings
    from gateway import simulator

HELP = "play an audio file into a gateway, as a carrier would"

# Setting of the secret that authorises a media socket, by carrier. The other carriers use a stream token.
_SECRETS = {
    "twilio": "auth_token",
    "telnyx": "stream_token",
    "signalwire": "stream_token",
}


def add_arguments(parser: Parser) -> None:
    """Declares the arguments."""
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help="audio file with one or two channels (left is the caller)")
    add("--carrier", choices=carrier_names(), default="twilio", help="carrier whose protocol is used (twilio)")
    add("--codec", type=str.upper, choices=list(Codec), help="codec that the carrier sends (its usual one)")
    add("--rate", type=int, metavar="HZ", help="samples per second, for codecs that have several rates")
    add("--speed", type=positive, default=1.0, metavar="N", help="play N times as fast (1)")
    add("--call-id", metavar="ID", help="the carrier's call id (random)")
    add("--from", dest="from_number", default="", metavar="N", help="number of the caller")
    add("--to", dest="to_number", default="", metavar="N", help="number that is called")
    add("--url", metavar="WS", help="media socket of the gateway (this machine's)")
    add("--jitter", type=int, default=0, metavar="MS", help="delay each frame by a random time of at most MS")
    add("--loss", type=probability, default=0.0, metavar="P", help="probability that a frame is lost")
    add("--duplicate", type=probability, default=0.0, metavar="P", help="probability that a frame is sent twice")
    add("--cut-at", type=int, metavar="MS", help="cut the connection after MS of audio")
    add("--seed", type=int, default=0, metavar="N", help="random seed; the same seed gives the same call (0)")
    add_running_stack_option(parser)


def run(args: argparse.Namespace) -> int:
    """Plays the file and prints the call id as the only line of stdout."""
    from audiotext.cli.connection import settings_for
    from gateway import simulator
    from gateway.simulator.audio_files import AudioFileError

    if not args.file.is_file():
        raise AudioFileError(f"{args.file}: there is no such file")
    settings, _ = settings_for(args.data_dir, needs_servers=False)
    faults = simulator.Faults(
        shuffle_ms=args.jitter,
        duplicate=args.duplicate,
        loss=args.loss,
        drop_at_ms=args.cut_at,
        seed=args.seed,
    )
    print(_play(args, settings, faults).call_id)
    return 0


def _play(args: argparse.Namespace, settings: Settings, faults: simulator.Faults) -> simulator.Played:
    """Plays the file and shows the progress on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from gateway import simulator

    secret = _secret(settings, args.carrier)
    url = args.url or _media_url(settings, args.carrier)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[audio]}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("calling", total=None, audio="")

        def on_progress(sent: simulator.Progress) -> None:
            audio = f"{sent.sent_ms / 1000:.0f} of {sent.total_ms / 1000:.0f} s of audio"
            progress.update(bar, completed=sent.sent_ms, total=sent.total_ms, audio=audio)

        return asyncio.run(
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
                custom=_parameters(settings, args.carrier),
                auth_token=secret,
                public_url=settings.base_url,
                on_progress=on_progress,
            )
        )


def _secret(settings: Settings, carrier: str) -> str:
    name = _SECRETS.get(carrier)
    if name is None:
        return "" if carrier == "audiosocket" else _stream_token(settings, carrier)
    secret: SecretStr | None = getattr(getattr(settings, carrier), name)
    if secret is None:
        raise UserError(
            f"the gateway refuses {carrier}'s sockets without AUDIOTEXT_{carrier.upper()}__{name.upper()}: set it for "
            "`audiotext up` and here (on one machine it can be any text), or name the directory of a running stack "
            "with --data-dir"
        )
    return secret.get_secret_value()


def _parameters(settings: Settings, carrier: str) -> dict[str, str]:
    """Returns the stream's parameters: a stream token, as in the answer of our voice webhook, if it may be required."""
    if carrier not in ("twilio", "signalwire") or not settings.gateway.stream_token_secret:
        return {}
    return {"token": _stream_token(settings, carrier)}


def _stream_token(settings: Settings, carrier: str) -> str:
    from gateway.admission.stream_authorizer import StreamAuthorizer

    token = StreamAuthorizer(settings).issue(getattr(settings, carrier).tenant, carrier, call_id="")
    if not token:
        raise UserError(
            f"{carrier}'s sockets need a stream token: set AUDIOTEXT_GATEWAY__STREAM_TOKEN_SECRET here to the value of "
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
        return f"tcp://{_client_host(settings.audiosocket.host)}:{settings.audiosocket.port}"
    return f"ws://{_client_host(settings.gateway.host)}:{settings.gateway.port}/v1/media/{carrier}"


def _client_host(host: str) -> str:
    """Returns the address to connect to for an address to listen on."""
    return "127.0.0.1" if host in ("0.0.0.0", "::") else host
