"""Three stages and three tricks: the published formulas, groups of the optimizer, what stands still, and a kill half-way through the unfreezing."""
import json
import math
from dataclasses import asdict, replace

import pytest
import torch
from tiny import Tagger, examples, rows, tokenizer
from torch import nn

from xlt_lib.data.errors import DataError
from xlt_lib.encoders.batches import Collator
from xlt_lib.encoders.checkpoints import checkpoints
from xlt_lib.encoders.gradual import TRICKS, Classifier, classify, read, three_views
from xlt_lib.encoders.recipe import Recipe, adamw, layers_from_below, levels, rate, set_rate
from xlt_lib.encoders.recurrent import new_recurrent
from xlt_lib.encoders.training import train
from xlt_lib.encoders.transformer import KINDS, new_encoder, weights_hash

RECIPE = Recipe(learning_rate=1e-2, epochs=5, rows=8, precision="fp32", threads=1)
QUIET = {"say": lambda line: None, "bar": False}
LABELLED = [{"text": " ".join(r["tokens"]), "label": "long" if len(r["tokens"]) > 8 else "short"} for r in rows("en", 32)]
LSTM = lambda: new_recurrent(tokenizer(), layers=2, width=16)
TRANSFORMER = lambda: new_encoder("xlm-roberta", tokenizer(), layers=2, width=16)


@pytest.mark.parametrize("total, cut_frac, ratio", [(200, 0.1, 32), (50, 0.2, 10), (10, 0.5, 2)])
def test_the_slanted_triangle_is_the_published_formula(total, cut_frac, ratio):
    cut = math.floor(total * cut_frac)
    for t in range(total):
        p = t / cut if t < cut else 1 - (t - cut) / (cut * (1 / cut_frac - 1))
        assert math.isclose(rate(t, total, cut_frac, "slanted", ratio), (1 + p * (ratio - 1)) / ratio)


