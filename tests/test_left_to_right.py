"""Left to right and in any order: Hugging Face's causal model, XLNet's masks and streams by hand, and who may influence whom."""
import math
from dataclasses import replace

import pytest
import torch
from tiny import tokenizer
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel, XLMRobertaForCausalLM

from xlt_lib.data.world import World
from xlt_lib.encoders.attention import causal_mask
from xlt_lib.encoders.batches import IGNORE
from xlt_lib.encoders.left_to_right import CausalLM, NextCollator, PermutationCollator, PermutationLM, additive_mask, in_order, perplexity
from xlt_lib.encoders.recipe import Recipe
from xlt_lib.encoders.same_weights import from_hugging_face
from xlt_lib.encoders.training import train
from xlt_lib.encoders.transformer import new_encoder

SAID = [s.text for s in World(languages=("en",)).sentences("en", "unlabelled")][:40]
ROWS = [{"input_ids": i, "masked": "mlm", "language": "en"} for i in tokenizer()(SAID)["input_ids"]]
MASK = tokenizer().mask_token_id


def fresh(layers=2): return new_encoder("xlm-roberta", tokenizer(), layers=layers, width=32, max_length=128)
def stirred(model):
    "Weights as a trained model has them: those of a new one are so small that who reads whom hardly shows."
    with torch.no_grad():
        for p in model.parameters(): p.add_(torch.randn(p.shape, generator=dice(7)) * 0.15)
    return model.eval()


def dice(seed=0): return torch.Generator().manual_seed(seed)
def loss(model, batch): return next(iter(model(batch)["losses"].values()))


# -- left to right -----------------------------------------------------------------------------------------------------
def test_the_loss_is_that_of_hugging_face_s_causal_model():
    model, batch = stirred(CausalLM(fresh())), NextCollator(tokenizer())(ROWS[:6])
    theirs = XLMRobertaForCausalLM(type(model.model.config)(**model.model.config.to_dict() | {"is_decoder": True})).eval()
    theirs.load_state_dict(model.model.state_dict())
    gold = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORE)
    assert abs(theirs(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=gold).loss - loss(model, batch)) < 1e-5
    assert abs(theirs(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=gold).loss - loss(stirred(CausalLM(fresh(), both_ways=True)), batch)) > 1e-3


def test_labels_are_those_that_gpt2_shifts_to():
    "Its loss on its own scores, and ours by the collator's labels."
    batch = NextCollator(tokenizer())(ROWS[:6])
    torch.manual_seed(0)
    gpt = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer()), n_positions=128, n_embd=16, n_layer=1, n_head=2)).eval()
    told = gpt(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORE))
    gold = batch["labels"]["clm"]
    assert abs(told.loss - F.cross_entropy(told.logits.flatten(0, 1), gold.flatten(), ignore_index=IGNORE)) < 1e-5
    assert batch["counts"]["clm"] == int((gold != IGNORE).sum()) == sum(len(e["input_ids"]) - 1 for e in ROWS[:6])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_both_kinds_of_attention_read_the_mask_alike_and_never_ahead(attention):
    "In training attention is the plain one, which adds the mask: true and false would let everybody read everybody."
    model, batch = stirred(CausalLM(fresh())), NextCollator(tokenizer())(ROWS[:6])
    ours, real = from_hugging_face(model.model.base_model), batch["attention_mask"].bool()
    model.model.set_attn_implementation(attention)
    states = model.states(batch)
    assert (states - ours(batch["input_ids"], batch["attention_mask"], may_read=causal_mask(real.shape[1])))[real].abs().max() < 1e-5
    other = batch | {"input_ids": batch["input_ids"].index_fill(1, torch.tensor(4), 40)}
    moved = (model.states(other) - states).abs().amax(-1)
    assert moved[:, :4].max() < 1e-6 < moved[:, 4:][real[:, 4:]].min()


def test_a_place_that_may_read_nothing_gives_numbers():
    scores = torch.randn(1, 1, 3, 3, dtype=torch.bfloat16) + additive_mask(torch.zeros(1, 3, 3, dtype=torch.bool)).bfloat16()
    assert scores.softmax(-1).isfinite().all() and additive_mask(torch.ones(1, 2, 2, dtype=torch.bool)).tolist() == [[[[0, 0], [0, 0]]]]


