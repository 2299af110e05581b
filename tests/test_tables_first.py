"""Records become tables: the paper's number beside the measured one, gains, intervals, pictures, and what is "—"."""
import json
import math
from dataclasses import replace

import pytest
from test_experiments import NINE

from xlt_lib.evaluation.statistics import seed_interval
from xlt_lib.reproduction.experiments import ROWS, Setting, method
from xlt_lib.reproduction.grid import cells_of, tiers_of
from xlt_lib.reproduction.papers import paper
from xlt_lib.reproduction.runs import SCHEMA, Result
from xlt_lib.reproduction.tables import beside_rows, caption, draw_table, gain, save_table, scores_by_row, table_rows

FIRST = paper("first")
WORLD = Setting(tuple(NINE.items()))


def result(cell, scores):
    "A record as a run would leave it, with the scores that a test needs."
    told = {c: dict(f1=f, precision=f, recall=f, sentences=10) for c, f in scores.items()}
    setting = dict(tiers=[list(t) for t in cell.setting.tiers], scenario=cell.setting.scenario, source=cell.setting.source, encoder=cell.setting.encoder, task=cell.setting.task)
    return Result(dict(method=cell.method, seed=cell.seed, language=cell.language, setting=setting), f"{hash(cell) % 2**64:016x}", told, {}, {}, 100, 1, {},
                  "e", "d", {}, 1.0, 100, None, {}, schema=SCHEMA)


def measured(number, f1, seeds=2, setting=WORLD):
    "Cells of a table with their records; `f1(cell, language)` is the score."
    return [(c, result(c, {code: f1(c, code) for code in c.sees.tested})) for c in cells_of(number, FIRST, setting, seeds)]


def made_up(cell, code): return 0.5 + 0.1 * cell.seed + (0.1 if method(cell.method).labelled != "own" else 0)


def test_scores_stand_in_the_order_of_the_seeds():
    scores = scores_by_row(1, reversed(measured(1, made_up)))
    assert scores["monolingual"]["sw"] == [0.5, 0.6] and scores["multilingual"]["en"] == pytest.approx([0.6, 0.7]) and set(scores) == set(ROWS[1].values())


def test_gain_is_the_mean_of_relative_gains():
    scores = scores_by_row(1, measured(1, made_up))
    found, by_hand = gain(scores, "framework", ["sw", "yo", "zu"]), [100 * (0.6 / 0.5 - 1), 100 * (0.7 / 0.6 - 1)]
    assert found.value == pytest.approx(sum(by_hand) / 2) and found.half == pytest.approx(seed_interval(by_hand).half)
    assert gain(scores, "monolingual", ["sw"]) is None


def test_a_gain_over_nothing_is_none():
    zero = lambda cell, code: 0.0 if cell.method == "monolingual" and code == "yo" and cell.seed == 1 else made_up(cell, code)
    scores = scores_by_row(1, measured(1, zero))
    assert gain(scores, "framework", ["sw", "yo", "zu"]) is None and gain(scores, "framework", ["sw", "zu"]) is not None
    rows = table_rows(1, FIRST, measured(1, zero), NINE)
    assert rows[-2]["gain on sw yo zu"] == "+17.6 % | —" and rows[-2]["yo"].startswith("73 | 65.0 ± ")


def test_table_one_as_text():
    rows = table_rows(1, FIRST, measured(1, made_up), NINE)
    assert [r["method"] for r in rows] == [*FIRST.table(1).rows, method("control").title]
    assert rows[0]["sw"] == f"65 | 55.0 ± {100 * seed_interval([0.5, 0.6]).half:.1f}" and rows[0]["gain on sw yo zu"] == "— | —"
    assert rows[-1]["en"].startswith("— | 65.0 ± ") and rows[-1]["gain on sw yo zu"].startswith("— | +18.3 ± ")
    one = table_rows(1, FIRST, measured(1, made_up, seeds=1), NINE)
    assert one[1]["de"] == "85 | 60.0" and one[1]["gain on sw yo zu"] == "+8.0 % | +20.0 %"


def test_the_papers_gain_is_the_mean_of_its_printed_numbers():
    by_hand = sum((f - m) / m for f, m in ((76, 65), (73, 62), (72, 61))) / 3
    for number in (1, 4):
        row = next(r for r in table_rows(number, FIRST, [], NINE) if r["method"] in ("Our Framework", "Full Framework"))
        assert row["gain on sw yo zu"] == f"{100 * by_hand:+.1f} % | —"


