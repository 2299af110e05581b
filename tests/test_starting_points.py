"""Starting points: who lends an embedding to whom, layers that say the same, a teacher's entropy, and what is refused."""
import math
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax
from tiny import rows, tokenizer
from torch.nn import functional as F
from transformers import AutoModel, BertConfig, BertModel

from xlt_lib.data.errors import DataError
from xlt_lib.data.tokenizers import train_tokenizer
from xlt_lib.encoders.masking import MASKED, masked_examples
from xlt_lib.encoders.pretraining import Size, first_model, pretrain
from xlt_lib.encoders.recipe import Recipe
from xlt_lib.encoders.starting_points import (Distilled, borrow_embeddings, distill_loss, distillation, embeddings_from_vectors, grow, neighbour_weights,
                                              subword_vectors)
from xlt_lib.encoders.text import Text
from xlt_lib.encoders.training import train
from xlt_lib.encoders.transformer import Encoder, new_encoder, weights_hash
from xlt_lib.words.vectors import Vectors

SMALL = Size(layers=1, width=16, heads=2, vocabulary=300, max_length=64, tokens=512, steps=6, learning_rate=5e-3)
QUIET = {"bar": False, "say": lambda line: None}


def recipe(steps=6, **more): return Recipe(**{"learning_rate": 5e-3, "steps": steps, "tokens": 512, "rows": None, "precision": "fp32", "threads": 1, **more})


def text(n=60): return Text({"en": [" ".join(r["tokens"]) for r in rows("en", n)]}, {})


def fresh(layers=1, width=16, seed=0, t=None, kind="xlm-roberta"): return new_encoder(kind, t or tokenizer(), layers=layers, width=width, heads=2, max_length=64, dropout=0.0, seed=seed)


@pytest.fixture(scope="module")
def taught(tmp_path_factory) -> Encoder:
    "A minute encoder that has learnt for a few steps, in its folder, with its head."
    return pretrain(text(), tmp_path_factory.mktemp("taught") / "encoder", SMALL, start=fresh(), recipe=recipe(30), **QUIET)


@lru_cache
def words(seed=0):
    "A vector for each word of the text, in no order that means anything."
    names = sorted({w.lower() for r in rows("en", 60) for w in r["tokens"]})
    return Vectors(tuple(names), np.random.default_rng(seed).normal(size=(len(names), 8)))


def batch_of(collate, n=16, seed=0): return collate(masked_examples(text(n), tokenizer(), 64), torch.Generator().manual_seed(seed))


def states(encoder, hidden=True):
    ids = torch.tensor([[0, 7, 9, 11, 30, 2], [0, 5, 6, 2, 1, 1]])
    with torch.no_grad(): return encoder.model.eval()(input_ids=ids, attention_mask=(ids != 1).long(), output_hidden_states=True).hidden_states


# -- from words to subwords --------------------------------------------------------------------------------------------
def test_a_subword_is_the_weighted_mean_of_its_words():
    "Recomputed word by word from the tokenizer's own cuts, the slow way."
    t, v = tokenizer(), words()
    made, piece = subword_vectors(t, v), t.tokenize(v.words[3])[0]
    in_it = [(1 / (r + 1), v.matrix[r]) for r, w in enumerate(v.words) for form in (w, w.capitalize()) if piece in t.tokenize(form)]
    assert np.allclose(made[t.convert_tokens_to_ids(piece)], sum(a * x for a, x in in_it) / sum(a for a, _ in in_it), atol=1e-5)
    assert not made[t.all_special_ids].any() and made.dtype == np.float32 and made.shape == (len(t), 8)


def test_capitals_count_too():
    t = train_tokenizer(["The the That that"] * 3, kind="bpe", size=20, coverage=1.0)
    made = subword_vectors(t, Vectors(("the",), [[1.0, 2.0]]))
    for form in ("the", "The"): assert np.allclose(made[t.convert_tokens_to_ids(t.tokenize(form))], [1.0, 2.0])


def test_vectors_that_do_not_fit():
    with pytest.raises(DataError, match="one space"): subword_vectors(tokenizer(), words(), Vectors(("a",), [[1.0]]))
    with pytest.raises(DataError, match="no word"): subword_vectors(tokenizer(), Vectors(("漢字",), [[1.0]]))
    with pytest.raises(DataError, match="two spaces"): neighbour_weights(np.ones((1, 2)), np.ones((1, 3)))
    with pytest.raises(DataError, match="no old subword"): neighbour_weights(np.ones((1, 2)), np.zeros((1, 2)))
    with pytest.raises(DataError, match="temperature"): neighbour_weights(np.ones((1, 2)), np.ones((1, 2)), temperature=0)


