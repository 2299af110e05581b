"""Checks: each kind of finding on a corpus made for it, none on a clean one, and what real corpora show."""
import pytest
from conftest import REAL, needs_real

from xlt_lib.data.checks import (CONTROL, INVISIBLE, KINDS, MOJIBAKE, SEVERITIES, Finding, Findings, check, misaligned,
                                 strays)
from xlt_lib.data.errors import DataError
from xlt_lib.data.tasks import TASKS, corpus

COMMON = dict(language="sw", dataset="d", domain="")


def ner(*rows):
    return corpus("ner", [dict(COMMON, id=f"s{i}", tokens=t.split(), tags=g.split()) for i, (t, g) in enumerate(rows)])


def posts(*rows):
    return corpus("sentiment", [dict(COMMON, id=f"p{i}", text=t, label=s) for i, (t, s) in enumerate(rows)])


def pairs(*rows, language="en-sw"):
    return corpus("mt", [dict(COMMON, id=f"t{i}", source=s, target=t) | {"language": language}
                         for i, (s, t) in enumerate(rows)])


def found(ds, task): return {f.kind: f.count for f in check(ds, task)}


GOOD = [("Filamu nzuri sana kwa kweli", "positive"), ("Sikupenda hata kidogo", "negative"),
        ("Ni ya saa mbili", "neutral")]


@pytest.mark.parametrize("row, kind", [
    (("Sikupenda hata kidogo!", "negative"), "duplicate"), (("Safari\ufffdcom", "neutral"), "replacement character"),
    (("CafÃ© nzuri", "positive"), "mojibake"), (("“so” áº¹Ì€ká»Ì", "neutral"), "mojibake"),
    (("a\x07b", "neutral"), "control character"), (("neno\u200bmoja", "neutral"), "invisible character"),
    (("Ade\u0301", "neutral"), "not NFC"), (("  ", "neutral"), "blank text"), (("mbaya", "bad"), "unknown label"),
    (("Filamu nzuri sana kwa kwelii", "positive"), "near-duplicate")])
def test_one_kind_at_a_time(row, kind): assert found(posts(*GOOD, row), "sentiment").get(kind) == 1


def test_clean_is_clean():
    assert not check(posts(*GOOD), "sentiment") and str(check(posts(*GOOD), "sentiment")) == "nothing found"
    assert check(posts(*GOOD), "sentiment").worst() == "clean"


def test_contradiction_and_one_class():
    assert found(posts(*GOOD, (GOOD[0][0], "neutral")), "sentiment") == {"contradiction": 2, "duplicate": 1}
    assert found(posts(("moja", "neutral"), ("mbili", "neutral")), "sentiment") == {"one class": 2}
    assert found(ner(("a b", "O O"), ("c", "O")), "ner") == {"one class": 2}
    assert found(posts(), "sentiment") == {"empty": 0}


def test_tags():
    ds = ner(("Juma yupo Nairobi", "I-PER O B-LOC"), ("Mto Nile", "B-LOC I-ORG"), ("Rais", "B-RIVER"),
             ("moja mbili", "O"))
    assert found(ds, "ner") == {"stray I-": 2, "unknown label": 1, "ragged": 1}
    assert strays(["I-PER", "I-PER", "O", "B-LOC", "I-LOC", "B-LOC", "I-ORG"]) == [0, 6] and strays([]) == []


def test_between_splits():
    train = posts(*GOOD)
    test = posts(("filamu NZURI sana, kwa kweli", "positive"), ("Sikupenda hata kidogoo", "negative"))
    by = {f.kind: f for f in check({"d/train": train, "d/test": test}, "sentiment")}
    assert set(by) == {"leak", "near leak"} and by["leak"].severity == "error"
    assert (by["leak"].where, by["leak"].count, by["leak"].of) == ("d/train ∩ d/test", 1, 2)
    assert {f.kind for f in check({"a": train, "b": test}, "sentiment")} == {"overlap"}
    assert {f.kind for f in check({"d/train": train, "d/test": test}, "sentiment", near=False)} == {"leak"}


