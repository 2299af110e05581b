"A plan of reading: its stages, its sums, its order, the rows that are held back, and the perplexity that follows them."
import math

import matplotlib
import pytest
import torch

from xlt_lib.data.errors import DataError
from xlt_lib.data.tokenizers import train_tokenizer
from xlt_lib.data.world import the_world
from xlt_lib.encoders.batches import Batches
from xlt_lib.encoders.curriculum import CURRICULA, FIXED, STAGED, Course, Stage, curriculum, draw_course, hold_out, perplexities
from xlt_lib.encoders.masking import MaskedLM, MaskingCollator
from xlt_lib.encoders.recipe import Recipe
from xlt_lib.encoders.store import build_store
from xlt_lib.encoders.training import train
from xlt_lib.encoders.transformer import new_encoder

matplotlib.use("Agg")
SIZES = {"en": 300, "fr": 200, "sw": 60, "yo": 20}
said = {c: [s.text for s in the_world().sentences(c, "unlabelled")[:n]] for c, n in SIZES.items()}


@pytest.fixture(scope="module")
def tokenizer(): return train_tokenizer([t for rows in said.values() for t in rows], size=700, max_length=32)


@pytest.fixture(scope="module")
def store(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    for code, rows in said.items(): (folder / f"{code}.txt").write_text("\n".join(rows), "utf-8")
    (folder / "en-yo.tsv").write_text("\n".join(f"{a}\t{b}" for a, b in zip(said["en"], said["yo"])), "utf-8")
    return build_store(folder / "store", tokenizer, [folder], [folder], max_length=32, bar=False)


def lm(tokenizer, seed=0): return MaskedLM(new_encoder("xlm-roberta", tokenizer, layers=1, width=16, heads=2, max_length=32, seed=seed), seed)


@pytest.mark.parametrize("name", CURRICULA)
def test_a_plan_reads_what_it_was_asked_to_and_no_row_twice_before_all_once(store, name):
    course = Course(store, curriculum(name), 40_000, epochs=30)
    assert sum(int(course.epoch(e).lengths.sum()) for e in range(len(course))) == pytest.approx(40_000, rel=0.03)
    seen = [tuple(course.epoch(e).parts["en"][r]) for e in range(len(course)) for d in [course.epoch(e)] for r in d.rows[d.which == d.names.index("en")]]
    n = len(store.parts["en"])
    for i in range(0, len(seen) - n + 1, n): assert len(set(seen[i:i + n])) == n


def test_stages_come_in_order_and_bring_their_masks_and_languages(store):
    course = Course(store, STAGED, 40_000, epochs=30)
    assert [s.hidden for s in course.stages] == [0.3] * 23 + [0.15] * 6 + [0.05]
    assert set(course.wanted[0]) == {"en"} and set(course.wanted[25]) <= {"en", "fr", "sw"} and set(course.wanted[29]) == {*SIZES, "en-yo"}
    assert all(e["share"] == 0.3 for e in course.epoch(0)) and all(e["share"] == 0.05 for e in course.epoch(29))
    one = [t["share"] for t in course.table() if t["epoch"] == 26]
    assert sum(one) == pytest.approx(1) and max(len(s.wanted) for s in [course]) == 30


def test_shares_follow_the_exponent(store):
    course = Course(store, (Stage(1.0, exponent=0.5),), 200_000, epochs=1)
    sizes = {n: len(p) ** 0.5 for n, p in store.parts.items()}
    for n, k in course.wanted[0].items(): assert k / sum(course.wanted[0].values()) == pytest.approx(sizes[n] / sum(sizes.values()), abs=2e-3)


def test_each_single_idea_is_taken_away_alone():
    plain = lambda s, name: [getattr(x, name) for x in CURRICULA[s]]
    for name, field in (("staged-languages", "languages"), ("staged-masks", "hidden"), ("staged-sampling", "exponent")):
        for other in ("reading", "hidden", "exponent", "languages"):
            assert (plain(name, other) == plain("staged", other)) == (other != field)
        assert len({*plain(name, field)}) == 1
    assert FIXED == (Stage(1.0, 0.15, 0.3, 1.0),)


def test_what_a_row_says_of_its_share_is_hidden(tokenizer):
    rows = [{"input_ids": [0, *range(5, 30), 2], "masked": "mlm", "share": s} for s in (0.9, 0.1) for _ in range(300)]
    hidden = (MaskingCollator(tokenizer)(rows, torch.Generator().manual_seed(0))["labels"]["mlm"] != -100).float()
    assert hidden[:300].sum() / (300 * 25) == pytest.approx(0.9, abs=0.02) and hidden[300:].sum() / (300 * 25) == pytest.approx(0.1, abs=0.02)
    mixed = [{**r} for r in rows[:2]] + [{k: v for k, v in rows[0].items() if k != "share"}] * 300
    hidden = (MaskingCollator(tokenizer)(mixed, torch.Generator().manual_seed(0))["labels"]["mlm"] != -100).float()
    assert hidden[2:].sum() / (300 * 25) == pytest.approx(0.15, abs=0.02)


def test_rows_held_back_are_not_read(store):
    rest, held = hold_out(store, most=20, share=0.1)
    for name, part in store.parts.items():
        ours = {tuple(rest.parts[name][i]) for i in range(len(rest.parts[name]))}
        away = {tuple(r["input_ids"]) for r in held.get(name, [])}
        assert not ours & away and len(ours) + len(away) == len(part)
    assert len(held["en"]) == 20 and len(held["yo"]) == 2 and len(store.parts["en"]) == len(rest.parts["en"]) + 20


def test_perplexity_is_the_exponential_of_the_mean_loss(store, tokenizer):
    _, held = hold_out(store)
    model = lm(tokenizer).train()
    told = perplexities(model, held, tokenizer, tokens=200)
    assert model.training and set(told) == set(held)
    model.eval()
    batches, total, places = Batches(held["fr"], MaskingCollator(tokenizer), 200), 0.0, 0
    for i, members in enumerate(batches.plan(0)):
        batch = batches.batch(members, 0, i)
        logits = model.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        total += torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"]["mlm"].flatten(), ignore_index=-100, reduction="sum").item()
        places += batch["counts"]["mlm"]
    assert told["fr"] == pytest.approx(math.exp(total / places), rel=1e-4)
    assert perplexities(model, held, tokenizer, tokens=200) == told


def test_a_course_is_read_by_the_one_loop_and_goes_on_within_a_stage(store, tokenizer, tmp_path):
    recipe = Recipe(learning_rate=1e-3, epochs=4, tokens=512, rows=None, threads=1, precision="fp32")
    course, says = Course(store, (Stage(0.5, 0.3, 1.0, 0.5), Stage(0.5, 0.1, 0.0)), 8_000, epochs=4), []

    def stop(line):
        if line.startswith("epoch 3"): raise KeyboardInterrupt
    run = lambda m, **more: train(m, course, recipe, collate=MaskingCollator(tokenizer), bar=False, **more)
    run(whole := lm(tokenizer), say=says.append)
    with pytest.raises(KeyboardInterrupt): run(lm(tokenizer), folder=tmp_path / "cut", say=stop)
    run(cut := lm(tokenizer), folder=tmp_path / "cut", say=lambda line: None)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), cut.state_dict().values())) and len(says) == 4