# -- WECHSEL -----------------------------------------------------------------------------------------------------------
def test_three_subwords_by_hand():
    ids, weights = neighbour_weights(np.array([[2.0, 0]]), np.array([[1.0, 0], [0, 1], [-1, 0]]), 2, 1.0)
    assert ids.tolist() == [[0, 1]] and np.allclose(weights, [[math.e / (math.e + 1), 1 / (math.e + 1)]])


def test_weights_are_the_papers():
    "Against scipy's softmax over all cosines, sorted: the slow way."
    dice = np.random.default_rng(0)
    new, old = dice.normal(size=(20, 6)), dice.normal(size=(50, 6))
    new[4] = old[7] = 0
    ids, weights = neighbour_weights(new, old)
    unit = lambda m: m / np.maximum(np.linalg.norm(m, axis=1, keepdims=True), 1e-12)
    cosine = unit(new) @ unit(old).T
    cosine[:, 7] = -9       # has no direction and lends nothing
    for i in range(20):
        order = np.argsort(-cosine[i])[:10]
        if i == 4: assert not weights[i].any()
        else: assert ids[i].tolist() == order.tolist() and np.allclose(weights[i], softmax(cosine[i, order] / 0.1), atol=1e-4)


def test_the_same_tokenizer_gives_the_same_embeddings():
    "With one neighbour exactly, with ten at a low temperature nearly, at a high one no longer."
    old, start = subword_vectors(tokenizer(), words()), fresh()
    _, which, times = np.unique(old.round(5), axis=0, return_inverse=True, return_counts=True)
    alone, own = (times[which.ravel()] == 1) & old.any(1), start.model.get_input_embeddings().weight.detach()
    assert alone.sum() > 80
    near = lambda k, t: F.cosine_similarity(borrow_embeddings(start, tokenizer(), old, old, k, t).model.get_input_embeddings().weight.detach()[alone], own[alone]).mean()
    one = borrow_embeddings(start, tokenizer(), old, old, 1).model.get_input_embeddings().weight.detach()
    assert torch.allclose(one[alone], own[alone], atol=1e-6)
    assert near(10, 0.02) > 0.95 > near(10, 10.0)


def test_a_new_tokenizer_keeps_the_layers_and_the_roles():
    "Another vocabulary's size, the encoder's own layers, special subwords in their roles, the rest by the weights or from the normal distribution."
    other = tokenizer(250)
    old, new = subword_vectors(tokenizer(), words()), subword_vectors(other, words())
    start = fresh(2)
    made = borrow_embeddings(start, other, old, new)
    own, rows_ = start.model.get_input_embeddings().weight.detach(), made.model.get_input_embeddings().weight.detach()
    assert made.model.config.vocab_size == len(other) == len(rows_) and made.tokenizer is other
    for role in ("pad", "mask", "cls"): assert torch.equal(rows_[getattr(other, f"{role}_token_id")], own[getattr(tokenizer(), f"{role}_token_id")])
    before, after = start.model.state_dict(), made.model.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before if "word_embeddings" not in k)
    ids, weights = neighbour_weights(new, old)
    i = int(np.flatnonzero(weights.any(1))[9])
    assert torch.allclose(rows_[i], sum(float(w) * own[j] for j, w in zip(ids[i], weights[i])), atol=1e-5)
    assert weights_hash(borrow_embeddings(start, other, old, new).model) == made.weights_hash != weights_hash(borrow_embeddings(start, other, old, new, seed=1).model)
    assert weights_hash(start.model) == start.weights_hash      # the start is as it was


def test_pretraining_goes_on_from_borrowed_embeddings(tmp_path, taught):
    other = tokenizer(250)
    start = borrow_embeddings(taught, other, subword_vectors(tokenizer(), words()), subword_vectors(other, words()))
    made = pretrain(text(), tmp_path / "sw", SMALL, start=start, recipe=recipe(), **QUIET)
    assert made.model.config.vocab_size == len(other) and AutoModel.from_pretrained(tmp_path / "sw").config.vocab_size == len(other)


