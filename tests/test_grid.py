"""Many cells in worker processes, whatever happens to them, and the tables made of their records."""
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from test_experiments import NINE
from tiny import tokenizer

from xlt_lib.data.errors import DataError
from xlt_lib.encoders.transformer import new_encoder
from xlt_lib.evaluation.statistics import seed_interval
from xlt_lib.reproduction import grid
from xlt_lib.reproduction.experiments import ROWS, Cell, Setting, method
from xlt_lib.reproduction.grid import caption, cells_of, gain, run_cells, save_table, scores_by_row, table_rows, tiers_of
from xlt_lib.reproduction.papers import paper
from xlt_lib.reproduction.runs import SCHEMA, Result

FIRST = paper("first")
WORLD = Setting(tuple(NINE.items()))


# ---- which cells ------------------------------------------------------------------------------------------------

def test_the_papers_tiers(): assert tiers_of(FIRST) == NINE


def test_cells_of_a_table():
    one, four = cells_of(1, FIRST, WORLD), cells_of(4, FIRST, WORLD)
    assert len(one) == 9 + 6 and len(four) == 3 + 5 and len(cells_of(1, FIRST, WORLD, 5)) == 5 * 15
    assert {c.language for c in four if c.method == "monolingual"} == {"sw", "yo", "zu"}
    assert len(set(one) | set(four)) == 15 + 1      # the tables share all but tagging alone
    zero = cells_of(1, FIRST, replace(WORLD, scenario="zero"))
    assert {c.language for c in zero if c.method == "monolingual"} == {"en", "es", "fr"}
    sizes = [len(c.sees.losses) + len(c.sees.labelled) for c in one]
    assert one[0].method == "framework" and sizes[-1] == 1


@pytest.mark.parametrize("number, seeds, message", [(2, 1, "no such table.*1, 4"), (1, 0, "no seeds")])
def test_tables_and_seeds_that_are_none(number, seeds, message):
    with pytest.raises(DataError, match=message): cells_of(number, FIRST, WORLD, seeds)


# ---- running them -----------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder") / "enc"
    new_encoder("xlm-roberta", tokenizer(), layers=1, width=16).save(folder)
    return Setting((("en", "high"), ("sw", "low")), encoder=str(folder), train_rows=40, test_rows=10, other_rows=10)


# Workers read this file again before they work, so they take the same few steps.
SCRIPT = """
import multiprocessing, os, signal, sys, threading, time
from xlt_lib.data.errors import DataError
from xlt_lib.reproduction import runs
from xlt_lib.reproduction.experiments import Cell, Setting
from xlt_lib.reproduction.grid import run_cells
results, steps, kill = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "kill"
runs.LEAST = runs.MOST = steps
setting = SETTING

def killer():
    while not multiprocessing.active_children(): time.sleep(0.01)
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

if __name__ == "__main__":
    cells = [Cell(m, s, setting, l) for s in range(2) for m, l in (("multilingual", None), ("monolingual", "sw"))]
    if kill: threading.Thread(target=killer, daemon=True).start()
    print("go", flush=True)
    try: print(len({r.key for r in run_cells(cells, results, workers=2)}), "keys", flush=True)
    except KeyboardInterrupt as e: sys.exit(f"interrupted: {e}")
    except DataError as e: sys.exit(f"error: {e}")
"""


@pytest.fixture(scope="module")
def script(setting, tmp_path_factory):
    file = tmp_path_factory.mktemp("script") / "grid_script.py"
    file.write_text(SCRIPT.replace("SETTING", repr(setting)))
    return file


