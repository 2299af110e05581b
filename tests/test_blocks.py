"""The transformer that is built in the lessons: equal to Hugging Face's with the same weights; what is masked has no influence; bad shapes are refused."""
from dataclasses import replace

import pytest
import torch
from tiny import tokenizer
from torch.nn import functional as F
from transformers import AlbertConfig, AlbertModel, BertConfig, BertForMaskedLM, BertModel, GPT2Config, GPT2Model
from transformers import ModernBertConfig, ModernBertModel, XLMRobertaConfig, XLMRobertaModel
from transformers.models.modernbert.modeling_modernbert import apply_rotary_pos_emb

from xlt_lib.data.errors import DataError
from xlt_lib.encoders.attention import all_of, attend, attention_weights, causal_mask, padding_mask, rotary_angles, rotate, sinusoids, window_mask
from xlt_lib.encoders.batches import Collator
from xlt_lib.encoders.blocks import Shape, Transformer
from xlt_lib.encoders.recipe import Recipe, adamw, layers_from_below, levels, set_rate
from xlt_lib.encoders.same_weights import from_hugging_face, hugging_face_model, shape_of, to_hugging_face
from xlt_lib.encoders.training import train
from xlt_lib.encoders.transformer import open_encoder

V = 300      # the size of the tests' tokenizer
SMALL = Shape(V, width=32, layers=4, heads=4, max_length=48, pad_id=1)
MODERN = dict(norm="pre", positions="rotary", gated=True, bias=False)
VARIANTS = {"post": {}, "pre": dict(norm="pre"), "sinusoid": dict(positions="sinusoid"), "rotary": dict(positions="rotary"), "none": dict(positions="none"),
            "window": dict(window=2), "all local": dict(window=2, every=0), "shared": dict(shared=True), "factor": dict(factor=8),
            "albert": dict(shared=True, factor=8, curve="gelu_tanh"), "modernbert": dict(**MODERN, window=4, every=3, base_full=160_000.0)}


def noisy(model, seed=0):
    "Every parameter moved, biases and norms too: weights as a trained model has them, so that nothing agrees by being 0 or 1."
    dice = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters(): p.add_(torch.randn(p.shape, generator=dice) * 0.15)
    return model.eval()


