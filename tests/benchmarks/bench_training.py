"""How much faster than the Hugging Face Trainer? Run `python tests/benchmarks/bench_training.py [--seeds N]`.

One encoder (XLM-R's kind, 4 layers of width 256, new), one tagging head, one learning rate, the same epochs and
sentences, the same number of threads. Four ways: the Trainer as it comes (batches of 8 drawn at random, fp32, linear decay
without warm-up), the Trainer with length grouping and bf16, and our loop in fp32 and in bf16. Speeds are real subwords
a second, without padding, in the training loop only; ratios are taken within one run, and the ways take turns. F1 is
on the development sentences, mean and range over the seeds. Text: MasakhaNER 2.0 in Swahili and Yoruba where there is a
folder of real corpora ($XLT_DATA, or shared/data beside the repository), else the embedded world.
Exits 1 if F1 falls below the Trainer's lowest seed by more than the seeds' range, never because of time.
"""
import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, median

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (DataCollatorForTokenClassification, PreTrainedTokenizerFast, Trainer, TrainingArguments,
                          XLMRobertaConfig, XLMRobertaForTokenClassification)
from transformers.utils import logging

from xlt_lib.data.corpora import load
from xlt_lib.data.world import the_world
from xlt_lib.encoders.batches import IGNORE, Batches, Collator, encode_words, padding_share, per_word
from xlt_lib.encoders.recipe import Recipe, processor_has_bf16
from xlt_lib.encoders.training import train
from xlt_lib.evaluation.metrics import score_spans

SPECIAL = {"cls_token": "<s>", "pad_token": "<pad>", "sep_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}
THREADS, LANGUAGES = 2, ("sw", "yo")


def corpora(n):
    "Training and development rows, and what they are."
    beside = Path(__file__).parents[3] / "shared/data"
    os.environ.setdefault("XLT_DATA", str(beside))
    if Path(os.environ["XLT_DATA"], "ner/masakhaner2").is_dir():
        get = lambda code, split: load("ner", code, split, source="local", dataset="masakhaner2")
        what = "MasakhaNER 2.0"
    else: get, what = lambda code, split: the_world().corpus("ner", code, split), "the embedded world"
    take = lambda split, n: [r for code in LANGUAGES for r in get(code, split).shuffle(seed=0).to_list()[:n // len(LANGUAGES)]]
    return take("train", n), take("dev", 600), what


def subwords(rows, size=6000):
    "A byte-pair tokenizer with XLM-R's special tokens."
    t = Tokenizer(models.BPE(unk_token="<unk>"))
    t.normalizer, t.pre_tokenizer = normalizers.NFC(), pre_tokenizers.Metaspace()
    t.train_from_iterator([" ".join(r["tokens"]) for r in rows],
                          trainers.BpeTrainer(vocab_size=size, special_tokens=list(SPECIAL.values()), show_progress=False))
    t.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return PreTrainedTokenizerFast(tokenizer_object=t, model_max_length=128, **SPECIAL)


class Model(torch.nn.Module):
    "The Trainer's own token classifier, which gives our loop its loss by name."

    def __init__(self, labels, vocabulary, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.inner = XLMRobertaForTokenClassification(XLMRobertaConfig(
            vocab_size=vocabulary, hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024,
            max_position_embeddings=130, pad_token_id=1, bos_token_id=0, eos_token_id=2, num_labels=labels))

    def forward(self, batch):
        out = self.inner(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"]["ner"])
        return {"losses": {"ner": out.loss}}


def ours(model, examples, recipe):
    result = train(model, examples, recipe, collate=Collator(1), say=lambda line: None)
    return result.seconds


def theirs(model, examples, tokenizer, recipe, **options):
    flat = [{"input_ids": e["input_ids"], "labels": e["labels"]["ner"]} for e in examples]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(folder, num_train_epochs=recipe.epochs, learning_rate=recipe.learning_rate,
                                      seed=recipe.seed, report_to="none", save_strategy="no", disable_tqdm=True,
                                      logging_strategy="no", use_cpu=True, **options)
        trainer = Trainer(model.inner, arguments, DataCollatorForTokenClassification(tokenizer), Dataset.from_list(flat))
        start = time.process_time()
        trainer.train()
        return time.process_time() - start


def f1(model, rows, examples, tags):
    "Span F1 on the development rows, in fp32."
    model.eval()
    told, batches = [None] * len(rows), Batches(examples, Collator(1), tokens=4096)
    for members in batches.plan(0):
        batch = batches.batch(members, 0, 0)
        with torch.no_grad(): best = model.inner(batch["input_ids"], attention_mask=batch["attention_mask"]).logits.argmax(-1).tolist()
        for i, row in zip(members, best): told[i] = [tags[t] for t in per_word(row, examples[i]["words"], len(rows[i]["tokens"]))]
    return score_spans([r["tags"] for r in rows], told).micro.f1


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sentences", type=int, default=1500)
    parser.add_argument("--epochs", type=int, default=4)
    a = parser.parse_args()
    logging.set_verbosity_error(); logging.disable_progress_bar(); torch.set_num_threads(THREADS)
    rows, dev, what = corpora(a.sentences)
    tokenizer, tags = subwords(rows), sorted({t for r in rows + dev for t in r["tags"]}, key=lambda t: (t != "O", t))
    encode = lambda rows: encode_words(tokenizer, [r["tokens"] for r in rows], {"ner": [[tags.index(t) for t in r["tags"]] for r in rows]}, 128)
    examples, dev_examples = encode(rows), encode(dev)
    lengths = [len(e["input_ids"]) for e in examples]
    native = processor_has_bf16(torch.device("cpu"))
    print(f"{len(examples)} sentences of {what}, {sum(lengths):,} subwords, mean {mean(lengths):.0f}, longest {max(lengths)}; "
          f"{THREADS} threads; torch {torch.__version__}; bf16 instructions: {'yes' if native else 'no'}")
    recipe = lambda precision, seed: Recipe(learning_rate=a.rate, epochs=a.epochs, rows=a.rows, tokens=4096, precision=precision, threads=THREADS, seed=seed)
    ways = {
        "Trainer, defaults": lambda m, s: theirs(m, examples, tokenizer, recipe("fp32", s)),
        "Trainer, grouped by length, bf16": lambda m, s: theirs(m, examples, tokenizer, recipe("fp32", s), bf16=True, train_sampling_strategy="group_by_length"),
        "ours, fp32": lambda m, s: ours(m, examples, recipe("fp32", s)),
        "ours, bf16": lambda m, s: ours(m, examples, recipe("bf16", s)),
    }
