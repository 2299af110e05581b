"""Many cells in worker processes, whatever happens to them."""
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
from xlt_lib.reproduction import grid
from xlt_lib.reproduction.experiments import Cell, Setting
from xlt_lib.reproduction.grid import cells_of, run_cells, tiers_of
from xlt_lib.reproduction.papers import paper

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


@pytest.mark.parametrize("number, seeds, message", [(5, 1, "no such table.*1, 2, 4"), (1, 0, "no seeds")])
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


def test_the_lessons_do_not_leave_results_behind(): assert "results/" in Path(__file__).parents[1].joinpath(".gitignore").read_text("utf-8")
