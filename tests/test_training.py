"""The loop: exact averages, frozen layers, runs that survive a kill bit for bit, and errors that say where and why."""
import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from accelerate.tracking import GeneralTracker, register_tracker_class
from conftest import ROOT
from safetensors.torch import load_file, load_model
from tiny import Tagger, examples, tokenizer

from xlt_lib.data.errors import DataError
from xlt_lib.encoders import checkpoints as checkpointing
from xlt_lib.encoders.batches import IGNORE, Collator
from xlt_lib.encoders.checkpoints import checkpoints
from xlt_lib.encoders.recipe import LENGTHS, PLACES, Recipe, autocast, labelled, processor_has_bf16, quick_dropout, rate
from xlt_lib.encoders.training import train
from xlt_lib.encoders.transformer import new_encoder, weights_hash

RECIPE = Recipe(learning_rate=1e-3, epochs=2, rows=8, precision="fp32", threads=1)
QUIET = {"collate": Collator(1), "say": lambda line: None}


def run(recipe=RECIPE, model=None, rows=None, **options):
    model = model or Tagger()
    return model, train(model, rows or examples(), recipe, **{**QUIET, **options})


def change(**fields): return Recipe(**{**RECIPE.__dict__, **fields})


def weights(model): return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.fixture(scope="module")
def uninterrupted():
    "The weights' hash and the losses of the run that nobody disturbs."
    model, result = run()
    return weights_hash(model), result.curve("ner")


# -- learning ----------------------------------------------------------------------------------------------------------
def test_it_learns_and_the_same_seed_gives_the_same_numbers(uninterrupted):
    model, result = run()
    assert (weights_hash(model), result.curve("ner")) == uninterrupted
    assert result.steps == len(result.curve("ner")) == 16 and result.curve("ner")[-1] < result.curve("ner")[0] / 2
    assert result.tokens == 2 * sum(len(e["input_ids"]) for e in examples())
    assert run(change(seed=1))[1].curve("ner") != uninterrupted[1]


def test_the_first_step_is_adamw_by_hand():
    "One step with torch's own parts, and one with the loop."
    recipe, model = change(steps=1, rows=None, warmup=0.0, weight_decay=0.1), Tagger(dropout=0.0)
    trained, _ = run(recipe, Tagger(dropout=0.0))
    model(Collator(1)(examples()))["losses"]["ner"].backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for p in model.parameters():
        if p.grad is None: continue
        with torch.no_grad():      # at the first step both moments are the gradient's own: the step is lr · g / (|g| + ε)
            p *= 1 - 1e-3 * (0.1 if p.ndim > 1 else 0)
            p -= 1e-3 * p.grad / (p.grad.abs() + 1e-8)
    # where a gradient is as small as ε, the order of summation shows: the step is compared to a hundredth of itself
    assert (weights(model) - weights(trained)).abs().max() < 1e-5


def test_accumulated_batches_make_exact_averages():
    "Four batches of unequal sizes and label counts are one large batch: for two losses with other denominators each."
    class Two(Tagger):
        def forward(self, batch):
            out = super().forward(batch)
            out["losses"]["length"] = out["logits"][:, 0].float().square().mean()    # no labels: a mean over sentences
            return out
    one, once = run(change(steps=1, rows=None), Two(dropout=0.0))
    many, added = run(change(steps=1, rows=8, accumulate=8), Two(dropout=0.0))
    for name in ("ner", "length"): assert math.isclose(once.curve(name)[0], added.curve(name)[0], rel_tol=1e-5)
    assert once.tokens == added.tokens and (weights(one) - weights(many)).abs().max() < 2e-5
    assert (weights(one) - weights(Two(dropout=0.0))).abs().max() > 5e-4           # so the weights did move


def test_weights_of_losses():
    class Two(Tagger):
        def forward(self, batch):
            out = super().forward(batch)
            return {"losses": out["losses"] | {"again": out["losses"]["ner"] * 1.0}}
    plain, halved = Tagger(dropout=0.0), Two(dropout=0.0)
    run(RECIPE, plain); run(RECIPE, halved, weights={"ner": 0.5, "again": 0.5})
    assert torch.allclose(weights(plain), weights(halved), atol=1e-4)
    with pytest.raises(DataError, match="does not have.*found 'nre'.*Did you mean 'ner'"): run(weights={"nre": 1.0})