def test_borrowing_refuses_what_does_not_fit():
    old = subword_vectors(tokenizer(), words())
    with pytest.raises(DataError, match="old vectors"): borrow_embeddings(fresh(), tokenizer(), old[:-1], old)
    with pytest.raises(DataError, match="new vectors"): borrow_embeddings(fresh(), tokenizer(250), old, old)


# -- embeddings from vectors -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("wide", [8, 24])
def test_word_vectors_become_embeddings(wide):
    "Cosines survive a turn to more numbers; the spread is that of random embeddings; what has no vector stays."
    v = Vectors(words().words, np.random.default_rng(1).normal(size=(len(words()), wide)))
    vectors, start = subword_vectors(tokenizer(), v), fresh()
    own, made = (e.model.get_input_embeddings().weight.detach() for e in (start, embeddings_from_vectors(start, vectors)))
    has = vectors.any(1)
    assert torch.equal(made[~has], own[~has]) and not torch.equal(made[has], own[has])
    assert abs(made[has].std() / own.std() - 1) < 0.05
    unit = lambda m: m / np.linalg.norm(m, axis=1, keepdims=True)
    centred, found = unit(vectors[has] - vectors[has].mean(0)), unit(made[has].numpy())
    if wide <= 16: assert np.allclose(found @ found.T, centred @ centred.T, atol=1e-4)
    else: assert np.corrcoef((found @ found.T).ravel(), (centred @ centred.T).ravel())[0, 1] > 0.9
    with pytest.raises(DataError, match="one a subword"): embeddings_from_vectors(start, vectors[1:])


# -- growing -----------------------------------------------------------------------------------------------------------
def test_the_lower_layers_stay_and_the_upper_repeat_them(taught):
    two = grow(taught, 3)
    before, after = states(taught), states(two)
    assert two.layers == 3 and all(torch.equal(a, b) for a, b in zip(before, after[:2]))
    assert not torch.allclose(after[-1], before[-1], atol=0.05)
    layers = two.model.encoder.layer
    assert all(torch.equal(a, b) for a, b in zip(layers[0].parameters(), layers[2].parameters())) and layers[0] is not layers[2]
    five = grow(fresh(2), 5).model.encoder.layer       # the pattern 0 1 0 1 0
    for i, k in enumerate((0, 1, 0, 1, 0)): assert torch.equal(five[i].output.dense.weight, five[k].output.dense.weight)
    assert not torch.equal(five[0].output.dense.weight, five[1].output.dense.weight)
    assert weights_hash(taught.model) == taught.weights_hash and grow(taught, 1).weights_hash == taught.weights_hash


def test_a_quiet_encoder_says_what_the_small_one_said(taught):
    "Though the norms have gains and shifts far from 1 and 0, and in training mode with dropout as well."
    with torch.no_grad():
        for p in taught.model.encoder.layer[0].output.LayerNorm.parameters(): p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    try:
        for layers in (2, 4): assert torch.allclose(states(grow(taught, layers, quiet=True))[-1], states(taught)[-1], atol=1e-3)
        assert not torch.allclose(states(grow(taught, 2))[-1], states(taught)[-1], atol=0.1)
    finally: taught.model.load_state_dict(AutoModel.from_pretrained(taught.name).state_dict(), strict=False)


def test_quiet_layers_learn(taught):
    "Zeros put out nothing but have a gradient: after two steps every weight of the new layer has moved."
    model, collate = first_model(tokenizer(), SMALL, MASKED, grow(taught, 2, quiet=True))
    before = {n: p.clone() for n, p in model.model.base_model.encoder.layer[1].named_parameters()}
    train(model, masked_examples(text(), tokenizer(), 64), recipe(3), collate=collate, **QUIET)
    for n, p in model.model.base_model.encoder.layer[1].named_parameters():
        if "key.bias" not in n: assert not torch.equal(p, before[n]), n      # a key's bias never matters to a softmax


def test_growing_keeps_the_head_and_the_loss(taught):
    "A quiet encoder's first loss is the small one's last."
    losses = []
    for start in (taught, grow(taught, 3, quiet=True)):
        model, collate = first_model(tokenizer(), SMALL, MASKED, start, seed=5)
        with torch.no_grad(): losses.append(float(model.eval()(batch_of(collate))["losses"]["mlm"]))
    assert abs(losses[0] - losses[1]) < 1e-3


