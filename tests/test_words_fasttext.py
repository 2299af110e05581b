"""fastText: pieces and hash as the original has them, the fast trainer against a plain one, gensim's quality, files."""
import random

import numpy as np
import pytest
from conftest import REAL, needs_real
from gensim.models import FastText
from gensim.models.fasttext_inner import compute_ngrams_bytes, ft_hash_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from xlt_lib.data.errors import DataError
from xlt_lib.words.fasttext import FastTextRecipe, SubwordVectors, character_ngrams, cut_words, fit_pieces, piece_number, train_fasttext
from xlt_lib.words.vectors import read_vectors, write_vectors
from xlt_lib.words.vocabulary import build_vocabulary, encode_corpus

QUICK = FastTextRecipe(width=16, epochs=4, rate=0.1, min_count=2, sample=0)


@pytest.fixture(scope="module")
def text():
    "Two kinds of sentences whose words never meet: what is eaten, and what is read."
    dice = random.Random(0)
    verbs, things = {"food": ("nakula", "unakula", "anakula"), "books": ("nasoma", "unasoma", "anasoma")}, {"food": ("wali", "samaki"), "books": ("gazeti", "barua")}
    return [[dice.choice(verbs[k]), dice.choice(things[k]), "leo"] for k in dice.choices(("food", "books"), k=800)]


@pytest.fixture(scope="module")
def vectors(text): return train_fasttext(text, QUICK)


@given(st.text(st.characters(exclude_categories=("Cs", "Zs", "Cc")), min_size=1, max_size=12), st.integers(1, 4), st.integers(0, 3))
@settings(deadline=None)
def test_pieces_and_their_numbers_are_those_of_gensim(word, shortest, more):
    pieces = character_ngrams(word, shortest, shortest + more)
    theirs = compute_ngrams_bytes(word, shortest, shortest + more)
    assert sorted(p.encode() for p in pieces) == sorted(theirs)
    assert all(piece_number(p, 2**32) == ft_hash_bytes(p.encode()) and piece_number(p, 1000) == ft_hash_bytes(p.encode()) % 1000 for p in pieces)


def test_rows_of_words():
    pieces = cut_words(("soma", "wali"), 3, 4, 10)
    for w, word in enumerate(("soma", "wali")):
        rows = pieces.rows[pieces.starts[w]:pieces.starts[w + 1]]
        assert rows[0] == w and [pieces.buckets[r - 2] for r in rows[1:]] == [piece_number(p, 10) for p in character_ngrams(word, 3, 4)]
        once = np.bincount(rows)
        assert np.isclose(pieces.echo[w], (once**2).sum() / len(rows))


def test_the_mean_may_wait(text):
    "Moving the rows after all neighbours gives what moving them after each gives, with buckets that pieces share."
    recipe = FastTextRecipe(width=6, epochs=2, window=2, negatives=1, min_count=1, sample=0, buckets=7, rate=0.3)
    words = build_vocabulary(text[:30], 1)
    ids, ends = encode_corpus(text[:30], words)
    pieces = cut_words(words.words, 3, 6, 7)
    fast = fit_pieces(ids, ends, words.counts, pieces, recipe)
    slow = plain(ids, ends, words.counts, pieces, recipe)
    assert np.abs(fast - slow).max() < 1e-4 and pieces.echo.max() > 1.5


def plain(ids, ends, counts, pieces, recipe):
    "The trainer in double precision, pair by pair, with the random numbers of the fast one."
    from xlt_lib.words.word2vec import GOLDEN, below, bits_of, draw, first_rows, keep_chances, noise_table, plan_chunks, thin
    inner = 2 * first_rows(len(counts) + len(pieces.buckets), recipe.width, recipe.seed).astype(float)
    outer, keep, table = np.zeros((len(counts), recipe.width)), keep_chances(counts, recipe.sample), noise_table(counts, recipe.power)
    for first, last, rate, state, _ in plan_chunks(ends, recipe.epochs, recipe.rate, 0.0, recipe.seed):
        def bits():
            nonlocal state
            state = np.uint64((int(state) + int(GOLDEN)) % 2**64)
            return np.uint64(bits_of(state))
        for s in range(first, last):
            kept = np.empty(100, np.int32)
            n, state = thin(ids, ends[s - 1] if s else 0, ends[s], keep, kept, np.uint64(state))
            for i in range(n):
                rows, reach = pieces.rows[pieces.starts[kept[i]]:pieces.starts[kept[i] + 1]], 1 + below(bits(), recipe.window)
                for j in range(max(0, i - reach), min(n, i + reach + 1)):
                    if j == i: continue
                    hidden, step = inner[rows].mean(0), np.zeros(recipe.width)
                    for label in (1, *[0] * recipe.negatives):
                        word = kept[j] if label else draw(bits(), *table)
                        if not label and word == kept[j]: continue
                        g = rate * (label - 1 / (1 + np.exp(-hidden @ outer[word])))
                        step += g * outer[word]
                        outer[word] += g * hidden
                    for row in rows: inner[row] += step
    return inner


