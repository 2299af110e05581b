"""One command: a table from nothing, checked before anything runs."""
import json

import pytest
from conftest import ROOT
from tiny import tokenizer

from xlt_lib.data.errors import DataError
from xlt_lib.encoders.transformer import new_encoder
from xlt_lib.reproduction.reproduce import named_datasets, reproduce_tables


def test_data_sets_by_task():
    assert named_datasets(["ner=a,b", "pos=c"]) == (("ner", "a,b"), ("pos", "c")) and named_datasets([]) == ()
    for wrong in (["nre=a"], ["ner"], ["ner="], ["ner=,"], ["ner=a", "ner=b"]):
        with pytest.raises(DataError): named_datasets(wrong)


@pytest.mark.parametrize("mistake, said", [
    (dict(numbers=[2]), "no such table"), (dict(numbers=[1], scenario="lwo"), "Did you mean 'low'"), (dict(numbers=[1], seeds=0), "seeds"),
    (dict(numbers=[1], workers=0), "workers"), (dict(numbers=[1], train_rows=-1), "train_rows"), (dict(numbers=[1], source="no/such"), "no such folder"),
    (dict(numbers=[1], datasets=["masakhaner2"]), "not a task")])
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


@pytest.mark.parametrize("file", sorted((ROOT / "figures/first").glob("*.jsonl")), ids=lambda f: f.stem)
def test_published_records_are_whole_and_name_no_machine(file):
    records = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert len({r["key"] for r in records}) == len(records) > 0
    for r in records:
        assert r["commit"] and len(r["encoder"]) == 64 and r["versions"]["torch"] and r["seconds"] > 0 and r["megabytes"] > 0
        assert "/" not in r["cell"]["setting"]["source"] + r["cell"]["setting"]["encoder"]
        assert all(0 <= s["f1"] <= 1 for s in r["scores"].values())
