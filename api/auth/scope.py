"""Scope of a client's rights: every tenant, one tenant, or none. Pure."""

from dataclasses import dataclass
from typing import ClassVar, Self


@dataclass(frozen=True, slots=True)
class Scope:
    """Tenants whose calls a client sees. Without arguments the scope is empty, so that rights are never a default.

    every: True for every tenant. name: the one tenant.
    """

    NONE: ClassVar["Scope"]
    ALL: ClassVar["Scope"]

    every: bool = False
    name: str | None = None

    @classmethod
    def of(cls, tenant: str) -> Self:
        """Returns the scope of one tenant."""
        return cls(name=tenant)

    @property
    def tenant(self) -> str | None:
        """Filter for the stores: one tenant, None = every tenant. Raises PermissionError if the scope is empty."""
        if not self.every and self.name is None:
            raise PermissionError("a request without credentials has no access to calls")
        return self.name


Scope.NONE = Scope()
Scope.ALL = Scope(every=True)
