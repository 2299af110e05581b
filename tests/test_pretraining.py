"""Pre-training: what is hidden and how, Hugging Face's own loss, an encoder that anybody can open, runs that survive."""
import json
import resource
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from tiny import tokenizer
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from xlt_lib.data.errors import DataError
from xlt_lib.data.world import World
from xlt_lib.encoders import pretraining
from xlt_lib.encoders.batches import IGNORE
from xlt_lib.encoders.masking import MaskedLM, MaskingCollator, masked_examples, smoothed
from xlt_lib.encoders.pretraining import Size, pretrain, saved_head
from xlt_lib.encoders.recipe import Recipe
from xlt_lib.encoders.text import Text, world_text
from xlt_lib.encoders.training import train
from xlt_lib.encoders.transformer import new_encoder, open_encoder, weights_hash
from xlt_lib.transfer.heads import MaskedHead

SMALL = Size(layers=1, width=16, heads=2, vocabulary=300, max_length=64, tokens=1024, steps=12, learning_rate=2e-3)
RECIPE = Recipe(learning_rate=2e-3, steps=12, tokens=1024, rows=None, precision="fp32", threads=1)
QUIET = {"recipe": RECIPE, "bar": False, "say": lambda line: None}


@lru_cache
def text():
    "Sixty sentences of two languages and as many translations; an epoch is a handful of steps."
    whole = world_text(World(languages=("en", "sw")))
    return Text({code: s[:60] for code, s in whole.mono.items()}, {"en-sw": whole.parallel["en-sw"][60:120]})


def examples(): return masked_examples(text(), tokenizer(), SMALL.max_length)


def dice(seed=0): return torch.Generator().manual_seed(seed)


def masked_lm(seed=0): return MaskedLM(new_encoder("xlm-roberta", tokenizer(), layers=1, width=16, heads=2, seed=seed), seed).eval()


# -- hiding ------------------------------------------------------------------------------------------------------------
def test_the_shares():
    "15 % of what is not special; of these 80 % masks, 10 % others, 10 % as they were. Counted over 60,000 subwords."
    tok, hidden, masks, kept, normal = tokenizer(), 0, 0, 0, 0
    special = torch.tensor(tok.all_special_ids)
    rows = [{"input_ids": [0, *range(5, 55), 2], "masked": "mlm"} for _ in range(60)]
    others = []
    for seed in range(20):
        batch = MaskingCollator(tok)(rows, dice(seed))
        labels, ids = batch["labels"]["mlm"], batch["input_ids"]
        at = labels != IGNORE
        assert not torch.isin(labels[at], special).any() and int(at.sum()) == batch["counts"]["mlm"]
        hidden, normal = hidden + int(at.sum()), normal + 60 * 50
        masks, kept = masks + int((ids[at] == tok.mask_token_id).sum()), kept + int((ids[at] == labels[at]).sum())
        others += ids[at & (ids != tok.mask_token_id) & (ids != labels)].tolist()
    near = lambda n, of, p: abs(n / of - p) < 5 * (p * (1 - p) / of) ** 0.5        # five standard errors
    assert near(hidden, normal, 0.15) and near(masks, hidden, 0.8)
    assert near(kept, hidden, 0.1 + 0.1 / len(tok)) and near(len(others), hidden, 0.1)
    assert len(set(others)) > 0.8 * len(tok) and not set(others) - set(range(len(tok)))      # from the whole vocabulary


def test_special_subwords_padding_and_rows_that_name_no_loss_are_left_alone():
    tok = tokenizer()
    rows = [{"input_ids": [0, *range(5, 35), 2], "masked": "mlm", "language": "en"}, {"input_ids": [0, 4, 3, 7, 2], "language": "sw"},
            {"input_ids": [0, *range(5, 12), 2, 2, *range(20, 25), 2], "masked": "tlm", "language": "en-sw"}]
    seen = {"mlm": set(), "tlm": set()}
    for seed in range(60):
        batch = MaskingCollator(tok, share=0.5)(rows, dice(seed))
        assert set(batch["labels"]) == {"mlm", "tlm"} and "masked" not in batch
        assert batch["input_ids"][1].tolist() == [0, 4, 3, 7, 2] + [tok.pad_token_id] * 27        # no loss is named
        for i, name in ((0, "mlm"), (2, "tlm")):
            n, labels = len(rows[i]["input_ids"]), batch["labels"][name]
            assert (labels[[r for r in range(3) if r != i]] == IGNORE).all() and (labels[i, n:] == IGNORE).all()
            plain = torch.tensor(rows[i]["input_ids"])
            at = labels[i, :n] != IGNORE
            assert torch.equal(batch["input_ids"][i, :n][~at], plain[~at]) and torch.equal(labels[i, :n][at], plain[at])
            assert (batch["input_ids"][i, n:] == tok.pad_token_id).all()
            seen[name] |= set(at.nonzero().flatten().tolist())
    assert seen["mlm"] == set(range(1, 31)) and seen["tlm"] == set(range(1, 8)) | set(range(10, 15))
    plain = MaskingCollator(tok)([{"input_ids": [0, 7, 2], "labels": {"ner": [IGNORE, 1, IGNORE]}}], dice())
    assert plain["input_ids"].tolist() == [[0, 7, 2]] and list(plain["labels"]) == ["ner"]