def batch(rows=3, n=40, seed=0):
    dice = torch.Generator().manual_seed(seed)
    ids, mask = torch.randint(5, V, (rows, n), generator=dice), torch.ones(rows, n, dtype=torch.long)
    mask[1:2, n // 2:] = 0; mask[2:3, 5:] = 0
    return ids.masked_fill(mask == 0, 1), mask


def made(**change): return noisy(Transformer(replace(SMALL, **change)))


# The same weights

COMMON = dict(vocab_size=V, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, intermediate_size=48, max_position_embeddings=50,
              pad_token_id=1, bos_token_id=0, eos_token_id=2)
MODERN_IDS = dict(cls_token_id=0, sep_token_id=2)
THEIRS = {
    "bert": lambda: BertModel(BertConfig(**COMMON)),
    "bert with a head": lambda: BertForMaskedLM(BertConfig(**COMMON)),
    "xlm-roberta": lambda: XLMRobertaModel(XLMRobertaConfig(**COMMON, type_vocab_size=1)),
    "albert": lambda: AlbertModel(AlbertConfig(**COMMON, embedding_size=16)),
    "albert, not shared": lambda: AlbertModel(AlbertConfig(**COMMON, embedding_size=16, num_hidden_groups=4)),
    "modernbert": lambda: ModernBertModel(ModernBertConfig(**COMMON, **MODERN_IDS, local_attention=8)),
    "modernbert, all global, biases": lambda: ModernBertModel(ModernBertConfig(
        **COMMON, **MODERN_IDS, global_attn_every_n_layers=1, norm_bias=True, attention_bias=True, mlp_bias=True))}


@pytest.mark.parametrize("name", THEIRS)
def test_their_weights_give_their_states(name):
    theirs, (ids, mask) = noisy(THEIRS[name]()), batch()
    ours, base = from_hugging_face(theirs), theirs.base_model
    with torch.no_grad(): there, here = base(input_ids=ids, attention_mask=mask).last_hidden_state, ours(ids, mask)
    assert there.abs().max() > 1
    assert torch.allclose(there[mask == 1], here[mask == 1], atol=1e-5)
    with torch.no_grad(): ours.layers[-1].feed_norm.weight[3] += 0.1      # so the test could have failed
    assert not torch.allclose(there[mask == 1], ours(ids, mask)[mask == 1], atol=1e-3)


def test_xlm_r_counts_places_from_the_padding_id():
    "The first subword's place is row pad_id + 1 of XLM-R's table, so two rows of it are never read by a sentence."
    theirs = noisy(THEIRS["xlm-roberta"]())
    ours = from_hugging_face(theirs)
    assert ours.shape.max_length == 48
    table = theirs.embeddings.position_embeddings.weight + theirs.embeddings.token_type_embeddings.weight[0]
    assert torch.equal(ours.embeddings.places.weight, table[2:])
    ids = torch.full((1, 48), 7)
    assert torch.allclose(ours(ids), theirs(ids).last_hidden_state, atol=1e-5)


@pytest.mark.parametrize("config, found", [
    (GPT2Config(), "gpt2"), (BertConfig(hidden_act="silu"), "silu"), (BertConfig(is_decoder=True), "is_decoder"),
    (AlbertConfig(num_hidden_groups=2), "num_hidden_groups"), (AlbertConfig(inner_group_num=2), "inner_group_num"),
    (ModernBertConfig(norm_bias=True), "norm_bias"), (ModernBertConfig(hidden_activation="silu"), "silu"),
    (ModernBertConfig(num_hidden_layers=3, layer_types=["sliding_attention", "full_attention", "full_attention"]), "layer_types")])
def test_what_has_no_place_here_is_refused(config, found):
    with pytest.raises(DataError, match=found): shape_of(config)


EXPORTS = {"xlm-roberta": {}, "sinusoid": dict(positions="sinusoid"), "shared": dict(shared=True), "factor": dict(factor=8), "albert": VARIANTS["albert"],
           "modern, full": MODERN, "modern, biases": MODERN | dict(bias=True), "modern, window": VARIANTS["modernbert"], "modern, all local": MODERN | dict(window=3, every=0)}


@pytest.mark.parametrize("name", EXPORTS)
def test_a_folder_that_opens_and_gives_the_same_states(name, tmp_path):
    ours, (ids, mask) = made(**EXPORTS[name]), batch()
    to_hugging_face(ours, tokenizer(), tmp_path)
    opened = open_encoder(tmp_path)
    with torch.no_grad(): there, here = opened.model(input_ids=ids, attention_mask=mask).last_hidden_state, ours(ids, mask)
    assert torch.allclose(there[mask == 1], here[mask == 1], atol=1e-5) and opened.max_length == 48
    again = from_hugging_face(opened.model)                               # and back
    assert torch.allclose(again(ids, mask)[mask == 1], here[mask == 1], atol=1e-5)


def test_a_language_can_be_built_in():
    ours, (ids, mask) = made(languages=("en", "sw")), batch()
    model = hugging_face_model(ours, tokenizer(), language="sw")
    with torch.no_grad(): there = model(input_ids=ids, attention_mask=mask).last_hidden_state
    assert torch.allclose(there[mask == 1], ours(ids, mask, languages=["sw"] * 3)[mask == 1], atol=1e-5)
    assert not torch.allclose(there[mask == 1], ours(ids, mask, languages=["en"] * 3)[mask == 1], atol=1e-2)
    with pytest.raises(DataError, match="en, sw"): hugging_face_model(ours, tokenizer())
    with pytest.raises(DataError, match="en, sw"): hugging_face_model(ours, tokenizer(), language="yo")


@pytest.mark.parametrize("change", [dict(window=2), dict(norm="pre"), dict(positions="none"), dict(positions="rotary"), dict(gated=True), dict(bias=False), dict(cross=True),
                                    MODERN | dict(shared=True), MODERN | dict(factor=8)])
def test_what_no_kind_there_computes_is_refused(change):
    with pytest.raises(DataError, match="no kind of encoder"): hugging_face_model(made(**change), tokenizer())


def test_a_tokenizer_that_does_not_fit_is_refused():
    with pytest.raises(DataError, match="tokenizer does not fit"): hugging_face_model(made(pad_id=0), tokenizer())
    with pytest.raises(DataError, match="tokenizer does not fit"): hugging_face_model(made(vocabulary=200), tokenizer())


# Attention and masks

def plain(q, k, v, readable=None):
    "Attention as the formula reads, number by number."
    out = torch.zeros(*q.shape[:-1], v.shape[-1])
    for r in range(q.shape[0]):
        for h in range(q.shape[1]):
            for i in range(q.shape[2]):
                read = [j for j in range(k.shape[2]) if readable is None or readable.expand(*q.shape[:2], q.shape[2], k.shape[2])[r, h, i, j]]
                if not read: continue
                e = torch.stack([(q[r, h, i] @ k[r, h, j] / q.shape[-1] ** 0.5).exp() for j in read])
                out[r, h, i] = sum(w * v[r, h, j] for w, j in zip(e / e.sum(), read))
    return out


@pytest.mark.parametrize("mask", [None, "padding", "causal", "nothing"])
def test_attention_is_the_formula(mask):
    dice = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, 5, 4, generator=dice) for _ in range(3))
    readable = {None: None, "padding": all_of(padding_mask(torch.tensor([[1, 1, 1, 0, 0], [1] * 5]))), "causal": all_of(causal_mask(5)),
                "nothing": all_of(causal_mask(5), padding_mask(torch.tensor([[0, 1, 1, 1, 1], [1] * 5])))}[mask]
    expected = plain(q, k, v, readable)
    assert torch.allclose(attend(q, k, v, readable), expected, atol=1e-6)                               # the fused kernel
    weights = attention_weights(q, k, readable)
    assert torch.allclose(weights @ v, expected, atol=1e-6)
    assert torch.allclose(attend(q, k, v, readable, dropout=1e-9), expected, atol=1e-6)                 # the way with dropout
    if mask == "nothing": assert (weights[0, :, 0] == 0).all()                                          # the first place may read nothing
    elif mask: assert torch.equal(weights > 0, readable.expand_as(weights))
    assert torch.allclose(weights.sum(-1), (weights > 0).any(-1).float(), atol=1e-6)


