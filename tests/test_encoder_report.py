"""A report on an encoder: what is gathered, what is asked, controls that are what they say, records that survive, tables by hand."""
import json
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import REAL, ROOT, needs_real
from tiny import tokenizer

from xlt_lib.data.errors import DataError
from xlt_lib.encoders.transformer import new_encoder, open_encoder
from xlt_lib.evaluation.encoder_report import Amounts, Trial, gather, judge, judge_all, less, report_table, saved_report, untrained, vectors_encoder
from xlt_lib.evaluation.representations import sentence_vectors

FEW, SOON = Amounts(train=30, few=6, test=20, pairs=40), {"ner": 4, "pos": 4, "sentiment": 4}
QUIET = {"bar": False, "say": lambda line: None}


@lru_cache
def small(): return new_encoder("xlm-roberta", tokenizer(), layers=1, width=16, heads=2, max_length=64)


@lru_cache
def material(): return gather(["en", "es", "sw"], amounts=FEW)


def test_what_is_gathered_from_the_world():
    m = material()
    assert list(m.english) == ["ner", "pos", "sentiment"] and len(m.english["ner"]) > 1000
    assert {t: {c: len(r) for c, r in rows.items()} for t, rows in m.tests.items()} == {t: {"en": 20, "es": 20, "sw": 20} for t in m.english}
    assert all(set(rows) == {"es", "sw"} for rows in m.more.values())       # English is what is learnt anyway
    assert set(m.pairs) == {"es", "sw"} and len({s for s, _ in m.pairs["sw"]}) == len(m.pairs["sw"]) <= 40


def test_zero_shot_has_read_no_label_of_the_language(monkeypatch):
    "What `fine_tune` is given, counted by language."
    from xlt_lib.evaluation import encoder_report
    given = []
    def spy(task, rows, *more, **options):
        given.append((task, pd.Series([r["language"] for r in rows]).value_counts().to_dict()))
        return whole(task, rows, *more, **options)
    whole = encoder_report.fine_tune
    monkeypatch.setattr(encoder_report, "fine_tune", spy)
    rows = judge(small(), replace(material(), english={"ner": material().english["ner"]}, steps=SOON), FEW, **QUIET)
    assert given == [("ner", {"en": 30}), ("ner", {"en": 30, "es": 6, "sw": 6})]
    assert [(r["task"], r["shot"], r["language"]) for r in rows] == [
        *(("retrieval", way, c) for c in ("es", "sw") for way in ("from English", "into English")),
        *(("ner", "English" if c == "en" else "zero-shot", c) for c in ("en", "es", "sw")), *(("ner", "few-shot", c) for c in ("es", "sw"))]
    assert all(0 <= r["score"] <= 1 for r in rows)


def test_the_same_seed_gives_the_same_report():
    one, two, three = (judge(small(), replace(material(), english={"pos": material().english["pos"]}, steps=SOON), FEW, s, **QUIET) for s in (0, 0, 1))
    assert one == two != three


def test_trials_without_more_rows_are_zero_shot_alone():
    m = gather(["en", "es"], trials=[Trial("pos", few=False, steps=4)], amounts=replace(FEW, pairs=0))
    assert m.more == {"pos": {}} and m.pairs == {}
    assert {r["shot"] for r in judge(small(), m, FEW, **QUIET)} == {"English", "zero-shot"}


def test_an_untrained_encoder_has_the_shape_and_nothing_else():
    other = untrained(small(), 1)
    assert [p.shape for p in other.model.parameters()] == [p.shape for p in small().model.parameters()]
    assert other.weights_hash != small().weights_hash == untrained(small(), 0).weights_hash and other.max_length == small().max_length


def test_word_vectors_have_no_order_and_no_context(tmp_path):
    words = tokenizer().convert_ids_to_tokens(range(5, 25))
    vectors = np.random.default_rng(0).normal(size=(20, 8))
    made = vectors_encoder(tokenizer(), words, vectors)
    with torch.no_grad(): a, b = (made.model(torch.tensor([ids])).last_hidden_state[0] for ids in ([5, 9, 6], [6, 5, 9]))
    assert made.layers == 0 and torch.allclose(a[[2, 0, 1]], b)
    standard = (vectors - vectors.mean(1, keepdims=True)) / vectors.std(1, keepdims=True)
    assert np.allclose(a.numpy(), standard[[0, 4, 1]], atol=1e-4)
    made.save(tmp_path)
    again = open_encoder(tmp_path)
    assert again.layers == 0 and again.weights_hash == made.weights_hash
    assert sentence_vectors(again, ["Ana reads"]).shape == (1, 8)
    with pytest.raises(DataError, match="do not fit their subwords"): vectors_encoder(tokenizer(), words, vectors[:3])
    with pytest.raises(DataError, match="a subword that the tokenizer does not know.*'zzzzzz'"): vectors_encoder(tokenizer(), ["zzzzzz"], vectors[:1])


