"Text on disk: what comes back, what is kept away, what a kill leaves, in which order it is read, and what a bad file or folder is told."
import json
import subprocess
import sys
from collections import Counter

import pytest
import torch
from conftest import REAL, needs_real

from xlt_lib.data.duplicates import key
from xlt_lib.data.errors import DataError
from xlt_lib.data.tokenizers import open_tokenizer, train_tokenizer
from xlt_lib.data.world import the_world
from xlt_lib.encoders import store as module
from xlt_lib.encoders.batches import Batches
from xlt_lib.encoders.masking import MaskingCollator
from xlt_lib.encoders.store import Store, build_store, draw, shares

said = {c: [s.text for s in the_world().sentences(c, "unlabelled")[:n]] for c, n in (("en", 150), ("sw", 90), ("yo", 20))}
QUIET = dict(max_length=24, bar=False)


@pytest.fixture(scope="module")
def tokenizer(): return train_tokenizer([t for rows in said.values() for t in rows], size=600, max_length=24)


@pytest.fixture
def texts(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for code, rows in said.items(): (folder / f"{code}.txt").write_text("\n".join(rows), "utf-8")
    (folder / "en-sw.tsv").write_text("\n".join(f"{a}\t{b}" for a, b in zip(said["en"], said["sw"])), "utf-8")
    return folder


def rows_of(store, name): return [store.parts[name][i] for i in range(len(store.parts[name]))]


def test_every_row_comes_back_as_the_tokenizer_makes_it(texts, tokenizer, tmp_path):
    store = build_store(tmp_path / "s", tokenizer, [texts], [texts], **QUIET)
    for code in said:
        expected = [ids for t in said[code] for ids in tokenizer(t, truncation=True, max_length=24, return_overflowing_tokens=True)["input_ids"]]
        assert rows_of(store, code) == list(map(list, dict.fromkeys(map(tuple, expected))))
    assert rows_of(store, "en-sw")[3] == tokenizer(said["en"][3], said["sw"][3], truncation=True, max_length=24)["input_ids"]
    assert [s["lines"] for s in store.sizes()] == [150, 90, 90, 20] and store.parts["yo"].lengths.tolist() == list(map(len, rows_of(store, "yo")))


def test_long_lines_are_cut_into_rows_and_nothing_is_lost(texts, tokenizer, tmp_path):
    (texts / "yo.txt").write_text(" ".join(said["yo"]), "utf-8")
    store = build_store(tmp_path / "s", tokenizer, [texts / "yo.txt"], **QUIET)
    inside = [n for r in rows_of(store, "yo") for n in r if n not in tokenizer.all_special_ids]
    assert inside == [n for n in tokenizer(" ".join(said["yo"]), add_special_tokens=False)["input_ids"] if n not in tokenizer.all_special_ids]
    assert max(map(len, rows_of(store, "yo"))) == 24


def test_held_out_and_doubled_sentences_are_not_read(texts, tokenizer, tmp_path):
    (texts / "sw.txt").write_text("\n".join([*said["sw"], said["sw"][0]]), "utf-8")
    away = {key(said["sw"][5]), key(said["en"][7].upper())}
    store = build_store(tmp_path / "s", tokenizer, [texts], [texts], away=away, **QUIET)
    read = {name: {tokenizer.decode(r, skip_special_tokens=True) for r in rows_of(store, name)} for name in store.parts}
    whole = lambda t: tokenizer.decode(tokenizer(t)["input_ids"], skip_special_tokens=True)
    assert whole(said["sw"][5]) not in read["sw"] and whole(said["en"][7]) not in read["en"] and whole(said["sw"][6]) in read["sw"]
    assert {s["text"]: s["kept away"] for s in store.sizes()} == {"en": 1, "en-sw": 2, "sw": 1, "yo": 0}
    assert Counter(map(tuple, rows_of(store, "sw"))).most_common(1)[0][1] == 1


def test_a_killed_call_goes_on_and_leaves_what_an_undisturbed_one_does(texts, tokenizer, tmp_path, monkeypatch):
    whole = build_store(tmp_path / "whole", tokenizer, [texts], [texts], **QUIET)
    monkeypatch.setattr(module, "LINES", 40)
    real, calls = module._pieces, []

    def dies(*given):
        calls.append(1)
        if len(calls) == 6: raise KeyboardInterrupt
        return real(*given)
    monkeypatch.setattr(module, "_pieces", dies)
    with pytest.raises(KeyboardInterrupt): build_store(tmp_path / "s", tokenizer, [texts], [texts], **QUIET)
    assert list(Store(tmp_path / "s").parts) == ["en"] and (tmp_path / "s/sw.ids").stat().st_size > 0      # it had begun
    store = build_store(tmp_path / "s", tokenizer, [texts], [texts], **QUIET)
    assert {n: rows_of(store, n) for n in store.parts} == {n: rows_of(whole, n) for n in whole.parts}
    assert [(tmp_path / "s" / f.name).read_bytes() == f.read_bytes() for f in sorted((tmp_path / "whole").glob("*.ids"))] == [True] * 4


def test_called_again_it_reads_nothing_twice_and_takes_new_files(texts, tokenizer, tmp_path, monkeypatch):
    one = build_store(tmp_path / "s", tokenizer, [texts], **QUIET)
    tokenizer("x", truncation=True, max_length=5)           # leaves its mark in the tokenizer, but makes it no other
    (texts / "more.sw.txt").write_text("Sentensi mpya kabisa.", "utf-8")
    two = build_store(tmp_path / "s", tokenizer, [texts], **QUIET)
    assert len(two.parts["sw"]) == len(one.parts["sw"]) + 1 and rows_of(two, "en") == rows_of(one, "en")


def test_every_row_is_read_once_before_any_is_read_twice(texts, tokenizer, tmp_path):
    store = build_store(tmp_path / "s", tokenizer, [texts], **QUIET)
    wanted = [shares(store, 60 + 7 * e, 0.3) for e in range(12)]
    read = {n: [] for n in store.parts}
    for e in range(12):
        d = draw(store, wanted[:e + 1], seed=3)
        assert len(d) == sum(wanted[e].values()) and d.lengths.tolist() == [len(d[i]["input_ids"]) for i in range(len(d))]
        for i, n in enumerate(d.names): read[n] += d.rows[d.which == i].tolist()
    for n, rows in read.items():
        size = len(store.parts[n])
        for k in range(0, len(rows) - size + 1, size): assert sorted(rows[k:k + size]) == list(range(size))
    assert len(read["yo"]) > 3 * len(store.parts["yo"]) and read["en"] != sorted(read["en"])


def test_the_order_depends_on_the_seed_and_not_on_the_process(texts, tokenizer, tmp_path):
    store = build_store(tmp_path / "s", tokenizer, [texts], **QUIET)
    order = lambda seed: draw(store, [shares(store, 50, 0.5)] * 2, seed).rows.tolist()
    assert order(1) == order(1) != order(2)
    program = f"from xlt_lib.encoders.store import *; s = Store({str(tmp_path / 's')!r}); print(draw(s, [shares(s, 50, 0.5)] * 2, 1).rows.tolist())"
    assert json.loads(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout) == order(1)


def test_batches_are_those_of_the_same_rows_in_memory(texts, tokenizer, tmp_path):
    store = build_store(tmp_path / "s", tokenizer, [texts], [texts], **QUIET)
    drawn = draw(store, [shares(store, 80, 0.5)])
    here, there = (Batches(rows, MaskingCollator(tokenizer), 256, seed=1) for rows in (drawn, list(drawn)))
    assert here.plan(2) == there.plan(2) and here.fingerprint() == there.fingerprint()
    one, two = (b.batch(b.plan(0)[0], 0, 0) for b in (here, there))
    assert torch.equal(one["input_ids"], two["input_ids"]) and {n: v.tolist() for n, v in one["labels"].items()} == {n: v.tolist() for n, v in two["labels"].items()}


def test_what_a_bad_text_or_folder_is_told(texts, tokenizer, tmp_path):
    build_store(tmp_path / "s", tokenizer, [texts], **QUIET)
    other = train_tokenizer(said["sw"], size=300, max_length=24)
    with pytest.raises(DataError, match="a store with another tokenizer"): build_store(tmp_path / "s", other, [texts], **QUIET)
    with pytest.raises(DataError, match="a store with another max_length: found 24, expected 16"): build_store(tmp_path / "s", tokenizer, [texts], max_length=16, bar=False)
    with pytest.raises(DataError, match="a tokenizer that does not fit the store"): Store(tmp_path / "s").fits(other)
    (texts / "en.txt").write_text("changed", "utf-8")
    with pytest.raises(DataError, match="a file that has changed since"): build_store(tmp_path / "s", tokenizer, [texts], **QUIET)
    with pytest.raises(DataError, match="something else is in this place"): build_store(texts, tokenizer, [texts / "sw.txt"], **QUIET)
    with pytest.raises(DataError, match="not a store of this version"): Store(texts)
    (texts / "ha.txt").write_bytes("Ina kwana\nlafiya\n".encode() + "ƙ".encode("utf-16"))
    with pytest.raises(DataError, match=r"ha\.txt:3: not UTF-8"): build_store(tmp_path / "t", tokenizer, [texts / "ha.txt"], **QUIET)
    (texts / "ig.txt").write_text("\n \n", "utf-8")
    with pytest.raises(DataError, match="no text in this file"): build_store(tmp_path / "u", tokenizer, [texts / "ig.txt"], **QUIET)
    (texts / "en-yo.tsv").write_text("a\tb\nc\n", "utf-8")
    with pytest.raises(DataError, match="tsv:2: a row with too few or too many fields"): build_store(tmp_path / "v", tokenizer, [texts / "sw.txt"], [texts / "en-yo.tsv"], **QUIET)
    store = Store(tmp_path / "s")
    with pytest.raises(DataError, match="no such language in this store: found 'swa'.*sw"): draw(store, [{"swa": 3}])
    with pytest.raises(DataError, match="fewer rows than languages: found 2"): shares(store, 2, 0.5)
    (tmp_path / "s/sw.ids").unlink()
    with pytest.raises(DataError, match="a part of the store is missing"): Store(tmp_path / "s")


def test_a_language_of_which_every_line_is_tested_on(texts, tokenizer, tmp_path):
    with pytest.raises(DataError, match="a language without text: found 'yo'"):
        build_store(tmp_path / "s", tokenizer, [texts], away=set(map(key, said["yo"])), **QUIET)


def test_a_full_disk_is_said_and_the_same_call_goes_on(texts, tokenizer, tmp_path):
    program = f"""
import resource, signal
from xlt_lib.data.errors import DataError
from xlt_lib.data.tokenizers import open_tokenizer
from xlt_lib.encoders.store import build_store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
try: build_store({str(tmp_path / 's')!r}, open_tokenizer({str(tmp_path / 'tok')!r}), [{str(texts)!r}], max_length=24, bar=False)
except DataError as e: print(e)
"""
    tokenizer.save_pretrained(tmp_path / "tok")
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "could not be written: is the disk full?" in told and "call again" in told
    store = build_store(tmp_path / "s", open_tokenizer(tmp_path / "tok"), [texts], **QUIET)
    assert len(store.parts["en"]) == len(build_store(tmp_path / "fresh", tokenizer, [texts], **QUIET).parts["en"])


@needs_real
def test_real_text(tokenizer, tmp_path):
    import gzip
    source = next(p for p in sorted((REAL / "mono/udhr/sw").iterdir()))
    text = (gzip.open if source.suffix == ".gz" else open)(source, "rt", encoding="utf-8").read()
    (tmp_path / "sw.txt.gz").write_bytes(gzip.compress(text.encode()))
    store = build_store(tmp_path / "s", tokenizer, [tmp_path / "sw.txt.gz"], **QUIET)
    assert store.sizes()[0]["lines"] == sum(bool(line.strip()) for line in text.splitlines()) > 40
