"""The lattice of methods, and what each of them sees."""
from dataclasses import replace

import pytest

from xlt_lib.data.errors import DataError
from xlt_lib.data.sampling import SCENARIOS, TIERS
from xlt_lib.reproduction import experiments
from xlt_lib.reproduction.experiments import METHODS, ROWS, WHAT_DIFFERS, Cell, Setting, matrix, method, sees
from xlt_lib.reproduction.material import measured_on, reads
from xlt_lib.reproduction.papers import paper

NINE = dict(en="high", es="high", fr="high", de="medium", it="medium", pt="medium", sw="low", yo="low", zu="low")
SHARED = [m for m in METHODS if METHODS[m].labelled != "own"]


# ---- the lattice ------------------------------------------------------------------------------------------------

def test_every_method_but_the_root_differs_from_its_parent_in_one_field():
    assert [m.name for m in METHODS.values() if m.parent is None] == ["monolingual"]
    for m in METHODS.values():
        if m.parent: assert m.change() is not None and m.parent in METHODS
    assert METHODS["adversarial"].change() == ("adversary", None, 0.01)
    assert METHODS["multitask"].change() == ("auxiliaries", ("pos",), ("pos", "mlm"))
    assert METHODS["monolingual"].change() is None


def test_no_two_methods_are_the_same():
    told = [tuple(getattr(m, f) for f in WHAT_DIFFERS) for m in METHODS.values()]
    assert len(set(told)) == len(METHODS)


def test_a_method_that_changes_two_things_at_once_is_refused(monkeypatch):
    bad = replace(METHODS["framework"], name="bad", parent="multilingual")
    with pytest.raises(DataError, match="bad differs from multilingual in 2 fields.*auxiliaries.*adversary"): bad.change()


def test_every_row_of_both_tables_has_a_method_and_the_papers_names_occur():
    for number, rows in ROWS.items():
        printed = list(paper("first").table(number).rows)
        assert list(rows)[:len(printed)] == printed and set(rows.values()) <= set(METHODS) and all(METHODS[m].title == row for row, m in list(rows.items())[len(printed):])
    for name, printed in paper("first").methods.items(): assert METHODS[name].title == printed and ROWS[1][printed] == name
    assert METHODS["adversarial"].adversary == float(paper("first").setup["lambda"])


def test_an_unknown_method_or_scenario_gets_a_suggestion():
    with pytest.raises(DataError, match="Did you mean 'multilingual'"): method("multi-lingual")
    with pytest.raises(DataError, match="unknown scenario.*zero"): sees("multilingual", "zero-shot", NINE)


# ---- what they see ----------------------------------------------------------------------------------------------

def test_without_labels_there_is_no_monolingual_model():
    for code, tier in NINE.items(): assert (sees("monolingual", "zero", NINE, code) is None) == (tier != "high")
    assert sees("monolingual", "low", NINE, "sw").labelled == (("sw", 0.01),)


def test_zero_shot_multilingual_and_cross_lingual_are_one_run():
    assert sees("multilingual", "zero", NINE) == sees("cross_lingual", "zero", NINE)
    assert sees("multilingual", "low", NINE) != sees("cross_lingual", "low", NINE)


def test_whatever_reads_unlabelled_text_reads_it_of_every_language():
    for scenario in SCENARIOS:
        read = {name: sees(name, scenario, NINE).unlabelled for name in SHARED}
        assert {name for name, languages in read.items() if languages} == {"control", "adversarial", "multitask", "framework", "joint", "alternating"}
        assert all(languages in ((), tuple(NINE)) for languages in read.values())


def test_the_control_differs_from_the_adversary_by_lambda_alone():
    for scenario in SCENARIOS:
        a, b = (sees(name, scenario, NINE) for name in ("control", "adversarial"))
        assert a != b and replace(a, adversary=b.adversary) == b and a.adversary == 0.0


@pytest.mark.parametrize("call, message", [
    (("monolingual", "low", NINE), "a model a language.*Name the language"), (("multilingual", "low", NINE, "sw"), "one model for all languages.*Name none"),
    (("monolingual", "low", NINE, "swa"), "without a tier.*Did you mean 'sw'")])
