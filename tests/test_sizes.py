"""The paper's size: what it costs is said and agreed to first; what is here is not asked for; half a file is no file."""
import io
import json
import socket

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import COMMIT, hub_of, run_with_hub
from tiny import tokenizer

from xlt_lib.data.errors import DataError
from xlt_lib.encoders.transformer import new_encoder
from xlt_lib.reproduction import sizes
from xlt_lib.reproduction.experiments import Cell
from xlt_lib.reproduction.reproduce import settings_for
from xlt_lib.reproduction.sizes import PAPER_DATA, PAPER_ENCODER, SHAPES, agree, downloads, hours, operations, plan, weights_of

TABLE1 = settings_for([1], source="hub", datasets=list(PAPER_DATA), encoder_name=PAPER_ENCODER)[1]
FEW = [Cell("multilingual", 0, TABLE1), Cell("monolingual", 0, TABLE1, "sw")]


@pytest.fixture
def nothing(tmp_path, monkeypatch):
    "An empty cache, and a network that must not be asked."
    from huggingface_hub import constants
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    def never(*_, **__): raise AssertionError("the network was asked")
    monkeypatch.setattr(socket.socket, "connect", never)
    monkeypatch.setattr(socket, "create_connection", never)
    monkeypatch.setattr(socket, "getaddrinfo", never)
    return tmp_path / "hub"


def parquet(**columns):
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def test_weights_are_those_of_the_real_shape():
    import torch
    from transformers import AutoConfig, AutoModel
    shape = SHAPES[PAPER_ENCODER]
    config = AutoConfig.for_model("xlm-roberta", vocab_size=shape["subwords"], hidden_size=shape["width"], num_hidden_layers=shape["layers"], num_attention_heads=12,
                                  intermediate_size=shape["inner"], max_position_embeddings=shape["positions"], type_vocab_size=1)
    with torch.device("meta"): model = AutoModel.from_config(config, add_pooling_layer=False)
    assert sum(weights_of(**shape).values()) == sum(p.numel() for p in model.parameters())


def test_what_would_be_fetched_is_named_with_what_is_known_of_its_size(nothing):
    wanted, lacking = downloads(FEW)
    found = {d.name: d for d in wanted}
    assert not lacking and set(found) == {PAPER_ENCODER, "wikiann", "masakhaner2"} and not any(d.here for d in wanted)
    assert found[PAPER_ENCODER].bytes == 4 * sum(weights_of(**SHAPES[PAPER_ENCODER]).values()) and found["wikiann"].bytes is None
    text, fetches = plan(FEW)
    assert fetches and "1.11 GB" in text and "size not known" in text and "and what is not known" in text and "A100" in text and "withdrawn" in text and "no Hebrew" in text


def test_more_work_takes_longer():
    one, two = Cell("multilingual", 0, TABLE1), Cell("multitask", 0, TABLE1)
    assert operations(two, SHAPES[PAPER_ENCODER]) > operations(one, SHAPES[PAPER_ENCODER]) > operations(Cell("monolingual", 0, TABLE1, "sw"), SHAPES[PAPER_ENCODER])
    assert hours([one] * 10) == pytest.approx(10 * hours([one])) and 0 < hours([one]) < 1
    by_hand = 6 * 85_054_464 * 35 * 400 * 32        # a run of 400 steps, learning alone
    assert by_hand < operations(Cell("monolingual", 0, TABLE1, "en"), SHAPES[PAPER_ENCODER]) < 3 * by_hand


def test_withdrawn_data_are_told_before_anything_is_fetched(nothing):
    table2 = settings_for([2], source="hub", datasets=list(PAPER_DATA), encoder_name=PAPER_ENCODER)[2]
    with pytest.raises(DataError, match="sentiment.*withdrawn.*nollysenti"): plan([Cell("multilingual", 0, table2)])
    named = settings_for([2], source="hub", datasets=["sentiment=amazon_reviews"], encoder_name=PAPER_ENCODER)[2]
    assert "amazon_reviews" in plan([Cell("multilingual", 0, named)])[0]
    table3 = settings_for([3], source="hub", datasets=list(PAPER_DATA), encoder_name=PAPER_ENCODER)[3]
    with pytest.raises(DataError, match="en-he"): plan([Cell("multilingual", 0, table3)])


def test_nobody_to_ask_ends_it_and_no_is_no(nothing, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))      # a pipe is nobody
    with pytest.raises(DataError, match="Add --yes"): agree(FEW, say=lambda text: None)
    for answer in ("", "n", "nein", "yess"):
        with pytest.raises(DataError, match="not agreed"): agree(FEW, say=lambda text: None, ask=lambda question, said=answer: said)
    for answer in ("y", " YES "): agree(FEW, say=lambda text: None, ask=lambda question, said=answer: said)
    said = []
    agree(FEW, yes=True, say=said.append, ask=None)
    assert "To fetch" in said[0]


