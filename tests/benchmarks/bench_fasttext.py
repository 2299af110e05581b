"""How fast is fastText's training beside gensim's, in how much memory, and are the vectors as good? Run `python tests/benchmarks/bench_fasttext.py`.

Needs a folder of real corpora ($XLT_DATA, or shared/data beside the repository). Every run is a process of its own, on the
same English words with the same settings. Ours is timed as a whole: vocabulary, pieces, training. Of gensim only `train`
counts, so that ratios are rather too low than too high. Memory is the peak of the process. Quality is Spearman's rho on
WordSim-353 (it comes with gensim), and how many of ten neighbours two runs share. Exits 1 if quality is not within the
noise of the seeds, never because of time.
"""
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("XLT_DATA", str(Path(__file__).parents[3] / "shared/data"))
WORDS, SEEDS, SETTINGS = 300_000, 3, dict(width=100, window=5, negatives=5, epochs=5, rate=0.05, sample=1e-3, power=0.75)


def english():
    "The first words of all English text that is there, each sentence once."
    from xlt_lib.encoders.text import folder_text
    from xlt_lib.words.segmentation import words_of
    rows, total = [], 0
    for text in dict.fromkeys(folder_text(["en"]).mono["en"]):
        rows.append(words_of(text, "en"))
        total += len(rows[-1])
        if total >= WORDS: return rows
    return rows


def similarity():
    "WordSim-353 as (word, word, score)."
    from gensim.test.utils import datapath
    lines = Path(datapath("wordsim353.tsv")).read_text("utf-8").splitlines()
    return [(a.lower(), b.lower(), float(s)) for a, b, s in (line.split("\t") for line in lines if not line.startswith("#"))]


def peak_memory():
    "MB that this process held at most. Not `ru_maxrss`: that of a child begins with what its parent held."
    return next(int(line.split()[1]) / 1024 for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))


def ours(rows, threads, seed):
    "Our vectors and the seconds of the whole call; compiled code is loaded before."
    from xlt_lib.words.fasttext import FastTextRecipe, train_fasttext
    train_fasttext(rows[:50], FastTextRecipe(min_count=1, epochs=1))
    start = time.perf_counter()
    vectors = train_fasttext(rows, FastTextRecipe(**SETTINGS, threads=threads, seed=seed))
    return vectors, time.perf_counter() - start


def gensims(rows, threads, seed):
    "gensim's vectors and the seconds of its `train`."
    from gensim.models import FastText
    from xlt_lib.words.vectors import Vectors
    model = FastText(vector_size=SETTINGS["width"], window=SETTINGS["window"], negative=SETTINGS["negatives"], sg=1, alpha=SETTINGS["rate"], min_alpha=1e-6,
                     sample=SETTINGS["sample"], ns_exponent=SETTINGS["power"], min_count=5, workers=threads, seed=seed + 1)
    model.build_vocab(rows)
    start = time.perf_counter()
    model.train(rows, total_examples=len(rows), epochs=SETTINGS["epochs"])
    seconds = time.perf_counter() - start
    return Vectors(tuple(model.wv.index_to_key), np.stack([model.wv[w] for w in model.wv.index_to_key])), seconds


def one(who, corpus, threads, seed, out):
    "One run in this process; prints what it took."
    from xlt_lib.words.vectors import write_vectors
    rows = [line.split(" ") for line in Path(corpus).read_text("utf-8").splitlines()]
    vectors, seconds = {"ours": ours, "gensim": gensims}[who](rows, threads, seed)
    peak = peak_memory()
    write_vectors(vectors, out, binary=True)
    print(json.dumps({"seconds": seconds, "MB": peak, "words": sum(map(len, rows)) * SETTINGS["epochs"]}))


def measured(who, corpus, threads, seed, folder):
    "The same in a process of its own, with its vectors."
    from xlt_lib.words.vectors import read_vectors
    out = f"{folder}/{who}{threads}{seed}.bin"
    told = subprocess.run([sys.executable, __file__, "one", who, corpus, str(threads), str(seed), out], check=True, capture_output=True, text=True,
                          env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}).stdout
    return json.loads(told.splitlines()[-1]) | {"vectors": read_vectors(out)}


def common(a, b, k=10):
    "How many of ten neighbours are the same, on average over 500 words."
    top = [x.normalised("unit").matrix for x in (a, b)]
    rows = np.array([[a.index[w], b.index[w]] for w in a.words[100:600]])
    near = [[{v.words[j] for j in np.argsort(-m @ m[i])[1:k + 1]} for i in rows[:, n]] for n, (v, m) in enumerate(zip((a, b), top))]
    return float(np.mean([len(x & y) for x, y in zip(*near)]))


def rho(vectors, rows):
    from scipy.stats import spearmanr
    v = vectors.normalised("unit")
    known = [(v[a] @ v[b], s) for a, b, s in rows if a in v and b in v]
    return float(spearmanr(*zip(*known)).statistic), len(known)


def speed(runs):
    "Prints words a second and memory, and their ratios."
    for threads in (1, 2):
        a, b = (runs[who, threads] for who in ("ours", "gensim"))
        fast, slow = (np.median([r["words"] / r["seconds"] for r in x]) for x in (a, b))
        big, theirs = (max(r["MB"] for r in x) for x in (a, b))
        print(f"{threads} thread(s): ours {fast:9,.0f} words/s, gensim {slow:9,.0f}: {fast / slow:.2f} times (target 0.5: {'met' if fast / slow >= 0.5 else 'NOT met'});"
              f"  peak {big:,.0f} MB, gensim {theirs:,.0f} MB: {big / theirs:.2f} times (target at most 1.5: {'met' if big / theirs <= 1.5 else 'NOT met'})")


def quality(mine, theirs):
    "Prints similarity and neighbours; True if ours are within the noise of the seeds."
    from xlt_lib.evaluation.statistics import compare_seeds
    rows = similarity()
    scores = [[rho(v, rows)[0] for v in side] for side in (mine, theirs)]
    difference = compare_seeds(*scores, paired=False)
    print(f"WordSim-353 ({rho(mine[0], rows)[1]} of {len(rows)} pairs), rho: ours − gensim = {difference}")
    same = {"ours and ours": common(mine[0], mine[1]), "gensim and gensim": common(theirs[0], theirs[1]),
            "ours and gensim": float(np.mean([common(a, b) for a, b in zip(mine, theirs)]))}
    print("of ten neighbours shared:", ", ".join(f"{k} {v:.2f}" for k, v in same.items()))
    return difference.high > -0.02 and same["ours and gensim"] > min(same["ours and ours"], same["gensim and gensim"]) - 0.5


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        one(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), sys.argv[6])
        sys.exit()
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "en.txt"
        corpus.write_text("\n".join(" ".join(r) for r in english() if len(r) > 1), "utf-8")
        plan = [(who, t, seed) for t in (1, 2) for seed in range(SEEDS if t == 2 else 1) for who in ("ours", "gensim")]
        runs = {}
        for who, threads, seed in plan: runs.setdefault((who, threads), []).append(measured(who, str(corpus), threads, seed, folder))
    speed(runs)
    good = quality(*([r["vectors"] for r in runs[who, 2]] for who in ("ours", "gensim")))
    sys.exit(0 if good else "the vectors are not as good as gensim's")
