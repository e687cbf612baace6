"""Keys of ledger lines."""

from schemas.usage_keys import UsageKey, UsageKind


def test_the_keys_of_each_kind_are_fixed() -> None:
    """Formats a key of each kind. Ledgers have these keys: with any other text, work that was charged is charged
    again."""
    keys = [str(UsageKey(kind, "5b1d3f1e")) for kind in UsageKind]
    assert keys == ["transcription_5b1d3f1e", "summary_5b1d3f1e", "embedding_5b1d3f1e"]