def test_dropout_keeps_the_mean():
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 1, 4, 8) for _ in range(3))
    many = torch.stack([attend(q, k, v, None, 0.5) for _ in range(4000)])
    assert torch.allclose(many.mean(0), attend(q, k, v), atol=0.06) and many.std(0).min() > 0.1


@pytest.mark.parametrize("name", VARIANTS)
def test_padding_changes_nothing(name):
    model, (ids, mask) = made(**VARIANTS[name]), batch()
    padded, other = model(ids, mask), model(ids.masked_fill(mask == 0, 17), mask)
    assert torch.equal(padded[mask == 1], other[mask == 1])                                             # what stands there is never read
    for row in range(3):
        n = int(mask[row].sum())
        assert torch.allclose(model(ids[row:row + 1, :n])[0], padded[row, :n], atol=1e-5)
    assert not torch.allclose(model(ids)[2, :5], padded[2, :5], atol=1e-3)                              # without the mask it is
    assert padded.isfinite().all()


@pytest.mark.parametrize("name", VARIANTS)
def test_a_causal_transformer_never_looks_ahead(name):
    model, (ids, _) = made(**VARIANTS[name]), batch()
    before = model(ids, may_read=causal_mask(40))
    changed = ids.clone(); changed[:, 20] = (changed[:, 20] + 7) % 200 + 5
    after = model(changed, may_read=causal_mask(40))
    assert torch.equal(before[:, :20], after[:, :20]) and not torch.allclose(before[:, 20], after[:, 20], atol=1e-3)
    free = model(ids), model(changed)
    if name != "all local": assert not torch.allclose(free[0][:, 10], free[1][:, 10], atol=1e-4)        # a reader in both directions does


