"""``hub-lite versions`` and ``hub-lite rollback``: what a Sequence was before, and the way back to it."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from .operate import (
    age,
    json_flag,
    print_json,
    print_table,
    sequence_argument,
    sequence_meant,
    size_text,
    talks,
)

if TYPE_CHECKING:
    from hub_lite.client import HubClient

_SHORT_HASH = 12  # characters of the hash of a package that the table shows


@click.command("versions", short_help="List the versions of a Sequence.")
@sequence_argument
@json_flag
@talks
async def versions(client: "HubClient", sequence: str, as_json: bool) -> None:
    """List the versions of a Sequence that the hub has kept, the newest first; `*` is the present one."""
    found = await client.versions(await sequence_meant(client, sequence))
    if as_json:
        print_json(found)
        return
    now = datetime.now(UTC)
    rows = []
    for one in found:
        config = one.get("config") or {}
        rows.append(
            (
                f"{one['version']}{'*' if one.get('current') else ''}",
                str(config.get("name", "")),
                str(config.get("version", "")),
                size_text(one.get("size")),
                age(str(one.get("created", "")), now),
                str(one.get("sha256", ""))[:_SHORT_HASH],
                str(one.get("signer", "")),
            )
        )
    print_table(("NUMBER", "NAME", "VERSION", "SIZE", "AGE", "SHA256", "SIGNER"), rows)


@click.command("rollback", short_help="Give a Sequence an earlier version back.")
@sequence_argument
@click.argument("version", required=False, type=click.IntRange(min=1))
@json_flag
@talks
async def rollback(client: "HubClient", sequence: str, version: int | None, as_json: bool) -> None:
    """Give a Sequence the package and configuration of VERSION, a number that `hub-lite versions` shows.

    Without VERSION it is the one before the present one. They become its newest version, whose number is printed. Instances
    that run keep the files they have.
    """
    done = await client.rollback(await sequence_meant(client, sequence), version)
    if as_json:
        print_json(done)
    else:
        click.echo(done["version"])