def test_rows_without_labels_for_a_loss_do_no_harm():
    "Some rows lack the labels, in others all are to be ignored: the mean of nothing is no number, and must not count."
    none = lambda e, i: [{}, {"ner": [IGNORE] * len(e["input_ids"])}, e["labels"]][i % 3]
    rows = [e | {"labels": none(e, i)} for i, e in enumerate(examples())]
    _, result = run(change(rows=1, epochs=1), rows=rows)
    assert len(result.curve("ner")) == len(rows[2::3]) and all(map(math.isfinite, result.curve("ner")))


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.999])
def test_quick_dropout_is_dropout(p):
    "The share of noughts, the scale, the same mask in the gradient; drawn from the seed, and only while training."
    x, cpu = torch.ones(999, 1001, requires_grad=True), torch.device("cpu")
    with quick_dropout(cpu):
        torch.manual_seed(0); one = torch.nn.Dropout(p)(x)
        torch.manual_seed(0); same = torch.nn.functional.dropout(x, p)
        again = torch.nn.functional.dropout(x, p)
        assert torch.equal(torch.nn.functional.dropout(x, p, training=False), x)
    one.sum().backward()
    share = (one == 0).double().mean().item()
    assert abs(share - p) < 1e-5 + 5 * math.sqrt(p * (1 - p) / x.numel())
    scale = 2**16 / (2**16 - round(p * 2**16))
    assert torch.allclose(one[one != 0], torch.tensor(scale)) and math.isclose(scale, 1 / (1 - p), rel_tol=0.01)
    assert torch.equal(x.grad, one)
    assert torch.equal(one, same) and not torch.equal(one, again)
    by_row = (one == 0).double().mean(1)                       # no row, no column and no quarter of a draw is favoured
    assert by_row.std() < 1.2 * math.sqrt(p * (1 - p) / 1001) + 1e-5
    quarters = (one.flatten()[:999_000] == 0).double().view(-1, 4).mean(0)
    assert (quarters - p).abs().max() < 1e-5 + 5 * math.sqrt(p * (1 - p) / 249_750)


def test_frozen_layers_stay_and_are_freed_afterwards():
    before, model = Tagger(), Tagger()
    run(change(frozen_layers=1), model)
    moved = {n for (n, p), q in zip(model.named_parameters(), before.parameters()) if not torch.equal(p, q)}
    assert moved and not [n for n in moved if "embeddings" in n or "layer.0" in n] and [n for n in moved if "layer.1" in n]
    assert all(p.requires_grad for p in model.parameters())
    with pytest.raises(DataError, match="expected 0 to 2"): run(change(frozen_layers=3))


def test_the_best_epoch_is_kept_and_selection_needs_its_score(tmp_path):
    for folder in (None, tmp_path / "run"):
        seen, scores = [], iter([0.2, 0.9, 0.4])
        def evaluate(model, seen=seen, scores=scores):
            seen.append(weights_hash(model))
            return {"f1": next(scores)}
        model, result = run(change(epochs=3, select="f1"), evaluate=evaluate, folder=folder)
        assert result.best == {"f1": 0.9} and weights_hash(model) == seen[1] != seen[2]
        assert result.curve("f1") == [0.2, 0.9, 0.4]
    again = Tagger()
    assert run(change(epochs=3, select="f1"), again, folder=folder)[1].steps == result.steps     # finished: nothing is done
    assert weights_hash(again) == seen[1]
    with pytest.raises(DataError, match="found 'f1'.*Known: accuracy"): run(change(select="f1"), evaluate=lambda m: {"accuracy": 1})


def test_the_callers_threads_and_random_numbers_are_left_alone():
    model, threads = Tagger(), torch.get_num_threads()
    torch.manual_seed(7); expected = torch.rand(1)
    torch.manual_seed(7); run(change(threads=threads + 1, steps=2), model)
    assert torch.equal(torch.rand(1), expected) and torch.get_num_threads() == threads


def test_bf16_is_close_to_fp32():
    exact, rounded = run()[1].curve("ner"), run(change(precision="bf16"))[1].curve("ner")
    assert exact != rounded and abs(sum(exact) - sum(rounded)) < 0.05 * sum(exact)
    assert run(change(precision="auto"))[1].curve("ner") == exact        # a narrow encoder


