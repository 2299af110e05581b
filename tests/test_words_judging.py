"""Judges of vectors: scipy, gensim and scikit-learn as witnesses; what is left out, what is not asked, what cannot be."""
import numpy as np
import pytest
from conftest import REAL, needs_real
from gensim.models import KeyedVectors
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from xlt_lib.data.errors import DataError
from xlt_lib.words.fasttext import FastTextRecipe, train_fasttext
from xlt_lib.words.judging import (analogy, judge_analogies, judge_likeness, judge_neighbours, linear_tagger, random_vectors, ranks, spearman,
                                   tag_features, vector_or_none)
from xlt_lib.words.vectors import Vectors

WORDS = tuple(f"w{i}" for i in range(40))
RANDOM = Vectors(WORDS, np.random.default_rng(0).normal(size=(40, 5)))


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=3, max_size=30))
@settings(deadline=None)
def test_spearman_is_scipys(rows):
    a, b = map(np.array, zip(*rows))
    assert np.array_equal(ranks(a), stats.rankdata(a))
    if len(set(a)) > 1 and len(set(b)) > 1: assert np.isclose(spearman(a, b), stats.spearmanr(a, b).statistic)
    else: assert np.isnan(spearman(a, b))


def gensims():
    kv = KeyedVectors(5)
    kv.add_vectors(list(WORDS), RANDOM.matrix)
    return kv


def test_analogies_are_gensims():
    "3CosAdd: gensim's `most_similar` leaves the three words out, too."
    kv, rng = gensims(), np.random.default_rng(1)
    questions = [tuple(WORDS[i] for i in rng.choice(40, 4, replace=False)) for _ in range(300)]
    best = [kv.most_similar(positive=[b, c], negative=[a], topn=1)[0] for a, b, c, _ in questions]
    for (a, b, c, _), (word, _) in zip(questions, best): assert analogy(RANDOM, a, b, c)[0][0] == word
    told = [(a, b, c, w) if i % 3 else (a, b, c, a) for i, ((a, b, c, _), (w, _)) in enumerate(zip(questions, best))]
    right, share = judge_analogies(RANDOM, told, block=7)
    assert np.isclose(right.value, 200 / 300) and share == 1 and right.n == 300 and right.unit == "questions" and right.low < right.value < right.high


def test_the_three_words_may_be_answers_or_not():
    near = Vectors(("a", "b", "c", "d"), np.array([[1, 0, 0], [0.9, 0.1, 0], [0, 0, 1], [0.3, 0.3, 1]]))
    assert analogy(near, "a", "b", "c", leave_out=False)[0][0] == "c" and analogy(near, "a", "b", "c")[0][0] == "d"
    assert judge_analogies(near, [("a", "b", "c", "d")])[0].value == 1 and judge_analogies(near, [("a", "b", "c", "d")], leave_out=False)[0].value == 0


def test_questions_with_unknown_words_are_counted_apart():
    right, share = judge_analogies(RANDOM, [("w1", "w2", "w3", "w4"), ("w1", "w2", "w3", "nowhere"), ("w1", "nowhere", "w3", "w4")])
    assert right.n == 1 and np.isclose(share, 1 / 3)
    with pytest.raises(DataError, match="no analogy"): judge_analogies(RANDOM, [("king", "man", "woman", "queen")])
    with pytest.raises(DataError): analogy(RANDOM, "king", "w1", "w2")


def test_likeness_is_gensims(tmp_path):
    rng = np.random.default_rng(2)
    pairs = [(*(WORDS[i] for i in rng.choice(40, 2, replace=False)), float(rng.integers(10))) for _ in range(60)] + [("w1", "nowhere", 5.0)] * 20
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"{a}\t{b}\t{s}\n" for a, b, s in pairs))
    rho, share = judge_likeness(RANDOM, pairs)
    assert np.isclose(rho.value, gensims().evaluate_word_pairs(path, case_insensitive=False)[1].statistic, atol=1e-6)
    assert rho.n == 60 and np.isclose(share, 60 / 80) and rho.low < rho.value < rho.high and "60 pairs" in str(rho)
    with pytest.raises(DataError, match="too few pairs"): judge_likeness(RANDOM, [("w1", "nowhere", 1.0)] * 5)