def test_perplexity_by_hand():
    class Knows(torch.nn.Module):
        def forward(self, batch): return {"losses": {"clm": torch.tensor(batch["loss"])}}
    batches = [{"loss": math.log(2), "counts": {"clm": 2}}, {"loss": math.log(4), "counts": {"clm": 1}}]
    assert abs(perplexity(Knows(), batches) - 16 ** (1 / 3)) < 1e-5


def test_the_deliberate_mistake_reads_the_answer():
    "Both ways, the state that has to name a word moves with that word."
    batch = NextCollator(tokenizer())(ROWS[:1])
    other = batch | {"input_ids": batch["input_ids"].index_fill(1, torch.tensor(4), 40)}
    moved = {both: (m.states(other) - m.states(batch))[0, 3].abs().max() for both in (False, True) if (m := stirred(CausalLM(fresh(), both_ways=both)))}
    assert moved[False] < 1e-6 and moved[True] > 1e-3


# -- in any order ------------------------------------------------------------------------------------------------------
def test_the_paper_s_order_by_hand():
    "3, 2, 4, 1: place 1 reads all, place 2 reads 3 (and itself), place 3 itself, place 4 reads 2 and 3."
    content, question = in_order(torch.tensor([[3, 1, 0, 2]]))
    reads = {1: {2, 3, 4}, 2: {3}, 3: set(), 4: {2, 3}}
    for i, before in reads.items():
        assert {j + 1 for j in question[0, i - 1].nonzero().flatten().tolist()} == before
        assert {j + 1 for j in content[0, i - 1].nonzero().flatten().tolist()} == before | {i}
    assert torch.equal(in_order(torch.arange(7)[None])[0], causal_mask(7))


def own_words(row): return sum(i not in tokenizer().all_special_ids for i in row["input_ids"])


def test_what_is_asked():
    "A sixth of each row's own subwords, at least one; ranks 0, 1, 2 …; the rest is context, special ones always; labels are what stands there."
    batch, asked = PermutationCollator(tokenizer())(ROWS, dice()), 0
    for k, e in enumerate(ROWS):
        n, own = len(e["input_ids"]), own_words(e)
        ranks, many = batch["ranks"][k], max(1, round(own / 6))
        assert sorted(ranks[ranks >= 0].tolist()) == list(range(many)) and (ranks[n - 1:] == -1).all() and ranks[0] == -1
        places = batch["asked"][k][:many].tolist()
        assert [int(ranks[p]) for p in places] == list(range(many))
        assert batch["labels"]["plm"][k].tolist() == [e["input_ids"][p] for p in places] + [IGNORE] * (batch["asked"].shape[1] - many)
        asked += many
    assert batch["counts"]["plm"] == asked


def test_every_place_has_its_turn():
    "Over many orders each place of a row is asked equally often, within five standard errors."
    row, times, draws = ROWS[0], 0, 600
    own = own_words(row)
    assert own == len(row["input_ids"]) - 2
    batch = PermutationCollator(tokenizer(), share=0.5)([row] * draws, dice())
    times = (batch["ranks"] >= 0).float().mean(0)[1:-1]
    share = round(own / 2) / own
    assert (times - share).abs().max() < 5 * (share * (1 - share) / draws) ** 0.5
    firsts = (batch["ranks"] == 0).float().mean(0)[1:-1]
    assert (firsts - 1 / own).abs().max() < 5 * (1 / own / draws) ** 0.5


def plainly(t, ids, mask, ranks):
    "Two streams as the paper's equations have them, layer by layer."
    content, question = (m[:, None] & mask.bool()[:, None, None] for m in in_order(ranks))
    place = torch.arange(ids.shape[1])
    h, g = t.embeddings(ids, place, None), t.embeddings(torch.full_like(ids, MASK), place, None)
    for layer in t.layers:
        g = layer.attention_norm(g + layer.attention(g, h, question))
        g, h = layer.feed_norm(g + layer.feed_forward(g)), layer(h, content)
    return h, g


def test_one_long_row_is_two_streams():
    batch = PermutationCollator(tokenizer(), share=0.4)(ROWS[:8], dice())
    model = stirred(PermutationLM(fresh(), MASK))
    n, fast = batch["input_ids"].shape[1], model.read(batch, batch["asked"])
    h, g = plainly(from_hugging_face(model.model.base_model), batch["input_ids"], batch["attention_mask"], batch["ranks"])
    real, asked = batch["attention_mask"].bool(), batch["labels"]["plm"] != IGNORE
    g = g.gather(1, batch["asked"][:, :, None].expand(-1, -1, 32))
    assert (fast[:, :n] - h)[real].abs().max() < 1e-5 and (fast[:, n:] - g)[asked].abs().max() < 1e-5
    wanted = F.cross_entropy(model.model.lm_head(g[asked]), batch["labels"]["plm"][asked])
    assert abs(loss(model, batch) - wanted) < 1e-5