def test_auto_is_bf16_for_wide_encoders_where_it_is_native():
    class Wide(torch.nn.Module):
        def __init__(self, width):
            super().__init__()
            self.encoder = new_encoder("xlm-roberta", tokenizer(), layers=1, width=width, heads=4).model
    native, cpu = processor_has_bf16(torch.device("cpu")), torch.device("cpu")
    for width, wanted in ((128, False), (192, native), (256, native)):
        with autocast(change(precision="auto"), cpu, Wide(width)): assert torch.is_autocast_enabled("cpu") is wanted
    with autocast(change(precision="auto"), cpu, torch.nn.Linear(512, 2)): assert not torch.is_autocast_enabled("cpu")
    with autocast(change(precision="bf16"), cpu, Wide(128)): assert torch.is_autocast_enabled("cpu")


def test_the_rate():
    rates = [rate(s, 20, 0.1) for s in range(20)]
    assert rates[:3] == [0.5, 1.0, 1.0] and rates[-1] == 1 / 18 and sorted(rates[2:], reverse=True) == rates[2:]
    assert [rate(s, 2, 0.0) for s in range(2)] == [1.0, 0.5] and rate(0, 1, 1.0) == 1.0


@pytest.mark.parametrize("field, value", [("learning_rate", 0), ("epochs", 0), ("warmup", 10), ("precision", "fp16"),
                                          ("rows", 0), ("clip", -1), ("threads", 0)])
def test_a_recipe_that_makes_no_sense(field, value):
    with pytest.raises(DataError, match=f"recipe: {field}"): change(**{field: value})


# -- going on ----------------------------------------------------------------------------------------------------------
def records(folder): return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


SLOW = """
import sys, time; sys.path.insert(0, "tests")
from pathlib import Path
from test_training import QUIET, RECIPE, run
def slowly(rows, dice): time.sleep(0.1); return QUIET["collate"](rows, dice)
run(folder=Path(sys.argv[1]), save_every=3, collate=slowly)
"""


def test_killed_and_resumed_equals_uninterrupted(tmp_path, uninterrupted):
    "SIGKILL in the middle of an epoch, some steps after the last checkpoint."
    child = subprocess.Popen([sys.executable, "-c", SLOW, tmp_path], cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 60
    while not (tmp_path / "log.jsonl").exists() or len(records(tmp_path)) < 11:
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL); child.wait()
    at = json.loads((checkpoints(tmp_path)[-1] / "position.json").read_text())
    assert at["step"] in (9, 12) and not at["done"] and at["batch"] > 0        # in the second epoch
    with (tmp_path / "log.jsonl").open("a") as f: f.write('{"step": 12, "epo')  # as if it had been killed while writing
    lines = []
    model, result = run(folder=tmp_path, say=lines.append)
    assert (weights_hash(model), result.curve("ner")) == uninterrupted
    assert lines[0] == f"goes on after step {at['step']} of 16"
    assert [r["step"] for r in records(tmp_path)] == list(range(1, 17))


@pytest.mark.parametrize("step", [3, 8, 12])
def test_ctrl_c_says_what_is_safe_and_loses_nothing(tmp_path, uninterrupted, step):
    calls = iter(range(100))
    def interrupted(rows, dice):
        if next(calls) == step: signal.raise_signal(signal.SIGINT)
        return QUIET["collate"](rows, dice)
    with pytest.raises(KeyboardInterrupt, match=rf"stopped after step {step} of 16\..*whole: the same call goes on") as e:
        run(folder=tmp_path, save_every=3, collate=interrupted)
    assert e.value.__cause__ is None and e.value.__suppress_context__
    model, result = run(folder=tmp_path)
    assert (weights_hash(model), result.curve("ner")) == uninterrupted


def test_interrupted_while_saving(tmp_path, monkeypatch, uninterrupted):
    "Whatever happens while a checkpoint is written, the one before it stays, and no half-written file."
    whole, calls = checkpointing.save_model, iter(range(10))
    def interrupted(model, path):
        whole(model, path)
        if next(calls) == 2: raise KeyboardInterrupt
    monkeypatch.setattr(checkpointing, "save_model", interrupted)
    with pytest.raises(KeyboardInterrupt): run(folder=tmp_path, save_every=3)
    assert [p.name for p in checkpoints(tmp_path)] == ["checkpoint-00000006-0000"]
    assert not [p for p in tmp_path.iterdir() if "partial" in p.name]
    monkeypatch.undo()
    assert weights_hash(run(folder=tmp_path)[0]) == uninterrupted[0]