def test_zero_shot_says_dash_where_nothing_is_defined():
    zero = replace(WORLD, scenario="zero")
    rows = table_rows(1, FIRST, measured(1, made_up, setting=zero), NINE)
    assert rows[0]["de"] == "83 | —" and rows[0]["en"].startswith("91 | 55.0") and rows[5]["gain on sw yo zu"] == "+17.6 % | —"


def test_a_caption_says_what_was_measured_on_what():
    said = caption(4, FIRST, replace(WORLD, source="/home/me/data", datasets=(("ner", "wikineural,masakhaner2"),), encoder="/home/me/enc", train_rows=2000), 5)
    for part in ("Table 4", "scenario low", "5 seeds", "wikineural,masakhaner2", "enc", "At most 2000 training rows", "without scenario, seeds or interval"): assert part in said
    assert "/home" not in said and "one seed, so no interval" in caption(1, FIRST, WORLD, 1) and "synthetic" in caption(1, FIRST, WORLD, 1)


def test_saved_tables_name_no_place_on_this_machine_and_read_back(tmp_path):
    home = replace(WORLD, source=str(tmp_path / "data"), encoder=str(tmp_path / "cache" / "enc"))
    pairs = measured(4, made_up, setting=home)
    files = save_table(4, FIRST, home, pairs, 2, tmp_path / "first")
    assert [f.name for f in files] == [f"table4_low_real_enc.{e}" for e in ("md", "csv", "jsonl", "png")]
    for file in files: assert str(tmp_path.parent).encode() not in file.read_bytes() and file.stat().st_size > 100
    back = [Result(**json.loads(line)) for line in files[2].read_text("utf-8").splitlines()]
    assert [r.key for r in back] == [r.key for _, r in pairs] and [r.scores for r in back] == [r.scores for _, r in pairs]
    assert {r.cell["setting"]["source"] for r in back} == {"data"} and {r.cell["setting"]["encoder"] for r in back} == {"enc"}
    assert "± " in files[0].read_text("utf-8") and "Full Framework" in files[1].read_text("utf-8")
    before = [f.read_bytes() for f in files]
    assert [f.read_bytes() for f in save_table(4, FIRST, home, pairs, 2, tmp_path / "first")] == before


def test_numbers_of_one_seed_have_no_interval():
    assert math.isnan(seed_interval([0.5]).half) and "±" not in str(table_rows(1, FIRST, measured(1, made_up, 1), NINE))


# ---- Table 2: two metrics, other languages ----------------------------------------------------------------------

SIX = tiers_of(FIRST, "sentiment")
SENTIMENT = Setting(tuple(SIX.items()), task="sentiment", labels=("negative", "positive"))


def judged(setting=SENTIMENT, seeds=2):
    "Table 2's cells with made-up accuracies; macro-F1 is a tenth lower."
    pairs = [(c, result(c, {})) for c in cells_of(2, FIRST, setting, seeds)]
    return [(c, replace(r, scores={x: dict(accuracy=made_up(c, x), macro_f1=made_up(c, x) - 0.1) for x in c.sees.tested})) for c, r in pairs]


def test_table_two_has_two_metrics_and_its_own_tiers():
    rows = table_rows(2, FIRST, judged(seeds=1), SIX)
    assert list(rows[0])[1:] == ["en", "de", "fr", "ja", "zh", "es", "gain in accuracy on es", "gain in macro-F1 on es"]
    assert rows[0]["es"] == "80 / 79 | 50.0 / 40.0" and rows[1]["en"] == "93 / 92 | 60.0 / 50.0"
    assert rows[5]["gain in accuracy on es"] == f"{100 * (86 / 80 - 1):+.1f} % | +20.0 %" and rows[5]["gain in macro-F1 on es"].endswith("| +25.0 %")
    said = caption(2, FIRST, SENTIMENT, 1)
    assert "accuracy / macro-F1, labels negative positive, in points" in said and "F1 (strict" not in said
    axes = draw_table(2, FIRST, judged(), SIX)
    assert len(axes) == 6 and "accuracy" in axes[3].get_xlabel()


