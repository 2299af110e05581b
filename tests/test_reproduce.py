"""One command: a table from nothing, checked before anything runs."""
import json

import pytest
from conftest import ROOT
from tiny import tokenizer

from xlt_lib.data.errors import DataError
from xlt_lib.encoders.transformer import new_encoder
from xlt_lib.reproduction.reproduce import named_datasets, named_tiers, reproduce_tables


def test_data_sets_by_task():
    assert named_datasets(["ner=a,b", "pos=c"]) == (("ner", "a,b"), ("pos", "c")) and named_datasets([]) == ()
    for wrong in (["nre=a"], ["ner"], ["ner="], ["ner=,"], ["ner=a", "ner=b"]):
        with pytest.raises(DataError): named_datasets(wrong)


def test_languages_by_tier():
    assert named_tiers(["low=yo,sw", "high=en"]) == {"en": "high", "yo": "low", "sw": "low"} and named_tiers([]) == {}
    for wrong in (["low"], ["low="], ["low=xx"], ["rich=en"], ["low=sw,sw"]):
        with pytest.raises(DataError): named_tiers(wrong)


@pytest.mark.parametrize("mistake, said", [
    (dict(numbers=[5]), "no such table"), (dict(numbers=[1], scenario="lwo"), "Did you mean 'low'"), (dict(numbers=[1], seeds=0), "seeds"),
    (dict(numbers=[1], workers=0), "workers"), (dict(numbers=[1], train_rows=-1), "train_rows"), (dict(numbers=[1], source="no/such"), "no such folder"),
    (dict(numbers=[1], datasets=["masakhaner2"]), "not a task"), (dict(numbers=[2], languages=["hihg=en"]), "not a tier"),
    (dict(numbers=[2], languages=["high=en", "low=en"]), "named twice"), (dict(numbers=[2], labels=["positiv"]), "Did you mean 'positive'"),
    (dict(numbers=[2], labels=["positive"]), "labels to tell apart")])
def test_mistakes_are_told_before_anything_runs(mistake, said, tmp_path):
    with pytest.raises(DataError, match=said): reproduce_tables(**mistake, results=tmp_path / "results", out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_encoder_that_does_not_fit_ends_it_before_the_grid(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="not an encoder"): reproduce_tables([1], encoder_name=tmp_path / "empty", results=tmp_path / "results", out=tmp_path)
    assert not (tmp_path / "results").exists()


def test_a_table_from_nothing_and_again_from_what_is_there(tmp_path):
    new_encoder("xlm-roberta", tokenizer(), layers=1, width=16).save(tmp_path / "enc")
    said, told = [], dict(encoder_name=tmp_path / "enc", train_rows=20, test_rows=20, results=tmp_path / "results", out=tmp_path, bar=False)
    files = reproduce_tables([4], **told, say=said.append)
    assert [f.suffix for f in files] == [".md", ".csv", ".jsonl", ".png"] and "Full Framework" in "".join(said) and "synthetic" in "".join(said)
    kept = {f: f.read_bytes() for f in files}
    assert reproduce_tables([4], **told, say=said.append) == files and {f: f.read_bytes() for f in files} == kept    # seconds and all: nothing ran
    assert len(kept[files[2]].splitlines()) == len(list((tmp_path / "results").iterdir())) == 8


def test_a_table_of_sentiment_in_two_languages_and_three_labels(tmp_path):
    new_encoder("xlm-roberta", tokenizer(), layers=1, width=16).save(tmp_path / "enc")
    three = ["negative", "neutral", "positive"]
    told = dict(encoder_name=tmp_path / "enc", languages=["high=en", "low=yo"], train_rows=20, test_rows=20, results=tmp_path / "results", out=tmp_path, bar=False, say=lambda line: None)
    two_labels, three_labels = (reproduce_tables([2], **told, labels=labels)[2].read_text("utf-8") for labels in ([], three))
    for text, labels in ((two_labels, three[::2]), (three_labels, three)):
        records = [json.loads(line) for line in text.splitlines()]
        assert len(records) == 2 + 6 and {tuple(r["cell"]["setting"]["labels"]) for r in records} == {tuple(labels)}
        assert all(set(s) == {"accuracy", "macro_f1", "sentences"} and s["sentences"] == 20 for r in records for s in r["scores"].values())
    assert len(list((tmp_path / "results").iterdir())) == 16       # other labels are other runs


@pytest.mark.parametrize("file", sorted((ROOT / "figures/first").glob("*.jsonl")), ids=lambda f: f.stem)
def test_published_records_are_whole_and_name_no_machine(file):
    records = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert len({r["key"] for r in records}) == len(records) > 0
    for r in records:
        assert r["commit"] and len(r["encoder"]) == 64 and r["versions"]["torch"] and r["seconds"] > 0 and r["megabytes"] > 0
        assert "/" not in r["cell"]["setting"]["source"] + r["cell"]["setting"]["encoder"]
        assert all(0 <= s[metric] <= 1 for s in r["scores"].values() for metric in s if metric != "sentences")
