"""Training, predicting and evaluating from the command line: examples as they stand in the help, and everything that may go wrong."""
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import chdir, redirect_stderr, redirect_stdout

import pytest
import torch
from conftest import REAL, needs_real
from safetensors.torch import load_file, save_file
from tiny import tokenizer

from xlt_lib.app import cli, commands
from xlt_lib.encoders.transformer import new_encoder, open_encoder, weights_hash
from xlt_lib.transfer.multitask import load_model

ONE = {"OMP_NUM_THREADS": "1"}
SHELL = 'xlt() { "$PYTHON" -c "import sys; from xlt_lib.app.cli import main; sys.exit(main())" "$@"; }\n'
CALL = [sys.executable, "-c", "import sys; from xlt_lib.app.cli import main; sys.exit(main())"]


def xlt(*args, cwd=".", input=None):
    "Exit code, output and errors of a command, in this process: torch need not be loaded again."
    out, err, stdin = io.StringIO(), io.StringIO(), sys.stdin
    if input is not None: sys.stdin = io.TextIOWrapper(io.BytesIO(input.encode()))
    try:
        with redirect_stdout(out), redirect_stderr(err), chdir(cwd): code = cli.main([*map(str, args)])
    finally: sys.stdin = stdin
    return code, out.getvalue(), err.getvalue()


def bash(script, cwd):
    "A script in which `xlt` is this kit's, in processes of their own: exit code, output, errors."
    run = subprocess.run(["bash", "-c", SHELL + script], capture_output=True, text=True, cwd=cwd, timeout=300,
                         env={**os.environ, **ONE, "PYTHON": sys.executable})
    assert "Traceback" not in run.stderr, run.stderr
    return run.returncode, run.stdout, run.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    "A folder with a small encoder and what `xlt data save` writes."
    place = tmp_path_factory.mktemp("place")
    new_encoder("xlm-roberta", tokenizer(), layers=1, width=32).save(place / "enc")
    for split in ("train", "dev", "test"):
        assert xlt("data", "save", "--task", "ner", "--language", "sw", "--split", split, "--out", f"sw_{split}.conll", cwd=place)[0] == 0
    return place


def few(place, n=60):
    "The first sentences of a saved file, as a file of its own."
    text = (place / "sw_train.conll").read_text("utf-8").split("\n\n")[:n]
    (place / f"few{n}.conll").write_text("\n\n".join(text) + "\n", "utf-8")
    return f"few{n}.conll"


def train(place, *more, out="sw_ner", **told):
    return xlt("train", "--task", "ner", "--train", few(place), "--encoder", "enc", "--threads", "1", "--out", out, *more, cwd=place, **told)


@pytest.fixture(scope="module")
def trained(place):
    code, out, err = train(place, "--dev", few(place, 20), "--epochs", "40", "--learning-rate", "0.005")
    assert code == 0 and out == "sw_ner\n" and "epoch 40" in err and "learning rate 0.005" in err
    return place


def test_the_examples_of_the_helps_one_after_the_other(tmp_path):
    "Pasted as they stand; only the encoder is a small one and training is short, so that the test is quick."
    new_encoder("xlm-roberta", tokenizer(), layers=1, width=16).save(tmp_path / "enc")
    for name in ("train", "predict", "evaluate"):
        for example in commands.EXAMPLES[name]:
            if "my_" in example: continue       # files of the reader's own
            line = example + (" --encoder enc --epochs 1 --threads 1" if "xlt train" in example else "")
            code, out, err = bash(line, tmp_path) if "|" in line else xlt(*shlex.split(line)[1:], cwd=tmp_path)
            assert code == 0 and out.strip(), (example, err)


def test_the_example_of_pretraining(tmp_path):
    save, pretrain, _ = commands.EXAMPLES["pretrain"]
    assert xlt(*shlex.split(save)[1:], cwd=tmp_path)[0] == 0
    (tmp_path / "text/sw.txt").write_text("\n".join((tmp_path / "text/sw.txt").read_text("utf-8").splitlines()[:300]), "utf-8")
    assert "--steps 200" in pretrain
    code, out, err = xlt(*shlex.split(pretrain.replace("--steps 200", "--steps 2"))[1:], cwd=tmp_path)
    assert code == 0 and out == "my_encoder\n" and open_encoder(tmp_path / "my_encoder").layers == 3, err