# -- many encoders -------------------------------------------------------------------------------------------------------
ASKED = {"languages": ["en", "es", "sw"], "amounts": replace(FEW, train=20, few=0), "trials": (Trial("ner", steps=4),), "workers": 1}


def test_records_survive(tmp_path):
    small().save(tmp_path / "a"); untrained(small(), 1).save(tmp_path / "b")
    lines = []
    one = judge_all({"a": [tmp_path / "a"] * 2}, tmp_path / "report", say=lines.append, **ASKED)
    assert lines == ["1 of 2: a, seed 0", "2 of 2: a, seed 1"] and {(r["encoder"], r["seed"]) for r in one} == {("a", 0), ("a", 1)}
    (tmp_path / "report/a-1.json").unlink()
    both = judge_all({"a": [tmp_path / "a"] * 2, "b, short": [tmp_path / "b"]}, tmp_path / "report", say=lines.append, **ASKED)
    assert lines[2:] and all(" of 2: " in line for line in lines[2:])       # a-0 was not judged again
    assert [r for r in both if r["encoder"] == "a"] == one
    assert json.loads((tmp_path / "report/b_short-0.json").read_text())["weights"] == open_encoder(tmp_path / "b").weights_hash


def test_old_answers_to_new_questions_are_refused(tmp_path):
    "Other languages, another source, other weights, a damaged record: each is told."
    small().save(tmp_path / "a")
    ask = lambda **other: judge_all({"a": [tmp_path / "a"]}, tmp_path / "report", say=lambda line: None, **ASKED | other)
    first = ask()
    assert {r["weights"] for r in first} == {open_encoder(tmp_path / "a").weights_hash}
    with pytest.raises(DataError, match="a record of another question: its 'asked' differ"): ask(languages=["en", "es"])
    with pytest.raises(DataError, match="a record of another question: its 'asked' differ"): ask(source=tmp_path)
    (tmp_path / "report/b-0.json").write_text("{}")
    assert ask() == first       # what was not asked for is not looked at
    untrained(small(), 1).save(tmp_path / "a")
    with pytest.raises(DataError, match="a record of another question: its 'weights' differ"): ask()
    (tmp_path / "report/a-0.json").write_text('{"asked": ')
    with pytest.raises(DataError, match="not a record of a report.*Delete it, and call again"): ask()
    with pytest.raises(DataError, match="not a record of a report"): saved_report(tmp_path / "report")


def record(name, seed, task, shot, weights="w", **scores):
    return [{"encoder": name, "seed": seed, "weights": weights, "task": task, "shot": shot, "language": c, "score": s, "rows": 10} for c, s in scores.items()]


def test_the_table_by_hand():
    told = [*record("a", 0, "ner", "zero-shot", en=1.0, es=.2, sw=.4), *record("a", 1, "ner", "zero-shot", en=1.0, es=.4, sw=.6),
            *record("b", 0, "ner", "zero-shot", en=0.0, es=.1, sw=.1), *record("b", 1, "ner", "zero-shot", en=0.0, es=.1, sw=.3), *record("c", 0, "pos", "zero-shot", es=.25)]
    table = report_table(told)
    assert table.loc["c", ("pos", "zero-shot")] == "25.0" and table.loc["c", ("ner", "zero-shot")] == ""
    half = 12.706 * 20 / 2**.5 / 2**.5      # t at one degree of freedom; two means, 20 points apart
    assert table.loc["a", ("ner", "zero-shot")] == f"40.0 ± {half:.1f}"
    gap, = less(told, "a", "b").to_dict("records")
    assert (round(gap["a"], 6), round(gap["b"], 6)) == (40, 15) and gap["difference"] == f"25.0 ± {12.706 * 10 / 2:.1f}"      # 20 and 30 points
    assert abs(gap["low"] - (25 - 63.53)) < 0.01 and abs(gap["p"] - 0.1257) < 1e-3
    with pytest.raises(DataError, match="too few seeds that both encoders have"): less(told + record("c", 0, "ner", "zero-shot", es=.1), "a", "c")
    with pytest.raises(DataError, match="no such encoder in these records.*'d'"): less(told, "a", "d")
    with pytest.raises(DataError, match="no records of other languages"): report_table(record("a", 0, "ner", "English", en=.5))


def test_where_nothing_is_drawn_there_is_no_interval():
    once = [r for s in (0, 1) for r in record("a", s, "retrieval", "from English", es=.5)]
    more = [r for s in (0, 1) for r in record("b", s, "retrieval", "from English", weights=f"w{s}", es=.5 + s / 10)]
    table = report_table(once + more)[("retrieval", "from English")]
    assert table["a"] == "50.0" and table["b"].startswith("55.0 ± ")


