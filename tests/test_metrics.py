"""Scores equal those of seqeval and scikit-learn, however odd the tags; bad input is explained."""
import random
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from seqeval.metrics import accuracy_score as token_accuracy
from seqeval.metrics import sequence_labeling as conll
from seqeval.metrics import v1 as strict
from seqeval.scheme import IOB2
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from xlt_lib.data.errors import DataError
from xlt_lib.evaluation.metrics import score_labels, score_spans
from xlt_lib.evaluation.spans import MODES, encode, find_spans, span_tags, span_types, spans

CASES = 10_000
JUDGES = {"strict": (strict.precision_recall_fscore_support, {"scheme": IOB2}),
          "conll": (conll.precision_recall_fscore_support, {})}
TAGS = ["O", "O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC", "I-ORG", "B-GEO-POL", "I-GEO-POL", "B", "I"]


def wild(rng):
    "Gold and predicted tags of 1 to 4 sentences of 0 to 8 words: stray I-, changes of type, hyphens, bare B and I."
    tags = rng.choice([TAGS, TAGS[:7], TAGS[:5], ["O"], ["O", "I-PER"], ["B-PER", "I-LOC"]])
    gold = [rng.choices(tags, k=rng.randint(0, 8)) for _ in range(rng.randint(1, 4))]
    kept = rng.random()
    return gold + [["O"]], [[t if rng.random() < kept else rng.choice(TAGS) for t in s] for s in gold] + [["O"]]


def four(score): return [score.precision, score.recall, score.f1, score.support]


@pytest.mark.parametrize("mode", MODES)
def test_spans_equal_seqeval(mode):
    judge, extra = JUDGES[mode]
    rng, malformed, empty = random.Random(0), 0, 0
    for _ in range(CASES):
        gold, predicted = wild(rng)
        ours = score_spans(gold, predicted, mode)
        p, r, f, s = judge(gold, predicted, average=None, zero_division=0, **extra)
        theirs = np.array([p, r, f, s]).T.reshape(-1, 4)
        mine = np.array([four(x) for x in ours.types.values()]).reshape(-1, 4)
        assert mine.shape == theirs.shape and np.allclose(mine, theirs, rtol=0, atol=1e-12), (gold, predicted)
        for n in ("correct", "predicted", "support"):
            assert getattr(ours.micro, n) == sum(getattr(x, n) for x in ours.types.values())
        mean = theirs.mean(0)[:3] if len(theirs) else np.zeros(3)   # what seqeval's "macro" is, where there is any type
        assert np.allclose(four(ours.macro)[:3], mean, rtol=0, atol=1e-12), (gold, predicted)
        malformed += any(len(spans(t)) != len(spans(t, "conll")) for t in predicted)
        empty += [] in gold
    assert malformed > CASES / 4 and empty > CASES / 10     # the cases are as odd as they claim to be


def test_averages_and_accuracy_equal_seqeval():
    rng = random.Random(1)
    for _ in range(1000):
        gold, predicted = wild(rng)
        assert score_spans(gold, predicted).accuracy == pytest.approx(token_accuracy(gold, predicted), abs=1e-12)
        for mode, (judge, extra) in JUDGES.items():
            ours = score_spans(gold, predicted, mode)
            micro = judge(gold, predicted, average="micro", zero_division=0, **extra)
            assert np.allclose(four(ours.micro), micro, rtol=0, atol=1e-12)
            if not ours.types: continue     # seqeval's mean over no type is not a number
            macro = judge(gold, predicted, average="macro", zero_division=0, **extra)
            assert np.allclose(four(ours.macro), macro, rtol=0, atol=1e-12)


def test_labels_equal_scikit_learn():
    # One call of scikit-learn for all cases: a case's labels carry its number, so cases never mix.
    rng, cases = random.Random(2), []
    for _ in range(CASES):
        gold, kept = rng.choices("abcdef"[:rng.randint(1, 6)], k=rng.randint(1, 12)), rng.random()
        cases.append((gold, [g if rng.random() < kept else rng.choice("abcxy") for g in gold]))
    assert sum(set(g) != set(p) for g, p in cases) > CASES / 4      # labels on one side only
    gold, predicted = ([f"{n}:{x}" for n, case in enumerate(cases) for x in case[k]] for k in (0, 1))
    names = sorted({*gold, *predicted})
    scores = precision_recall_fscore_support(gold, predicted, labels=names, average=None, zero_division=0)
    theirs = dict(zip(names, np.array(scores).T.tolist(), strict=True))
    for n, (g, p) in enumerate(cases):
        ours = score_labels(g, p)
        judged = {x: theirs.pop(f"{n}:{x}") for x in {*g, *p}}
        assert set(ours.types) == set(judged)
        for x, score in ours.types.items(): assert four(score) == pytest.approx(judged[x], abs=1e-12)
        assert four(ours.macro)[:3] == pytest.approx(np.mean(list(judged.values()), axis=0)[:3], abs=1e-12)
        assert ours.accuracy == ours.micro.f1 == sum(map(str.__eq__, g, p)) / len(g)
    assert not theirs