def test_the_same_command_again_does_not_train_again(trained):
    before = weights_hash(load_model(trained / "sw_ner"))
    code, out, err = train(trained, "--dev", few(trained, 20), "--epochs", "40", "--learning-rate", "0.005")
    assert code == 0 and "was trained before" in err and "epoch" not in err and weights_hash(load_model(trained / "sw_ner")) == before
    code, _, err = train(trained, "--epochs", "3")
    assert code == 2 and "another model" in err and weights_hash(load_model(trained / "sw_ner")) == before


LINES = ["Amina anaishi Lagos.", "", "Yohana anafanya kazi Nairobi!", "  "]


def test_predict_reads_files_and_streams_and_answers_line_by_line(trained):
    (trained / "my_letters.txt").write_text("\n".join(LINES) + "\n", "utf-8")
    code, out, err = xlt("predict", "--model", "sw_ner", "my_letters.txt", cwd=trained)
    assert code == 0 and not err and out.count("\n") == 4
    plain = [line.replace("[PER ", "").replace("[LOC ", "").replace("[ORG ", "").replace("]", "") for line in out.split("\n")[:-1]]
    assert plain == LINES
    for args in ([], ["-"]): assert xlt("predict", "--model", "sw_ner", *args, cwd=trained, input="\n".join(LINES))[:2] == (0, out)
    code, told, _ = xlt("predict", "--model", "sw_ner", "--format", "json", cwd=trained, input="\n".join(LINES))
    assert code == 0 and [json.loads(line)["text"] for line in told.splitlines()] == LINES
    code, told, _ = xlt("predict", "--model", "sw_ner", "--format", "conll", cwd=trained, input="\n".join(LINES))
    assert [line.split("\t")[0] for line in told.splitlines()] == ["Amina", "anaishi", "Lagos", ".", "", "Yohana", "anafanya", "kazi", "Nairobi", "!", ""]


def test_a_reader_that_leaves_early_is_no_trouble(trained):
    code, out, err = bash("yes 'Amina anaishi Lagos.' | head -n 3000 | xlt predict --model sw_ner | head -n 1; exit ${PIPESTATUS[2]}", trained)
    assert code == 0 and "Amina" in out and not err


def test_evaluate_says_mode_scheme_types_and_interval(trained):
    code, out, err = xlt("evaluate", "--model", "sw_ner", "--test", "sw_test.conll", cwd=trained)
    assert code == 0 and "scheme IOB2, mode strict" in out and "\nmicro " in out and "95% percentile bootstrap, 480 sentences" in out
    code, told, _ = xlt("evaluate", "--model", "sw_ner", "--test", "sw_test.conll", "--json", cwd=trained)
    told = json.loads(told)
    assert all(f"{told['micro'][k]:.4f}" in out for k in ("precision", "recall", "f1")) and 0 < told["interval"]["low"] <= told["micro"]["f1"] <= told["interval"]["high"]


@pytest.mark.parametrize("task, language", [("pos", "yo"), ("sentiment", "en")])
def test_the_other_kinds_of_tasks(place, task, language):
    for split in ("train", "test"): assert xlt("data", "save", "--task", task, "--language", language, "--split", split, "--out", f"{task}_{split}", cwd=place)[0] == 0
    lines = (place / f"{task}_train").read_text("utf-8").splitlines(keepends=True)
    (place / f"{task}_train").write_text("".join(lines[:300]).rstrip("\n") + "\n", "utf-8")
    code, _, err = xlt("train", "--task", task, "--train", f"{task}_train", "--encoder", "enc", "--epochs", "1", "--threads", "1", "--out", task, cwd=place)
    assert code == 0, err
    code, out, _ = xlt("predict", "--model", task, cwd=place, input="mo rí i\n\nthe good film\n")
    assert code == 0 and out.split("\n")[1] == "" and ("rí/" in out if task == "pos" else out.endswith("\tthe good film\n"))
    code, out, _ = xlt("evaluate", "--model", task, "--test", f"{task}_test", cwd=place)
    assert code == 0 and "\naccuracy 0." in out


