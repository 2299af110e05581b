"""Counts and word2vec: the same numbers as a plain loop, the same bits from the same seed, as good as gensim."""
import math
from dataclasses import fields, replace

import numpy as np
import pytest
from conftest import REAL, needs_real
from scipy import sparse, stats

from xlt_lib.data.errors import DataError
from xlt_lib.data.meanings import read_world_file
from xlt_lib.data.world import the_world
from xlt_lib.words.counts import cooccurrences, ppmi, svd_vectors
from xlt_lib.words.segmentation import words_of
from xlt_lib.words.vectors import Vectors, read_vectors, write_vectors
from xlt_lib.words.vocabulary import build_vocabulary, encode_corpus
from xlt_lib.words.word2vec import (CHUNKS, GOLDEN, WordRecipe, below, bits_of, draw, first_rows, keep_chances, learn, noise_table, plan_chunks,
                                    thin, train_on, train_word2vec)


@pytest.fixture(scope="module")
def corpus():
    sentences = [words_of(s.text, "en") for s in the_world().sentences("en", "unlabelled")[:2400]]
    vocabulary = build_vocabulary(sentences)
    return sentences, vocabulary, *encode_corpus(sentences, vocabulary)


def throw(state): return np.uint64(bits_of(state))


def states(n): return GOLDEN * np.arange(1, n + 1, dtype=np.uint64)


def test_counts_are_those_of_a_loop(corpus):
    sentences, v, ids, ends = corpus
    for window, weighted in ((1, True), (4, True), (3, False), (100, True)):
        table = np.zeros((len(v), len(v)))
        for s in np.split(ids, ends[:-1])[:200]:
            for i, a in enumerate(s):
                for d in range(1, min(window, len(s) - 1 - i) + 1): table[a, s[i + d]] += 1 / d if weighted else 1
        ours = cooccurrences(ids[:ends[199]], ends[:200], len(v), window, weighted)
        assert np.allclose(ours.toarray(), table + table.T)
    with pytest.raises(DataError, match="window that cannot be"): cooccurrences(ids, ends, len(v), 0)


def test_ppmi_is_the_formula_and_svd_is_numpys(corpus):
    _, v, ids, ends = corpus
    n = cooccurrences(ids, ends, len(v), 5)
    dense, chance = n.toarray(), n.sum(0) ** 0.75
    with np.errstate(divide="ignore"): pmi = np.log(dense / dense.sum(1, keepdims=True) / (chance / chance.sum())) - math.log(2)
    ours = ppmi(n, 0.75, 2)
    assert np.allclose(ours.toarray(), np.maximum(pmi, 0))
    u, sigma, _ = np.linalg.svd(ours.toarray())
    for power in (0, 0.5, 1):
        w = svd_vectors(ours, v, 20, power).matrix
        assert np.allclose(np.abs(w), np.abs(u[:, :20] * sigma[:20] ** power), atol=1e-3)
        assert np.array_equal(w, svd_vectors(ours, v, 20, power).matrix)
    with pytest.raises(DataError, match="too many directions"): svd_vectors(ours, v, len(v))
    with pytest.raises(DataError, match="without a count"): ppmi(sparse.csr_array((3, 3)))


def test_dice_are_even_and_noise_is_what_it_says():
    rolls = np.bincount([below(throw(s), 10) for s in states(50_000)], minlength=10)
    assert stats.chisquare(rolls).pvalue > 1e-3
    counts = np.array([1000, 300, 50, 7, 5, 5, 1])
    for power in (0.0, 0.75, 1.0):
        table, wanted = noise_table(counts, power), counts ** power / (counts ** power).sum()
        own = np.minimum(table[0], 1)
        held = (own + np.bincount(table[1], 1 - own, len(counts))) / len(counts)
        assert np.allclose(held, wanted, atol=1e-7)                                 # the table, exactly
        drawn = np.bincount([draw(throw(s), *table) for s in states(50_000)], minlength=len(counts))
        assert stats.chisquare(drawn, wanted * 50_000).pvalue > 1e-3                # and what comes out of it


