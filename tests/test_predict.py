"""Raw text becomes words, words get labels, and every line comes back in its place, whatever its script or length."""
import itertools
import json
import unicodedata

import pytest
import torch
from hypothesis import given, settings, strategies as st
from tiny import tokenizer

from xlt_lib.app.predict import Prediction, blank_places, fitting, head_name, predict, predict_each, word_places
from xlt_lib.data.errors import DataError
from xlt_lib.data.readers import read_conll
from xlt_lib.data.tasks import IOB2, SENTIMENTS, UPOS
from xlt_lib.encoders.transformer import new_encoder
from xlt_lib.transfer.heads import SentenceHead, TokenHead
from xlt_lib.transfer.multitask import MultiTaskModel

words = lambda text, language=None: [text[a:b] for a, b in word_places(text, language)]
decomposed = lambda text: unicodedata.normalize("NFD", text)


@pytest.mark.parametrize("text, expected", [
    ("Amina lives in Lagos.", "Amina|lives|in|Lagos|."),
    ("Amina lives in Lagos .", "Amina|lives|in|Lagos|."),
    ("She said: \"3.5 kg, 1,000 times\"...", "She|said|:|\"|3.5|kg|,|1,000|times|\"|..."),
    ("ng'ombe wa l'état", "ng'ombe|wa|l'état"),
    ("Jean-Luc (Guinea-Bissau) - ja", "Jean-Luc|(|Guinea-Bissau|)|-|ja"),
    ("Ọ̀rẹ́ mi ń lọ sí Ìbàdàn.", "Ọ̀rẹ́|mi|ń|lọ|sí|Ìbàdàn|."),
    (decomposed("Ọ̀rẹ́ mi ń lọ, Ẹ̀gbá."), decomposed("Ọ̀rẹ́|mi|ń|lọ|,|Ẹ̀gbá|.")),
    ("كَتَبَ الوَلَدُ، نعم؟", "كَتَبَ|الوَلَدُ|،|نعم|؟"),
    ("שָׁלוֹם צה\"ל.", "שָׁלוֹם|צה\"ל|."),
    ("हिन्दी में लिखा।", "हिन्दी|में|लिखा|।"),
    ("తెలుగు భాష.", "తెలుగు|భాష|."),
    ("花子は東京へ。", "花|子|は|東|京|へ|。"),
    ("カタカナ", "カタカナ"),
    ("¿Qué? ¡Sí!", "¿|Qué|?|¡|Sí|!"),
    ("", ""), ("  \t\u00a0 ", ""),
])
def test_words_by_hand(text, expected): assert words(text) == [w for w in expected.split("|") if w]


@pytest.mark.parametrize("language, text, expected", [
    ("fr", "L'Europe, qu’on aujourd'hui l'a", "L'|Europe|,|qu’|on|aujourd'hui|l'|a"),
    ("it", "dell'Italia e l’arte", "dell'|Italia|e|l’|arte"), ("sw", "ng'ombe", "ng'ombe"), ("fr", "ng'ombe", "ng'ombe")])
def test_elided_words(language, text, expected): assert words(text, language) == expected.split("|")


@settings(max_examples=500, deadline=None)
@given(st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from("aẹ́'’.,-!…0 1ि्ুの漢カ\u200d\u00ad\n")), max_size=20),
       st.sampled_from([None, "fr", "it"]))
def test_no_letter_is_lost_and_spaced_text_stays_as_it_is(text, language):
    places = word_places(text, language)
    covered = {i for a, b in places for i in range(a, b)}
    assert all(text[i].isspace() for i in range(len(text)) if i not in covered)
    assert all(a < b <= c for (a, b), (c, _) in zip(places, [*places[1:], (len(text),) * 2]))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(st.sampled_from("abcẹóńغषでな漢'.,-!0123"), min_size=1, max_size=6), max_size=5))
def test_words_that_were_parted_stay_apart(tokens):
    "What the rule has parted, with blanks put between, it parts in the same way."
    once = words(" ".join(tokens))
    assert words(" ".join(once)) == once


def entities(text, tags): return Prediction(text, "entities", tags, blank_places(text))


def test_a_prediction_in_three_forms():
    p = entities("Layla Lagos  calls Kano !", ["B-PER", "I-PER", "O", "B-LOC", "O"])
    assert str(p) == "[PER Layla Lagos]  calls [LOC Kano] !" and p.tokens == p.text.split()
    told = json.loads(p.json())
    assert told["entities"][1] == {"type": "LOC", "text": "Kano", "start": 19, "end": 23} and told["labels"] == p.labels
    assert p.conll() == "Layla\tB-PER\nLagos\tI-PER\ncalls\tO\nKano\tB-LOC\n!\tO\n\n"
    assert str(entities("a b c", ["B-PER", "B-PER", "I-LOC"])) == "[PER a] [PER b] [LOC c]"
    assert str(Prediction("a b", "words", ["DET", "NOUN"], [(0, 1), (2, 3)])) == "a/DET b/NOUN"
    mood = Prediction("good film", "text", ["positive"], [])
    assert str(mood) == "positive\tgood film" and json.loads(mood.json()) == {"text": "good film", "label": "positive"}
    with pytest.raises(DataError, match="text or json"): mood.conll()


