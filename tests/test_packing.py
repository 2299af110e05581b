"""Packed rows keep every sentence, and its states."""
from collections import Counter

import numpy as np
import pytest
import torch
from tiny import tokenizer

from xlt_lib.data.errors import DataError
from xlt_lib.encoders.packing import own_sentence, pack
from xlt_lib.encoders.transformer import new_encoder


def test_packing_keeps_every_subword_and_its_sentence():
    dice = np.random.default_rng(0)
    examples = [{"input_ids": dice.integers(5, 99, n).tolist()} for n in dice.integers(1, 17, 60)]
    rows = pack(examples, 16)
    found = [tuple(i for i, s in zip(r["input_ids"], r["segments"]) if s == n) for r in rows for n in range(1, max(r["segments"]) + 1)]
    assert Counter(found) == Counter(tuple(e["input_ids"]) for e in examples) and max(len(r["input_ids"]) for r in rows) <= 16
    assert len(rows) <= 1.2 * sum(len(e["input_ids"]) for e in examples) / 16
    segments = torch.tensor([[1, 1, 2, 0], [1, 2, 2, 2]])
    may_read, places = own_sentence(segments)
    for r in range(2):
        for i in range(4):
            for j in range(4): assert may_read[r, i, j] == (segments[r, i] == segments[r, j] != 0)
    assert places[0, :3].tolist() == [0, 1, 0] and places[1].tolist() == [0, 0, 1, 2]
    with pytest.raises(DataError, match="a sentence longer than a packed row: found '3 subwords', expected at most 2"): pack([{"input_ids": [1, 2, 3]}], 2)


@pytest.mark.parametrize("mask, places, same", [(True, True, True), (False, True, False), (True, False, False)])
def test_a_packed_sentence_has_the_states_that_it_has_alone(mask, places, same):
    "With its mask and its own positions; not without either."
    encoder = new_encoder("xlm-roberta", tokenizer(), layers=2, width=16, heads=2, max_length=32)
    one, two = [0, 11, 12, 13, 2], [0, 21, 22, 2]
    row, = pack([{"input_ids": one}, {"input_ids": two}], 12)
    may_read, at = own_sentence(torch.tensor([row["segments"]]))
    told = {"position_ids": at + tokenizer().pad_token_id + 1} if places else {}
    with torch.no_grad():
        packed = encoder.model(torch.tensor([row["input_ids"]]), attention_mask=may_read[:, None] if mask else None, **told).last_hidden_state[0]
        alone = encoder.model(torch.tensor([two])).last_hidden_state[0]
    assert torch.allclose(packed[5:], alone, atol=1e-5) == same
