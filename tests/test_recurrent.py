"""Recurrent encoders: torch's cell, the mix as numpy computes it, no direction that sees the answer, the same bits, and the kit's heads on top."""
import copy

import numpy as np
import pytest
import torch
from tiny import rows, tokenizer
from torch import nn

from xlt_lib.data.errors import DataError
from xlt_lib.data.tasks import IOB2
from xlt_lib.encoders.batches import Collator
from xlt_lib.encoders.recipe import Recipe, levels
from xlt_lib.encoders.recurrent import LanguageModel, NextCollator, Recurrent, ScalarMix, new_recurrent, reverse
from xlt_lib.encoders.training import train
from xlt_lib.encoders.transformer import Encoder, new_encoder, weights_hash

RECIPE = Recipe(learning_rate=5e-3, epochs=2, rows=8, precision="fp32", threads=1)
QUIET = {"say": lambda line: None, "bar": False}


def make(**sizes): return new_recurrent(tokenizer(), **{"layers": 2, "width": 16, "dropout": 0.0, **sizes})


def text_examples(n=40): return [{"input_ids": i} for i in tokenizer()([" ".join(r["tokens"]) for r in rows("en", n)])["input_ids"]]


def batch_of(n=4): return Collator(tokenizer().pad_token_id)(text_examples(n))


def test_one_layer_is_torchs_bidirectional_lstm():
    "Same weights in torch's own two-way network over packed rows: the same states at every place that is no padding."
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
    model, batch = make(layers=1).model, batch_of(6)
    theirs = nn.LSTM(16, 16, batch_first=True, bidirectional=True)
    for name, p in theirs.named_parameters():
        one = model.layers[0][1 if name.endswith("_reverse") else 0]
        p.data = getattr(one, name.removesuffix("_reverse")).data
    sizes = batch["attention_mask"].sum(1)
    packed = pack_padded_sequence(model.embeddings(batch["input_ids"]), sizes, batch_first=True, enforce_sorted=False)
    wanted = pad_packed_sequence(theirs(packed)[0], batch_first=True)[0]
    found = model(batch["input_ids"], batch["attention_mask"]).hidden_states[1]
    keep = batch["attention_mask"].bool()
    assert len(set(sizes.tolist())) > 1 and torch.allclose(found[keep], wanted[keep], atol=1e-6)


def test_reverse_turns_within_the_length():
    x, mask = torch.arange(12).view(2, 3, 2), torch.tensor([[1, 1, 1], [1, 1, 0]])
    assert reverse(x, mask)[:, :, 0].tolist() == [[4, 2, 0], [8, 6, 10]] and torch.equal(reverse(reverse(x, mask), mask), x)


def test_the_mix_is_its_formula():
    mix, dice = ScalarMix(3), np.random.default_rng(0)
    w, states = dice.normal(size=3), dice.normal(size=(3, 2, 5, 4))
    mix.weights.data, mix.gamma.data = torch.tensor(w), torch.tensor(1.7)
    share = np.exp(w) / np.exp(w).sum()
    assert np.allclose(mix([torch.tensor(s) for s in states]).detach(), 1.7 * np.einsum("l,lrnw->rnw", share, states))
    plain = ScalarMix(3)
    assert torch.allclose(plain([torch.tensor(s) for s in states]), torch.tensor(states.mean(0)), atol=1e-6)
    with pytest.raises(ValueError): plain([torch.tensor(states[0])])


def test_no_direction_sees_what_it_is_to_guess():
    model, ids = make(layers=3).model, batch_of(1)["input_ids"]
    other = ids.clone(); other[0, 4] = (ids[0, 4] + 1) % 100
    moved = (model(ids).hidden_states[-1] - model(other).hidden_states[-1])[0].abs()
    ahead, back = moved[:, :16].sum(1) > 0, moved[:, 16:].sum(1) > 0
    assert not ahead[:4].any() and ahead[4:].all() and back[:5].all() and not back[5:].any()


def test_both_directions_share_embeddings_and_softmax():
    encoder = make()
    lm = LanguageModel(encoder)
    own = sum(p.numel() for p in lm.parameters())
    lstm = 4 * 16 * (16 + 16) + 2 * 4 * 16
    assert own == len(tokenizer()) * 16 + 4 * lstm + 4 + len(tokenizer())     # embeddings once, 2 × 2 LSTMs, the mix, one bias
    assert set(lm(NextCollator(tokenizer())(text_examples(4)))["losses"]) == {"forwards", "backwards"}
    assert set(LanguageModel(make(both=False))(NextCollator(tokenizer())(text_examples(4)))["losses"]) == {"forwards"}


