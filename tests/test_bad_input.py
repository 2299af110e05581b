"""Attacks: whatever a careless or a hostile person puts in, the answer is one clear error and never a silent wrong result."""
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from xlt_lib.app import cli
from xlt_lib.data.checks import check, misaligned
from xlt_lib.data.cleaning import remove
from xlt_lib.data.corpora import describe, load
from xlt_lib.data.distances import distances, draw_map, nearest
from xlt_lib.data.errors import DataError
from xlt_lib.data.hub import read_parquet
from xlt_lib.data.labels import harmonise
from xlt_lib.data.languages import read_languages
from xlt_lib.data.readers import read_lines, read_table
from xlt_lib.data.registry import data_folder, registry
from xlt_lib.data.sampling import apportion, rows_for
from xlt_lib.data.tables import fits, said
from xlt_lib.data.tasks import task

MAIN = [sys.executable, "-c", "import sys; from xlt_lib.app.cli import main; sys.exit(main())"]


@pytest.fixture(autouse=True)
def no_hanging():
    "An attack that makes the code wait for ever fails after half a minute."
    def late(*_): raise AssertionError("it hangs")
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def write(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def refused(words, call, *args, **named):
    "The error of a call, which must hold all these words, on one line."
    with pytest.raises(DataError) as e: call(*args, **named)
    for word in [words] if isinstance(words, str) else words: assert word in str(e.value), str(e.value)
    return e.value


def row(**values): return json.dumps(values) + "\n"


# ---- what stands in a file: (name, like, task, language, content, line, words of the message) --------------------

CONTENTS = [
    ("missing tag", "conll", "ner", "sw", "Amina B-PER\nlọ\n", 2, ["without a tag", "expected 2 fields"]),
    ("another scheme", "conll", "ner", "sw", "Amina S-PER\n", 1, ["'S-PER'", "one of O, B-PER"]),
    ("an error page", "conll", "ner", "sw", "<html><body>404</body></html>", 1, ["without a tag"]),
    ("Latin-1 after a mark", "conll", "ner", "sw", b"\xef\xbb\xbfa O\nl\xe9 O\n", 2, ["not UTF-8 (byte 8 of"]),
    ("packed twice", "conll", "ner", "sw", gzip.compress(gzip.compress(b"a O\n")), 1, ["found b'\\x1f\\x8b"]),
    ("packed and cut", "conll", "ner", "sw", gzip.compress(b"Amina B-PER\n" * 99)[:30], None, ["damaged gzip"]),
    ("a missing label", "tsv", "sentiment", "sw", "text\tlabel\nNzuri\tpositive\nMbaya\t\n", 3, ["found ''"]),
    ("a label in capitals", "csv", "sentiment", "sw", "text,label\nx,Positive\n", 2, ["'Positive'"]),
    ("a field without an end", "csv", "sentiment", "sw", f'text,label\n"{"x" * 200_000}",positive\n', 2, ["without an end"]),
    ("a column twice", "csv", "sentiment", "sw", "text,label,label\nx,positive,negative\n", 1, ["two columns", "Rename"]),
    ("NUL", "csv", "sentiment", "sw", "text,label\nx\0y,positive\n", 2, ["a NUL byte"]),
    ("label 0", "jsonl", "sentiment", "sw", row(text="x", label=0), 1, ["found 0"]),
    ("tag 0", "jsonl", "ner", "sw", row(tokens=["a"], tags=[0]), 1, ["found 0"]),
    ("a list for a label", "jsonl", "sentiment", "sw", row(text="x", label=["positive"]), 1, ["wrong kind under 'label'"]),
    ("a list for a text", "jsonl", "mono", "sw", row(text=["x"]), 1, ["wrong kind under 'text'", "expected a text"]),
    ("a text for a list", "jsonl", "ner", "sw", row(tokens="ab", tags="OO"), 1, ["wrong kind under 'tokens'", "a list"]),
    ("a number for a list", "jsonl", "emotion", "sw", row(text="x", labels=1), 1, ["wrong kind under 'labels'"]),
    ("ragged lists", "jsonl", "ner", "sw", row(tokens=["a", "b"], tags=["O"]), 1, ["different length", "'tokens': 2"]),
    ("a record for a text", "jsonl", "mono", "sw", row(text={"a": 1}), 1, ["another kind under 'text'"]),
    ("not JSON", "jsonl", "mono", "sw", '{"text": "x",}\n', 1, ["at character", "found '{"]),
    ("deep JSON", "jsonl", "mono", "sw", "[" * 100_000 + "\n", 1, ["not a JSON object"]),
    ("a head that is a word", "jsonl", "parse", "sw", row(tokens=["a"], tags=["X"], heads=["x"], relations=["root"]), 1, ["from 0 to 1"]),
    ("a head too far", "jsonl", "parse", "sw", row(tokens=["a"], tags=["X"], heads=[2 ** 40], relations=["root"]), 1, ["from 0 to 1"]),
    ("its own head", "conllu", "parse", "en", "1\ta\t_\tNOUN\t_\t_\t1\troot\t_\t_\n", 1, ["0 roots"]),
    ("nothing left", "jsonl", "mt", "en-sw", row(source="a", target=""), None, ["no row is left", "'empty': 1"]),
    ("two languages for one", "conll", "ner", "en-sw", "a O\n", None, ["one language"]),
]


@pytest.mark.parametrize("like, name, language, content, line, words", [c[1:] for c in CONTENTS], ids=[c[0] for c in CONTENTS])
def test_a_bad_file_is_refused(tmp_path, like, name, language, content, line, words):
    file = write(tmp_path, "mine.txt", content)
    e = refused(words, load, name, language, "train", file, like)
    assert e.line == line and (e.file == file or "language" in e.problem), str(e)


def test_marks_and_line_ends_of_windows_do_no_harm(tmp_path):
    file = write(tmp_path, "a.csv", b'\xef\xbb\xbf"text","label"\r\n"x, y","positive"\r\n')
    assert load("sentiment", "sw", "train", file, "csv")["text"][:] == ["x, y"]


def test_empty_rows_are_dropped_and_counted(tmp_path):
    file = write(tmp_path, "a.jsonl", row(tokens=[], tags=[]) + row(tokens=["a"], tags=["O"]))
    data = load("ner", "sw", "train", file, "jsonl")
    assert len(data) == 1 and describe(data)["dropped"] == {"empty": 1}


def test_a_line_that_would_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("xlt_lib.data.bytes.LONGEST", 1000)
    file = write(tmp_path, "bomb.gz", gzip.compress(b"a\n" + b"x" * 100_000))
    assert refused("a line without an end", list, read_lines(file)).line == 2


# ---- places that are no file ------------------------------------------------------------------------------------

def test_places_that_never_end_or_lead_nowhere(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "gone").symlink_to("nowhere")
    file = write(tmp_path, "a.txt", "a O\n")
    for place in (tmp_path / "pipe", "/dev/null", "/dev/zero"):
        refused("a device or a pipe", list, read_lines(place))
        refused("a device or a pipe", load, "ner", "sw", "train", place, "conll")
    for link in ("loop", "gone"): refused("a link that leads nowhere", list, read_lines(tmp_path / link))
    refused("There is no folder", list, read_lines(file / "x"))
    refused("no such file or folder", load, "ner", "sw", "train", file / "x", "conll")
    refused("a file where a folder was expected", data_folder, file)
    refused("a folder where a file was expected", read_languages, tmp_path)


def test_a_language_is_no_path(tmp_path):
    write(tmp_path, "secret/test.conll", "root B-PER\n")
    (tmp_path / "data").mkdir()
    for language in ("../secret", str(tmp_path / "secret"), "{x}", "sw\n", "sw\0", "", "\udcff", "x" * 500, None, 5, ["sw"]):
        refused("not the code of a language", load, "ner", language, "test", tmp_path / "data", "conll")
        refused("not the code of a language", load, "ner", language, "test")


@pytest.mark.parametrize("source, words", [(None, "expected a path"), ("", "expected a path"), (5, "expected a path"),
                                           ("wrld", "Did you mean 'world'?"), ("\0", "no such file")])
def test_a_source_that_is_none(source, words): refused(words, load, "ner", "sw", "test", source)


@pytest.mark.parametrize("dataset", [5, [None], {"conll": 1}, b"conll"])
def test_a_data_set_that_is_no_name(tmp_path, dataset):
    file = write(tmp_path, "a.txt", "a O\n")
    for source in (file, tmp_path, "hub"): refused("not the name of a data set", load, "ner", "sw", "test", source, dataset)


def test_what_is_nowhere_is_not_suggested(tmp_path):
    assert "Known: ." not in str(refused("not on the Hub", load, "ner", "sw", "test", "hub", "conll"))
    refused("a task other than alignment", load, "alignment", "en-sw", "test", write(tmp_path, "a", "x"), "jsonl")


# ---- the registry: (name, what is replaced, by what, line, words) -----------------------------------------------

GOOD = '''[mine]
tasks = ["ner"]
files = "{language}/{split}.txt"
format = "conll"
columns = { tokens = 0, tags = 1 }
languages = ["sw"]
'''
ROWS = [
    ("broken braces", "{split}", "{split", 3, "'files'"), ("braces too many", "{split}", "{split}}", 3, "'files'"),
    ("an attribute", "{split}", "{split.__class__}", 3, "split.__class__"), ("a width", "{split}", "{split:>9999999}", 3, "9999999"),
    ("a side that is none", "{split}", "{side}", 3, "'side'"), ("a file that is a number", '"{language}/{split}.txt"', "{ train = 1 }", 3, "texts"),
    ("braces in the folder", "[mine]", '[mine]\nfolder = "{x}"', 2, "'folder'"), ("a column that is a list", "= 0", "= [0]", 5, "columns"),
    ("a column that is true", "= 0", "= true", 5, "columns"), ("a column by name", "= 0", '= "0"', 5, "its number"),
    ("a map to a list", "[mine]", '[mine]\nmap = { X = ["O"] }', 2, "a table of texts"), ("no languages", '["sw"]', "[]", 6, "no languages"),
    ("a reader of other columns", '"conll"', '"lines"', 5, "columns of its own"), ("synonyms of a tag", "[mine]", '[mine]\nsynonyms = "tab"', 2, "synonyms"),
    ("a broken pattern", "[mine]", '[mine]\nkeep = "("', 2, "regular expression"), ("a name with a comma", "[mine]", '["a,b"]', 1, "a,b"),
    ("counts without a split", "[mine]", "[mine.counts]\nsw = 5\n[mine]", 1, "a table of tables"), ("two brackets", "[mine]", "[[mine]]", 1, "a list of tables"),
    ("a fallback that is none", "[mine]", '[mine]\nfallbacks = ["wikineurall"]', None, "'wikineural'"),
    ("a Hub name with dots", "[mine]", '[mine.hub]\nid = "../../x"\n[mine]', 2, "organisation/name"),
    ("a hole in the Hub's config", "[mine]", '[mine.hub]\nid = "a/b"\nconfig = "{x}"\n[mine]', 3, "'x'"),
    ("a Hub split that is a number", "[mine]", '[mine.hub]\nid = "a/b"\nsplits = { dev = 1 }\n[mine]', 3, "texts"),
    ("too deep", "[mine]", "[mine]\nnote = " + "[" * 9000, None, "TOML"), ("a key twice", "[mine]", '[mine]\nformat = "conll"', 5, "TOML"),
]


@pytest.mark.parametrize("right, wrong, line, words", [r[1:] for r in ROWS], ids=[r[0] for r in ROWS])
def test_a_slip_in_the_registry_is_found_when_it_is_read(tmp_path, right, wrong, line, words):
    assert registry(write(tmp_path, "good.toml", GOOD))["mine"].languages == ("sw",)
    assert right in GOOD
    e = refused(words, registry, write(tmp_path, "bad.toml", GOOD.replace(right, wrong, 1)))
    assert e.line == line, str(e)


def test_a_registry_in_another_encoding(tmp_path, monkeypatch):
    for n, (content, words) in enumerate([("# é\n".encode("latin-1"), "not UTF-8"), (GOOD.encode("utf-16"), "UTF-16"), (b"", "no text")]):
        refused(words, registry, write(tmp_path, f"{n}.toml", content))
    assert "mine" in registry(write(tmp_path, "windows.toml", b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode()))
    monkeypatch.setenv("XLT_REGISTRY", str(tmp_path))
    refused("a folder where a file was expected", registry)


def test_rows_may_name_each_other_in_a_circle(tmp_path):
    text = GOOD + 'fallbacks = ["yours"]\n' + GOOD.replace("mine", "yours") + 'fallbacks = ["mine"]\n'
    assert {"mine", "yours"} <= set(registry(write(tmp_path, "circle.toml", text)))


def test_types_in_words():
    assert said(dict[str, tuple[str, ...]]) == "a table of lists of texts" and said(str | dict[str, str]) == "a text or a table of texts"
    assert fits(True, bool) and not fits(True, int) and not fits(1, bool) and not fits(1.0, int)


# ---- the Hub's files: (name, data set, task, language, columns, what comes out or the words of the error) --------

UD = dict(tokens=[["a"]], upos=[["VERB"]], head=[["0"]], deprel=[["root"]])
HUB = [
    ("hidden label", "imdb", "sentiment", "en", dict(text=["x"], label=[-1]), "found -1"),
    ("unknown label", "imdb", "sentiment", "en", dict(text=["x"], label=[7]), "found 7"),
    ("no label", "imdb", "sentiment", "en", dict(text=["x", "y"], label=[None, 1]), "found 'null'"),
    ("no text", "imdb", "sentiment", "en", dict(text=[None, "y"], label=[0, 1]), {"empty": 1}),
    ("tags without names", "wikiann", "ner", "sw", dict(tokens=[["a"]], ner_tags=[[0]]), "found 0"),
    ("no tag", "wikiann", "ner", "sw", dict(tokens=[["a", "b"]], ner_tags=[["O", None]]), "wrong kind under 'tags'"),
    ("no tags", "wikiann", "ner", "sw", dict(tokens=[["a"], ["b"]], ner_tags=[["O"], None]), "wrong kind under 'tags'"),
    ("ragged", "wikiann", "ner", "sw", dict(tokens=[["a", "b"]], ner_tags=[["O"]]), "different length"),
    ("no such field", "iwslt2017", "mt", "en-fr", dict(translation=[{"en": "a", "de": "b"}]), "no field 'translation.fr'"),
    ("no record", "iwslt2017", "mt", "en-fr", dict(translation=[None, {"en": "a", "fr": "b"}]), {"empty": 1}),
    ("a head that is no number", "ud_gsd", "parse", "es", UD | dict(head=[["None"]]), "a head that is no word"),
    ("an intensity", "brighter", "emotion", "zu", dict(text=["x"], anger=[3], disgust=[0], fear=[0], joy=[0], sadness=[0], surprise=[0]), "0 or 1"),
]


@pytest.mark.parametrize("name, t, language, columns, outcome", [h[1:] for h in HUB], ids=[h[0] for h in HUB])
def test_rows_from_the_hub_that_are_not_what_they_should_be(tmp_path, name, t, language, columns, outcome):
    from datasets import Dataset
    Dataset.from_dict(columns).to_parquet(tmp_path / "0.parquet")
    of = registry()[name]
    source, _, target = language.partition("-")
    wanted = {c: p.format(source=source, target=target) for c, p in of.hub.columns.items() if c in task(t).columns}
    wanted |= {i: i for i in of.indicators if i in columns}
    def run(): return harmonise(read_parquet([tmp_path / "0.parquet"], wanted, of), of, task(t), language, "test", "there")
    if isinstance(outcome, str): refused(outcome, run)
    else: assert describe(run())["dropped"] == outcome


# ---- numbers and names in calls ---------------------------------------------------------------------------------

def test_shares_and_counts_that_are_none():
    for shares in ((), ("a", "b", "c"), (float("nan"), 0, 1), (float("inf"), 0, 0), (1.5, -0.5, 0)): refused("shares", apportion, 10, shares)
    refused("fewer than no rows", rows_for, -5, 0.5)
    refused("shares", apportion, -3, (0.7, 0.15, 0.15))
    assert rows_for(100, True) == 100 and rows_for(100, 0) == 0


def test_no_languages_are_not_all_languages():
    for call in (distances, draw_map): refused("no languages", call, codes=[])
    refused("no languages", nearest, "en", among=[])
    refused("fewer than no", nearest, "en", n=-1)


def test_steps_columns_and_sides(tmp_path):
    refused("Did you mean 'urls'?", remove, "x", ("html", "urlz"))
    refused("no header", list, read_table(write(tmp_path, "a", "x\ty\n"), {"t": "text"}, header=False))
    refused("differ in number", misaligned, ["a"], ["b", "c"])
    assert check({1: load("ner", "sw", "dev")}, "ner") is not None   # names that are numbers


# ---- the command ------------------------------------------------------------------------------------------------

def xlt(*args, **named):
    "A process of its own, not yet waited for."
    return subprocess.Popen([*MAIN, *map(str, args)], stdout=named.pop("stdout", subprocess.PIPE), stderr=subprocess.PIPE, text=True, **named)


@pytest.mark.parametrize("args", [
    "data show --task ner --language ../../etc", "data show --task ner --language sw -n -5", "data show --task ner --language sw --source FILE/x",
    "data check FILE/x --task ner", "data check PIPE --task ner", "data check /dev/zero --task mono", "data check FILE --task ner --language en-sw",
    "data check FILE --task alignment", "data check FILE --task ner --dataset wikiann", "data list --task nre"])
def test_bad_input_ends_with_2(tmp_path, capsys, args):
    os.mkfifo(tmp_path / "pipe")
    places = {"FILE": str(write(tmp_path, "a.conll", "a O\n")), "PIPE": str(tmp_path / "pipe")}
    assert cli.main([re.sub("FILE|PIPE", lambda m: places[m[0]], a) for a in args.split()]) == 2
    out, err = capsys.readouterr()
    assert err.startswith("xlt: ") and err.count("\n") == 1 and not out


def test_a_registry_in_latin_1_ends_with_2(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XLT_REGISTRY", str(write(tmp_path, "a.toml", b"# \xe9\n")))
    assert cli.main(["data", "list"]) == 2 and "a.toml:1: not UTF-8" in capsys.readouterr().err


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs a file that can be opened and not be read")
def test_a_file_that_cannot_be_read_is_named_and_ends_with_1(capsys):
    assert cli.main(["data", "check", "/proc/self/mem", "--task", "mono"]) == 1 and "/proc/self/mem" in capsys.readouterr().err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_ends_with_1():
    with open("/dev/full", "w") as full: process = xlt("data", "list", stdout=full)
    assert "No space left" in process.communicate()[1] and process.returncode == 1


def test_ctrl_c_ends_with_130_and_leaves_no_half_file(tmp_path):
    big = write(tmp_path, "big.conll", "".join(f"Amina{i} B-PER\nlọ{i} O\n\n" for i in range(100_000)))
    running = [xlt("data", "check", big, "--task", "ner"), xlt("reproduce", "--out", tmp_path / "out")]
    time.sleep(2)
    for process in running: process.send_signal(signal.SIGINT)
    for process in running: assert "Traceback" not in process.communicate()[1] and process.returncode == 130
    for file in (tmp_path / "out" / "world").glob("[!.]*"): assert file.read_bytes().endswith(b"\n"), file