def broken(place, what):
    "A folder in which something is not as it should be."
    made = shutil.copytree(place / "enc", place / what)
    if what == "no_tokenizer":
        for file in made.glob("tokenizer*"): file.unlink()
    if what == "nan":
        weights = {k: torch.full_like(v, float("nan")) for k, v in load_file(made / "model.safetensors").items()}
        save_file(weights, made / "model.safetensors", {"format": "pt"})
    return what


@pytest.mark.parametrize("change, code, says", [
    (["--train", "absent.conll"], 2, "no such file"), (["--train", "latin.conll"], 2, "latin.conll:1: not UTF-8"),
    (["--train", "bare.conll"], 2, "bare.conll:1"), (["--train", "years.conll"], 2, "years.conll:2: a label outside the task ner"),
    (["--train", "empty.conll"], 2, "empty.conll"), (["--train", "enc"], 2, "a folder where a file was expected"),
    (["--dev", "absent.conll"], 2, "no such file"), (["--task", "nerr"], 2, "Did you mean 'ner'"), (["--task", "mt"], 2, "no head for this task"),
    (["--encoder", "no_tokenizer"], 2, "tokenizer"), (["--encoder", "nan"], 2, "'ner' is no number in step 1"),
    (["--out", "enc"], 2, "something else is in this place"), (["--out", "few60.conll"], 2, "something else is in this place"), (["--out", ""], 2, "no folder to write to"),
    (["--out", "few60.conll/model"], 1, "few60.conll"), (["--epochs", "0"], 2, "epochs"), (["--learning-rate", "-1"], 2, "learning_rate"),
    (["--dataset", "masakhaner3"], 2, "unknown data set"), (["--epochs", "x"], 2, "invalid int value")],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "")
def test_bad_input_to_train(place, change, code, says):
    (place / "latin.conll").write_bytes("Jos\xe9 B-PER\n".encode("latin-1"))
    (place / "bare.conll").write_text("Amina\nanaishi\n")
    (place / "years.conll").write_text("Amina B-PER\n1986 B-YEAR\n")
    (place / "empty.conll").write_text("")
    for what in ("no_tokenizer", "nan"):
        if not (place / what).exists(): broken(place, what)
    found, out, err = train(place, "--epochs", "1", *change, out="never_there")
    assert (found, out) == (code, "") and says in err and not (place / "never_there/model.json").exists(), err
    shutil.rmtree(place / "never_there", ignore_errors=True)


@pytest.mark.parametrize("args, code, says", [
    (["predict", "--model", "enc"], 2, "not a model's folder"), (["predict", "--model", "absent"], 2, "not a model's folder"),
    (["predict", "--model", "sw_ner", "absent.txt"], 2, "no such file"), (["predict", "--model", "sw_ner", "--task", "pos"], 2, "no such head"),
    (["predict", "--model", "sw_ner", "latin.txt"], 2, "latin.txt:1: not UTF-8"), (["predict", "--model", "sw_ner", "--format", "xml"], 2, "xml"),
    (["evaluate", "--model", "enc", "--test", "sw_test.conll"], 2, "not a model's folder"), (["evaluate", "--model", "sw_ner", "--test", "absent.conll"], 2, "no such file"),
    (["evaluate", "--model", "sw_ner", "--test", "sw_test.conll", "--task", "pos"], 2, "no such head"),
    (["pretrain", "--text", "absent", "--out", "p"], 2, "no such file or folder"), (["pretrain", "--text", "latin.txt", "--out", "p"], 2, "says no language"),
    (["pretrain", "--text", "enc", "--size", "huge", "--out", "p"], 2, "no such size"), (["pretrain", "--text", "enc", "--objective", "elektra", "--out", "p"], 2, "Did you mean 'electra'"),
    (["pretrain", "--text", "enc", "--curriculum", "stage", "--out", "p"], 2, "Did you mean 'staged'"), (["pretrain", "--text", "enc", "--hours", "-1", "--out", "p"], 2, "no time to read in"),
    (["pretrain", "--text", "enc", "--hours", "1", "--steps", "2", "--out", "p"], 2, "not allowed with"), (["pretrain", "--text", "enc", "--start", "not/a/name", "--out", "p"], 2, "not a name on the Hub")], ids=lambda x: " ".join(x) if isinstance(x, list) else "")
