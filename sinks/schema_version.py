"""What the stores' schemas have in common: a version, and what to do when it is not ours."""

from core.errors import UserError


class SchemaTooNewError(UserError):
    """A store has been migrated by a newer AudioText. To write to it could harm what that one relies on."""

    def __init__(self, store: str, found: str, known: str) -> None:
        super().__init__(
            f"{store} is at schema {found} and this AudioText knows {known}: run the version that migrated it, or a "
            "newer one"
        )
