"""How much faster than scikit-learn's `NearestNeighbors`? Run `python tests/benchmarks/bench_csls.py [--threads N] [--rows N]`.

Two sets of 50,000 vectors of width 300 that look like word vectors: a common mean, clusters, and the second set a noisy copy of the first, so
that rows have neighbours. Four things are timed: `NearestNeighbors(metric="cosine")` asked for the first neighbour; `nearest` asked for the same; CSLS
put together from `NearestNeighbors` (ten neighbours both ways, from which the best by CSLS is taken, which is not even the exact answer); and
`csls_nearest`, which gives the exact one. They take turns, --repeats times; medians. Peak memory of the process is printed, with ours
run first so that scikit-learn's does not count. Exits 1 if fewer than 99.99 % of the first neighbours are the same, or memory is above 3 GB; never because of time.
"""
import argparse
import os
import resource
import sys
import time
from statistics import median

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
for name, default in (("threads", 2), ("rows", 50_000), ("width", 300), ("repeats", 1)): parser.add_argument(f"--{name}", type=int, default=default)
parser.add_argument("--memory", action="store_true", help="only ours, and its peak memory")
parser.add_argument("--no-csls-twin", action="store_true", help="leave out CSLS from NearestNeighbors, which takes long")
a = parser.parse_args()
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"): os.environ[name] = str(a.threads)

import numpy as np  # noqa: E402

from xlt_lib.words.retrieval import csls_nearest, nearest, unit  # noqa: E402

SAME, MEMORY, TARGET = 0.9999, 3e9, 2


def vectors(rows, width, seed=0):
    "Two sides that belong together row by row."
    dice = np.random.default_rng(seed)
    centres = dice.normal(size=(rows // 50, width)).astype(np.float32)
    first = 0.5 + centres[dice.integers(len(centres), size=rows)] + dice.normal(size=(rows, width)).astype(np.float32)
    return first, first + 1.5 * dice.normal(size=(rows, width)).astype(np.float32)


def neighbours(x, y, k):
    from sklearn.neighbors import NearestNeighbors
    return NearestNeighbors(n_neighbors=k, metric="cosine").fit(y).kneighbors(x)


def csls_twin(x, y):
    "CSLS the way one puts it together: the best of the ten nearest by cosine, less both neighbourhoods."
    far, ids = neighbours(x, y, 10)
    popular = 1 - neighbours(y, x, 10)[0].mean(1)
    return ids[np.arange(len(x)), np.argmax(2 * (1 - far) - popular[ids], 1)]


def timed(call):
    start = time.perf_counter()
    value = call()
    return time.perf_counter() - start, value


def main():
    x, y = vectors(a.rows, a.width)
    small = slice(0, 200)
    nearest(x[small], y[small]), csls_nearest(x[small], y[small])       # compile
    exact = csls_nearest(x, y)[0][:, 0] if a.memory else None
    if a.memory: nearest(x, y)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"{a.rows:,} × {a.rows:,} × {a.width}, {a.threads} threads")
    if a.memory:
        print(f"peak memory of the process, ours alone: {peak / 1e9:.2f} GB (target below 3)")
        part = slice(0, 300)
        popular = np.sort(unit(y)[exact[part]] @ unit(x).T, axis=1)[:, -10:].mean(1)
        print(f"first queries: mean CSLS penalty of the answers {popular.mean():.3f}; row i found for {np.mean(exact == np.arange(len(x))):.1%}")
        return peak < MEMORY
    ways = {"NearestNeighbors, first neighbour": lambda: neighbours(x, y, 1)[1][:, 0], "nearest": lambda: nearest(x, y)[0][:, 0],
            "csls_nearest": lambda: csls_nearest(x, y)[0][:, 0]}
    if not a.no_csls_twin: ways["CSLS from NearestNeighbors"] = lambda: csls_twin(x, y)
    seen = {name: [] for name in ways}
    for _ in range(a.repeats):
        for name, way in ways.items(): seen[name].append(timed(way))
    clock = {name: median(t for t, _ in told) for name, told in seen.items()}
    peer = "NearestNeighbors, first neighbour"
    for name, seconds in clock.items(): print(f"  {name:<34} {seconds:7.1f} s   {clock[peer] / seconds:4.1f} times as fast as {peer}", flush=True)
    same = float(np.mean(seen["nearest"][0][1] == seen[peer][0][1]))
    for name in ("nearest", "csls_nearest"): print(f"{name}: {clock[peer] / clock[name]:.1f} times (target {TARGET}: {'met' if clock[peer] / clock[name] >= TARGET else 'NOT met'})")
    print(f"the same first neighbour by cosine: {same:.4%} (target {SAME:.2%})")
    if not a.no_csls_twin:
        twin = "CSLS from NearestNeighbors"
        print(f"CSLS: {clock[twin] / clock['csls_nearest']:.1f} times as fast as put together from NearestNeighbors; {np.mean(seen[twin][0][1] == seen['csls_nearest'][0][1]):.2%} the same")
    return same >= SAME


if __name__ == "__main__": sys.exit(0 if main() else 1)
