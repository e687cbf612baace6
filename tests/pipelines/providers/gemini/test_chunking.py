"""The parts of a long call: pure."""

import json

from pipelines.providers.gemini.chunking import chunk_turns, group_by_budget, max_tokens_of


def test_parts_lose_nothing() -> None:
    """Splits turns that are longer than a part.

    They must be split at sentences if there are any, otherwise anywhere, and every word must be in exactly one part.
    """
    sentences = " ".join(f"This is sentence {number}." for number in range(200))
    for text in (sentences, "word " * 900, "x" * 5_000, "日本語" * 900, '"' * 2_000):
        parts = chunk_turns([{"speaker": "inbound", "text": text}], 300)
        pieces = [turn["text"] for part in parts for turn in part]
        assert "".join(pieces).replace(" ", "") == text.replace(" ", "")
        assert all(sum(max_tokens_of(json.dumps(turn, ensure_ascii=False)) for turn in part) <= 310 for part in parts)
    assert group_by_budget([5, 5, 5], 4, lambda size: size, at_least=2) == [[5, 5], [5]]
    assert group_by_budget([], 4, lambda size: size) == []
