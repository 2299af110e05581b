"""One pass of the encoder, heads that keep to their own rows, freezing whatever the encoder is, and files that come back as they were."""
import json
import shutil

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from xlt_lib.data.errors import DataError
from xlt_lib.data.tasks import IOB2, UPOS
from xlt_lib.data.tokenizers import train_tokenizer
from xlt_lib.encoders.batches import IGNORE, Collator, encode_words
from xlt_lib.encoders.training import Recipe, train
from xlt_lib.encoders.transformer import KINDS, new_encoder, open_encoder
from xlt_lib.transfer import multitask
from xlt_lib.transfer.adversarial import Discriminator
from xlt_lib.transfer.heads import MaskedHead, SentenceHead, TokenHead
from xlt_lib.transfer.multitask import MultiTaskModel, load_model

SENTENCES = ["Amina anaishi Kano sasa", "Lindiwe uhlala eThekwini namuhla", "Wole Soyinka lọ sí Abẹ́òkúta", "mtoto anakula samaki", "mo mu omi"]
WORDS = [s.split() for s in SENTENCES]
MOODS, LANGUAGES = ("negative", "neutral", "positive"), ("sw", "zu", "yo")
QUICK = Recipe(learning_rate=1e-3, steps=2, threads=1, precision="fp32")


@pytest.fixture(scope="module")
def tokenizer(): return train_tokenizer(SENTENCES * 4, "bpe", size=120)


def make(tokenizer, kind="xlm-roberta", layers=2, names=("ner", "pos", "mood", "mlm", "language"), scale=0.5):
    torch.manual_seed(0)
    encoder = new_encoder(kind, tokenizer, layers=layers, width=32, heads=2)
    heads = {"ner": lambda: TokenHead(32, IOB2), "pos": lambda: TokenHead(32, UPOS), "mood": lambda: SentenceHead(32, MOODS),
             "mlm": lambda: MaskedHead(encoder.model.get_input_embeddings()),
             "language": lambda: Discriminator(32, LANGUAGES, hidden=8, scale=scale, schedule="ganin")}
    return MultiTaskModel(encoder, {name: heads[name]() for name in names})


def examples(tokenizer):
    "Five rows: entities; parts of speech; entities and a mood; a hidden word; nothing but a language."
    rows = encode_words(tokenizer, WORDS)
    words = lambda i, numbers: [IGNORE if w == IGNORE else numbers[w] for w in rows[i]["words"]]
    hidden = [IGNORE] * len(rows[3]["input_ids"]); hidden[2] = rows[3]["input_ids"][2]
    rows[3] = rows[3] | {"input_ids": [tokenizer.mask_token_id if j == 2 else x for j, x in enumerate(rows[3]["input_ids"])]}
    labels = [{"ner": words(0, [1, 0, 3, 0])}, {"pos": words(1, [11, 15, 11, 2])}, {"ner": words(2, [1, 2, 0, 0, 3]), "mood": 1}, {"mlm": hidden}, {}]
    return [row | {"labels": told | {"language": k}} for row, told, k in zip(rows, labels, (0, 1, 2, 0, 2))]


def batch(tokenizer, keep=range(5)): return Collator(tokenizer.pad_token_id)([examples(tokenizer)[i] for i in keep])


@pytest.mark.parametrize("names", [("ner",), ("ner", "pos"), ("ner", "pos", "mood", "mlm", "language")])
def test_one_pass_of_the_encoder_however_many_heads(tokenizer, names):
    model, passes = make(tokenizer, names=names), []
    model.encoder.register_forward_hook(lambda *told: passes.append(1))
    b = batch(tokenizer)
    losses = model(b | {"labels": {k: v for k, v in b["labels"].items() if k in names}})["losses"]
    assert set(losses) == set(names) and len(passes) == 1 and all(loss.ndim == 0 for loss in losses.values())


def test_a_head_hears_only_the_rows_that_have_its_labels(tokenizer):
    model = make(tokenizer).eval()
    whole, some = model(batch(tokenizer))["losses"], model(batch(tokenizer, [0, 2]))["losses"]
    assert torch.allclose(whole["ner"], some["ner"], atol=1e-5) and torch.allclose(whole["mood"], some["mood"], atol=1e-5)
    assert set(some) == {"ner", "mood", "language"}                # no loss where the batch has no labels at all
    assert not torch.allclose(whole["language"], some["language"])


