"""GloVe: the fast fit against a plain one and against PyTorch's AdaGrad; exact counts are fitted; what cannot be is told."""
import random

import numpy as np
import pytest
import torch
from scipy.sparse import coo_array

from xlt_lib.data.errors import DataError
from xlt_lib.words.counts import cooccurrences
from xlt_lib.words.glove import GloveRecipe, fit_glove, glove_epoch, train_glove
from xlt_lib.words.vocabulary import build_vocabulary, encode_corpus
from xlt_lib.words.word2vec import first_rows

QUICK = GloveRecipe(width=10, window=3, epochs=30, ceiling=10, min_count=2)


@pytest.fixture(scope="module")
def text():
    "Cats and dogs eat and sleep; stones and rocks lie and fall."
    dice, kinds = random.Random(0), ((("cat", "dog"), ("eats", "sleeps")), (("stone", "rock"), ("lies", "falls")))
    return [["the", dice.choice(nouns), dice.choice(verbs), "today"] for nouns, verbs in dice.choices(kinds, k=600)]


def counts_of(text):
    words = build_vocabulary(text, 2)
    return words, coo_array(cooccurrences(*encode_corpus(text, words), len(words), 3))


def test_one_epoch_is_pytorchs_adagrad(text):
    words, counts = counts_of(text)
    n, width, rate = len(words), 4, 0.05
    start = first_rows(2 * n, width + 1, 3)
    ours = [start[:n].copy(), start[n:].copy()]
    theirs = [torch.tensor(s, requires_grad=True) for s in ours]
    logs, weights = np.log(counts.data).astype(np.float32), np.minimum(1, (counts.data / 50) ** 0.75).astype(np.float32)
    order, adagrad, losses = np.random.default_rng(0).permutation(counts.nnz), torch.optim.Adagrad(theirs, lr=rate, initial_accumulator_value=1.0, eps=0), []
    for k in order:
        w, c = (t[axis[k]] for t, axis in zip(theirs, counts.coords))
        loss = float(weights[k]) / 2 * (w[:-1] @ c[:-1] + w[-1] + c[-1] - float(logs[k])) ** 2
        adagrad.zero_grad()
        loss.backward()
        adagrad.step()
        losses.append(loss.item())
    mean = glove_epoch(*counts.coords, logs, weights, order, *ours, *(np.ones_like(o) for o in ours), np.float32(rate))
    assert all(np.abs(o - t.detach().numpy()).max() < 1e-5 for o, t in zip(ours, theirs)) and abs(mean - np.mean(losses)) < 1e-5


def test_counts_of_low_rank_are_fitted():
    "Counts that are the exponential of three directions and b: the equation can hold, and then it does."
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 30, 3)) * 0.7
    counts = np.exp(a @ b.T + rng.normal(size=30)[:, None] * 0.5 + 1)
    main, other, losses = fit_glove(coo_array(counts), GloveRecipe(width=3, epochs=400, ceiling=1, rate=0.1))
    fitted = main[:, :-1] @ other[:, :-1].T + main[:, -1:] + other[:, -1]
    assert np.abs(fitted - np.log(counts)).max() < 0.05 and losses[-1] < 1e-4 < losses[0]


def test_weights_decide_whom_the_fit_serves():
    "Two counts that contradict each other: the equation meets the heavier one."
    counts = coo_array((np.array([100.0, 1.0]), ([0, 0], [1, 1])), shape=(2, 2))      # the same pair with two counts
    fit = lambda power: (lambda m, o, _: m[0, :-1] @ o[1, :-1] + m[0, -1] + o[1, -1])(*fit_glove(counts, GloveRecipe(width=2, epochs=300, power=power)))
    assert abs(fit(0) - np.log(100) / 2) < 0.5 < 1.5 < fit(0.75)


def test_like_words_are_neighbours_and_the_same_seed_gives_the_same_bits(text):
    for both in (True, False):
        v = train_glove(text, GloveRecipe(**vars(QUICK) | {"both": both}))
        assert v.width == 10 and np.array_equal(v.matrix, train_glove(iter(text), GloveRecipe(**vars(QUICK) | {"both": both})).matrix)
    assert v.neighbours("cat", 1)[0][0] == "dog" and v.neighbours("stone", 1)[0][0] == "rock"
    assert not np.array_equal(v.matrix, train_glove(text, GloveRecipe(**vars(QUICK) | {"both": False, "seed": 1})).matrix)


def test_one_vector_a_word(text):
    words, counts = counts_of(text)
    main, other, _ = fit_glove(counts, QUICK)
    assert np.array_equal(train_glove(text, QUICK).matrix, (main + other)[:, :-1])


@pytest.mark.parametrize("wrong", [{"width": 0}, {"epochs": 0}, {"ceiling": 0}, {"rate": float("nan")}, {"power": -1}])
def test_recipes_that_cannot_be(wrong):
    with pytest.raises(DataError, match=next(iter(wrong))): GloveRecipe(**wrong)


def test_counts_that_cannot_be(text):
    for counts in (coo_array((3, 3)), coo_array(np.array([[0.0, -1], [1, 1]]))):
        with pytest.raises(DataError, match="counts"): fit_glove(counts, QUICK)
    with pytest.raises(DataError): train_glove([["alone"]] * 9, QUICK)       # sentences of one word have no pairs
    with pytest.raises(DataError): train_glove([], QUICK)
    with pytest.raises(DataError, match="Lower the rate"): fit_glove(counts_of(text)[1], GloveRecipe(width=4, rate=1e30))


def test_counts_must_be_square():
    with pytest.raises(DataError, match="not square"): fit_glove(np.ones((2, 3)), GloveRecipe(width=4, epochs=2))
