"""Error for a store whose schema is newer than this version."""

from core.errors import UserError


class SchemaTooNewError(UserError):
    """Store that a newer AudioText has migrated: writing to it could break data that the newer version relies on."""

    def __init__(self, store: str, found: str, known: str) -> None:
        super().__init__(
            f"{store} is at schema {found} and this AudioText knows {known}: run the version that migrated it, or a "
            "newer one"
        )
