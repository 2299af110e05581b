"""Maps of languages against scipy, Mantel's test against all namings, intervals against a plain loop over languages; bad input is explained."""
from itertools import permutations

import matplotlib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy.spatial.distance import cosine, pdist, squareform
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from tiny import tokenizer

from xlt_lib.data.distances import distances
from xlt_lib.data.errors import DataError
from xlt_lib.encoders.transformer import new_encoder
from xlt_lib.evaluation.psychotypology import (MEASURES, better_predictor, draw_language_map, language_map, lost_in_transfer, mantel,
                                               map_of_states, scaled, transfer_grid)
from xlt_lib.evaluation.representations import cka, retrieval, sentence_vectors

matplotlib.use("agg")
few = settings(max_examples=30, deadline=None)
seeds = st.integers(0, 10_000)
CODES = ("en", "es", "fr", "sw", "yo", "zu", "hi", "ja")


def table(seed, n=8, names=CODES): return pd.DataFrame(squareform(pdist(np.random.default_rng(seed).normal(size=(n, 3)))), names[:n], names[:n])


def pairs(t): return t.to_numpy()[np.triu_indices(len(t), 1)]


# -- maps --------------------------------------------------------------------------------------------------------------------------
def test_measures_are_what_they_are_called():
    states = {c: np.random.default_rng(i).normal(size=(30, 4)) + i for i, c in enumerate(CODES[:4])}
    plain = {"cosine": lambda a, b: cosine(a.mean(0), b.mean(0)), "retrieval": lambda a, b: 1 - retrieval(a, b).csls, "cka": lambda a, b: 1 - cka(a, b)}
    assert set(plain) == set(MEASURES)
    for name, measure in plain.items():
        got = map_of_states(states, name)
        assert list(got.index) == list(got.columns) == list(states)
        assert np.allclose(got, [[0 if a == b else measure(states[a], states[b]) for b in states] for a in states])


def test_by_hand():
    states = {"en": [[2, 1], [0, -1]], "sw": [[2, 4], [4, 4]], "zu": [[1, 2], [-1, 2]]}
    assert np.allclose(map_of_states(states), [[0, 0.4, 1], [0.4, 0, 0.2], [1, 0.2, 0]])


@pytest.mark.parametrize("layer", [0, 1, -1])
def test_any_encoder_and_any_sentences(layer):
    encoder = new_encoder("bert", tokenizer(), layers=2, width=32, max_length=64)
    said = {"en": ["the nurse visits Kano", "Amina"], "sw": ["Amina Kano", "nurse"], "yo": ["hospital", "the hospital of Kano"]}
    states = {c: sentence_vectors(encoder, s, layer) for c, s in said.items()}
    for measure in ("cosine", "retrieval"):
        got = language_map(encoder, said, layer, measure)
        assert np.array_equal(got, map_of_states(states, measure)) and np.array_equal(got, language_map(encoder, said, layer, measure))
    assert language_map(encoder, {**said, "en": said["en"][:1]}).shape == (3, 3)         # means need no parallel rows


# -- pictures ----------------------------------------------------------------------------------------------------------------------
@few
@given(seeds, st.integers(3, 8))
def test_points_of_a_plane_are_found_again(seed, n):
    d = squareform(pdist(np.random.default_rng(seed).normal(size=(n, 2))))
    points, share = scaled(pd.DataFrame(d, CODES[:n], CODES[:n]))
    assert np.allclose(squareform(pdist(points)), d) and share == pytest.approx(1)
    assert np.array_equal(points, scaled(pd.DataFrame(d))[0])


def test_a_map_that_no_plane_holds():
    assert scaled(1 - pd.DataFrame(np.eye(6)))[1] == pytest.approx(2 / 5)        # six languages at equal distances: five equal directions


def test_picture_names_every_language_and_family():
    figure = draw_language_map(distances("typological", CODES), "a title")
    left, right = figure.axes
    assert {t.get_text() for t in left.texts} == set(CODES) == {t.get_text() for t in right.get_yticklabels()} and "a title" in left.get_title()
    assert {t.get_text() for t in left.get_legend().get_texts()} == {"Indo-European", "Atlantic-Congo", "Japonic"}
    matplotlib.pyplot.close(figure)