def test_macro_and_accuracy_equal_scikit_learn():
    rng = random.Random(3)
    for _ in range(300):
        gold, predicted = rng.choices("abc", k=9), rng.choices("bcd", k=9)
        ours = score_labels(gold, predicted)
        p, r, f, _ = precision_recall_fscore_support(gold, predicted, average="macro", zero_division=0)
        assert four(ours.macro)[:3] == pytest.approx([p, r, f], abs=1e-12)
        assert ours.accuracy == pytest.approx(accuracy_score(gold, predicted), abs=1e-12)


ROWS = st.lists(st.lists(st.sampled_from(TAGS), max_size=7), min_size=1, max_size=5).filter(any)


@settings(deadline=None)
@given(ROWS, st.sampled_from(list(MODES)))
def test_fast_equals_plain(rows, mode):
    e = encode(rows)
    types, starts = span_types(e), np.cumsum([0, *map(len, rows[:-1])])
    plain = [(k, a + b, a + c) for a, tags in zip(starts, rows, strict=True) for k, b, c in spans(tags, mode)]
    found = find_spans(span_tags(e, types), e.lengths, mode)
    assert [(types[k], a, b) for k, a, b in zip(*found, strict=True)] == plain


@settings(deadline=None)
@given(ROWS, st.sampled_from(list(MODES)))
def test_perfect_and_encoded(rows, mode):
    report = score_spans(rows, rows, mode)
    found = any(spans(t, mode) for t in rows)
    assert report.accuracy == 1 and report.micro.f1 == report.macro.f1 == float(found)
    assert score_spans(encode(rows), encode(rows), mode) == report


def test_two_modes_by_hand():
    gold, guess = [["B-PER", "I-PER", "O", "B-LOC", "I-LOC", "O"]], [["I-PER", "I-PER", "O", "B-LOC", "I-ORG", "O"]]
    assert four(score_spans(gold, guess, "strict").micro) == [0, 0, 0, 2]
    assert four(score_spans(gold, guess, "conll").micro) == [1 / 3, 1 / 2, 0.4, 2]
    for mode in MODES: assert f"scheme IOB2, mode {mode}" in str(score_spans(gold, guess, mode)).splitlines()[0]


def test_a_language_scores_as_if_alone():
    rng = random.Random(4)
    pairs = [wild(rng) for _ in range(30)]
    codes = [rng.choice(["yo", "sw", "zu"]) for _ in pairs]
    gold, predicted = ([s for pair in pairs for s in pair[k]] for k in (0, 1))
    languages = [c for c, (g, _) in zip(codes, pairs, strict=True) for _ in g]
    tokens = [[rng.choice("kmt") for _ in s] for s in gold]
    for mode in MODES:
        report = score_spans(gold, predicted, mode, languages, tokens, {"k": "first", "k m": "second"})
        assert sorted(report.languages) == ["sw", "yo", "zu"]
        for code, part in report.languages.items():
            g, p, t = ([s for s, c in zip(x, languages, strict=True) if c == code] for x in (gold, predicted, tokens))
            assert part == score_spans(g, p, mode, tokens=t, pool={"k": "first", "k m": "second"})
        mean = np.mean([r.micro.f1 for r in report.languages.values()])
        assert report.over_languages.f1 == pytest.approx(mean, abs=1e-12)


def test_labels_by_language():
    report = score_labels(["a", "b", "a", "a"], ["a", "a", "b", "a"], ["yo", "yo", "sw", "sw"])
    assert report.accuracy == 0.5 and {n: r.accuracy for n, r in report.languages.items()} == {"sw": 0.5, "yo": 0.5}
    words = score_labels([["NOUN", "VERB"], ["NOUN"]], [["NOUN", "NOUN"], ["NOUN"]], ["yo", "sw"])
    assert (words.accuracy, words.words, words.rows, words.languages["sw"].accuracy) == (2 / 3, 3, 2, 1)


