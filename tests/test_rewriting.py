"""Spans and passages damaged and put together again; the decoder against Hugging Face's and against itself, word by word."""
import re
from collections import Counter
from functools import lru_cache

import pytest
import torch
from tiny import tokenizer
from torch.nn import functional as F
from transformers import EncoderDecoderConfig, EncoderDecoderModel, XLMRobertaConfig

from xlt_lib.data.errors import DataError
from xlt_lib.data.world import World
from xlt_lib.encoders.batches import IGNORE
from xlt_lib.encoders.recipe import Recipe, layers_from_below
from xlt_lib.encoders.rewriting import DENOISING, SIGNS, SPANS, DenoisingCollator, Rewriting, SpanCollator, corrupt, divided, draw_lengths, draw_spans, infill, passages, restore
from xlt_lib.encoders.same_weights import NAMES
from xlt_lib.encoders.text import Text
from xlt_lib.encoders.training import train
from xlt_lib.encoders.transformer import new_encoder

V, PAD, SEP, MASK = len(tokenizer()), tokenizer().pad_token_id, tokenizer().sep_token_id, tokenizer().mask_token_id


@lru_cache
def text(): return Text({c: [s.text for s in World(languages=("en", "sw")).sentences(c, "unlabelled")][:41] for c in ("en", "sw")}, {})


@lru_cache
def rows(): return passages(text(), tokenizer(), 128)


def dice(seed=0): return torch.Generator().manual_seed(seed)
def fresh(layers=2, **more): return new_encoder("xlm-roberta", tokenizer(), layers=layers, width=32, **more)
def words(ids): return [i for i in ids if i != PAD]


def stirred(model):
    "Weights as large as a trained model's."
    with torch.no_grad():
        for p in model.parameters(): p.add_(torch.randn(p.shape, generator=dice(7)) * 0.15)
    return model.eval()


# -- spans -------------------------------------------------------------------------------------------------------------
def test_t5_s_own_example():
    "Thank you <X> me to your party <Y> week. <X> for inviting <Y> last <Z>"
    read, written = corrupt(list(range(11)), [(2, 4), (8, 9)], 100)
    assert read == [0, 1, 100, 4, 5, 6, 7, 101, 9, 10] and written == [100, 2, 3, 101, 8, 102]
    assert restore(read, written, 100) == list(range(11))
    assert corrupt([], [], 100) == ([], [100]) and restore([100], [100, 7, 101], 100) == [7]


@pytest.mark.parametrize("total, parts, least, ways", [(5, 2, 1, 4), (5, 3, 1, 6), (3, 2, 0, 4), (2, 3, 0, 6), (1, 1, 1, 1), (0, 2, 0, 1)])
def test_every_way_to_divide_is_as_likely(total, parts, least, ways):
    roll, times = dice(), 3000
    seen = Counter(tuple(divided(total, parts, least, roll)) for _ in range(times))
    assert len(seen) == ways and all(sum(s) == total and min(s) >= least and len(s) == parts for s in seen)
    assert all(abs(n / times - 1 / ways) < 5 * (1 / ways * (1 - 1 / ways) / times) ** 0.5 + 1e-12 for n in seen.values())


def test_spans_of_every_length():
    "15 % in all, 3 on average, never two that touch, within the row."
    for length in range(1, 140):
        for seed in range(3):
            spans = draw_spans(length, 0.15, 3.0, 99, dice(seed))
            hidden = max(1, round(0.15 * length))
            assert sum(b - a for a, b in spans) == hidden and len(spans) == max(1, round(hidden / 3))
            assert all(a < b for a, b in spans) and all(y[0] > x[1] for x, y in zip(spans, spans[1:])) and spans[0][0] >= 0 and spans[-1][1] <= length
    assert draw_spans(0, 0.15, 3.0, 99, dice()) == [] and len(draw_spans(400, 0.5, 1.0, 99, dice())) == 99 and draw_spans(1, 1.0, 3.0, 99, dice()) == [(0, 1)]