def test_bad_input_to_the_others(trained, args, code, says):
    (trained / "latin.txt").write_bytes("Jos\xe9\n".encode("latin-1"))
    found, out, err = xlt(*args, cwd=trained, input="x\n")
    assert (found, out) == (code, "") and says in err, err


def test_standard_input_that_is_not_utf8(trained):
    code, out, err = bash("printf 'Amina\\nJos\\351\\n' | xlt predict --model sw_ner", trained)
    assert code == 2 and "standard input:2: not UTF-8" in err


def test_ctrl_c_says_where_to_go_on_and_the_same_command_does(place):
    command = ["train", "--task", "ner", "--train", few(place), "--dev", few(place, 20), "--encoder", "enc", "--threads", "1", "--epochs", "150", "--out", "stopped"]
    process = subprocess.Popen([*CALL, *command], cwd=place, env={**os.environ, **ONE}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))      # tests that run in the background inherit deaf ears
    while process.poll() is None and not list((place / "stopped/checkpoints").glob("checkpoint-*")): time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and not out and "Traceback" not in err
    assert "xlt: interrupted: stopped after step" in err and "is whole: the same call goes on from there" in err
    assert not list((place / "stopped").rglob("*.partial")) and not (place / "stopped/model.json").exists()
    code, out, err = xlt(*command, cwd=place)
    assert code == 0 and out == "stopped\n" and "goes on after step" in err and load_model(place / "stopped")


def test_a_full_disk_is_one_message_and_leaves_nothing_half_written(place):
    "The system lets no file grow beyond 32 KB, less than the model's weights need."
    assert (place / "enc/model.safetensors").stat().st_size > 40_000
    command = f"xlt train --task ner --train {few(place)} --encoder enc --epochs 1 --threads 1 --out full"
    code, out, err = bash(f"ulimit -f 32; {command}", place)
    assert code == 1 and not out and "is the disk full?" in err and err.count("\n") < 6
    assert sorted(p.name for p in (place / "full").rglob("*") if p.is_file()) == ["log.jsonl", "training.json"]
    assert bash(command, place)[0] == 0


def test_interrupt_without_words_stays_one_word(monkeypatch, capsys):
    def interrupted(_): raise KeyboardInterrupt
    monkeypatch.setitem(commands.COMMANDS, "predict", (*commands.COMMANDS["predict"][:2], interrupted))
    assert cli.main(["predict", "--model", "m"]) == 130 and capsys.readouterr().err == "xlt: interrupted\n"


@needs_real
def test_yoruba_from_the_files_as_they_are(place):
    yo = REAL / "ner/masakhaner2/yo"
    (place / "yo.conll").write_text("\n\n".join((yo / "dev.txt").read_text("utf-8").split("\n\n")[:80]) + "\n", "utf-8")
    for more in ([], ["--dataset", "masakhaner2"]):
        code, _, err = xlt("train", "--task", "ner", "--train", "yo.conll", "--dev", yo / "dev.txt", "--encoder", "enc", "--epochs", "1", "--threads", "1",
                           "--out", f"yo{len(more)}", *more, cwd=place)
        assert code == 0 and "ner: 80 sentences" in err, err
    code, out, err = xlt("predict", "--model", "yo0", cwd=place, input="Wole Soyinka lọ sí Abẹ́òkúta.\n")
    assert code == 0 and out.count("\n") == 1
    code, out, err = xlt("evaluate", "--model", "yo0", "--test", yo / "dev.txt", cwd=place)
    assert code == 0 and "F1 0." in out
