"""How fast is our transformer beside Hugging Face's? Run `python tests/benchmarks/bench_blocks.py [--shape 3x128]`.

A `Transformer` and an `XLMRobertaModel` of the same shape, with the same weights, on the same padded batch: forward and
backward in training (with dropout, torch's and the loop's quick one), forward and backward without dropout, and forward
alone. The peer runs with both of its ways to attend, "sdpa" (its default) and "eager", and the ratio is to the faster of
the two. The three take turns; times are the processor's, medians over the turns. Before that, the states are compared:
exits 1 if they differ by more than 1e-5, never because of time.
"""
import argparse
import sys
import time
from contextlib import nullcontext
from statistics import median

import torch
from transformers import XLMRobertaConfig, XLMRobertaModel

from xlt_lib.encoders.recipe import quick_dropout
from xlt_lib.encoders.same_weights import from_hugging_face


def seconds(model, ids, mask, training, backward, quick):
    "Processor seconds of one pass."
    model.train(training); model.zero_grad()
    start = time.process_time()
    with torch.set_grad_enabled(backward), quick_dropout(ids.device) if quick else nullcontext():
        out = model(ids, mask)
        if backward: (out if isinstance(out, torch.Tensor) else out.last_hidden_state).sum().backward()
    return time.process_time() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", default="3x128", help="layers x width; XLM-R-base is 12x768")
    for name, default in (("vocabulary", 6000), ("rows", 32), ("length", 64), ("turns", 15), ("threads", 1)): parser.add_argument(f"--{name}", type=int, default=default)
    a = parser.parse_args()
    torch.set_num_threads(a.threads); torch.manual_seed(0)
    layers, width = map(int, a.shape.split("x"))
    theirs = XLMRobertaModel(XLMRobertaConfig(vocab_size=a.vocabulary, hidden_size=width, num_hidden_layers=layers, num_attention_heads=max(2, width // 32),
                                              intermediate_size=4 * width, max_position_embeddings=a.length + 2, pad_token_id=1, type_vocab_size=1),
                             add_pooling_layer=False).eval()
    ours = from_hugging_face(theirs)
    ids, mask = torch.randint(3, a.vocabulary, (a.rows, a.length)), torch.ones(a.rows, a.length, dtype=torch.long)
    mask[::2, -max(1, a.length // 8):] = 0; ids[mask == 0] = 1
    with torch.no_grad(): apart = (ours(ids, mask) - theirs(ids, mask).last_hidden_state)[mask == 1].abs().max().item()
    print(f"{a.shape}, {a.rows} rows of {a.length}, {a.threads} thread(s); states differ by at most {apart:.1e}")
    for name, *how in (("training, dropout", True, True, False), ("training, quick dropout", True, True, True),
                       ("forward and backward, no dropout", False, True, False), ("forward", False, False, False)):
        times = {"ours": [], "sdpa": [], "eager": []}
        for _ in range(a.turns):
            for who, spent in times.items():
                if who != "ours": theirs.set_attn_implementation(who)
                spent.append(seconds(ours if who == "ours" else theirs, ids, mask, *how))
        m = {who: median(spent) for who, spent in times.items()}
        print(f"{name:<34} ours {m['ours'] * 1e3:7.1f} ms, sdpa {m['sdpa'] * 1e3:7.1f}, eager {m['eager'] * 1e3:7.1f}; {min(m['sdpa'], m['eager']) / m['ours']:.2f} × the faster peer's speed")
    sys.exit(apart > 1e-5)


if __name__ == "__main__": main()
