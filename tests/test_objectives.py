"""One contract over every objective; the small cases of each; Hugging Face's own losses; saved, resumed, refused."""
import math
from copy import deepcopy
from dataclasses import replace
from functools import lru_cache

import pytest
import torch
from tiny import tokenizer
from transformers import ElectraConfig, ElectraForPreTraining

from xlt_lib.data.errors import DataError
from xlt_lib.data.world import World
from xlt_lib.encoders.batches import IGNORE
from xlt_lib.encoders.detection import Detection, DetectionCollator, detection_loss, sample
from xlt_lib.encoders.masking import MASKED
from xlt_lib.encoders.masks import StaticCollator, WholeWordCollator, begins_word, word_starts
from xlt_lib.encoders.objectives import OBJECTIVES, objective
from xlt_lib.encoders.pairs import NextCollator, PairCollator, RestartCollator, dictionary, neighbours, ranking_loss, second_side
from xlt_lib.encoders.pretraining import Size, pretrain
from xlt_lib.encoders.recipe import Recipe
from xlt_lib.encoders.text import Text, world_text
from xlt_lib.encoders.training import train
from xlt_lib.encoders.transformer import new_encoder, open_encoder

RECIPE = Recipe(learning_rate=5e-3, steps=30, tokens=1024, rows=None, precision="fp32", threads=1)
SMALL = Size(layers=1, width=16, heads=2, vocabulary=300, max_length=64, tokens=1024, steps=6, learning_rate=2e-3)
QUIET = {"recipe": replace(RECIPE, steps=6), "bar": False, "say": lambda line: None}
each = pytest.mark.parametrize("name", OBJECTIVES)


@lru_cache
def text():
    whole = world_text(World(languages=("en", "sw")))
    return Text({code: s[:40] for code, s in whole.mono.items()}, {"en-sw": whole.parallel["en-sw"][60:100]})


def dice(seed=0): return torch.Generator().manual_seed(seed)


def built(name, width=32):
    encoder = new_encoder("xlm-roberta", tokenizer(), layers=1, width=width, heads=4, max_length=64)
    model, collate = objective(name).build(encoder, tokenizer(), 0)
    return model, collate, objective(name).rows(text(), tokenizer(), 64)


def losses(model, batch): return model(batch)["losses"]


# -- the contract ------------------------------------------------------------------------------------------------------
@each
def test_named_losses_are_finite_and_their_gradients_reach_the_encoder(name):
    model, collate, rows = built(name)
    told = losses(model.train(), collate(rows[:6] + rows[-6:], dice()))
    assert told and all(v.isfinite() and v.ndim == 0 for v in told.values())
    assert set(objective(name).weights) <= set(told)
    sum(told.values()).backward()
    assert model.model.get_input_embeddings().weight.grad.abs().sum() > 0
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for n, p in model.model.named_parameters() if "layer.0.attention.self.query.weight" in n)


@each
def test_the_dice_decide_everything(name):
    model, collate, rows = built(name)
    model.eval()
    one, same, other = (losses(model, collate(rows[:12] + rows[-12:], dice(k))) for k in (1, 1, 2))
    assert all(torch.equal(one[k], same[k]) for k in one)
    drawn = any(not torch.equal(one[k], other[k]) for k in one)
    assert drawn == (name not in ("ranking", "no-margin", "causal", "causal-both-ways"))        # these draw nothing


@each
def test_nothing_looks_at_padding(name):
    "Other ids where the mask says padding: the same losses, to the last bits."
    model, collate, rows = built(name)
    batch = collate(rows[:6] + rows[-6:], dice())
    told, changed = losses(model.eval(), batch), dict(batch)
    for ids, mask in (("input_ids", "attention_mask"), ("sides", "sides_mask")):
        if ids in batch and batch[mask].ndim == 2: changed[ids] = torch.where(batch[mask] == 0, 77, batch[ids])
    assert any(not torch.equal(changed[k], batch[k]) for k in ("input_ids", "sides") if k in batch)
    if "position_ids" not in changed:       # XLM-R counts positions by ids; say them, so that only the ids differ
        ids = batch["input_ids"]
        changed["position_ids"] = ((ids != 1).cumsum(1) * (ids != 1)) + 1
    for k, v in losses(model, changed).items(): assert abs(v - told[k]) < 1e-5, k


