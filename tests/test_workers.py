"""Processes that train side by side: claims that die with their owner, and estimates of the time that is left."""
import os
import subprocess
import sys
import time

import pytest

from xlt_lib.data.errors import WriteError
from xlt_lib.encoders.workers import ENVIRONMENT, LOCK, claim, speeds, spoken, time_left, worker_pool

ASK = "import sys\nfrom xlt_lib.encoders.workers import claim\nwith claim(*sys.argv[1:3]) as mine:"
ONE, TWO = "ffffffffffffffff", "0000000000000002"


def another(folder, name): return bool(subprocess.run([sys.executable, "-c", f"{ASK} sys.exit(mine)", folder, name], check=False).returncode)


def test_a_claim_holds_for_one_item_and_ends_with_its_block(tmp_path):
    with claim(tmp_path / "new", ONE) as mine:
        assert mine and not another(tmp_path / "new", ONE) and another(tmp_path / "new", TWO)
    assert another(tmp_path / "new", ONE)


def test_who_is_killed_claims_nothing(tmp_path):
    owner = subprocess.Popen([sys.executable, "-c", f"{ASK} print(mine, flush=True); import time; time.sleep(600)", tmp_path, ONE], stdout=subprocess.PIPE, text=True)
    assert owner.stdout.readline() == "True\n"
    with claim(tmp_path, ONE) as mine: assert not mine
    owner.kill()
    owner.communicate()
    with claim(tmp_path, ONE) as mine: assert mine


def test_what_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="nothing can be written here"), claim(tmp_path / "file", ONE): pass


def test_an_error_in_the_block_is_not_taken_for_one_of_the_claim(tmp_path):
    with pytest.raises(BlockingIOError, match="mine"), claim(tmp_path, ONE): raise BlockingIOError("mine")


def test_the_pool_leaves_nothing_and_spares_what_others_hold(tmp_path):
    before = dict(os.environ)
    with worker_pool(2, tmp_path) as submit:
        with claim(tmp_path, ONE): assert (tmp_path / LOCK).exists()
        assert submit(os.getenv, "OMP_NUM_THREADS").result() == ENVIRONMENT["OMP_NUM_THREADS"] and submit(os.getpid).result() != os.getpid()
    assert not list(tmp_path.iterdir()) and dict(os.environ) == before
    owner = subprocess.Popen([sys.executable, "-c", f"{ASK} print(mine, flush=True); import time; time.sleep(600)", tmp_path, ONE], stdout=subprocess.PIPE, text=True)
    owner.stdout.readline()
    with worker_pool(1, tmp_path): pass
    assert (tmp_path / LOCK).exists() and not another(tmp_path, ONE)
    owner.kill()
    owner.communicate()


def test_breaking_off_ends_the_workers_and_sweeps_up(tmp_path):
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), worker_pool(1, tmp_path) as submit:
        pid = submit(os.getpid).result()
        for name in (f".x.{pid}.partial", ".x.1.partial"): (tmp_path / name).mkdir()
        submit(time.sleep, 600)
        raise KeyboardInterrupt
    assert time.monotonic() - start < 60 and [p.name for p in tmp_path.iterdir()] == [".x.1.partial"]


def test_time_left_by_hand():
    assert time_left([10, 20, 30], [], 2) == 30 and time_left([], [(10, 4)], 1) == 6
    assert time_left([10, 100], [(10, 4)], 2) == 100                # the longest cannot be shared
    assert time_left([], [(10, 40)], 2) == 0 == time_left([], [], 3)   # never less than nothing
    pace = speeds([("ner", 10, 5.0), ("ner", 30, 5.0), ("mt", 10, 20.0)])
    assert pace == {"ner": 0.25, "mt": 2.0, "": 0.6} and speeds([]) == {}


@pytest.mark.parametrize("seconds, said", [(None, "not known"), (0.2, "about 10 s"), (44, "about 40 s"), (89, "about 90 s"), (95, "about 2 min"), (3600, "about 60 min"), (7260, "about 2 h 01 min")])
def test_times_are_said_no_more_exactly_than_they_are_known(seconds, said): assert said in spoken(seconds)
