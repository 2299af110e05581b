"""Readers: a file is read right or refused with one clear error, whatever its bytes are."""
import csv
import gzip
import json
import random
from collections import Counter
from functools import partial

import pytest
from conftest import REAL, needs_real
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xlt_lib.data.bytes import text_lines
from xlt_lib.data.errors import DataError
from xlt_lib.data.readers import (read_ces, read_conll, read_conllu, read_jsonl, read_lines, read_pairs, read_table,
                                  read_tmx)
from xlt_lib.data.schemes import illegal, to_iob2

TWO = {"tokens": 0, "tags": -1}
WORDS = [["1-2", "vámonos", *"________"], ["1", "vamos", "ir", "VERB", *"__", "0", "root", *"__"],
         ["2", "nos", "nosotros", "PRON", *"__", "1", "obj", *"__"], ["2.1", "e", *"________"],
         ["3", "a", "a", "ADP", *"__", "1", "obl", *"__"]]
TREE = "# text = vámonos a\n" + "\n".join("\t".join(w) for w in WORDS) + "\n\n"
TMX = """<?xml version="1.0"?><!DOCTYPE tmx SYSTEM "tmx14.dtd"><tmx version="1.4"><header/><body>
<tu tuid="1"><tuv xml:lang="en"><seg>Good <bpt i="1">&lt;b&gt;</bpt>morning</seg></tuv>
<tuv xml:lang="sw-TZ"><seg>Habari &amp; asubuhi</seg></tuv></tu><tu><tuv xml:lang="en"><seg>Yes</seg></tuv></tu></body></tmx>"""
CES = """<cesDoc><text><body><seg id="b.MAT.1.1" type="verse">
Incwadi yokuzalwa</seg><seg id="b.MAT.1.2">U-Abrahama</seg></body></text></cesDoc>"""
SEEDS = {   # reader → (how it is called, a valid file)
    "conll blanks": (partial(read_conll, columns=TWO), "Amina B-PER\nṣe O\n\n# O\nLagos B-LOC\n\n"),
    "conll tabs": (partial(read_conll, columns={"tokens": 1, "tags": 2}, separator="\t"),
                   "# text = Ọjọ́\n1\tỌjọ́\tO\t-\n2\tAjé\tB-LOC\n\n1\t!\tO\n"),
    "conll spaces": (partial(read_conll, columns=TWO, separator=" ", comments=None, spaces_in_tokens=True, empty="_"),
                     "-DOCSTART- O\n\ndix mille NUM\n O\n\n# SYM\n"),
    "conllu": (read_conllu, TREE + TREE),
    "tsv": (partial(read_table, columns={"text": "text", "label": -1}), "id\ttext\tlabel\n1\tó \"dára\tpositive\n2\tbàjẹ́\tnegative\n"),
    "csv": (partial(read_table, columns={"text": 1, "label": "label"}, separator=",", quoted=True),
            'id,text,label\n1,"a, ""b""\nc",joy\n2,d,fear\n'),
    "xed": (partial(read_table, columns={"text": 0, "label": -1}, header=False, keep=r"[1-8](,\s*[1-8])*"), "Asante!\t4, 7\r\nx\ty\tz\t1\nProf.\n"),
    "kept": (partial(read_table, columns={"a": 0, "b": 1}, header=False, keep="[1-8b]"), "x\t1\ny\nz\ty\t2\n"),
    "jsonl": (partial(read_jsonl, columns={"text": "t", "labels": "l"}), '{"t": "\\u00e0", "l": ["joy", 1]}\n\n{"t": "", "l": 3}\n'),
    "lines": (read_lines, "Habari\n\n  ya asubuhi \r\n"),
    "tmx": (partial(read_tmx, source_language="en", target_language="sw"), TMX),
    "ces": (read_ces, CES),
}


def write(folder, content, name="file.txt"):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / name


