"""Intervals and tests equal plain loops and the peers' (scipy, sacreBLEU) and keep their promises."""
import math
import random
import time

import numpy as np
import pytest
from scipy import stats

from xlt_lib.data.errors import DataError
from xlt_lib.evaluation.metrics import score_labels, score_spans
from xlt_lib.evaluation.spans import MODES
from xlt_lib.evaluation.statistics import (SEED_METHODS, Interval, compare_seeds, holm, label_counts, paired_bootstrap,
                                           paired_permutation, seed_interval, sentence_interval, span_counts)

TAGS = ["O", "O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def corpus(sentences, seed, worse=0.32):
    "Gold tags, and the tags of a better and a worse system; some sentences are empty, some I- are stray."
    rng = random.Random(seed)
    gold = [rng.choices(TAGS, k=rng.randint(0, 12)) for _ in range(sentences)]
    noisy = lambda rate: [[rng.choice(TAGS) if rng.random() < rate else t for t in s] for s in gold]
    return gold, noisy(0.25), noisy(worse)


def f1(counts): return counts[:, 0].sum() / counts[:, 1].sum()


# ---- seeds

@pytest.mark.parametrize("n", [2, 3, 5, 20])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_t_interval_equals_scipy(n, level):
    x = np.random.default_rng(n).normal(0.6, 0.03, n)
    ours, theirs = seed_interval(x, level), stats.ttest_1samp(x, 0).confidence_interval(level)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert ours.value == pytest.approx(x.mean()) and ours.half == pytest.approx((theirs.high - theirs.low) / 2)
    assert (ours.n, ours.unit, ours.level) == (n, "seeds", level)


@pytest.mark.parametrize("method", ["percentile", "BCa"])
def test_bootstrap_over_seeds_is_scipy_s_and_repeatable(method):
    x = np.random.default_rng(1).gamma(2, size=12)
    ours = seed_interval(x, method=method, seed=3)
    theirs = stats.bootstrap((x,), np.mean, method=method, rng=3).confidence_interval
    assert (ours.low, ours.high) == (theirs.low, theirs.high)
    assert ours == seed_interval(x, method=method, seed=3) != seed_interval(x, method=method, seed=4)


def test_t_interval_keeps_its_promise_where_a_bootstrap_of_three_cannot():
    rng, held = np.random.default_rng(0), {"t": 0, "percentile": 0}
    for _ in range(400):
        x = rng.normal(size=3)
        for method in held:
            i = seed_interval(x, method=method, resamples=300)
            held[method] += i.low <= 0 <= i.high
    assert 0.92 < held["t"] / 400 < 0.98
    assert held["percentile"] / 400 < 0.82      # at most 3/4 can hold the truth; the rest is room for chance


@pytest.mark.parametrize("method", SEED_METHODS)
def test_one_seed_has_no_interval_and_equal_scores_have_no_width(method):
    one, same = seed_interval([0.5], method=method), seed_interval([0.3] * 5, method=method)
    assert math.isnan(one.low) and math.isnan(one.high) and str(one) == "0.500 (1 seed: no interval)"
    assert one.show(100, 1) == "50.0" and (same.low, same.high) == (same.value, same.value)


def test_intervals_show_what_they_are():
    even = Interval(0.53, 0.44, 0.62, 0.95, 3, "seeds", "Student's t")
    assert even.show(100, 1) == "53.0 ± 9.0" and str(even) == "0.530 ± 0.090 (95% Student's t, 3 seeds)"
    odd = Interval(0.53, 0.5, 0.62, 0.9, 2000, "sentences", "percentile bootstrap")
    assert str(odd) == "0.530 [0.500, 0.620] (90% percentile bootstrap, 2,000 sentences)"


@pytest.mark.parametrize("paired", [True, False])
def test_difference_over_seeds_equals_scipy(paired):
    rng = np.random.default_rng(5)
    a, b = rng.normal(0.62, 0.02, 5), rng.normal(0.6, 0.05, 5 if paired else 8)
    ours = compare_seeds(a, b, paired)
    theirs = stats.ttest_rel(a, b) if paired else stats.ttest_ind(a, b, equal_var=False)
    ends = theirs.confidence_interval(0.95)
    assert (ours.p, ours.low, ours.high) == pytest.approx((theirs.pvalue, ends.low, ends.high), abs=1e-12)
    assert ours.value == pytest.approx(ours.first - ours.second)
    back = compare_seeds(b, a, paired)
    assert (back.value, back.low, back.p) == pytest.approx((-ours.value, -ours.high, ours.p))


def test_difference_with_nothing_to_test():
    assert math.isnan(compare_seeds([0.5], [0.4]).p) and "no interval" in str(compare_seeds([0.5], [0.4]))
    assert math.isnan(compare_seeds([0.5, 0.6, 0.7], [0.4, 0.5, 0.6]).p)       # every pair differs by 0.1
    assert compare_seeds([0.5, 0.6], [0.5, 0.5], paired=False).p > 0.05         # one side without spread


# ---- sentences

@pytest.mark.parametrize("mode", MODES)
def test_counts_add_up_to_the_scorer_s_f1(mode):
    for seed in range(50):
        gold, good, _ = corpus(20, seed)
        gold, good = gold + [["O"]], good + [["B-PER"]]
        counts = span_counts(gold, good, mode)
        assert f1(counts) == pytest.approx(score_spans(gold, good, mode).micro.f1, abs=1e-15)
        for k, (g, p) in enumerate(zip(gold, good, strict=True)):       # each sentence alone
            if not g: assert counts[k].tolist() == [0, 0]; continue
            s = score_spans([g], [p], mode).micro
            assert counts[k].tolist() == [2 * s.correct, s.support + s.predicted]


def test_counts_of_labels_add_up_to_accuracy():
    gold, good, _ = corpus(30, 1)
    assert f1(label_counts(gold, good)) == pytest.approx(score_labels(gold, good).accuracy, abs=1e-15)
    assert label_counts(["a", "b", "a"], ["a", "c", "c"]).tolist() == [[1, 1], [0, 1], [0, 1]]


def plain(a, b, resamples, seed):
    "A difference a resample, by a loop."
    rng, out = np.random.default_rng(seed), []
    for _ in range(resamples):
        drawn = rng.integers(len(a), size=len(a))
        out.append(f1(a[drawn]) - f1(b[drawn]))
    return np.array(out)


@pytest.mark.parametrize("sentences", [1, 7, 200, 701])
def test_paired_bootstrap_equals_a_plain_loop(sentences):
    gold, good, bad = corpus(sentences, 2)
    gold, good, bad = gold + [["B-PER"]] * 3, good + [["B-PER"]] * 3, bad + [["B-PER"]] * 3
    a, b = span_counts(gold, good), span_counts(gold, bad)
    a, b = a[a[:, 1] > 0], b[a[:, 1] > 0]      # the loop knows no 0 / 0
    keep = b[:, 1] > 0
    a, b = a[keep], b[keep]
    ours, loop, seen = paired_bootstrap(a, b, resamples=700, seed=9), plain(a, b, 700, 9), f1(a) - f1(b)
    assert (ours.low, ours.high) == pytest.approx(tuple(np.quantile(loop, [0.025, 0.975])), abs=1e-14)
    assert ours.p == (np.count_nonzero(abs(loop - seen) >= abs(seen) - 1e-12) + 1) / 701
    assert (ours.value, ours.first, ours.second) == (seen, f1(a), f1(b))


def test_paired_permutation_equals_a_plain_loop_and_every_swap():
    gold, good, bad = corpus(9, 4)
    a, b = span_counts(gold, good), span_counts(gold, bad)
    swapped = lambda mask: f1(np.where(mask[:, None], b, a)) - f1(np.where(mask[:, None], a, b))
    every = np.array([swapped(np.array([k >> i & 1 for i in range(9)], bool)) for k in range(2**9)])
    exact = np.mean(abs(every) >= abs(f1(a) - f1(b)) - 1e-12)
    assert paired_permutation(a, b, 20_000) == pytest.approx(exact, abs=0.012)      # 3 standard errors of 20,000 draws
    rng, differ, extreme = np.random.default_rng(7), (a != b).any(1), 0
    for _ in range(300):
        mask = np.zeros(9, bool)
        mask[differ] = rng.integers(2, size=differ.sum()).astype(bool)
        extreme += abs(swapped(mask)) >= abs(f1(a) - f1(b)) - 1e-12
    assert paired_permutation(a, b, 300, seed=7) == (extreme + 1) / 301


def test_both_tests_agree_with_scipy():
    gold, good, bad = corpus(300, 6)
    a, b = span_counts(gold, good), span_counts(gold, bad)
    pick = lambda c, rows: c[rows, 0].sum(-1) / c[rows, 1].sum(-1)
    theirs = stats.bootstrap((np.arange(300),), lambda rows, axis=-1: pick(a, rows) - pick(b, rows), vectorized=True,
                             n_resamples=5000, method="percentile", batch=500, rng=1).confidence_interval
    ours = paired_bootstrap(a, b)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.003)
    both = np.stack([a, b])
    statistic = lambda x, y: abs(f1(both[x.astype(int), np.arange(300)]) - f1(both[y.astype(int), np.arange(300)]))
    peer = stats.permutation_test((np.zeros(300), np.ones(300)), statistic, permutation_type="samples",
                                  vectorized=False, n_resamples=3000, alternative="greater", rng=2)
    assert paired_permutation(a, b) == pytest.approx(peer.pvalue, abs=0.03)
    assert 0.001 < peer.pvalue < 0.5        # a case in which there is something to agree on