def test_the_adversary_is_turned_round_in_the_encoder_and_lambda_follows_the_progress(tokenizer):
    "The language loss alone: at progress 0 the encoder hears nothing; later −λ times what it would hear without the layer."
    model, b = make(tokenizer).eval(), batch(tokenizer)
    b = b | {"labels": {"language": b["labels"]["language"]}}
    weight = model.encoder.get_input_embeddings().weight
    grad = lambda progress: torch.autograd.grad(model(b | {"progress": progress})["losses"]["language"], weight)[0]
    head = model.heads["language"]
    plain = torch.autograd.grad(torch.nn.functional.cross_entropy(head.layers(multitask_pool(model, b)), b["labels"]["language"]), weight)[0]
    assert not grad(0.0).any() and plain.any()
    for progress in (0.1, 1.0):
        turned = grad(progress)
        assert torch.allclose(turned, -head.strength * plain, atol=1e-7) and 0 < head.strength <= 0.5
    assert model(b)["losses"] and head.progress == 1.0             # outside of training, all of λ is in force


def multitask_pool(model, b):
    from xlt_lib.transfer.heads import mean_pool
    return mean_pool(model.states(b), b["attention_mask"])


def test_in_turns_the_discriminator_moves_alone_and_then_stands_still(tokenizer):
    model, b = make(tokenizer, names=("ner", "language")).eval(), batch(tokenizer, (0, 4))
    model.update = "alternating"
    grads = {}
    for step in (0, 1):
        model.zero_grad()
        losses = model(b | {"step": step, "progress": 1.0})["losses"]
        sum(losses.values()).backward()
        grads[step] = {n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}
        assert set(losses) == ({"language"} if step == 0 else {"ner", "language"})
    moves = lambda step, part: any(g is not None and g.any() for n, g in grads[step].items() if n.startswith(part))
    assert [moves(s, part) for s in (0, 1) for part in ("encoder", "heads.ner", "heads.language")] == [False, False, True, True, True, False]
    model.update = "reversal"; model.zero_grad()
    sum(model(b | {"step": 1, "progress": 1.0})["losses"].values()).backward()
    for n, p in model.named_parameters():
        if grads[1][n] is not None: assert torch.equal(p.grad, grads[1][n]), n
        elif grads[0][n] is not None: assert torch.allclose(p.grad, grads[0][n]), n


def test_the_loop_tells_a_model_whose_turn_it_is(tokenizer):
    model = make(tokenizer, names=("ner", "language"))
    model.update = "alternating"
    rows = [e | {"labels": {k: v for k, v in e["labels"].items() if k in ("ner", "language")}} for e in examples(tokenizer)]
    done = train(model, rows, Recipe(learning_rate=1e-3, steps=4, threads=1, precision="fp32"), collate=Collator(tokenizer.pad_token_id), say=lambda line: None)
    assert [sorted(r["losses"]) for r in done.log if "losses" in r] == [["language"], ["language", "ner"]] * 2


def test_in_its_turn_a_discriminator_reads_no_row_but_its_own(tokenizer):
    model, seen = make(tokenizer, names=("ner", "language")).eval(), []
    model.update = "alternating"
    b = batch(tokenizer, (0, 2, 4))
    b["labels"] = {name: b["labels"][name] for name in ("ner", "language")}
    b["labels"]["language"][1] = IGNORE
    model.encoder.register_forward_hook(lambda module, args, kwargs, out: seen.append(len(kwargs["input_ids"])), with_kwargs=True)
    loss = model(b | {"step": 0})["losses"]["language"]
    assert seen == [2] and model({**b, "labels": {"ner": b["labels"]["ner"]}, "step": 0})["losses"] == {} and seen == [2]
    model.update = "reversal"
    assert torch.allclose(model(b)["losses"]["language"], loss, atol=1e-6)