@each
def test_it_learns_a_text_that_repeats(name):
    model, collate, rows = built(name)
    rows = ([r for r in rows if r.get("masked") != "mlm"] or rows)[:12]
    run = train(model, rows, RECIPE, collate=collate, weights=objective(name).weights, bar=False, say=lambda line: None)
    for loss in {k for r in run.log for k in r.get("losses", ())} - {"next", "detection", "contrast"}:
        curve = run.curve(loss)
        assert sum(curve[-5:]) / 5 < sum(curve[:3]) / 3 - 0.1, loss


@each
def test_saved_and_opened_and_resumed_with_the_same_bits(name, tmp_path):
    "Ctrl-C at the fourth batch, called again: the encoder of the run that nobody disturbed. Its folder opens whatever it learnt from."
    made = pretrain(text(), tmp_path / "whole", SMALL, objective=objective(name), **QUIET)
    calls = iter(range(100))
    def build(encoder, tok, seed=0):
        model, collate = objective(name).build(encoder, tok, seed)
        def disturbed(rows, dice):
            if next(calls) == 3: raise KeyboardInterrupt
            return collate(rows, dice)
        return model, disturbed
    with pytest.raises(KeyboardInterrupt): pretrain(text(), tmp_path / "cut", SMALL, objective=replace(objective(name), build=build), **QUIET)
    again = pretrain(text(), tmp_path / "cut", SMALL, objective=objective(name), **QUIET)
    assert again.weights_hash == made.weights_hash == open_encoder(tmp_path / "whole").weights_hash
    other = OBJECTIVES["static" if name != "static" else "mlm"]
    with pytest.raises(DataError, match="learns from something else"): pretrain(text(), tmp_path / "whole", SMALL, objective=other, **QUIET)


# -- masks -------------------------------------------------------------------------------------------------------------
def test_static_masks_depend_on_the_row_alone():
    rows, collate = MASKED.rows(text(), tokenizer(), 64)[:10], StaticCollator(tokenizer(), copies=1)
    one, two = collate(rows, dice(1)), collate(rows[4:5], dice(9))
    n = two["input_ids"].shape[1]
    assert torch.equal(one["input_ids"][4, :n], two["input_ids"][0]) and torch.equal(one["labels"]["mlm"][4, :n], two["labels"]["mlm"][0])


def test_no_word_is_half_hidden():
    tok, rows = tokenizer(), MASKED.rows(text(), tokenizer(), 64)[:40]
    begins, partly = begins_word(tok), 0
    for seed in range(5):
        hidden = WholeWordCollator(tok, longest=64)(rows, dice(seed))["labels"]["mlm"] != IGNORE
        ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(r["input_ids"]) for r in rows], True, tok.pad_token_id)
        starts = word_starts(ids, begins, torch.isin(ids, torch.tensor(tok.all_special_ids)))
        assert torch.equal(hidden, hidden.gather(1, starts))
        partly += int(hidden.sum())
    assert partly > 50


def test_a_tokenizer_without_a_mask():
    bare = deepcopy(tokenizer())
    bare.mask_token = None
    with pytest.raises(DataError, match="without a mask token"): WholeWordCollator(bare)


# -- detection ---------------------------------------------------------------------------------------------------------
def test_detection_is_hugging_faces_loss():
    torch.manual_seed(0)
    theirs = ElectraForPreTraining(ElectraConfig(vocab_size=50, embedding_size=16, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)).eval()
    ids, real, labels = torch.randint(5, 50, (3, 9)), torch.arange(9) < torch.tensor([[9], [6], [4]]), torch.rand(3, 9) < 0.3
    told = theirs(input_ids=ids, attention_mask=real.long(), labels=labels.long())
    assert abs(told.loss - detection_loss(told.logits, labels, real)) < 1e-6


def test_samples_by_hand_and_a_right_guess_is_an_original():
    p = torch.tensor([[0.2, 0.5, 0.3]]).log()
    assert [int(sample(p, torch.tensor([u]))) for u in (0.0, 0.19, 0.21, 0.69, 0.71, 0.9999999)] == [0, 0, 1, 1, 2, 2]
    model = Detection(new_encoder("xlm-roberta", tokenizer(), layers=1, width=32)).eval()
    batch = DetectionCollator(tokenizer())(MASKED.rows(text(), tokenizer(), 64)[:8], dice())
    knowing = deepcopy(model)
    knowing.replace = lambda b: (torch.zeros(()), b["original"])        # a generator that is always right
    scores = knowing(batch)
    assert abs(scores["losses"]["detection"] - detection_loss(scores["scores"], torch.zeros_like(batch["original"]).bool(), batch["attention_mask"].bool())) < 1e-6
    assert model.generator.get_input_embeddings() is model.model.get_input_embeddings()