def test_neighbours_with_labels():
    "Two clouds with a label each; one word in the wrong cloud; a word is not its own neighbour."
    rng = np.random.default_rng(0)
    matrix = np.concatenate([[5, 0] + rng.normal(size=(10, 2)) * 0.1, [0, 5] + rng.normal(size=(10, 2)) * 0.1])
    v, labels = Vectors(WORDS[:20], matrix), {w: "left" if i < 10 else "right" for i, w in enumerate(WORDS[:20])}
    assert judge_neighbours(v, labels)[0].value == 1
    assert judge_neighbours(v, labels | {"w3": "right"}, ["w3", "w17"])[0].value == 0.5
    score, share = judge_neighbours(v, labels | {"unseen": "left"}, ["w1", "unseen"])
    assert score.n == 1 and share == 0.5
    with pytest.raises(DataError, match="no words"): judge_neighbours(v, {"nowhere": "left"})


@pytest.fixture(scope="module")
def pieces():
    "fastText's vectors of a toy."
    text = [["nakula", "wali"], ["unakula", "wali"], ["nasoma", "gazeti"], ["unasoma", "gazeti"]] * 100
    return train_fasttext(text, FastTextRecipe(width=12, rate=0.1, min_count=1, sample=0, epochs=5))


def test_unseen_words_are_judged_by_their_pieces(pieces):
    labels = {"nakula": "eat", "unakula": "eat", "nasoma": "read", "unasoma": "read", "tunakula": "eat", "tunasoma": "read"}
    score, share = judge_neighbours(pieces, labels, ["tunakula", "tunasoma"])
    assert score.value == share == 1 and "tunakula" not in pieces
    assert vector_or_none(pieces, "книга") is None and vector_or_none(RANDOM, "nowhere") is None and np.array_equal(vector_or_none(RANDOM, "w2"), RANDOM["w2"])


def test_features_stand_where_they_should():
    v = Vectors(("a", "b"), np.array([[3.0, 4], [0, 2]]))
    x = tag_features(v, [["A", "?", "b"], ["b"]], reach=1)
    none, a, b = [0, 0, 0], [0.6, 0.8, 1], [0, 1, 1]
    assert np.allclose(x, [none + a + none, a + none + b, none + b + none, none + b + none])


def test_the_tagger_learns_what_vectors_know_and_random_ones_do_not(pieces):
    rng = np.random.default_rng(0)
    kind = rng.integers(2, size=200)
    v = Vectors(tuple(f"w{i}" for i in range(200)), np.eye(2)[kind] * 3 + rng.normal(size=(200, 2)))
    rows = [([f"w{i}" for i in r], ["NOUN" if kind[i] else "VERB" for i in r]) for r in rng.permutation(200).reshape(40, 5)]
    right = lambda v: np.mean([t == p for (_, gold), found in zip(rows[20:], linear_tagger(v, rows[:20], [t for t, _ in rows[20:]])) for t, p in zip(gold, found)])
    assert right(v) > 0.9 > 0.7 > right(random_vectors(v))
    assert [len(t) for t in linear_tagger(v, rows[:20], [["w1"], ["w2", "nowhere"]])] == [1, 2]
    with pytest.raises(DataError, match="no sentences"): linear_tagger(v, [], [["w1"]])


@needs_real
def test_real_swahili_parts_of_speech():
    "Vectors of 2,000 news sentences are better than random ones in a linear tagger, and unseen words are tagged through their pieces."
    from xlt_lib.data.corpora import load
    from xlt_lib.words.segmentation import words_of
    text = [words_of(t, "sw") for t in load("mono", "sw", "all", REAL, "lacuna_news")["text"][:2000]]
    train, test = ([(r["tokens"], r["tags"]) for r in load("pos", "sw", split, REAL, "masakhapos").select(range(60))] for split in ("train", "test"))
    v = train_fasttext(text, FastTextRecipe(width=30, epochs=5, sample=1e-3))
    right = lambda v: np.mean([t == p for (_, gold), found in zip(test, linear_tagger(v, train, [t for t, _ in test])) for t, p in zip(gold, found)])
    assert right(v) > right(random_vectors(v)) + 0.1
