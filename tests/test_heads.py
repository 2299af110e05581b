"""Heads: the loss is a mean over labels, padding changes nothing, and the tagging head is Hugging Face's, number for number."""
import math

import pytest
import torch
from torch.nn import functional as F
from transformers import (BertConfig, BertForTokenClassification, XLMRobertaConfig, XLMRobertaForMaskedLM,
                          XLMRobertaForTokenClassification)

from xlt_lib.data.errors import DataError
from xlt_lib.data.tasks import IOB2
from xlt_lib.encoders.batches import IGNORE
from xlt_lib.transfer.heads import MaskedHead, SentenceHead, TokenHead, cross_entropy, mean_pool

SIZES = dict(vocab_size=80, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
             max_position_embeddings=40, num_labels=len(IOB2), hidden_dropout_prob=0.3, layer_norm_eps=1e-5)   # eps as in XLM-R


def batch(rows=6, length=20, seed=0):
    "Random subwords, some padding, and a label at about half of the real positions."
    g = torch.Generator().manual_seed(seed)
    ids, mask = torch.randint(5, 80, (rows, length), generator=g), torch.ones(rows, length, dtype=torch.long)
    for i in range(rows): mask[i, length - 3 * i:] = 0
    labels = torch.randint(0, len(IOB2), (rows, length), generator=g)
    labels[(torch.rand(rows, length, generator=g) < 0.5) | (mask == 0)] = IGNORE
    return torch.where(mask == 1, ids, 1), mask, labels


@pytest.mark.parametrize("config, model", [(XLMRobertaConfig, XLMRobertaForTokenClassification), (BertConfig, BertForTokenClassification)])
def test_the_same_weights_give_hugging_faces_logits_loss_and_gradients(config, model):
    torch.manual_seed(0)
    theirs = model(config(**SIZES)).eval()
    head = TokenHead(32, IOB2).eval()
    head.linear.load_state_dict(theirs.classifier.state_dict())
    ids, mask, labels = batch()
    expected = theirs(input_ids=ids, attention_mask=mask, labels=labels)
    states = theirs.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
    loss = head.loss(states, mask, labels)
    assert (head(states) - expected.logits).abs().max() < 1e-5 and abs(loss - expected.loss) < 1e-5
    expected.loss.backward(); loss.backward()
    assert torch.allclose(head.linear.weight.grad, theirs.classifier.weight.grad, atol=1e-5)


def test_dropout_is_theirs_too():
    "In training, the same random numbers drop the same parts of the states."
    torch.manual_seed(0)
    theirs = XLMRobertaForTokenClassification(XLMRobertaConfig(**SIZES)).train()
    head = TokenHead(32, IOB2, dropout=0.3).train()
    head.linear.load_state_dict(theirs.classifier.state_dict())
    states = torch.randn(4, 10, 32)
    torch.manual_seed(1); expected = theirs.classifier(theirs.dropout(states))
    torch.manual_seed(1); assert torch.equal(head(states), expected)
    assert not torch.equal(head(states), head(states))


