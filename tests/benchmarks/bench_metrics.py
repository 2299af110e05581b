"""How much faster than seqeval? Run `python tests/benchmarks/bench_metrics.py`.

Prints medians and ratios from one run, on 10,000 sentences of generated tags and, where there is a folder of real
corpora ($XLT_DATA, or shared/data beside the repository), on the test tags of MasakhaNER 2.0. seqeval computes one
number (`f1_score`, micro), ours the whole report. Exits 1 if a score differs from seqeval's, never because of time.
"""
import gzip
import os
import random
import sys
import time
from itertools import cycle, islice
from pathlib import Path
from statistics import median

from seqeval.metrics import f1_score
from seqeval.scheme import IOB2

from xlt_lib.evaluation.metrics import score_spans
from xlt_lib.evaluation.spans import encode

SENTENCES, TYPES = 10_000, ("PER", "LOC", "ORG", "DATE")
JUDGES = {"conll": {}, "strict": {"mode": "strict", "scheme": IOB2}}    # our mode → what seqeval calls it
TARGETS = {("conll", "strings"): 10, ("strict", "strings"): 20, ("conll", "encoded"): 50, ("strict", "encoded"): 50}


def generated(rng):
    "Gold tags: 5 to 35 words a sentence, mostly O, entities of one to three words."
    rows = []
    for _ in range(SENTENCES):
        tags, length = [], rng.randint(5, 35)
        while len(tags) < length:
            kind = rng.choice(TYPES)
            name = ["B-" + kind] + ["I-" + kind] * rng.choice((0, 0, 1, 2))
            tags += name if rng.random() < 0.07 else ["O"]
        rows.append(tags)
    return rows


def masakhaner2():
    "Test tags of all languages, repeated or cut to 10,000 sentences; None where there are no such files."
    beside = Path(__file__).parents[3] / "shared/data"
    files = sorted((Path(os.environ.get("XLT_DATA") or beside) / "ner/masakhaner2").glob("*/test.txt*"))
    texts = [(gzip.open if p.suffix == ".gz" else open)(p, "rt", encoding="utf-8").read() for p in files]
    rows = [[line.rsplit(" ", 1)[1] for line in block.splitlines()] for t in texts for block in t.strip().split("\n\n")]
    return list(islice(cycle(rows), SENTENCES)) if rows else None


def tagged(rows, rng):
    "A tagger's output: one tag in twenty is something else, stray I- among them. Fresh strings, as from a file."
    other = ["O", "B-PER", "I-PER", "I-LOC", "B-ORG"]
    return [" ".join(t if rng.random() < 0.95 else rng.choice(other) for t in s).split() for s in rows]


def seconds(call, repeats):
    "Median time of a call, and what it returned."
    times = []
    for _ in range(repeats):
        start = time.perf_counter(); value = call(); times.append(time.perf_counter() - start)
    return median(times), value


def compare(name, gold, predicted):
    "Print the times and ratios of one data set; True if all scores agree."
    print(f"\n{name}: {len(gold):,} sentences, {sum(map(len, gold)):,} tags")
    ready, same = (encode(gold), encode(predicted)), True
    for mode, settings in JUDGES.items():
        slow, theirs = seconds(lambda s=settings: f1_score(gold, predicted, zero_division=0, **s), 5)
        ways = {"strings": seconds(lambda m=mode: score_spans(gold, predicted, m), 11),
                "encoded": seconds(lambda m=mode: score_spans(*ready, m), 31)}
        for way, (fast, ours) in ways.items():
            same &= abs(ours.micro.f1 - theirs) < 1e-12
            met = "met" if slow / fast >= TARGETS[mode, way] else "NOT met"
            print(f"  {mode:<6} F1 {ours.micro.f1:.6f}  seqeval {slow * 1e3:7.1f} ms   from {way} {fast * 1e3:6.2f} ms"
                  f"   {slow / fast:5.0f} times as fast (target {TARGETS[mode, way]}: {met})")
    return same


if __name__ == "__main__":
    rng = random.Random(0)
    data = {"generated tags": generated(rng), "MasakhaNER 2.0 test, eight languages": masakhaner2()}
    results = [compare(name, rows, tagged(rows, rng)) for name, rows in data.items() if rows]
    if None in data.values(): print("\nno real corpora found: set XLT_DATA to a folder of them")
    sys.exit(0 if all(results) else "scores differ from seqeval's")
