"""Words as sparse vectors: BM25 for a vector store that weighs rare terms itself (Qdrant's IDF modifier). Pure.

A document's vector carries what BM25 says of its own terms; the store multiplies by the terms' rarity when it is asked.
Nothing here depends on a model or a machine: the same text is the same vector for ever.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass

# BM25's usual constants. The mean length is fixed: the true one would change with every call, and with it every vector.
_SATURATION = 1.2
_LENGTH_WEIGHT = 0.75
_MEAN_TERMS = 30  # of a speaker's turn; long ones are cut at about 60 words

# Chinese and Japanese put no spaces between words: there each character is a term.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_TERM = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


@dataclass(frozen=True, slots=True)
class Terms:
    """A sparse vector: the weight of each term by its index (32 bits), each index once."""

    indices: list[int]
    values: list[float]


def of_document(text: str) -> Terms:
    """What is stored for a text. Empty for a text without a word."""
    counts = Counter(_indices(text))
    longer = 1 - _LENGTH_WEIGHT + _LENGTH_WEIGHT * counts.total() / _MEAN_TERMS
    weights = {
        index: count * (_SATURATION + 1) / (count + _SATURATION * longer) for index, count in sorted(counts.items())
    }
    return Terms(list(weights), list(weights.values()))


def of_query(text: str) -> Terms:
    """What is asked for: each term counts once. Empty for a text without a word."""
    indices = sorted(set(_indices(text)))
    return Terms(indices, [1.0] * len(indices))


def _indices(text: str) -> list[int]:
    normal = unicodedata.normalize("NFKC", text).casefold()
    return [
        int.from_bytes(hashlib.blake2b(term.encode(), digest_size=4).digest(), "big") for term in _TERM.findall(normal)
    ]
