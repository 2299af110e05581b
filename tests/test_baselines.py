"""Baselines: naive Bayes is scikit-learn's, the majority guess is its dummy, memories do what a pencil does."""
import random

import pytest
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import MultinomialNB

from xlt_lib.data.errors import DataError
from xlt_lib.data.world import World
from xlt_lib.evaluation.baselines import BagOfWords, MostFrequentTag, NameList, majority

LABELS = ("negative", "neutral", "positive")
WORDS = "good bad not very film food Film the ọ̀nà 映 a b c".split()


def drawn(seed, rows):
    "Texts of 0 to 8 words and labels that hang on them a little; the words are Zipf-like, some are rare."
    dice = random.Random(seed)
    weights = [1 / (k + 1) for k in range(len(WORDS))]
    texts = [" ".join(dice.choices(WORDS, weights, k=dice.randrange(9))) for _ in range(rows)]
    return texts, [dice.choice(LABELS + (("positive",) * 3 if "good" in t else ("negative",))) for t in texts]


def compare(texts, labels, unseen, split, smoothing):
    "Both classifiers on texts that neither was trained on; how many had a clear winner. Where two labels tie, rounding decides."
    counter = CountVectorizer(analyzer=lambda t: split(t.lower()))
    theirs = MultinomialNB(alpha=smoothing, force_alpha=True).fit(counter.fit_transform(texts), labels)
    ours = BagOfWords(texts, labels, split, smoothing)
    logs = theirs.predict_joint_log_proba(counter.transform(unseen))
    logs.sort(axis=1)
    clear = logs[:, -1] - logs[:, -2] > 1e-9
    predicted = theirs.predict(counter.transform(unseen))
    for text, label, sure in zip(unseen, predicted, clear, strict=True):
        if sure: assert ours.predict(text) == label, text
    return clear.sum()


@pytest.mark.parametrize("smoothing", [1.0, 0.1, 3])
@pytest.mark.parametrize("split", [str.split, list])
@pytest.mark.parametrize("rows", [3, 20, 300])
def test_bag_of_words_is_scikit_learns_multinomial_nb(rows, split, smoothing):
    "Random texts; the test texts have words that no training text has."
    (texts, labels), (unseen, _) = drawn(rows, rows), drawn(1, 400)
    texts, labels = [*texts, "one more"], [*labels, "neutral"]     # never an empty vocabulary, which scikit-learn refuses
    unseen = [t + " whatever" for t in unseen]
    assert compare(texts, labels, unseen, split, smoothing) > 200


@pytest.mark.parametrize("code, split", [("en", str.split), ("ja", list)])
def test_bag_of_words_is_scikit_learns_on_the_world(code, split):
    train, test = (World(languages=(code,)).corpus("sentiment", code, s) for s in ("train", "test"))
    assert compare(train["text"][:], train["label"][:], test["text"][:], split, 1.0) > 470


def test_bag_of_words_by_hand():
    texts, labels = ["good cheap food", "good film", "bad slow food", "bad film"], ["p", "p", "n", "n"]
    bag = BagOfWords(texts, labels)
    assert [bag.predict(t) for t in ("GOOD food", "slow", "cheap", "cheap bad bad")] == ["p", "n", "p", "n"]
    assert bag.predict("") == bag.predict("unknown") == "n"                     # a tie: the alphabet
    assert BagOfWords([*texts, "x"], [*labels, "p"]).predict("unknown") == "p"  # the prior
    negation = BagOfWords(["good", "not bad", "bad", "not good"], ["p", "p", "n", "n"])
    assert len({negation.predict(t) for t in ("good", "not bad", "bad", "not good")}) == 1      # order is lost


@pytest.mark.parametrize("seed", range(20))
def test_majority_is_the_dummy_classifiers(seed):
    "Ties too: with few labels there are many."
    dice = random.Random(seed)
    labels = dice.choices(LABELS, k=dice.randrange(1, 9))
    assert majority(labels) == DummyClassifier(strategy="most_frequent").fit([[0]] * len(labels), labels).predict([[0]])[0]


def test_name_list_by_hand():
    names = NameList([["Bank", "of", "Kano", "in", "Kano"], ["Jordan", "met", "Jordan"], ["Jordan"], ["Bank"]],
                     [["B-ORG", "I-ORG", "I-ORG", "O", "B-LOC"], ["B-LOC", "O", "B-LOC"], ["B-PER"], ["O"]])
    assert names.predict(["the", "Bank", "of", "Kano"]) == ["O", "B-ORG", "I-ORG", "I-ORG"]     # the longest match
    assert names.predict(["Bank", "of", "Jordan"]) == ["O", "O", "B-LOC"]                       # half a name is none
    assert names.predict(["Kano", "Kano", "Bank", "of", "Kano", "Kano"]) == ["B-LOC"] * 2 + ["B-ORG", "I-ORG", "I-ORG", "B-LOC"]
    assert names.predict(["kano", "Amina"]) == ["O", "O"] and names.predict([]) == []
    assert NameList([["Jordan"], ["Jordan"]], [["B-PER"], ["B-LOC"]]).predict(["Jordan"]) == ["B-LOC"]     # a tie
    assert NameList([["a"]], [["O"]]).predict(["a", "b"]) == ["O", "O"]                         # no names at all


def test_name_list_repeats_training_text_where_names_are_unambiguous():
    "On one sentence with distinct names the list is perfect, whatever the names' lengths."
    dice = random.Random(0)
    for _ in range(100):
        tokens, tags = [], []
        for n in range(dice.randrange(1, 6)):
            size, kind = dice.randrange(1, 5), dice.choice(("PER", "LOC", "ORG"))
            tokens += [f"n{n}.{k}" for k in range(size)] + [f"o{n}"]
            tags += [f"B-{kind}"] + [f"I-{kind}"] * (size - 1) + ["O"]
        assert NameList([tokens], [tags]).predict(tokens) == tags


def test_most_frequent_tag_by_hand():
    tagger = MostFrequentTag([["the", "book"], ["they", "book"], ["old", "book"], ["man"]],
                             [["DET", "NOUN"], ["PRON", "VERB"], ["ADJ", "NOUN"], ["NOUN"]])
    assert tagger.predict(["they", "book", "the", "flight"]) == ["PRON", "NOUN", "DET", "NOUN"]
    assert tagger.predict([]) == []
    assert MostFrequentTag([["a", "a"]], [["X", "DET"]]).predict(["a", "b"]) == ["DET", "DET"]   # ties: the alphabet


@pytest.mark.parametrize("make", [lambda: majority([]), lambda: BagOfWords([], []), lambda: MostFrequentTag([], []),
                                  lambda: BagOfWords(["a"], ["p"], smoothing=0), lambda: BagOfWords(["a"], ["p"], smoothing=float("nan"))])
def test_nothing_to_learn_from_is_an_error_with_a_remedy(make):
    with pytest.raises(DataError) as e: make()
    assert e.value.remedy
