"""Saved tables are read back as they were, and answer questions that were fixed beforehand."""
import json
from dataclasses import asdict, replace

import pytest
from conftest import ROOT
from test_experiments import NINE
from test_tables_first import FIRST, WORLD, judged, made_up, measured, result

from xlt_lib.data.errors import DataError
from xlt_lib.reproduction.experiments import ROWS, Cell, Setting
from xlt_lib.reproduction.records import SavedTable, answers, conclude, low_tier, read_records, seed_means
from xlt_lib.reproduction.tables import save_table, scores_by_row

HELPS = ("multilingual", "monolingual", "does sharing help?")


def saved(folder, number, setting, pairs, seeds=2): return next(f for f in save_table(number, FIRST, setting, pairs, seeds, folder) if f.suffix == ".jsonl")


def whole(cell, scores):
    "A record with all of its cell."
    return replace(result(cell, scores), cell=asdict(cell), key=f"{hash((cell.sees, cell.seed)) % 2**64:016x}")


def test_cells_come_back_as_they_were(tmp_path):
    beside = Setting((("en-sw", "low"),), task="mt")
    for setting in (WORLD, replace(WORLD, train_rows=7, labels=("LOC",), datasets=(("ner", "wikineural"),), beside=(beside,))):
        cells = [Cell("framework", 0, setting), Cell("monolingual", 1, setting, "sw")]
        file = tmp_path / "records.jsonl"
        file.write_text("".join(json.dumps(asdict(whole(c, {"sw": 0.5}))) + "\n" for c in cells), "utf-8")
        assert [c for c, _ in read_records(file)] == cells and hash(read_records(file)[0][0]) == hash(cells[0])


def test_a_run_of_two_methods_stands_in_both_rows(tmp_path):
    zero = replace(WORLD, scenario="zero", tiers=(("en", "high"), ("sw", "low")))
    pairs = [(c, whole(c, {"en": 0.5, "sw": 0.4})) for c in (Cell("multilingual", 0, zero), Cell("cross_lingual", 0, zero))]
    file = saved(tmp_path, 1, zero, pairs, 1)
    assert len(file.read_text("utf-8").splitlines()) == 1
    back = read_records(file, tuple(ROWS[1].values()))
    assert sorted(c.method for c, _ in back) == ["cross_lingual", "multilingual"]
    assert scores_by_row(1, back) == scores_by_row(1, pairs)
    assert len(read_records(file, ("monolingual",))) == 1


@pytest.mark.parametrize("stem", sorted(p.stem for p in (ROOT / "figures/first").glob("table*.jsonl")))
def test_committed_tables_follow_from_their_records(stem):
    "Every mean that a committed table shows is computed again from the records beside it."
    table = SavedTable(stem, ROOT / "figures/first")
    shown = " ".join(table.file("md").read_text("utf-8").split())
    pairs = table.pairs
    for name, languages in scores_by_row(table.number, pairs).items() if table.number in (1, 4) else ():
        for code, values in languages.items():
            if code in FIRST.table(table.number).columns: assert f"| {100 * sum(values) / len(values):.1f}" in shown, (name, code)
    assert pairs and {c.setting.scenario for c, _ in pairs} == {stem.split("_")[1]}


@pytest.mark.parametrize("change, found", [(lambda r: r | {"more": 1}, "unexpected keyword argument 'more'"), (lambda r: {k: v for k, v in r.items() if k != "cell"}, "cell"),
                                           (lambda r: r | {"cell": {"method": "framework"}}, "setting")])
def test_what_is_no_record_is_told(tmp_path, change, found):
    good = asdict(whole(Cell("framework", 0, WORLD), {"sw": 0.5}))
    (tmp_path / "r.jsonl").write_text(json.dumps(good) + "\n" + json.dumps(change(good)) + "\n", "utf-8")
    with pytest.raises(DataError, match="not a record of this version") as e: read_records(tmp_path / "r.jsonl")
    assert e.value.line == 2 and found in str(e.value.found) and e.value.remedy
    (tmp_path / "r.jsonl").write_text("{", "utf-8")
    with pytest.raises(DataError, match="not a record of this version"): read_records(tmp_path / "r.jsonl")


def test_a_table_that_is_not_here_says_so_and_has_no_pairs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    absent = SavedTable("table2_low_world_tiny")
    absent.show()
    conclude(2, absent.pairs, [HELPS], "accuracy")
    said = capsys.readouterr().out
    assert not absent.here and absent.pairs == [] and "not with an installed package" in said and "--table 2" in said and "skipped: no records" in said


def test_means_are_of_all_languages_or_of_none():
    pairs = measured(1, made_up)
    means = seed_means(pairs, ["sw", "yo"])
    assert means["monolingual"] == pytest.approx({0: 50.0, 1: 60.0}) and low_tier(pairs) == ["sw", "yo", "zu"]
    part = [(c, r) for c, r in pairs if (c.language, c.seed) != ("yo", 1)]
    assert list(seed_means(part, ["sw", "yo"])["monolingual"]) == [0]
    assert seed_means(judged(), ["es"], "macro-F1")["multilingual"] == pytest.approx({0: 50.0, 1: 60.0})


def test_seeds_are_paired_by_number_and_questions_need_two():
    luck = {0: 0.00, 1: 0.05, 2: 0.01, 3: 0.04}
    score = lambda cell, code: 0.4 + luck[cell.seed] + (0.1 + cell.seed / 1000 if cell.method == "multilingual" else 0)
    pairs = [(c, r) for c, r in measured(1, score, seeds=4) if (c.method, c.seed) != ("multilingual", 0)]
    row, = answers(pairs, [HELPS, ("nobody", "multilingual", "?")])
    assert row["points"].startswith("+10.2") and row["verdict"] == "yes" and row["difference"] == "multilingual − monolingual"
    assert answers(measured(1, made_up, seeds=1), [HELPS]) == [] == answers([], [HELPS])


def test_the_more_questions_the_harder_the_verdict():
    luck = {0: 0.00, 1: 0.03, 2: 0.015}
    score = lambda cell, code: 0.4 + (0.05 + luck[cell.seed] if cell.method == "multilingual" else 0) + 0.1 * len(cell.method) * luck[cell.seed]
    pairs = measured(1, score, seeds=3)
    one, = answers(pairs, [HELPS])
    seven = answers(pairs, [HELPS] + [(a, "control", "?") for a in ("multitask", "framework", "adversarial")])
    assert float(one["p (Holm)"]) < float(seven[0]["p (Holm)"])


def test_what_is_concluded_stands_beside_the_paper(capsys):
    pairs = measured(1, lambda cell, code: made_up(cell, code) + 0.01 * (cell.seed * len(cell.method) % 3), seeds=3)
    conclude(1, pairs, [HELPS])
    said = capsys.readouterr().out
    assert "does sharing help?" in said and "3 seeds" in said and "(paper: +17.6 %)" in said
    conclude(1, measured(1, made_up, seeds=1), [HELPS])
    assert "one seed" in capsys.readouterr().out
    conclude(1, [(c, r) for c, r in pairs if c.method == "control"], [HELPS])
    assert "none of the questions' methods" in capsys.readouterr().out
    assert set(NINE) >= set(low_tier(pairs))
