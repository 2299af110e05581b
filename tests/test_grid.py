"""Many cells in worker processes, whatever happens to them."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from test_experiments import NINE
from tiny import tokenizer

from xlt_lib.data.errors import DataError
from xlt_lib.encoders.transformer import new_encoder
from xlt_lib.encoders.workers import ENVIRONMENT
from xlt_lib.reproduction import grid
from xlt_lib.reproduction.experiments import Cell, Setting
from xlt_lib.reproduction.grid import cells_of, look_ahead, run_cells, stale, tiers_of
from xlt_lib.reproduction.papers import paper
from xlt_lib.reproduction.runs import Result, read_result

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


def test_a_model_for_several_tasks_is_one_run_of_all_tables():
    mt = Setting((("en-sw", "low"),), task="mt")
    both = [cells_of(1, FIRST, replace(WORLD, beside=(mt,))), cells_of(3, FIRST, replace(mt, beside=(WORLD,)))]
    joint = [{c for c in cells if c.method == "joint"} for cells in both]
    assert joint[0] == joint[1] and len(joint[0]) == 1 and not {c for c in cells_of(1, FIRST, WORLD) if c.method == "joint"}


@pytest.mark.parametrize("number, seeds, message", [(5, 1, "no such table.*1, 2, 3, 4"), (1, 0, "no seeds")])
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
from xlt_lib.reproduction import conditions, runs
from xlt_lib.reproduction.experiments import Cell, Setting
from xlt_lib.reproduction.grid import run_cells
results, steps, kill = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "kill"
conditions.LEAST = conditions.MOST = steps
setting, train = SETTING, runs.train_cell

def counted(cell, *rest):
    with open(results + ".log", "a") as log: print(cell, file=log)
    return train(cell, *rest)

runs.train_cell = counted

def killer():
    while not multiprocessing.active_children(): time.sleep(0.01)
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

if __name__ == "__main__":
    cells = [Cell(m, s, setting, l) for s in range(2) for m, l in (("multilingual", None), ("monolingual", "sw"))]
    if kill: threading.Thread(target=killer, daemon=True).start()
    print("go", flush=True)
    try: print(len({r.key for r in run_cells(cells, results, workers=2, bar=sys.argv[3] == "bar")}), "keys", flush=True)
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
    assert process.returncode == 1 and err.startswith("interrupted: no cell had begun") and "Traceback" not in err, err
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


def test_two_names_for_one_run_run_once(setting, tmp_path):
    zero, said = replace(setting, scenario="zero"), []
    cells = [Cell(m, 0, zero) for m in ("multilingual", "cross_lingual", "multilingual")]
    found = run_cells(cells, tmp_path, workers=1)
    assert found[0] is found[1] is found[2] and len(list(tmp_path.iterdir())) == 1
    lost = Cell("monolingual", 0, replace(setting, source=str(tmp_path / "empty")), "sw")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="monolingual needs ner in sw"): run_cells([lost, *cells], tmp_path, workers=1, say=said.append)
    assert not said and {k: os.environ.get(k) for k in ENVIRONMENT} == BEFORE      # the caller's environment is as it was


BEFORE = {k: os.environ.get(k) for k in ENVIRONMENT}


def test_the_lessons_do_not_leave_results_behind(): assert "results/" in Path(__file__).parents[1].joinpath(".gitignore").read_text("utf-8")


def test_an_error_in_one_cell_does_not_stop_the_others(setting, tmp_path):
    cells = [Cell("monolingual", seed, setting, "sw") for seed in (0, 1)]
    first, *_ = known = look_ahead(cells).values()
    (tmp_path / first.key).mkdir()
    (tmp_path / first.key / "predictions.json").write_text("{}")        # in the way, and no result
    said = []
    with pytest.raises(DataError, match="could not be written"): run_cells(cells, tmp_path, workers=1, say=said.append)
    assert len(said) == 1 and said[0].startswith("monolingual sw seed 0: ") and read_result(tmp_path / list(known)[1].key).cell["seed"] == 1


# ---- before the first cell --------------------------------------------------------------------------------------

def test_what_is_known_before_is_what_the_results_say(setting, tmp_path):
    cells = [Cell("framework", 0, setting), Cell("monolingual", 1, setting, "sw"), Cell("multilingual", 0, replace(setting, scenario="zero", test_rows=5))]
    known = look_ahead(cells)
    for cell, result in zip(cells, run_cells(cells, tmp_path, workers=1, bar=False)):
        assert (known[cell].key, known[cell].encoder, known[cell].data) == (result.key, result.encoder, result.data)
        tested = sum(s["sentences"] for s in result.scores.values())
        batch = result.recipe["tokens"] / (result.tokens / result.steps)        # about 1: sizes are counted in sentences, steps in subwords
        assert known[cell].sentences == pytest.approx(result.steps * 32 * sum(result.rows.values()) / result.rows["ner"] * 1.05 + tested / 3, rel=0.1), batch


def test_settings_share_what_was_read(setting):
    few = replace(setting, train_rows=5, share=0.5, scenario="full", encoder="another")
    one, two = grid._corpora(setting), grid._corpora(few)
    assert one.kept("ner", "sw")[0] is two.kept("ner", "sw")[0] and one.setting is setting and two.setting is few
    assert len(two.labelled("sw", 1.0, 0)) == 5 and len(one.labelled("sw", 1.0, 0)) == 40
    other = grid._corpora(replace(setting, source="elsewhere"))
    assert not other._read and grid._corpora(setting).setting is setting


def test_all_that_is_missing_is_told_before_anything_runs(setting, tmp_path):
    (tmp_path / "empty").mkdir()
    lost, said = replace(setting, source=str(tmp_path / "empty")), []
    cells = [Cell("monolingual", 0, setting, "sw"), Cell("monolingual", 0, lost, "sw"), Cell("multitask", 0, lost)]
    with pytest.raises(DataError) as e: run_cells(cells, tmp_path / "results", workers=2, say=said.append)
    message = str(e.value)
    assert message.startswith("6 corpora cannot be opened, so nothing was run: ") and "\n" not in message and "--datasets" in message
    for part in ("ner in sw (for monolingual, multitask)", "ner in en (for multitask)", "pos in sw (", "pos in en (", "mono in en (", "mono in sw ("): assert part in message
    assert not said and not (tmp_path / "results").exists()
    with pytest.raises(DataError, match="^no encoder|not an encoder|encoder"): run_cells([Cell("monolingual", 0, replace(setting, encoder=str(tmp_path / "empty")), "sw")], tmp_path / "results")


def test_a_result_that_is_broken_is_told_before_anything_runs(setting, tmp_path):
    cell, other = Cell("monolingual", 0, setting, "sw"), Cell("monolingual", 1, setting, "sw")
    key = look_ahead([cell])[cell].key
    (tmp_path / key).mkdir()
    (tmp_path / key / "result.json").write_text('{"schema": 1, "half')
    with pytest.raises(DataError, match="not a result of this version") as e: run_cells([cell, other], tmp_path, workers=1)
    assert key in str(e.value.file) and [p.name for p in tmp_path.iterdir()] == [key]


# ---- stale results ----------------------------------------------------------------------------------------------

def test_stale_cells_are_told_with_the_reason_and_never_mixed_in(setting, tmp_path):
    folder = tmp_path / "place" / "enc"
    new_encoder("xlm-roberta", tokenizer(), layers=1, width=16).save(folder)
    mine, results, said = replace(setting, encoder=str(folder)), tmp_path / "results", []
    cells = [Cell("monolingual", seed, mine, "sw") for seed in range(5)]
    before = run_cells(cells, results, workers=1, say=said.append)
    assert not said and run_cells(cells, results, workers=1, say=said.append) == before and not said
    shutil.rmtree(folder)
    new_encoder("xlm-roberta", tokenizer(), layers=1, width=16, seed=1).save(folder)
    after = run_cells(cells, results, workers=1, say=said.append)
    assert said[0] == f"5 cells in {results} are stale and are run again: 5 with another encoder" and said[-1] == "  and 2 more" and len(said) == 5
    assert said[1] == f"  monolingual sw seed 0: another encoder ({before[0].encoder[:8]}, now {after[0].encoder[:8]})"
    assert not {r.key for r in before} & {r.key for r in after} and len(list(results.iterdir())) == 10
    said.clear()
    assert run_cells(cells, results, workers=1, say=said.append) == after and not said      # nothing has to be run again


@pytest.mark.parametrize("change, reason", [
    (dict(encoder="0" * 64), "another encoder (00000000, now "), (dict(data="0" * 16), "other data (00000000, now "), (dict(schema=0), "another schema (0, now 1)"), ({}, "another rule of training"),
    (dict(data="0" * 16, schema=None), "other data (00000000, now ")])
def test_each_reason(setting, tmp_path, change, reason):
    cell = Cell("monolingual", 0, setting, "sw")
    known = look_ahead([cell])
    told = dict(cell=asdict(cell), encoder=known[cell].encoder, data=known[cell].data, schema=1) | change
    told["cell"]["setting"] |= dict(encoder="/another/machine/" + Path(setting.encoder).name)     # a folder that was moved is the same encoder
    for later in ("share", "also_tested", "beside"): del told["cell"]["setting"][later]            # fields that an older version did not know
    (tmp_path / "0123456789abcdef").mkdir()
    (tmp_path / "0123456789abcdef" / "result.json").write_text(json.dumps(told))
    for name, text in (("other", "[]"), ("half", "{"), ("bytes", "\x00")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(text)
    changes = stale(known, tmp_path)[cell]
    assert changes[0].startswith(reason) and len(changes) == max(1, len(change))
    others = {replace(cell, seed=1): known[cell], replace(cell, setting=replace(setting, test_rows=9)): known[cell], Cell("multilingual", 0, setting): known[cell]}
    assert not stale(others, tmp_path)


# ---- two calls at once ------------------------------------------------------------------------------------------

def trained(results): return Path(f"{results}.log").read_text().splitlines()


def test_two_calls_share_the_cells(script, tmp_path):
    results = tmp_path / "results"
    both = [start(script, results, 60) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=300)
        assert (process.returncode, out) == (0, "go\n4 keys\n"), err
    assert sorted(trained(results)) == sorted(set(trained(results))) and len(trained(results)) == 4      # nothing was done twice
    assert len(list(results.iterdir())) == 4 and not parts(results)         # no half result, no lock
    assert {read_result(p).key for p in results.iterdir()} == {p.name for p in results.iterdir()}


def test_a_killed_call_leaves_its_cells_to_the_other(script, tmp_path):
    results = tmp_path / "results"
    one, two = start(script, results, 400), start(script, results, 400)
    while not Path(f"{results}.log").exists() or len(trained(results)) < 2: time.sleep(0.05)
    os.killpg(one.pid, signal.SIGKILL)
    one.communicate()
    out, err = two.communicate(timeout=300)
    assert (two.returncode, out) == (0, "go\n4 keys\n"), err
    assert len({read_result(p).key for p in results.iterdir()}) == 4 and set(trained(results)) == {f"{m} seed {s}" for m in ("multilingual", "monolingual sw") for s in (0, 1)}


# ---- how long ---------------------------------------------------------------------------------------------------

def test_the_bar_says_how_many_are_left_and_how_long(script, tmp_path):
    process = start(script, tmp_path / "results", 40, "bar")
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (0, "go\n4 keys\n"), err
    assert "4 left, how long is not known yet" in err and "1 left, about " in err and "cells 4/4" in err


def test_the_outlook_goes_by_size_and_task(setting):
    mt = replace(setting, task="mt", tiers=(("en-sw", "high"),))
    a, b, c, d = cells = [Cell("multilingual", 0, setting), Cell("multilingual", 1, setting), Cell("multilingual", 0, mt), Cell("multilingual", 1, mt)]
    known = {cell: grid.Known("", "", "", 100.0) for cell in cells}
    result = lambda seconds: Result({}, "", {}, {}, {}, 1, 1, {}, "", "", {}, seconds, 1, None, {})
    assert grid._outlook([b, c, d], [], {}, known, 1) == "3 left, how long is not known yet"
    assert grid._outlook([b], [], {a: result(60.0), c: result(600.0)}, known, 1) == "1 left, about 60 s"
    assert grid._outlook([b, d], [], {a: result(60.0), c: result(600.0)}, known, 1) == "2 left, about 11 min"
    assert grid._outlook([b], [], {a: DataError("broken")}, known, 2) == "1 left, how long is not known yet"