def test_a_language_where_none_belongs_and_the_other_way_round(call, message):
    with pytest.raises(DataError, match=message): sees(*call)


def test_the_matrix_says_dash_where_nothing_is_defined():
    rows = matrix(NINE)
    assert len(rows) == len({r["method"] for r in rows}) * len(SCENARIOS) * len(TIERS) and {"joint", "text"} == {r["method"] for r in matrix(NINE, ("joint", "text"))}
    seen = {(r["method"], r["scenario"], r["tier"]): r for r in rows}
    undefined = [k for k, r in seen.items() if "—" in r.values()]
    assert sorted(undefined) == [("monolingual", "zero", "low"), ("monolingual", "zero", "medium")]
    assert [*seen["monolingual", "zero", "low"].values()][4:] == ["—"] * 5
    row = seen["framework", "low", "low"]
    assert (row["its labelled rows"], row["its POS rows"], row["losses"]) == ("1 %", "1 %", "ner, pos, mlm, language, λ 0.01")
    assert "sw" not in row["others' labelled rows"] and "yo" in row["others' labelled rows"]
    assert seen["control", "zero", "low"]["losses"] == "ner, language, λ 0"
    assert len(matrix({"en": "high"}, ("multilingual",), ("low",))) == 1      # a tier without languages has no row


# ---- translation, several tasks, other shares -------------------------------------------------------------------

SMALL = Setting((("en", "high"), ("sw", "low")), train_rows=30, test_rows=20, other_rows=25)
PAIRS = Setting((("en-fr", "high"), ("en-ar", "low")), task="mt", train_rows=30, test_rows=20, other_rows=25)
JOINT = replace(SMALL, beside=(PAIRS,))


def test_of_a_pair_both_languages_are_read_and_a_language_counts_as_its_best_pair_does():
    seen = sees("framework", "low", dict(PAIRS.tiers))
    assert seen.labelled == (("en-fr", 1.0), ("en-ar", 0.01)) and seen.tested == ("en-fr", "en-ar")
    assert seen.auxiliary == (("en", 1.0), ("fr", 1.0), ("ar", 0.01)) and seen.unlabelled == ("en", "fr", "ar")
    assert sees("multilingual", "zero", dict(PAIRS.tiers)).labelled == (("en-fr", 1.0),)


def test_one_model_for_all_tasks_reads_the_labels_of_each_and_every_other_row_once():
    seen = Cell("joint", 0, JOINT).sees
    assert seen.labelled == (("en", 1.0), ("sw", 0.01)) and dict(seen.others)["mt"].labelled == (("en-fr", 1.0), ("en-ar", 0.01))
    assert seen.unlabelled == ("en", "sw", "fr", "ar") and dict(seen.auxiliary) == {"en": 1.0, "sw": 0.01, "fr": 1.0, "ar": 0.01}
    assert reads(seen, "ner")[:4] == [("ner", "en"), ("ner", "sw"), ("mt", "en-fr"), ("mt", "en-ar")]
    assert measured_on(seen, JOINT) == [("ner", "en", None), ("ner", "sw", None), ("mt", "en-fr", None), ("mt", "en-ar", None)]
    assert Cell("alternating", 0, JOINT).sees == replace(seen, update="alternating")
    assert Cell("framework", 0, JOINT).sees == Cell("framework", 0, SMALL).sees        # only methods for several tasks look beside
    with pytest.raises(DataError, match="joint learns several tasks"): _ = Cell("joint", 0, SMALL).sees


def test_a_share_stands_in_for_the_low_tiers_alone():
    for share in (0.05, 1.0):
        seen = Cell("multilingual", 0, replace(SMALL, share=share)).sees
        assert seen.labelled == (("en", 1.0), ("sw", share))


def test_a_cell_says_what_it_is():
    assert str(Cell("framework", 0, SMALL)) == "framework seed 0" and str(Cell("monolingual", 3, SMALL, "sw")) == "monolingual sw seed 3"


def test_experiments_need_no_torch():
    import ast
    tree = ast.parse(open(experiments.__file__, encoding="utf-8").read())
    assert not {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)} & {"torch", "transformers"}