def cached(cache, kind, name, files, ref="main"):
    "A repository in the cache, as the Hub's client lays it out."
    place = cache / f"{kind}s--{name.replace('/', '--')}"
    for path, content in files.items():
        file = place / "snapshots" / COMMIT / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (place / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
    (place / "refs" / ref).write_text(COMMIT)


def test_what_is_here_is_not_asked_about_and_nothing_asks_the_network(nothing, tmp_path):
    "All in the cache: the plan, the encoder and the corpora are opened while every socket raises."
    from xlt_lib.encoders.transformer import open_encoder
    from xlt_lib.reproduction.material import Corpora
    new_encoder("xlm-roberta", tokenizer(), layers=1, width=16).save(tmp_path / "enc")
    cached(nothing, "model", PAPER_ENCODER, {f.name: f.read_bytes() for f in (tmp_path / "enc").iterdir()})
    rows = parquet(tokens=[["Amina", "runs"]] * 10, ner_tags=[["B-PER", "O"]] * 10)
    cached(nothing, "dataset", "unimelb-nlp/wikiann", {f"{c}/{s}-00000-of-00001.parquet": rows for c in ("en", "es", "fr", "de", "it", "pt", "sw", "yo") for s in ("train", "validation", "test")})
    cached(nothing, "dataset", "masakhane/masakhaner2", {f"zul/{s}/0000.parquet": rows for s in ("train", "validation", "test")}, "refs/convert/parquet")
    said = []
    agree(FEW, say=said.append, ask=lambda question: pytest.fail("asked"))
    assert said[0].count("in the cache") == 3 and "To fetch: 0 MB." in said[0]
    assert open_encoder(PAPER_ENCODER).layers == 1
    assert {len(Corpora(TABLE1).rows("ner", code, "test")) for code in ("sw", "zu")} == {10}


def test_the_world_and_a_folder_fetch_nothing():
    for source in ("world", "local"):
        cell = Cell("multitask", 0, settings_for([1], source=source)[1])
        assert downloads([cell]) == ([], []) and not plan([cell])[1]


# ---- downloads that break off, from a server on this machine

FETCH = """
from xlt_lib.data.hub import fetch
from xlt_lib.data.registry import registry
try: print([f.name for f in fetch(registry()["masakhaner2"], "yo", "train")[0]])
except Exception as e: print(type(e).__name__, e)
"""


def test_half_a_data_set_is_not_taken_for_a_whole_one(tmp_path):
    "Two parts without numbers in their names; the second breaks off. It is told, not there offline, and the next call fetches what is missing and no more."
    first, second = (f"yor/train/{n:04d}.parquet" for n in range(2))
    files = {first: parquet(tokens=[["a"]], ner_tags=[[0]]), second: parquet(tokens=[[str(i)] for i in range(2000)], ner_tags=[[0]] * 2000)}
    with hub_of(files, breaks_off=[second]) as (address, _):
        _, out, _ = run_with_hub(FETCH, tmp_path, address)
        assert "OSError fetching masakhane/masakhaner2 failed" in out and "Run the same command again" in out
    assert "is not here" in run_with_hub(FETCH, tmp_path)[1]
    with hub_of(files) as (address, asked):
        assert "['0000.parquet', '0001.parquet']" in run_with_hub(FETCH, tmp_path, address)[1]
        assert [a for a in asked if a.startswith("GET") and first in a] == [] and [a for a in asked if a.startswith("GET") and second in a]
    assert run_with_hub(FETCH, tmp_path)[1].strip() == "['0000.parquet', '0001.parquet']"
    with hub_of(files) as (address, asked):
        run_with_hub(FETCH, tmp_path, address)
        assert asked == []      # a network is there, and nobody asks it


OPEN = """
from xlt_lib.encoders.transformer import open_encoder
try: print(open_encoder("xlm-roberta-base").layers)
except Exception as e: print(type(e).__name__, e)
"""


def test_half_an_encoder_is_not_taken_for_a_whole_one(tmp_path):
    "The tokenizer comes, the weights break off: no random numbers, and no traceback from the depths."
    new_encoder("xlm-roberta", tokenizer(), layers=1, width=16).save(tmp_path / "enc")
    files = {f.name: f.read_bytes() for f in (tmp_path / "enc").iterdir()}
    with hub_of(files, breaks_off=["model.safetensors"]) as (address, _):
        assert "OSError fetching xlm-roberta-base failed" in run_with_hub(OPEN, tmp_path / "cache", address)[1]
    assert "DataError no such folder, and the encoder is not in the cache" in run_with_hub(OPEN, tmp_path / "cache")[1]
    with hub_of(files) as (address, asked):
        assert run_with_hub(OPEN, tmp_path / "cache", address)[1].strip() == "1" and "model.safetensors" in json.dumps(asked)


def test_the_assumptions_stand_in_the_plan(nothing):
    text = plan(FEW)[0]
    for number in (f"{sizes.USED:.0%}", f"{sizes.PEAK / 1e12:.0f}", f"{sizes.START:.0f} s"): assert number in text
