"""Probes, retrieval, CKA and centring against independent formulas; what t-SNE gives is the same each time; bad input is explained."""
import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.stats import ortho_group
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize
from tiny import tokenizer

from xlt_lib.data.errors import DataError
from xlt_lib.encoders.transformer import new_encoder
from xlt_lib.evaluation.projections import MARKERS, draw_projection, project
from xlt_lib.evaluation.representations import centred, cka, language_means, language_probe, mean_distances, retrieval, sentence_vectors
from xlt_lib.transfer import adversarial

matplotlib.use("agg")
seeds = st.integers(0, 10_000)
few = settings(max_examples=60, deadline=None)


def cloud(seed, rows=40, width=6): return np.random.default_rng(seed).normal(size=(rows, width))


def two_languages(rows=60, gap=3.0, seed=0, width=5):
    "The same content in two languages that stand `gap` apart in the last direction."
    x = cloud(seed, rows, width)
    return np.concatenate([np.c_[x, np.full(rows, s)] + 0.1 * cloud(seed + 1, rows, width + 1) for s in (0, gap)]), ["en"] * rows + ["sw"] * rows


# -- sentence vectors ----------------------------------------------------------------------------------------------------------------
TEXTS = ["Amina visits Kano", "the nurse", "Amina", "a very long sentence about the nurse of the hospital in Kano", "the nurse"]


@pytest.fixture(scope="module", params=["xlm-roberta", "bert"])
def encoder(request): return new_encoder(request.param, tokenizer(), layers=2, width=32, max_length=96)


@pytest.mark.parametrize("layer", [0, 1, 2, -1, -3])
def test_sentence_vectors_equal_one_sentence_at_a_time(encoder, layer):
    "Each sentence alone, unpadded, the first and last subword cut off by hand."
    got = sentence_vectors(encoder, TEXTS, layer, tokens=40)
    assert got.shape == (5, 32) and got.dtype == np.float32
    for text, vector in zip(TEXTS, got):
        coded = encoder.tokenizer(text, return_tensors="pt")
        with torch.no_grad(): states = encoder.model(**coded, output_hidden_states=True).hidden_states[layer][0]
        assert np.allclose(vector, states[1:-1].mean(0).numpy(), atol=1e-5)
    assert np.array_equal(got[1], got[4])


def test_sentence_vectors_do_not_hang_on_batches_or_mode(encoder):
    small, large = sentence_vectors(encoder, TEXTS, tokens=1), sentence_vectors(encoder, TEXTS)
    assert np.allclose(small, large, atol=1e-5)
    encoder.model.train()
    try:
        assert np.array_equal(sentence_vectors(encoder, TEXTS), large) and encoder.model.training      # no dropout; the mode is given back
    finally: encoder.model.eval()


def test_long_texts_are_cut(encoder):
    assert np.isfinite(sentence_vectors(encoder, ["nurse " * 500])).all()


@pytest.mark.parametrize("texts, layer, said", [
    ("one text", -1, "one text, not a list"), ([], -1, "not texts"), (["a", None], -1, "not texts"), (["nurse", ""], -1, r"text 2 \(counted from 1\)"),
    (["nurse"], 3, "no such layer"), (["nurse"], -4, "no such layer")])
def test_bad_texts(encoder, texts, layer, said):
    with pytest.raises(DataError, match=said): sentence_vectors(encoder, texts, layer)


# -- the probe -----------------------------------------------------------------------------------------------------------------------
def test_probe_sees_a_language_and_nothing_where_there_is_none():
    x, codes = two_languages()
    seen, none = language_probe(x, codes), language_probe(cloud(3, 400, 4), ["en", "sw"] * 200)
    assert seen.value == 1 and seen.chance == 0.5 and seen.languages == ("en", "sw") and seen.n == 36
    assert none.low < 0.5 < none.high and abs(seen.shuffled - 0.5) < 0.3
    assert "[" in seen.show() and "shuffled" in str(seen)


@pytest.mark.parametrize("hits, n, low, high", [(36, 36, 0.9036, 1.0)])
def test_probe_interval_is_wilsons(hits, n, low, high):
    "By the formula of Wilson 1927, with z = 1.96: for n of n it is from n / (n + z²) to 1."
    p = language_probe(*two_languages())
    assert p.n == n and p.high == pytest.approx(high) and p.low == pytest.approx(n / (n + 1.959964**2), abs=1e-6) == pytest.approx(low, abs=1e-4)


