"""How fast does an encoder read? Run `python tests/benchmarks/bench_pretraining.py [--shape 4x192] [--seeds N] [--first N] [--tokens N …]`.

A masked language model of XLM-R's kind reads the same sentences, once, in three ways: by the Hugging Face Trainer with its
masked-LM collator, both at their defaults (8 sentences a batch at random, fp32, scores at all places, a rate that falls
from 5e-5 to nought, no warm-up); by the same Trainer with what so few steps ask for (ten times that rate, a warm-up, XLM-R's
AdamW), which is as quick and learns far more; and by our loop (rows by length up to a number of subwords, bf16 where the
processor has it and the width is worth it, scores at hidden places only, memory that is kept), once with 448 subwords a batch
at most, some sixteen sentences, and once with 1,024, which is quicker still and takes fewer than half as many steps. Its rate
is twice that of the better Trainer. The rate was chosen with the seeds 0 to 4, the smaller batch among 416, 448 and 512 with
those up to 24; seeds begin at 25. Each way first reads some rows that are not timed; then they take turns, each seed in another
order.

Speeds are real subwords, without padding, by the second, on the clock and of processor time, which other programs
disturb less. The loss is the mean over hidden places of a language's sentences that no way has read, in nats, then over
languages, after one reading of everything: each way's mean over the seeds, with its range, and Welch's 95 % interval of ours
less each Trainer's. Text: tweets and reviews of $XLT_DATA (or shared/data beside the repository) in three languages, else the
embedded world. Exits 1 if over three seeds or more the interval lies above nought for our smaller batch, or for any batch
against the Trainer as it comes; never because of time.
"""
import argparse
import math
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import mean, median

os.environ["ACCELERATE_USE_CPU"] = "1"

import torch
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback
from transformers.utils import logging

from xlt_lib.encoders.curriculum import perplexities
from xlt_lib.encoders.masking import MaskedLM, MaskingCollator, masked_examples
from xlt_lib.encoders.pretraining import Size, learn_tokenizer
from xlt_lib.encoders.recipe import Recipe, processor_has_bf16
from xlt_lib.encoders.text import Text, folder_text, world_text
from xlt_lib.encoders.training import train
from xlt_lib.encoders.transformer import new_encoder
from xlt_lib.data.world import World
from xlt_lib.evaluation.statistics import compare_seeds

CODES = ("ha", "ig", "yo")


def sentences():
    "Sentences of each language, and what they are."
    root = Path(os.environ.get("XLT_DATA") or Path(__file__).parents[3] / "shared/data")
    if (root / "mono").is_dir(): return folder_text(list(CODES), root, ["afrisenti", "nollysenti"]).mono, "AfriSenti and NollySenti"
    return world_text(World(languages=("en", "sw", "yo"))).mono, "the embedded world"


def tuned(a):
    "The Trainer's arguments that so few steps ask for."
    return dict(learning_rate=a.rate, warmup_steps=0.1, adam_beta2=0.98, adam_epsilon=1e-6, weight_decay=0.01)


def theirs(model, rows, tokenizer, a, seed, **changed):
    arguments = TrainingArguments(tempfile.mkdtemp(), num_train_epochs=1, seed=seed, report_to="none", save_strategy="no", logging_strategy="no",
                                  disable_tqdm=True, use_cpu=True, **changed)
    trainer = Trainer(model=model.model, args=arguments, train_dataset=Dataset.from_list([{"input_ids": r["input_ids"]} for r in rows]),
                      data_collator=DataCollatorForLanguageModeling(tokenizer))
    trainer.remove_callback(PrinterCallback)
    return trainer.train