def test_other_languages_have_no_number_of_the_papers():
    "Nor has a language that the paper has in another tier."
    mine = {"en": "high", "es": "high", "yo": "low"}
    rows = table_rows(2, FIRST, judged(replace(SENTIMENT, tiers=tuple(mine.items())), 1), mine)
    assert list(rows[0])[1:4] == ["en", "es", "yo"]
    assert rows[1]["en"].startswith("93 / 92 |") and rows[1]["es"].startswith("— | 60.0") and rows[1]["yo"].startswith("— | 60.0")
    assert rows[1]["gain in accuracy on yo"] == "— | +20.0 %"
    nobody = {"en": "high", "ja": "medium"}
    assert "gain" not in " ".join(table_rows(2, FIRST, judged(replace(SENTIMENT, tiers=tuple(nobody.items())), 1), nobody)[0])


def test_a_study_of_other_languages_has_a_file_of_its_own(tmp_path):
    mine = replace(SENTIMENT, tiers=(("en", "high"), ("yo", "low")))
    assert {f.name for f in save_table(2, FIRST, mine, judged(mine, 1), 1, tmp_path)} == {f"table2_low_world_en_yo_tiny.{e}" for e in ("md", "csv", "jsonl", "png")}



# ---- Table 3, and a model for several tasks ---------------------------------------------------------------------

FOUR = tiers_of(FIRST, "mt")
PAIRS = Setting(tuple(FOUR.items()), task="mt")


def translated(setting=PAIRS, seeds=2):
    "Table 3's cells with made-up scores."
    codes = lambda c: dict((("mt", c.sees), *c.sees.others))["mt"].tested
    told = lambda c: {x: dict(bleu=made_up(c, x) / 10, chrf=0.4, in_language=0.5, copies=0.0, signatures=["tok:13a", "chrF2++"], sentences=10) for x in codes(c)}
    return [(c, replace(result(c, {}), scores=told(c) if c.setting.task == "mt" else {"en": dict(f1=0.9, precision=1, recall=1)},
                        others={} if c.setting.task == "mt" else {"mt": told(c)})) for c in cells_of(3, FIRST, setting, seeds)]


def test_table_three_says_bleu_and_what_stands_beside_it(tmp_path):
    rows = table_rows(3, FIRST, translated(seeds=1), FOUR)
    assert [r["method"] for r in rows] == [*FIRST.table(3).rows, method("control").title, method("text").title]
    assert rows[0]["en-he"] == "24.9 | 5.0" and rows[-1]["en-fr"] == "— | 6.0" and rows[5]["gain on en-ar en-he"].endswith("| +20.0 %")
    beside = beside_rows(translated(seeds=1), "mt")
    assert beside[0] == {"method": "Monolingual Fine-tuning", **dict.fromkeys(FOUR, "40.0 / 50 %")} and len(beside) == 8
    files = save_table(3, FIRST, PAIRS, translated(), 2, tmp_path)
    text = next(f for f in files if f.suffix == ".md").read_text("utf-8")
    assert "tok:13a" in text and "chrF++ / share of output in the target language" in text


def test_a_model_for_all_tasks_stands_in_every_table_with_the_scores_of_its_task():
    ner, sentiment = replace(WORLD, beside=(replace(SENTIMENT), PAIRS)), replace(SENTIMENT, beside=(WORLD, PAIRS))
    mine = [cells_of(n, FIRST, s, 1) for n, s in ((1, ner), (2, sentiment), (3, replace(PAIRS, beside=(SENTIMENT, WORLD))))]
    joint = [[c for c in cells if c.method == "joint"] for cells in mine]
    assert joint[0] == joint[1] == joint[2] and len(joint[0]) == 1 and joint[0][0].setting.task == "ner"     # one run for three tables
    assert all(not c.setting.beside for cells in mine for c in cells if method(c.method).tasks == "one")
    rows = table_rows(3, FIRST, translated(replace(PAIRS, beside=(SENTIMENT, WORLD)), 1), FOUR)
    assert next(r for r in rows if r["method"] == method("joint").title)["en-fr"] == "— | 6.0"
    assert not any(r["method"] == method("joint").title for r in table_rows(1, FIRST, measured(1, made_up), NINE))     # nobody measured it