def test_the_same_seed_hides_the_same():
    rows, collate = examples()[:16], MaskingCollator(tokenizer())
    one, same, other = collate(rows, dice(1)), collate(rows, dice(1)), collate(rows, dice(2))
    assert torch.equal(one["input_ids"], same["input_ids"]) and torch.equal(one["labels"]["mlm"], same["labels"]["mlm"])
    assert not torch.equal(one["labels"]["mlm"], other["labels"]["mlm"])


# -- the loss ----------------------------------------------------------------------------------------------------------
def test_the_loss_is_hugging_faces():
    "Their model with its head, on the same batch: the labels elsewhere are -100 for both, and each kind of row is a batch of its own."
    model, rows = masked_lm(), examples()
    batch = MaskingCollator(tokenizer())(rows[:8] + rows[-8:], dice())
    losses = model(batch)["losses"]
    assert set(losses) == {"mlm", "tlm"} and batch["counts"]["mlm"] > 5 < batch["counts"]["tlm"]
    for name, loss in losses.items():
        theirs = model.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"][name]).loss
        assert abs(loss - theirs) < 1e-5
    assert abs(losses["mlm"] - losses["tlm"]) > 1e-4


def test_other_kinds_of_encoder_are_refused():
    with pytest.raises(DataError, match="not pre-trained here.*found 'bert'.*xlm-roberta"):
        MaskedLM(new_encoder("bert", tokenizer(), layers=1, width=16, heads=2))


# -- shares of languages -----------------------------------------------------------------------------------------------
def test_shares_by_hand():
    assert smoothed({"en": 900, "yo": 100}, 1) == {"en": 0.9, "yo": 0.1}
    assert smoothed({"en": 900, "yo": 100}, 0) == {"en": 0.5, "yo": 0.5}
    assert smoothed({"en": 900, "yo": 100}, 0.5) == {"en": 0.75, "yo": 0.25}          # 30 to 10


def test_a_small_language_comes_more_than_once_and_a_large_one_is_cut():
    said = Text({"en": text().mono["en"][:45], "sw": text().mono["sw"][:5]}, {"en-sw": text().parallel["en-sw"][:20]})
    made = masked_examples(said, tokenizer(), 512, rows=100, exponent=0.5)
    count = lambda code: sum(e["language"] == code for e in made)
    assert [count(c) for c in ("en", "sw", "en-sw")] == [50, 17, 33]                  # √45 : √5 : √20 = 3 : 1 : 2
    assert {tuple(e["input_ids"]) for e in made if e["language"] == "sw"} == {tuple(i) for i in tokenizer()(said.mono["sw"])["input_ids"]}
    assert {(e["language"], e["masked"]) for e in made} == {("en", "mlm"), ("sw", "mlm"), ("en-sw", "tlm")}
    pair = next(e for e in made if e["masked"] == "tlm")["input_ids"]
    one, two = (tokenizer()(s)["input_ids"] for s in said.parallel["en-sw"][0])
    assert pair == one + [tokenizer().sep_token_id] + two[1:]                         # <s> one </s> </s> two </s>
    assert max(len(e["input_ids"]) for e in masked_examples(said, tokenizer(), 12)) == 12


def test_no_more_is_encoded_than_is_read_and_that_comes_from_all_over_the_text(tmp_path, monkeypatch):
    number = len(text().mono["en"]) * 100
    said = Text({"en": [f"{text().mono['en'][i % 60]} {i}" for i in range(number)]}, {})
    cut = masked_examples(said, tokenizer(), 512, rows=60)
    whole = tokenizer()(said.mono["en"])["input_ids"]
    assert [e["input_ids"] for e in cut] == [whole[i] for i in range(0, number, 100)]
    monkeypatch.setattr(pretraining, "train", lambda model, rows, *a, **k: (_ for _ in ()).throw(InterruptedError(len(rows))))
    with pytest.raises(InterruptedError) as stopped: pretrain(said, tmp_path / "encoder", SMALL, **QUIET)
    needed = RECIPE.steps * RECIPE.tokens / (sum(map(len, whole)) / number)
    assert needed < stopped.value.args[0] < 2 * needed < number