def test_the_mean_is_over_words_not_over_rows_or_batches():
    logits = torch.randn(3, 8, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.full((3, 8), IGNORE)
    labels[0, 1:7], labels[1, 2], labels[2, :2] = 1, 2, 3
    flat, kept = logits.reshape(-1, 5), labels.reshape(-1) != IGNORE
    by_word = F.cross_entropy(flat[kept], labels.reshape(-1)[kept])
    by_row = torch.stack([cross_entropy(x, y) for x, y in zip(logits, labels)])
    assert torch.allclose(cross_entropy(logits, labels), by_word)
    assert not torch.allclose(by_row.mean(), by_word, atol=1e-2)
    assert torch.allclose((by_row * torch.tensor([6.0, 1.0, 2.0])).sum() / 9, by_word)     # rows weigh what they hold


def test_no_labels_give_zero_and_gradients_of_zero():
    head, states = TokenHead(8, ("a", "b")), torch.randn(2, 5, 8, requires_grad=True)
    loss = head.loss(states, None, torch.full((2, 5), IGNORE))
    loss.backward()
    assert loss == 0 and not states.grad.any() and not head.linear.weight.grad.any()


def test_the_loss_is_in_full_precision_under_autocast():
    head, states, labels = TokenHead(64, IOB2).eval(), torch.randn(4, 16, 64), torch.randint(0, 7, (4, 16))
    with torch.autocast("cpu", torch.bfloat16): loss = head.loss(states, None, labels)
    assert loss.dtype == torch.float32 and abs(loss - head.loss(states, None, labels)) < 1e-2


def test_unlabelled_positions_send_no_gradient():
    states, labels = torch.randn(1, 4, 8, requires_grad=True), torch.tensor([[IGNORE, 1, IGNORE, 0]])
    TokenHead(8, ("a", "b")).eval().loss(states, None, labels).backward()
    assert [bool(x) for x in states.grad[0].abs().sum(-1) > 0] == [False, True, False, True]


def test_padding_does_not_change_a_sentence():
    head, states = SentenceHead(8, ("no", "yes")).eval(), torch.randn(2, 6, 8)
    mask = torch.ones(2, 6, dtype=torch.long)
    longer = torch.cat([states, torch.full((2, 3, 8), 1e4)], 1)
    padded = torch.cat([mask, torch.zeros(2, 3, dtype=torch.long)], 1)
    assert torch.allclose(head(states, mask), head(longer, padded), atol=1e-6)
    assert head(states, mask).shape == (2, 2)
    assert torch.allclose(mean_pool(states, mask), states.mean(1), atol=1e-6)
    assert mean_pool(states, torch.zeros(2, 6)).abs().sum() == 0          # a row of padding alone: no division by zero


def test_unlabelled_sentences_do_not_count():
    head, states, mask = SentenceHead(8, ("no", "yes")).eval(), torch.randn(3, 6, 8), torch.ones(3, 6)
    some = head.loss(states, mask, torch.tensor([1, IGNORE, 0]))
    assert torch.allclose(some, head.loss(states[[0, 2]], mask[[0, 2]], torch.tensor([1, 0])))


def test_a_new_head_knows_nothing():
    torch.manual_seed(0)
    loss = TokenHead(64, IOB2).eval().loss(torch.randn(8, 30, 64), None, torch.randint(0, 7, (8, 30)))
    assert abs(loss - math.log(7)) < 0.05


@pytest.mark.parametrize("labels", [(), ("O",), ("O", "O", "B-PER")])
def test_labels_must_be_several_and_different(labels):
    with pytest.raises(DataError, match="two or more, all different"): TokenHead(8, labels)


def test_the_masked_head_is_hugging_faces_and_shares_the_embeddings():
    torch.manual_seed(0)
    theirs = XLMRobertaForMaskedLM(XLMRobertaConfig(**SIZES)).eval()
    head = MaskedHead(theirs.get_input_embeddings())
    head.load_state_dict({k.replace("layer_norm", "norm"): v for k, v in theirs.lm_head.state_dict().items() if not k.startswith("decoder")})
    ids, mask, _ = batch()
    answers = torch.where((torch.rand(ids.shape) < 0.3) & (mask == 1), ids, IGNORE)
    expected = theirs(input_ids=ids, attention_mask=mask, labels=answers)
    states = theirs.roberta(input_ids=ids, attention_mask=mask).last_hidden_state
    loss = head.loss(states, mask, answers)
    assert (head(states) - expected.logits).abs().max() < 1e-5 and abs(loss - expected.loss) < 1e-5
    loss.backward()
    assert theirs.get_input_embeddings().weight.grad.abs().sum() > 0               # the encoder's own embeddings learn from it
    assert not any("embed" in k or v.shape == (80, 32) for k, v in head.state_dict().items())   # and are not kept a second time
    assert head.loss(states, mask, torch.full_like(ids, IGNORE)) == 0