def check_rows(rows):
    "What every row promises: a line, tokens and labels in step, nothing but text and whole numbers that can be stored."
    assert rows
    for row in rows:
        assert row["line"] >= 1
        json.dumps(row, ensure_ascii=False).encode("utf-8")   # a lone surrogate would fail here
        lists = [v for k, v in row.items() if k in ("lines", "tokens", "tags", "heads", "relations")]
        assert len({len(v) for v in lists}) <= 1
        assert all(row.get("tokens", "x")) and all(row.get("tags", "x"))
        if "lines" in row: assert row["lines"] and sorted(set(row["lines"])) == row["lines"]
        if "heads" in row: assert row["heads"].count(0) == 1 and max(row["heads"]) <= len(row["heads"])
    assert [r["line"] for r in rows] == sorted(r["line"] for r in rows)


def attempt(reader, *paths):
    "What a file leads to: rows, or the problem that a `DataError` names. Anything else fails the test."
    try: rows = list(reader(*paths))
    except DataError as e:
        assert e.file and str(e.file) in str(e)
        return e.problem
    check_rows(rows)
    return "rows"


PIECES = [b"\n", b"\n\n", b"\r", b"\r\n", b"\t", b" ", b'"', b"#", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc3",
          b"\xc2\x85", b"\xe2\x80\xa8", b"\xc2\xa0", b"0", b"-1", b"_", b"B-PER", b"{", b"[" * 30000, b'"\\ud800"', b"1" * 5000,
          b"<", b"&nbsp;", b"<seg>", b"</tu>", b'<!DOCTYPE a [<!ENTITY x "y">]>', b"NaN", b"\x1f\x8b", b"PK\x03\x04"]


def mutate(data, r):
    "A file's bytes with one to three changes such as editors, transfers and programs make."
    for _ in range(r.choice((1, 1, 2, 3))):
        i, j = sorted(r.randrange(len(data) + 1) for _ in range(2))
        kind = r.randrange(9)
        if kind == 0: data = data[:i]                                            # cut short
        elif kind == 1: data = data[:i] + data[j:]                               # a piece lost
        elif kind == 2: data = data[:j] + data[i:]                               # a piece twice
        elif kind <= 5: data = data[:i] + r.choice(PIECES) + data[i:]            # something strange put in
        elif kind == 6: data = data[:i] + bytes([r.randrange(256)]) + data[i + 1:]   # one byte changed
        elif kind == 7: data = b"\n".join(r.sample(lines := data.split(b"\n"), len(lines)))   # lines shuffled
        else: data = r.choice((gzip.compress, lambda d: d.decode("utf-8", "replace").encode("utf-16"),
                               lambda d: d.decode("utf-8", "replace").encode("latin-1", "replace"),
                               lambda d: d.replace(b"\n", b"\r\n"), lambda d: d.replace(b"\t", b" ")))(data)
    return data


@pytest.mark.parametrize("name", SEEDS)
def test_mutated_files_are_read_or_refused(name, tmp_path):
    reader, content = SEEDS[name]
    r, outcomes = random.Random(name), Counter()
    assert attempt(reader, write(tmp_path, content)) == "rows"
    for _ in range(2000): outcomes[attempt(reader, write(tmp_path, mutate(content.encode(), r)))] += 1
    assert outcomes["rows"] > 20 and len(outcomes) > 3, outcomes   # else the mutations test nothing


def test_mutated_pairs_are_read_or_refused(tmp_path):
    r, outcomes = random.Random(0), Counter()
    for _ in range(700):
        a, b = "One\n\nTwo\nThree\n".encode(), "Moja\n\nMbili\nTatu\n".encode()
        outcomes[attempt(read_pairs, write(tmp_path, mutate(a, r), "a"), write(tmp_path, b if r.random() < .5 else mutate(b, r), "b"))] += 1
    assert outcomes["rows"] > 20 and outcomes["two files of different length"] > 20, outcomes


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(st.binary(max_size=60), st.text(st.characters(codec="utf-8"), max_size=60).map(str.encode)),
       name=st.sampled_from(sorted(SEEDS)))
def test_any_bytes_are_read_or_refused(tmp_path, content, name): attempt(SEEDS[name][0], write(tmp_path, content))