# -- what is saved -----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "encoder"
    return pretrain(text(), folder, SMALL, **QUIET), folder


def same_files(one, two):
    "Everything but the seconds it took."
    told = [json.loads((f / "pretraining.json").read_text()) | {"seconds": 0} for f in (one, two)]
    return told[0] == told[1] and all((one / f).read_bytes() == (two / f).read_bytes() for f in ("model.safetensors", "tokenizer.json"))


def test_anybody_can_open_it(finished):
    made, folder = finished
    inputs = made.tokenizer(["Amina lives in Kano.", "Amina anaishi Kano."], padding=True, return_tensors="pt")
    plain, lm = AutoModel.from_pretrained(folder).eval(), AutoModelForMaskedLM.from_pretrained(folder).eval()
    theirs = AutoTokenizer.from_pretrained(folder)(["Amina lives in Kano.", "Amina anaishi Kano."], padding=True, return_tensors="pt")
    assert torch.equal(theirs["input_ids"], inputs["input_ids"]) and torch.equal(theirs["attention_mask"], inputs["attention_mask"])
    with torch.no_grad():
        states = made.model(**inputs).last_hidden_state
        assert torch.allclose(plain(**inputs).last_hidden_state, states, atol=1e-6)
        assert torch.allclose(lm.roberta(**inputs).last_hidden_state, states, atol=1e-6)
        head = MaskedHead(made.model.get_input_embeddings())
        head.load_state_dict(saved_head(made))
        assert torch.allclose(head(states), lm(**inputs).logits, atol=1e-5)
    assert open_encoder(folder).weights_hash == made.weights_hash == weights_hash(made.model)
    assert made.max_length == 64 and len(made.tokenizer) <= 300 and not (folder / "training").exists()


def test_the_head_gives_hugging_faces_loss(finished):
    made, folder = finished
    head = MaskedHead(made.model.get_input_embeddings())
    head.load_state_dict(saved_head(made))
    batch = MaskingCollator(made.tokenizer)(masked_examples(text(), made.tokenizer, 64)[:20], dice())
    inputs = {k: batch[k] for k in ("input_ids", "attention_mask")}
    ours = head.loss(made.model(**inputs).last_hidden_state, batch["attention_mask"], batch["labels"]["mlm"])
    theirs = AutoModelForMaskedLM.from_pretrained(folder).eval()(**inputs, labels=batch["labels"]["mlm"]).loss
    assert abs(ours - theirs) < 1e-5


def test_encoders_without_a_saved_head(tmp_path):
    fresh = new_encoder("xlm-roberta", tokenizer(), layers=1, width=16, heads=2)
    assert saved_head(fresh) is None
    fresh.save(tmp_path)
    assert saved_head(open_encoder(tmp_path)) is None


def test_the_record_and_what_was_learnt(finished):
    made, folder = finished
    told = json.loads((folder / "pretraining.json").read_text())
    assert told["steps"] == 12 and told["size"]["width"] == 16 and told["recipe"]["learning_rate"] == 2e-3 and set(told["losses"]) == {"mlm", "tlm"}
    assert told["text"] == text().sizes() and told["fingerprint"] == text().fingerprint() and told["tokens"] > 1000
    # the first weights are drawn again from the seed: training has moved them
    assert weights_hash(new_encoder("xlm-roberta", made.tokenizer, layers=1, width=16, heads=2, max_length=64).model) != made.weights_hash


def test_it_learns():
    "Sixty steps on twenty sentences: far below where it began, which is the logarithm of the vocabulary."
    rows = masked_examples(Text({"en": text().mono["en"][:20]}, {}), tokenizer(), 64)
    model = MaskedLM(new_encoder("xlm-roberta", tokenizer(), layers=1, width=32, heads=2))
    curve = train(model, rows, Recipe(learning_rate=1e-2, steps=60, rows=None, precision="fp32", threads=1),
                  collate=MaskingCollator(tokenizer()), say=lambda line: None).curve("mlm")
    assert abs(curve[0] - torch.tensor(float(len(tokenizer()))).log()) < 0.3 and sum(curve[-5:]) / 5 < curve[0] - 1


# -- going on ----------------------------------------------------------------------------------------------------------
def test_finished_it_is_opened_at_once(finished, monkeypatch):
    made, folder = finished
    monkeypatch.setattr(pretraining, "train", None)                    # would fail if it were called
    before = {f.name: f.stat().st_mtime_ns for f in folder.iterdir()}
    assert pretrain(text(), folder, SMALL, **QUIET).weights_hash == made.weights_hash
    assert {f.name: f.stat().st_mtime_ns for f in folder.iterdir()} == before


