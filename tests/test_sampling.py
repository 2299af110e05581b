"""Sampling: nested, the same everywhere, training only; splits that keep every label's share."""
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlt_lib.data.errors import DataError
from xlt_lib.data.sampling import (SCENARIOS, Scenario, apportion, order, rows_for, rows_table, sample, sample_corpora,
                                   stratified_split)
from xlt_lib.data.tasks import corpus


def toy(n=200, labels=("positive", "negative", "neutral"), weights=(5, 3, 2)):
    names = [label for label, w in zip(labels, weights, strict=True) for _ in range(n * w // sum(weights))]
    return corpus("sentiment", [dict(id=f"r{i}", language="sw", dataset="d", domain="", text=f"t{i % 150}", label=s)
                                for i, s in enumerate(names)])


TIERS = {"en": "high", "de": "medium", "yo": "low"}


def test_the_order_is_fixed_for_ever():
    ids = [toy()["id"][i] for i in order(toy(), 13)]
    assert ids == sorted(toy()["id"], key=lambda i: hashlib.sha256(f"13\t{i}".encode()).digest())
    assert hashlib.sha256(" ".join(ids).encode()).hexdigest()[:16] == "3ca32ec5c4a2291d"


def test_nested_and_independent_of_file_order():
    ds = toy()
    shuffled = ds.shuffle(seed=3)
    samples = [sample(ds, f, 7)["id"][:] for f in (0, 0.001, 0.01, 0.1, 0.5, 1)]
    assert [len(s) for s in samples] == [0, 1, 2, 20, 100, 200]
    for small, large in zip(samples, samples[1:], strict=False): assert large[:len(small)] == small
    assert sample(shuffled, 0.1, 7).to_dict() == sample(ds, 0.1, 7).to_dict() != sample(ds, 0.1, 8).to_dict()


def test_rows_that_share_an_id():
    rows = [dict(id="same", language="sw", dataset="d", domain="", text=f"t{i}", label="neutral") for i in range(20)]
    a, b = corpus("sentiment", rows), corpus("sentiment", rows[::-1])
    assert sample(a, 0.3)["text"][:] == sample(b, 0.3)["text"][:]


@given(st.integers(0, 10**6), st.sampled_from([0.001, 0.01, 0.05, 0.1, 0.285, 1.0]))
def test_rows_for(n, fraction):
    rows = rows_for(n, fraction)
    assert rows == 0 if n == 0 else 1 <= rows <= n and (rows == 1 or abs(rows - n * fraction) <= 0.5 + 1e-6)


def test_rows_for_rounds_half_up():
    assert [rows_for(n, 0.1) for n in (4, 5, 15, 25, 35, 45)] == [1, 1, 2, 3, 4, 5] and rows_for(100, 0.285) == 29
    assert rows_table({"yo": 100})[0] == {"language": "yo", "100 %": 100, "10 %": 10, "1 %": 1}
    for bad in (-0.1, 1.01, 10):
        with pytest.raises(DataError, match="not a share"): rows_for(10, bad)


def test_scenarios_are_the_first_papers():
    shares = {name: [s.fraction(t) for t in ("high", "medium", "low")] for name, s in SCENARIOS.items()}
    assert shares == {"full": [1, 1, 1], "low": [1, 0.1, 0.01], "zero": [1, 0, 0]}
    with pytest.raises(DataError, match="unknown tier"): Scenario("x").fraction("hgih")


@pytest.mark.parametrize("name", SCENARIOS)
def test_only_training_data_is_thinned(name):
    splits = {"train": toy(), "dev": toy(20), "test": toy(30)}
    out = sample_corpora({language: splits for language in TIERS}, TIERS, SCENARIOS[name])
    for language, got in out.items():
        assert got["dev"] is splits["dev"] and got["test"] is splits["test"]
        assert len(got["train"]) == rows_for(200, SCENARIOS[name].fraction(TIERS[language]))
        assert got["train"].features == splits["train"].features


def test_refusals():
    low = SCENARIOS["low"]
    with pytest.raises(DataError, match="without a tier"): sample_corpora({"sw": {"train": toy()}}, TIERS, low)
    with pytest.raises(DataError, match="not split"): sample_corpora({"en": {"all": toy()}}, TIERS, low)
    with pytest.raises(DataError, match="without an id"): order(toy().remove_columns("id"))
    with pytest.raises(DataError, match="no such column"): stratified_split(toy(), by="lable")
    for bad in ((0.7, 0.2, 0.2), (1.1, -0.1, 0.0)):
        with pytest.raises(DataError, match="no split"): stratified_split(toy(), bad)
    with pytest.raises(DataError, match="three shares"): stratified_split(toy(), (0.5, 0.5))


@given(st.integers(0, 5000), st.sampled_from([(0.7, 0.15, 0.15), (0.8, 0.1, 0.1), (1.0, 0.0, 0.0), (0.34, 0.33, 0.33)]))
def test_largest_remainder(n, shares):
    rows = apportion(n, shares)
    assert sum(rows) == n and all(abs(r - n * s) < 1 + 1e-9 for r, s in zip(rows, shares, strict=True))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_split_is_exact_and_agrees_with_scikit_learn(seed):
    from sklearn.model_selection import train_test_split
    ds = toy(1000, weights=(57, 31, 12))
    parts = stratified_split(ds, seed=seed)
    assert sorted(i for p in parts.values() for i in p["id"]) == sorted(ds["id"])
    labels = ds["label"][:]
    train, rest = train_test_split(labels, train_size=0.7, stratify=labels, random_state=seed)
    dev, test = train_test_split(rest, train_size=0.5, stratify=rest, random_state=seed)
    for ours, theirs in zip(parts.values(), (train, dev, test), strict=True):
        for label in set(labels):
            assert abs(ours["label"][:].count(label) - theirs.count(label)) <= 2
    for label in set(labels):
        assert [p["label"][:].count(label) for p in parts.values()] == apportion(labels.count(label), (0.7, 0.15, 0.15))


def test_split_ignores_file_order_and_groups_copies():
    ds = toy()
    a, b = stratified_split(ds, seed=5), stratified_split(ds.shuffle(seed=1), seed=5)
    assert all(set(a[s]["id"]) == set(b[s]["id"]) for s in a)
    assert set(a["train"]["text"]) & set(a["test"]["text"])   # 50 texts occur twice
    grouped = stratified_split(ds, seed=5, group="text")
    train, dev, test = (set(part["text"]) for part in grouped.values())
    assert not train & dev and not train & test and not dev & test
    assert all(abs(len(grouped[s]) - n) <= 6 for s, n in (("train", 140), ("dev", 30), ("test", 30)))


def test_split_without_strata_and_by_lists():
    felt = [["joy"], [], ["joy", "fear"]]
    rows = [dict(id=str(i), language="sw", dataset="d", domain="", text=str(i), labels=felt[i % 3]) for i in range(60)]
    parts = stratified_split(corpus("emotion", rows), by="labels")
    assert [sum(x == ["joy", "fear"] for x in p["labels"]) for p in parts.values()] == [14, 3, 3]
    assert [len(p) for p in stratified_split(corpus("emotion", rows), by=None).values()] == [42, 9, 9]
