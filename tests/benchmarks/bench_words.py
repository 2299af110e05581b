"""How fast is word2vec's training beside gensim's, in how much memory, and are the vectors as good? Run `python tests/benchmarks/bench_words.py`.

The same English words and settings for both, each run in a process of its own; skip-gram and CBOW (or the one that is named), one and two
threads. Ours is timed as a whole (vocabulary, numbers, training), of gensim only `train` counts, so that ratios are rather too low than too high.
Memory is the peak of the process. Quality: Spearman's rho on WordSim-353; how many of ten neighbours two runs share; and P@1 between two halves
of the corpus: vectors are trained on each half alone, laid over each other by a rotation learned from every other frequent word, and the
remaining words must find themselves. (The halves have seeds of their own: frequent words stand in the same rows of both, and would find each
other by equal first vectors alone.) Needs a folder of real corpora, as bench_fasttext.py does. Exits 1 if quality is not within the noise of the
seeds, never because of time.
"""
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from bench_fasttext import common, english, peak_memory, rho, similarity

SEEDS, SETTINGS = 3, dict(width=100, window=5, negatives=5, epochs=5, rate=0.025, sample=1e-3, noise=0.75, min_count=5)


def ours(rows, architecture, threads, seed):
    "Our vectors and the seconds of the whole call; compiled code is loaded before."
    from xlt_lib.words.word2vec import WordRecipe, train_word2vec
    train_word2vec(rows[:50], WordRecipe(architecture=architecture, min_count=1, epochs=1))
    start = time.perf_counter()
    vectors = train_word2vec(rows, WordRecipe(architecture=architecture, threads=threads, seed=seed, **SETTINGS))
    return vectors, time.perf_counter() - start


def gensims(rows, architecture, threads, seed):
    "gensim's vectors and the seconds of its `train`."
    from gensim.models import Word2Vec
    from xlt_lib.words.vectors import Vectors
    s = SETTINGS
    model = Word2Vec(vector_size=s["width"], window=s["window"], negative=s["negatives"], sg=int(architecture == "skipgram"), alpha=s["rate"], min_alpha=1e-4,
                     sample=s["sample"], ns_exponent=s["noise"], min_count=s["min_count"], workers=threads, seed=seed + 1)
    model.build_vocab(rows)
    start = time.perf_counter()
    model.train(rows, total_examples=len(rows), epochs=s["epochs"])
    return Vectors(tuple(model.wv.index_to_key), model.wv.vectors), time.perf_counter() - start


def one(who, architecture, corpus, threads, seed, out):
    "One run in this process; prints what it took."
    from xlt_lib.words.vectors import write_vectors
    rows = [line.split(" ") for line in Path(corpus).read_text("utf-8").splitlines()]
    vectors, seconds = {"ours": ours, "gensim": gensims}[who](rows, architecture, threads, seed)
    peak = peak_memory()
    write_vectors(vectors, out, binary=True)
    print(json.dumps({"seconds": seconds, "MB": peak, "words": sum(map(len, rows)) * SETTINGS["epochs"]}))


def measured(who, architecture, corpus, threads, seed, folder):
    "The same in a process of its own, with its vectors."
    from xlt_lib.words.vectors import read_vectors
    out = f"{folder}/{who}.bin"
    told = subprocess.run([sys.executable, __file__, "one", who, architecture, corpus, str(threads), str(seed), out], check=True, stdout=subprocess.PIPE, text=True,
                          env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}).stdout
    return json.loads(told.splitlines()[-1]) | {"vectors": read_vectors(out)}


def halves(first, second):
    "P@1 of words of the first half among those of the second, after the rotation that every other of the 2,000 most frequent words fixes."
    from scipy.linalg import orthogonal_procrustes
    a, b = (v.normalised("unit", "centre", "unit") for v in (first, second))
    shared = [w for w in a.words if w in b][:2000]
    x, y = (np.stack([v[w] for w in shared]) for v in (a, b))
    turned = x[1::2] @ orthogonal_procrustes(x[::2], y[::2])[0]
    return float(np.mean([b.words[j] == w for w, j in zip(shared[1::2], np.argmax(turned @ b.matrix.T, 1))]))


def speed(architecture, runs):
    "Prints words a second and memory, and their ratios."
    for threads in (1, 2):
        a, b = ([runs[who, architecture, threads, seed] for seed in range(SEEDS)] for who in ("ours", "gensim"))
        fast, slow = (np.median([r["words"] / r["seconds"] for r in x]) for x in (a, b))
        big, theirs = (max(r["MB"] for r in x) for x in (a, b))
        print(f"{architecture}, {threads} thread(s): ours {fast:9,.0f} words/s, gensim {slow:9,.0f}: {fast / slow:.2f} times (target 0.5: "
              f"{'met' if fast / slow >= 0.5 else 'NOT met'});  peak {big:,.0f} MB, gensim {theirs:,.0f} MB: {big / theirs:.2f} times "
              f"(target at most 1.5: {'met' if big / theirs <= 1.5 else 'NOT met'})", flush=True)


def quality(architecture, runs, parts):
    "Prints the three measures; True if ours are within the noise of the seeds."
    from xlt_lib.evaluation.statistics import compare_seeds
    rows, told = similarity(), {}
    mine, theirs = ([runs[who, architecture, 2, seed]["vectors"] for seed in range(SEEDS)] for who in ("ours", "gensim"))
    for name, score in (("WordSim-353, rho", lambda side: [rho(v, rows)[0] for v in side]),
                        ("P@1 between halves", lambda side: [halves(*pair) for pair in side])):
        both = (mine, theirs) if "rho" in name else (parts["ours", architecture], parts["gensim", architecture])
        told[name] = compare_seeds(*map(score, both), paired=False)
        print(f"{architecture}, {name}: ours − gensim = {told[name]}", flush=True)
    same = [common(mine[0], mine[1]), common(theirs[0], theirs[1]), float(np.mean([common(a, b) for a, b in zip(mine, theirs)]))]
    print(f"{architecture}, of ten neighbours shared: ours and ours {same[0]:.2f}, gensim and gensim {same[1]:.2f}, ours and gensim {same[2]:.2f}", flush=True)
    return all(d.high > -0.02 for d in told.values()) and same[2] > min(same[:2]) - 0.5


def main():
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for row in english() if len(row) > 1]
        names = {"all": rows, "even": rows[::2], "odd": rows[1::2]}
        for name, part in names.items(): Path(folder, name).write_text("\n".join(map(" ".join, part)) + "\n", "utf-8")
        print(f"{sum(map(len, rows)):,} English words, {SETTINGS}; medians of {SEEDS} runs", flush=True)
        run = lambda who, a, threads, seed, part="all": measured(who, a, f"{folder}/{part}", threads, seed, folder)
        good = []
        for a in sys.argv[1:] or ("skipgram", "cbow"):
            runs = {(who, a, threads, seed): run(who, a, threads, seed) for threads in (1, 2) for seed in range(SEEDS) for who in ("ours", "gensim")}
            speed(a, runs)
            parts = {(who, a): [[run(who, a, 2, seed + more, part)["vectors"] for part, more in (("even", 0), ("odd", 100))] for seed in range(2 * SEEDS)] for who in ("ours", "gensim")}
            good.append(quality(a, runs, parts))
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__": one(*sys.argv[2:5], *map(int, sys.argv[5:7]), sys.argv[7]) if sys.argv[1:2] == ["one"] else main()
