"""Batches: every example once, within the budget, the same for the same seed; labels stand where the words are."""
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import examples, tokenizer

from xlt_lib.data.errors import DataError
from xlt_lib.encoders.batches import IGNORE, Batches, Collator, encode_words, fill, first_pieces, padding_share, per_word

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=200)


def of_lengths(lengths, **settings): return Batches([{"input_ids": [5] * n} for n in lengths], Collator(1), **settings)


@given(LENGTHS, st.integers(40, 300), st.one_of(st.none(), st.integers(1, 9)))
def test_fill_keeps_the_order_the_budget_and_the_rows(lengths, tokens, rows):
    plan = fill(range(len(lengths)), lengths, tokens, rows)
    assert [i for b in plan for i in b] == list(range(len(lengths)))
    for b in plan: assert len(b) * max(lengths[i] for i in b) <= tokens and len(b) <= (rows or len(b))


@given(LENGTHS, st.integers(0, 9), st.integers(0, 9))
@settings(deadline=None)
def test_an_epoch_has_every_example_once(lengths, seed, epoch):
    batches = of_lengths(lengths, tokens=64, seed=seed)
    plan = batches.plan(epoch)
    assert sorted(i for b in plan for i in b) == list(range(len(lengths)))
    assert plan == of_lengths(lengths, tokens=64, seed=seed).plan(epoch)


def test_epochs_and_seeds_differ_and_pools_mix():
    lengths = np.random.default_rng(0).integers(3, 60, 20_000).tolist()
    batches = of_lengths(lengths, tokens=1024)
    assert batches.plan(0) != batches.plan(1) and batches.plan(0) != of_lengths(lengths, tokens=1024, seed=1).plan(0)
    plan = batches.plan(0)
    assert padding_share(plan, lengths) < 0.05 < padding_share(fill(range(len(lengths)), lengths, 1024), lengths)
    firsts = [lengths[b[0]] for b in plan[:200]]
    assert min(firsts) < 15 and max(firsts) > 45                       # short and long batches take turns


def test_padding_share_by_hand():
    assert padding_share([[0, 1]], [2, 4]) == 1 - 6 / 8 and padding_share([[0], [1]], [2, 4]) == 0
    assert padding_share([[0, 1]], [2, 4], width=8) == 1 - 6 / 16


def test_processes_share_the_rows_of_a_batch():
    batches = Batches(examples(), Collator(1), tokens=512, seed=3)
    for i, members in enumerate(batches.plan(0)):
        whole = batches.batch(members, 0, i)
        parts = [p for k in range(5) if (p := batches.batch(members, 0, i, k, 5)) is not None]
        assert len(parts) == min(5, len(members))
        assert sum(p["counts"]["ner"] for p in parts) == whole["counts"]["ner"]
        assert sum(p["attention_mask"].sum() for p in parts) == whole["attention_mask"].sum()


def test_what_a_collator_draws_depends_on_the_place_alone():
    def drawing(rows, dice): return torch.rand(3, generator=dice).tolist()
    a, b = (Batches([{"input_ids": [1]}] * 4, drawing) for _ in range(2))
    a.batch([0], 0, 0)
    assert a.batch([1, 2], 2, 1) == b.batch([1, 2], 2, 1) != b.batch([1, 2], 2, 0)
    assert b.batch([1, 2], 2, 1) != b.batch([1, 2], 3, 1)


def test_bad_examples_are_refused():
    with pytest.raises(DataError, match="nothing to train on"): Batches([], Collator(1))
    with pytest.raises(DataError, match="longer than the budget.*found '70 subwords'.*max_length"): of_lengths([3, 70], tokens=64)


# -- collation ---------------------------------------------------------------------------------------------------------
def test_collation_by_hand():
    rows = [{"input_ids": [0, 5, 2], "labels": {"ner": [IGNORE, 1, IGNORE], "language": 4}, "language": "sw"},
            {"input_ids": [0, 2], "labels": {"language": 0}, "language": "en"}]
    batch = Collator(pad_id=1)(rows)
    assert batch["input_ids"].tolist() == [[0, 5, 2], [0, 2, 1]] and batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["labels"]["ner"].tolist() == [[IGNORE, 1, IGNORE], [IGNORE] * 3]      # the second row has no such labels
    assert batch["labels"]["language"].tolist() == [4, 0] and batch["language"] == ["sw", "en"]
    assert batch["counts"] == {"ner": 1, "language": 2}


def test_a_label_too_few_is_refused():
    with pytest.raises(DataError, match="ner is not one number a subword.*found 2, expected 3"):
        Collator(1)([{"input_ids": [0, 5, 2], "labels": {"ner": [0, 1]}}])


# -- words and subwords ------------------------------------------------------------------------------------------------
def test_first_pieces_by_hand():
    assert first_pieces([None, 0, 0, 1, None]) == [IGNORE, 0, IGNORE, 1, IGNORE]
    assert first_pieces([]) == []


WORDS = st.lists(st.sampled_from(["nurse", "Amina", "muuguzi", "\u200b", "", "x", "انا", "…", "antidisestablishment"]), max_size=12)


@given(st.lists(WORDS, min_size=1, max_size=5), st.integers(4, 40))
@settings(deadline=None, max_examples=50)
def test_labels_survive_the_way_through_subwords(sentences, max_length):
    "Whatever the tokenizer swallows or the length cuts off, a word gets its own label back or `empty`."
    labels = [[10 + i for i in range(len(words))] for words in sentences]
    for e, words, gold in zip(encode_words(tokenizer(), sentences, {"ner": labels}, max_length), sentences, labels):
        assert len(e["input_ids"]) == len(e["words"]) == len(e["labels"]["ner"]) <= max_length
        back = per_word(e["labels"]["ner"], e["words"], len(words), empty=-1)
        assert len(back) == len(words) and all(b in (g, -1) for b, g in zip(back, gold))
        if max_length == 40 and "" not in words and sum(map(len, words)) < 12: assert back == gold


def test_labels_must_fit_the_words():
    with pytest.raises(DataError, match="sentence 2 has not one label a word.*1 labels.*2 words: a b"):
        encode_words(tokenizer(), [["a"], ["a", "b"]], {"ner": [[0], [0]]})
    with pytest.raises(DataError, match="another number of sentences"): encode_words(tokenizer(), [["a"]], {"ner": []})
    assert encode_words(tokenizer(), []) == []


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.sampled_from([1, 4, 8]))
@settings(max_examples=40, deadline=None)
def test_batches_are_padded_to_a_multiple_or_to_the_longest(lengths, multiple):
    made = Batches([{"input_ids": [7] * n} for n in lengths], Collator(0), tokens=80, multiple=multiple)
    plan = made.plan(0)
    assert sorted(i for b in plan for i in b) == list(range(len(lengths)))
    for i, members in enumerate(plan):
        batch, longest = made.batch(members, 0, i), max(lengths[m] for m in members)
        width = batch["input_ids"].shape[1]
        assert width == min(-(-longest // multiple) * multiple, max(lengths)) and batch["input_ids"].numel() <= 80
        assert batch["attention_mask"].sum(1).tolist() == [lengths[m] for m in members]
    plain = Batches(made.examples, Collator(0), tokens=80)
    assert (made.fingerprint() == plain.fingerprint()) == (multiple == 1)
