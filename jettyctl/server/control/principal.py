"""Who asks."""

from __future__ import annotations

from dataclasses import dataclass

READ, WRITE, ADMIN = "read", "write", "admin"
SCOPES = (READ, WRITE, ADMIN)


@dataclass(frozen=True, slots=True)
class Principal:
    """The user and tenant of a key, and what the key may do. `admin` may act for every user of its tenant."""

    user_id: str
    tenant_id: str
    key_id: str
    scopes: frozenset[str]

    @property
    def is_admin(self) -> bool:
        return ADMIN in self.scopes

    def may(self, scope: str) -> bool:
        """Whether the key has a scope; admin has all."""
        return scope in self.scopes or self.is_admin
