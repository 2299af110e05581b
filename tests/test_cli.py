"""The command line: examples work when pasted; bad input is one message and an exit code, never a traceback."""
import os
import shlex
import subprocess
import sys
import time

import pytest
from conftest import REAL, ROOT, needs_real

from xlt_lib.app import cli
from xlt_lib.data.errors import DataError


def xlt(*args, env=None, cwd=None, input=None):
    "Exit code, output and errors of the command in a process of its own."
    code = "import sys; from xlt_lib.app.cli import main; sys.exit(main())"
    run = subprocess.run([sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, cwd=cwd, input=input,
                         env={**os.environ, "COLUMNS": "120", **(env or {})}, timeout=300)
    assert "Traceback" not in run.stderr, run.stderr
    return run.returncode, run.stdout, run.stderr


def leaves(parser=None, path=()):
    "Every command, as a tuple of words, with its parser."
    parser = parser or cli.parser()
    yield path, parser
    for action in parser._actions:
        if hasattr(action, "choices") and isinstance(action.choices, dict):
            for name, inner in action.choices.items(): yield from leaves(inner, (*path, name))


@pytest.mark.parametrize("path, parser", list(leaves()), ids=lambda x: " ".join(x) if isinstance(x, tuple) else "")
def test_every_help_has_examples_that_parse(path, parser):
    examples = cli.EXAMPLES[" ".join(path)]
    assert examples and all(e in parser.format_help() for e in examples)
    for example in examples:
        words = shlex.split(example)
        words = words[words.index("xlt") + 1:]
        assert cli.parser().parse_args(words).run


@pytest.mark.parametrize("example", [e for es in cli.EXAMPLES.values() for e in es
                                     if e.startswith("xlt data") and "corpora" not in e and "my_" not in e and "check" not in e])
def test_examples_on_the_world_work_when_pasted(example, tmp_path):
    code, out, _ = xlt(*shlex.split(example)[1:], cwd=tmp_path)
    assert code == 0 and len(out.splitlines()) >= 1


def test_show_in_every_task():
    for task, language in [("ner", "sw"), ("pos", "yo"), ("parse", "ja"), ("sentiment", "ar"), ("mono", "te"), ("mt", "en-hi"),
                           ("alignment", "en-zu"), ("lexicon", "en-he")]:
        code, out, err = xlt("data", "show", "--task", task, "--language", language, "-n", "2")
        assert code == 0 and out.strip(), (task, err)


@pytest.mark.parametrize("task, language", [("ner", "sw"), ("pos", "ja"), ("parse", "ar"), ("sentiment", "yo"), ("mono", "te"),
                                            ("mt", "en-hi"), ("lexicon", "en-he")])
def test_what_is_saved_is_read_again(task, language, tmp_path, capsys):
    from xlt_lib.data.corpora import load
    from xlt_lib.data.files import read_file
    from xlt_lib.data.tasks import TASKS
    assert cli.main(["data", "save", "--task", task, "--language", language, "--split", "dev", "--out", str(tmp_path / "new/a")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'new/a'}\n"
    was, now = load(task, language, "dev"), read_file(task, tmp_path / "new/a", language=language, split="dev")
    assert len(was) == len(now) > 10
    for a, b in zip(was, now):
        assert all(a[c] == b[c] for c in TASKS[task].columns), (a, b)


def test_a_word_with_a_blank_keeps_its_place(tmp_path):
    from xlt_lib.data.files import read_file, write_file
    [row] = read_file("pos", write_file("pos", [{"tokens": ["10 000", "#"], "tags": ["NUM", "SYM"]}], tmp_path / "a.conll"))
    assert row["tokens"] == ["10\u00a0000", "#"] and row["tags"] == ["NUM", "SYM"]


@pytest.mark.parametrize("args, says", [
    (["data", "save", "--task", "alignment", "--language", "en-sw", "--split", "dev", "--out", "a"], "alignments have no usual file"),
    (["data", "save", "--task", "ner", "--language", "sw", "--split", "dev", "--out", "."], "not a file to write to"),
    (["data", "save", "--task", "ner", "--language", "sw", "--out", "a"], "--split"),
    (["data", "show", "--task", "nerr", "--language", "sw"], "Did you mean 'ner'"),
    (["data", "show", "--task", "ner", "--language", "sv"], "not a language"),
    (["data", "show", "--task", "ner", "--language", "sw", "--split", "tset"], "tset"),
    (["data", "show", "--task", "ner", "--language", "sw", "-n", "0"], "nothing to show"),
    (["data", "show", "--task", "ner", "--language", "sw", "--source", "/no/such/folder"], "/no/such/folder"),
    (["data", "show", "--task", "ner", "--language", "yo", "--source", "local", "--dataset", "masakhaner3"], "masakhaner"),
    (["data", "check", "/no/such/file", "--task", "ner"], "no such file"),
    (["data", "list", "--task", "nerr"], "Did you mean 'ner'"),
    (["data", "list", "--language", "xx"], "no data set matches"),
    (["data", "shwo"], "shwo"),
])
def test_bad_input_ends_with_2_and_a_remedy(args, says, tmp_path):
    code, out, err = xlt(*args, env={"XLT_DATA": str(tmp_path)})
    assert code == 2 and says in err and not out


def test_check_names_file_line_and_what_to_do(tmp_path):
    bad = tmp_path / "train.conll"
    bad.write_text("Amina B-PER\nlọ\nsí O\n", "utf-8")
    code, out, err = xlt("data", "check", bad, "--task", "ner")
    assert code == 2 and f"{bad}:2" in err
    bad.write_text("Amina B-PERS\nlọ O\n", "utf-8")
    code, out, err = xlt("data", "check", bad, "--task", "ner")
    assert code == 2 and f"{bad}:1" in err and "B-PERS" in err


def test_check_finds_a_leak_and_passes_clean_files(tmp_path):
    line = lambda words: "\n".join(f"{w} {'B-PER' if w[0].isupper() else 'O'}" for w in words.split()) + "\n\n"
    (tmp_path / "train.conll").write_text(line("Amina sleeps well") + line("nobody calls Musa today"), "utf-8")
    (tmp_path / "test.conll").write_text(line("yesterday Jordan met the king"), "utf-8")
    assert xlt("data", "check", tmp_path, "--task", "ner")[0] == 0
    (tmp_path / "test.conll").write_text(line("Amina sleeps well"), "utf-8")
    code, out, _ = xlt("data", "check", tmp_path, "--task", "ner")
    assert code == 2 and "leak" in out


def test_no_file_is_lost_when_several_are_checked(tmp_path):
    "Two folders with a train file each are two corpora; two files that would have one name are an error."
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "train.conll").write_text("Amina B-PER\nsleeps O\nhere O\n", "utf-8")
    code, out, _ = xlt("data", "check", "a", "b", "--task", "ner", cwd=tmp_path)
    assert code == 0 and "a/train: 1 rows" in out and "b/train: 1 rows" in out and "overlap" in out
    (tmp_path / "a/train.txt").write_text("Musa B-PER\nsleeps O\n", "utf-8")
    code, out, err = xlt("data", "check", "a", "--task", "ner", cwd=tmp_path)
    assert code == 2 and "two files of one name" in err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_unicode_is_no_trouble(encoding):
    code, out, _ = xlt("data", "show", "--task", "ner", "--language", "ja", "-n", "2", env={"PYTHONIOENCODING": encoding})
    assert code == 0 and "\\u" in out


def test_main_returns_a_code_for_help_and_for_bad_arguments_too(capsys):
    assert cli.main(["--help"]) == 0 and cli.main(["data", "--help"]) == 0 and cli.main(["--version"]) == 0
    assert cli.main([]) == 0 and "COMMAND" in capsys.readouterr().out
    assert cli.main(["data", "show", "--task", "ner"]) == cli.main(["data", "show", "-n", "x"]) == 2


def test_a_language_lists_no_layouts_for_own_files(capsys):
    assert cli.main(["data", "list", "--language", "yo"]) == 0
    named = capsys.readouterr().out
    assert "masakhaner2" in named and "conllu" not in named
    assert cli.main(["data", "list", "--language", "yo-en"]) == 0 and "mafand" in capsys.readouterr().out
    assert cli.main(["data", "list"]) == 0 and "conllu" in capsys.readouterr().out


def test_input_output_trouble_ends_with_1(tmp_path):
    "A result folder that cannot be made, here because a file stands in its way."
    (tmp_path / "file").write_text("")
    code, _, err = xlt("reproduce", "--table", "world", "--out", tmp_path / "file")
    assert code == 1 and "file" in err


def test_interrupt_ends_with_130_and_a_message(monkeypatch, capsys):
    def interrupted(_): raise KeyboardInterrupt
    monkeypatch.setattr(cli, "run_list", interrupted)
    assert cli.main(["data", "list"]) == 130 and "interrupted" in capsys.readouterr().err


def test_a_reader_that_leaves_early_is_no_trouble():
    code = ("import sys; from xlt_lib.app.cli import main; sys.exit(main(['data', 'list']))")
    shell = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} | head -n 1; exit ${{PIPESTATUS[0]}}"
    run = subprocess.run(["bash", "-c", shell], capture_output=True, text=True)
    assert run.returncode == 0 and "Traceback" not in run.stderr and "Broken" not in run.stderr, run.stderr


