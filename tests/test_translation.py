"""The decoder is Hugging Face's and PyTorch's, number for number; targets are whole rows of their own length; it learns in the one loop."""
from functools import lru_cache

import pytest
import torch
from tiny import tokenizer
from torch import nn
from torch.nn import functional as F
from twin import decoder

from xlt_lib.data.errors import DataError
from xlt_lib.data.world import the_world
from xlt_lib.encoders.batches import IGNORE, Collator
from xlt_lib.encoders.masking import MaskingCollator, masked_examples
from xlt_lib.encoders.recipe import Recipe
from xlt_lib.encoders.text import Text
from xlt_lib.encoders.training import train
from xlt_lib.encoders.transformer import new_encoder
from xlt_lib.transfer.heads import MaskedHead, SentenceHead
from xlt_lib.transfer.multitask import HEADS as KINDS
from xlt_lib.transfer.multitask import MultiTaskModel, load_model
from xlt_lib.transfer.translation import TranslationCollator, TranslationHead, smoothed_cross_entropy, translation_examples

LANGUAGES, PIECES, SIZE, HEADS = ("sw", "yo"), 50, 32, 4


@lru_cache
def rows(n=48): return the_world().corpus("mt", "en-sw", "train").select(range(n)).to_list()


def examples(n=48): return translation_examples(rows(n), tokenizer(), LANGUAGES, 64)


def collate(): return TranslationCollator(Collator(tokenizer().pad_token_id))


def head(layers=2, seed=0, **settings):
    torch.manual_seed(seed)
    made = TranslationHead(nn.Embedding(PIECES, SIZE), LANGUAGES, layers=layers, heads=HEADS, max_length=24, **settings)
    for p in made.parameters(): nn.init.normal_(p, std=0.3)     # biases and normalisations too, so that a swap would show
    return made.eval()


def model(others=(), **sizes):
    torch.manual_seed(0)
    encoder = new_encoder("xlm-roberta", tokenizer(), **{"layers": 1, "width": 32, **sizes})
    embeddings = encoder.model.get_input_embeddings()
    heads = {"mt": TranslationHead(embeddings, LANGUAGES, layers=1, max_length=64), "mlm": MaskedHead(embeddings), "mood": SentenceHead(32, ("a", "b"))}
    return MultiTaskModel(encoder, {name: heads[name] for name in ("mt", *others)})


def inputs(n=5, source=9, target=7):
    g = torch.Generator().manual_seed(0)
    mask = torch.ones(n, source, dtype=torch.long)
    for i in range(n): mask[i, source - i:] = 0
    targets = torch.randint(0, PIECES, (n, target), generator=g)
    targets[:, 0] = torch.arange(n) % len(LANGUAGES)
    return torch.randn(n, source, SIZE, generator=g), mask, targets


def copy(ours, theirs):
    "One linear or normalising layer's weights."
    theirs.load_state_dict(ours.state_dict())


@torch.no_grad()
def test_same_weights_same_logits_as_mbart():
    ours, (states, mask, targets) = head(), inputs()
    theirs, start = decoder(ours, tag=1), torch.full((5, 1), PIECES)
    targets[:, 0] = 1
    expected = theirs(input_ids=torch.cat([start, targets[:, 1:]], 1), encoder_hidden_states=states, encoder_attention_mask=mask).logits[..., :-1]
    logits = ours(states, mask, targets)
    assert logits.std() > 0.5 and (logits - expected).abs().max() < 1e-4


@torch.no_grad()
def test_same_weights_same_states_as_pytorchs_decoder():
    ours, (states, mask, _) = head(), inputs()
    theirs = nn.TransformerDecoder(nn.TransformerDecoderLayer(SIZE, HEADS, 4 * SIZE, activation="gelu", norm_first=True, batch_first=True), 2,
                                   norm=nn.LayerNorm(SIZE)).eval()
    copy(ours.last, theirs.norm)
    for a, b in zip(ours.layers, theirs.layers):
        for mine, attention in ((a.own, b.self_attn), (a.cross, b.multihead_attn)):
            three = mine.query, mine.key, mine.value
            attention.in_proj_weight.copy_(torch.cat([x.weight for x in three])); attention.in_proj_bias.copy_(torch.cat([x.bias for x in three]))
            copy(mine.out, attention.out_proj)
        copy(a.up, b.linear1); copy(a.down, b.linear2)
        for mine, norm in zip(a.norms, (b.norm1, b.norm2, b.norm3)): copy(mine, norm)
    x = torch.randn(5, 7, SIZE)
    expected = theirs(ours.first(x), states, tgt_mask=nn.Transformer.generate_square_subsequent_mask(7), memory_key_padding_mask=mask == 0,
                      tgt_is_causal=True)
    assert (ours.write(x, ours.read(states, mask)) - expected).abs().max() < 1e-4