def test_sub_sampling_is_gensims():
    import gensim
    rows = [["a"] * 900 + ["b"] * 90 + ["c"] * 10]
    model = gensim.models.Word2Vec(min_count=1, sample=1e-2)
    model.build_vocab(rows)
    theirs = [min(1, model.wv.get_vecattr(w, "sample_int") / (2 ** 32 - 1)) for w in "abc"]
    ours = keep_chances(np.array([900, 90, 10]), 1e-2)
    assert np.allclose(np.minimum(1, ours), theirs, atol=1e-6)
    assert (keep_chances(np.array([900, 90, 10]), 0) == 1).all()
    ids, kept, read = np.repeat(np.arange(3, dtype=np.int32), [900, 90, 10]), np.empty(1000, np.int32), np.zeros(3)
    for s in states(200): n, _ = thin(ids, 0, 1000, ours, kept, throw(s)); read += np.bincount(kept[:n], minlength=3)
    assert np.allclose(read / 200 / [900, 90, 10], np.minimum(1, theirs), atol=0.01)


def test_one_step_is_the_gradient():
    rng = np.random.default_rng(0)
    hidden, outer = rng.normal(size=16).astype(np.float32), rng.normal(size=(4, 16)).astype(np.float32)
    before, step = outer.astype(float), np.empty(16, np.float32)
    hat = np.zeros(4, np.float32), np.full(4, 3, np.int32)                          # only word 3 is noise
    learn(hidden, outer, 1, 1, *hat, np.float32(1e-3), step, GOLDEN)
    def loss(h, o): return np.log1p(np.exp(-o[1] @ h)) + np.log1p(np.exp(o[3] @ h))
    slope = [(loss(hidden + e, before) - loss(hidden - e, before)) / 2e-5 for e in 1e-5 * np.eye(16)]
    assert np.allclose(step, -1e-3 * np.array(slope), atol=1e-7)
    for word, k in ((1, 0), (3, 5), (0, 2)):
        e = np.zeros_like(before)
        e[word, k] = 1e-5
        assert math.isclose(outer[word, k] - before[word, k], -1e-3 * (loss(hidden, before + e) - loss(hidden, before - e)) / 2e-5, abs_tol=1e-6)


def test_plan_reads_each_sentence_once_an_epoch_and_slows_down(corpus):
    *_, ids, ends = corpus
    plan = plan_chunks(ends, 3, 0.025, 1e-4, 0, words=1000)
    assert [s for a, b, *_ in plan for s in range(a, b)] == 3 * list(range(len(ends)))
    rates = [float(rate) for _, _, rate, _, _ in plan]
    assert rates == sorted(rates, reverse=True) and math.isclose(rates[0], 0.025, rel_tol=1e-6) and rates[-1] > 1e-4
    assert sum(n for *_, n in plan) == 3 * len(ids)
    assert [p[:2] for p in plan_chunks(np.array([5], np.int64), 2, 0.1, 0.0, 0)] == [(0, 1)] * 2


@pytest.mark.parametrize("architecture", CHUNKS)
def test_same_seed_same_bits_on_one_thread(corpus, architecture):
    sentences, recipe = corpus[0], WordRecipe(architecture=architecture, width=20, epochs=2)
    a, b = (train_word2vec(sentences, recipe).matrix for _ in range(2))
    assert np.array_equal(a, b)
    for change in (dict(seed=1), dict(dynamic=False), dict(sample=0.0), dict(noise=1.0), dict(negatives=3), dict(window=2), dict(rate=0.01), dict(epochs=1)):
        assert not np.array_equal(a, train_word2vec(sentences, replace(recipe, **change)).matrix), change


