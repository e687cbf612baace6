"""Command `audiotext keys create|list|revoke`: manages the API keys."""

import argparse

from audiotext.cli.arguments import (
    Parser,
    add_command,
    add_json_option,
    add_running_stack_option,
    subcommands,
    tenant,
)

HELP = "manage the keys for the API"


def add_arguments(parser: Parser) -> None:
    """Declares the subcommands."""
    commands = subcommands(parser)
    create = add_command(commands, "create", "create a key and print it once", create_one)
    create.add_argument("--tenant", type=tenant, default="default", help="tenant whose calls the key opens (default)")
    create.add_argument("--name", default="", help="purpose of the key")
    revoke = add_command(commands, "revoke", "revoke a key", revoke_one)
    revoke.add_argument("key_id", metavar="ID", help="id from `audiotext keys list`, or its beginning")
    show = add_command(commands, "list", "list all keys", show_all)
    add_json_option(show)
    for command in (create, revoke, show):
        add_running_stack_option(command)


def create_one(args: argparse.Namespace) -> int:
    """Creates a key and prints it as the only line of stdout, so that scripts can read it."""
    from rich.console import Console

    from api.auth.api_keys import create_key
    from audiotext.cli.connection import settings_for

    settings, _ = settings_for(args.data_dir)
    print(create_key(settings, args.tenant, args.name))
    Console(stderr=True).print("The key is shown only once; only its hash is stored.", style="dim")
    return 0


def show_all(args: argparse.Namespace) -> int:
    """Lists the keys by their ids."""
    from api.auth.api_keys import list_keys
    from audiotext.cli import listing
    from audiotext.cli.connection import settings_for

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


def revoke_one(args: argparse.Namespace) -> int:
    """Revokes a key."""
    from api.auth.api_keys import list_keys, revoke_key
    from audiotext.cli import listing
    from audiotext.cli.connection import settings_for

    settings, _ = settings_for(args.data_dir)
    key_id = listing.id_of(args.key_id, (key.id for key in list_keys(settings)), "key", "audiotext keys list")
    revoke_key(settings, key_id)
    print(f"{key_id} is revoked")
    return 0