@torch.no_grad()
def test_one_subword_at_a_time_is_teacher_forcing():
    ours, (states, mask, targets) = head(), inputs()
    memory = ours.read(states, mask)
    steps = [ours.step(targets[:, [place]], place, memory)[:, 0] for place in range(targets.shape[1])]
    assert (torch.stack(steps, 1) - ours(states, mask, targets)).abs().max() < 1e-4


@torch.no_grad()
def test_no_place_sees_what_comes_after_it_and_none_sees_padding():
    ours, (states, mask, targets) = head(), inputs()
    before = ours(states, mask, targets)
    changed = targets.clone(); changed[:, 4:] = (changed[:, 4:] + 1) % PIECES
    after = ours(torch.where(mask[..., None] == 1, states, 99.0), mask, changed)
    assert torch.equal(before[:, :4], after[:, :4]) and (before[:, 4:] - after[:, 4:]).abs().amax(-1).min() > 1e-3


@torch.no_grad()
def test_the_tag_tells_the_language():
    ours, (states, mask, targets) = head(), inputs()
    other = targets.clone(); other[:, 0] = 1 - other[:, 0]
    assert (ours(states, mask, targets) - ours(states, mask, other)).abs().amax(-1).min() > 1e-3


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_label_smoothing_is_pytorchs_value_and_gradient(smoothing):
    logits, labels = torch.randn(6, 9, 20, requires_grad=True), torch.randint(0, 20, (6, 9))
    labels[torch.rand(6, 9) < 0.4] = IGNORE
    expected = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE, label_smoothing=smoothing)
    loss = smoothed_cross_entropy(logits, labels, smoothing)
    assert torch.allclose(loss, expected, atol=1e-6)
    for a, b in zip(torch.autograd.grad(loss, logits), torch.autograd.grad(expected, logits)): assert torch.allclose(a, b, atol=1e-7)


def test_label_smoothing_by_hand():
    "p = ½, ¼, ¼; the first is right; a tenth of the target is spread: 0.9 ln 2 + 0.1 (ln 2 + ln 4 + ln 4) / 3."
    logits = torch.tensor([[0.5, 0.25, 0.25]]).log() + 7.0
    assert abs(smoothed_cross_entropy(logits, torch.tensor([0]), 0.1).item() - (0.9 + 0.1 * 5 / 3) * 0.6931472) < 1e-6
    assert smoothed_cross_entropy(logits, torch.tensor([IGNORE])) == 0


def test_the_loss_is_over_what_follows_the_tag_in_rows_with_a_target():
    ours, (states, mask, targets) = head(smoothing=0.1), inputs()
    labels = targets.clone(); labels[1] = IGNORE; labels[3, 4:] = IGNORE
    right = labels[:, 1:]
    expected = F.cross_entropy(ours(states, mask, targets[:, :-1])[right != IGNORE], right[right != IGNORE], label_smoothing=0.1)
    assert torch.allclose(ours.loss(states, mask, labels), expected, atol=1e-5)
    assert ours.loss(states, mask, torch.full_like(labels, IGNORE)) == 0


def test_an_example_is_a_source_and_a_row_of_tag_subwords_and_end():
    row = rows(1)[0]
    made, = translation_examples([row], tokenizer(), ("yo", "sw"), 64)
    tag, *said, end = made["labels"]["mt"]
    assert (tag, end, made["language"]) == (1, tokenizer().sep_token_id, "en-sw")
    assert tokenizer().decode(said).strip() == row["target"] and made["input_ids"] == tokenizer()(row["source"])["input_ids"]
    short, = translation_examples([row], tokenizer(), ("sw",), 6, name="other")
    assert len(short["input_ids"]) == 6 and short["labels"]["other"] == [0, *said[:5], end]
    assert translation_examples([], tokenizer(), ("sw",), 6) == []


def test_targets_are_padded_to_their_own_longest():
    told = examples(6)
    batch = collate()([*told, {"input_ids": [0, 5, 2], "language": "sw"}])
    sizes = [len(e["labels"]["mt"]) for e in told]
    labels = batch["labels"]["mt"]
    assert labels.shape == (7, max(sizes)) and (labels[6] == IGNORE).all() and len({*sizes}) > 1
    assert batch["counts"]["mt"] == sum(sizes) - 6 == int((labels[:, 1:] != IGNORE).sum())
    assert all(labels[i, :n].tolist() == e["labels"]["mt"] for i, (n, e) in enumerate(zip(sizes, told)))
    assert told == examples(6)                                                  # what was given is as it was
    assert "mt" not in collate()([{"input_ids": [0, 5, 2]}])["labels"]