def test_chance_is_the_most_frequent_language():
    x = cloud(0, 100, 3)
    p = language_probe(x, ["en"] * 80 + ["sw"] * 20)
    assert p.chance == 0.8 and p.low < 0.8 < p.high       # a probe that knows nothing says the frequent one


@few
@given(seeds, st.floats(0.1, 50), st.floats(-20, 20))
def test_probe_does_not_hang_on_units(seed, scale, shift):
    x, codes = two_languages(rows=15, gap=0.3, seed=seed, width=3)
    assert language_probe(x, codes, seed).value == language_probe(x * scale + shift, codes, seed).value


def test_probe_is_deterministic_and_its_seed_matters():
    x, codes = two_languages(gap=0.1)
    assert language_probe(x, codes, 1) == language_probe(x, codes, 1)
    assert len({language_probe(x, codes, s).value for s in range(6)}) > 1


# -- retrieval -----------------------------------------------------------------------------------------------------------------------
@few
@given(seeds, st.integers(2, 40), st.integers(2, 8), st.floats(0, 3))
def test_retrieval_equals_scikit_learn(seed, rows, width, noise):
    a = cloud(seed, rows, width)
    b, got = a + noise * cloud(seed + 1, rows, width), None
    got = retrieval(a, b)
    for x, y, ours in ((a, b, got.forward), (b, a, got.backward)):
        nearest = NearestNeighbors(n_neighbors=1, metric="cosine").fit(y).kneighbors(x, return_distance=False)[:, 0]
        assert ours == pytest.approx((nearest == np.arange(rows)).mean())


@few
@given(seeds, st.integers(3, 25), st.integers(1, 12))
def test_csls_equals_the_plain_definition(seed, rows, k):
    "2 cos(x, y) − r(x) − r(y), written out one pair at a time."
    a, b = cloud(seed, rows, 4), cloud(seed, rows, 4) + cloud(seed + 1, rows, 4)
    unit = [normalize(x) for x in (a, b)]
    cos = lambda x, y: float(x @ y)
    r = [[np.mean(sorted((cos(x, y) for y in unit[1 - side]), reverse=True)[:k]) for x in unit[side]] for side in (0, 1)]
    csls = np.array([[2 * cos(x, y) - r[0][i] - r[1][j] for j, y in enumerate(unit[1])] for i, x in enumerate(unit[0])])
    got = retrieval(a, b, k)
    assert got.csls_forward == pytest.approx((csls.argmax(1) == np.arange(rows)).mean())
    assert got.csls_backward == pytest.approx((csls.argmax(0) == np.arange(rows)).mean())


@few
@given(seeds, st.integers(2, 30))
def test_retrieval_properties(seed, rows):
    a, b = cloud(seed, rows, 4), cloud(seed + 1, rows, 4)
    same, order = retrieval(a, a), np.random.default_rng(seed).permutation(rows)
    assert same.forward == same.backward == 1       # by CSLS a hub may lose even to others: it is no distance
    got, turned, moved = retrieval(a, b), retrieval(b, a), retrieval(a[order], b[order])
    assert (got.forward, got.csls_forward) == pytest.approx((turned.backward, turned.csls_backward))
    assert (got.cosine, got.csls) == pytest.approx((moved.cosine, moved.csls))
    assert retrieval(7 * a, 0.1 * b).cosine == pytest.approx(got.cosine)


def test_an_encoder_that_says_the_same_of_everything_finds_nothing():
    x = np.ones((20, 4)) + np.zeros((20, 1))
    r = retrieval(x, x)
    assert r.forward == r.csls_forward == pytest.approx(r.chance) == pytest.approx(1 / 20)


def test_csls_answers_a_hub():
    "Every row of the first side is closest to the hub, row 0, by cosine; CSLS finds all three partners."
    a = np.array([[1.0, 0.1, 0.1], [0.1, 1.0, 0.1], [0.1, 0.1, 1.0]])
    b = np.array([[1.0, 1.0, 1.0], [0.05, 0.6, -0.75], [-0.75, 0.05, 0.6]])
    r = retrieval(a, b, k=3)
    assert r.forward == pytest.approx(1 / 3) and r.csls_forward == 1


# -- CKA -----------------------------------------------------------------------------------------------------------------------------
def hsic(one, two):
    "tr(KHLH) / (n − 1)², with H = I − 1/n (Gretton et al. 2005)."
    n = len(one)
    h = np.eye(n) - np.ones((n, n)) / n
    return np.trace(one @ h @ two @ h) / (n - 1)**2


