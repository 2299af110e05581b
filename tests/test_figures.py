"""Figures 2 and 3: what is run for them, what is drawn, and what the numbers can settle."""
import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from math import nan
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from tiny import tokenizer

from xlt_lib.data.errors import DataError
from xlt_lib.encoders.transformer import new_encoder
from xlt_lib.evaluation.parallel import WAYS, halves_of, meaning_probe, measure_sides, own_language, rows_by_language, sides_of, translations
from xlt_lib.evaluation.representations import language_probe
from xlt_lib.evaluation.statistics import Difference, compare_seeds
from xlt_lib.reproduction import conditions
from xlt_lib.reproduction.experiments import Cell, Setting
from xlt_lib.reproduction.figure2 import SHARES, cells_of_figure2, curve_cells, curve_rows, curve_scores, draw_curves, reproduce_figure2, whole
from xlt_lib.reproduction.figure3 import AFTER, reproduce_figure3, view_claims, view_rows
from xlt_lib.reproduction.material import Corpora
from xlt_lib.reproduction.observations import MEAN, VERDICTS, curve_claims, judge, low_tier
from xlt_lib.reproduction.runs import run_cell
from xlt_lib.reproduction.views import BEFORE, View, read_view, view

matplotlib.use("agg")
THREE = (("en", "high"), ("sw", "low"), ("yo", "low"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder") / "enc"
    new_encoder("xlm-roberta", tokenizer(), layers=1, width=16).save(folder)
    return folder


@pytest.fixture(scope="module")
def setting(folder): return Setting(THREE, encoder=str(folder), train_rows=40, test_rows=10, other_rows=10)


# ---- Figure 2: which runs -----------------------------------------------------------------------------------------

def test_a_share_takes_the_place_of_the_low_tiers(setting):
    cells = curve_cells(setting, seeds=2)
    assert {m: sum(c.method == m for c in cells) for m in ("monolingual", "multilingual", "cross_lingual", "framework")} == dict(
        monolingual=2 * 2 * 6, multilingual=2 * 6, cross_lingual=2, framework=2 * 6)
    for cell, at in cells.items():
        assert at == (SHARES if cell.method == "cross_lingual" else at[:1])
        labelled = dict(cell.sees.labelled)
        assert cell.method == "monolingual" or labelled["en"] == 1.0
        assert cell.method == "cross_lingual" or {c: s for c, s in labelled.items() if c != "en"} == {c: at[0] for c in labelled if c != "en"}
    assert next(iter(cells)).method == "framework"      # the longest first, so that no worker waits for the last one


def test_what_counts_as_all(setting):
    n = len(Corpora(setting).kept("ner", "sw")[0])
    assert whole(Corpora(setting)) == 40 / n and whole(Corpora(replace(setting, train_rows=None))) == 1.0 == whole(Corpora(replace(setting, train_rows=n + 1)))
    corpora = Corpora(replace(setting, train_rows=400))
    drawn = [len(corpora.labelled("sw", share * whole(corpora), 0)) for share in SHARES]
    assert drawn == [4, 20, 40, 100, 200, 400]          # no two shares are one because of the limit


@pytest.mark.parametrize("mistake, said", [
    (dict(shares=(0.1, 0)), "not a share"), (dict(shares=(-0.1,)), "not a share"), (dict(shares=(5,)), "not a share.*Write 5 % as 0.05"), (dict(shares=(nan,)), "not a share"),
    (dict(shares=()), "not a share"), (dict(seeds=0), "no seeds"), (dict(scenario="lwo"), "Did you mean 'low'"), (dict(languages=["high=en"]), "two languages"),
    (dict(languages=["low=en"]), "two languages"), (dict(languages=["high=en,fr"]), "in the low tier"), (dict(languages=["low=xx"]), "xx"), (dict(methods=("framwork",)), "Did you mean 'framework'"),
    (dict(datasets=["nre=a"]), "not a task")])
def test_mistakes_in_figure_2_are_told_before_anything_runs(mistake, said, tmp_path):
    with pytest.raises(DataError, match=said): reproduce_figure2(**mistake, results=tmp_path / "results", out=tmp_path)
    assert not list(tmp_path.iterdir())


# ---- Figure 2: what comes out -------------------------------------------------------------------------------------

def invented(cells, f1):
    "Results in which a method has the F1 that a function gives."
    made = lambda cell, at: SimpleNamespace(scores={c: dict(f1=f1(cell.method, at[0], cell.seed, c)) for c in cell.sees.tested}, rows=dict(ner=round(2400 * at[0])), steps=100)
    return {cell: made(cell, at) for cell, at in cells.items()}


def test_means_bands_and_flat_lines(setting):
    cells = curve_cells(setting, seeds=3)
    scores = curve_scores(cells, invented(cells, lambda m, share, seed, c: 0.3 + 0.01 * seed + 0.1 * (c == "yo")))
    rows = {(r["language"], r["method"], r["share"]): r for r in curve_rows(scores)}
    assert len(rows) == 3 * 4 * 6       # sw, yo and their mean
    half = 4.302653 * 1 / 3**0.5        # t of two degrees of freedom, spread 1 point
    assert rows["sw", "framework", 0.05]["mean"] == 31 and rows["yo", "framework", 0.05]["mean"] == 41 and rows[MEAN, "framework", 0.05]["mean"] == 36
    assert all(abs(r["half"] - half) < 0.01 and r["seeds"] == 3 for r in rows.values())
    assert {rows["sw", "cross_lingual", s]["mean"] for s in SHARES} == {31} and rows["sw", "framework", 0.1]["rows"] == 240
    assert {r["half"] for r in curve_rows([s for s in scores if s["seed"] == 0])} == {""}


def difference(value, p, n=3): return Difference(value, value - 1, value + 1, 0.95, n, "seeds", "paired t", p, value, 0.0)


def test_a_claim_about_all_needs_all_and_ends_with_one():
    up, vague, down = difference(2, 0.01), difference(2, 0.2), difference(-2, 0.001)
    assert judge([up]) == judge([up, up]) == VERDICTS[0] and judge([vague]) == judge([up, vague]) == "cannot be told with 3 seeds"
    assert judge([down]) == VERDICTS[1] and judge([up, up, down]) == "not: the reverse in 1 of 3"
    assert judge([difference(-2, 0.03)] + [vague] * 3) == "cannot be told with 3 seeds"     # four questions: 0.03 is 0.12
    assert judge([difference(2, nan, n=1)]) == "cannot be told with 1 seed" == judge([compare_seeds([0.5], [0.1])])


def test_the_papers_observations_are_computed(setting):
    cells = curve_cells(setting, seeds=3)
    luck = lambda m, share, seed: 0.001 * np.random.default_rng([seed, round(1000 * share), len(m)]).normal()
    rise = {"framework": 0.3, "multilingual": 0.2, "monolingual": 0.2, "cross_lingual": 0.0}
    start = {"framework": 0.5, "multilingual": 0.4, "monolingual": 0.3, "cross_lingual": 0.3}
    good = curve_claims(curve_scores(cells, invented(cells, lambda m, share, seed, c: start[m] + rise[m] * share + luck(m, share, seed))))
    told = {(r["observation"], r["claim"]): r["verdict"] for r in good}
    assert told["1", "the framework beats monolingual multilingual cross_lingual at each share"] == VERDICTS[0]
    assert [v for (n, _), v in told.items() if n == "2"] == [VERDICTS[0]] * 3 and [v for (n, _), v in told.items() if n == "3"] == [VERDICTS[0]]
    assert [v for (n, c), v in told.items() if n == "1" and "gap" in c] == [VERDICTS[1]] * 3      # who gains more with data has the larger gap at its end
    start["framework"], rise["framework"] = 0.35, 0.0
    bad = curve_claims(curve_scores(cells, invented(cells, lambda m, share, seed, c: start[m] + rise[m] * share + luck(m, share, seed))))
    assert bad[0]["verdict"].startswith("not: the reverse in ")
    alone = curve_claims(curve_scores(cells, invented(cells, lambda m, share, seed, c: 0.5 + luck(m, share, 0))))
    assert {r["verdict"] for r in alone if r["observation"] != "3"} == {"cannot be told with 3 seeds"}       # the same in every seed: nothing to test with


def test_figure_2_from_its_cells(folder, tmp_path, monkeypatch):
    "Results that somebody has (how they are run is tested with the grid) become four files, and the same bytes again."
    monkeypatch.setattr(conditions, "LEAST", 3)
    what = dict(seeds=1, encoder_name=str(folder), languages=["high=en", "low=sw"], methods=("monolingual", "cross_lingual", "framework"), shares=(0.1, 1.0), train_rows=20, test_rows=20, other_rows=10)
    cells, said = cells_of_figure2(**what), []
    assert len(cells) == 2 + 1 + 2
    done = {c: run_cell(c, Corpora(c.setting), tmp_path / "results") for c in cells}
    files = reproduce_figure2(**what, done=done, out=tmp_path, say=said.append)
    assert [f.name for f in files] == [f"figure2_low_world_enc.{kind}" for kind in ("png", "csv", "jsonl", "md")]
    assert "synthetic" in "".join(said) and "(rows: sw 2, 20)" in "".join(said) and "One seed, so no bands" in "".join(said)
    kept = {f: f.read_bytes() for f in files}
    assert reproduce_figure2(**what, done=done, out=tmp_path, say=said.append) == files and {f: f.read_bytes() for f in files} == kept
    records, rows = [json.loads(line) for line in kept[files[2]].splitlines()], list(csv.DictReader(kept[files[1]].decode().splitlines()))
    assert len(rows) == 2 * 3 * 2 and {r["method"] for r in rows} == set(what["methods"]) and len({r["key"] for r in records}) == 5
    assert not any("/" in r["cell"]["setting"]["encoder"] for r in records) and b"| observation | claim |" in kept[files[3]]


def test_curves_can_be_told_apart_without_colours(setting):
    cells = curve_cells(setting, seeds=3)
    figure = draw_curves(curve_scores(cells, invented(cells, lambda m, share, seed, c: 0.1 * len(m) % 1)))
    large = figure.axes[0]
    drawn = [line for line in large.get_legend().get_lines()]
    assert len(drawn) == 4 == len({line.get_marker() for line in drawn}) == len({str(line._dash_pattern) for line in drawn})
    assert len(figure.axes) == 1 + len(low_tier(setting)) and [t.get_text() for t in large.get_xticklabels()] == ["1 %", "5 %", "10 %", "25 %", "50 %", "100 %"]
    matplotlib.pyplot.close(figure)


# ---- parallel sentences -------------------------------------------------------------------------------------------

def test_the_share_of_ones_own_language():
    apart = np.array([[0, 0], [0, 1], [1, 0], [90, 0], [90, 1], [91, 0]], float)
    assert (own_language(apart, ["a"] * 3 + ["b"] * 3, k=2) == 1).all()
    assert (own_language(apart, ["a", "b", "c"] * 2, k=2) == 0).all()
    twins = np.zeros((6, 2))
    assert own_language(twins, ["a"] * 6, k=5).tolist() == [1.0] * 6      # a row is never its own neighbour
    for k in (0, 6):
        with pytest.raises(DataError, match="nearest rows"): own_language(apart, ["a"] * 6, k)
    with pytest.raises(DataError, match="differ in number"): own_language(apart, ["a"] * 5, 2)


def made_sides(shift, noise=0.05, n=120, seed=0):
    "Meanings in six dimensions; each language adds a shift of its own and a little noise."
    dice = np.random.default_rng(seed)
    meaning, shifts = dice.normal(size=(n, 6)), {c: shift * dice.normal(size=6) for c in "abc"}
    side = lambda c: meaning + shifts[c] + noise * dice.normal(size=meaning.shape)
    a = side("a")
    return {c: (a, side(c)) for c in "bc"}


def test_a_shift_hides_translations_and_centring_brings_them_back():
    plain, centred = (measure_sides(sides, "a") for sides in halves_of(made_sides(8.0)))
    assert plain["probe"] == 1 and plain["neighbours"] == 1 and centred["neighbours"] < 0.5
    assert plain["retrieval"]["b"] < 0.5 < 0.95 < centred["retrieval"]["b"] and abs(plain["cka"]["b"] - centred["cka"]["b"]) < 1e-9
    assert plain["probe_chance"] == pytest.approx(1 / 3) and plain["neighbours_even"] == pytest.approx(59 / 179) and plain["retrieval_chance"] == 1 / 60
    assert json.loads(json.dumps(plain)) == plain


def test_means_come_from_rows_that_are_not_measured():
    sides = made_sides(8.0)
    changed = {c: tuple(np.concatenate([v[:60], v[60:] + 5]) for v in pair) for c, pair in sides.items()}
    plain, centred = halves_of(sides)
    again, moved = halves_of(changed)
    assert all((again[c][1] == plain[c][1]).all() for c in sides) and np.allclose(moved["b"][1], centred["b"][1] - 5)
    with pytest.raises(DataError, match="too few rows"): halves_of({c: tuple(v[:1] for v in pair) for c, pair in sides.items()})


def test_a_probe_holds_out_meanings():
    "Where all languages are one vector, a probe that meets a twin under another name scores below chance; one that holds out meanings guesses."
    dice = np.random.default_rng(0)
    meaning = dice.normal(size=(120, 30))
    neutral = {c: (meaning, meaning + 0.01 * dice.normal(size=meaning.shape)) for c in "bc"}
    by_rows, told = language_probe(*rows_by_language(neutral, "a")), meaning_probe(neutral, "a")
    assert by_rows.high < by_rows.chance == pytest.approx(1 / 3) and abs(told.value - told.chance) < 0.05 and told.n == 36
    apart = {c: (meaning, meaning + k) for k, c in ((9, "b"), (-9, "c"))}
    assert meaning_probe(apart, "a").value == 1 and abs(meaning_probe(apart, "a").shuffled - 1 / 3) < 0.15
    with pytest.raises(DataError, match="too few meanings"): meaning_probe({"b": (meaning[:3], meaning[:3])}, "a")


def test_translations_are_the_same_meaning():
    texts = translations(("en", "sw", "yo"), 50)
    assert set(texts) == {"sw", "yo"} and all(len(a) == len(b) == 50 for a, b in texts.values()) and texts["sw"][0] == texts["yo"][0]
    for codes in (("en",), ("en", "en"), ()):
        with pytest.raises(DataError, match="two or more"): translations(codes, 5)
    with pytest.raises(DataError, match="no translations for en-xx"): translations(("en", "xx"), 5)


def test_a_sentence_of_several_pairs_is_one_vector(folder):
    from xlt_lib.encoders.transformer import open_encoder
    sides = sides_of(open_encoder(folder), translations(("en", "sw", "yo"), 6))
    x, codes = rows_by_language(sides, "en", 4)
    assert (sides["sw"][0] == sides["yo"][0]).all() and x.shape == (12, 16) and codes.tolist() == ["en"] * 4 + ["sw"] * 4 + ["yo"] * 4


# ---- Figure 3 -----------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def figure3(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("figure3")
    told = dict(seeds=1, encoder_name=str(folder), languages=["high=en", "low=sw,yo"], train_rows=800, test_rows=20, results=place / "results", encoder_folder=str(folder), out=place,
                bar=False, workers=1)
    said = []
    return reproduce_figure3(**told, say=said.append), told, said


def test_figure_3_from_nothing_and_again_from_what_is_there(figure3):
    files, told, said = figure3
    assert [f.name for f in files] == [f"figure3_low_world_enc.{kind}" for kind in ("png", "csv", "jsonl", "md")] and "synthetic" in "".join(said)
    kept, views = {f: f.read_bytes() for f in files}, list(told["results"].glob("*/view.json"))
    assert len(views) == 3 == len(kept[files[2]].splitlines()) and len(list(told["results"].glob("*/result.json"))) == 2      # the tables' cells come with them
    assert reproduce_figure3(**told, say=said.append) == files and {f: f.read_bytes() for f in files} == kept
    rows = list(csv.DictReader(kept[files[1]].decode().splitlines()))
    assert [(r["model"], r["seed"], r["vectors"]) for r in rows] == [(m, "0", w) for m in (BEFORE, *AFTER) for w in WAYS]
    assert all(0 <= float(r["probe"]) <= 1 and abs(float(r["probe_chance"]) - 1 / 3) < 1e-3 for r in rows)
    assert b"| observation | claim |" in kept[files[3]]


def test_a_view_has_the_scores_of_its_cell(figure3, setting):
    "Whoever is first, the table or the figure: the same training, and the same numbers."
    files, told, _ = figure3
    cell = Cell("framework", 0, Setting(THREE, "low", "world", (), told["encoder_name"], 800, 20))
    kept = next(v for v in (read_view(f) for f in told["results"].glob("*/view.json")) if v.cell["method"] == "framework" and v.cell["seed"] == 0)
    assert kept.agrees is None and run_cell(cell, Corpora(cell.setting), told["results"]).scores == kept.scores


def test_a_cell_that_was_run_before_is_compared(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(conditions, "LEAST", 3)
    cell = Cell("multitask", 1, Setting(THREE, encoder=str(folder), train_rows=10, test_rows=10, other_rows=5))
    corpora = Corpora(cell.setting)
    result = run_cell(cell, corpora, tmp_path)
    first = view(cell, corpora, tmp_path, rows=30)
    assert first.agrees is True and first.scores == result.scores and not first.dots      # pictures are drawn of seed 0
    file = tmp_path / result.key / "result.json"
    file.write_text(file.read_text("utf-8").replace('"f1": ', '"f1": 1.0, "_": '), "utf-8")
    (tmp_path / first.key / "view.json").unlink()
    assert view(cell, corpora, tmp_path, rows=30).agrees is False
    (tmp_path / first.key / "view.json").write_text('{"schema": 0}', "utf-8")
    with pytest.raises(DataError, match="not a view of this version.*schema 0"): view(cell, corpora, tmp_path, rows=30)


@pytest.mark.parametrize("mistake, said", [
    (dict(seeds=0), "no seeds"), (dict(scenario="lwo"), "Did you mean 'low'"), (dict(languages=["high=en"]), "two or more"), (dict(methods=("monolingual",)), "a model a language"),
    (dict(methods=("framwork",)), "Did you mean 'framework'"), (dict(source="no/such"), "no such file or folder")])
def test_mistakes_in_figure_3_are_told_before_anything_runs(mistake, said, tmp_path):
    with pytest.raises(DataError, match=said): reproduce_figure3(**mistake, results=tmp_path / "results", out=tmp_path)
    assert not list(tmp_path.iterdir())


def seen(method, seed, near, probe, found, f1=0.3):
    one = dict(probe=probe, probe_low=probe - 0.03, probe_high=probe + 0.03, probe_chance=1 / 3, probe_shuffled=1 / 3, neighbours=near, neighbours_half=0.02, neighbours_even=1 / 3,
               neighbours_of={}, retrieval=dict(sw=found, yo=found), csls=dict(sw=found, yo=found), retrieval_chance=1 / 60, cka=dict(sw=0.5, yo=0.5))
    setting = Setting(THREE)
    cell = Cell(method, seed, setting)
    return cell, View(dict(setting=dict(tiers=THREE)), "k", {} if method == BEFORE else {c: dict(f1=f1) for c in ("en", "sw", "yo")}, None, dict.fromkeys(WAYS, one), {}, "", "", 1.0, 1, None, {})


def test_observations_on_figure_3_are_computed():
    luck = (0.0, 0.004, -0.003)
    made = lambda after, control: dict([seen(BEFORE, 0, 0.8, 0.99, 0.1), *(seen("multitask", s, control[0] + e, 0.9, control[1] - e, control[2] + e) for s, e in enumerate(luck)),
                                        *(seen("framework", s, after[0] - e, after[1], after[2] + 2 * e, after[3] - e) for s, e in enumerate(luck))])
    verdicts = [r["verdict"] for r in view_claims(made((0.4, 0.33, 0.6, 0.5), (0.7, 0.3, 0.3)))]
    assert verdicts == [VERDICTS[0]] * 9
    verdicts = [r["verdict"] for r in view_claims(made((0.9, 0.95, 0.05, 0.2), (0.7, 0.3, 0.3)))]
    assert verdicts == [VERDICTS[0]] + [VERDICTS[1]] * 8
    same = view_claims(made((0.8, 0.5, 0.1, 0.3), (0.8, 0.1, 0.3)))
    assert "cannot be told with 3 seeds" in [r["verdict"] for r in same]
    one = [r["verdict"] for r in view_claims({c: v for c, v in made((0.4, 0.33, 0.6, 0.5), (0.7, 0.3, 0.3)).items() if c.seed == 0})]
    assert one[1] == "cannot be told with 1 seed" and view_claims(dict([seen(BEFORE, 0, 0.8, 0.99, 0.1)])) == []
    assert len(view_rows(made((0.4, 0.33, 0.6, 0.5), (0.7, 0.3, 0.3)))) == 7 * 2


SCRIPT = """
import sys
from xlt_lib.reproduction import conditions
from xlt_lib.reproduction.figure3 import reproduce_figure3
conditions.LEAST = conditions.MOST = 30         # workers read this file again before they work
if __name__ == "__main__":
    place = sys.argv[1]
    print("go", flush=True)
    try: print(len(reproduce_figure3(seeds=1, encoder_name=ENCODER, encoder_folder=ENCODER, languages=["high=en", "low=sw,yo"], train_rows=800, test_rows=10, results=f"{place}/results", out=place, bar=False,
                                     workers=1, say=lambda line: None)), "files", flush=True)
    except KeyboardInterrupt as e: sys.exit(f"interrupted: {e}")
"""


def test_ctrl_c_in_the_middle_and_the_same_call_does_the_rest(folder, tmp_path):
    script = tmp_path / "figure3_script.py"
    script.write_text(SCRIPT.replace("ENCODER", repr(str(folder))), "utf-8")
    start = lambda: subprocess.Popen([sys.executable, script, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
                                     preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    process, results = start(), tmp_path / "results"
    while not list(results.glob("*/view.json")) and process.poll() is None: time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1 and err.startswith("interrupted: ") and "of 3 views are in" in err and "Traceback" not in err, err
    whole = {p: p.stat().st_mtime_ns for p in results.glob("*/view.json")}
    assert 1 <= len(whole) < 3 and not (tmp_path / "first").exists() and not [p for p in results.rglob("*") if ".part" in p.name]
    again = start()
    out, err = again.communicate(timeout=300)
    assert (again.returncode, out) == (0, "go\n4 files\n"), err
    assert {p: p.stat().st_mtime_ns for p in whole} == whole and len(list(results.glob("*/view.json"))) == 3
