"""Retrieval, alignment and what surrounds them, against plain formulas, scipy, scikit-learn and POT; bad input is explained."""
import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from scipy.stats import skew

from xlt_lib.data.errors import DataError
from xlt_lib.words.adversarial import GameRecipe, adversarial, criterion
from xlt_lib.words.alignment import concepts, hold_out, identical_words, known_pairs, mutual_pairs, precision, procrustes, refine, turn
from xlt_lib.words.isometry import gromov_wasserstein, isospectral, laplacian_spectrum, spectrum_gap
from xlt_lib.words.many import to_hub, to_middle
from xlt_lib.words.rcsls import RcslsRecipe, cut_spectrum, rcsls, rcsls_loss
from xlt_lib.words.retrieval import csls_nearest, hub_counts, nearest, neighbourhood, skewness, unit
from xlt_lib.words.self_learning import SelfLearning, first_guess, self_learning
from xlt_lib.words.vectors import Vectors


def dice(seed=0): return np.random.default_rng(seed)


def cloud(rows, width, seed=0, mean=0.5): return dice(seed).normal(mean, size=(rows, width)).astype(np.float32)


def turned(rows=300, width=20, noise=0.05, seed=0):
    "A space with unequal directions, the same turned with noise and shuffled, and the true dictionary."
    x = dice(seed).normal(size=(rows, width)) * np.linspace(2, 0.5, width)
    q, order = np.linalg.qr(dice(seed + 1).normal(size=(width, width)))[0], dice(seed + 2).permutation(rows)
    y = (x @ q + noise * dice(seed + 3).normal(size=x.shape))[order]
    a, b = Vectors(tuple(f"a{i}" for i in range(rows)), x), Vectors(tuple(f"b{i}" for i in order), y)
    return a.normalised("unit"), b.normalised("unit"), [(f"a{i}", f"b{i}") for i in range(rows)]


# -- neighbours ----------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("rows,keys,width,k,block", [(1, 1, 3, 1, 512), (7, 300, 5, 3, 2), (600, 130, 17, 10, 100), (513, 129, 4, 16, 512)])
def test_nearest_equals_sorting_and_scikit_learn(rows, keys, width, k, block):
    from sklearn.neighbors import NearestNeighbors
    a, b = cloud(rows, width, 1), cloud(keys, width, 2)
    ids, cosine = nearest(a, b, k, block=block)
    plain = np.sort(unit(a) @ unit(b).T, 1)[:, ::-1][:, :k]
    assert np.allclose(cosine, plain, atol=1e-6)
    theirs = NearestNeighbors(n_neighbors=min(k, keys), metric="cosine").fit(b).kneighbors(a)[0]
    assert np.allclose(1 - cosine, theirs, atol=1e-5)
    assert np.allclose(np.take_along_axis(unit(a) @ unit(b).T, ids, 1), cosine, atol=1e-6)


def test_equal_keys_are_named_in_their_order():
    ids, _ = nearest([[1, 0]], [[0, 1], [2, 0], [1, 0], [3, 0]], 3)
    assert ids.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("seed,rows,keys,k,mean", [(0, 400, 500, 1, 0.0), (1, 500, 400, 5, 1.0), (2, 30, 900, 3, 2.0), (3, 900, 12, 2, 0.5), (4, 3, 5, 1, 0.0)])
def test_one_pass_csls_equals_the_definition(seed, rows, keys, k, mean):
    a, b = cloud(rows, 12, seed, mean), cloud(keys, 12, seed + 10, mean)
    cosine = (unit(a) @ unit(b).T).astype(float)
    r = lambda s: np.sort(s, 1)[:, -10:].mean(1)
    plain = 2 * cosine - r(cosine)[:, None] - r(cosine.T)[None]
    ids, score = csls_nearest(a, b, k, block=64)
    assert np.allclose(score, np.sort(plain, 1)[:, ::-1][:, :k], atol=1e-5)
    assert np.allclose(np.take_along_axis(plain, ids.astype(int), 1), score, atol=1e-5)