def test_a_window_reaches_as_far_as_its_layers():
    "Four layers of a window of two: news travels eight places and no further. One layer that reads everything ends that."
    ids, _ = batch(1)
    changed = ids.clone(); changed[0, 20] = 7 if ids[0, 20] != 7 else 8
    moved = lambda model: ((model(ids) - model(changed)).abs().amax(-1)[0] > 0).nonzero().flatten().tolist()
    assert moved(made(window=2, every=0)) == list(range(12, 29))
    assert moved(made(window=2, every=3)) == list(range(40))
    seen = made(window=2, every=3).attention(ids)
    near = window_mask(40, 2)[0]
    assert [bool((w[0, :, ~near] == 0).all()) for w in seen] == [False, True, True, False]


def test_a_row_may_have_a_mask_of_its_own():
    "Two sentences packed into one row, each with places from 0, give what they give alone."
    model, (ids, _) = made(), batch()
    apart = torch.zeros(40, dtype=torch.bool); apart[:15] = True
    may_read = (apart[:, None] == apart)[None].repeat(3, 1, 1)
    packed = model(ids, may_read=may_read, positions=torch.cat([torch.arange(15), torch.arange(25)]))
    assert torch.allclose(packed[:, :15], model(ids[:, :15]), atol=1e-5)
    assert torch.allclose(packed[:, 15:], model(ids[:, 15:]), atol=1e-5)
    may_read[1] = True
    assert not torch.allclose(model(ids, may_read=may_read)[1], model(ids, may_read=may_read[:1])[1], atol=1e-3)


def test_a_decoder_reads_its_memory_and_not_the_memory_s_padding():
    model, (ids, mask) = made(cross=True), batch()
    memory = torch.randn(3, 9, 32, generator=torch.Generator().manual_seed(1))
    there = torch.tensor([[1] * 9, [1] * 4 + [0] * 5, [1] * 9])
    told = model(ids, mask, memory=memory, memory_mask=there)
    hidden = memory.clone(); hidden[1, 4:] = 99.0
    assert torch.equal(told, model(ids, mask, memory=hidden, memory_mask=there))
    hidden[1, 3] = 99.0
    assert not torch.allclose(told[1], model(ids, mask, memory=hidden, memory_mask=there)[1], atol=1e-3)
    with pytest.raises(DataError, match="without a memory"): model(ids, mask)
    with pytest.raises(DataError, match="reads none"): made()(ids, mask, memory=memory)


# Positions

def test_rotation_is_modernbert_s():
    dice = torch.Generator().manual_seed(0)
    q, k = (torch.randn(2, 3, 7, 8, generator=dice) for _ in range(2))
    cos, sin = rotary_angles(torch.arange(7), 8)
    theirs = apply_rotary_pos_emb(q, k, torch.cat([cos, cos], -1)[None], torch.cat([sin, sin], -1)[None])
    for a, b in zip((q, k), theirs): assert torch.allclose(rotate(a, (cos, sin)), b, atol=1e-6)


def test_rotated_products_depend_on_the_distance_alone():
    dice = torch.Generator().manual_seed(0)
    q, k = (torch.randn(8, generator=dice).expand(1, 1, 30, 8) for _ in range(2))
    angles = rotary_angles(torch.arange(30), 8)
    products = (rotate(q, angles) @ rotate(k, angles).mT)[0, 0]
    for distance in range(-5, 6):
        line = products.diagonal(distance)
        assert torch.allclose(line, line[:1].expand_as(line), atol=1e-4)
    assert torch.allclose(rotate(q, angles).norm(dim=-1), q.norm(dim=-1), atol=1e-5)
    assert products.diagonal(1).std() < 1e-4 < products[0].std()


