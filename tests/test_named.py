"""Encoders by name: two processes and one cache, what is kept in the package, and that no tested sentence was read."""
import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import REAL, ROOT, needs_real
from safetensors.torch import load_file, save_file
from test_pretraining import QUIET, SMALL, text
from transformers import AutoModel, AutoModelForMaskedLM

import xlt_lib
from xlt_lib.data.corpora import load
from xlt_lib.data.duplicates import key, texts
from xlt_lib.data.errors import DataError
from xlt_lib.data.registry import registry
from xlt_lib.encoders import named, pretraining
from xlt_lib.encoders.named import FREE, KEPT, encoder, real_text, kept_encoders, model_card, ship
from xlt_lib.encoders.pretraining import pretrain, saved_head
from xlt_lib.encoders.text import folder_text
from xlt_lib.evaluation.encoder_report import Amounts, gather


# -- the cache ---------------------------------------------------------------------------------------------------------
def tiny_is_small(patch=setattr):
    "`encoder(\"tiny\")` with a size and a text for tests."
    patch(named, "SIZES", {"tiny": SMALL})
    patch(named, "the_world", lambda: None)
    patch(named, "world_text", lambda world: text())
    patch(named, "_made_of", lambda: "00000000")


SLOW = """
import sys, time; sys.path.insert(0, "tests")
import test_named as t
t.tiny_is_small()
from xlt_lib.encoders.masking import MaskingCollator
whole = MaskingCollator.__call__
def slowly(self, rows, dice): time.sleep(0.1); return whole(self, rows, dice)
MaskingCollator.__call__ = slowly
t.encoder("tiny", threads=1, bar=False)
"""


@pytest.mark.parametrize("end", ["finished", "killed"])
def test_two_processes_ask_at_once(tmp_path, monkeypatch, end):
    "One pre-trains. The other waits, and then reads; or goes on from the checkpoint of one that was killed."
    monkeypatch.setenv("XLT_CACHE", str(tmp_path))
    tiny_is_small(monkeypatch.setattr)
    child = subprocess.Popen([sys.executable, "-c", SLOW], cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    folder, deadline = tmp_path / "tiny-00000000", time.monotonic() + 90
    while not list(folder.glob("training/checkpoints/checkpoint-*")):
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    lines = []
    def say(line):
        lines.append(line)
        if end == "killed" and "waiting" in line: child.send_signal(signal.SIGKILL)
    if end == "finished": monkeypatch.setattr(pretraining, "train", None)              # this process must not train
    made = encoder("tiny", threads=1, bar=False, say=say)
    assert f"waiting for {folder}" in lines[0] and child.wait() == (0 if end == "finished" else -signal.SIGKILL)
    if end == "killed": assert any("goes on after step" in line for line in lines)
    else: assert lines[1:] == []
    assert json.loads((folder / "pretraining.json").read_text())["steps"] == 12
    monkeypatch.setattr(named, "pretrain", None)
    assert encoder("tiny").weights_hash == made.weights_hash and encoder(folder).weights_hash == made.weights_hash


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    tiny_is_small(monkeypatch.setattr)
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XLT_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="cache cannot be written to.*Set XLT_CACHE"): encoder("tiny")


def test_where_the_cache_is(monkeypatch, tmp_path):
    for name in ("XLT_CACHE", "XDG_CACHE_HOME"): monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert named.cache_folder() == tmp_path / ".cache/xlt_lib"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x"); assert str(named.cache_folder()) == "/x/xlt_lib"
    monkeypatch.setenv("XLT_CACHE", "/y"); assert str(named.cache_folder()) == "/y"


def test_the_name_in_the_cache_follows_the_code_and_not_its_comments(tmp_path):
    def digest(code):
        d = hashlib.sha256()
        (tmp_path / "m.py").write_text(code)
        named._add(d, tmp_path / "m.py")
        return d.hexdigest()
    assert digest("# %% one\nx = 1\n") == digest("# %% two\nx = 1\n") != digest("# %% one\nx = 2\n")
    assert len(named._made_of()) == 8 and named._made_of() == named._made_of()


# -- what is kept in the package -----------------------------------------------------------------------------------------
def test_every_text_of_the_kept_encoder_is_free():
    "By the registry: no non-commercial licence, none that is unknown or asks for more than a name or the same licence."
    for name in FREE:
        row = registry()[name]
        assert not row.non_commercial and row.licence.startswith(("CC0", "CC BY", "public domain", "LGPL-LR")), name
        assert not any(word in row.licence for word in ("NC", "ND", "unknown", "other")), name


def test_the_kept_encoder_is_small_and_opens_anywhere():
    folder = KEPT / "twenty"
    assert "twenty" in kept_encoders() and sum(f.stat().st_size for f in folder.iterdir()) < 15e6
    ours = xlt_lib.encoder("twenty")
    assert sum(p.numel() for p in ours.model.parameters()) <= 7_000_000 and next(ours.model.parameters()).dtype == torch.float32
    theirs = AutoModel.from_pretrained(folder, dtype=torch.float32, add_pooling_layer=False).eval()
    coded = ours.tokenizer(["Mwalimu anasoma.", "你好"], padding=True, return_tensors="pt")
    with torch.no_grad(): assert torch.equal(ours.model(**coded).last_hidden_state, theirs(**coded).last_hidden_state)
    about = json.loads((folder / "pretraining.json").read_text("utf-8"))
    assert ours.weights_hash == about["weights"]
    assert all(t.dtype == torch.float16 for t in load_file(folder / "model.safetensors").values())