def test_same_seed_same_bits_and_another_seed_other_ones(text, vectors):
    again = train_fasttext(iter(text), QUICK)
    assert np.array_equal(again.matrix, vectors.matrix) and np.array_equal(again.pieces, vectors.pieces)
    assert not np.array_equal(train_fasttext(text, FastTextRecipe(**vars(QUICK) | {"seed": 1})).matrix, vectors.matrix)


def test_a_seen_word_is_the_mean_of_its_rows(text):
    words = build_vocabulary(text, 2)
    pieces = cut_words(words.words, 3, 6, QUICK.buckets)
    inner = fit_pieces(*encode_corpus(text, words), words.counts, pieces, QUICK)
    v = train_fasttext(text, QUICK)
    for w, word in enumerate(words.words): assert np.allclose(v[word], inner[pieces.rows[pieces.starts[w]:pieces.starts[w + 1]]].mean(0), atol=1e-6)


def test_unseen_words_are_near_their_stem(vectors):
    "No text has tunakula and tunasoma; reading is not eating."
    for form in ("tunakula", "tunasoma"):
        assert form not in vectors and {w for w, _ in vectors.neighbours(vectors.vector(form), 2)} <= {p + "na" + form[4:] for p in ("", "u", "a")}
    with pytest.raises(DataError, match="no piece is known"): vectors.vector("книга")
    assert np.array_equal(vectors.vector("wali"), vectors["wali"]) and vectors.known_pieces("книга") == []


def test_two_threads_learn_the_same_thing(text):
    v = train_fasttext(text, FastTextRecipe(**vars(QUICK) | {"threads": 2}))
    assert np.isfinite(v.matrix).all() and v.neighbours("unakula", 1)[0][0] in ("nakula", "anakula")


def test_file(vectors, tmp_path):
    path = vectors.write(tmp_path / "sw.npz")
    again = SubwordVectors.read(path)
    assert again.words == vectors.words and np.array_equal(again.vector("tunakula"), vectors.vector("tunakula"))
    assert read_vectors(write_vectors(again, tmp_path / "sw.vec")).words == vectors.words
    whole = path.read_bytes()
    for content in (b"", b"not a zip", whole[:300], whole[:-40], whole[:len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(DataError, match="sw.npz"): SubwordVectors.read(path)
    np.savez(path, words=np.array([{"code": "evil"}], dtype=object))
    with pytest.raises(DataError, match="sw.npz"): SubwordVectors.read(path)
    with pytest.raises(DataError, match="no such file"): SubwordVectors.read(tmp_path / "none.npz")


@pytest.mark.parametrize("wrong", [{"width": 0}, {"rate": 0}, {"shortest": 4, "longest": 3}, {"threads": 0}, {"negatives": -1}, {"buckets": 0}])
def test_recipes_that_cannot_be(wrong):
    with pytest.raises(DataError, match=next(reversed(wrong))): FastTextRecipe(**wrong)


def test_text_that_cannot_be():
    with pytest.raises(DataError): train_fasttext([], QUICK)
    with pytest.raises(DataError): train_fasttext([["only", "once"]], QUICK)


def test_too_large_a_rate_is_told(text):
    with pytest.raises(DataError, match="Lower the rate"): train_fasttext(text, FastTextRecipe(width=8, epochs=40, rate=9.9, min_count=1, sample=0, buckets=2))


def test_gensim_finds_the_same(text, vectors):
    "On the same text gensim's nearest word is of the same kind for all that ours has right."
    model = FastText(text, vector_size=16, window=5, min_count=2, sg=1, sample=0, ns_exponent=0.5, alpha=0.1, min_alpha=1e-6, epochs=4, workers=1, seed=1)
    kind = lambda w: "food" if w[-4:] == "kula" or w in ("wali", "samaki") else "books"
    judged = lambda near: np.mean([kind(near(w)) == kind(w) for w in vectors.words if w != "leo"])
    assert judged(lambda w: vectors.neighbours(w, 1)[0][0]) >= judged(lambda w: model.wv.most_similar(w, topn=1)[0][0]) == 1


@needs_real
def test_real_swahili():
    from xlt_lib.data.corpora import load
    from xlt_lib.words.segmentation import words_of
    rows = [words_of(t, "sw") for t in load("mono", "sw", "all", REAL, "lacuna_news")["text"][:3000]]
    v = train_fasttext(rows, FastTextRecipe(width=50, epochs=5, sample=1e-3))
    assert len(v) > 1500 and np.isfinite(v.vector("tutakapozungumza")).all()
    assert "serikali" in {w for w, _ in v.neighbours(v.vector("kiserikali"), 20)}