def test_bad_input(tmp_path):
    with pytest.raises(DataError, match="nothing to test on"): gather(["xx"], amounts=FEW)
    with pytest.raises(DataError, match="one language, not a list"): gather("sw", amounts=FEW)
    with pytest.raises(DataError, match="unknown data set.*'masakhaner'.*Did you mean"): gather(["sw"], tmp_path, [Trial("ner", "masakhaner", ("masakhaner2",))])
    with pytest.raises(DataError, match="a vector that is no number"): vectors_encoder(tokenizer(), tokenizer().convert_ids_to_tokens([5]), [[np.nan, 1.0]])
    with pytest.raises(DataError): Amounts(test=0)
    with pytest.raises(DataError): Amounts(few=-1)
    with pytest.raises(DataError, match="no record of a report"): saved_report(tmp_path)


# -- the committed report ------------------------------------------------------------------------------------------------
def test_the_committed_report_has_its_controls():
    told = pd.DataFrame(saved_report(ROOT / "figures/twenty"))
    seeds = told.groupby("encoder").seed.nunique()
    for name in ("twenty", "untrained", "word vectors", "twenty, short", "hidden words only", "hidden share fixed", "hidden words only, long"): assert seeds[name] == 3, name
    assert set(zip(told.task, told.shot)) - {(t, "English") for t in told.task} == {("retrieval", "from English"), ("retrieval", "into English"), ("ner", "zero-shot"), ("ner", "few-shot"),
                                              ("topic", "zero-shot"), ("topic", "few-shot"), ("pos", "zero-shot")}
    from xlt_lib.encoders.named import KEPT
    about = json.loads((KEPT / "twenty/pretraining.json").read_text("utf-8"))
    record, = {json.loads(f.read_text())["weights"] for f in (ROOT / "figures/twenty").glob("twenty-*.json")}
    assert record == about["weights"]       # what was judged is what is shipped


def test_what_readme_says_of_it():
    told, readme = saved_report(ROOT / "figures/twenty"), " ".join((ROOT / "README.md").read_text("utf-8").split())
    found = {e: 100 * pd.DataFrame([r for r in told if r["encoder"] == e and r["shot"] == "from English"]).score.mean() for e in ("twenty", "untrained")}
    assert f"finds {found['twenty']:.1f} % of the translations" in readme and f"random weights find {found['untrained']:.1f} %" in readme
    assert "over thirteen languages" in readme and len({r["language"] for r in told if r["task"] == "retrieval"}) == 13
    gaps = less(told, "twenty", "untrained").query("task != 'retrieval'")
    assert "the mean over all languages shows no difference" in readme and (gaps.p > 0.05).all()
    read = {"ar", "de", "es", "fr", "he"}
    with_translations = [r for r in told if r["language"] in read and r["shot"] == "zero-shot"]
    gain = less(with_translations, "twenty", "untrained").set_index("task")
    assert "topics +{:.1f} points, tags +{:.1f}".format(*(gain.twenty - gain.untrained)[["topic", "pos"]]) in readme and (gain.low[["topic", "pos"]] > 0).all()
    elsewhere = less([r for r in told if r["language"] not in read and r["shot"] == "zero-shot"], "twenty", "untrained").set_index("task")
    assert f"elsewhere topics −{(elsewhere.untrained - elsewhere.twenty)['topic']:.1f}" in readme
    words = 100 * pd.DataFrame([r for r in told if r["encoder"] == "hidden words only, long" and r["shot"] == "from English"]).score.mean()
    names = less([r for r in told if r["task"] == "ner" and r["shot"] == "few-shot"], "hidden words only, long", "twenty").iloc[0]
    topics = less([r for r in with_translations if r["task"] == "topic"], "hidden words only, long", "twenty").iloc[0]
    assert f"by hidden words alone finds {words:.1f} % of the translations" in readme and names.low > 0 > topics.high
    assert f"({topics['hidden words only, long']:.1f} against {topics.twenty:.1f})" in readme
    assert f"F1 {names['hidden words only, long']:.1f} against {names.twenty:.1f} with thirty sentences of each language" in readme


@needs_real
def test_real_files_are_gathered():
    m = gather(["en", "de", "sw", "yo"], REAL, amounts=Amounts(test=50, pairs=100))
    assert set(m.tests["ner"]) == {"en", "de", "sw", "yo"} and set(m.more["ner"]) == {"de", "sw", "yo"}      # WikiNEuRal, then MasakhaNER 2.0
    assert set(m.tests["topic"]) == {"en", "de", "sw", "yo"} and set(m.tests["pos"]) == {"en", "de"} and m.more["pos"] == {}
    assert set(m.pairs) == {"de", "sw"} and len(m.pairs["de"]) == 100
    told = Amounts(test=400, pairs=0)       # AfriSenti's file is sorted by label, and a sample is not
    tests = gather(["yo"], REAL, [Trial("sentiment", "nollysenti", ("afrisenti",))], amounts=told).tests["sentiment"]["yo"]
    assert len({r["label"] for r in tests}) == 3