def test_sinusoids_are_the_paper_s():
    "PE(pos, 2i) = sin(pos / 10000^(2i/d)), PE(pos, 2i+1) = cos of the same."
    table = sinusoids(20, 6)
    for pos, i in ((0, 0), (3, 1), (19, 2)):
        angle = torch.tensor(pos / 10_000 ** (2 * i / 6))
        assert torch.allclose(table[pos, 2 * i:2 * i + 2], torch.stack([angle.sin(), angle.cos()]), atol=1e-6)


def test_without_positions_order_is_invisible():
    ids, _ = batch(1)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    for name in ("none", "post", "rotary", "sinusoid"):
        model = made(**VARIANTS[name])
        assert torch.allclose(model(ids[:, order]), model(ids)[:, order], atol=1e-4) == (name == "none")


# Settings

def numbers(**change): return sum(p.numel() for p in Transformer(replace(SMALL, **change)).parameters())


def test_sharing_and_factors_cost_what_the_paper_says():
    layer = 12 * 32 ** 2 + 13 * 32                      # four w×w matrices, two of 4w×w, their biases, two norms
    assert numbers() - numbers(layers=1) == 3 * layer
    assert numbers(shared=True) == numbers(layers=1) == numbers(shared=True, layers=12)
    e = 8                                                # embeddings, places, norm: V·w + n·w + 2w → (V + n + 2)·e, and up: e·w + w
    assert numbers() - numbers(factor=e) == (V + 48 + 2) * (32 - e) - (e * 32 + 32)
    assert numbers(languages=("en", "sw")) - numbers() == 2 * 32


def test_a_language_vector_tells_a_language():
    model, (ids, mask) = made(languages=("en", "sw", "yo")), batch()
    en, sw = model(ids, mask, languages=["en"] * 3), model(ids, mask, languages=["sw"] * 3)
    assert not torch.allclose(en, sw, atol=1e-2)
    mixed = model(ids, mask, languages=["en", "sw", "en"])
    assert torch.allclose(mixed[0], en[0], atol=1e-6) and torch.allclose(mixed[1], sw[1], atol=1e-6)
    assert torch.equal(model(ids, mask, languages=torch.tensor([0, 1, 0])), mixed)
    switched = torch.zeros(3, 40, dtype=torch.long); switched[:, 20:] = 1              # a pair: a language for each place
    assert not torch.allclose(model(ids, mask, languages=switched)[0], en[0], atol=1e-3)
    with pytest.raises(DataError, match="Did you mean 'yo'"): model(ids, mask, languages=["en", "sw", "yor"])
    with pytest.raises(DataError, match="no languages"): model(ids, mask)
    with pytest.raises(DataError, match="another number"): model(ids, mask, languages=["en"])
    with pytest.raises(DataError, match="without language vectors"): made()(ids, mask, languages=["en"] * 3)
    with pytest.raises(DataError, match="a language without a vector"): model(ids, mask, languages=torch.tensor([0, 1, 3]))


def test_rotary_reads_beyond_what_it_was_built_for():
    "Nothing that rotary positions learn depends on the length: the same weights in a longer shape."
    short, (ids, _) = made(positions="rotary"), batch()
    longer = Transformer(replace(short.shape, max_length=96)).eval(); longer.load_state_dict(short.state_dict())
    assert torch.equal(longer(ids), short(ids)) and longer(torch.full((1, 96), 7)).isfinite().all()


@pytest.mark.parametrize("change, problem", [
    (dict(width=30), "multiple of the number of heads, 4"), (dict(norm="middle"), "one of post, pre"), (dict(positions="rotery"), "sinusoid, rotary"),
    (dict(curve="swish"), "one of gelu"), (dict(width=12, positions="rotary"), "even number"), (dict(factor=7, positions="sinusoid"), "even width"),
    (dict(layers=0), "1 or more"), (dict(window=0), "1 or more, or None"), (dict(window=2, every=1), "nobody's"), (dict(pad_id=300), "0 to 299"),
    (dict(dropout=1.0), "below 1"), (dict(languages=("en", "en")), "once")])