def test_a_short_row_s_gap_may_be_anywhere():
    "Not at the end only, as in T5's own code."
    seen = Counter(draw_spans(20, 0.15, 3.0, 99, dice(s))[0] for s in range(900))
    assert set(seen) == {(a, a + 3) for a in range(18)} and max(seen.values()) < 900 / 18 + 5 * (900 / 18) ** 0.5


@pytest.mark.parametrize("mean", [1.0, 3.0])
def test_damaged_and_restored(mean):
    batch = SpanCollator(tokenizer(), mean=mean)(rows(), dice())
    for e, read, written in zip(rows(), batch["input_ids"].tolist(), batch["target"].tolist()):
        assert restore(words(read), words(written)[1:], V) == e["input_ids"] and written[0] == e["input_ids"][0]
        assert len(words(read)) <= len(e["input_ids"])
    assert int(batch["input_ids"].max()) < V + SIGNS and batch["counts"]["spans"] == sum(len(words(t)) - 1 for t in batch["target"].tolist())
    gold = batch["labels"]["spans"]
    assert torch.equal(gold[gold != IGNORE], batch["target"][:, 1:][batch["target"][:, 1:] != PAD])


# -- denoising ---------------------------------------------------------------------------------------------------------
def test_infilling_by_hand():
    assert infill([[1], [2], [3], [4], [5], [6]], [2, 0], [1, 2, 1], 99) == [1, 99, 4, 5, 99, 6]
    assert infill([[1, 2], [3, 4], [5]], [1, 1], [0, 0, 1], 99) == [99, 99, 5] and infill([], [], [0], 99) == []


def test_lengths_are_poisson_s():
    "Their mean and the share of noughts, in five standard errors; they hide just so many words, and the text does not grow."
    roll = dice()
    longs = draw_lengths(8000, 3.5, roll)[:-1]
    assert abs(sum(longs) / len(longs) - 3.5) < 5 * (3.5 / len(longs)) ** 0.5 and abs(longs.count(0) / len(longs) - 0.0302) < 5 * (0.0302 / len(longs)) ** 0.5
    for hidden in (0, 1, 2, 3, 10):
        for _ in range(200):
            longs = draw_lengths(hidden, 0.5, roll)          # many noughts
            assert sum(longs) == hidden and len(longs) <= hidden


def test_passages_are_lines_in_their_order():
    made = [e["input_ids"] for e in rows() if e["language"] == "en"]
    lines = [e for e in tokenizer()(text().mono["en"])["input_ids"]]
    assert [i for r in made for i in r[1:]] == [i for r in lines for i in r[1:]]           # nothing lost, nothing twice
    assert all(len(r) <= 128 and r[0] == 0 and r[-1] == SEP and r.count(SEP) <= 4 for r in made) and max(r.count(SEP) for r in made) > 1
    few = passages(text(), tokenizer(), 24, rows=6)
    assert all(len(e["input_ids"]) <= 24 for e in few) and {e["language"] for e in few} == {"en", "sw"}


@pytest.mark.parametrize("permute", [True, False])
def test_what_is_left_is_in_the_original(permute):
    "Some order of the sentences, with each mask standing for no or more subwords, is the target; and 35 % of each sentence's words, rounded up, are hidden."
    collate = DenoisingCollator(tokenizer(), permute=permute)
    batch, moved, masks = collate(rows(), dice()), 0, 0
    for e, read, target in zip(rows(), batch["input_ids"].tolist(), batch["target"].tolist()):
        assert words(target) == e["input_ids"] and len(words(read)) <= len(target)
        split = lambda ids: re.findall(r"((?: \d+)*?) 2(?!\d)", "".join(f" {i}" for i in words(ids)[1:]))
        kept, original = split(read), split(target)
        assert len(kept) == len(original)
        fits = [[bool(re.fullmatch(k.replace(f" {MASK}", r"(?: \d+)*"), o)) for o in original] for k in kept]
        if not permute: assert all(fits[i][i] for i in range(len(kept)))
        assert all(map(any, fits)) and all(map(any, zip(*fits)))
        moved += not all(fits[i][i] for i in range(len(kept)))
        masks += read.count(MASK)
    assert masks >= len(rows()) and (moved > len(rows()) / 4) == permute


