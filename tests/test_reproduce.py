"""One command: a table from nothing, checked before anything runs."""
import json
from dataclasses import asdict

import pytest
from conftest import ROOT
from tiny import tokenizer

from xlt_lib.data.errors import DataError
from xlt_lib.encoders.transformer import new_encoder
from xlt_lib.reproduction import everything
from xlt_lib.reproduction.experiments import Setting
from xlt_lib.reproduction.papers import paper
from xlt_lib.reproduction.reproduce import named_datasets, named_tiers, reproduce_tables, settings_for
from xlt_lib.reproduction.tables import caption


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


def test_commands_name_every_table_and_figure_and_each_figure_can_be_made():
    from inspect import signature

    from xlt_lib.app import commands
    from xlt_lib.reproduction.experiments import ROWS
    assert {int(n) for n in commands.TABLES if n != "world"} == set(ROWS) and {int(n) for n in commands.FIGURES} == set(everything.FIGURES)
    for n in everything.FIGURES: assert {"encoder_name", "out", "say"} <= set(signature(everything.figure(n)).parameters)
    with pytest.raises(DataError, match="no such figure"): everything.figure(9)


@pytest.fixture
def heard(monkeypatch):
    "What `reproduce` does, in order, with nothing really done."
    told = []
    def maker(n):
        def make(encoder_name, train_rows=None, seeds=None, done=None, out=None): return told.append((f"figure {n}", train_rows, seeds)) or []
        return make
    monkeypatch.setattr(everything, "figure", lambda n: maker(n))
    monkeypatch.setattr(everything, "open_aside", lambda name, bar: told.append(("encoder", name)) or "place")
    monkeypatch.setattr(everything, "_curve_cells", lambda how: [("curve", how["train_rows"], how["seeds"])])
    monkeypatch.setattr(everything, "run_together", lambda wanted, also, *rest: told.append(("grid", sorted(wanted), also, next(iter(wanted.values()))[0].setting.train_rows)) or {})
    monkeypatch.setattr(everything, "save_tables", lambda wanted, *rest: told.append(("tables", sorted(wanted))) or [])
    monkeypatch.setattr(everything, "write_report", lambda folder: told.append(("report", folder.name)) or [])
    return told


def test_everything_goes_in_the_order_in_which_nothing_is_done_twice(heard, tmp_path):
    everything.reproduce([1, 4], [1, 2, 3], out=tmp_path, say=lambda line: None, agreed=lambda cells: heard.append(("agreed", len({c.method for c in cells}) > 5)))
    assert heard == [("agreed", True), ("encoder", "tiny"), ("figure 1", 1000, 3), ("figure 3", 1000, 3), ("grid", [1, 4], [("curve", None, 3)], 1000),
                     ("tables", [1, 4]), ("figure 2", None, 3), ("report", "first")]


def test_what_is_not_agreed_to_or_mistaken_opens_nothing(heard, tmp_path):
    def no(cells): raise DataError("not agreed to")
    for mistake in (dict(agreed=no), dict(seeds=0), dict(tables=[9]), dict(scenario="lwo"), dict(source="hub", agreed=no)):
        with pytest.raises(DataError): everything.reproduce(**mistake, out=tmp_path, say=lambda line: None)
    assert not heard and not list(tmp_path.iterdir())


def test_a_model_of_several_tasks_has_the_other_settings_beside():
    made = settings_for([1, 2, 3], train_rows=7)
    for n, setting in made.items(): assert {s.task for s in (setting, *setting.beside)} == {"ner", "sentiment", "mt"} and all(s.train_rows == 7 for s in setting.beside), n
    assert settings_for([4])[4].beside == ()


def test_rows_for_other_losses_can_be_fewer_and_the_command_under_a_table_says_so():
    from xlt_lib.reproduction.report import Saved
    from xlt_lib.reproduction.report_formats import _command
    usual, fewer = (settings_for([2], other_rows=n, also_tested=["ntrex128"] if n else ())[2] for n in (None, 60))
    assert (usual.other_rows, fewer.other_rows) == (Setting(()).other_rows, 60) and "other loss" not in caption(2, paper("first"), usual, 1)
    assert "at most 60 rows for each other loss a language" in caption(2, paper("first"), fewer, 1).lower()
    line = lambda s: _command(Saved("table", 2, "x", "", "", (), ({"cell": {"seed": 0, "setting": asdict(s)}},), (), ()))
    assert "--other-rows 60 --also-test ntrex128" in line(fewer) and "--other-rows" not in line(usual)
    with pytest.raises(DataError, match="other_rows"): settings_for([2], other_rows=0)


@pytest.mark.parametrize("file", sorted((ROOT / "figures/first").glob("*.jsonl")), ids=lambda f: f.stem)
def test_published_records_are_whole_and_name_no_machine(file):
    records = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert len({r["key"] for r in records}) == len(records) > 0
    for r in records:
        assert r["commit"] and len(r["encoder"]) == 64 and r["versions"]["torch"] and r["seconds"] > 0 and r["megabytes"] > 0
        assert "/" not in r["cell"]["setting"]["source"] + r["cell"]["setting"]["encoder"]
        told = [x for scores in (r["scores"], *r.get("others", {}).values()) for s in scores.values() for metric, x in s.items() if metric not in ("sentences", "signatures")]
        assert (told or file.stem.startswith("figure")) and all(x is None or 0 <= x <= 1 for x in told)
