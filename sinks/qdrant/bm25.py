"""Words as sparse vectors: BM25 for a vector store that weighs rare terms itself (Qdrant's IDF modifier). Pure.

A document's vector holds the BM25 weights of its own terms; the store multiplies them by the rarity of the terms at
query time. Nothing here depends on a model or a machine: a text always has the same vector.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass

# BM25's usual constants. The mean length is fixed: the real mean would change with every call, and so every vector.
_SATURATION = 1.2
_LENGTH_WEIGHT = 0.75
_MEAN_TERMS = 30  # in a speaker's turn; long turns are cut at about 60 words

# Chinese and Japanese have no spaces between words: each of their characters is a term.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_TERM = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_UNSPACED_CHARACTER = re.compile(rf"[{_UNSPACED}]")
_WORD = re.compile(rf"[{_UNSPACED}]+|[^\W{_UNSPACED}]+")

# Function words of English, German, French, Spanish, Italian, Portuguese and Dutch, without words that have a meaning
# in another of these languages. A turn is not a hit only because it contains one of them.
_FUNCTION_WORDS = frozenset(
    """
    a about after again all also am an and any are as at be because been before but by can could did do does done for
    from get go got had has have he her here him his how i if in into is it its just know let like may me might more
    most much must my need no nor not now of off on one or our out over please say said see shall she should so some
    such than that the their them then there these they this those to too up us very want was we were what when where
    which who whom whose why will with would yes you your don doesn didn isn wasn aren won ll re ve tell told aber als
    auch auf aus bei bis bitte da das dass dein dem den der des dies diese dieser doch du durch ein eine einem einen
    einer eines er es euch für hatte habe haben hier ich ihm ihn ihr ihre im ist ja kann kein keine mein meine mich mir
    mit nach nein nicht noch nur oder ohne schon sehr sein sich sie sind über um und uns unser von vor waren wann warum
    wenn wer werden wie wir wird wo zu zum zur au aux avec ce ces cette dans de elle en est et été être il ils je la le
    les leur lui ma mais mes moi mon ne nos notre nous ont ou où par pas pour qu quand que quel quelle qui sa sans se
    ses si son sont sur ta te tu un une vos votre vous al como con cuando del donde el ella ellos esa ese eso esta está
    este esto fue ha hay las lo los mas más mi mis muy ni o para pero por qué quien ser sí sobre su sus tiene una uno y
    ya yo che chi ci cosa dal della di e gli ho io lei mia mio nel nella non per perché più quando questo sei sono sul
    ao com dos ela ele em essa esse eu foi isso meu minha não na nas os pela pelo quem sem seu sua também tem uma você
    aan bij dan dat deze dit een ge geen heb hebben het hij hoe ik kan maar meer met mijn naar niet nog nu om ons ook op
    tot uit van veel voor waar wat wel wij worden ze zich zijn
    """.split()  # noqa: SIM905 - 400 words on 400 lines would be hard to read
)


@dataclass(frozen=True, slots=True)
class Terms:
    """Sparse vector: the weight of each term by its index (32 bits), each index once."""

    indices: list[int]
    values: list[float]


def document_terms(text: str) -> Terms:
    """Returns the vector to store for a text. Empty for a text without words."""
    counts = Counter(_indices(text))
    longer = 1 - _LENGTH_WEIGHT + _LENGTH_WEIGHT * counts.total() / _MEAN_TERMS
    weights = {
        index: count * (_SATURATION + 1) / (count + _SATURATION * longer) for index, count in sorted(counts.items())
    }
    return Terms(list(weights), list(weights.values()))


def query_terms(text: str) -> Terms:
    """Returns the vector of a query, in which each term counts once. Empty for a text without words."""
    indices = sorted(set(_indices(text)))
    return Terms(indices, [1.0] * len(indices))


def share_word(query: str, text: str) -> bool:
    """True if the text contains a meaningful word of the query: not a function word and not a single letter."""
    normal_text = _normal(text)
    words = set(_WORD.findall(normal_text))
    for word in _WORD.findall(_normal(query)):
        if _UNSPACED_CHARACTER.match(word):
            if len(word) > 1 and word in normal_text:
                return True
        elif word in words and word not in _FUNCTION_WORDS and (len(word) > 1 or word.isdecimal()):
            return True
    return False


def _indices(text: str) -> list[int]:
    return [
        int.from_bytes(hashlib.blake2b(term.encode(), digest_size=4).digest(), "big")
        for term in _TERM.findall(_normal(text))
    ]


def _normal(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