# (reader of SEEDS, content, line that the error must name, words that it must hold)
BROKEN = {
    "missing tag": ("conll blanks", "Amina B-PER\nṣe\n", 2, ["without a tag", "'ṣe'", "expected 2 fields as in line 1"]),
    "empty token": ("conll blanks", "Amina B-PER\n O\n", 2, ["an empty field", "`empty`"]),
    "surplus field": ("conll blanks", "a O\nNew York B-LOC\n", 2, ["too many fields", "spaces_in_tokens"]),
    "Latin-1": ("lines", b"Habari\nol\xe9\n", 2, ["not UTF-8 (byte 9 of the file)", "iconv -f LATIN1"]),
    "UTF-16": ("lines", "Habari".encode("utf-16"), 1, ["iconv -f UTF-16 "]),
    "UTF-16, unmarked": ("lines", "Habari".encode("utf-16-le"), 1, ["NUL byte", "iconv -f UTF-16LE"]),
    "old Macintosh": ("lines", b"Habari\rya\rasubuhi", 1, ["carriage return", "tr "]),
    "empty": ("lines", b"", None, ["no text in this file"]),
    "only a mark": ("lines", b"\xef\xbb\xbf \r\n", None, ["no text in this file"]),
    "only comments": ("conll tabs", "# sent_id = 1\n", None, ["no sentence"]),
    "only a header": ("tsv", "id\ttext\tlabel\n", None, ["no row"]),
    "cut gzip": ("lines", gzip.compress(b"Habari " * 99)[:20], None, ["damaged gzip"]),
    "zip": ("lines", b"PK\x03\x04....", None, ["zip archive"]),
    "two roots": ("conllu", TREE.replace("\t1\tobl", "\t0\troot"), 2, ["2 roots"]),
    "cycle": ("conllu", TREE.replace("\t1\tobj", "\t3\tobj").replace("\t1\tobl", "\t2\tobl"), 2, ["cycle"]),
    "head outside": ("conllu", TREE.replace("\t1\tobl", "\t4\tobl"), 6, ["'4'", "a number from 0 to 3"]),
    "nine columns": ("conllu", TREE.replace("\t1\tobl\t_", "\t1\tobl"), 6, ["10 fields"]),
    "ragged": ("tsv", "id\ttext\tlabel\n1\ta\tb\n2\ta\n", 3, ["expected 3 fields as in line 1"]),
    "unknown column": ("tsv", "id\ttxt\tlabel\n", 1, ["no such column", "Did you mean 'txt'"]),
    "open quote": ("csv", 'id,text,label\n1,a,joy\n2,"b,joy\n3,c,joy\n', 3, ["quotes"]),
    "broken JSON": ("jsonl", '{"t": 1, "l": 2}\n{"t": 1,\n', 2, ["not a JSON object", "jq"]),
    "missing key": ("jsonl", '{"text": 1, "l": 2}\n', 1, ["a key is missing", "expected t"]),
    "null": ("jsonl", '{"t": null, "l": 2}\n', 1, ["another kind under 't'"]),
    "entity bomb": ("tmx", '<!DOCTYPE tmx [<!ENTITY a "aaaa">]><tmx>&a;</tmx>', 1, ["entity"]),
    "unknown entity": ("tmx", TMX.replace("&amp;", "&nbsp;"), 3, ["entity", "'nbsp'"]),
    "other language": ("tmx", TMX.replace("sw-TZ", "yo"), None, ["['en', 'yo']", "expected en and sw"]),
    "an encoding that is none": ("tmx", '<?xml version="1.0" encoding="rot13"?><tmx/>', 1, ["not well-formed", "rot13"]),
    "an encoding that expat lacks": ("tmx", b'<?xml version="1.0" encoding="gbk"?><tmx>\xd6\xd0</tmx>', 1, ["multi-byte"]),
    "half a character": ("jsonl", '{"t": "\\ud83d", "l": 1}\n', 1, ["another kind under 't'"]),
    "text after a quote": ("csv", 'id,text,label\n1,"a"b,joy\n', 2, ["broken quotes"]),
    "too few fields to keep": ("kept", "a\tb\n\n3\n", 3, ["too few or too many fields", "['3']"]),
    "a line of one no-break space": ("conll blanks", "a O\n\u00a0\nb O\n", 2, ["without a tag"]),
    "open element": ("ces", CES[:-9], 2, ["not well-formed"]),
}


