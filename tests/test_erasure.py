"""LEACE against constrained least squares, Fisher's discriminant and its own theorem; what an eraser may not do; bad input is explained."""
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.linalg import null_space
from scipy.optimize import minimize
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from tiny import tokenizer

from xlt_lib.data.errors import DataError
from xlt_lib.encoders.transformer import new_encoder
from xlt_lib.evaluation.erasure import Eraser, leace, orthogonal
from xlt_lib.evaluation.representations import centred, language_probe, word_vectors

few = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 10_000)
NAMES = ("en", "hi", "sw", "yo")


def cloud(seed, width=5, rows=(60, 40, 30), apart=2.0):
    "Correlated rows of several languages with different means and different numbers."
    dice = np.random.default_rng(seed)
    of = np.repeat(np.arange(len(rows)), rows)
    x = dice.normal(size=(len(of), width)) @ dice.normal(size=(width, width)) + apart * dice.normal(size=(len(rows), width))[of] + dice.normal(size=width)
    return x, np.array(NAMES)[of]


def cross(x, codes):
    z = (codes[:, None] == np.unique(codes)).astype(float)
    return (x - x.mean(0)).T @ (z - z.mean(0)) / len(x)


def moved(x, y): return ((y - x)**2).sum(1).mean()


# -- the promise: nothing linear is left -------------------------------------------------------------------------------------
@few
@given(seeds, st.integers(2, 8), st.sampled_from([(30, 30), (60, 40, 30), (25, 10, 40, 12)]), st.sampled_from([leace, orthogonal]))
def test_no_cross_covariance_is_left(seed, width, rows, way):
    x, codes = cloud(seed, width, rows)
    erase = way(x, codes)
    assert abs(cross(erase(x), codes)).max() < 1e-8 * max(1, abs(x).max()) and erase.rank == min(width, len(rows) - 1)
    assert np.allclose(erase.read @ erase.write, np.eye(erase.rank)) and np.allclose(erase(erase(x)), erase(x))
    assert np.allclose(erase(x).mean(0), x.mean(0))                       # rows move, their mean does not


@pytest.mark.parametrize("way", [leace, orthogonal])
def test_the_best_logistic_regression_is_a_constant(way):
    "No penalty, trained to the end on the rows themselves: its loss is that of knowing the shares, and it answers with the most frequent."
    x, codes = cloud(1)
    loss = lambda rows: -LogisticRegression(C=np.inf, max_iter=5000, tol=1e-9).fit(rows, codes).predict_log_proba(rows)[np.arange(len(codes)), np.searchsorted(np.unique(codes), codes)].mean()
    shares = np.array([60, 40, 30]) / 130
    entropy = -(shares * np.log(shares)).sum()
    assert loss(way(x, codes)(x)) == pytest.approx(entropy, abs=1e-6) and loss(x) < entropy - 0.1


def test_new_rows_of_the_same_kind():
    "Fitted on one half, judged on the other: a reader is near chance with many rows, and was far above it before."
    x, codes = cloud(2, 6, (2000, 2000), apart=1.0)
    part = np.arange(len(x)) % 2 == 0
    after = language_probe(leace(x[part], codes[part])(x[~part]), codes[~part])
    assert language_probe(x[~part], codes[~part]).value > 0.7 and after.value < 0.56


def test_what_is_not_linear_stays():
    "Two languages with equal means and different widths: nothing to erase, and nothing erased."
    dice = np.random.default_rng(0)
    x, codes = np.concatenate([0.2 * dice.normal(size=(300, 2)), 3 * dice.normal(size=(300, 2))]), np.repeat(["en", "sw"], 300)
    far = lambda y: np.linalg.norm(y - y.mean(0), axis=1)
    y = leace(x, codes)(x)
    assert ((far(y) > 0.8) == (codes == "sw")).mean() > 0.75


# -- the promise: the least move ------------------------------------------------------------------------------------------------
def by_lagrange(x, codes):
    c, n, width = x - x.mean(0), len(x), x.shape[1]
    s, k = c.T @ c / n, cross(x, codes)
    system = np.block([[s, k], [k.T, np.zeros((k.shape[1],) * 2)]])
    return x.mean(0) + c @ np.linalg.lstsq(system, np.vstack([s, np.zeros((k.shape[1], width))]), rcond=1e-12)[0][:width]


@few
@given(seeds, st.integers(2, 7), st.sampled_from([(40, 40), (60, 40, 30)]))
def test_leace_is_the_constrained_least_squares_solution(seed, width, rows):
    x, codes = cloud(seed, width, rows)
    if width <= len(rows) - 1: return                   # nothing would be left
    assert np.allclose(leace(x, codes)(x), by_lagrange(x, codes), atol=1e-6 * abs(x).max())


@pytest.mark.parametrize("seed", range(3))
def test_a_numeric_search_finds_nothing_nearer(seed):
    "scipy searches all affine maps without cross-covariance, in any inner product: LEACE is as near in each of them."
    x, codes = cloud(seed, 4, (40, 30))
    c, free = x - x.mean(0), null_space(cross(x, codes).T).T         # rows of the map are mixtures of these
    metric = np.random.default_rng(seed).normal(size=(4, 4)) if seed else np.eye(4)
    cost = lambda flat: (((c @ (flat.reshape(4, -1) @ free).T - c) @ metric)**2).sum(1).mean()
    found = minimize(cost, np.zeros(4 * len(free)), method="BFGS", options={"gtol": 1e-9, "maxiter": 5000})
    ours = (((leace(x, codes)(x) - x) @ metric)**2).sum(1).mean()
    assert ours == pytest.approx(found.fun, rel=1e-5)