def test_bootstrap_is_the_one_of_sacrebleu():
    "Its own code, fed with our counts: the same resamples for the same seed, and a one-sided p."
    significance = pytest.importorskip("sacrebleu.significance")
    base = pytest.importorskip("sacrebleu.metrics.base")

    class F1:
        _extract_corpus_statistics = staticmethod(lambda hypotheses, references: hypotheses)
        _compute_score_from_stats = staticmethod(lambda sums: base.Score("F1", float(sums[0] / sums[1])))
        _aggregate_and_compute = classmethod(lambda cls, rows: cls._compute_score_from_stats(np.sum(rows, 0)))

    gold, good, bad = corpus(300, 8, worse=0.27)
    a, b = span_counts(gold, good), span_counts(gold, bad)
    baseline = {"f1": (b, F1._aggregate_and_compute(b))}
    _, theirs = significance._paired_bs_test(baseline, "a", a, None, {"f1": F1}, n_samples=2000, seed=11)
    differences, seen = plain(a, b, 2000, 11), f1(a) - f1(b)
    one_sided = (np.count_nonzero(abs(differences) - abs(differences).mean() > seen) + 1) / 2001
    assert theirs["f1"].p_value == pytest.approx(one_sided, abs=0.002)      # sacreBLEU sums in single precision
    assert paired_bootstrap(a, b, resamples=2000, seed=11).p == pytest.approx(2 * theirs["f1"].p_value, rel=0.35)
    interval = sentence_interval(a, resamples=2000, seed=11)
    assert interval.half == pytest.approx(theirs["f1"].ci, rel=0.02)