def test_left_to_right_is_one_of_the_orders():
    "The content stream then is the causal model, state by state; without a second stream the loss is the causal one."
    batch = NextCollator(tokenizer())(ROWS[:1])
    n = batch["input_ids"].shape[1]
    line = batch | {"ranks": torch.arange(n)[None], "asked": torch.arange(1, n)[None], "labels": {"plm": batch["input_ids"][:, 1:]}}
    causal, one = stirred(CausalLM(fresh())), stirred(PermutationLM(fresh(), MASK, two_streams=False))
    assert (one.read(line, line["asked"])[:, :n] - causal.states(batch)).abs().max() < 1e-5
    assert abs(loss(one, line) - loss(causal, batch)) < 1e-5


def test_no_question_sees_its_own_word_or_a_later_one():
    "Exchange one word after the other: exactly the questions of higher rank move."
    batch = PermutationCollator(tokenizer(), share=0.5)(ROWS[2:3], dice(3))
    model = stirred(PermutationLM(fresh(), MASK))
    n, ranks, asked = batch["input_ids"].shape[1], batch["ranks"][0], batch["asked"][0]
    states = model.read(batch, batch["asked"])[0, n:]
    for place in range(n):
        other = batch | {"input_ids": batch["input_ids"].index_fill(1, torch.tensor(place), 77 if batch["input_ids"][0, place] != 77 else 78)}
        moved = (model.read(other, batch["asked"])[0, n:] - states).abs().amax(1)
        may = ranks[place] < ranks[asked]
        assert (moved[~may] < 1e-6).all() and (moved[may] > 1e-6).all(), place


def test_the_question_knows_where_it_stands():
    "The same words read, another place: with two streams another distribution, with one the very same (section 2.3 of the paper)."
    batch = PermutationCollator(tokenizer(), share=0.5)(ROWS[2:3], dice(3))
    n = batch["input_ids"].shape[1]
    first = batch | {"ranks": torch.where(batch["ranks"] >= 0, 0, -1), "labels": {"plm": torch.full((1, 1), 9)}}
    told = lambda model, k: loss(model, first | {"asked": batch["asked"][:, k:k + 1]})
    two, one = stirred(PermutationLM(fresh(), MASK)), stirred(PermutationLM(fresh(), MASK, two_streams=False))
    assert abs(told(two, 0) - told(two, 1)) > 1e-2 and torch.equal(told(one, 0), told(one, 1)) and n > 4


def test_a_row_without_words():
    "`<s></s>` asks nothing, and disturbs nobody."
    collate, empty = PermutationCollator(tokenizer()), {"input_ids": [0, 2]}
    alone, mixed = collate([empty], dice()), collate([empty, ROWS[0]], dice())
    assert alone["counts"]["plm"] == 0 and mixed["counts"]["plm"] == max(1, round(own_words(ROWS[0]) / 6))
    model = PermutationLM(fresh(), MASK)
    told = loss(model, mixed)
    told.backward()
    assert told.isfinite() and all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_the_longest_row_fits():
    "Questions lengthen the row beyond the encoder's positions, but stand at positions that it has."
    encoder = new_encoder("xlm-roberta", tokenizer(), layers=1, width=16, max_length=24)
    batch = PermutationCollator(tokenizer(), share=1.0)([{"input_ids": [0, *range(10, 32), 2]}], dice())
    assert batch["asked"].shape[1] == 22 and loss(PermutationLM(encoder, MASK).eval(), batch).isfinite()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_seed_repeats_bit_for_bit(precision):
    def run(seed):
        model = PermutationLM(fresh(1), MASK)
        recipe = Recipe(learning_rate=1e-2, steps=6, tokens=512, rows=None, threads=1, precision=precision)
        return train(model, ROWS, replace(recipe, seed=seed), collate=PermutationCollator(tokenizer()), bar=False, say=lambda line: None).curve("plm")
    assert run(0) == run(0) != run(1) and all(map(math.isfinite, run(0)))
