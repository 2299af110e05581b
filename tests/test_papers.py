"""The first paper's file holds what the page prints; contradictions are found by name; a slip is explained."""
import math
import re
from decimal import Decimal
from fractions import Fraction
from importlib.resources import files

import nbformat
import numpy as np
import pytest
from conftest import ROOT

from xlt_lib.data.errors import DataError
from xlt_lib.data.sampling import SCENARIOS, TIERS
from xlt_lib.reproduction.audit import CLAIM_CHECKS, TABLE_CHECKS, VERDICTS, audit, check_claim
from xlt_lib.reproduction.papers import paper, read_paper, relative_gain

PAGE = (files("xlt_lib.reproduction") / "paper_files" / "first.toml").read_text("utf-8")
FIRST = paper("first")


def grid(number, metric=0):
    "A table as numbers, by another road than the library's: (rows, columns)."
    return np.array([[float(c[metric]) for c in cells] for cells in FIRST.table(number).rows.values()])


def found(name): return [f for f in audit(FIRST) if f.check == name]


# ---- the file

def test_tables_have_the_shape_of_the_page():
    assert {n: (len(t.rows), len(t.columns), t.metrics) for n, t in FIRST.tables.items()} == {
        1: (6, 9, ("F1",)), 2: (6, 6, ("accuracy", "macro-F1")), 3: (6, 4, ("BLEU",)), 4: (5, 3, ("F1",))}
    assert all(list(FIRST.table(n).rows) == list(FIRST.methods.values()) for n in (1, 2, 3))


def test_numbers_keep_their_digits():
    for t in FIRST.tables.values():
        digits = 1 if t.metrics == ("BLEU",) else 2
        for cells in t.rows.values():
            assert all(type(x) is Decimal and x.as_tuple().exponent == -digits for c in cells for x in c)
    assert str(FIRST.value(1, "adversarial", "es")) == "0.90"       # as printed, with its nought


def test_rows_are_as_on_the_page():
    assert [list(r) for r in FIRST.table(2).as_rows][0] == ["model", *FIRST.table(2).columns]
    assert all(re.fullmatch(r"0\.\d\d / 0\.\d\d", r["es"]) for r in FIRST.table(2).as_rows)
    assert FIRST.table(2).as_rows[0]["model"] == FIRST.methods["monolingual"]


def test_every_row_column_and_metric_is_found():
    for n, t in FIRST.tables.items():
        for k, metric in enumerate(t.metrics):
            values = [[float(t.value(r, c, metric)) for c in t.columns] for r in t.rows]
            assert (np.array(values) == grid(n, k)).all()
    for short, printed in FIRST.methods.items():
        assert FIRST.value(3, short, "en-he") == FIRST.value(3, printed, "en-he")


def test_tiers_are_the_columns_and_scenarios_those_of_sampling():
    for n in (1, 2, 3):
        t = FIRST.table(n)
        assert sorted(c for tier in TIERS for c in FIRST.tiers[t.task][tier]) == sorted(t.columns)
    assert {name: tuple(map(float, (s["high"], s["medium"], s["low"]))) for name, s in FIRST.scenarios.items()} == \
        {name: (s.high, s.medium, s.low) for name, s in SCENARIOS.items()}


def test_claims_say_where_they_stand_and_quotes_are_short():
    for c in FIRST.claims:
        assert c.where and 2 <= len(c.quote.split()) <= 12 and c.check in CLAIM_CHECKS
        assert c.printed is None or str(c.printed) in c.quote          # the number is the one that is quoted
    assert len({c.name for c in FIRST.claims}) == len(FIRST.claims)
    assert all(gap["what"] and gap["where"] and gap["note"] for gap in FIRST.left_open)


def test_no_published_number_is_typed_into_python():
    bleu = {str(x) for cells in FIRST.table(3).rows.values() for c in cells for x in c}     # 0.90 is a usual number
    printed = bleu | {str(c.printed) for c in FIRST.claims if c.printed}
    typed = lambda text: {x for x in printed if re.search(rf"(?<![\d.]){re.escape(x)}(?![\d.])", text)}
    assert typed(PAGE) == printed       # the file is where they are
    for module in ("papers", "audit"):
        assert not typed((ROOT / "xlt_lib" / "reproduction" / f"{module}.py").read_text("utf-8"))
    for path in (ROOT / "nbs" / "7_reproduction").glob("*.ipynb"):
        assert not typed("\n".join(c.source for c in nbformat.read(path, 4).cells if c.cell_type == "code")), path.name


# ---- the text against the tables: expected values by numpy, from the same cells