# -- correlation -------------------------------------------------------------------------------------------------------------------
@few
@given(seeds)
def test_value_is_spearmans(seed):
    a, b = table(seed), table(seed + 1)
    value = mantel(a, b, 20).value
    assert value == pytest.approx(spearmanr(pairs(a), pairs(b))[0]) == pytest.approx(mantel(b, a, 20).value)
    order = list(np.random.default_rng(seed).permutation(CODES))
    assert value == pytest.approx(mantel(a, b.loc[order, order], 20).value) == pytest.approx(mantel(a**3, np.sqrt(b), 20).value)


def test_ties_are_ranked_as_scipy_ranks_them():
    a, b = distances("typological", CODES).round(1), distances("genealogical", CODES)
    assert mantel(a, b, 20).value == pytest.approx(spearmanr(pairs(a), pairs(b))[0])


@pytest.mark.parametrize("seed", range(3))
def test_p_against_all_namings(seed):
    "Five languages have 120 namings, all of them tried."
    a, b = table(seed, 5), table(seed + 9, 5)
    value, upper = spearmanr(pairs(a), pairs(b))[0], np.triu_indices(5, 1)
    every = [spearmanr(pairs(a), b.to_numpy()[np.ix_(p, p)][upper])[0] for p in permutations(range(5))]
    assert mantel(a, b, 4000).p == pytest.approx(np.mean(abs(np.array(every)) >= abs(value) - 1e-12), abs=0.03)


def test_p_is_honest_where_the_textbook_is_not():
    "Each language is odd to a degree of its own, and two are as far apart as they are odd together; the two maps know nothing of each other."
    def noise(dice):
        odd = abs(dice.normal(size=12))
        return pd.DataFrame(np.add.outer(odd, odd) * (1 - np.eye(12)))
    dice, wrong, naive = np.random.default_rng(0), 0, 0
    for seed in range(150):
        a, b = noise(dice), noise(dice)
        wrong += mantel(a, b, 99, seed=seed).p <= 0.05
        naive += spearmanr(pairs(a), pairs(b)).pvalue <= 0.05
    assert wrong / 150 < 0.12 and naive / 150 > 0.3


def test_interval_against_a_plain_loop():
    "Languages are drawn with replacement; a language beside itself is no pair."
    a, b, n, found = table(0), table(1), 8, []
    for who in np.random.default_rng(5).integers(n, size=(300, n)):
        kept = [(who[i], who[j]) for i in range(n) for j in range(i + 1, n) if who[i] != who[j]]
        found.append(spearmanr([a.iat[p] for p in kept], [b.iat[p] for p in kept])[0])
    got = mantel(a, b, 300, seed=5)
    assert (got.low, got.high) == pytest.approx(np.quantile(found, [0.025, 0.975])) and got.unit == "languages" and got.n == 8


def test_a_map_goes_with_itself_and_the_same_bits_twice():
    a, b = table(0), table(1)
    same = mantel(a, a, 200)
    assert same.value == pytest.approx(1) and same.p < 0.02 and same.low == pytest.approx(1)
    assert mantel(a, b, 200) == mantel(a, b, 200) and "p =" in str(same)


def test_intervals_over_languages_are_wider_than_over_pairs():
    "One odd language is in seven pairs at once."
    names = [f"l{i}" for i in range(20)]
    a, b = (pd.DataFrame(squareform(pdist(np.random.default_rng(s).normal(size=(20, 1)))), names, names) for s in (0, 1))
    got, x, y, dice = mantel(a, b, 500), pairs(a), pairs(b), np.random.default_rng(0)
    plain = [spearmanr(x[i], y[i])[0] for i in (dice.integers(len(x), size=len(x)) for _ in range(500))]
    assert got.high - got.low > 1.2 * np.subtract(*np.quantile(plain, [0.975, 0.025]))