def test_the_loss_by_hand_and_its_count():
    "The mean over all subwords but each row's first (forwards) or last (backwards)."
    lm, batch = LanguageModel(make()).eval(), NextCollator(tokenizer())(text_examples(3))
    total, n = {"forwards": 0.0, "backwards": 0.0}, 0
    for e in text_examples(3):
        for name, ids in (("forwards", e["input_ids"]), ("backwards", e["input_ids"][::-1])):
            d = 0 if name == "forwards" else 1
            x = lm.encoder.embeddings(torch.tensor([ids]))
            for k, layer in enumerate(lm.encoder.layers): x = layer[d](x)[0] + (x if k else 0)
            logs = (x[0] @ lm.encoder.embeddings.weight.T + lm.bias).log_softmax(-1)
            total[name] -= sum(logs[k, ids[k + 1]].item() for k in range(len(ids) - 1))
        n += len(e["input_ids"]) - 1
    assert batch["counts"] == {"forwards": n, "backwards": n}
    for name, loss in lm(batch)["losses"].items(): assert abs(loss.item() - total[name] / n) < 1e-4


def test_it_learns_and_the_same_seed_gives_the_same_bits(tmp_path):
    def once(folder=None, seed=0):
        lm = LanguageModel(make(dropout=0.1, seed=seed))
        return lm, train(lm, text_examples(), RECIPE, collate=NextCollator(tokenizer()), folder=folder, **QUIET)
    (one, done), (two, _) = once(), once(tmp_path / "run")
    assert weights_hash(one) == weights_hash(two) != weights_hash(once(seed=1)[0])
    assert done.curve("forwards")[-1] < done.curve("forwards")[0] and done.curve("backwards")[-1] < done.curve("backwards")[0]


@pytest.mark.parametrize("precision", ["bf16", "auto"])
def test_bf16_is_close(precision):
    def losses(precision): return train(LanguageModel(make(width=112)), text_examples(24), Recipe(steps=3, rows=8, precision=precision, threads=1), collate=NextCollator(tokenizer()), **QUIET).curve("forwards")
    assert np.allclose(losses(precision), losses("fp32"), atol=0.05)


def test_levels_and_frozen_layers_leave_the_mix():
    "Frozen below, the mix and the head learn: ELMo as it was published."
    from xlt_lib.encoders.batches import encode_words
    from xlt_lib.transfer.heads import TokenHead
    from xlt_lib.transfer.multitask import MultiTaskModel
    encoder = make()
    model = MultiTaskModel(encoder, {"ner": TokenHead(32, IOB2)})
    assert [sum(p.numel() for p in level) for level in levels(model)][1:] == [2 * (4 * 16 * 32 + 128)] * 2 + [len(tokenizer()) * 16]
    made = encode_words(tokenizer(), [r["tokens"] for r in rows("en", 24)], {"ner": [[IOB2.index(t) for t in r["tags"]] for r in rows("en", 24)]}, 64)
    was = copy.deepcopy(encoder.model)
    train(model, made, Recipe(learning_rate=1e-2, epochs=1, rows=8, frozen_layers=2, precision="fp32", threads=1), collate=Collator(tokenizer().pad_token_id), **QUIET)
    same = lambda part: all(torch.equal(a, b) for a, b in zip(getattr(was, part).parameters(), getattr(encoder.model, part).parameters()))
    assert same("embeddings") and same("layers") and not same("mix")
    assert [len(p) for p in model.predict([["a", "b", "c"], ["d"]], "ner")] == [3, 1]


def test_saved_and_opened_again(tmp_path):
    encoder = make(); encoder.save(tmp_path)
    assert weights_hash(Recurrent.from_pretrained(tmp_path)) == encoder.weights_hash


def test_refusals():
    with pytest.raises(DataError, match="layers"): make(layers=0)
    with pytest.raises(DataError, match="does not read in one direction"): LanguageModel(new_encoder("xlm-roberta", tokenizer(), width=32))
    assert isinstance(make(), Encoder)
