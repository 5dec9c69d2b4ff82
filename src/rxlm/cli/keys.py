"""`rxlm keys`: who may use a server, and how much."""

import re
import sys
from contextlib import closing
from dataclasses import replace
from math import ceil
from typing import Annotated

import tyro

from rxlm.cli.output import Output
from rxlm.cli.results import rich_table
from rxlm.serving.keys import new_api_key
from rxlm.serving.store.opening import store_of
from rxlm.serving.store.store import Store
from rxlm.serving.store.tenants import Tenants

MOST = 10**9
"""Of tokens a minute, and of gigabytes."""
SHOWN = 12
"""Characters of a digest that are shown."""
SHORTEST = 4
"""Characters of a digest that name a key, at least."""


def add(tenant: Annotated[str, tyro.conf.Positional], /, *, store: str) -> None:
    """Make an API key for a tenant, who sees the conversations of their own keys and of no others.

    Prints the key, which is shown this once: the store has only its digest. A tenant that is not there is made. A
    running server takes the key at once.

    Args:
        tenant: name of the tenant; 1 to 64 letters, digits, '_', '.' and '-'.
        store: where the server's conversations are: a file, redis://..., or the folder of the model.
    """
    with closing(store_of(store, may_be_new=True)) as backend:
        tenants, key = Tenants(backend), new_api_key()
        digest = tenants.add_key(tenants.named(tenant), key)
        place = getattr(backend, "path", None) or getattr(backend, "place", "")
    print(key)  # alone, so that KEY=$(rxlm keys add ...) has it
    print(f"A key of {tenant}, digest {digest[:SHOWN]}, in {place}. It is not shown again.", file=sys.stderr)
    if tenant != "default":
        print("A server makes no key of its own now; `rxlm keys add default` makes one for what such keys have said.",
              file=sys.stderr)  # fmt: skip


def list_keys(*, store: str) -> None:
    """Show tenants and their keys: the first characters of digests, limits, and bytes that are stored.

    Args:
        store: where the server's conversations are: a file, redis://..., or the folder of the model.
    """
    with closing(store_of(store)) as backend:
        tenants, of_tenant = Tenants(backend), Store(backend).stored_bytes
        digests: dict[str, list[str]] = {}
        for digest, owner in tenants.keys():  # noqa: SIM118
            digests.setdefault(owner, []).append(digest[:SHOWN])
        rows = [
            (
                each.name,
                "\n".join(digests.get(each.id, ["none"])),
                "no limit" if each.tokens_per_minute is None else f"{each.tokens_per_minute:,}",
                "no limit" if each.max_bytes is None else f"{each.max_bytes:,}",
                f"{of_tenant(each.id):,}",
            )
            for each in tenants.all()
        ]
    if not rows:
        print("There are no tenants and no keys: `rxlm keys add TENANT` makes them.")
        return
    header = ("tenant", "keys", "tokens a minute", "bytes at most", "bytes stored")
    Output().print(rich_table("Tenants", header, rows))


def revoke(digest: Annotated[str, tyro.conf.Positional], /, *, store: str) -> None:
    """Revoke an API key; running servers refuse it from their next request on. What is stored stays.

    Args:
        digest: the first characters of the key's digest, as `rxlm keys list` shows them.
        store: where the server's conversations are: a file, redis://..., or the folder of the model.
    """
    if not re.fullmatch(rf"[0-9a-f]{{{SHORTEST},64}}", digest):
        raise ValueError(f"digest must be {SHORTEST} to 64 of 0-9 and a-f, the beginning of a key's digest.")
    with closing(store_of(store)) as backend:
        tenants = Tenants(backend)
        found = [(each, owner) for each, owner in tenants.keys() if each.startswith(digest)]  # noqa: SIM118
        if not found:
            raise ValueError(f"no key has a digest that begins with {digest}; `rxlm keys list` shows them.")
        if len(found) > 1:
            names = ", ".join(f"{each[:SHOWN]} of {owner}" for each, owner in found)
            raise ValueError(f"{len(found)} keys have a digest that begins with {digest}: {names}.")
        tenants.revoke(found[0][0])
    print(f"Revoked {found[0][0][:SHOWN]} of {found[0][1]}.")


def limit(
    tenant: Annotated[str, tyro.conf.Positional],
    /,
    *,
    store: str,
    tokens_per_minute: int | None = None,
    gigabytes: float | None = None,
) -> None:
    """Limit what a tenant may use; requests beyond it are refused with status 429.

    Args:
        tenant: name of the tenant.
        store: where the server's conversations are: a file, redis://..., or the folder of the model.
        tokens_per_minute: tokens that may be read and written in a minute, by each server; 0: no limit. As before if
            not given.
        gigabytes: what may be stored of turns, memories and feedback; 0: no limit. As before if not given.
    """
    if tokens_per_minute is None and gigabytes is None:
        raise ValueError("give --tokens-per-minute or --gigabytes.")
    for name, value in (("tokens_per_minute", tokens_per_minute), ("gigabytes", gigabytes)):
        if value is not None and not 0 <= value <= MOST:
            raise ValueError(f"{name} must be from 0 to {MOST:,}, got {value:,}.")
    with closing(store_of(store)) as backend:
        tenants = Tenants(backend)
        found = tenants.get(tenant)
        if found is None:
            known = ", ".join(each.name for each in tenants.all()) or "none"
            raise ValueError(f"there is no tenant {tenant[:80]!r}; tenants: {known}.")
        if tokens_per_minute is not None:
            found = replace(found, tokens_per_minute=tokens_per_minute or None)
        if gigabytes is not None:
            found = replace(found, max_bytes=ceil(gigabytes * 1e9) or None)
        tenants.change(found)
    shown = ("no limit" if each is None else f"{each:,}" for each in (found.tokens_per_minute, found.max_bytes))
    print("{}: tokens a minute {}, bytes at most {}.".format(tenant, *shown))
