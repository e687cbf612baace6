"""`audiotext keys create|list|revoke`."""

import argparse
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from api.auth.api_keys import create_key, list_keys, revoke_key
from audiotext.cli.connection import settings_for
from core.errors import UserError


def create(args: argparse.Namespace) -> int:
    """Prints a new key: alone on stdout, so that a script can take it."""
    settings, _ = settings_for(args.data_dir)
    print(create_key(settings, args.tenant, args.name))
    Console(stderr=True).print("This is the only time it is shown; only a hash is kept.", style="dim")
    return 0


def show(args: argparse.Namespace) -> int:
    """Lists the keys, which are known by their ids only."""
    settings, _ = settings_for(args.data_dir)
    table = Table("id", "tenant", "name", "created", "revoked", box=None)
    for key in list_keys(settings):
        table.add_row(key.id, key.tenant, key.name, _day(key.created_at_ms), _day(key.revoked_at_ms))
    Console().print(table)
    return 0


def revoke(args: argparse.Namespace) -> int:
    """Revokes a key."""
    settings, _ = settings_for(args.data_dir)
    if not revoke_key(settings, args.key_id):
        raise UserError(f"there is no key {args.key_id}: see `audiotext keys list`")
    print(f"{args.key_id} is revoked")
    return 0


def _day(at_ms: int | None) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M") if at_ms else ""
