"""`audiotext keys create|list|revoke`."""

import argparse

from rich.console import Console

from api.auth.api_keys import create_key, list_keys, revoke_key
from audiotext.cli import listing
from audiotext.cli.connection import settings_for


def create(args: argparse.Namespace) -> int:
    """Prints a new key: alone on stdout, so that a script can take it."""
    settings, _ = settings_for(args.data_dir)
    print(create_key(settings, args.tenant, args.name))
    Console(stderr=True).print("This is the only time it is shown; only a hash is kept.", style="dim")
    return 0


def show(args: argparse.Namespace) -> int:
    """Lists the keys, which are known by their ids only."""
    settings, _ = settings_for(args.data_dir)
    keys = list_keys(settings)
    if args.json:
        listing.show_json(key.model_dump(mode="json", exclude={"hash"}) for key in keys)
        return 0
    listing.show(
        ("id", "tenant", "name", "created (UTC)", "revoked (UTC)"),
        [
            (key.id, key.tenant, key.name, listing.minute(key.created_at_ms), listing.minute(key.revoked_at_ms))
            for key in keys
        ],
    )
    return 0


def revoke(args: argparse.Namespace) -> int:
    """Revokes a key."""
    settings, _ = settings_for(args.data_dir)
    key_id = listing.id_of(args.key_id, (key.id for key in list_keys(settings)), "key", "audiotext keys list")
    revoke_key(settings, key_id)
    print(f"{key_id} is revoked")
    return 0