def test_a_system_against_itself_is_no_difference():
    gold, good, _ = corpus(50, 3)
    a = span_counts(gold, good)
    same = paired_bootstrap(a, a)
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1) and paired_permutation(a, a) == 1


def test_two_samples_of_one_kind_cry_wolf_as_often_as_they_say():
    rng, alarms = np.random.default_rng(0), {"bootstrap": 0, "permutation": 0}
    for k in range(400):        # two coins of the same bias on 150 rows
        a, b = (np.stack([rng.random(150) < 0.7, np.ones(150)], 1) for _ in "ab")
        alarms["bootstrap"] += paired_bootstrap(a, b, resamples=300, seed=k).p < 0.05
        alarms["permutation"] += paired_permutation(a, b, 300, seed=k) < 0.05
    assert all(0.015 < n / 400 < 0.09 for n in alarms.values()), alarms     # 5 %, give or take 3 standard errors


def test_ten_thousand_resamples_of_two_thousand_sentences_take_less_than_a_second():
    gold, good, bad = corpus(2000, 0)
    a, b = span_counts(gold, good), span_counts(gold, bad)
    def seconds(test):
        began = time.perf_counter()
        test(a, b)
        return time.perf_counter() - began
    assert min(seconds(paired_bootstrap) for _ in range(3)) < 1
    assert min(seconds(paired_permutation) for _ in range(3)) < 1


# ---- many comparisons

def test_holm_by_hand_and_by_definition():
    assert holm({"sw": 0.01, "yo": 0.04, "zu": 0.03}) == pytest.approx({"sw": 0.03, "yo": 0.06, "zu": 0.06})
    assert holm({}) == {} and holm({"one": 0.2}) == {"one": 0.2}
    rng = random.Random(0)
    for _ in range(200):        # rejected by Holm's steps at a level exactly where the adjusted p does not exceed it
        p = {k: rng.random() ** 3 for k in range(rng.randint(1, 8))}
        level, rejected = rng.random() * 0.3, set()
        for step, k in enumerate(sorted(p, key=p.get)):
            if p[k] > level / (len(p) - step): break
            rejected.add(k)
        assert {k for k, q in holm(p).items() if q <= level} == rejected
        assert list(holm(p)) == list(p)


# ---- bad input

COUNTS = np.ones((4, 2))


@pytest.mark.parametrize("call, says", [
    (lambda: seed_interval([]), "no scores"),
    (lambda: seed_interval([0.5, float("nan")]), "no number: found nan"),
    (lambda: seed_interval([0.5, 0.6], level=95), "not a level: found 95"),
    (lambda: seed_interval([0.5, 0.6], method="z"), "unknown method: found 'z', expected t, percentile, BCa"),
    (lambda: compare_seeds([0.5, 0.6], [0.5]), "as many seeds on both sides: found '2 and 1'"),
    (lambda: paired_bootstrap(COUNTS, COUNTS[:3]), "different sentences: found '4 and 3 rows'"),
    (lambda: paired_permutation(COUNTS, COUNTS[:3]), "different sentences: found '4 and 3 rows'"),
    (lambda: sentence_interval(np.ones(4)), "not counts: found (4,)"),
    (lambda: sentence_interval(np.ones((0, 2))), "not counts: found (0, 2)"),
    (lambda: span_counts([["O"]], [["O", "O"]]), "1 gold labels but 2"),
    (lambda: span_counts([["O"]], [["L-PER"]]), "a tag outside IOB2"),
    (lambda: holm({"sw": 1.2}), "sw: not a p-value: found 1.2"),
    (lambda: holm({"sw": math.nan}), "sw: not a p-value: found nan"),
])
def test_bad_input(call, says):
    with pytest.raises(DataError) as error: call()
    assert says in str(error.value)