def test_pools_by_hand():
    tokens = [["Ada", "saw", "Cape", "Coast"], ["Ada", "saw", "Lagos"]]
    gold = [["B-PER", "O", "B-LOC", "I-LOC"], ["B-PER", "O", "B-LOC"]]
    guess = [["B-PER", "O", "B-LOC", "O"], ["O", "B-PER", "B-LOC"]]   # "Cape" cut short, one Ada missed, "saw" made up
    pools = score_spans(gold, guess, tokens=tokens, pool={"Ada": "labelled", "Cape Coast": "unseen"}).pools
    assert {n: (s.correct, s.predicted, s.support) for n, s in pools.items()} == {
        "labelled": (1, 1, 2), "other": (1, 3, 1), "unseen": (0, 0, 1)}
    assert pools["labelled"].recall == 0.5 and pools["unseen"].recall == 0 and pools["other"].precision == 1 / 3
    by_function = score_spans(gold, guess, tokens=tokens, pool=lambda text: "two" if " " in text else "one").pools
    assert (by_function["two"].support, by_function["one"].support) == (1, 3)


def test_only_o_is_zero_and_nothing_at_all_is_refused():
    report = score_spans([["O", "O"]], [["O", "O"]])
    assert report.accuracy == 1 and report.types == {} and four(report.micro) == four(report.macro) == [0, 0, 0, 0]
    for rows in ([], [[]], [[], []]):
        with pytest.raises(DataError, match="nothing to score"): score_spans(rows, rows)


def test_report_is_plain_data():
    import json
    report = score_spans([["B-PER"]], [["B-PER"]], languages=["yo"], tokens=[["Ada"]], pool={})
    data = json.loads(json.dumps(asdict(report)))
    assert data["languages"]["yo"]["types"]["PER"]["f1"] == 1 and data["pools"]["other"]["support"] == 1


BAD = {
    "lengths": (lambda: score_spans([["O"], ["O"] * 5], [["O"], ["O"] * 3]), "sentence 2 .*5 gold .* but 3 predicted"),
    "number": (lambda: score_spans([["O"]], [["O"], ["O"]]), "1 gold, 2 predicted"),
    "mode": (lambda: score_spans([["O"]], [["O"]], "loose"), "unknown mode.*'loose'.*strict"),
    "mode, plain": (lambda: spans(["O"], "Strict"), "unknown mode.*Did you mean 'strict'"),
    "scheme": (lambda: score_spans([["O"], ["O"]], [["O"], ["S-PER"]]), "sentence 2 .*outside IOB2.*'S-PER'"),
    "scheme, gold": (lambda: score_spans([[], ["O", "B-"]], [[], ["O", "O"]]), "sentence 2 .*outside.*'B-'"),
    "plain": (lambda: spans(["O", "PER"]), "outside IOB2.*'PER'"),
    "not text": (lambda: score_spans([["O"], ["O", 3]], [["O"], ["O", "O"]]), "row 2 .*not a label: found 3"),
    "missing": (lambda: score_spans([["O", None]], [["O", "O"]]), "row 1 .*not a label"),
    "empty label": (lambda: score_labels(["a", ""], ["a", "a"]), "row 2 .*not a label: found ''"),
    "no row": (lambda: score_spans([["O"], None], [["O"], ["O"]]), "row 2 .*not a label"),
    "unsplit": (lambda: score_spans([["O"], "O O"], [["O"], ["O"]]), "lists and single labels"),
    "flat tags": (lambda: score_spans(["O", "B-PER"], ["O", "O"]), "tags without sentences"),
    "kinds": (lambda: score_labels(["a"], [["a"]]), "differ in kind"),
    "languages": (lambda: score_spans([["O"]], [["O"]], languages=["yo", "sw"]), "languages.*found '2.*expected 1"),
    "no tokens": (lambda: score_spans([["O"]], [["O"]], pool={}), "no words"),
    "tokens": (lambda: score_spans([["O"] * 2], [["O"] * 2], tokens=[["a"]], pool={}), "sentence 1 .*but 1 tokens"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_explained(case):
    call, message = BAD[case]
    with pytest.raises(DataError, match=message): call()