def test_csls_of_queries_that_cannot_be_proven_is_still_exact():
    "Hubs that only show up in the last block: the bounds of the first blocks are far too high."
    a = np.concatenate([cloud(200, 30, 1, 0), np.tile(cloud(1, 30, 2, 0), (40, 1)) + 0.01 * cloud(40, 30, 3, 0)])
    b = np.concatenate([cloud(300, 30, 4, 0), a[200:] + 0.3 * cloud(40, 30, 5, 0)])
    cosine = (unit(a) @ unit(b).T).astype(float)
    r = lambda s: np.sort(s, 1)[:, -10:].mean(1)
    best = (2 * cosine - r(cosine)[:, None] - r(cosine.T)[None]).max(1)
    assert np.allclose(csls_nearest(a, b, block=50)[1][:, 0], best, atol=1e-5)


def test_neighbourhoods_hubs_and_skewness():
    a, b = cloud(50, 6, 1), cloud(70, 6, 2)
    assert np.allclose(neighbourhood(a, b, 10), np.sort(unit(a) @ unit(b).T, 1)[:, -10:].mean(1), atol=1e-6)
    counts = hub_counts(nearest(a, b, 3)[0], 70)
    assert counts.sum() == 150 and len(counts) == 70 and skewness(counts) == pytest.approx(skew(counts))


@pytest.mark.parametrize("call,says", [
    (lambda: unit([[1, 2], [0, 0]]), "row 2"), (lambda: unit([[1, np.nan]]), "row 1"), (lambda: unit([1, 2]), "another shape"), (lambda: unit([["a"]]), "not an array"),
    (lambda: nearest([[1, 2]], [[1, 2, 3]]), "unequal width"), (lambda: nearest([[1, 2]], [[1, 2]], 0), "number of neighbours"), (lambda: csls_nearest([[1, 2]], [[1, 2]], 17), "at most 16")])
def test_bad_vectors_are_explained(call, says):
    with pytest.raises(DataError, match=says): call()


# -- dictionaries and turns ----------------------------------------------------------------------------------------------------------
def test_held_out_concepts_share_no_word():
    pairs = [(f"s{dice(i).integers(40)}", f"t{dice(i + 999).integers(60)}") for i in range(60)]
    learn, test = hold_out(pairs, 0.4, seed=1)
    assert learn and test and set(learn) | set(test) == set(pairs)
    for side in (0, 1): assert not {p[side] for p in learn} & {p[side] for p in test}
    assert concepts([("a", "x"), ("b", "y"), ("a", "y")]).tolist() == [0, 0, 0]


@pytest.mark.parametrize("seed", range(4))
def test_the_turn_is_scipys(seed):
    x, y = dice(seed).normal(size=(40, 9)), dice(seed + 50).normal(size=(40, 9))
    w = turn(x, y)
    assert np.allclose(w, orthogonal_procrustes(x, y)[0], atol=1e-5) and np.allclose(w.T @ w, np.eye(9), atol=1e-5)


def test_a_known_turn_is_found_and_refined():
    a, b, gold = turned()
    few, rest = gold[:25], gold[25:]
    exact = procrustes(a, b, few)
    better = refine(a, b, exact)
    assert precision(exact(a), b, rest, (1,))[1] > 0.9 and precision(better(a), b, rest, (1,))[1] >= precision(exact(a), b, rest, (1,))[1]
    assert better.bend < 1e-5 and len(better.trace) == 5 and set(mutual_pairs(better(a), b)) & set(gold)
    assert repr(exact).startswith("<procrustes")


def test_precision_counts_any_translation_and_says_what_is_missing():
    a = Vectors(("one", "two", "alone"), [[1, 0], [0, 1], [1, 1]])
    b = Vectors(("uno", "una", "dos"), [[0.9, 0.1], [1, 0], [0, 1]])
    p = precision(a, b, [("one", "uno"), ("one", "una"), ("two", "uno"), ("three", "tres")], (1, 3), by="cosine")
    assert p[1] == 0.5 and p[3] == 1.0 and p.asked == 2 and p.missing == 1 and p.chance(1) == pytest.approx(1 / 3)
    assert p.at[1].unit == "concepts" and "P@1 50.0" in str(p)


def test_dictionaries_without_overlap_are_explained():
    a, b, gold = turned(30)
    for call in (lambda: known_pairs([(t, s) for s, t in gold], a, b), lambda: procrustes(a, b, []), lambda: identical_words(a, b), lambda: hold_out(gold[:1]),
                 lambda: precision(a, b, gold, by="euclid"), lambda: procrustes(a, b, gold)(Vectors(("x",), [[1.0, 2.0]]))):
        with pytest.raises(DataError): call()
    with pytest.raises(DataError, match="without overlap.*right way round"): known_pairs([(t, s) for s, t in gold], a, b)


