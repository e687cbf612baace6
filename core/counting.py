"""Counts with their nouns."""


def number_of(count: int, one: str, many: str | None = None) -> str:
    """A count with its noun: "1 call", "2 calls". many: the plural, where it is not formed with an s."""
    return f"{count} {one if count == 1 else many or one + 's'}"