def gain(number, columns, metric=0):
    "Mean relative gain of the last row over the first, in per cent."
    at = [FIRST.table(number).columns.index(c) for c in columns]
    return 100 * (grid(number, metric)[-1, at] / grid(number, metric)[0, at] - 1).mean()


@pytest.mark.parametrize("name, expected, rounded, verdict", [
    # rounded: recomputed once by hand, as is the pencil case in the lesson
    ("NER, low-resource gain", gain(1, ["sw", "yo", "zu"]), 17.6, "contradicts"),
    ("Spanish sentiment, accuracy gain", gain(2, ["es"]), 7.5, "only by rounding"),
    ("Spanish sentiment, macro-F1 gain", gain(2, ["es"], 1), 7.6, "contradicts"),
    ("translation, low-resource gain", gain(3, ["en-ar", "en-he"]), 13.5, "contradicts"),
    ("largest gain, over monolingual", 100 * max((g[-1] / g[0] - 1).max() for g in map(grid, (1, 2, 3))), 18.0,
     "only by rounding"),
    ("largest gain, over the best baseline", 100 * max((g[-1] / g[:-1].max(0) - 1).max() for g in map(grid, (1, 2, 3))),
     3.3, "contradicts"),
])
def test_numbers_of_the_text(name, expected, rounded, verdict):
    [f] = found(name)
    [c] = [c for c in FIRST.claims if c.name == name]
    value, low, high = map(float, f.range)
    assert value == pytest.approx(expected) and round(value, 1) == rounded and low < value < high
    assert f.verdict == verdict and f.paper == f"{c.printed} %" and f.recomputed.startswith(f"{rounded} %")


def test_rounding_bounds_hold_for_whatever_was_rounded():
    rng = np.random.default_rng(0)
    [f] = found("NER, low-resource gain")
    ours, base = grid(1)[-1, -3:], grid(1)[0, -3:]
    for _ in range(2000):
        m, b = (x + rng.uniform(-0.005, 0.005, 3) for x in (ours, base))
        assert float(f.range[1]) <= 100 * (m / b - 1).mean() <= float(f.range[2])
    extreme = 100 * ((ours + 0.005) / (base - 0.005) - 1).mean()
    assert float(f.range[2]) == pytest.approx(extreme)


def test_claims_that_hold_are_said_to_hold():
    verdicts = {f.check: f.verdict for f in audit(FIRST)[:len(FIRST.claims)]}
    assert [n for n, v in verdicts.items() if v == "not printed"] == [c.name for c in FIRST.claims if not c.tables]
    for name in ("NER", "sentiment", "translation"):
        assert verdicts[f"{name}, best everywhere"] == verdicts[f"{name}, low-resource gains most"] == "agrees"
    assert verdicts["NER, gap between tiers shrinks"] == "agrees"


def test_synergy_is_below_the_sum_in_every_column():
    base, adversarial, multitask, _, full = grid(4)
    assert ((full - base) < (adversarial - base) + (multitask - base) - 1e-9).all()
    [f] = found("ablation, synergy")
    assert f.verdict == "only by rounding" and f.recomputed.count("0.11 against 0.12") == 3


# ---- the tables against each other

def test_table_2_adversarial_and_multitask_rows_are_identical():
    [f] = found("identical rows")
    assert f.where == "Table 2, 'Adversarial Training'" and f.recomputed == "equals 'Multi-task Learning'"
    assert (grid(2)[3] == grid(2)[4]).all() and (grid(2, 1)[3] == grid(2, 1)[4]).all()


def test_table_4_repeats_table_1_under_other_names():
    assert {(f.where, f.recomputed) for f in found("renamed rows")} == {
        ("Table 4, '+ Adversarial Training'", "equals Table 1, 'Cross-lingual Transfer'"),
        ("Table 4, '+ Multi-task Learning'", "equals Table 1, 'Multilingual Fine-tuning'"),
        ("Table 4, '+ Language Modeling'", "equals Table 1, 'Multi-task Learning'")}
    assert (grid(4)[1:4] == grid(1)[[2, 1, 4], -3:]).all()
    assert {f.where.split("'")[1] for f in found("changed rows")} == {"+ Adversarial Training", "+ Multi-task Learning"}