def test_bert_grows_too_and_others_are_refused():
    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, max_position_embeddings=32)
    small = Encoder(BertModel(config, add_pooling_layer=False).eval(), tokenizer(), "bert", "")
    ids = torch.arange(5, 15)[None]
    with torch.no_grad(): assert torch.allclose(grow(small, 3, quiet=True).model(ids).last_hidden_state, small.model(ids).last_hidden_state, atol=1e-4)
    with pytest.raises(DataError, match="not grown here"): grow(fresh(kind="distilbert"), 2)
    with pytest.raises(DataError, match="layers"): grow(fresh(2), 1)


# -- a teacher ---------------------------------------------------------------------------------------------------------
def test_distill_loss_is_cross_entropy_and_its_least_is_the_entropy():
    "Against PyTorch's own divergence: cross-entropy is entropy and divergence."
    dice = torch.Generator().manual_seed(0)
    s, t = torch.randn(7, 30, generator=dice), torch.randn(7, 30, generator=dice)
    for temperature in (1.0, 2.0, 5.0):
        p = (t / temperature).softmax(-1)
        entropy = -(p * p.log()).sum(-1).mean()
        divergence = F.kl_div((s / temperature).log_softmax(-1), p, reduction="batchmean")
        assert abs(distill_loss(s, t, temperature) - temperature**2 * (entropy + divergence)) < 1e-4
        assert abs(distill_loss(t, t, temperature) - temperature**2 * entropy) < 1e-4


def test_a_model_that_teaches_itself(taught):
    "T² × the entropy, no gradient from it, and no distance between the states."
    model, collate = first_model(tokenizer(), SMALL, distillation(taught, 3.0, states=True), taught)
    assert isinstance(model, Distilled)
    batch = batch_of(collate)
    losses = model.eval()(batch)["losses"]
    scores = model.model.lm_head(model.states(batch)[batch["labels"]["mlm"] != -100])
    entropy = torch.distributions.Categorical(logits=scores / 3.0).entropy().mean()
    assert abs(losses["distill"] - 9 * entropy) < 1e-3 and abs(losses["states"]) < 1e-5
    losses["distill"].backward()
    assert max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None) < 1e-4


def test_the_counts_are_those_of_the_places(taught):
    _, collate = distillation(taught).build(fresh(), tokenizer())
    batch = batch_of(collate)
    assert batch["counts"]["distill"] == batch["counts"]["mlm"] == int((batch["labels"]["mlm"] != -100).sum())
    assert batch["counts"]["states"] == int(batch["attention_mask"].sum())


def test_pretraining_with_a_teacher(tmp_path, taught):
    "Through `pretrain`, the same twice; the teacher neither learns nor is saved; the student comes nearer to it."
    was = weights_hash(taught.model)
    a, b = (pretrain(text(), tmp_path / n, SMALL, objective=distillation(taught), start=fresh(seed=3), recipe=recipe(25), **QUIET) for n in "ab")
    assert a.weights_hash == b.weights_hash and weights_hash(taught.model) == was
    assert set(a.model.state_dict()) == set(taught.model.state_dict())
    model, _ = distillation(taught).build(fresh(), tokenizer())
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in first_model(tokenizer(), SMALL, MASKED, fresh())[0].parameters())
    batch = batch_of(distillation(taught).build(fresh(), tokenizer())[1], seed=9)
    before, after, least = (first_model(tokenizer(), SMALL, distillation(taught), e)[0].eval()(batch)["losses"]["distill"].item() for e in (fresh(seed=3), a, taught))
    assert after - least < 0.7 * (before - least), (before, after, least)      # the teacher's own loss is the least there is


def test_another_teacher_in_the_same_folder_is_refused(tmp_path, taught):
    other = replace(taught, weights_hash="0" * 64)
    pretrain(text(), tmp_path / "a", SMALL, objective=distillation(taught), start=fresh(), recipe=recipe(2), **QUIET)
    with pytest.raises(DataError, match="learns from something else"): pretrain(text(), tmp_path / "a", SMALL, objective=distillation(other), start=fresh(), recipe=recipe(2), **QUIET)


def test_teachers_that_cannot_teach(taught):
    with pytest.raises(DataError, match="without the head"): distillation(fresh())
    with pytest.raises(DataError, match="another tokenizer"): distillation(taught).build(fresh(t=tokenizer(250)), tokenizer(250))
    with pytest.raises(DataError, match="two widths"): distillation(taught, states=True).build(fresh(width=32), tokenizer())
    with pytest.raises(DataError, match="temperature"): distillation(taught, 0)
    assert Path(taught.name).is_dir()
