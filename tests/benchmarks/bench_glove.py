"""How fast is GloVe's fit beside PyTorch's and beside the plain loop? Run `python tests/benchmarks/bench_glove.py`.

gensim has no GloVe, and Stanford's program is no package, so there are two other peers, on the same counts of the embedded world's English
(synthetic), at width 50: the lesson's plain numpy loop over pairs (on a share of them), and GloVe as it is written in PyTorch: batches of 512 pairs,
sparse embeddings, `torch.optim.Adagrad`. Pairs a second, one thread; and the loss after the same ten epochs, over all pairs. The batches take fewer
steps, so their loss is the honest price of their speed. Exits 1 if our loss is not the lower one or the plain loop's numbers are not ours, never
because of time.
"""
import os
import sys
import time

os.environ["OMP_NUM_THREADS"] = "1"
import numpy as np
import torch
from scipy.sparse import coo_array

from xlt_lib.data.world import the_world
from xlt_lib.words.counts import cooccurrences
from xlt_lib.words.glove import GloveRecipe, fit_glove, glove_epoch
from xlt_lib.words.segmentation import words_of
from xlt_lib.words.vocabulary import build_vocabulary, encode_corpus
from xlt_lib.words.word2vec import first_rows

RECIPE, BATCH, PLAIN = GloveRecipe(width=50, window=5, ceiling=10, epochs=10), 512, 5_000


def english():
    "The counts of the world's English."
    text = [words_of(s.text, "en") for s in the_world().sentences("en", "unlabelled")]
    words = build_vocabulary(text, RECIPE.min_count)
    return coo_array(cooccurrences(*encode_corpus(text, words), len(words), RECIPE.window))


def prepared(counts):
    "Logarithms and weights of the pairs, and the first vectors of both sides."
    n, start = counts.shape[0], first_rows(2 * counts.shape[0], RECIPE.width + 1, RECIPE.seed)
    weights = np.minimum(1, (counts.data / RECIPE.ceiling) ** RECIPE.power).astype(np.float32)
    return np.log(counts.data).astype(np.float32), weights, start[:n].copy(), start[n:].copy()


def loss(counts, main, other):
    "The mean loss over all pairs."
    logs, weights, *_ = prepared(counts)
    i, j = counts.coords
    return float((weights / 2 * ((main[i, :-1] * other[j, :-1]).sum(1) + main[i, -1] + other[j, -1] - logs) ** 2).mean())


def plain(counts, order):
    "The lesson's loop in double precision; both sides."
    logs, weights, *sides = prepared(counts)
    main, other = (s.astype(float) for s in sides)
    squares = np.ones((2, *main.shape))
    for n in order:
        i, j = counts.coords[0][n], counts.coords[1][n]
        w, c = main[i], other[j]
        error = w[:-1] @ c[:-1] + w[-1] + c[-1] - logs[n]
        slopes = weights[n] * error * np.append(c[:-1], 1), weights[n] * error * np.append(w[:-1], 1)
        for row, square, slope in zip((w, c), (squares[0, i], squares[1, j]), slopes):
            square += slope ** 2
            row -= RECIPE.rate * slope / np.sqrt(square)
    return main, other


def torchs(counts):
    "Ten epochs of batches; both sides."
    logs, weights, *sides = prepared(counts)
    tables = [torch.nn.Embedding.from_pretrained(torch.tensor(s), freeze=False, sparse=True) for s in sides]
    adagrad = torch.optim.Adagrad([t.weight for t in tables], lr=RECIPE.rate, initial_accumulator_value=1.0, eps=0)
    i, j, logs, weights = map(torch.tensor, (counts.coords[0].astype(int), counts.coords[1].astype(int), logs, weights))
    for _ in range(RECIPE.epochs):
        for part in torch.randperm(len(logs)).split(BATCH):
            w, c = tables[0](i[part]), tables[1](j[part])
            total = (weights[part] / 2 * ((w[:, :-1] * c[:, :-1]).sum(1) + w[:, -1] + c[:, -1] - logs[part]) ** 2).sum()
            adagrad.zero_grad()
            total.backward()
            adagrad.step()
    return [t.weight.detach().numpy() for t in tables]


def timed(call, *args):
    start = time.perf_counter()
    return call(*args), time.perf_counter() - start


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    counts, order = english(), np.random.default_rng(0).permutation
    fit_glove(counts, GloveRecipe(width=50, epochs=1))          # compiles
    few = order(counts.nnz)[:PLAIN]
    (ours, took), (theirs, long), (slow, longest) = timed(fit_glove, counts, RECIPE), timed(torchs, counts), timed(plain, counts, few)
    speed, batches, loop = RECIPE.epochs * counts.nnz / took, RECIPE.epochs * counts.nnz / long, PLAIN / longest
    print(f"{counts.nnz:,} pairs, width {RECIPE.width}, {RECIPE.epochs} epochs (synthetic)")
    print(f"ours {speed:,.0f} pairs/s; PyTorch in batches of {BATCH} {batches:,.0f}: {speed / batches:.1f} times; plain numpy loop {loop:,.0f}: {speed / loop:.0f} times")
    a, b = loss(counts, *ours[:2]), loss(counts, *theirs)
    print(f"loss after {RECIPE.epochs} epochs: ours {a:.4f}, PyTorch {b:.4f}")
    logs, weights, *fast = prepared(counts)
    glove_epoch(*counts.coords, logs, weights, few, *fast, *(np.ones_like(f) for f in fast), np.float32(RECIPE.rate))
    apart = max(np.abs(x - y).max() for x, y in zip(fast, slow))
    print(f"ours and the plain loop, over the same {PLAIN:,} pairs: {apart:.1e} apart at most")
    sys.exit(0 if a < b and apart < 1e-4 else 1)


if __name__ == "__main__": main()
