"""Classes of error that add up to the score; groups, words, negation; what stands out in translations."""
import json
from dataclasses import asdict

import pytest
from conftest import needs_real
from hypothesis import given, settings
from hypothesis import strategies as st

from xlt_lib.data.corpora import load
from xlt_lib.data.errors import DataError
from xlt_lib.data.world import the_world
from xlt_lib.evaluation.baselines import MostFrequentTag, NameList
from xlt_lib.evaluation.errors import (
    ERRORS, buckets, confusion, count_errors, draw_confusion, draw_errors, has_negation, known_names, match_spans, negation_words, pair_spans,
    score_groups, score_words)
from xlt_lib.evaluation.metrics import score_labels, score_spans
from xlt_lib.evaluation.spans import spans
from xlt_lib.evaluation.translation_errors import inspect_translations, recovered_words, repetitions, summarise

TAGS = st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG"])
SENTENCE = st.lists(st.tuples(TAGS, TAGS), min_size=1, max_size=12)


def sides(sentences): return [[a for a, _ in s] for s in sentences], [[b for _, b in s] for s in sentences], [[f"w{k}" for k in range(len(s))] for s in sentences]


@settings(max_examples=150, deadline=None)
@given(st.lists(SENTENCE, min_size=1, max_size=4), st.sampled_from(["strict", "conll"]))
def test_every_span_is_in_one_class_and_the_sums_are_the_score(sentences, mode):
    gold, predicted, tokens = sides(sentences)
    matches = match_spans(gold, predicted, tokens, mode=mode)
    score = score_spans(gold, predicted, mode).micro
    for side, tags in (("gold", gold), ("predicted", predicted)):
        wanted = sorted((n, *s) for n, t in enumerate(tags) for s in spans(t, mode))
        pairs = [(n, p) for n in range(len(gold)) for p in pair_spans(spans(gold[n], mode), spans(predicted[n], mode))]
        assert sorted((n, *p[1 if side == "gold" else 2]) for n, p in pairs if p[1 if side == "gold" else 2]) == wanted
        assert sum(bool(getattr(m, f"{side}_type")) for m in matches) == len(wanted)
    if not matches: return
    row, = count_errors(matches)
    assert (row["right"], row["gold"], row["predicted"]) == (score.correct, score.support, score.predicted)
    assert row["gold"] == sum(row[e] for e in ("right", "type", "boundary", "both", "missed", "merged"))
    assert row["predicted"] == sum(row[e] for e in ("right", "type", "boundary", "both", "invented", "split"))
    assert (row["precision"], row["recall"], row["f1"]) == (score.precision, score.recall, score.f1)


@settings(max_examples=100, deadline=None)
@given(SENTENCE)
def test_the_classes_mean_what_they_say(sentence):
    "Checked word by word: what is missed touches no prediction, what is invented no name, what is split or merged one that is paired."
    gold, predicted, _ = (s[0] for s in sides([sentence]))
    words = lambda s: set(range(s[1], s[2]))
    for error, g, p in pair_spans(spans(gold), spans(predicted)):
        near = [o for o in (spans(predicted) if g else spans(gold)) if words(o) & words(g or p)]
        if error in ("missed", "invented"): assert not near
        if error in ("merged", "split"): assert near and (g is None or p is None)
        if error in ("right", "type"): assert g[1:] == p[1:] and (g[0] == p[0]) == (error == "right")
        if error in ("boundary", "both"): assert words(g) & words(p) and g[1:] != p[1:] and (g[0] == p[0]) == (error == "boundary")


@pytest.mark.parametrize("gold, predicted, classes", [
    ([("PER", 0, 2)], [("PER", 0, 2)], ["right"]), ([("PER", 0, 2)], [("LOC", 0, 2)], ["type"]), ([("PER", 0, 2)], [("PER", 1, 2)], ["boundary"]),
    ([("ORG", 0, 3)], [("LOC", 2, 3)], ["both"]), ([("PER", 0, 1)], [], ["missed"]), ([], [("PER", 0, 1)], ["invented"]),
    ([("PER", 0, 2)], [("PER", 0, 1), ("PER", 1, 2)], ["boundary", "split"]), ([("LOC", 0, 1), ("LOC", 2, 3)], [("LOC", 0, 3)], ["boundary", "merged"]),
    ([("PER", 0, 3)], [("LOC", 0, 2), ("PER", 2, 3)], ["both", "split"]), ([("PER", 0, 2)], [("LOC", 0, 1), ("PER", 1, 2)], ["split", "boundary"])])
def test_by_hand(gold, predicted, classes): assert [e for e, *_ in pair_spans(gold, predicted)] == classes


