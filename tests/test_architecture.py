"""Figure 1 says what the model is: every head, every count, λ; the same each time; and it refuses what it cannot draw."""
import hashlib
import io

import matplotlib
import pytest
import torch
from tiny import tokenizer
from torch import nn

from xlt_lib.data.errors import DataError
from xlt_lib.data.tasks import IOB2, UPOS
from xlt_lib.encoders.transformer import KINDS, new_encoder
from xlt_lib.reproduction.architecture import draw_architecture, parts
from xlt_lib.transfer.adversarial import Discriminator
from xlt_lib.transfer.heads import MaskedHead, SentenceHead, TokenHead
from xlt_lib.transfer.multitask import MultiTaskModel
from xlt_lib.transfer.translation import TranslationHead

matplotlib.use("agg")
LANGUAGES = ("en", "sw", "yo")
MAKE = {"ner": lambda e: TokenHead(32, IOB2), "pos": lambda e: TokenHead(32, UPOS), "mood": lambda e: SentenceHead(32, ("bad", "good")),
        "mlm": lambda e: MaskedHead(e), "mt": lambda e: TranslationHead(e, LANGUAGES, max_length=20),
        "language": lambda e: Discriminator(32, LANGUAGES, hidden=8, scale=0.25)}


def make(kind="xlm-roberta", names=tuple(MAKE), layers=2):
    torch.manual_seed(0)
    encoder = new_encoder(kind, tokenizer(), layers=layers, width=32, heads=2)
    return MultiTaskModel(encoder, {name: MAKE[name](encoder.model.get_input_embeddings()) for name in names})


def texts(model):
    ax = draw_architecture(model)
    said = [t.get_text() for t in ax.texts]
    matplotlib.pyplot.close(ax.figure)
    return said


CASES = [*((kind, tuple(MAKE)) for kind in KINDS), *((KINDS[0], names) for names in [("ner",), ("ner", "pos", "mood"), ("mlm", "mt", "language")])]


@pytest.mark.parametrize("kind, names", CASES)
def test_every_part_and_its_weights_stand_in_the_figure(kind, names):
    model = make(kind, names)
    said, found = texts(model), parts(model)
    assert [p.name for p in found[1:]] == list(names)
    for name, part in zip(names, found[1:]):
        assert part.parameters == sum(p.numel() for p in model.heads[name].parameters())      # what is shared is in no head's own list
        assert f"{name}  ({type(model.heads[name]).__name__})" in said and f"{part.parameters:,} weights" in said
        for line in part.says: assert not line or line in said
    assert found[0].parameters == sum(p.numel() for p in model.encoder.parameters()) and f"{found[0].parameters:,} weights" in said
    assert type(model.encoder).__name__ in said and "2 layers, 32 wide, 2 attention heads" in said
    assert {"embeddings", "layer 1", "layer 2"} <= set(said)
    assert sum(p.parameters for p in found) == sum(p.numel() for p in model.parameters())
    assert any(f"{sum(p.numel() for p in model.parameters()):,} weights.  Loss: " + " + ".join(f"L({n})" for n in names) == t for t in said)


def test_labels_and_their_number_stand_in_the_figure():
    said = texts(make())
    assert "7 labels: " + " ".join(IOB2) in said and "2 labels: bad good" in said and "tells 3 languages: en sw yo" in said
    assert any(t.startswith(f"{len(UPOS)} labels: {UPOS[0]} ") and t.endswith("…") for t in said)       # seventeen do not fit


@pytest.mark.parametrize("scale, line", [(0.25, "× −0.25"), (1.0, "× −1"), (0.0, "× 0: cut off")])
def test_the_reversal_says_lambda(scale, line):
    model = make(names=("ner", "language"))
    model.heads["language"].scale = scale
    said = texts(model)
    assert line in said and any(f"λ = {scale:g}" in t for t in said)
    assert not any(t.startswith("×") for t in texts(make(names=("ner",))))


def test_a_schedule_is_named():
    model = make(names=("language",))
    model.heads["language"].schedule = "ganin"
    assert any("rising as in ganin" in t for t in texts(model))


@pytest.mark.parametrize("many", [3, 15, 60])
def test_boxes_hold_their_texts_and_do_not_overlap(many):
    "No text of a head runs out of its box, and no two head boxes touch."
    model, codes = make(), [f"l{i:02}" for i in range(many)]
    model.heads["mt"].languages = model.heads["language"].labels = model.heads["mood"].labels = tuple(codes)
    ax = draw_architecture(model)
    ax.figure.canvas.draw()
    where = lambda thing: thing.get_window_extent()
    boxes = [where(p) for p in ax.patches]
    wide = sorted((b for b in boxes if b.x0 > 0.6 * ax.figure.bbox.width), key=lambda b: b.y0)
    assert len(wide) == len(MAKE) and all(a.y1 < b.y0 for a, b in zip(wide, wide[1:]))
    for text in ax.texts:
        t = where(text)
        if t.x0 > wide[0].x0 and t.y0 > wide[0].y0: assert any(b.x0 <= t.x0 and t.x1 <= b.x1 and b.y0 <= t.y0 and t.y1 <= b.y1 for b in wide), text.get_text()
    matplotlib.pyplot.close("all")


def test_figure_is_deterministic():
    def picture():
        ax, out = draw_architecture(make()), io.BytesIO()
        ax.figure.savefig(out, format="png", dpi=50)
        matplotlib.pyplot.close(ax.figure)
        return hashlib.sha256(out.getvalue()).hexdigest()
    assert picture() == picture()


def test_many_layers_and_given_axes():
    _, ax = matplotlib.pyplot.subplots()
    assert draw_architecture(make(layers=24, names=("ner",)), ax) is ax and len(ax.patches) == 24 + 1 + 4     # its layers, the embeddings; encoder, states, text, head
    matplotlib.pyplot.close("all")


def test_the_folder_of_an_encoder_is_not_told():
    model = make(names=("ner",))
    model.name = "/home/somebody/cache/tiny-123"
    assert "tiny-123" in texts(model) and not any("somebody" in t for t in texts(model))


def test_a_head_of_another_kind_is_drawn_by_its_class():
    class Other(nn.Module):
        def __init__(self): super().__init__(); self.linear = nn.Linear(32, 4)
    encoder = new_encoder("bert", tokenizer(), width=32, heads=2)
    said = texts(MultiTaskModel(encoder, {"other": Other()}))
    assert "other  (Other)" in said and "132 weights" in said


@pytest.mark.parametrize("thing", [None, "a model", nn.Linear(2, 2)])
def test_only_models_are_drawn(thing):
    with pytest.raises(DataError, match="not a model of this kit"): draw_architecture(thing)