def test_translation_stands_beside_other_losses_and_hidden_words():
    "One batch of translations, hidden words and a mood: each loss is what its own rows alone give."
    pad = tokenizer().pad_token_id
    hidden = masked_examples(Text({"en": [r["source"] for r in rows(6)]}, {}), tokenizer(), 64)
    moods = [{"input_ids": e["input_ids"], "labels": {"mood": k % 2}} for k, e in enumerate(examples(4))]
    net = model(("mlm", "mood"))
    net.eval()
    batch = TranslationCollator(MaskingCollator(tokenizer()))([*examples(5), *hidden, *moods], torch.Generator().manual_seed(0))
    losses = net(batch)["losses"]
    assert set(losses) == {"mt", "mlm", "mood"} and set(batch["counts"]) == {"mt", "mlm", "mood"}
    alone = net(TranslationCollator(Collator(pad))(examples(5)))["losses"]
    assert torch.allclose(losses["mt"], alone["mt"], atol=1e-5)
    assert torch.allclose(losses["mood"], net(Collator(pad)(moods))["losses"]["mood"], atol=1e-5)


def test_accumulated_batches_weigh_what_they_hold():
    "Two batches a step, of other sizes, are one large batch: the counts are right."
    def trained(tokens, accumulate):
        net = model()
        for m in net.modules():
            if isinstance(m, nn.Dropout): m.p = 0.0
        net.encoder.config.attention_probs_dropout_prob = 0.0
        recipe = Recipe(learning_rate=1e-3, steps=1, tokens=tokens, rows=None, accumulate=accumulate, threads=1, precision="fp32")
        return train(net, examples(24), recipe, collate=collate(), say=lambda line: None).curve("mt")[0]
    assert abs(trained(10_000, 1) - trained(350, 8)) < 1e-4


def test_it_learns_in_the_loop():
    net = model(width=64, layers=2)
    recipe = Recipe(learning_rate=4e-3, steps=60, threads=1, precision="fp32")
    curve = train(net, examples(), recipe, collate=collate(), say=lambda line: None).curve("mt")
    assert curve[-1] < 0.6 * curve[0]


def test_embeddings_are_the_encoders_own():
    net = model()
    assert net.heads["mt"].tied[0] is net.encoder.get_input_embeddings()
    own = {name for name, _ in net.heads["mt"].named_parameters()}
    assert not any("tied" in name for name in own) and len(list(net.parameters())) == len(list(net.encoder.parameters())) + len(own)
    net(collate()(examples(4)))["losses"]["mt"].backward()
    used = {i for e in examples(4) for i in e["labels"]["mt"][1:]}
    assert net.encoder.get_input_embeddings().weight.grad[list(used)].abs().sum(1).min() > 0


def test_the_config_builds_the_same_head():
    ours, (states, mask, targets) = head(layers=1, smoothing=0.2), inputs()
    again = TranslationHead(ours.tied[0], **ours.config).eval()
    again.load_state_dict(ours.state_dict())
    assert torch.equal(ours(states, mask, targets), again(states, mask, targets)) and again.smoothing == 0.2


@pytest.mark.parametrize("call, says", [
    (lambda: TranslationHead(nn.Embedding(9, 30), ("sw",), heads=4), "evenly"),
    (lambda: TranslationHead(nn.Embedding(9, 32), ()), "languages of a decoder"),
    (lambda: TranslationHead(nn.Embedding(9, 32), "sw"), "languages of a decoder"),
    (lambda: TranslationHead(nn.Embedding(9, 32), ("sw", "sw")), "all different"),
    (lambda: head()(*inputs()[:2]), "beam_search"),
    (lambda: head()(*inputs(target=30)), "24"),
    (lambda: head().read(torch.zeros(1, 3, 16), torch.ones(1, 3)), "differ in size"),
    (lambda: translation_examples([{"id": "x7", "language": "en-zu", "source": "a", "target": "b"}], tokenizer(), LANGUAGES, 64), "x7"),
    (lambda: translation_examples([{"language": "sw", "source": "a", "target": "b"}], tokenizer(), LANGUAGES, 64), "en-sw"),
    (lambda: translation_examples([{"language": "en-sw", "source": "a", "target": " "}], tokenizer(), LANGUAGES, 64), "target"),
    (lambda: translation_examples([{"language": "en-sw", "target": "b"}], tokenizer(), LANGUAGES, 64), "source"),
])
def test_bad_input(call, says):
    with pytest.raises(DataError, match=says): call()


def test_a_saved_translator_comes_back_with_its_tie(tmp_path):
    made, batch = model().eval(), collate()(examples(4))
    made.save(tmp_path / "model")
    with pytest.raises(DataError, match="unknown kind of head.*TranslationHead"): load_model(tmp_path / "model")
    again = load_model(tmp_path / "model", KINDS | {"TranslationHead": TranslationHead})
    with torch.no_grad(): assert torch.equal(again(batch)["losses"]["mt"], made(batch)["losses"]["mt"])
    assert any(p is again.encoder.get_input_embeddings().weight for p in (t.weight for t in again.heads["mt"].tied))