@pytest.mark.parametrize("limit", [30_000, 200_000], ids=["weights", "optimizer"])
def test_a_full_disk(tmp_path, uninterrupted, limit):
    "The system refuses to let files grow: the error is clear, the checkpoint before is whole, and the run goes on later."
    model, saved = Tagger(), []
    size = sum(p.numel() * 4 for p in model.parameters())
    assert 30_000 < size < 200_000 < 3 * size
    def fill_the_disk(rows, dice):
        saved.append(0)
        if len(saved) == 5: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        return QUIET["collate"](rows, dice)
    try:
        with pytest.raises(DataError, match=r"is the disk full\?.*MB are free.*checkpoint-00000003-0000 is whole"):
            run(model=model, folder=tmp_path, save_every=3, collate=fill_the_disk)
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-00000003-0000", "log.jsonl"]
    assert weights_hash(run(folder=tmp_path)[0]) == uninterrupted[0]


def test_a_folder_of_another_run_is_refused(tmp_path):
    run(change(steps=2), folder=tmp_path)
    for other, field in [({"recipe": change(steps=2, learning_rate=1.0)}, "learning_rate"), ({"rows": examples("sw")}, "examples"),
                         ({"model": Tagger(width=48)}, "parameters"), ({"weights": {"ner": 2.0}}, "weights")]:
        with pytest.raises(DataError, match=f"another run.*{field}.*Give another folder"):
            run(**{"recipe": change(steps=2), "folder": tmp_path, **other})


def test_checkpoints_of_others_cannot_run_code(tmp_path):
    class Trap:
        def __reduce__(self): return (open, (str(tmp_path / "was_run"), "w"))
    with pytest.raises(DataError): run(change(learning_rate=1e30), folder=tmp_path, save_every=1)
    torch.save({"optimizer": Trap(), "random": []}, checkpoints(tmp_path)[-1] / "state.pt")
    with pytest.raises(DataError, match="cannot be read"): run(change(learning_rate=1e30), folder=tmp_path)
    assert not (tmp_path / "was_run").exists()


# -- what goes wrong ---------------------------------------------------------------------------------------------------
class Poisoned(Tagger):
    "Its loss is no number wherever subword 7 occurs in Swahili."
    def forward(self, batch):
        out = super().forward(batch)
        if "sw" in batch["language"]: out["losses"]["ner"] = out["losses"]["ner"] * float("nan")
        return out


def test_a_loss_that_is_no_number_names_step_loss_and_language(tmp_path):
    rows = examples("en", 60) + examples("sw", 2)
    with pytest.raises(DataError, match=r"loss 'ner' is no number in step (\d+), language sw: .*is whole.*1e-05") as e:
        run(change(learning_rate=1e-5, rows=4), Poisoned(), rows, folder=tmp_path, save_every=1)
    step = int(str(e.value).split("in step ")[1].split(",")[0])
    (kept,) = checkpoints(tmp_path)
    at = json.loads((kept / "position.json").read_text())
    assert at["step"] == step - 1 > 0                                    # the last good one
    assert all(t.isfinite().all() for t in load_file(kept / "model.safetensors").values())


def test_a_gradient_that_overflows_is_seen_before_it_is_applied():
    class Steep(Tagger):
        def forward(self, batch):
            out = super().forward(batch)
            out["losses"]["ner"] = (out["losses"]["ner"] - out["losses"]["ner"].detach()).abs().sqrt()   # 0, with slope ∞
            return out
    model = Steep()
    before = weights_hash(model)
    with pytest.raises(DataError, match="the gradient is no number in step 1"): run(model=model)
    assert weights_hash(model) == before