def test_words_of_a_sentence():
    "Pieces together; what has more than eight is taken piece by piece, and `</s>` ends a sentence."
    tok, collate = tokenizer(), DenoisingCollator(tokenizer(), longest=3)
    ids = tok("the doctor")["input_ids"]
    begins = collate.begins
    whole = DenoisingCollator(tokenizer(), longest=99).sentences(ids)[0]
    assert len(whole) == 2 and [p for w in whole for p in w] == ids[1:-1] and all(begins[w[0]] and not any(begins[p] for p in w[1:]) for w in whole)
    assert collate.sentences(ids)[0] == [w for long in whole for w in ([long] if len(long) <= 3 else [[p] for p in long])]
    assert collate.sentences([0, 9, 2, 9, 2]) == [[[9]], [[9]]] and collate.sentences([0, 2]) == [[]]


# -- encoder and decoder -----------------------------------------------------------------------------------------------
def by_steps(model, batch):
    "Mean loss, one word after the other, each from nothing but the words before it."
    told = []
    for row, target in enumerate(batch["target"].tolist()):
        one = {k: batch[k][row:row + 1, :int(batch["attention_mask"][row].sum())] for k in ("input_ids", "attention_mask")}     # alone, without padding
        y = words(target)
        for t in range(1, len(y)):
            scores = model.scores(model.states(model.memory(one), one["attention_mask"], torch.tensor([y[:t]]))[:, -1])
            told.append(-scores.log_softmax(-1)[0, y[t]])
    return torch.stack(told).mean()


@pytest.mark.parametrize("collate, signs", [(SpanCollator(tokenizer()), SIGNS), (DenoisingCollator(tokenizer()), 0)])
@torch.no_grad()
def test_all_at_once_is_word_by_word(collate, signs):
    model, batch = stirred(Rewriting(fresh(), signs)), collate(rows()[:3], dice())
    quick = next(iter(model(batch)["losses"].values()))
    assert abs(by_steps(model, batch) - quick) < 1e-4 * quick