def test_conll_output_is_read_by_our_reader(tmp_path):
    p = entities("Layla visits Kano .", ["B-PER", "O", "B-LOC", "O"])
    (tmp_path / "out.conll").write_text(p.conll() + entities("", []).conll() + p.conll(), "utf-8")
    found = list(read_conll(tmp_path / "out.conll", {"tokens": 0, "tags": 1}))
    assert [r["tags"] for r in found] == [p.labels] * 2 and found[0]["tokens"] == p.tokens


def test_long_sentences_are_cut_where_it_hurts_least():
    sentence = "a b , c d e".split()
    assert fitting(sentence, [1] * 6, 6) == [slice(0, 6)]
    assert fitting(sentence, [1] * 6, 4) == [slice(0, 3), slice(3, 6)]          # after the comma
    assert fitting("a b c d e".split(), [1] * 5, 2) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert fitting(["a"], [9], 2) == [slice(0, 1)] and fitting([], [], 2) == []  # a word that never fits stands alone


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("a,."), st.integers(0, 5)), max_size=30), st.integers(1, 8))
def test_parts_hold_every_word_once_and_fit(pairs, room):
    tokens, sizes = [w for w, _ in pairs], [n for _, n in pairs]
    parts = fitting(tokens, sizes, room)
    assert [i for p in parts for i in range(p.start, p.stop)] == list(range(len(tokens)))
    assert all(sum(sizes[p]) <= room or p.stop - p.start == 1 for p in parts)


def make(**heads):
    torch.manual_seed(0)
    encoder = new_encoder("xlm-roberta", tokenizer(), layers=1, width=32, max_length=32)
    kinds = {"ner": TokenHead(32, IOB2), "pos": TokenHead(32, UPOS), "sentiment": SentenceHead(32, SENTIMENTS)}
    return MultiTaskModel(encoder, {name: kinds[name] for name in heads or ["ner"]}).eval()


LINES = ["Amina lives in Lagos.", "", "  ", "Wole Soyinka lọ sí Abẹ́òkúta", "東京", "one " * 200, "\u200b"]


@pytest.mark.parametrize("task", ["ner", "pos", "sentiment"])
@pytest.mark.parametrize("chunk", [1, 2, 256])
def test_every_text_gets_its_own_answer_in_its_place(task, chunk):
    model = make(**{task: 1})
    whole, alone = list(predict_each(model, LINES, chunk=chunk)), [predict(model, line)[0] for line in LINES]
    assert [p.text for p in whole] == LINES and [p.labels for p in whole] == [p.labels for p in alone]
    for p in whole: assert len(p.labels) == (len(p.tokens) if task != "sentiment" else bool(p.text.strip()))


def test_words_beyond_the_longest_input_are_labelled_too():
    "As if the rest were a sentence of its own; without that, 150 words would be O whatever they are."
    model = make(pos=1)
    text = " ".join(["teacher"] * 40)
    assert len({*predict(model, text)[0].labels}) and model.predict([text.split()], "pos")[0] != predict(model, text)[0].labels
    parts = fitting(text.split(), [len(tokenizer()("teacher", add_special_tokens=False)["input_ids"])] * 40, 30)
    assert [x for p in parts for x in model.predict([text.split()[p]], "pos")[0]] == predict(model, text)[0].labels


def test_given_words_are_not_split_again():
    [p] = predict(make(), [["New York", "is", "U.S.", ""]])
    assert p.tokens == ["New York", "is", "U.S.", ""] and len(p.labels) == 4
    [p] = predict_each(make(), ["the U.S. l'état"], tokenised=True)
    assert p.tokens == ["the", "U.S.", "l'état"]


def test_an_endless_text_is_read_as_it_is_needed():
    read = []
    def lines():
        for i in itertools.count():
            read.append(i)
            yield f"line {i}"
    told = predict_each(make(), lines(), chunk=10)
    assert [next(told).text for _ in range(25)] == [f"line {i}" for i in range(25)] and len(read) == 30


def test_the_head_must_be_clear(tmp_path):
    assert head_name(make()) == "ner" and head_name(make(ner=1, pos=1), "pos") == "pos"
    with pytest.raises(DataError, match="several heads.*ner, pos"): head_name(make(ner=1, pos=1))
    with pytest.raises(DataError, match="no such head.*Did you mean 'ner'"): predict(make(), "x", "nerr")
    with pytest.raises(DataError, match="not a model's folder"): predict(tmp_path, "x")
    assert predict(make(), []) == []