# -- trackers and processes --------------------------------------------------------------------------------------------
def test_any_tracker_by_name():
    class Memory(GeneralTracker):
        name, requires_logging_directory, main_process_only, told = "memory", False, True, []
        def __init__(self, run_name=None, **kwargs): super().__init__()
        tracker = property(lambda self: self.told)
        def store_init_configuration(self, values): self.told.append(values)
        def log(self, values, step, **kwargs): self.told.append(values)
    register_tracker_class(Memory)
    run(change(steps=2), tracker="memory", evaluate=lambda m: {"f1": 0.5})
    assert Memory.told[0]["learning_rate"] == 1e-3 and {"ner", "learning_rate", "tokens_per_second"} <= set(Memory.told[1])
    assert Memory.told[-1]["f1"] == 0.5
    with pytest.raises(DataError, match="tracker cannot be used.*found 'paper'"): run(tracker="paper")


TWO = """
import sys; sys.path.insert(0, "tests")
from pathlib import Path
from test_training import TWO_RECIPE, Tagger, run
model, result = run(TWO_RECIPE, Tagger(dropout=0.0), folder=Path(sys.argv[1]), evaluate=lambda m: {"f1": 0.5})
"""
TWO_RECIPE = change(epochs=1, rows=9, accumulate=2)      # an odd number of rows: the processes' shares are unequal


def test_two_processes_equal_one(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(TWO)
    # `--cpu` would start one process; `--multi_gpu` is Accelerate's name for torchrun, and the variable says which device
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
              "--mixed_precision", "no", "--dynamo_backend", "no", "--num_cpu_threads_per_process", "1", "--main_process_port", "0"]
    done = subprocess.run([*launch, script, tmp_path / "two"], cwd=ROOT, capture_output=True, text=True, timeout=120,
                          env=os.environ | {"PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    one, result = run(TWO_RECIPE, Tagger(dropout=0.0))
    (kept,) = checkpoints(tmp_path / "two")
    assert json.loads((kept / "position.json").read_text())["run"]["processes"] == 2
    two = Tagger(dropout=0.0)
    load_model(two, kept / "model.safetensors")
    losses = [r["losses"]["ner"] for r in records(tmp_path / "two") if "losses" in r]
    assert losses == pytest.approx(result.curve("ner"), rel=1e-4)
    assert (weights(one) - weights(two)).abs().max() < 1e-4 < (weights(one) - weights(Tagger(dropout=0.0))).abs().max()
    assert sum(len(e["input_ids"]) for e in examples()) == records(tmp_path / "two")[-2]["tokens"]


def test_places_with_a_label_come_in_few_numbers_in_bf16_alone():
    states, labels = torch.randn(2, 40, 8, requires_grad=True), torch.full((2, 40), IGNORE)
    labels[0, 3:20], labels[1, 7] = 2, 1
    exact, right = labelled(states, labels)
    assert torch.equal(exact, states[labels != IGNORE]) and right.tolist() == [2] * 17 + [1]
    with torch.autocast("cpu", torch.bfloat16): padded, told = labelled(states, labels)
    assert len(padded) == 2 * PLACES and torch.equal(padded[:18], exact) and told.tolist() == [*right.tolist(), *[IGNORE] * (2 * PLACES - 18)]
    loss = [torch.nn.functional.cross_entropy(s, t) for s, t in ((exact, right), (padded, told))]
    assert loss[0].item() == pytest.approx(loss[1].item(), rel=1e-6)
    a, b = (torch.autograd.grad(each, states)[0] for each in loss)
    assert torch.allclose(a, b, atol=1e-8)
    nothing, none = labelled(states, torch.full((2, 40), IGNORE))
    assert nothing.shape == (0, 8) and none.shape == (0,)


@pytest.mark.parametrize("precision, multiple", [("bf16", LENGTHS), ("fp32", 1)])
def test_batches_have_few_shapes_where_programs_are_compiled_for_them(precision, multiple):
    lengths, collate = [], Collator(1)
    def watched(rows, dice):
        batch = collate(rows, dice); lengths.append((batch["input_ids"].shape[1], max(len(r["input_ids"]) for r in rows))); return batch
    train(Tagger(), examples(), replace(RECIPE, precision=precision), collate=watched, say=QUIET["say"])
    longest = max(len(e["input_ids"]) for e in examples())
    assert all(width == min(-(-own // multiple) * multiple, longest) for width, own in lengths) and len({own for _, own in lengths}) > 1


def test_dropout_is_torchs_again_even_after_an_error():
    before = torch.nn.functional.dropout
    with pytest.raises(KeyError), quick_dropout(torch.device("cpu")):
        assert torch.nn.functional.dropout is not before
        raise KeyError
    assert torch.nn.functional.dropout is before