def test_bad_shapes_are_refused(change, problem):
    with pytest.raises(DataError, match=problem): replace(SMALL, **change)


@pytest.mark.parametrize("given, problem", [
    (dict(input_ids=torch.full((1, 49), 7)), "at most 48"), (dict(input_ids=torch.tensor([[5, 300]])), "found 300.*0 to 299"),
    (dict(input_ids=torch.tensor([[5, -1]])), "found -1"), (dict(input_ids=torch.tensor([5, 6])), "rows, length"),
    (dict(input_ids=torch.tensor([[5, 6]]), attention_mask=torch.ones(1, 3)), "attention mask"),
    (dict(input_ids=torch.tensor([[5, 6]]), may_read=causal_mask(3)), "may_read"),
    (dict(input_ids=torch.tensor([[5, 6]]), positions=torch.tensor([0, 48])), "found 48.*0 to 47")])
def test_bad_input_is_refused(given, problem):
    with pytest.raises(DataError, match=problem): made()(**given)


# Learning

class Copying(torch.nn.Module):
    "Names each subword from its state: one loss, for the loop."
    def __init__(self, seed=0, **change):
        super().__init__()
        self.encoder = Transformer(replace(SMALL, **change), seed)

    def forward(self, given):
        states = self.encoder(given["input_ids"], given["attention_mask"])
        scores = states[..., :self.encoder.shape.embedding] @ self.encoder.get_input_embeddings().weight.T
        return {"losses": {"copy": F.cross_entropy(scores[given["attention_mask"] == 1], given["input_ids"][given["attention_mask"] == 1])}}


def learnt(seed=0, **change):
    texts = [{"input_ids": [0, *range(5 + i % 40, 12 + i % 40 + i % 7), 2]} for i in range(64)]
    model = Copying(seed, **change)
    done = train(model, texts, Recipe(learning_rate=1e-2, epochs=8, threads=1, seed=seed), collate=Collator(1), bar=False, say=lambda line: None)
    return model, done.curve("copy")


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_learns_in_the_one_loop(name):
    model, curve = learnt(**VARIANTS[name])
    assert curve[-1] < curve[0] - 1
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_the_same_seed_repeats_bit_for_bit():
    (one, a), (two, b), (_, c) = learnt(0), learnt(0), learnt(1)
    assert a == b and all(torch.equal(p, q) for p, q in zip(one.parameters(), two.parameters()))
    assert a != c


class Headed(Copying):
    "With a head that is in no layer."
    def __init__(self, **change):
        super().__init__(**change)
        self.head = torch.nn.Linear(32, V)

    def forward(self, given):
        real = given["attention_mask"] == 1
        return {"losses": {"copy": F.cross_entropy(self.head(self.encoder(given["input_ids"], given["attention_mask"])[real]), given["input_ids"][real])}}


@pytest.mark.parametrize("change, stack", [({}, 5), (dict(norm="pre"), 5), (dict(shared=True), 2)])
def test_the_recipe_knows_its_layers(change, stack):
    "A lower layer learns more slowly; frozen ones not at all, and gradual ones when their turn comes. A last norm and heads are above all layers."
    model = Headed(**change)
    layers = layers_from_below(model)
    assert len(layers) == stack and layers[0] is model.encoder.embeddings and layers[1] is model.encoder.layers[0]
    optimizer = adamw(model, Recipe(layer_decay=0.5))
    set_rate(optimizer, 0.01)
    of = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    for depth, layer in enumerate(reversed(layers), 1): assert {of[id(p)] for p in layer.parameters()} == {0.01 * 0.5 ** depth}
    assert len(of) == len(list(model.parameters())) and {of[id(p)] for p in model.encoder.norm.parameters()} <= {0.01}
    texts = [{"input_ids": [0, *range(5, 15), 2]}] * 4
    for recipe, still in ((dict(frozen_layers=1), 2), (dict(unfreeze=1, epochs=1), stack), (dict(unfreeze=1, epochs=2), stack - 1)):
        model = Headed(**change)
        before = [[p.clone() for p in level] for level in reversed(levels(model))]
        train(model, texts, replace(Recipe(learning_rate=1e-2, epochs=2, threads=1), **recipe), collate=Collator(1), bar=False, say=lambda line: None)
        moved = [any(not torch.equal(a, b) for a, b in zip(x, y)) for x, y in zip(before, reversed(levels(model)))]
        assert moved[:stack] == [False] * still + [True] * (stack - still)


