"""Tenants, and the API keys that belong to them."""

import re
import time
from dataclasses import dataclass

from rxlm.serving.keys import key_digest, new_id
from rxlm.serving.store.backend import Backend, Changes
from rxlm.serving.store.records import Tenant

_ALL = 1_000_000
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""Names stand in the database's keys, whose parts a slash separates."""


@dataclass(frozen=True)
class Tenants:
    """Reads and writes tenants and keys. Of a key only a digest is stored."""

    backend: Backend

    def named(self, name: str) -> Tenant:
        """Return the tenant of a name, which is made where there is none; ValueError for what is no name."""
        if not _NAME.fullmatch(name):
            raise ValueError(f"A tenant's name has 1 to 64 of A-Z, a-z, 0-9, '_', '.' and '-', got {name[:80]!r}.")
        there = self.get(name)  # first: this is asked for every request, and a change would wait for those of others
        if there is not None:
            return there
        made = Tenant(name, name, time.time(), name, new_id("salt"))
        changes = Changes(expected={_tenant(name): None}, values={_tenant(name): made.to_bytes()})
        changes.members["tenants", name] = made.created
        if self.backend.apply(changes):
            return made
        found = self.get(name)
        assert found is not None
        return found

    def get(self, name: str) -> Tenant | None:
        """Return a tenant, None where there is none."""
        found = self.backend.get([_tenant(name)])[0]
        return None if found is None else Tenant.from_bytes(found)

    def all(self) -> list[Tenant]:
        """Return all tenants, oldest first."""
        values = self.backend.get([_tenant(each) for each in self.backend.members("tenants", _ALL, newest=False)])
        return [Tenant.from_bytes(value) for value in values if value is not None]

    def change(self, tenant: Tenant) -> None:
        """Write a tenant that is there."""
        self.backend.apply(Changes(values={_tenant(tenant.id): tenant.to_bytes()}))

    def add_key(self, tenant: Tenant, api_key: str) -> str:
        """Let an API key belong to a tenant; returns its digest."""
        digest = key_digest(api_key)
        self.backend.apply(Changes(values={_key(digest): tenant.id.encode()}, members={("keys", digest): time.time()}))
        return digest

    def owner(self, api_key: str) -> Tenant | None:
        """Return whose an API key is, None where it is nobody's."""
        found = self.backend.get([_key(key_digest(api_key))])[0]
        return None if found is None else self.get(found.decode())

    def keys(self) -> list[tuple[str, str]]:
        """Return the digests of all API keys with the tenants that they belong to, oldest first."""
        digests = self.backend.members("keys", _ALL, newest=False)
        owners = self.backend.get([_key(digest) for digest in digests])
        return [(digest, owner.decode()) for digest, owner in zip(digests, owners, strict=True) if owner is not None]

    def revoke(self, digest: str) -> None:
        """Let an API key be nobody's."""
        self.backend.apply(Changes(deleted={_key(digest)}, removed={("keys", digest)}))


def _tenant(name: str) -> str:
    return f"tenant/{name}"


def _key(digest: str) -> str:
    return f"key/{digest}"