# -- RCSLS ---------------------------------------------------------------------------------------------------------------------------
def test_the_gradient_of_rcsls_is_its_slope():
    x, y, many = (unit(dice(i).normal(size=(n, 6))) for i, n in enumerate((8, 8, 40)))
    w, step = np.eye(6) + 0.1 * dice(7).normal(size=(6, 6)), dice(8).normal(size=(6, 6))
    loss = lambda t: rcsls_loss(w + t * step, x, y, many, many)[0]
    assert (loss(1e-4) - loss(-1e-4)) / 2e-4 == pytest.approx((rcsls_loss(w, x, y, many, many)[1] * step).sum(), abs=1e-3)


def test_rcsls_goes_downhill_inside_the_hull():
    a, b, gold = turned(noise=0.4)
    m = rcsls(a, b, gold[:60], RcslsRecipe(rounds=15))
    losses = [t["loss"] for t in m.trace]
    assert all(x >= y for x, y in zip(losses, losses[1:])) and losses[-1] < losses[0] and np.linalg.svd(m.matrix)[1].max() < 1 + 1e-5
    assert np.allclose(np.linalg.svd(cut_spectrum(3 * np.eye(4)))[1], 1)
    with pytest.raises(DataError, match="length 1"): rcsls(Vectors(a.words, 3 * a.matrix), b, gold)


# -- without a dictionary ------------------------------------------------------------------------------------------------------------
def test_fingerprints_find_a_turned_space_and_self_learning_keeps_it():
    a, b, gold = turned(noise=0.0)
    assert set(first_guess(a, b)) == set(gold)
    recipe = SelfLearning(patience=2, final=1)
    once, again = self_learning(a, b, recipe), self_learning(a, b, recipe)
    assert np.array_equal(once.matrix, again.matrix) and precision(once(a), b, gold, (1,))[1] > 0.99 and once.bend < 1e-5
    assert not np.array_equal(self_learning(a, b, SelfLearning(patience=2, final=0, seed=1, rounds=3)).trace[1], once.trace[1])


def test_self_learning_explains_what_it_cannot_use():
    a, b, _ = turned(30)
    with pytest.raises(DataError, match="without overlap"): self_learning(a, b, start=[("x", "y")])
    with pytest.raises(DataError, match="too few words"): first_guess(a.first(10), b)


def test_the_game_repeats_and_its_criterion_knows_better_maps():
    a, b, gold = turned()
    quick = GameRecipe(hidden=8, epochs=1, steps=10, refine=1)
    once, again, other = (adversarial(a, b, replace, bar=False) for replace in (quick, quick, GameRecipe(hidden=8, epochs=1, steps=10, refine=1, seed=1, random_start=True)))
    assert np.array_equal(once.matrix, again.matrix) and once.trace == again.trace and once.trace[0]["critic"] != other.trace[0]["critic"]
    assert criterion(procrustes(a, b, gold)(a), b) > criterion(a, b) + 0.1


# -- many, and distances -------------------------------------------------------------------------------------------------------------
def test_hub_and_middle_bring_three_languages_together():
    a, b, ab = turned(seed=0)
    c = Vectors(tuple(f"c{w[1:]}" for w in a.words), a.matrix @ np.linalg.qr(dice(9).normal(size=(20, 20)))[0])
    ac = [(w, f"c{w[1:]}") for w in a.words]
    maps = to_hub({"a": a, "b": b, "c": c}, "a", {"b": [(t, s) for s, t in ab[:60]], "c": [(t, s) for s, t in ac[:60]]})
    bc = [(t, f"c{s[1:]}") for s, t in ab[60:]]
    assert precision(maps["b"](b), maps["c"](c), bc, (1,))[1] > 0.9
    told = [{"a": f"a{i}", "b": f"b{i}", **({"c": f"c{i}"} if i % 2 else {})} for i in range(60)]       # c lacks half of them
    middle = to_middle({"a": a, "b": b, "c": c}, told)
    falls = [t["distance"] for t in middle["a"].trace]
    assert precision(middle["b"](b), middle["c"](c), bc, (1,))[1] > 0.9 and all(x >= y - 1e-12 for x, y in zip(falls, falls[1:]))
    with pytest.raises(DataError, match="hub without vectors"): to_hub({"a": a}, "z", {})
    with pytest.raises(DataError, match="without a known concept"): to_middle({"a": a, "b": b}, [{"a": "a1"}])