def test_training_tells_seen_from_unseen():
    known = known_names([["Ann", "Lee", "in", "Paris"], ["Jordan"]], [["B-PER", "I-PER", "O", "B-LOC"], ["B-LOC"]])
    assert known == {"Ann Lee": {"PER"}, "Paris": {"LOC"}, "Jordan": {"LOC"}}
    gold, words = [["B-PER", "I-PER", "B-PER", "B-LOC", "O"]], [["Ann", "Lee", "Jordan", "Rome", "Paris"]]
    found = match_spans(gold, [["O", "O", "O", "O", "B-LOC"]], words, ["en"], known)
    assert [(m.gold or m.predicted, m.known) for m in found] == [("Ann Lee", "seen"), ("Jordan", "other type"), ("Rome", "unseen"), ("Paris", "seen")]
    assert {m.known for m in match_spans(gold, gold, words)} == {""} and json.dumps([asdict(m) for m in found])


def test_a_name_list_knows_what_it_has_seen_and_nothing_else():
    train, test = load("ner", "sw", "train")[:], load("ner", "sw", "test")[:]
    guess = [*map(NameList(train["tokens"], train["tags"]).predict, test["tokens"])]
    rows = {r["known"]: r for r in count_errors(match_spans(test["tags"], guess, test["tokens"], known=known_names(train["tokens"], train["tags"])), "known")}
    assert rows["unseen"]["right"] == 0 < rows["unseen"]["gold"] and rows["seen"]["recall"] > 0.9


def test_languages_are_counted_apart():
    gold, guess, words = [["B-PER"], ["B-LOC"]], [["B-PER"], ["O"]], [["a"], ["b"]]
    assert [(r["language"], r["right"], r["missed"]) for r in count_errors(match_spans(gold, guess, words, ["sw", "yo"]))] == [("sw", 1, 0), ("yo", 0, 1)]


@pytest.mark.parametrize("arguments, words", [
    (([["O"]], [["O", "O"]], [["a"]]), "predicted labels"), (([["O"]], [["O"]], [["a", "b"]]), "1 gold labels but 2 tokens"),
    (([["O"]], [["O"]], []), "0 lists of tokens"), (([["O"]], [["O"]], [["a"]], ["sw", "yo"]), "2 languages"), (([["O"]], [["S-PER"]], [["a"]]), "outside IOB2")])
def test_bad_input_is_named(arguments, words):
    with pytest.raises(DataError, match=words): match_spans(*arguments)


def test_buckets_and_groups():
    assert buckets([0, 4, 5, 100], (0, 5, 10)) == ["0–4", "0–4", "5–9", "10+"] and buckets([0, 1, 2, 9], (0, 1, 2)) == ["0", "1", "2+", "2+"] and buckets([]) == []
    with pytest.raises(DataError, match="below the first bucket"): buckets([1], (2, 3))
    rows = score_groups(["a", "b", "a", "b"], ["a", "b", "b", "b"], ["10+", "5–9", "10+", "5–9"], score_labels)
    assert [(r["group"], r["rows"], r["accuracy"]) for r in rows] == [("5–9", 2, 1.0), ("10+", 2, 0.5)]
    with pytest.raises(DataError, match="1 languages"): score_groups(["a", "b"], ["a", "b"], ["x"], score_labels)


def test_words_by_their_frequency():
    rows = score_words([["new", "old", "old"]], [["B-PER", "B-PER", "O"]], [["O", "B-PER", "B-LOC"]], [["old", "old"]], (0, 1, 2))
    assert rows == [{"seen": "0", "words in names": 1, "tagged right": 0, "words outside": 0, "taken for names": None},
                    {"seen": "2+", "words in names": 1, "tagged right": 1, "words outside": 1, "taken for names": 1}]
    test, train = load("ner", "yo", "test")[:], load("ner", "yo", "train")[:]
    guess = [*map(MostFrequentTag(train["tokens"], train["tags"]).predict, test["tokens"])]
    rows = score_words(test["tokens"], test["tags"], guess, train["tokens"])
    assert sum(r["words in names"] + r["words outside"] for r in rows) == sum(map(len, test["tokens"])) and rows[0]["tagged right"] < 0.1


def test_confusion_counts_every_pair():
    rows = confusion(["a", "a", "b", ""], ["a", "b", "b", "a"])
    assert rows == [{"gold": "a", "a": 1, "b": 1, "none": 0}, {"gold": "b", "a": 0, "b": 1, "none": 0}, {"gold": "none", "a": 1, "b": 0, "none": 0}]
    with pytest.raises(DataError, match="1 predictions"): confusion(["a", "b"], ["a"])


@pytest.mark.parametrize("language", the_world().languages)
def test_negation_is_found_where_the_meaning_has_one(language):
    "The world's meanings say which sentences are negated. Chinese may differ in Naples, 那不勒斯."
    denies = lambda c: c.negated or any(denies(x) for x in (c.said, c.aside) if x)
    wrong = [s.text for s in the_world().sentences(language, "dev") if denies(s.meaning.clause) != has_negation(s.text, language)]
    assert all("那不勒斯" in t for t in wrong) if language == "zh" else wrong == []