@few
@given(seeds)
def test_order_of_the_moves(seed):
    "Who knows the languages moves least; of the maps that do not, LEACE."
    x, codes = cloud(seed)
    told = centred(x, codes) + x.mean(0)
    assert moved(x, told) <= moved(x, leace(x, codes)(x)) + 1e-9 <= moved(x, orthogonal(x, codes)(x)) + 2e-9


def test_it_reads_where_fisher_reads():
    x, codes = cloud(3, 6, (70, 50))
    fisher, ours = LinearDiscriminantAnalysis(solver="eigen").fit(x, codes).coef_[0], leace(x, codes).read[0]
    assert abs(fisher @ ours) / np.linalg.norm(fisher) / np.linalg.norm(ours) > 1 - 1e-9


@few
@given(seeds)
def test_leace_does_not_hang_on_the_coordinates(seed):
    "Stretched and turned rows are erased to stretched and turned rows; the straight projection depends on the coordinates."
    x, codes = cloud(seed, 4)
    turn = np.random.default_rng(seed + 1).normal(size=(4, 4)) + 3 * np.eye(4)
    assert np.allclose(leace(x @ turn, codes)(x @ turn), leace(x, codes)(x) @ turn, atol=1e-6 * abs(x @ turn).max())


def test_by_hand():
    x, codes = np.array([[0, 1], [-2, -1], [2, 1], [0, -1.0]]), ["en", "en", "sw", "sw"]
    assert np.allclose(leace(x, codes)(x), [[1, 1], [-1, -1], [1, 1], [-1, -1]])
    assert np.allclose(orthogonal(x, codes)(x), [[0, 1], [0, -1], [0, 1], [0, -1]])


def test_directions_without_variance_are_left_alone():
    "Rows in a plane of a wider space, in float32, as a layer norm makes them."
    x, codes = cloud(4, 3)
    wide = (x @ np.random.default_rng(0).normal(size=(3, 8))).astype(np.float32)
    y = leace(wide, codes)(wide)
    assert np.isfinite(y).all() and abs(cross(y, codes)).max() < 1e-5 and np.linalg.matrix_rank(y - y.mean(0), tol=1e-3) == 1
    constant = np.c_[x, np.full(len(x), 5.0)]
    assert np.allclose(leace(constant, codes)(constant)[:, -1], 5)


def test_same_bits_twice():
    x, codes = cloud(5)
    assert leace(x, codes)(x).tobytes() == leace(x, codes)(x).tobytes()


# -- words ------------------------------------------------------------------------------------------------------------------------
SENTENCES = [["Amina", "visits", "Kano"], ["nurse"], ["the", "nurse", "of", "the", "hospital"]]


@pytest.mark.parametrize("layer", [0, 1, -1])
def test_word_vectors_equal_one_sentence_at_a_time(layer):
    encoder = new_encoder("xlm-roberta", tokenizer(), layers=2, width=32, max_length=96)
    got, at = word_vectors(encoder, SENTENCES, layer, tokens=12), 0
    assert got.shape == (9, 32) and got.dtype == np.float32
    for words in SENTENCES:
        coded = encoder.tokenizer(words, is_split_into_words=True, return_tensors="pt")
        with torch.no_grad(): states = encoder.model(**coded, output_hidden_states=True).hidden_states[layer][0]
        for k in range(len(words)): assert np.allclose(got[at + k], states[coded.word_ids().index(k)], atol=1e-5)
        at += len(words)


@pytest.mark.parametrize("sentences, layer, said", [
    ([["nurse", ""]], -1, r"sentence 1 \(counted from 1\): words without a state"), ([["nurse"], ["nurse"] * 500], -1, "sentence 2"), ([["nurse"]], 5, "no such layer"), ([], -1, "no sentences")])
def test_words_that_have_no_state(sentences, layer, said):
    with pytest.raises(DataError, match=said): word_vectors(new_encoder("bert", tokenizer(), layers=1, width=32, max_length=40), sentences, layer)


# -- bad input -----------------------------------------------------------------------------------------------------------------------
X, C = cloud(0)


@pytest.mark.parametrize("call, said", [
    (lambda: leace(X, C[:5]), "differ in number"), (lambda: leace(X, ["en"] * len(X)), "too few languages"), (lambda: leace(X * np.nan, C), "no number"),
    (lambda: leace(np.ones((4, 2)), ["a", "a", "b", "b"]), "do not differ"), (lambda: orthogonal(np.ones((4, 2)), ["a", "a", "b", "b"]), "do not differ"),
    (lambda: leace([[0.0, 1], [1, 0], [0, 1], [1, 0]], ["a", "a", "b", "b"]), "do not differ"),
    (lambda: leace(X, C)(X[:, :2]), "another width"), (lambda: leace(X, C)(X[0]), "another shape")])
def test_bad_input_is_explained(call, said):
    with pytest.raises(DataError, match=said): call()


def test_an_eraser_says_what_it_is():
    erase = leace(X, C)
    assert isinstance(erase, Eraser) and erase.method == "LEACE" and erase.languages == ("en", "hi", "sw") and erase.rank == 2