def ours(model, rows, tokenizer, a, seed, tokens):
    recipe = Recipe(learning_rate=2 * a.rate, epochs=1, tokens=tokens, rows=None, betas=(0.9, 0.98), epsilon=1e-6, threads=a.threads, seed=seed)
    return lambda: train(model, rows, recipe, collate=MaskingCollator(tokenizer), bar=False, say=lambda line: None)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", default="4x192", help="layers x width")
    parser.add_argument("--rate", type=float, default=5e-4, help="the better Trainer's learning rate; ours is twice that")
    for name, default in (("seeds", 1), ("rows", 2400), ("vocabulary", 12000), ("threads", 2), ("first", 25)): parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--tokens", type=int, nargs="+", default=[448, 1024], help="subwords a batch of ours; each is a way of its own")
    a = parser.parse_args()
    a.tokens = sorted(set(a.tokens))
    logging.set_verbosity_error(); logging.disable_progress_bar()
    torch.set_num_threads(a.threads)
    layers, width = map(int, a.shape.split("x"))
    mono, what = sentences()
    each = a.rows // len(mono)
    mono = {c: rows[:each + 200] for c, rows in mono.items()}
    tokenizer = learn_tokenizer({c: r[:each] for c, r in mono.items()}, Size(layers, width, width // 32, a.vocabulary, 128, 512, 1, a.rate), say=lambda line: None)
    rows = masked_examples(Text({c: r[:each] for c, r in mono.items()}, {}), tokenizer, 128, exponent=1.0)
    unread = {c: masked_examples(Text({c: r[each:]}, {}), tokenizer, 128) for c, r in mono.items()}
    subwords = sum(len(r["input_ids"]) for r in rows)
    print(f"{what}, {len(rows):,} sentences, {subwords:,} subwords, vocabulary {len(tokenizer):,}, {a.shape}, {a.threads} threads, bf16 in this processor: {processor_has_bf16(torch.device('cpu'))}")
    make = lambda seed: MaskedLM(new_encoder("xlm-roberta", tokenizer, layers=layers, width=width, heads=width // 32, max_length=128, seed=seed), seed)
    ways, found = {"Trainer, as it comes": theirs, "Trainer, better rate": partial(theirs, **tuned(a))} | {f"ours, {n:,}": partial(ours, tokens=n) for n in a.tokens}, {}
    for way in ways.values(): way(make(0), rows[:64], tokenizer, a, 0)()
    for seed in range(a.first, a.first + a.seeds):
        turns = list(ways.items())
        for name, way in turns[seed % len(turns):] + turns[:seed % len(turns)]:
            model = make(seed); set_seed(seed)
            run = way(model, rows, tokenizer, a, seed)
            clock, cpu = time.perf_counter(), time.process_time()
            run()
            clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
            loss = mean(math.log(p) for p in perplexities(model, unread, tokenizer).values())
            found.setdefault(name, []).append((subwords / clock, subwords / cpu, loss))
            print(f"  seed {seed}  {name:22} {subwords / clock:9,.0f} subwords/s on the clock {subwords / cpu:9,.0f} of processor time   loss {loss:.3f}", flush=True)
    for name, runs in found.items(): print(f"loss, {name}: {mean(r[2] for r in runs):.3f} ({min(r[2] for r in runs):.3f} to {max(r[2] for r in runs):.3f})")
    (plain, base), (better, best), *mine = ((name, found[name]) for name in ways)
    above = [f"{name} > {plain}" for name, runs in mine if shown_worse(name, runs, plain, base)]
    above += [f"{name} > {better}" for name, runs in mine if shown_worse(name, runs, better, best) and name == mine[0][0]]
    if above: sys.exit(f"a loss of ours is too high: {', '.join(above)}")


def shown_worse(name, mine, peer, base):
    "Prints how a way of ours compares with a peer; over three seeds or more, whether the interval of its loss less the peer's lies above nought."
    print(f"{name} / {peer}: {median(m[0] / b[0] for m, b in zip(mine, base)):.1f} x on the clock, {median(m[1] / b[1] for m, b in zip(mine, base)):.1f} x by processor time")
    if len(mine) < 3: return False
    away = compare_seeds([r[2] for r in mine], [r[2] for r in base], paired=False)
    print(f"  loss, ours less theirs: {away}")
    return away.low > 0


if __name__ == "__main__": main()