def test_distances_do_not_see_turns_but_see_other_spaces():
    import ot
    a, b, _ = turned(120, noise=0.0)
    other = Vectors(a.words, dice(5).normal(size=(120, 20)) * np.linspace(5, 0.1, 20)).normalised("unit")
    for distance in (isospectral, spectrum_gap): assert distance(a, b) < 1e-6 < distance(a, other)
    assert abs(laplacian_spectrum(a, 120)[-1]) < 1e-9
    u, v = (x.matrix[:40].astype(float) for x in (a, other))
    even = np.full(40, 1 / 40)
    theirs = ot.gromov.gromov_wasserstein2(1 - u @ u.T, 1 - v @ v.T, even, even, "square_loss")
    assert gromov_wasserstein(a, other, 40) == pytest.approx(theirs, rel=1e-3) and gromov_wasserstein(a, a, 40) < 1e-9
    with pytest.raises(DataError, match="too few words"): laplacian_spectrum(a, 5)


@pytest.mark.parametrize("wrong", [dict(neighbours=0), dict(neighbours=-3), dict(neighbours=2.5), dict(block=0), dict(block=-1), dict(k=0)])
def test_counts_that_compiled_code_would_take_for_granted_are_looked_at(wrong):
    x = np.random.default_rng(0).normal(size=(40, 5))
    with pytest.raises(DataError, match="not a number"): csls_nearest(x, x, **wrong)
    if "neighbours" not in wrong:
        with pytest.raises(DataError, match="not a number"): nearest(x, x, **wrong)


@pytest.mark.parametrize("penalty", [np.zeros(3), np.zeros((40, 1)), np.full(40, np.nan), np.full(40, np.inf)])
def test_a_penalty_has_one_finite_number_a_key(penalty):
    x = np.random.default_rng(0).normal(size=(40, 5))
    with pytest.raises(DataError, match="penalty"): nearest(x, x, 1, penalty)


def test_rcsls_wants_rows_of_length_1_on_both_sides():
    def side(letter, seed, scale=1.0): return Vectors([f"{letter}{i}" for i in range(40)], scale * Vectors([str(i) for i in range(40)], cloud(40, 5, seed)).normalised("unit").matrix)
    pairs = [(f"a{i}", f"b{i}") for i in range(20)]
    assert rcsls(side("a", 0), side("b", 1), pairs).method == "rcsls"
    for a, b in ((side("a", 0, 7.0), side("b", 1)), (side("a", 0), side("b", 1, 7.0))):
        with pytest.raises(DataError, match="length 1"): rcsls(a, b, pairs)


@pytest.mark.parametrize("pairs,says", [([("a0", "b0"), ("a1",)], "entry 2"), (["ab"], "entry 1"), ([("a0", 3)], "entry 1"), ("a0 b0", "not a dictionary"), (7, "not a dictionary")])
def test_a_dictionary_that_is_none_is_explained(pairs, says):
    a, b, _ = turned(30)
    for call in (lambda: known_pairs(pairs, a, b), lambda: hold_out(pairs), lambda: precision(a, b, pairs), lambda: concepts(pairs)):
        with pytest.raises(DataError, match=says): call()


def test_a_dictionary_that_can_be_read_once_is_read_once():
    a, b, gold = turned(40)
    assert known_pairs(iter(gold), a, b) == gold and hold_out(iter(gold)) == hold_out(gold)
    assert precision(a, b, iter(gold), (1,), resamples=1) == precision(a, b, gold, (1,), resamples=1)


@pytest.mark.parametrize("wrong", [dict(rounds=-1), dict(rounds=1.5), dict(frequent=0), dict(frequent=-4)])
def test_refinement_wants_whole_numbers(wrong):
    a, b, gold = turned(40)
    with pytest.raises(DataError, match="not a number of"): refine(a, b, procrustes(a, b, gold), **wrong)
    assert np.array_equal(refine(a, b, procrustes(a, b, gold), 0).matrix, procrustes(a, b, gold).matrix)


def test_a_hub_and_a_middle_need_languages_that_meet():
    a, b, gold = turned(40)
    with pytest.raises(DataError, match="dictionary of a language without vectors"): to_hub({"a": a, "b": b}, "a", {"c": gold})
    alone = [{"a": s} for s, _ in gold[:9]] + [{"b": t} for _, t in gold[:9]]
    with pytest.raises(DataError, match="shares no concept"): to_middle({"a": a, "b": b}, alone)
