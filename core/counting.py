"""Counts with their nouns, as text."""


def number_of(count: int, one: str, many: str | None = None) -> str:
    """Returns a count with its noun: "1 call", "2 calls". many: the plural, if it is not `one` with an s."""
    return f"{count} {one if count == 1 else many or one + 's'}"
