"""BPE, WordPiece and Unigram in plain code agree with the library, with arithmetic by enumeration, and with their promises."""
import json
from collections import Counter
from itertools import product
from math import exp, log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from xlt_lib.data.errors import DataError
from xlt_lib.data.grammar import Grammar
from xlt_lib.data.subwords import (
    MARK, alphabet, bpe, count_words, expected_counts, least_missed, log_likelihood, log_shares, merge, train_bpe,
    train_unigram, viterbi, wordpiece,
)
from xlt_lib.data.world import the_world

WORDS = st.dictionaries(st.text("abc", min_size=1, max_size=7), st.integers(1, 9), min_size=1, max_size=8).map(Counter)
QUICK = settings(max_examples=60, deadline=None)


def sentences(*languages, n=150):
    world = the_world()
    return [Grammar(world.lexicons[c], world.names).say(m).text for c in languages for m in world.meanings("unlabelled")[:n]]


def model(tokenizer): return json.loads(tokenizer.to_str())["model"]


def library_bpe(texts, size):
    made = Tokenizer(models.BPE()); made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=size, show_progress=False))
    return made


def cuts(word):
    "Every way to cut a word."
    for joins in product([False, True], repeat=len(word) - 1):
        pieces = [word[0]]
        for joined, c in zip(joins, word[1:]): pieces[-1:] = [pieces[-1] + c] if joined else [pieces[-1], c]
        yield pieces


@QUICK
@given(WORDS)
def test_bpe_learns_the_librarys_merges_draws_included(words):
    texts = [" ".join([w] * n) for w, n in words.items()]
    counted = count_words(texts)
    theirs = library_bpe(texts, 1000)
    ours = train_bpe(counted, 1000)
    assert ours == [tuple(m) for m in model(theirs)["merges"]]
    assert all(bpe(w, ours) == theirs.encode(w[1:]).tokens for w in counted)


@pytest.mark.parametrize("languages", [("en", "zu"), ("te", "ar"), ("yo", "he", "hi")])
def test_bpe_on_the_world(languages):
    texts = sentences(*languages)
    words = count_words(texts)
    ours, theirs = train_bpe(words, 150), library_bpe(texts, len(alphabet(words)) + 150)
    assert ours == [tuple(m) for m in model(theirs)["merges"]][:150]
    new = count_words(sentences(*languages, n=200)).keys() - words.keys()
    assert new and all(bpe(w, ours) == theirs.encode(w[1:]).tokens for w in new if set(w) <= set(alphabet(words)))


@QUICK
@given(st.sets(st.text("abc", min_size=1, max_size=4), min_size=1), st.lists(st.text("abcd", min_size=1, max_size=9)))
def test_wordpiece_cuts_as_the_library(pieces, words):
    for inner in ("", "##"):
        vocabulary = {p: i for i, p in enumerate(sorted(pieces | {inner + p for p in pieces} | {"<unk>"}))}
        theirs = Tokenizer(models.WordPiece(vocabulary, unk_token="<unk>", continuing_subword_prefix=inner))
        for w in words: assert wordpiece(w, vocabulary, inner) == theirs.encode(w).tokens


@QUICK
@given(st.dictionaries(st.text("abc", min_size=2, max_size=4), st.floats(-9, -1)), st.lists(st.text("abc", min_size=1, max_size=8)))
def test_viterbi_finds_the_best_of_all_cuts(longer, words):
    scores = {"a": -4.0, "b": -5.0, "c": -6.0, **longer}
    theirs = Tokenizer(models.Unigram([("<unk>", 0.0), *scores.items()], 0))
    total = lambda pieces: sum(scores[p] for p in pieces)
    for word in words:
        found, score = viterbi(word, scores)
        best = max(total(c) for c in cuts(word) if all(p in scores for p in c))
        assert "".join(found) == word and abs(score - best) < 1e-9 and abs(total(found) - best) < 1e-9
        assert abs(total(theirs.encode(word).tokens) - best) < 1e-9