def test_an_unknown_way_to_update_is_refused(tokenizer):
    with pytest.raises(DataError, match="unknown way to update.*alternating"): MultiTaskModel(new_encoder("xlm-roberta", tokenizer, layers=1, width=16), {}, "alternate")


@pytest.mark.parametrize("kind", KINDS)
def test_the_loop_freezes_the_lower_layers_of_every_kind_of_encoder(tokenizer, kind):
    model = make(tokenizer, kind, layers=3)
    was = {n: p.clone() for n, p in model.named_parameters()}
    recipe = Recipe(learning_rate=1e-3, steps=2, frozen_layers=2, threads=1, precision="fp32")
    train(model, examples(tokenizer), recipe, collate=Collator(tokenizer.pad_token_id), say=lambda line: None)
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, was[n])}
    stays = [n for n in was if n.startswith("encoder.") and ("embeddings" in n or ".0." in n.replace("encoder.encoder", "") or "layer.1." in n or "layers.1." in n)]
    assert stays and not moved & set(stays), sorted(moved & set(stays))
    assert any(".2." in n for n in moved) and {n.split(".")[1] for n in moved if n.startswith("heads")} == set(model.heads)
    assert all(p.requires_grad for p in model.parameters())        # thawed again after the run


def test_every_loss_reaches_the_weights_through_the_loop(tokenizer):
    model = make(tokenizer)
    record = train(model, examples(tokenizer) * 4, QUICK, collate=Collator(tokenizer.pad_token_id), say=lambda line: None, weights={"pos": 0.5})
    assert set(record.log[0]["losses"]) == set(model.heads)


def test_lambda_zero_leaves_the_encoder_exactly_as_without_a_discriminator(tokenizer):
    "The control is a control: with λ = 0 and no clipping, the encoder ends bit for bit where it ends without the head."
    ends = []
    for names in (("ner",), ("ner", "language")):
        model = make(tokenizer, names=names, scale=0.0)
        rows = [e | {"labels": {k: v for k, v in e["labels"].items() if k in names}} for e in (examples(tokenizer)[i] for i in (0, 2))]
        recipe = Recipe(learning_rate=1e-3, steps=3, clip=1e9, threads=1, precision="fp32")
        train(model, rows, recipe, collate=Collator(tokenizer.pad_token_id), say=lambda line: None)
        ends.append(model.encoder.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(ends[0].values(), ends[1].values()))


def test_predictions_are_one_a_word_in_order_and_do_not_depend_on_the_batch(tokenizer):
    model = make(tokenizer).train()
    all_at_once, one_by_one = model.predict(WORDS, "ner"), [model.predict([w], "ner")[0] for w in WORDS]
    assert [len(t) for t in all_at_once] == [len(w) for w in WORDS] and all_at_once == one_by_one
    assert model.predict(WORDS, "ner", tokens=30) == all_at_once and model.training
    assert set(model.predict(SENTENCES, "mood")) <= set(MOODS) and set(model.predict(WORDS, "language")) <= set(LANGUAGES)
    assert model.predict([], "ner") == []
    long = model.predict([["Kano"] * 300], "ner")[0]               # longer than the encoder reads: still one a word
    assert len(long) == 300 and long[-1] == "O"


def test_what_does_not_fit_is_refused(tokenizer):
    model, b = make(tokenizer, names=("ner",)), batch(tokenizer)
    with pytest.raises(DataError, match="labels without a head"): model(b)
    with pytest.raises(DataError, match="no such head.*ner"): model.predict(WORDS, "nre")
    with pytest.raises(DataError, match="a list of words"): model.predict(SENTENCES, "ner")
    with pytest.raises(DataError, match="without labels to predict"): make(tokenizer, names=("mlm",)).predict(WORDS, "mlm")
    with pytest.raises(DataError, match="does not fit the encoder"): MultiTaskModel(new_encoder("bert", tokenizer), {"ner": TokenHead(768, IOB2)})


