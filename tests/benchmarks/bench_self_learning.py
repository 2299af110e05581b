"""How long does unsupervised alignment of two 20,000-word vocabularies take? Run `python tests/benchmarks/bench_self_learning.py [--threads N]`.

The second space is the first, turned, shuffled and with noise, so that there is a truth to find; word frequencies play no part. The target is about
3 minutes on 2 cores. Prints seconds, rounds, and P@1 over all words; exits 1 if P@1 is below 0.5, never because of time. What it says about real languages is nothing: see
the lessons for those.
"""
import argparse
import os
import sys
import time

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
for name, default in (("threads", 2), ("rows", 20_000), ("width", 300)): parser.add_argument(f"--{name}", type=int, default=default)
parser.add_argument("--noise", type=float, default=0.3)
a = parser.parse_args()
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"): os.environ[name] = str(a.threads)

import numpy as np  # noqa: E402

from xlt_lib.words.retrieval import csls_nearest  # noqa: E402
from xlt_lib.words.self_learning import self_learning  # noqa: E402
from xlt_lib.words.vectors import Vectors  # noqa: E402


def main():
    dice = np.random.default_rng(0)
    x = dice.normal(size=(a.rows, a.width)) * np.linspace(2, 0.3, a.width)
    x += dice.normal(size=(a.rows // 40, a.width))[dice.integers(a.rows // 40, size=a.rows)]
    turn, order = np.linalg.qr(dice.normal(size=(a.width, a.width)))[0], np.arange(a.rows) + dice.integers(-50, 50, size=a.rows)
    order = np.argsort(order, kind="stable")       # ranks differ a little, as those of translations do
    y = (x @ turn + a.noise * dice.normal(size=x.shape))[order]
    one, two = (Vectors(tuple(map(str, names)), m).normalised("unit", "centre", "unit") for names, m in ((range(a.rows), x), (order, y)))
    start = time.perf_counter()
    found = self_learning(one, two)
    spent = time.perf_counter() - start
    ids = csls_nearest(found(one).matrix, two.matrix)[0][:, 0]
    right = float(np.mean(order[ids] == np.arange(a.rows)))
    print(f"{a.rows:,} words a side, width {a.width}, {a.threads} threads: {spent:.0f} s, {len(found.trace)} rounds, P@1 {right:.1%} (target: about 180 s: {'met' if spent <= 200 else 'NOT met'})")
    return right > 0.5


if __name__ == "__main__": sys.exit(0 if main() else 1)