@pytest.mark.parametrize("case", BROKEN)
def test_the_error_says_where_and_what(case, tmp_path):
    name, content, line, words = BROKEN[case]
    with pytest.raises(DataError) as e: list(SEEDS[name][0](write(tmp_path, content)))
    assert e.value.line == line and "file.txt" in str(e.value)
    for word in words: assert word in str(e.value), str(e.value)


def test_places_that_are_no_file(tmp_path):
    write(tmp_path, "x O\n", "train.txt.gz")   # gzip by content, not by name: this one is plain
    assert len(list(read_conll(tmp_path / "train.txt.gz", TWO))) == 1
    with pytest.raises(DataError, match="Near it there is: train.txt.gz"): list(read_lines(tmp_path / "train.txt"))
    with pytest.raises(DataError, match=r"a folder where a file was expected: found \['train.txt.gz'\]"): list(read_lines(tmp_path))
    with pytest.raises(DataError, match="There is no folder"): list(read_lines(tmp_path / "no" / "file"))
    (tmp_path / "train.txt.gz").chmod(0)
    try: (tmp_path / "train.txt.gz").open().close()
    except PermissionError:   # root may read everything
        with pytest.raises(PermissionError): list(read_lines(tmp_path / "train.txt.gz"))


@pytest.mark.parametrize("change", [lambda b: b"\xef\xbb\xbf" + b, lambda b: b.replace(b"\n", b"\r\n"), gzip.compress,
                                    lambda b: gzip.compress(b[:9]) + gzip.compress(b[9:]), lambda b: b.rstrip(b"\n")])
@pytest.mark.parametrize("name", [n for n in SEEDS if n not in ("tmx", "ces")])
def test_harmless_differences_change_nothing(name, change, tmp_path):
    reader, content = SEEDS[name]
    plain = list(reader(write(tmp_path, content)))
    assert list(reader(write(tmp_path, change(content.encode())))) == plain


def test_what_is_read(tmp_path):
    def read(name): return list(SEEDS[name][0](write(tmp_path, SEEDS[name][1])))
    assert read("conll blanks")[1] == {"line": 4, "lines": [4, 5], "tokens": ["#", "Lagos"], "tags": ["O", "B-LOC"]}
    assert [r["tokens"] for r in read("conll tabs")] == [["Ọjọ́", "Ajé"], ["!"]]
    assert [r["tokens"] for r in read("conll spaces")] == [["dix mille", "_"], ["#"]]
    tree = read("conllu")[1]
    assert (tree["tokens"], tree["heads"], tree["text"], tree["lines"]) == (["vamos", "nos", "a"], [0, 1, 1], "vámonos a", [10, 11, 13])
    assert read("tsv")[0] == {"line": 2, "text": 'ó "dára', "label": "positive"}
    assert read("csv") == [{"line": 2, "text": 'a, "b"\nc', "label": "joy"}, {"line": 4, "text": "d", "label": "fear"}]
    assert read("lines")[1] == {"line": 3, "text": "ya asubuhi"}
    assert read("tmx") == [{"line": 2, "source": "Good morning", "target": "Habari & asubuhi"}]
    assert read("ces")[0] == {"line": 1, "id": "b.MAT.1.1", "text": "Incwadi yokuzalwa"}
    counts = Counter()
    reader, content = SEEDS["xed"]
    assert [r["label"] for r in reader(write(tmp_path, content), counts=counts)] == ["4, 7", "1"] and counts["dropped"] == 1


def test_the_first_line_may_be_the_token_hash(tmp_path):
    assert next(read_conll(write(tmp_path, "# O\nLagos B-LOC\n"), TWO))["tokens"] == ["#", "Lagos"]
    assert next(read_conll(write(tmp_path, "# a comment here\nLagos B-LOC\n"), TWO))["tokens"] == ["Lagos"]