def test_the_picture_has_a_band_for_each_text(store):
    import matplotlib.pyplot as plt
    fig, axes = plt.subplots(2, 1)
    draw_course(Course(store, STAGED, 40_000, epochs=30), axes)
    assert len(axes[0].collections) == len(store.parts) and axes[1].get_xlabel() == "epoch"
    plt.close(fig)


@pytest.mark.parametrize("make, says", [
    (lambda s: Stage(0.0), "stage: reading"), (lambda s: Stage(1.0, hidden=1.5), "stage: hidden"), (lambda s: Stage(1.0, exponent=3.3), "A temperature is 1 / exponent"),
    (lambda s: Stage(1.0, languages=-1), "stage: languages"), (lambda s: Stage(float("nan")), "stage: reading"), (lambda s: curriculum("mmbert"), "no such curriculum"),
    (lambda s: Course(s, (Stage(0.5), Stage(0.4)), 1000), "do not add up"), (lambda s: Course(s, STAGED, 10), "an epoch without a row"),
    (lambda s: Course(s, (), 1000), "do not add up"), (lambda s: Course(s, FIXED, 1000, epochs=0), "epochs"), (lambda s: Course(s, FIXED, -5), "subwords")])
def test_bad_plans(store, make, says):
    with pytest.raises(DataError, match=says): make(store)