# -- pairs -------------------------------------------------------------------------------------------------------------
def test_ranking_by_hand():
    eye, same = torch.eye(2), torch.ones(2, 2)
    for x, margin, wanted in ((same, 0.0, math.log(2)), (eye, 0.0, math.log(1 + math.exp(-1))), (eye, 0.3, math.log(1 + math.exp(-0.7)))):
        assert abs(ranking_loss(x, x, margin, 1) - 2 * wanted) < 1e-5


def test_where_the_second_sentence_begins():
    rows = torch.tensor([[0, 7, 8, 2, 2, 9, 2, 1], [0, 7, 2, 9, 2, 1, 1, 1], [0, 7, 8, 2, 1, 1, 1, 1]])
    assert second_side(rows, 2).tolist() == [5, 3, 8]
    pair = {"input_ids": [0, 7, 8, 2, 2, 9, 2], "masked": "tlm"}
    assert RestartCollator(tokenizer())([pair], dice())["position_ids"].tolist() == [[2, 3, 4, 5, 6, 2, 3]]
    sides = PairCollator(tokenizer())([pair], dice())
    assert sides["sides"].tolist() == [[0, 7, 8, 2], [0, 9, 2, tokenizer().pad_token_id]] and sides["counts"]["ranking"] == 1


def test_half_of_the_pairs_are_true_and_the_others_are_of_the_same_language():
    lines = Text({c: text().mono[c] for c in ("en", "sw")}, {})
    rows, told = neighbours(lines, tokenizer(), 64), []
    for seed in range(60): told += NextCollator(tokenizer())(rows, dice(seed))["labels"]["next"].tolist()
    assert abs(sum(told) / len(told) - 0.5) < 5 * 0.5 / len(told) ** 0.5
    for e in rows: assert e["other"] != e["input_ids"] and e["other"][:3] == e["input_ids"][:3]       # the same first line
    half = {c: {tokenizer().decode(i, skip_special_tokens=True) for i in tokenizer()(lines.mono[c])["input_ids"]} for c in lines.mono}
    for e in rows:
        cut = int(second_side(torch.tensor([e["other"]]), tokenizer().sep_token_id))
        assert tokenizer().decode(e["other"][cut:], skip_special_tokens=True).strip() in {h.strip() for h in half[e["language"]]} or len(e["other"]) == 64


def test_a_dictionary_by_hand():
    toy = [("a dog", "mbwa"), ("a cat", "paka"), ("the dog", "mbwa"), ("the cat", "paka"), ("dog", "mbwa")]
    assert dictionary(toy, 2) == {"dog": "mbwa", "cat": "paka"}


# -- bad input ---------------------------------------------------------------------------------------------------------
@each
def test_what_is_needed_is_asked_for(name):
    mono, o = Text({"en": text().mono["en"][:5]}, {}), objective(name)
    if o.needs == "parallel":
        with pytest.raises(DataError, match="needs sentences with their translations"): o.rows(mono, tokenizer(), 64)
    else: assert o.rows(mono, tokenizer(), 64)
    for pair in (("One side.",), ("One side.", ""), ("a", "b", "c")):
        with pytest.raises(DataError, match=r"row 2 of en-sw .* is no pair"): o.rows(Text(mono.mono, {"en-sw": [("a", "b"), pair]}), tokenizer(), 64)


@each
def test_sentences_of_one_word(name):
    "Nothing breaks where there is next to nothing to hide."
    short = Text({"en": ["Yes.", "No.", "Go.", "Stop."] * 4}, {"en-sw": [("Yes.", "Ndiyo."), ("No.", "Hapana.")] * 8})
    model, collate, _ = built(name)
    run = train(model, objective(name).rows(short, tokenizer(), 64), replace(RECIPE, steps=3), collate=collate, weights={}, bar=False, say=lambda line: None)
    assert run.steps == 3


def test_a_wrong_name():
    with pytest.raises(DataError, match="no such objective.*Did you mean 'electra'"): objective("elektra")
