"Folders of files become an encoder: once, again, after a kill, by the clock, on two processes; and what bad input is told."
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from conftest import REAL, ROOT, needs_real

from xlt_lib.data.duplicates import key
from xlt_lib.data.errors import DataError
from xlt_lib.data.world import the_world
from xlt_lib.encoders import from_files as module
from xlt_lib.encoders.curriculum import STAGED
from xlt_lib.encoders.from_files import pretrain_files
from xlt_lib.encoders.objectives import objective
from xlt_lib.encoders.pretraining import Size, size_recipe
from xlt_lib.encoders.transformer import open_encoder

said = {c: [s.text for s in the_world().sentences(c, "unlabelled")[:n]] for c, n in (("en", 200), ("sw", 80))}
SMALL = Size(layers=1, width=16, heads=2, vocabulary=500, max_length=32, tokens=512, steps=12, learning_rate=2e-3)
RECIPE = replace(size_recipe(SMALL, threads=1), precision="fp32")
QUIET = dict(recipe=RECIPE, epochs=4, bar=False, say=lambda line: None)


@pytest.fixture
def texts(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for code, rows in said.items(): (folder / f"{code}.txt").write_text("\n".join(rows), "utf-8")
    (folder / "en-sw.tsv").write_text("\n".join(f"{a}\t{b}" for a, b in zip(said["en"], said["sw"])), "utf-8")
    return folder


def about(folder): return json.loads((folder / "pretraining.json").read_text("utf-8"))


def test_an_encoder_with_a_record(texts, tmp_path):
    made = pretrain_files([texts], tmp_path / "e", SMALL, [texts], away={key(said["sw"][7])}, **QUIET)
    told = about(tmp_path / "e")
    assert made.layers == 1 and not (tmp_path / "e/training").exists() and open_encoder(tmp_path / "e").weights_hash == made.weights_hash
    assert {t["text"]: t["kept away"] for t in told["text"]} == {"en": 0, "sw": 1, "en-sw": 1}
    assert told["tokens"] == pytest.approx(12 * 512, rel=0.1) and [set(s) for s in told["scores"]] == [{"step", "tokens", "en", "sw", "en-sw"}] * 4
    again = pretrain_files([texts], tmp_path / "e", SMALL, [texts], **QUIET)
    assert again.weights_hash == made.weights_hash
    other = pretrain_files([texts], tmp_path / "f", SMALL, [texts], seed=1, **QUIET)
    assert other.weights_hash != made.weights_hash


@pytest.mark.parametrize("name", ["mlm", "static", "whole-word", "electra", "infoxlm"])
def test_objectives_and_plans_by_name(texts, tmp_path, name):
    made = pretrain_files([texts], tmp_path / "e", SMALL, [texts], objective=objective(name), stages=STAGED, **QUIET)
    told = about(tmp_path / "e")
    assert told["objective"] == name and made.width == 16 and [s["hidden"] for s in told["stages"]] == [0.3, 0.15, 0.05]
    assert ("scores" in told) == (name != "electra")


def test_another_encoder_goes_on(texts, tmp_path):
    first = pretrain_files([texts / "en.txt"], tmp_path / "a", SMALL, **QUIET)
    second = pretrain_files([texts / "sw.txt"], tmp_path / "b", SMALL, start=first, **QUIET)
    assert about(tmp_path / "b")["start"] == first.weights_hash != second.weights_hash
    assert second.tokenizer.get_vocab() == first.tokenizer.get_vocab()
    with pytest.raises(DataError, match="began with other weights"): pretrain_files([texts / "sw.txt"], tmp_path / "b", SMALL, **QUIET)


PROGRAM = """
import sys; sys.path.insert(0, "tests")
from pathlib import Path
from test_from_files import QUIET, SMALL, pretrain_files, replace
t, out = map(Path, sys.argv[1:3])
pretrain_files([t], out, replace(SMALL, steps=int(sys.argv[3])), [t], **QUIET)
"""
ALONE = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def test_killed_at_any_moment_it_ends_with_the_same_bits(texts, tmp_path):
    whole = pretrain_files([texts], tmp_path / "whole", replace(SMALL, steps=60), [texts], **QUIET)
    for made in ("training/store/store.json", "training/checkpoints/checkpoint-*"):
        out = tmp_path / made.replace("/", "-").strip("*")
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, texts, out, "60"], cwd=ROOT, env=ALONE)
        while process.poll() is None and not list(out.glob(made)): time.sleep(0.01)
        process.send_signal(signal.SIGKILL); process.wait()
        assert not (out / "pretraining.json").exists()
        assert pretrain_files([texts], out, replace(SMALL, steps=60), [texts], **QUIET).weights_hash == whole.weights_hash