@torch.no_grad()
def test_the_decoder_is_hugging_face_s_with_the_same_weights():
    "Its encoder-decoder around two XLM-R networks, ours poured into it: the same loss."
    model, batch = stirred(Rewriting(fresh())), DenoisingCollator(tokenizer())(rows()[:4], dice())
    shape, ours = model.decoder.shape, model.decoder.state_dict()
    config = lambda **more: XLMRobertaConfig(vocab_size=V, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=shape.inner, pad_token_id=PAD,
                                             max_position_embeddings=shape.max_length + PAD + 1, type_vocab_size=1, **more)
    theirs = EncoderDecoderModel(config=EncoderDecoderConfig.from_encoder_decoder_configs(model.model.config, config(is_decoder=True, add_cross_attention=True))).eval()
    theirs.encoder.load_state_dict(model.model.state_dict(), strict=False)
    there = theirs.decoder.roberta.state_dict()
    names = {k.replace("{}", str(i)): v.replace("{}", str(i)) for k, v in NAMES["xlm-roberta"].items() for i in range(2)}
    for i in range(2):
        at, to = f"layers.{i}.cross", f"encoder.layer.{i}.crossattention."
        names |= {f"{at}.query": to + "self.query", f"{at}.key_value": f"{to}self.key + {to}self.value", f"{at}.out": to + "output.dense", f"{at}_norm": to + "output.LayerNorm"}
    for mine, others in names.items():
        for part in ("weight", "bias"):
            if mine == "embeddings.subwords":
                if part == "weight": there["embeddings.word_embeddings.weight"].copy_(model.table.weight)
                continue
            if f"{mine}.{part}" not in ours: continue
            pieces = others.split(" + ")
            for name, piece in zip(pieces, ours[f"{mine}.{part}"].chunk(len(pieces))): there[f"{name}.{part}"].copy_(piece)
    there["embeddings.position_embeddings.weight"][PAD + 1:].copy_(ours["embeddings.places.weight"]); there["embeddings.token_type_embeddings.weight"].zero_()
    target, gold = batch["target"][:, :-1], batch["labels"]["denoising"]
    states = theirs.decoder.roberta(input_ids=target, encoder_hidden_states=theirs.encoder(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state,
                                    encoder_attention_mask=batch["attention_mask"]).last_hidden_state
    mine = model.states(model.memory(batch), batch["attention_mask"], target)
    assert (states - mine)[target != PAD].abs().max() < 1e-3 and (states - mine)[target != PAD].abs().mean() < 1e-4       # large weights, float32
    wanted = F.cross_entropy(F.linear(states, model.table.weight, model.bias).flatten(0, 1), gold.flatten(), ignore_index=IGNORE)
    assert abs(model(batch)["losses"]["denoising"] - wanted) < 1e-4


@torch.no_grad()
def test_without_signs_the_encoder_reads_as_ever():
    model = stirred(Rewriting(fresh(), SIGNS))
    batch = DenoisingCollator(tokenizer())(rows()[:4], dice())
    expected = model.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    assert (model.memory(batch) - expected)[batch["attention_mask"] == 1].abs().max() < 1e-5


def test_one_table_for_encoder_decoder_and_output():
    model = Rewriting(fresh(), SIGNS)
    words_ = model.model.get_input_embeddings()
    assert model.table.words is words_ and model.decoder.get_input_embeddings() is model.table and len(model.table.weight) == V + SIGNS
    assert sum(p is words_.weight for p in model.parameters()) == 1 and not any(p.shape == (V + SIGNS, 32) for p in model.parameters())
    assert layers_from_below(model)[0] is model.model.embeddings                          # the recipe's layers are the encoder's, not the decoder's


@pytest.mark.parametrize("objective", [SPANS, DENOISING], ids=lambda o: o.name)
@pytest.mark.parametrize("row", [[0, 2], [0, 9, 2], [0, *range(10, 72), 2]], ids=["empty", "one", "longest"])
def test_rows_of_every_length_fit(objective, row):
    model, collate = objective.build(fresh(1, max_length=64), tokenizer())
    for seed in range(5):
        batch = collate([{"input_ids": row}], dice(seed))
        assert next(iter(model(batch)["losses"].values())).isfinite() and batch["input_ids"].shape[1] <= 64


def test_it_learns_to_write_what_is_missing():
    "A few passages by heart: the hidden words are written, gap by gap."
    some = rows()[:4]
    model, collate = Rewriting(fresh(1), SIGNS), SpanCollator(tokenizer())
    recipe = Recipe(learning_rate=3e-3, steps=400, tokens=512, rows=None, precision="fp32", threads=1)
    curve = train(model, some, recipe, collate=collate, bar=False, say=lambda line: None).curve("spans")
    assert sum(curve[-20:]) / 20 < sum(curve[:20]) / 20 / 1.8
    batch = collate(some, dice(99))
    memory, mask, gold = model.memory(batch), batch["attention_mask"], batch["labels"]["spans"]
    own, others = (model.loss(model.states(memory.roll(k, 0), mask.roll(k, 0), batch["target"][:, :-1]), gold) for k in (0, 1))
    assert own < others - 0.2                           # the decoder reads the encoder: with another row's states it writes other words


def test_another_kind_is_refused():
    with pytest.raises(DataError, match="not pre-trained here"): Rewriting(new_encoder("bert", tokenizer(), layers=1, width=16))
