"""How much faster than Hugging Face's `generate`? Run `python tests/benchmarks/bench_decoding.py [--threads N]`.

Beam search with 4 hypotheses over 500 English sentences of the embedded world, into Swahili. The translator is the tiny
encoder with our decoder, trained for --steps steps first (not timed). The other side is `generate(num_beams=4)` on
Hugging Face's classes of the same shape, XLM-R's encoder and mBART's decoder, with the very same weights, so that both
write the same sentences; the share that is the same subword for subword is printed. (What differs are outputs that never
end: ours must end at a limit that depends on the source, `generate` breaks off at the batch's.) Both get the sentences
sorted by length; `generate` is timed with 32 and 64 sentences a batch, and the better of the two counts. Tokenizing is
timed on both sides. The ways take turns, --repeats times; medians of time on the clock and of processor time, which other
programs on the machine disturb less. Exits 1 if fewer than 98 % of the sentences are the same; never because of time.
"""
import argparse
import sys
import time
from pathlib import Path
from statistics import median

import torch
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).parents[1]))
from twin import translator

from xlt_lib.data.world import the_world
from xlt_lib.encoders.batches import Collator
from xlt_lib.encoders.named import encoder
from xlt_lib.encoders.recipe import Recipe
from xlt_lib.encoders.training import train
from xlt_lib.transfer.decoding import beam_search
from xlt_lib.transfer.multitask import MultiTaskModel
from xlt_lib.transfer.translation import TranslationCollator, TranslationHead, translation_examples

BEAM, SENTENCES, TARGET = 4, 500, 2


def trained(steps, threads):
    "The translator, en-sw, and what it was not trained on: the sentences to translate, by length."
    opened, rows = encoder("tiny", bar=False), lambda split: the_world().corpus("mt", "en-sw", split).to_list()
    torch.manual_seed(0)
    model = MultiTaskModel(opened, {"mt": TranslationHead(opened.model.get_input_embeddings(), ("sw",))})
    train(model, translation_examples(rows("train"), opened.tokenizer, ("sw",), 128),
          Recipe(learning_rate=3e-3, steps=steps, threads=threads), collate=TranslationCollator(Collator(opened.tokenizer.pad_token_id)),
          bar=False, say=lambda line: None)
    return model.eval(), sorted([r["source"] for r in rows("test") + rows("dev")][:SENTENCES], key=lambda s: len(opened.tokenizer(s)["input_ids"]))


@torch.inference_mode()
def generated(twin, tokenizer, sentences, size):
    "Subwords and texts that Hugging Face's `generate` writes, `size` sentences a batch."
    ids = []
    for i in range(0, len(sentences), size):
        batch = tokenizer(sentences[i:i + size], return_tensors="pt", padding=True)
        most = min(batch["input_ids"].shape[1] + 50, 127)
        ids += twin.generate(**batch, num_beams=BEAM, do_sample=False, early_stopping=True, length_penalty=1.0, max_new_tokens=most).tolist()
    cut = [tuple(row[1:row.index(tokenizer.sep_token_id) + 1]) if tokenizer.sep_token_id in row else tuple(row[1:]) for row in ids]
    return cut, tokenizer.batch_decode(cut, skip_special_tokens=True)


def timed(call):
    "Seconds on the clock, of the processor, and what the call returned."
    clock, processor = time.perf_counter(), time.process_time()
    value = call()
    return time.perf_counter() - clock, time.process_time() - processor, value


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, default in (("threads", 2), ("steps", 300), ("repeats", 3)): parser.add_argument(f"--{name}", type=int, default=default)
    a = parser.parse_args()
    logging.set_verbosity_error(); logging.disable_progress_bar(); torch.set_num_threads(a.threads)
    model, sentences = trained(a.steps, a.threads)
    twin = translator(model)
    ways = {"ours": lambda: [t.ids for t in beam_search(model, sentences, beam=BEAM)]}
    ways |= {f"generate, {n} a batch": lambda n=n: generated(twin, model.tokenizer, sentences, n)[0] for n in (32, 64)}
    seen = {name: [] for name in ways}
    for repeat in range(a.repeats + 1):
        for name, way in ways.items():
            told = timed(way)
            if repeat: seen[name].append(told)      # the first time is to warm up
    clock, processor = ({name: median(t[k] for t in told) for name, told in seen.items()} for k in (0, 1))
    words = sum(map(len, seen["ours"][0][2]))
    print(f"{len(sentences)} sentences, {words:,} subwords written, beam {BEAM}, {a.threads} threads, {torch.__version__}")
    for name in ways: print(f"  {name:<22} {clock[name]:6.2f} s   of the processor {processor[name]:6.2f} s   {words / clock[name]:8,.0f} subwords/s")
    best = min((n for n in ways if n != "ours"), key=clock.get)
    ratio, of_processor = clock[best] / clock["ours"], processor[best] / processor["ours"]
    same = sum(x == y for x, y in zip(seen["ours"][0][2], seen[best][0][2])) / len(sentences)
    print(f"{ratio:.1f} times as fast as `generate` at its best (processor time: {of_processor:.1f}; target {TARGET}: {'met' if ratio >= TARGET else 'NOT met'}); "
          f"{same:.1%} of the sentences are the same")
    return same


if __name__ == "__main__":
    sys.exit(0 if main() >= 0.98 else "the sentences differ")