def start(script, results, steps, kill="no"):
    "The script in a process group of its own, as a terminal would start it: Ctrl-C reaches the workers, too."
    return subprocess.Popen([sys.executable, script, results, str(steps), kill], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


def parts(results): return [p for p in results.rglob("*") if ".partial" in p.name] if results.exists() else []


def test_ctrl_c_in_the_middle_and_the_same_call_finishes_the_rest(script, tmp_path):
    results = tmp_path / "results"
    process = start(script, results, 40)
    assert process.stdout.readline() == "go\n"
    while not list(results.glob("[!.]*")) and process.poll() is None: time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1 and "Traceback" not in err and err.startswith("interrupted: "), err
    assert "of 4 cells are in" in err and "The same command does the rest" in err and not parts(results)
    whole = {p: p.stat().st_mtime_ns for p in results.glob("*/result.json")}
    assert 1 <= len(whole) == len(list(results.iterdir())) < 4
    again = start(script, results, 40)
    out, err = again.communicate(timeout=300)
    assert (again.returncode, out) == (0, "go\n4 keys\n"), err
    assert {p: p.stat().st_mtime_ns for p in whole} == whole and len(list(results.iterdir())) == 4


def test_ctrl_c_while_the_workers_are_starting(script, tmp_path):
    process = start(script, tmp_path / "results", 40)
    assert process.stdout.readline() == "go\n"
    time.sleep(0.5)         # they are importing
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1 and err.startswith("interrupted: 0 of 4 cells") and "Traceback" not in err, err
    assert not parts(tmp_path / "results")


def test_a_killed_worker_is_one_message(script, tmp_path):
    process = start(script, tmp_path / "results", 40, "kill")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1 and err.startswith("error: a worker process was killed: is the memory full?"), err
    assert "fewer --workers" in err and "Traceback" not in err and not parts(tmp_path / "results")


def test_workers_end_with_their_parent(script, tmp_path):
    "However it was killed: a worker that went on would hold two gigabytes and write results that nobody asked for."
    process = start(script, tmp_path / "results", 2000)
    assert process.stdout.readline() == "go\n"
    family = lambda: subprocess.run(["pgrep", "-g", str(process.pid)], capture_output=True, text=True).stdout.split()
    while len(family()) < 4: time.sleep(0.05)       # the script, two workers, and what keeps track of their semaphores
    time.sleep(3)
    process.kill()
    process.wait()
    end = time.time() + 30
    while family() and time.time() < end: time.sleep(0.1)
    assert not family()


def test_two_names_for_one_run_run_once_and_errors_do_not_stop_the_others(setting, tmp_path):
    zero, said = replace(setting, scenario="zero"), []
    cells = [Cell(m, 0, zero) for m in ("multilingual", "cross_lingual", "multilingual")]
    found = run_cells(cells, tmp_path, workers=1)
    assert found[0] is found[1] is found[2] and len(list(tmp_path.iterdir())) == 1
    lost = Cell("monolingual", 0, replace(setting, source=str(tmp_path / "empty")), "sw")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="monolingual needs ner in sw"): run_cells([lost, *cells], tmp_path, workers=1, say=said.append)
    assert len(said) == 1 and said[0].startswith("monolingual sw seed 0: ")
    assert not {k for k in grid.ENVIRONMENT if os.environ.get(k) != BEFORE[k]}      # the caller's environment is as it was


BEFORE = {k: os.environ.get(k) for k in grid.ENVIRONMENT}


# ---- tables -----------------------------------------------------------------------------------------------------

def result(cell, scores):
    "A record as a run would leave it, with the scores that a test needs."
    told = {c: dict(f1=f, precision=f, recall=f, sentences=10) for c, f in scores.items()}
    setting = dict(tiers=[list(t) for t in cell.setting.tiers], scenario=cell.setting.scenario, source=cell.setting.source, encoder=cell.setting.encoder)
    return Result(dict(method=cell.method, seed=cell.seed, language=cell.language, setting=setting), f"{hash(cell) % 2**64:016x}", told, {}, {}, 100, 1, {},
                  "e", "d", {}, 1.0, 100, None, {}, SCHEMA)


def measured(number, f1, seeds=2, setting=WORLD):
    "Cells of a table with their records; `f1(cell, language)` is the score."
    return [(c, result(c, {code: f1(c, code) for code in c.sees.tested})) for c in cells_of(number, FIRST, setting, seeds)]


def made_up(cell, code): return 0.5 + 0.1 * cell.seed + (0.1 if method(cell.method).labelled != "own" else 0)


def test_scores_stand_in_the_order_of_the_seeds():
    scores = scores_by_row(1, reversed(measured(1, made_up)))
    assert scores["monolingual"]["sw"] == [0.5, 0.6] and scores["multilingual"]["en"] == pytest.approx([0.6, 0.7]) and set(scores) == set(ROWS[1].values())


def test_gain_is_the_mean_of_relative_gains():
    scores = scores_by_row(1, measured(1, made_up))
    found, by_hand = gain(scores, "framework", ["sw", "yo", "zu"]), [100 * (0.6 / 0.5 - 1), 100 * (0.7 / 0.6 - 1)]
    assert found.value == pytest.approx(sum(by_hand) / 2) and found.half == pytest.approx(seed_interval(by_hand).half)
    assert gain(scores, "monolingual", ["sw"]) is None


