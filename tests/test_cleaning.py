"""Cleaning: patterns on nasty input, aligned tags, effects that add up."""
import unicodedata

import pytest
from conftest import REAL, needs_real
from hypothesis import given, settings
from hypothesis import strategies as st

from xlt_lib.data.cleaning import EMAIL, HANDLE, URL, Cleaning, clean, count_tokens, remove, without_html
from xlt_lib.data.errors import DataError
from xlt_lib.data.tasks import corpus

OFF = Cleaning(html=False, urls=False, emails=False, handles=False, lower=False, min_tokens=0)


def posts(*lines, task="sentiment", **more):
    return corpus(task, [dict(id=f"r{i}", language="en", dataset="d", domain="", text=t, label="positive", **more)
                         for i, t in enumerate(lines)])


@pytest.mark.parametrize("dirty, expected", [
    ("see http://x.org.", "see ."), ("see (https://x.org/a?b=c&d=1), ok", "see ( ), ok"), ("WWW.X.ORG/ now", "now"),
    ("見てhttps://t.co/Ab1すごい", "見て すごい"), ("http://münchen.de/straße!", "!"), ("end.Next www", "end.Next www"),
    ("http:// alone", "http:// alone"), ("ftp://a.b/c_d/", ""),
    ("a@b.com", ""), ("to a.b+c@d-e.co.uk.", "to ."), ("me@home", "me@home"),
    ("@b", ""), ("@b's", "'s"), ("＠b hi", "hi"),
    ("hi @ada@social.example!", "hi !"), ("@1@é", ""), ("@a@b@c. so", ". so"), ("5 @ noon", "5 @ noon"), ("@tanakaさん", "さん"), ("@@", "@@"),
    ("5 < 6 > 4", "5 < 6 > 4"), ("I <3 U", "I <3 U"), ("a <b and c> d", "a <b and c> d"), ("<!-- x > y -->z", "z"),
    ("x<br/>y", "x y"), ('<a href="http://x.org">film</a> ok', "film ok"), ("R&D AT&T &amp &amp;", "R&D AT&T &amp &"),
    ("&#x41;&#66;&lt;b&gt;", "AB<b>"), ("&nosuch;", "&nosuch;"), ("  two  spaces stay  ", "  two  spaces stay  "),
    ("a\u200b@b", "a\u200b"), ("", "")])
def test_debris(dirty, expected): assert remove(dirty) == expected


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_survive_and_leave_no_orphan(form):
    text = unicodedata.normalize(form, "Ọjọ́ @Adébáyọ̀ ẹ̀kọ́")
    assert remove(text) == unicodedata.normalize(form, "Ọjọ́ ẹ̀kọ́")


def test_order_matters():
    link = "The <a href=https://example.org/>film</a> was good"
    assert remove(link) == remove(link, ("html", "urls")) == "The film was good"
    assert remove(link, ("urls", "html")) != "The film was good"


@given(st.text(alphabet=st.sampled_from("<>&;@./:htpsw a1=\"'#é好-!\u0301"), max_size=60))
@settings(max_examples=1500, deadline=None)
def test_nothing_that_a_pattern_finds_is_left(text):
    for pattern, step in ((URL, "urls"), (EMAIL, "emails"), (HANDLE, "handles")):
        assert not pattern.search(remove(text, (step,)))
    plain = text.replace("<", "").replace("&", "")
    assert without_html(plain) == plain and len(remove(text)) <= len(text)


def test_patterns_take_linear_time():
    import time
    start = time.perf_counter()
    for bad in ("a" * 100_000, "<" * 50_000, "<a " + "x=1 " * 20_000, "http://" + "/" * 100_000, "a@" * 50_000,
                "@" * 100_000, "http://" + "a." * 50_000 + "\u3000", "&" * 100_000, "<!--" * 20_000, "www." * 25_000):
        remove(bad)
    assert time.perf_counter() - start < 10


def test_tokens():
    counts = {"": 0, " ": 0, "a b": 2, "很好": 2, "很好。": 2, "iPhone 很好": 3, "ありがとう！": 5, "ẹ̀kọ́ kan": 2}
    assert {t: count_tokens(t) for t in counts} == counts
    assert count_tokens(["New York", "is"]) == 2


def test_lower_keeps_tags_aligned():
    ds = corpus("ner", [dict(id="1", language="tr", dataset="d", domain="", tokens=["İzmir", "İ", "ΟΔΟΣ"],
                             tags=["B-LOC", "O", "O"])])
    out, effects = clean(ds, "ner")
    assert out["tokens"][0] == ["i̇zmir", "i̇", "οδος"] and out["tags"][0] == ["B-LOC", "O", "O"]
    assert effects["lower"] == dict(rows=1, characters=6, tokens=0, dropped=0) and "handles" not in effects


def test_steps_of_tasks():
    row = dict(id="1", language="en-sw", dataset="d", domain="", source="See @A http://x.y NOW", target="Ona")
    mt, effects = clean(corpus("mt", [row]), "mt", Cleaning(min_tokens=0))
    assert mt[0]["source"] == "see @a http://x.y now" and mt[0]["target"] == "ona" and list(effects) == ["lower"]
    assert len(clean(corpus("mt", [row]), "mt")[0]) == 0   # one side is too short
    assert len(clean(corpus("lexicon", [row]), "lexicon")[0]) == 1


def test_effects_add_up():
    lines = ["Loved it! See http://x.org now", "@a @b lol", "<b>Good</b> &amp; GREAT film", "5 < 6 and more"]
    out, effects = clean(posts(*lines), "sentiment")
    removed = sum(e["characters"] for s, e in effects.items() if s != "lower")
    assert sum(map(len, lines)) - sum(map(len, out["text"])) == removed
    tokens = sum(map(count_tokens, lines)) - sum(map(count_tokens, out["text"]))
    assert tokens == sum(e["tokens"] for e in effects.values())
    assert len(lines) - len(out) == effects["min_tokens"]["dropped"] == 1


def test_off_changes_nothing_and_cleaning_is_idempotent():
    ds = posts("  A  <b>b</b> ", "@x")
    assert clean(ds, "sentiment", OFF)[0].to_dict() == ds.to_dict() and clean(ds, "sentiment", OFF)[1] == {}
    once = clean(posts("Go <b>to</b> http://x.org, @ada: 5 < 6"), "sentiment")[0]
    assert clean(once, "sentiment")[0].to_dict() == once.to_dict()
    assert clean(ds.select([]), "sentiment")[0].column_names == ds.column_names


def test_wrong_task():
    with pytest.raises(DataError, match="no column 'tokens'"): clean(posts("a b c"), "ner")
    with pytest.raises(DataError, match="unknown task"): clean(posts("a"), "nerr")


@needs_real
def test_spaces_would_drop_all_japanese():
    from xlt_lib.data.corpora import load
    ds = load("sentiment", "ja", "train", source=REAL, dataset="jrte_pn")
    assert sum(len(t.split()) >= 3 for t in ds["text"]) == 0 and len(clean(ds, "sentiment")[0]) > 0.98 * len(ds)