def test_same_bits_in_another_process(corpus, tmp_path):
    import subprocess
    import sys
    code = """if True:
        from xlt_lib.data.world import the_world
        from xlt_lib.words.segmentation import words_of
        from xlt_lib.words.word2vec import WordRecipe, train_word2vec
        s = [words_of(s.text, "en") for s in the_world().sentences("en", "unlabelled")[:2400]]
        print(train_word2vec(s, WordRecipe(width=20, epochs=2)).matrix.tobytes().hex())"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert told == train_word2vec(corpus[0], WordRecipe(width=20, epochs=2)).matrix.tobytes().hex()


def same_group(vectors):
    kinds = {c: said.split()[0] for c, said in read_world_file("concepts")["nouns"].items()}
    group = {w: kinds[c] for c, w in the_world().vocabulary("en").items() if c in kinds and w in vectors}
    nouns = Vectors(list(group), np.stack([vectors[w] for w in group]))
    return np.mean([group[w] == group[nouns.neighbours(w, 1)[0][0]] for w in nouns.words])


@pytest.mark.parametrize("architecture", CHUNKS)
def test_as_good_as_gensim_and_two_threads_as_one(corpus, architecture):
    import gensim
    recipe = WordRecipe(architecture=architecture, width=50, epochs=20, rate=0.05)
    ours = np.mean([same_group(train_word2vec(corpus[0], replace(recipe, seed=s))) for s in range(3)])
    both = np.mean([same_group(train_word2vec(corpus[0], replace(recipe, seed=s, threads=2))) for s in range(3)])
    models = [gensim.models.Word2Vec(corpus[0], sg=int(architecture == "skipgram"), vector_size=50, epochs=20, alpha=0.05, min_alpha=1e-4, seed=s + 1, workers=1) for s in range(3)]
    theirs = np.mean([same_group(Vectors(tuple(m.wv.index_to_key), m.wv.vectors)) for m in models])
    assert ours > 0.5 and abs(ours - theirs) < 0.08 and abs(ours - both) < 0.08, (ours, both, theirs)     # chance is 0.11


def test_trained_vectors_go_through_gensim_and_back(corpus, tmp_path):
    from gensim.models import KeyedVectors
    v = train_word2vec(corpus[0], WordRecipe(width=20, epochs=1))
    for binary in (False, True):
        theirs = KeyedVectors.load_word2vec_format(str(write_vectors(v, tmp_path / "ours", binary)), binary=binary)
        assert tuple(theirs.index_to_key) == v.words and np.array_equal(theirs.vectors, v.matrix)
        theirs.save_word2vec_format(str(tmp_path / "theirs"), binary=binary)
        assert np.array_equal(read_vectors(tmp_path / "theirs").matrix, v.matrix)


@pytest.mark.parametrize("change", [dict(architecture="glove"), dict(width=0), dict(window=-1), dict(negatives=0), dict(threads=0), dict(epochs=1.5),
                                    dict(rate=float("nan")), dict(sample=-1.0), dict(noise=float("inf"))])
def test_recipes_that_cannot_be(change):
    with pytest.raises(DataError, match=next(iter(change))): WordRecipe(**change)


def test_corpora_that_cannot_be(corpus):
    for sentences, told in (([], "empty corpus"), ([["a", "b"]], "collapses"), ((s for s in corpus[0]), "only once")):
        with pytest.raises(DataError, match=told): train_word2vec(sentences)
    with pytest.raises(DataError, match="ran away"): train_on(*corpus[2:], corpus[1].counts, WordRecipe(width=8, rate=1e30, least_rate=1e30, sample=0.0))


def test_every_field_of_the_recipe_is_commented():
    import inspect
    source = inspect.getsource(WordRecipe)
    for f in fields(WordRecipe): assert any(line.strip().startswith(f"{f.name}:") and "#" in line for line in source.splitlines()), f.name


def test_first_rows_are_even_and_small():
    rows = first_rows(2000, 50, 0, 1.0)
    assert np.abs(rows).max() <= 1 / 50 and stats.kstest(rows.ravel() * 50, stats.uniform(-1, 2).cdf).pvalue > 1e-3


@needs_real
def test_real_swahili_knows_its_days():
    from xlt_lib.data.corpora import load
    rows = [r["text"] for name in ("lacuna_news", "common_voice_2021") for r in load("mono", "sw", "all", REAL, name)]
    v = train_word2vec([words_of(text, "sw") for text in rows], WordRecipe(min_count=10, width=50, sample=0.0))
    days = {"jumatatu", "jumanne", "jumatano", "alhamisi", "ijumaa", "jumamosi", "jumapili"} & set(v.words)
    assert len(days) == 7
    near = [sum(w in days for w, _ in v.neighbours(day, 5)) for day in days]
    assert np.mean(near) > 1, near