def test_translations():
    aligned = [(f"The farmer number {i} sold maize" + " today" * (i % 7),
                f"Mkulima wa {i} aliuza mahindi" + " leo" * (i % 7)) for i in range(60)]
    sources, targets = map(list, zip(*aligned, strict=True))
    assert misaligned(sources, targets) == [] == misaligned([], [])
    targets[5] = "Ndiyo"; targets[9] = "x " * 200
    assert misaligned(sources, targets) == [5, 9]
    kinds = found(pairs(*zip(sources, targets, strict=True), ("One two three", "one two three.")), "mt")
    assert kinds["identical sides"] == 1 and kinds["misaligned"] == 2
    leak = check({"train": pairs(("One", "Moja")), "test": pairs(("1", "moja"))}, "mt")
    assert [(f.kind, f.where) for f in leak] == [("leak", "train ∩ test (target)")]


def test_pairs_of_languages_have_their_own_lengths():
    long, short = [("a" * n, "b" * 3 * n) for n in range(20, 60)], [("a" * n, "好" * (n // 3)) for n in range(20, 60)]
    mixed = corpus("mt", [dict(COMMON, id=str(i), source=s, target=t) | {"language": code}
                          for code, rows in (("en-sw", long), ("en-zh", short)) for i, (s, t) in enumerate(rows)])
    assert "misaligned" not in {f.kind for f in check(mixed, "mt", near=False)}


def test_patterns_spare_correct_text():
    for text in ("voilà\u00a0»", "NÃO AÇÃO ÂGE", "Côté âne", "ÁÉÍ Ñ", "ọ̀rọ̀ ẹ̀kọ́", "हिन्दी", "क्\u200dष",
                 "می\u200cخواهم", "👩\u200d💻", "שלום", "Straße“"):
        assert not (MOJIBAKE.search(text) or INVISIBLE.search(text) or CONTROL.search(text)), text


@pytest.mark.parametrize("word", ["é", "ñ", "ọ", "ẹ", "“x”", "’", "हिन्दी", "తెలుగు"])
@pytest.mark.parametrize("wrong", ["latin-1", "cp1252"])
def test_mojibake_is_seen(word, wrong):
    read = {b: bytes([b]).decode(wrong, errors="ignore") or chr(b) for b in range(256)}   # browsers fill cp1252's holes so
    assert MOJIBAKE.search("".join(read[b] for b in word.encode()))


def test_findings_print_and_sort():
    some = check({"train": posts(*GOOD, ("Ade\u0301 \ufffd", "neutral")), "test": posts(*GOOD)}, "sentiment")
    severities = [SEVERITIES.index(f.severity) for f in some]
    assert severities == sorted(severities) and some.worst() == "error"
    assert "leak" in str(some) and KINDS["leak"][1] in str(some) and "3 of 3" in str(some)
    assert isinstance(some, Findings) and all(isinstance(f, Finding) and f.remedy for f in some)


def test_wrong_task():
    with pytest.raises(DataError, match="no column 'tokens'"): check(posts(*GOOD), "ner")
    with pytest.raises(DataError, match="unknown task"): check(posts(*GOOD), "sentimnt")


def test_every_task_can_be_checked():
    value = dict(tokens=["a"], tags=["NOUN"], heads=[0], relations=["root"], text="a", label="neutral", labels=["joy"],
                 source="a", target="b", source_tokens=["a"], target_tokens=["b"], source_index=[0], target_index=[0])
    for name in TASKS: assert isinstance(check(corpus(name, [dict(COMMON, id="1", **value)]), name), Findings)


@needs_real
def test_real_findings():
    "Igbo in MasakhaNER 2.0: 559 of 2,139 different test sentences are in training; en-zu dev has one U+FFFD (QUIRKS)."
    from xlt_lib.data.corpora import load
    sets = {s: load("ner", "ig", s, source=REAL, dataset="masakhaner2") for s in ("train", "test")}
    leak = next(f for f in check(sets, "ner", near=False) if f.kind == "leak")
    assert (leak.count, leak.of) == (559, 2139)
    dev = {f.kind: f.count for f in check(load("mt", "en-zu", "dev", source=REAL, dataset="mafand"), "mt", near=False)}
    assert dev["replacement character"] == 1 and dev["misaligned"] > 50   # many sources are the line "News Crawl 2019"