def test_two_processes_share_the_rows(texts, tmp_path):
    script = tmp_path / "two.py"
    script.write_text(PROGRAM)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
              "--mixed_precision", "no", "--dynamo_backend", "no", "--num_cpu_threads_per_process", "1", "--main_process_port", "0"]
    done = subprocess.run([*launch, script, texts, tmp_path / "two", "12"], cwd=ROOT, capture_output=True, text=True, timeout=120, env=ALONE | {"ACCELERATE_USE_CPU": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    pretrain_files([texts], tmp_path / "one", SMALL, [texts], **QUIET)
    one, two = about(tmp_path / "one"), about(tmp_path / "two")
    assert two["tokens"] == one["tokens"] and two["steps"] == one["steps"] and two["text"] == one["text"]
    for name, loss in one["losses"].items(): assert two["losses"][name] == pytest.approx(loss, abs=0.1)      # other masks, other dropout


def test_hours_are_counted_once(texts, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "subwords_in", lambda hours, *rest: int(hours * 3_000_000))
    says = []
    pretrain_files([texts], tmp_path / "e", SMALL, hours=0.001, **QUIET | {"say": says.append})
    assert about(tmp_path / "e")["hours"] == 0.001 and about(tmp_path / "e")["tokens"] == pytest.approx(3000, rel=0.1) and any("rehearsal" in s for s in says)

    def stop(line):
        if line.startswith("epoch 2"): raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): pretrain_files([texts], tmp_path / "f", SMALL, hours=0.001, **QUIET | {"say": stop})
    monkeypatch.setattr(module, "subwords_in", lambda *a: pytest.fail("it was rehearsed again"))
    with pytest.raises(DataError, match="begun with another length.*0.001 hours.*2 hours"): pretrain_files([texts], tmp_path / "f", SMALL, hours=2, **QUIET)
    assert pretrain_files([texts], tmp_path / "f", SMALL, hours=0.001, **QUIET).weights_hash == open_encoder(tmp_path / "e").weights_hash


def test_the_rehearsal_leaves_no_trace(texts, tmp_path):
    pretrain_files([texts], tmp_path / "e", SMALL, hours=0.0002, **QUIET)
    n = about(tmp_path / "e")["subwords"]
    assert n > 0
    file = tmp_path / "f/training/reading.json"
    file.parent.mkdir(parents=True)
    (file.parent / "tokenizer").mkdir()
    file.write_text(json.dumps({"hours": 0.0002, "subwords": n}))
    assert pretrain_files([texts], tmp_path / "f", SMALL, hours=0.0002, **QUIET).weights_hash == open_encoder(tmp_path / "e").weights_hash


def write(folder, name, data):
    (folder / name).write_bytes(data)
    return folder / name


@pytest.mark.parametrize("call, says", [
    (lambda t: dict(text=[t / "absent.txt"]), "no such file or folder"), (lambda t: dict(text=[write(t, "notes.html", b"x")]), "says no language"),
    (lambda t: dict(text=[write(t, "ha.txt", b"\xff\xfe" + "lafiya".encode("utf-16-le"))]), r"ha.txt:1"), (lambda t: dict(text=[write(t, "yo.txt", bytes(range(256)))]), r"yo.txt:1: a NUL"),
    (lambda t: dict(text=[t / "en.txt", write(t, "yo.txt", b"\n \n")]), "without text|no text"),
    (lambda t: dict(text=[t / "en.txt"], parallel=[write(t, "en-yo.tsv", b"one\tookan\nonly one side\n")]), r"en-yo.tsv:2"),
    (lambda t: dict(text=[t / "en.txt"], hours=0), "no time to read in"), (lambda t: dict(text=[t / "en.txt"], hours=float("nan")), "no time to read in"),
    (lambda t: dict(text=[t / "en.txt"], steps=0), "steps"), (lambda t: dict(text=[t / "en.txt"], objective=objective("next")), "makes rows of its own"),
    (lambda t: dict(text=[t / "en.txt"], objective=objective("infoxlm")), "infoxlm needs translations"), (lambda t: dict(text=[t / "en.txt"], folder=t), "something else is in this place")])
def test_bad_input(texts, tmp_path, call, says):
    told = dict(folder=tmp_path / "e", size=SMALL, **QUIET) | call(texts)
    with pytest.raises(DataError, match=says): pretrain_files(**told)
    assert not (tmp_path / "e/pretraining.json").exists()


@needs_real
def test_real_files_by_the_same_call(tmp_path):
    from xlt_lib.encoders.text import folder_text
    text = folder_text(["sw", "yo"], REAL, most=400)
    for code, rows in text.mono.items(): (tmp_path / f"{code}.txt").write_text("\n".join(" ".join(s.split()) for s in rows), "utf-8")
    pretrain_files([tmp_path / "sw.txt", tmp_path / "yo.txt"], tmp_path / "e", replace(SMALL, vocabulary=1500, max_length=96), **QUIET)
    last = about(tmp_path / "e")["scores"][-1]
    assert last["sw"] < 1500 and last["yo"] < 1500