def test_columns_and_metrics_that_are_each_other_plus_a_constant():
    groups = [(f.where, f.recomputed) for f in found("parallel columns")]
    for where, said in (("Table 1", "fr = es − 0.01"), ("Table 1", "it = es − 0.05"), ("Table 1", "zu = sw − 0.04"),
                        ("Table 3", "en-he = en-ar − 0.7")):
        assert any(w == where and said in text.split(", ") for w, text in groups), said
    for number in FIRST.tables:       # by another road: columns less their first row, up to float dust
        rises = np.round(grid(number) - grid(number)[0], 6).T
        sizes = sorted(np.unique(rises, axis=0, return_counts=True)[1])
        assert sorted(int(f.paper.split()[0]) for f in found("parallel columns") if f.where == f"Table {number}") == \
            [s for s in sizes if s > 1]
    [f] = found("parallel metrics")
    assert (f.where, f.paper, f.recomputed) == ("Table 2", "36 cells", "macro-F1 = accuracy − 0.01")


def test_what_a_reader_is_not_told():
    assert [f.recomputed for f in found("average of one")] == ["over es alone"] * 2
    assert [f.recomputed for f in found("unstated conditions")] == ["no scenario, no seeds, no interval"] * 4


def test_every_check_is_used_and_every_verdict_known():
    assert {c.check for c in FIRST.claims} == set(CLAIM_CHECKS)
    assert {f.verdict for f in audit(FIRST)} <= set(VERDICTS)
    assert {f.check.replace(" ", "_") for f in audit(FIRST)[len(FIRST.claims):]} == {c.__name__ for c in TABLE_CHECKS}


def test_a_sound_table_raises_no_finding():
    changed = PAGE.replace("0.70, 0.67, 0.66]", "0.71, 0.66, 0.68]")        # in Tables 1 and 4
    changed = changed.replace("[0.93, 0.92], [0.90, 0.89]", "[0.93, 0.91], [0.90, 0.89]")
    sound = read_paper(changed, "changed.toml")
    names = [f.check for f in audit(sound)]
    assert "parallel metrics" not in names and names.count("identical rows") == 1
    assert [f.where for f in audit(FIRST) if f.recomputed.startswith("yo = sw")] == ["Table 1", "Table 4"]
    assert [f.where for f in audit(sound) if "= sw" in f.recomputed] == []
    agreeing = read_paper(PAGE.replace("printed = 15.3", "printed = 17.6"), "changed.toml")
    assert check_claim(agreeing, agreeing.claims[0]).verdict == "agrees"


def test_relative_gain():
    assert relative_gain(Decimal("0.55"), Decimal("0.50")) == 10 and relative_gain(Fraction(3), Fraction(2)) == 50
    assert relative_gain(0.3, 0.4) == pytest.approx(-25) and math.isnan(relative_gain(0.3, 0.0))


# ---- bad input

def broken(old, new):
    assert old in PAGE
    return read_paper(PAGE.replace(old, new, 1), "mine.toml")


@pytest.mark.parametrize("call, says", [
    (lambda: paper("frist"), "unknown paper: found 'frist'. Did you mean 'first'?"),
    (lambda: FIRST.table(7), "first: no such table: found 7, expected 1, 2, 3, 4"),
    (lambda: FIRST.value(1, "framwork", "sw"), "not in Table 1: found 'framwork'"),
    (lambda: FIRST.value(1, "framework", "he"), "not in Table 1: found 'he'"),
    (lambda: FIRST.value(2, "framework", "es"), "Known: accuracy, macro-F1"),
    (lambda: broken("0.91, 0.87, 0.86", "0.91, 0.86"), "mine.toml: Table 1, row 'Monolingual Fine-tuning' does not"),
    (lambda: broken("[0.92, 0.91], ", "0.92, "), "mine.toml: Table 2, row 'Monolingual Fine-tuning' does not"),
    (lambda: broken('over = "Monolingual', 'over = "Bilingual'), "not in Table 1: found 'Bilingual Fine-tuning'"),
    (lambda: broken('metric = "F1"', 'metric = "F2"'), "not in Table 1: found 'F2'"),
    (lambda: broken("tables = [1]", "tables = [9]"), "no such table: found 9"),
    (lambda: broken("caption =", "captoin ="), "Table: unknown key: found 'captoin'. Did you mean 'caption'?"),
    (lambda: broken('caption = "NER', '# "NER'), "Table 1: keys are missing: expected caption"),
    (lambda: read_paper('name = "x"', "mine.toml"), "mine.toml: Paper x: keys are missing"),
    (lambda: read_paper("name = ", "mine.toml"), "mine.toml: not TOML"),
    (lambda: audit(broken('check = "synergy"', 'check = "sinergy"')), "check: found 'sinergy'. Did you mean 'synergy'?"),
])
def test_bad_input(call, says):
    with pytest.raises(DataError) as error: call()
    assert says in str(error.value)