def test_pairs_keep_their_lines(tmp_path):
    a = write(tmp_path, "One\n\nTwo\n\n\n", "a")
    assert list(read_pairs(a, write(tmp_path, "Moja\n\nMbili", "b"))) == [{"line": 1, "source": "One", "target": "Moja"},
                                                                       {"line": 3, "source": "Two", "target": "Mbili"}]
    assert [r["source"] for r in read_pairs(a, write(tmp_path, "Moja\nx\nMbili", "b"))] == ["One", "", "Two"]
    with pytest.raises(DataError, match="found 5, expected 1 lines"): list(read_pairs(a, write(tmp_path, "Moja\n", "b")))


def test_lines_split_at_line_feeds_only(tmp_path):
    text = "one\u2028still one\x85and\x0bon\x0c\ntwo\n"
    assert [line for _, line in text_lines(write(tmp_path, text))] == text.split("\n")[:-1]


def write_iob1(entities):
    "Tags in IOB1, BIOES and BILOU of entities (type, length), a length of 0 being an O between them; and in IOB2."
    out, last = {s: [] for s in ("IOB1", "BIOES", "BILOU", "IOB2")}, None
    for kind, n in entities:
        inside = n - 2
        for scheme, (single, begin, middle, end) in {"BIOES": "SBIE", "BILOU": "UBIL", "IOB2": "BBII",
                                                     "IOB1": ("B" if kind == last else "I") * 2 + "II"}.items():
            marks = [] if n == 0 else [single] if n == 1 else [begin, *[middle] * inside, end]
            out[scheme] += [f"{m}-{kind}" for m in marks] or ["O"]
        last = kind if n else None
    return out


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["PER", "LOC", "B-I"]), st.integers(0, 4)), max_size=8))
def test_every_scheme_says_the_same(entities):
    tags = write_iob1(entities)
    for scheme, written in tags.items():
        for repair in (True, False): assert to_iob2(written, scheme, repair) == tags["IOB2"]
    assert not illegal(tags["IOB2"])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]), max_size=12))
def test_repair_leaves_nothing_illegal(tags):
    repaired = to_iob2(tags)
    assert not illegal(repaired) and to_iob2(tags, repair=False) == tags
    assert [i for i, (a, b) in enumerate(zip(tags, repaired, strict=True)) if a != b] == illegal(tags)
    assert repaired == to_iob2(tags, "IOB1")   # a repaired file reads as IOB1 would have it


@pytest.mark.parametrize("tag", ["", "PER", "X-PER", "B-", "-PER", "O-PER", "b-PER", "E-PER", "BI-PER"])
def test_tags_outside_the_scheme_are_refused(tag):
    with pytest.raises(DataError, match="tag 2 of the sentence is outside the scheme"): to_iob2(["O", tag])


@needs_real
def test_real_files_hold_what_their_list_says():
    "Sentences and tokens of the CoNLL and CoNLL-U files of up to 30,000 tokens, and their stray I- tags."
    with open(REAL / "STATS.tsv", encoding="utf-8") as f: listed = {r["file"]: r for r in csv.DictReader(f, delimiter="\t")}
    with open(REAL / "QUIRKS.tsv", encoding="utf-8") as f: quirks = {r["file"]: r["quirk"] for r in csv.DictReader(f, delimiter="\t")}
    seen = 0
    for name, row in listed.items():
        if not name.startswith(("ner/", "pos/")) or int(row["tokens_ws"]) > 30_000: continue
        path = next(p for p in (REAL / name, REAL / f"{name}.gz") if p.exists())
        if name.startswith("pos/") and ".conllu" in name: rows = list(read_conllu(path))
        elif "wikineural" in name or "uner" in name: rows = list(read_conll(path, {"tokens": 1, "tags": 2}, "\t"))
        else: rows = list(read_conll(path, TWO, spaces_in_tokens="gsd" in name))
        assert len(rows) == int(row["sentences_or_lines"]) and sum(len(r["tokens"]) for r in rows) == int(row["tokens_ws"]), name
        if name.startswith("ner/"):
            stray = sum(len(illegal(r["tags"])) for r in rows)
            assert f"I-without-B:{stray}" in quirks.get(name, "") or not stray and "I-without-B" not in quirks.get(name, ""), name
        seen += 1
    assert seen > 80