@needs_real
def test_real_files_through_the_same_command():
    env = {"XLT_DATA": str(REAL)}
    code, out, _ = xlt("data", "show", "--task", "ner", "--language", "yo", "--source", "local", "--dataset", "masakhaner2", "-n", "3", env=env)
    assert code == 0 and "[PER" in out
    code, out, _ = xlt("data", "check", REAL, "--task", "mt", "--dataset", "mafand", "--language", "en-zu")
    assert "train" in out and "What to do" in out
    code, out, err = xlt("data", "list", env=env)
    assert code == 0 and "masakhaner2" in out


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    "What `xlt reproduce --table world` writes."
    folder = tmp_path_factory.mktemp("reproduced") / "once"
    assert xlt("reproduce", "--table", "world", "--out", folder)[0] == 0
    return folder / "world"


def test_reproduce_writes_the_same_bytes_twice_and_takes_up_where_it_was_stopped(once, tmp_path):
    twice, told = tmp_path / "world", ("reproduce", "--table", "world", "--out", str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", "from xlt_lib.app.cli import main; main()", *told],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(twice.glob("*")): time.sleep(0.05)
    process.kill()
    process.wait()
    for path in twice.glob("*"):   # no half file
        assert path.name.startswith(".") or path.read_bytes() == (once / path.name).read_bytes(), path
    assert xlt(*told)[0] == 0
    names = sorted(p.name for p in once.iterdir())
    assert names == sorted(p.name for p in twice.iterdir()) and len(names) > 30
    for name in names: assert (once / name).read_bytes() == (twice / name).read_bytes(), name


def test_committed_tables_are_those_that_the_command_makes(once):
    for name in ("same_meaning", "settings", "sizes", "baselines"):
        committed = ROOT / f"figures/world/{name}.csv"
        assert committed.read_text("utf-8") == (once / committed.name).read_text("utf-8"), "run make reproduce, look at what changed"


def test_the_papers_size_is_said_first_and_a_script_must_agree(tmp_path):
    "A folder of corpora, so only the encoder would be fetched; nobody is at the terminal, so nothing is, and nothing is written."
    env = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    (tmp_path / "corpora").mkdir()
    code, out, err = xlt("reproduce", "--size", "paper", "--table", "1", "--source", tmp_path / "corpora", "--out", tmp_path / "made", "--results", tmp_path / "results", env=env, input="y\n")
    assert code == 2 and "1.11 GB" in out and "Add --yes" in err and not (tmp_path / "made").exists() and not (tmp_path / "results").exists()
    code, out, err = xlt("reproduce", "--size", "paper", "--out", tmp_path / "made", env=env)
    assert code == 2 and not out and "withdrawn" in err and "mono" in err and not (tmp_path / "made").exists()
    code, out, err = xlt("reproduce", "--all", "--table", "1", "--out", tmp_path / "made", env=env)
    assert code == 2 and "--all together with a choice" in err and not (tmp_path / "made").exists()


def test_errors_survive_the_way_between_processes():
    import pickle
    e = DataError("a token without a tag", file="a.conll", line=3, found="x", expected="a tag", remedy="Add one")
    assert str(pickle.loads(pickle.dumps(e))) == str(e) == "a.conll:3: a token without a tag: found 'x', expected a tag. Add one"