def test_viterbi_and_unknown_characters():
    scores = {"a": -1.0, "b": -2.0, "ab": -2.5}
    assert viterbi("abXa", scores)[0] == ["ab", "X", "a"] and viterbi("ab", scores, whole=False) == (["a", "b"], -3.0)
    assert viterbi("X", scores)[1] == -12.5     # ten beyond the least probable piece


@QUICK
@given(WORDS, st.integers(0, 9))
def test_expected_counts_equal_enumeration(words, seed):
    parts = sorted({w[i:j] for w in words for i in range(len(w)) for j in range(i + 1, len(w) + 1)})
    scores = log_shares({p: 1 + (len(p) * 7 + i * seed) % 5 for i, p in enumerate(parts)})
    counts, likelihood = expected_counts(words, scores)
    wanted, wanted_likelihood = Counter(), 0.0
    for word, n in words.items():
        weights = [(c, exp(sum(scores[p] for p in c))) for c in cuts(word)]
        whole = sum(x for _, x in weights)
        wanted_likelihood += n * log(whole)
        for c, x in weights:
            for p in c: wanted[p] += n * x / whole
    assert abs(likelihood - wanted_likelihood) < 1e-6
    assert all(abs(counts[p] - wanted[p]) < 1e-6 for p in parts)


@QUICK
@given(WORDS)
def test_em_never_lowers_the_likelihood(words):
    parts = {w[i:j] for w in words for i in range(len(w)) for j in range(i + 1, min(i + 3, len(w)) + 1)}
    scores, before = log_shares(dict.fromkeys(parts, 1)), float("-inf")
    for _ in range(4):
        counts, likelihood = expected_counts(words, scores)
        assert likelihood >= before - 1e-9
        before, scores = likelihood, log_shares({p: max(counts[p], 1e-12) for p in scores})


def test_unigram_keeps_its_promises_and_is_as_likely_as_the_librarys():
    texts = sentences("en", "sw", "he")
    words = count_words(texts)
    size = len(alphabet(words)) + 250
    ours = train_unigram(words, size)
    assert len(ours) <= size and set(alphabet(words)) <= set(ours) and abs(sum(map(exp, ours.values())) - 1) < 1e-9
    theirs = Tokenizer(models.Unigram()); theirs.pre_tokenizer = pre_tokenizers.Metaspace()
    theirs.train_from_iterator(texts, trainers.UnigramTrainer(vocab_size=size + 1, special_tokens=["<unk>"], unk_token="<unk>",
                                                              show_progress=False))
    scores = {p: s for p, s in model(theirs)["vocab"] if p != "<unk>"}
    total = log(sum(map(exp, scores.values())))
    assert log_likelihood(words, ours) > log_likelihood(words, {p: s - total for p, s in scores.items()}) - 0.02


def test_least_missed_drops_what_is_easily_replaced():
    scores = log_shares({"a": 10, "b": 10, "ab": 1, "aa": 9, "c": 1})
    kept = least_missed({"ab": 1, "aa": 9}, scores, 4)
    assert set(kept) == {"a", "b", "c", "aa"}
    assert set(least_missed({}, scores, 0)) == {"a", "b", "c"}     # single characters stay, whatever was asked for


def test_small_parts():
    assert merge(["a", "a", "a"], ("a", "a")) == ["aa", "a"] and merge(["b"], ("a", "b")) == ["b"]
    assert count_words(["x  y\tx"]) == {MARK + "x": 2, MARK + "y": 1}
    assert train_bpe(Counter(a=3), 5) == []


@pytest.mark.parametrize("call, says", [
    (lambda: count_words([]), "no text"), (lambda: count_words(["", " \n"]), "no text"),
    (lambda: count_words("one text"), "Write [text]"), (lambda: count_words([["a", "word"]]), "not a text"),
    (lambda: alphabet(Counter(a=1), 0), "coverage is a share"), (lambda: alphabet(Counter(a=1), 99.95), "coverage is a share"),
    (lambda: train_unigram(Counter(abc=1), 2), "at least 3"),
    (lambda: expected_counts(Counter(ab=1), {"a": -1.0}), "'ab'"),
])
def test_bad_input_is_explained(call, says):
    with pytest.raises(DataError) as e: call()
    assert says in str(e.value)