def test_the_caller_s_random_numbers_stay():
    torch.manual_seed(5); expected = torch.rand(3)
    torch.manual_seed(5); Transformer(SMALL, seed=1)
    assert torch.equal(torch.rand(3), expected)


def test_the_first_weights_are_bert_s():
    "Normal with deviation 0.02, biases 0, norms 1, padding 0, as Hugging Face begins BERT; so curves can be compared."
    ours, theirs = Transformer(replace(SMALL, width=64)), BertModel(BertConfig(**COMMON | dict(hidden_size=64)))
    for p in (ours.layers[0].attention.query.weight, theirs.encoder.layer[0].attention.self.query.weight): assert abs(p.std() - 0.02) < 0.002
    assert (ours.layers[0].feed_forward.up.bias == 0).all() and (ours.layers[0].feed_norm.weight == 1).all()
    assert (ours.get_input_embeddings().weight[1] == 0).all() and Transformer(SMALL, 1).norm.state_dict() == {}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_pictures_weights_are_those_that_were_used(name):
    model, (ids, mask) = made(**VARIANTS[name]), batch()
    seen = model.attention(ids, mask)
    assert len(seen) == 4 and all(w.shape == (3, 4, 40, 40) for w in seen)
    for w in seen: assert (w[2, :, :5, 5:] == 0).all() and torch.allclose(w[2, :, :5].sum(-1), torch.ones(4, 5), atol=1e-5)


def test_gpt2_s_order_of_parts_is_pre_norm():
    "An independent peer of pre-norm, causal reading: one GPT-2 layer with our layer's weights."
    gpt = noisy(GPT2Model(GPT2Config(vocab_size=V, n_embd=32, n_layer=1, n_head=4, n_inner=48, n_positions=48, activation_function="gelu")))
    ours = made(layers=1, norm="pre", inner=48)
    layer, theirs = ours.layers[0], gpt.h[0]
    with torch.no_grad():
        q, k, v = theirs.attn.c_attn.weight.T.chunk(3)
        bq, bk, bv = theirs.attn.c_attn.bias.chunk(3)
        for p, value in ((layer.attention.query.weight, q), (layer.attention.key_value.weight, torch.cat([k, v])), (layer.attention.query.bias, bq),
                         (layer.attention.key_value.bias, torch.cat([bk, bv])), (layer.attention.out.weight, theirs.attn.c_proj.weight.T),
                         (layer.attention.out.bias, theirs.attn.c_proj.bias), (layer.feed_forward.up.weight, theirs.mlp.c_fc.weight.T),
                         (layer.feed_forward.up.bias, theirs.mlp.c_fc.bias), (layer.feed_forward.down.weight, theirs.mlp.c_proj.weight.T),
                         (layer.feed_forward.down.bias, theirs.mlp.c_proj.bias), (layer.feed_norm.weight, theirs.ln_2.weight), (layer.feed_norm.bias, theirs.ln_2.bias)):
            p.copy_(value)
        layer.attention_norm = theirs.ln_1
        x = torch.randn(2, 10, 32, generator=torch.Generator().manual_seed(0))
        there = gpt(inputs_embeds=x).last_hidden_state
        here = gpt.ln_f(layer(x + gpt.wpe.weight[:10], all_of(causal_mask(10))))
    assert torch.allclose(there, here, atol=1e-5)
