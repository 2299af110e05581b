"""A tokenizer, an encoder and a tagger that are small enough for tests, on a few sentences of the world."""
from functools import lru_cache

import torch
from torch import nn

from xlt_lib.data.tasks import IOB2
from xlt_lib.data.tokenizers import train_tokenizer
from xlt_lib.data.world import the_world
from xlt_lib.encoders.batches import encode_words
from xlt_lib.encoders.transformer import new_encoder

@lru_cache
def rows(language="en", n=64): return the_world().corpus("ner", language, "train").select(range(n)).to_list()


@lru_cache
def tokenizer(size=300):
    "Byte-pair pieces of the world's words."
    text = [" ".join(r["tokens"]) for code in ("en", "sw") for r in rows(code)]
    return train_tokenizer(text, kind="bpe", size=size, coverage=1.0, max_length=128)


def examples(language="en", n=64):
    chosen = rows(language, n)
    tags = [[IOB2.index(t) for t in r["tags"]] for r in chosen]
    made = encode_words(tokenizer(), [r["tokens"] for r in chosen], {"ner": tags}, max_length=64)
    return [e | {"language": language} for e in made]


class Tagger(nn.Module):
    "An encoder with a linear layer on top: one named loss."

    def __init__(self, dropout=0.1, **sizes):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = new_encoder("xlm-roberta", tokenizer(), **{"layers": 2, "width": 32, **sizes}).model
        self.head, self.dropout = nn.Linear(self.encoder.config.hidden_size, len(IOB2)), dropout
        for m in self.encoder.modules():
            if isinstance(m, nn.Dropout): m.p = dropout
        self.encoder.config.attention_probs_dropout_prob = dropout

    def forward(self, batch):
        states = self.encoder(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        logits = self.head(states)
        loss = nn.CrossEntropyLoss()
        told = {name: loss(logits.float().flatten(0, 1), gold.flatten()) for name, gold in batch["labels"].items()}
        return {"losses": told, "logits": logits}