@few
@given(seeds, st.integers(3, 30), st.integers(1, 12), st.integers(1, 12))
def test_cka_equals_the_form_with_hsic(seed, rows, p, q):
    a, b = cloud(seed, rows, p) + 3, cloud(seed + 1, rows, q) - 1
    one, two = a @ a.T, b @ b.T
    theirs = hsic(one, two) / np.sqrt(hsic(one, one) * hsic(two, two))
    assert cka(a, b) == pytest.approx(theirs, abs=1e-9) and -1e-12 <= cka(a, b) <= 1 + 1e-12


def test_cka_by_hand():
    "One column each: CKA is the squared correlation. (1, 2, 3) and (1, 3, 2) correlate with 1/2."
    a, b = np.array([[1.0], [2], [3]]), np.array([[1.0], [3], [2]])
    assert cka(a, b) == pytest.approx(0.25) and cka(a, -5 * a + 2) == pytest.approx(1)
    square, line = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]]), np.array([[1.0], [-1], [0], [0]])
    assert cka(square, line) == pytest.approx(1 / np.sqrt(2))      # ‖bᵀa‖² = 4, ‖aᵀa‖ = √8, ‖bᵀb‖ = 2


@few
@given(seeds, st.integers(2, 6), st.floats(0.01, 100), st.floats(-10, 10))
def test_cka_invariances(seed, width, scale, shift):
    a, b = cloud(seed, 30, width), cloud(seed + 1, 30, 4) + cloud(seed, 30, 4)
    turn = ortho_group.rvs(width, random_state=seed)
    assert cka(a, b) == pytest.approx(cka(b, a)) == pytest.approx(cka(scale * a @ turn + shift, b), abs=1e-9)
    assert cka(a, a) == pytest.approx(1)


def test_cka_changes_under_a_general_linear_map():
    "An invertible map that stretches one direction leaves every linear probe as it is, and CKA not."
    a = cloud(0, 200, 4)
    assert cka(a, a @ np.diag([20.0, 1, 1, 1])) < 0.7


# -- means -------------------------------------------------------------------------------------------------------------------------
@few
@given(seeds, st.integers(1, 4), st.integers(2, 5))
def test_centring(seed, languages, rows):
    x, codes = cloud(seed, languages * rows, 3) + 5, np.repeat([f"l{i}" for i in range(languages)], rows)
    y = centred(x, codes)
    assert np.allclose(centred(y, codes), y) and all(np.allclose(m, 0) for m in language_means(y, codes).values())
    labels = torch.from_numpy(np.repeat(np.arange(languages), rows))
    theirs = adversarial.centre(torch.from_numpy(x), labels, adversarial.language_means(torch.from_numpy(x), labels, languages))
    assert np.allclose(y, theirs.numpy())
    for a in set(codes): assert np.allclose(np.diff(x[codes == a], axis=0), np.diff(y[codes == a], axis=0))     # nothing else changes


def test_means_of_other_rows():
    means = {"en": np.ones(2), "sw": np.zeros(2)}
    assert centred([[1, 1], [2, 0]], ["en", "sw"], means).tolist() == [[0, 0], [2, 0]]
    with pytest.raises(DataError, match="no mean"): centred([[1, 1]], ["yo"], means)


def test_centring_on_the_tested_rows_pushes_a_probe_below_chance():
    "What the lesson warns of: the held-out part's mean is the other part's, turned round."
    x, codes = cloud(0, 400, 40), ["en", "sw"] * 200
    values = [language_probe(centred(x, codes), codes, seed).value for seed in range(5)]
    assert np.mean(values) < 0.42 and max(values) < 0.5


def test_mean_distances():
    x = [[0.0, 1], [0, -1], [3, 1], [3, -1]]       # rows lie 1 from their means, the means 3 apart
    d = mean_distances(x, ["en", "en", "sw", "sw"])
    assert np.allclose(d, [[0, 3], [3, 0]]) and list(d.index) == list(d.columns) == ["en", "sw"]
    assert np.allclose(mean_distances(10 * np.array(x), ["en", "en", "sw", "sw"]), d)
    with pytest.raises(DataError, match="its language's mean"): mean_distances([[1.0], [1], [2], [2]], ["en", "en", "sw", "sw"])


# -- t-SNE -------------------------------------------------------------------------------------------------------------------------
def test_projection_is_deterministic_whatever_the_threads():
    from threadpoolctl import threadpool_limits
    x, pictures = cloud(0, 120, 10), set()
    for threads in (1, 2, 2):
        with threadpool_limits(threads): pictures.add(project(x, seed=1).tobytes())
    assert len(pictures) == 1 and project(x).shape == (120, 2)