SAID = ["I don't want to go home.", "She is a very good teacher.", "We have to go to the city.", "He said that he was tired.", "Do you know where Tom is?", "They were in the house.",
        "Ninataka kwenda nyumbani.", "Mtoto anasoma kitabu shuleni.", "Watu wengi wanaishi katika mji huo.", "Nchi yetu ina watu wengi sana.", "Serikali ya nchi hiyo ilisema kuwa watu ni wengi."]


def test_the_kept_encoder_kept_its_head():
    "At hidden places it says more than frequencies would: the mean loss is below that of its own mean distribution, in each language."
    lm, ours = AutoModelForMaskedLM.from_pretrained(KEPT / "twenty", dtype=torch.float32).eval(), encoder("twenty")
    assert saved_head(ours) is not None
    for lines in (SAID[:6], SAID[6:]):
        scores, gold = [], []
        for ids in ours.tokenizer(lines)["input_ids"]:
            for at in range(1, len(ids) - 1):
                hidden = torch.tensor([ids[:at] + [ours.tokenizer.mask_token_id] + ids[at + 1:]])
                with torch.no_grad(): scores.append(lm(hidden).logits[0, at].softmax(0))
                gold.append(ids[at])
        told, gold = torch.stack(scores), torch.tensor(gold)
        places = torch.arange(len(gold))
        assert -told[places, gold].log().mean() < -told.mean(0)[gold].log().mean() - 0.2


def test_the_card_is_made_of_the_record():
    card = model_card("twenty")
    assert (KEPT / "twenty/README.md").read_text("utf-8") == card
    for part in ("license: cc-by-sa-4.0", "## What it has read", "## What it cost", "## Its limits", "## What it must not be used for", *FREE): assert part in card
    with pytest.raises(DataError, match="no such encoder is kept here.*'thirty'.*twenty"): model_card("thirty")


@needs_real
def test_every_data_set_of_it_has_something_to_read():
    "Each adds sentences or pairs to the same five lines a language of another (a `Text` of pairs alone is refused)."
    def lines(*names): return sum(r["sentences"] for r in folder_text(list(xlt_lib.languages()), REAL, list(names), most=5).sizes())
    beside = {name: "udhr" if name != "udhr" else "common_voice_2021" for name in FREE}
    assert set(beside.values()) <= set(FREE)
    for name, other in beside.items(): assert lines(name, other) > lines(other) > 0, name


@needs_real
def test_no_tested_sentence_was_read():
    """The text is made again from the corpora: as many rows as the record has, the same fingerprint; and not one of the sentences that the report
    tests on, read by another way than the filter's."""
    told, about = real_text(REAL), json.loads((KEPT / "twenty/pretraining.json").read_text("utf-8"))
    assert told.fingerprint() == about["fingerprint"]
    assert {r["text"]: r["lines"] for r in about["text"]} == {r["text"]: r["sentences"] for r in told.sizes()}
    read = {key(s) for rows in told.mono.values() for s in rows} | {key(s) for rows in told.parallel.values() for pair in rows for s in pair}
    material = gather(list(xlt_lib.languages()), REAL, amounts=Amounts(few=0, test=10**6, pairs=10**6))
    said = [r["text"] if "text" in r else " ".join(r["tokens"]) for rows in material.tests.values() for part in rows.values() for r in part]
    said += [s for rows in material.pairs.values() for pair in rows for s in pair]
    for name, task, split in (("masakhapos", "pos", "test"), ("ntrex128", "mt", "test"), ("tico19", "mt", "all")):
        for code in ("sw", "yo", "zu"):
            language = code if task == "pos" else f"en-{code}"
            if registry()[name].serves(language): said += [s if isinstance(s, str) else " ".join(s) for column in texts(load(task, language, split, REAL, name)).values() for s in column]
    assert len(said) > 100_000 and not read & set(map(key, said))


# -- packing -------------------------------------------------------------------------------------------------------------
def test_packing(tmp_path):
    made = pretrain(text(), tmp_path / "whole", SMALL, **QUIET)
    small = ship(tmp_path / "whole", tmp_path / "small", {"fingerprint": "abc"})
    told = json.loads((tmp_path / "small/pretraining.json").read_text())
    assert told["fingerprint"] == "abc" and told["weights"] == small.weights_hash != made.weights_hash
    assert (tmp_path / "small/model.safetensors").stat().st_size < 0.6 * (tmp_path / "whole/model.safetensors").stat().st_size
    for (name, a), b in zip(made.model.state_dict().items(), small.model.state_dict().values()):
        assert b.dtype == a.dtype and torch.allclose(a, b, rtol=2**-11, atol=2**-25), name
    assert saved_head(small).keys() == saved_head(made).keys()
    with pytest.raises(DataError, match="something else is in this place"): ship(tmp_path / "whole", tmp_path / "small")
    with pytest.raises(DataError, match="not a finished encoder's folder"): ship(tmp_path, tmp_path / "other")
    (tmp_path / "whole/model.safetensors").write_bytes(b"half")
    with pytest.raises(DataError, match="an encoder's folder that cannot be read"): ship(tmp_path / "whole", tmp_path / "third")
    assert not (tmp_path / "third").exists()


def test_weights_that_do_not_fit_are_refused_before_anything_is_written(tmp_path):
    pretrain(text(), tmp_path / "whole", SMALL, **QUIET)
    weights = load_file(tmp_path / "whole/model.safetensors")
    weights["lm_head.bias"][3] = -7e4
    save_file(weights, tmp_path / "whole/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match="float16 cannot hold.*lm_head.bias"): ship(tmp_path / "whole", tmp_path / "small")
    assert not (tmp_path / "small").exists()
