"""The one door: every kind of encoder opens, is what was saved, ignores padding; what does not fit is refused by name."""
import json
import re
import shutil

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from tiny import tokenizer
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from xlt_lib.data.errors import DataError
from xlt_lib.encoders import transformer
from xlt_lib.encoders.transformer import KINDS, lower_layers, new_encoder, open_encoder, quietly, weights_hash


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    "One folder a kind."
    root = tmp_path_factory.mktemp("encoders")
    for kind in KINDS: new_encoder(kind, tokenizer(), width=32).save(root / kind)
    return root


@pytest.fixture
def folder(saved, tmp_path): return shutil.copytree(saved / "xlm-roberta", tmp_path / "encoder")


def states(model, ids, mask):
    with torch.no_grad(): return model(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask)).last_hidden_state


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_opened_is_what_was_saved(saved, kind):
    new, opened = new_encoder(kind, tokenizer(), width=32), open_encoder(saved / kind)
    assert opened.weights_hash == new.weights_hash == weights_hash(opened.model)
    assert opened.weights_hash != new_encoder(kind, tokenizer(), width=32, seed=1).weights_hash
    assert opened.model.config.model_type == kind and (opened.width, opened.layers, opened.max_length) == (32, 2, 128)
    assert not opened.model.training and opened.model.dtype == torch.float32
    assert opened.tokenizer(["nurse", "calls"], is_split_into_words=True).word_ids()[1] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(saved, kind):
    model = open_encoder(saved / kind).model
    alone = states(model, [[0, 7, 8, 9, 2]], [[1] * 5])
    padded = states(model, [[0, 7, 8, 9, 2] + [1] * 11, [0] + list(range(5, 19)) + [2]], [[1] * 5 + [0] * 11, [1] * 16])
    assert torch.allclose(alone[0], padded[0, :5], atol=1e-5)
    unmasked = states(model, [[0, 7, 8, 9, 2] + [1] * 11], [[1] * 16])
    assert not torch.allclose(alone[0], unmasked[0, :5], atol=1e-3)    # so the test could have failed


@pytest.mark.parametrize("kind", KINDS)
def test_the_longest_input_fits(saved, kind):
    e = open_encoder(saved / kind)
    assert states(e.model, [[0] + [7] * (e.max_length - 2) + [2]], [[1] * e.max_length]).isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_lower_layers(saved, kind):
    model = open_encoder(saved / kind).model
    assert lower_layers(model, 0) == []
    lower = {id(p) for part in lower_layers(model, 1) for p in part.parameters()}
    assert id(model.get_input_embeddings().weight) in lower
    free = {id(p) for p in model.parameters()} - lower
    top = {id(p) for part in lower_layers(model, 2)[2:] for p in part.parameters()}
    assert top and top <= free                                        # the second layer stays free
    with pytest.raises(DataError, match="0 to 2"): lower_layers(model, 3)


def test_a_model_with_a_head_opens_as_the_encoder_in_it(tmp_path):
    model = AutoModelForMaskedLM.from_config(new_encoder("bert", tokenizer(), width=32).model.config)
    with quietly(): model.save_pretrained(tmp_path); tokenizer().save_pretrained(tmp_path)
    hashes = {open_encoder(tmp_path).weights_hash for _ in range(2)}
    assert len(hashes) == 1                              # a pooler of random numbers would make two of it
    assert hashes == {weights_hash(transformer.without_pooler(model.bert))}


def test_hash_sees_one_bit_and_nothing_else():
    one, two = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    two.load_state_dict(one.state_dict())
    assert weights_hash(one) == weights_hash(two)
    with torch.no_grad(): two.weight.view(torch.int32)[0, 0] ^= 1
    assert weights_hash(one) != weights_hash(two)


def test_what_is_saved_is_ordinary(saved):
    with quietly():
        assert AutoModel.from_pretrained(saved / "bert").config.hidden_size == 32
        assert len(AutoTokenizer.from_pretrained(saved / "bert")) == len(tokenizer())


# -- refusals ----------------------------------------------------------------------------------------------------------
def without_tokenizer(folder):
    for f in folder.glob("tokenizer*"): f.unlink()