def test_a_gain_over_nothing_is_none():
    zero = lambda cell, code: 0.0 if cell.method == "monolingual" and code == "yo" and cell.seed == 1 else made_up(cell, code)
    scores = scores_by_row(1, measured(1, zero))
    assert gain(scores, "framework", ["sw", "yo", "zu"]) is None and gain(scores, "framework", ["sw", "zu"]) is not None
    rows = table_rows(1, FIRST, measured(1, zero), NINE)
    assert rows[-2]["gain on sw yo zu"] == "+17.6 % | —" and rows[-2]["yo"].startswith("73 | 65.0 ± ")


def test_table_one_as_text():
    rows = table_rows(1, FIRST, measured(1, made_up), NINE)
    assert [r["method"] for r in rows] == [*FIRST.table(1).rows, method("control").title]
    assert rows[0]["sw"] == f"65 | 55.0 ± {100 * seed_interval([0.5, 0.6]).half:.1f}" and rows[0]["gain on sw yo zu"] == "— | —"
    assert rows[-1]["en"].startswith("— | 65.0 ± ") and rows[-1]["gain on sw yo zu"].startswith("— | +18.3 ± ")
    one = table_rows(1, FIRST, measured(1, made_up, seeds=1), NINE)
    assert one[1]["de"] == "85 | 60.0" and one[1]["gain on sw yo zu"] == "+8.0 % | +20.0 %"


def test_the_papers_gain_is_the_mean_of_its_printed_numbers():
    by_hand = sum((f - m) / m for f, m in ((76, 65), (73, 62), (72, 61))) / 3
    for number in (1, 4):
        row = next(r for r in table_rows(number, FIRST, [], NINE) if r["method"] in ("Our Framework", "Full Framework"))
        assert row["gain on sw yo zu"] == f"{100 * by_hand:+.1f} % | —"


def test_zero_shot_says_dash_where_nothing_is_defined():
    zero = replace(WORLD, scenario="zero")
    rows = table_rows(1, FIRST, measured(1, made_up, setting=zero), NINE)
    assert rows[0]["de"] == "83 | —" and rows[0]["en"].startswith("91 | 55.0") and rows[5]["gain on sw yo zu"] == "+17.6 % | —"


def test_a_caption_says_what_was_measured_on_what():
    said = caption(4, FIRST, replace(WORLD, source="/home/me/data", datasets=(("ner", "wikineural,masakhaner2"),), encoder="/home/me/enc", train_rows=2000), 5)
    for part in ("Table 4", "scenario low", "5 seeds", "wikineural,masakhaner2", "enc", "At most 2000 training rows", "without scenario, seeds or interval"): assert part in said
    assert "/home" not in said and "one seed, so no interval" in caption(1, FIRST, WORLD, 1) and "synthetic" in caption(1, FIRST, WORLD, 1)


def test_saved_tables_name_no_place_on_this_machine_and_read_back(tmp_path):
    home = replace(WORLD, source=str(tmp_path / "data"), encoder=str(tmp_path / "cache" / "enc"))
    pairs = measured(4, made_up, setting=home)
    files = save_table(4, FIRST, home, pairs, 2, tmp_path / "first")
    assert [f.name for f in files] == [f"table4_low_real_enc.{e}" for e in ("md", "csv", "jsonl", "png")]
    for file in files: assert str(tmp_path.parent).encode() not in file.read_bytes() and file.stat().st_size > 100
    back = [Result(**json.loads(line)) for line in files[2].read_text("utf-8").splitlines()]
    assert [r.key for r in back] == [r.key for _, r in pairs] and [r.scores for r in back] == [r.scores for _, r in pairs]
    assert {r.cell["setting"]["source"] for r in back} == {"data"} and {r.cell["setting"]["encoder"] for r in back} == {"enc"}
    assert "± " in files[0].read_text("utf-8") and "Full Framework" in files[1].read_text("utf-8")
    before = [f.read_bytes() for f in files]
    assert [f.read_bytes() for f in save_table(4, FIRST, home, pairs, 2, tmp_path / "first")] == before


def test_numbers_of_one_seed_have_no_interval():
    assert math.isnan(seed_interval([0.5]).half) and "±" not in str(table_rows(1, FIRST, measured(1, made_up, 1), NINE))


def test_the_lessons_do_not_leave_results_behind(): assert "results/" in Path(__file__).parents[1].joinpath(".gitignore").read_text("utf-8")