def test_negation_words():
    assert negation_words("en") == {"not"} and negation_words("fr") == {"ne", "pas"} and "hafurahii" in negation_words("sw")
    assert has_negation("Ce n'est PAS bon.", "fr") and has_negation("o\u0300, k\u006f\u0300 dára", "yo") and not has_negation("nothing knotted", "en")
    assert has_negation("kein Buch", "de", frozenset({"kein"})) and not has_negation("kein Buch", "de")
    with pytest.raises(DataError, match="not a language of the embedded world"): negation_words("ha")


def test_pictures_show_every_class():
    import matplotlib
    matplotlib.use("Agg")
    gold, guess, words = [["B-PER", "O"]], [["B-PER", "B-LOC"]], [["a", "b"]]
    matches = match_spans(gold, guess, words, ["sw"])
    ax = draw_errors(count_errors(matches))
    assert [t.get_text() for t in ax.get_legend().get_texts()] == list(ERRORS)
    assert {round(p.get_x(), 6) for p in ax.patches if p.get_width() > 0} == {0.0, -1.0}      # one gold name right, one invention beyond it
    ax = draw_confusion(confusion([m.gold_type for m in matches], [m.predicted_type for m in matches]))
    assert [t.get_text() for t in ax.texts] == ["0", "0", "0", "0", "1", "0", "1", "0", "0"]


def test_what_stands_out_in_a_translation():
    row, = inspect_translations(["Amina visits Kano."], ["Amina anatembelea Kano."], ["Amina anatembelea Amina anatembelea Amina anatembelea."], "sw")
    assert (row.length_ratio, row.copy, row.repeats, row.names, row.names_kept) == (7 / 4, False, 2, 2, 1)
    row, = inspect_translations(["Amina visits Kano."], ["Amina anatembelea Kano."], ["amina visits kano"], "sw", [["Amina"]])
    assert row.copy and (row.names, row.names_kept) == (1, 0) and json.dumps(asdict(row))
    assert repetitions("a b a b a b".split()) == 2 and repetitions("a b a b a b".split(), 2) == 3 and repetitions([]) == 0


def test_a_summary_adds_up():
    rows = inspect_translations(["Ann 1", "x", "y"], ["Ann moja 1", "mbili tatu nne tano tano", "sita"], ["Ann 1", "", "sita sita sita sita"], "sw")
    line, = summarise(rows)
    assert (line["rows"], line["names"], line["names kept"]) == (3, 2, 1.0)
    assert [round(3 * line[k]) for k in ("empty", "too short", "too long", "copies", "repeating")] == [1, 1, 1, 1, 1]
    assert [r["rows"] for r in summarise(rows, ["a", "b", "a"])] == [2, 1] and summarise(rows[1:2])[0]["names kept"] is None
    with pytest.raises(DataError, match="1 groups"): summarise(rows, ["a"])


def test_recovered_words():
    rows = recovered_words(["a b c c"], ["a a c"], ["a a b"], "sw", (0, 1, 2))
    assert rows == [{"seen": "0", "in references": 2, "in outputs": 1, "recall": 0.5, "precision": 1.0},
                    {"seen": "1", "in references": 1, "in outputs": 0, "recall": 0.0, "precision": None},
                    {"seen": "2+", "in references": 1, "in outputs": 2, "recall": 1.0, "precision": 0.5}]
    pair = load("mt", "en-zh", "test")[:40]
    assert {r["recall"] for r in recovered_words(pair["target"], pair["target"], pair["target"], "zh")} == {1.0}


@pytest.mark.parametrize("arguments, words", [((["a"], ["a", "b"], ["a", "b"], "sw"), "1 sources, 2 references"), ((["a"], ["a"], [], "sw"), "0 outputs"),
                                              ((["a"], ["a"], ["a"], "sw", []), "0 lists of names"), (([], [], [], "sw"), "nothing to score")])
def test_bad_translations_are_named(arguments, words):
    with pytest.raises(DataError, match=words): inspect_translations(*arguments)


@needs_real
def test_real_names_add_up():
    from conftest import REAL
    train, test = (load("ner", "yo", s, REAL, "masakhaner2")[:400] for s in ("train", "test"))
    guess = [*map(NameList(train["tokens"], train["tags"]).predict, test["tokens"])]
    row, = count_errors(match_spans(test["tags"], guess, test["tokens"], known=known_names(train["tokens"], train["tags"])))
    score = score_spans(test["tags"], guess).micro
    assert (row["right"], row["gold"], row["predicted"]) == (score.correct, score.support, score.predicted) and row["boundary"] > 0 < row["missed"]