def interrupted(folder, call):
    "A run that gets Ctrl-C when it asks for its n-th batch."
    whole, calls = MaskingCollator.__call__, iter(range(100))
    def collate(self, rows, dice):
        if next(calls) == call: raise KeyboardInterrupt
        return whole(self, rows, dice)
    MaskingCollator.__call__ = collate
    try: pretrain(text(), folder, SMALL, **QUIET)
    finally: MaskingCollator.__call__ = whole


@pytest.mark.parametrize("call", [0, 9])
def test_interrupted_and_called_again_equals_uninterrupted(finished, tmp_path, call):
    "Ctrl-C before the first step, and some steps after a checkpoint."
    with pytest.raises(KeyboardInterrupt, match=f"stopped after step {call} of 12"): interrupted(tmp_path, call)
    assert [p.name for p in tmp_path.iterdir()] == ["training"]
    with pytest.raises(DataError): open_encoder(tmp_path)                           # half an encoder is none
    lines = []
    assert pretrain(text(), tmp_path, SMALL, **{**QUIET, "say": lines.append}).weights_hash == finished[0].weights_hash
    assert any("goes on after step" in line for line in lines) == bool(call) and same_files(tmp_path, finished[1])


def limited(function, limit):
    "The function, run while the system lets no file grow beyond a limit."
    def call(*arguments, **named):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try: return function(*arguments, **named)
        finally: resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    return call


@pytest.mark.parametrize("part, size", [("model.safetensors", SMALL), ("tokenizer.json", Size(1, 4, 2, 300, 64, 1024, 12, 2e-3))], ids=["weights", "tokenizer"])
def test_a_full_disk_at_the_end(tmp_path, monkeypatch, part, size):
    "The error is clear, nothing half-written is left, and when there is room the same call finishes without training."
    monkeypatch.setattr(pretraining, "_put", limited(pretraining._put, 12_000))
    with pytest.raises(DataError, match="could not be written: is the disk full.*the same call goes on"): pretrain(text(), tmp_path, size, **QUIET)
    monkeypatch.undo()
    assert sorted(p.name for p in (tmp_path / "training").iterdir()) == ["checkpoints", "tokenizer"] and len(list(tmp_path.iterdir())) == 1
    lines = []
    made = pretrain(text(), tmp_path, size, **{**QUIET, "say": lines.append})
    assert "was finished after 12 steps" in lines and made.width == size.width
    assert (tmp_path / part).stat().st_size > 12_000                                # so this file was the one that did not fit
    if part == "tokenizer.json": assert (tmp_path / "model.safetensors").stat().st_size < 12_000


def test_a_full_disk_at_the_beginning(tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining, "train_tokenizer", lambda *a, **k: tokenizer())
    monkeypatch.setattr(pretraining, "_tokenizer", limited(pretraining._tokenizer, 5_000))
    with pytest.raises(DataError, match="could not be written: is the disk full"): pretrain(text(), tmp_path, SMALL, **QUIET)
    assert not list((tmp_path / "training").iterdir())


def test_killed_while_the_files_are_moved(finished, tmp_path, monkeypatch):
    "The one that says that all are there comes last."
    whole, moved = Path.replace, []
    def killed(self, target):
        if len(moved) == 2: raise KeyboardInterrupt
        moved.append(self.name)
        return whole(self, target)
    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt): pretrain(text(), tmp_path, SMALL, **QUIET)
    monkeypatch.undo()
    assert moved and "pretraining.json" not in moved
    assert pretrain(text(), tmp_path, SMALL, **QUIET).weights_hash == finished[0].weights_hash and same_files(tmp_path, finished[1])
    assert not (tmp_path / "training").exists()


def test_bad_places_and_sizes(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    for place in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(DataError, match="something else is in this place.*a new or empty folder"): pretrain(text(), place, SMALL, **QUIET)
    assert (tmp_path / "thesis.txt").read_text() == "precious"
    with pytest.raises(DataError, match="no such size.*found 'tny'.*Did you mean 'tiny'"): pretrain(text(), tmp_path / "new", "tny")
    with pytest.raises(KeyboardInterrupt): interrupted(tmp_path / "begun", 9)
    other = QUIET | {"recipe": replace(RECIPE, learning_rate=1.0)}
    with pytest.raises(DataError, match="another run.*learning_rate"): pretrain(text(), tmp_path / "begun", SMALL, **other)
