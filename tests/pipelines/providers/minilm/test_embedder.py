"""Sentence embeddings."""

import asyncio

import numpy as np
import pytest

from pipelines.providers.minilm.embedder import MiniLm

TEXTS = [
    "My internet has been down since yesterday evening.",
    "The connection at home has not worked since last night.",
    "I would like to move my dental appointment.",
    "Okay.",
    "",
    "word " * 400,  # more than the model reads
]


async def test_rows_are_vectors_of_unit_length(minilm: MiniLm) -> None:
    """Short, empty and far too long texts: one row each, as long as the model says, of length one. Cosine similarity
    is a plain product only then, and a row of zeros or NaN would poison the collection."""
    vectors = (await minilm.embed(TEXTS)).vectors

    assert vectors.shape == (len(TEXTS), minilm.dimension)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-5)


async def test_no_texts_no_rows(minilm: MiniLm) -> None:
    """A call in which nobody spoke."""
    assert (await minilm.embed([])).vectors.shape == (0, minilm.dimension)


async def test_the_same_meaning_is_near(minilm: MiniLm) -> None:
    """Two ways to say that the internet is down are nearer to each other than to a dentist's appointment: the graph
    built of the weights is the model, not just something of its shape."""
    down, also_down, dentist, *_ = (await minilm.embed(TEXTS)).vectors

    assert down @ also_down > down @ dentist + 0.2


async def test_known_vector(minilm: MiniLm) -> None:
    """The first numbers for a sentence, as sentence-transformers gives them for all-MiniLM-L6-v2. A slip in the graph
    (another activation, a lost bias) changes them while similarities may still look right."""
    vector = await minilm.embed_query("This is an example sentence")

    assert vector[:5] == pytest.approx([0.0676569, 0.0634959, 0.0487131, 0.0793049, 0.0374480], abs=1e-4)


async def test_a_text_has_one_vector_whatever_it_is_batched_with(minilm: MiniLm) -> None:
    """Each text alone, then together with longer ones, then in another order. Padding must not leak into a vector, or
    a turn embedded again would move, and a query would not find its own words."""
    together = (await minilm.embed(TEXTS * 2)).vectors
    backwards = (await minilm.embed(TEXTS[::-1])).vectors[::-1]
    for index, text in enumerate(TEXTS):
        [alone] = (await minilm.embed([text])).vectors
        assert np.abs(alone - together[index]).max() < 1e-5
        assert np.abs(alone - backwards[index]).max() < 1e-5


async def test_many_ask_at_once(minilm: MiniLm) -> None:
    """Queries come while calls are embedded: every answer must be that of its own text."""
    answers = await asyncio.gather(*(minilm.embed_query(text) for text in TEXTS * 2))
    expected = (await minilm.embed(TEXTS)).vectors

    for index, answer in enumerate(answers):
        assert np.abs(answer - expected[index % len(TEXTS)]).max() < 1e-5