def test_the_shapes_stay_between_nought_and_one_in_short_runs():
    for shape in ("linear", "slanted", "constant"):
        for total in range(1, 40): assert all(0 < rate(t, total, 0.1, shape) <= 1 for t in range(total)), (shape, total)
    assert [rate(t, 4, 0.5, "constant") for t in range(4)] == [0.5, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("kind", [*KINDS, "recurrent"])
def test_each_weight_is_in_one_group_with_its_layers_rate(kind):
    encoder = LSTM() if kind == "recurrent" else new_encoder(kind, tokenizer(), layers=3, width=16)
    model = Classifier(encoder, ("a", "b"))
    optimizer = adamw(model, replace(RECIPE, layer_decay=1 / 2.6, weight_decay=0.1))
    set_rate(optimizer, 0.01)
    of = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert len(of) == sum(len(g["params"]) for g in optimizer.param_groups) == len(list(model.parameters()))
    stack = layers_from_below(model)
    for depth, layer in enumerate(reversed(stack), 1):
        for p in layer.parameters(): assert math.isclose(of[id(p)][0], 0.01 / 2.6 ** depth) and of[id(p)][1] == 0.1 * (p.ndim > 1)
    for p in model.top.parameters(): assert of[id(p)][0] == 0.01
    assert encoder.model.get_input_embeddings().weight is next(p for p in stack[0].parameters() if p.shape[0] == len(tokenizer()))


def test_without_the_tricks_the_optimizer_is_as_it_was():
    "Two groups, matrices first, in the model's order: what a checkpoint of an optimizer counts on."
    model = Tagger()
    groups = adamw(model, RECIPE).param_groups
    assert [[id(p) for p in g["params"]] for g in groups] == [[id(p) for p in model.parameters() if (p.ndim > 1) == matrix] for matrix in (True, False)]
    set_rate(optimizer := adamw(model, RECIPE), 0.3)
    assert {g["lr"] for g in optimizer.param_groups} == {0.3}


@pytest.mark.parametrize("make", [LSTM, TRANSFORMER])
@pytest.mark.parametrize("every, epochs, expected", [(1, 1, 1), (1, 3, 3), (2, 3, 2), (1, 4, 4)])
def test_so_many_levels_have_moved(make, every, epochs, expected):
    before = levels(Classifier(make(), ("long", "short"), seed=0))
    after = levels(classify(make(), LABELLED, replace(RECIPE, epochs=epochs, unfreeze=every), **QUIET))
    moved = [any(not torch.equal(a, b) for a, b in zip(x, y)) for x, y in zip(before, after)]
    assert moved == [k < expected for k in range(4)] and all(p.requires_grad for level in after for p in level)


def test_frozen_layers_stay_frozen_while_others_join_in():
    model = Tagger()
    before = [p.clone() for p in model.encoder.embeddings.parameters()]
    user = model.head.bias; user.requires_grad_(False); kept = user.clone()
    train(model, examples(), replace(RECIPE, epochs=4, unfreeze=1, frozen_layers=1), collate=Collator(1), **QUIET)
    assert all(torch.equal(a, b) for a, b in zip(before, model.encoder.embeddings.parameters()))
    assert torch.equal(user, kept) and not user.requires_grad       # what its owner froze is not touched, nor freed


class Killed(Exception): pass


@pytest.mark.parametrize("make", [LSTM, TRANSFORMER])
@pytest.mark.parametrize("stop", [2, 6, 9])        # four steps an epoch: before, in and after the top layer's first epoch
def test_killed_while_layers_join_in(tmp_path, make, stop):
    recipe, plain, calls = replace(RECIPE, **TRICKS), Collator(1), iter(range(10 ** 6))
    def killing(batch, dice):
        if next(calls) == stop: raise Killed
        return plain(batch, dice)
    def run(collate, folder):
        model = Classifier(make(), ("long", "short"))
        train(model, model.examples(LABELLED), recipe, collate=collate, folder=folder, save_every=1, **QUIET)
        return weights_hash(model)
    whole = run(plain, None)
    with pytest.raises(Killed): run(killing, tmp_path)
    assert json.loads((checkpoints(tmp_path)[-1] / "position.json").read_text())["step"] == stop
    assert run(plain, tmp_path) == whole


def test_an_older_checkpoint_goes_on_and_another_recipe_is_told(tmp_path):
    "A position.json from before the fields existed is a run with their defaults, and no other."
    calls = iter(range(10 ** 6))
    def killing(batch, dice):
        if next(calls) == 5: raise Killed
        return Collator(1)(batch, dice)
    run = lambda collate=None, folder=None, recipe=RECIPE: train(model := Tagger(), examples(), recipe, collate=collate or Collator(1), folder=folder, save_every=1, **QUIET) and weights_hash(model)
    with pytest.raises(Killed): run(killing, tmp_path)
    file = checkpoints(tmp_path)[-1] / "position.json"
    told = json.loads(file.read_text())
    for name in ("shape", "ratio", "layer_decay", "unfreeze"): del told["run"][name]
    file.write_text(json.dumps(told))
    state = torch.load(file.parent / "state.pt", weights_only=True)
    for group in state["optimizer"]["param_groups"]: del group["share"]
    torch.save(state, file.parent / "state.pt")
    with pytest.raises(DataError, match="another run.*found 'layer_decay = 1.0'.*expected layer_decay = 0.5"): run(folder=tmp_path, recipe=replace(RECIPE, layer_decay=0.5))
    assert run(folder=tmp_path) == run()


@pytest.mark.parametrize("field, value", [("layer_decay", 0), ("layer_decay", 2.6), ("unfreeze", 0), ("shape", "triangle"), ("ratio", 0.5)])
def test_fields_that_make_no_sense(field, value):
    with pytest.raises(DataError, match=f"recipe: {field}"): replace(RECIPE, **{field: value})
    assert asdict(Recipe())[field] != value


def test_a_model_without_layers_is_refused():
    for fields in ({"unfreeze": 1}, {"layer_decay": 0.5}):
        with pytest.raises(DataError, match="no encoder whose layers"): train(nn.Linear(2, 2), [{"input_ids": [1]}], replace(RECIPE, **fields), collate=Collator(1), **QUIET)


# -- the stages --------------------------------------------------------------------------------------------------------
def test_three_views_leave_padding_out():
    states = torch.tensor([[[1.0, -3.0], [4.0, -1.0], [9.0, 9.0]], [[2.0, 0.0], [0.0, 1.0], [1.0, 5.0]]])
    found = three_views(states, torch.tensor([[1, 1, 0], [1, 1, 1]]))
    assert found.tolist() == [[4.0, -1.0, 4.0, -1.0, 2.5, -2.0], [1.0, 5.0, 2.0, 5.0, 1.0, 2.0]]


@pytest.mark.parametrize("make", [LSTM, TRANSFORMER])
def test_reading_changes_a_copy_and_classifying_learns(make):
    start = make()
    was = weights_hash(start.model)
    more = read(start, [r["text"] for r in LABELLED], replace(RECIPE, epochs=1), **QUIET)
    assert weights_hash(start.model) == was != more.weights_hash == weights_hash(more.model)
    model = classify(more, LABELLED, replace(RECIPE, epochs=25), **QUIET)
    assert weights_hash(more.model) == more.weights_hash
    texts = [r["text"] for r in LABELLED]
    right = [a == r["label"] for a, r in zip(model.predict(texts), LABELLED)]
    assert sum(right) >= 29 and model.predict(texts, tokens=40) == model.predict(texts) and model.predict([]) == []
    again = classify(more, LABELLED, replace(RECIPE, epochs=25), **QUIET)
    assert weights_hash(again) == weights_hash(model)


def test_bad_input():
    with pytest.raises(DataError, match="nothing to read"): read(LSTM(), [], RECIPE, **QUIET)
    with pytest.raises(DataError, match="nothing to learn from"): classify(LSTM(), [], RECIPE, **QUIET)
    with pytest.raises(DataError, match="labels of a classifier"): classify(LSTM(), LABELLED, RECIPE, ("long", "long"), **QUIET)
    with pytest.raises(DataError, match="found 'shrt'|found 'short'"): classify(LSTM(), LABELLED, RECIPE, ("long", "wide"), **QUIET)