# -- keeping -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_comes_back_as_it_was(tokenizer, tmp_path, kind):
    model, b = make(tokenizer, kind).eval(), batch(tokenizer)
    model.save(tmp_path / "m")
    again = load_model(tmp_path / "m")
    for name, loss in model(b)["losses"].items(): assert torch.equal(loss, again(b)["losses"][name]), name
    assert again.predict(WORDS, "ner") == model.predict(WORDS, "ner") and again.heads["ner"].labels == IOB2
    assert (again.heads["language"].scale, again.heads["language"].schedule) == (0.5, "ganin")
    assert again.heads["mlm"].tied[0] is again.encoder.get_input_embeddings()       # shared, not a copy


def test_only_safetensors_and_json_are_written_and_others_can_read_the_encoder(tokenizer, tmp_path):
    make(tokenizer).save(tmp_path / "m")
    files = [p for p in (tmp_path / "m").rglob("*") if p.is_file()]
    assert {p.suffix for p in files} == {".json", ".safetensors"}
    assert open_encoder(tmp_path / "m/encoder").width == AutoModel.from_pretrained(tmp_path / "m/encoder").config.hidden_size
    assert len(AutoTokenizer.from_pretrained(tmp_path / "m/encoder")) == len(tokenizer)
    assert list(tmp_path.iterdir()) == [tmp_path / "m"]


def test_saving_replaces_a_model_but_nothing_else(tokenizer, tmp_path):
    model = make(tokenizer)
    model.save(tmp_path / "m"); model.heads["ner"].linear.bias.data += 1; model.save(tmp_path / "m")
    assert torch.equal(load_model(tmp_path / "m").heads["ner"].linear.bias, model.heads["ner"].linear.bias)
    (tmp_path / "thesis").mkdir(); (tmp_path / "thesis/chapter.txt").write_text("three years")
    with pytest.raises(DataError, match="something else"): model.save(tmp_path / "thesis")
    assert (tmp_path / "thesis/chapter.txt").read_text() == "three years"


def test_a_full_disk_leaves_the_old_model_whole(tokenizer, tmp_path, monkeypatch):
    model = make(tokenizer)
    model.save(tmp_path / "m")
    def full(*told, **more): raise OSError(28, "No space left on device")
    monkeypatch.setattr(multitask, "save_file", full)
    with pytest.raises(DataError, match="is the disk full"): model.save(tmp_path / "m")
    assert list(tmp_path.iterdir()) == [tmp_path / "m"] and load_model(tmp_path / "m")


def spoil(about=None, heads=None):
    def do(folder):
        if about: (folder / "model.json").write_text(json.dumps(about(json.loads((folder / "model.json").read_text()))))
        if heads: (folder / "heads.safetensors").write_bytes(heads((folder / "heads.safetensors").read_bytes()))
    return do


@pytest.mark.parametrize("break_it, message", [
    (lambda f: (f / "model.json").unlink(), "not a model's folder"),
    (lambda f: (f / "model.json").write_text("{"), "not a model's folder"),
    (lambda f: (f / "heads.safetensors").unlink(), "weights cannot be read"),
    (lambda f: shutil.rmtree(f / "encoder"), "encoder"),
    (lambda f: (f / "encoder/model.safetensors").rename(f / "encoder/pytorch_model.bin"), "pickled weights"),
    (spoil(heads=lambda b: b[:len(b) // 2]), "weights cannot be read"),
    (spoil(about=lambda a: a | {"version": 99}), "another format"),
    (spoil(about=lambda a: a | {"heads": {"ner": {"kind": "Pickle"}}}), "unknown kind of head"),
    (spoil(about=lambda a: a | {"heads": {"ner": {"kind": "TokenHead", "size": 32, "labels": ["O", "B-PER"]}}}), "weights cannot be read"),
    (spoil(about=lambda a: a | {"heads": {"ner": {"kind": "TokenHead", "width": 32}}}), "cannot be made of this"),
    (spoil(about=lambda a: a | {"heads": {"ner": {"kind": "TokenHead", "size": 64, "labels": ["O", "B-PER"]}}}), "does not fit the encoder"),
])
def test_a_broken_folder_is_explained(tokenizer, tmp_path, break_it, message):
    make(tokenizer, names=("ner",)).save(tmp_path / "m")
    break_it(tmp_path / "m")
    with pytest.raises(DataError, match=message): load_model(tmp_path / "m")