def test_the_seed_moves_a_random_start_only():
    x = cloud(0, 60, 8)
    assert np.array_equal(project(x, 0, 10), project(x, 1, 10))
    assert not np.allclose(project(x, 0, 10, "random"), project(x, 1, 10, "random"))


def test_drawing_gives_every_language_a_look_of_its_own():
    names = [f"l{i:02}" for i in range(len(MARKERS))]
    points, codes = cloud(0, 3 * len(names), 2), names * 3
    ax = draw_projection(points, codes, title="a title")
    assert [t.get_text() for t in ax.get_legend().get_texts()] == names and ax.get_title() == "a title" and not len(ax.get_xticks())
    looks = {(tuple(h.get_markerfacecolor()), h.get_marker()) if not isinstance(h.get_markerfacecolor(), str) else (h.get_markerfacecolor(), h.get_marker())
             for h in ax.get_legend().legend_handles}
    assert len(looks) == len(names)
    drawn = ax.collections[0].get_offsets()
    assert sorted(map(tuple, drawn.tolist())) == sorted(map(tuple, points.tolist()))
    with pytest.raises(DataError, match="too many languages"): draw_projection(cloud(0, 16, 2), [f"l{i}" for i in range(16)])
    assert draw_projection(points, codes, legend=False).get_legend() is None
    matplotlib.pyplot.close("all")


# -- bad input ----------------------------------------------------------------------------------------------------------------------
GOOD, CODES, NAN = cloud(0, 12, 3), ["en", "sw"] * 6, np.where(np.arange(12)[:, None] == 4, np.nan, cloud(0, 12, 3))


@pytest.mark.parametrize("call, said", [
    (lambda: language_probe(GOOD, CODES[:5]), "differ in number"), (lambda: language_probe(GOOD, ["en"] * 12), "too few languages"),
    (lambda: language_probe(NAN, CODES), r"row 5 \(counted from 1\)"), (lambda: language_probe(GOOD[:6], CODES[:6]), "four rows of each"),
    (lambda: language_probe(GOOD[:, 0], CODES), "another shape"),
    (lambda: language_probe([["a", "b"]] * 12, CODES), "not an array of numbers"), (lambda: language_probe(np.zeros((12, 0)), CODES), "another shape"),
    (lambda: retrieval(GOOD, GOOD[:5]), "unequal length"), (lambda: retrieval(GOOD, GOOD[:, :2]), "unequal width"),
    (lambda: retrieval(GOOD[:1], GOOD[:1]), "too few rows"), (lambda: retrieval(GOOD, NAN), "second side: row 5"),
    (lambda: retrieval(GOOD, GOOD * 0), "all zeros"), (lambda: retrieval(GOOD, GOOD, k=0), "neighbours"),
    (lambda: cka(GOOD, GOOD[:5]), "unequal length"), (lambda: cka(GOOD, np.full((12, 2), 0.1)), "second side: all rows are equal"),
    (lambda: cka(NAN, GOOD), "first side: row 5"), (lambda: cka(GOOD[:2], GOOD[:2]), "too few rows"),
    (lambda: centred(GOOD, CODES[:3]), "differ in number"), (lambda: language_means(NAN, CODES), "no number"),
    (lambda: mean_distances(GOOD, ["en"] * 12), "too few languages"), (lambda: project(NAN), "no number"),
    (lambda: project(GOOD, perplexity=12), "a perplexity"), (lambda: project(GOOD[:4]), "too few rows"), (lambda: project(np.ones((9, 3)), perplexity=3), "two dimensions"),
    (lambda: project(GOOD, perplexity=3, init="pcb"), "no such start"), (lambda: draw_projection(GOOD, CODES), "points of another shape"),
    (lambda: draw_projection(GOOD[:, :2], CODES[:2]), "differ in number")])
def test_bad_input_is_explained(call, said):
    with pytest.raises(DataError, match=said): call()


@few
@given(st.lists(st.integers(4, 30), min_size=2, max_size=8), seeds)
def test_four_rows_of_each_language_are_enough(sizes, seed):
    codes = np.repeat([f"l{i}" for i in range(len(sizes))], sizes)
    p = language_probe(cloud(seed, len(codes), 3), codes, seed)
    assert 0 <= p.low <= p.value <= p.high <= 1 and p.chance == max(sizes) / sum(sizes) and len(p.languages) == len(sizes)