def broken_tokenizer(folder): (folder / "tokenizer.json").write_text("{")


def other_vocabulary(folder): tokenizer(size=400).save_pretrained(folder)


def other_padding(folder): edit(folder / "config.json", pad_token_id=0)


def half_the_weights(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:len(whole) // 2])


def lost_tensor(folder):
    kept = {k: v for k, v in load_file(folder / "model.safetensors").items() if "layer.1.output.dense.weight" not in k}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def no_weights(folder): (folder / "model.safetensors").unlink()


def no_config(folder): (folder / "config.json").unlink()


def a_decoder(folder): edit(folder / "config.json", model_type="gpt2")


def an_encoder_decoder(folder): edit(folder / "config.json", model_type="bart")


def code_from_outside(folder):
    (folder / "evil.py").write_text("open('was_run', 'w')")
    edit(folder / "config.json", model_type="evil", auto_map={"AutoConfig": "evil.C", "AutoModel": "evil.M"})


def edit(path, **changes): path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("damage, message", [
    (without_tokenizer, "without a tokenizer.*tokenizer.json.*save_pretrained"), (broken_tokenizer, "cannot open this tokenizer"),
    (other_vocabulary, "does not fit.*ids up to.*embedding has 300 rows"), (other_padding, "does not fit.*padding id 1"),
    (half_the_weights, "cannot be read.*whole"), (lost_tensor, "1 tensors, such as encoder.layer.1.output.dense.weight"),
    (no_weights, "without weights.*model.safetensors"), (no_config, "not an encoder's folder"),
    (a_decoder, "not an encoder.*gpt2"), (an_encoder_decoder, "not an encoder.*bart"),
    (code_from_outside, "code from outside is never run")], ids=lambda x: getattr(x, "__name__", ""))
def test_what_does_not_fit_is_refused(folder, monkeypatch, damage, message):
    monkeypatch.chdir(folder)
    damage(folder)
    with pytest.raises(DataError, match=message) as e: open_encoder(folder)
    assert "\n" not in str(e.value) and not (folder / "was_run").exists()


class Trap:
    "A pickle that writes a file when somebody reads it."
    def __reduce__(self): return (open, ("was_run", "w"))


def test_pickles_are_never_read(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "model.safetensors").unlink()
    torch.save(Trap(), folder / "pytorch_model.bin")
    with pytest.raises(DataError, match="pickled weights.*convert"): open_encoder(folder)
    assert not (folder / "was_run").exists()


def test_the_conversion_that_the_message_proposes_works(folder):
    before = open_encoder(folder)
    torch.save(before.model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataError) as e: open_encoder(folder)
    with quietly(): exec(re.search(r'python -c "(.*)"$', str(e.value))[1])
    assert open_encoder(folder).weights_hash == before.weights_hash


def test_a_tokenizer_that_cannot_pad_is_refused(folder):
    edit(folder / "tokenizer_config.json", pad_token=None)
    with pytest.raises(DataError, match="without a padding token"): open_encoder(folder)


# -- the Hub -----------------------------------------------------------------------------------------------------------
@pytest.fixture
def cache(tmp_path, monkeypatch, saved):
    "A Hub cache that holds one encoder, and no network."
    commit = "0" * 40
    place = tmp_path / "hub/models--someone--tiny"
    shutil.copytree(saved / "bert", place / "snapshots" / commit)
    (place / "refs").mkdir(); (place / "refs/main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_a_name_is_found_in_the_cache_without_a_network(cache, saved):
    e = open_encoder("someone/tiny")
    assert e.name == "someone/tiny" and e.weights_hash == open_encoder(saved / "bert").weights_hash


def test_without_a_network_the_message_says_what_to_fetch(cache):
    with pytest.raises(DataError, match="not in the cache.*hf download someone/other --revision abc --local-dir FOLDER"):
        open_encoder("someone/other", revision="abc")
    with pytest.raises(DataError, match="no such folder"): open_encoder("results/no/such/folder")


def test_a_kind_that_is_not_there():
    with pytest.raises(DataError, match="Did you mean 'bert'"): new_encoder("brt", tokenizer())