# -- transfer ----------------------------------------------------------------------------------------------------------------------
def test_the_better_predictor_is_found_and_turned_round():
    outcome, noise = table(0), table(3)
    close = outcome + 0.05 * table(7)
    d = better_predictor(close, noise, outcome, 300)
    assert d.low > 0 and d.p < 0.05 and d.first == pytest.approx(spearmanr(pairs(close), pairs(outcome))[0])
    turned = better_predictor(noise, close, outcome, 300)
    assert (turned.value, turned.low, turned.high) == pytest.approx((-d.value, -d.high, -d.low))
    same = better_predictor(noise, noise, outcome, 50)
    assert same.value == same.low == same.high == 0 and same.p == 1


def three_languages(seed):
    "Two languages with one border between the labels, and one in which it is turned round."
    out = {}
    for i, (c, sign) in enumerate((("en", 1), ("fr", 1), ("ja", -1))):
        x = np.random.default_rng(seed + i).normal(size=(200, 3))
        out[c] = x, np.where(sign * x[:, 0] > 0, "NOUN", "VERB")
    return out


def test_transfer_goes_where_the_border_is_the_same():
    grid = transfer_grid(three_languages(0), three_languages(10))
    assert list(grid.index) == list(grid.columns) == ["en", "fr", "ja"]
    assert np.diag(grid).min() > 0.9 and grid.loc["en", "fr"] > 0.9 and grid.loc["en", "ja"] < 0.1 and grid.loc["ja", "fr"] < 0.1
    lost = lost_in_transfer(grid)
    assert np.allclose(lost, lost.T) and np.allclose(np.diag(lost), 0) and lost.loc["en", "ja"] > 0.8


def test_a_cell_of_the_grid_by_hand():
    learn, asked = three_languages(0), three_languages(10)
    x, y = learn["fr"]
    z = lambda v: (v - x.mean(0)) / (x.std(0) + 1e-9)
    theirs = LogisticRegression(C=0.1, max_iter=1000).fit(z(x), y).score(z(asked["ja"][0]), asked["ja"][1])
    assert transfer_grid(learn, asked).loc["fr", "ja"] == pytest.approx(theirs)


def test_loss_by_hand():
    grid = pd.DataFrame([[0.9, 0.5], [0.6, 0.8]], ["en", "sw"], ["en", "sw"])        # en → sw loses 0.8 − 0.5, sw → en 0.9 − 0.6
    assert np.allclose(lost_in_transfer(grid), [[0, 0.3], [0.3, 0]])


# -- bad input -----------------------------------------------------------------------------------------------------------------------
A, GOOD = table(0), {c: np.random.default_rng(0).normal(size=(5, 2)) for c in CODES[:3]}


@pytest.mark.parametrize("call, said", [
    (lambda: map_of_states(GOOD, "kosine"), "no such measure"), (lambda: map_of_states({"en": GOOD["en"]}), "too few languages"),
    (lambda: map_of_states({**GOOD, "sw": GOOD["en"] * np.nan}), "states of sw"), (lambda: map_of_states({**GOOD, "sw": np.ones((3, 2))}, "cka"), "mean the same"),
    (lambda: map_of_states({**GOOD, "sw": np.ones((3, 5))}), "widths"),
    (lambda: mantel(A, A.drop("en").drop(columns="en")), "one map only"), (lambda: mantel(table(0, 3), table(1, 3)), "too few languages"),
    (lambda: mantel(A, A * np.nan), "en-en|en-es"), (lambda: mantel(A, A + 1), "not distances"), (lambda: mantel(A, A * 0), "all distances"),
    (lambda: mantel(A, A, level=2), "level"), (lambda: better_predictor(A, A, A.drop("en").drop(columns="en")), "one map only"),
    (lambda: scaled(np.ones((2, 2))), "not a table"), (lambda: draw_language_map(A.rename(index={"en": "xx"}, columns={"en": "xx"})), "unknown language"),
    (lambda: transfer_grid(three_languages(0), {}), "differ"), (lambda: transfer_grid({}, {}), "differ"),
    (lambda: transfer_grid({"en": (np.ones((2, 2)), ["a"])}, {"en": (np.ones((2, 2)), ["a", "b"])}), "differ in number"),
    (lambda: transfer_grid({"en": (np.ones((2, 2)), ["a", "a"])}, {"en": (np.ones((2, 2)), ["a", "b"])}), "one label")])
def test_bad_input_is_explained(call, said):
    with pytest.raises(DataError, match=said): call()
