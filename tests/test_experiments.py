"""The lattice of methods, what each of them sees, and the rows it gets."""
from dataclasses import replace

import pytest
from conftest import REAL, needs_real

from xlt_lib.data.duplicates import key, texts
from xlt_lib.data.errors import DataError
from xlt_lib.data.sampling import SCENARIOS, TIERS
from xlt_lib.reproduction import experiments
from xlt_lib.reproduction.experiments import METHODS, ROWS, WHAT_DIFFERS, Cell, Corpora, Setting, matrix, method, reads, sees, measured_on
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


# ---- the rows ---------------------------------------------------------------------------------------------------

SMALL = Setting((("en", "high"), ("sw", "low")), train_rows=30, test_rows=20, other_rows=25)


def test_samples_change_with_the_seed_and_tests_do_not():
    corpora = Corpora(SMALL)
    ids = lambda rows: [r["id"] for r in rows]
    assert ids(corpora.labelled("en", 1.0, 0)) == ids(Corpora(SMALL).labelled("en", 1.0, 0)) != ids(corpora.labelled("en", 1.0, 1))
    assert len(corpora.labelled("en", 1.0, 0)) == 30 and len(corpora.test("sw")) == 20 and len(corpora.other("mono", "sw", 1.0, 0)) == 25
    assert ids(corpora.test("sw")) == ids(Corpora(SMALL).test("sw"))
    assert set(ids(corpora.test("sw"))) <= set(corpora.rows("ner", "sw", "test")["id"])


def test_a_changed_label_changes_the_fingerprint_and_a_row_that_is_not_read_does_not():
    seen, other = sees("multilingual", "zero", dict(SMALL.tiers)), sees("multilingual", "low", dict(SMALL.tiers))
    def of(seen, task="ner", language="sw", split="train"):
        corpora = Corpora(SMALL)
        rows = corpora.rows(task, language, split)
        tags = [[*rows[0]["tags"][:-1], "B-LOC"], *rows["tags"][1:]]
        corpora._read[task, language, split] = rows.remove_columns("tags").add_column("tags", tags).select_columns(rows.column_names)
        return corpora.fingerprint(seen)
    assert of(other) != Corpora(SMALL).fingerprint(other) != Corpora(SMALL).fingerprint(seen)
    assert of(seen) == Corpora(SMALL).fingerprint(seen) != of(seen, split="test")


def write(folder, task, name, language, split, sentences):
    "Sentences (words by spaces), each word tagged O or NOUN, where the registry expects them."
    file = folder / task / name / language / f"{split}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    tag = {"ner": "O", "pos": "NOUN"}[task]
    file.write_text("\n".join("".join(f"{w} {tag}\n" for w in s.split()) for s in sentences), "utf-8")


def test_a_missing_development_set_is_none_and_a_broken_one_is_told(tmp_path):
    for split, said in (("train", ["mo rí i", "ó dára"]), ("test", ["Ó dára"])): write(tmp_path, "ner", "masakhaner2", "yo", split, said)
    setting = Setting((("yo", "high"),), source=str(tmp_path))
    kept, dropped = Corpora(setting).kept("ner", "yo")
    assert len(kept) == dropped == 1
    write(tmp_path, "ner", "masakhaner2", "yo", "dev", ["Wọ́n wá"])
    with (tmp_path / "ner/masakhaner2/yo/dev.txt").open("a", encoding="utf-8") as f: f.write("\nlánàá B-NOBODY\n")
    with pytest.raises(DataError, match="dev.txt:4: a label outside"): Corpora(setting).kept("ner", "yo")


def test_other_rows_never_contain_what_is_tested(tmp_path):
    for split, said in (("train", ["mo rí i", "ó dára"]), ("dev", ["Ó lọ sí Èkó"]), ("test", ["Wọ́n wá lánàá"])): write(tmp_path, "ner", "masakhaner2", "yo", split, said)
    write(tmp_path, "pos", "masakhapos", "yo", "train", ["wọ́n wá lánàá !", "Mo rí i .", "Ó lọ, sí Èkó", "ilé ńlá"])
    corpora = Corpora(Setting((("yo", "high"),), source=str(tmp_path)))
    assert [" ".join(r["tokens"]) for r in corpora.other("pos", "yo", 1.0, 0)] in (["Mo rí i .", "ilé ńlá"], ["ilé ńlá", "Mo rí i ."])
    assert corpora.kept("pos", "yo")[1] == 2 and corpora.kept("ner", "yo")[1] == 0


@needs_real
def test_masakhapos_without_the_test_sentences_of_masakhaner():
    corpora = Corpora(Setting((("yo", "high"),), source=str(REAL), datasets=(("ner", "masakhaner2"), ("pos", "masakhapos"))))
    rows, gone = corpora.kept("pos", "yo")
    tested = {key(t) for split in ("dev", "test") for t in texts(corpora.rows("ner", "yo", split))["tokens"]}
    assert gone > 500 and not {key(t) for t in texts(rows)["tokens"]} & tested     # by far the most of its 893
    assert len(rows) + gone == len(corpora.rows("pos", "yo", "train"))


def test_reads_names_everything_once():
    cell = Cell("framework", 0, SMALL)
    assert reads(cell.sees, "ner") == [("ner", "en"), ("ner", "sw"), ("pos", "en"), ("pos", "sw"), ("mono", "en"), ("mono", "sw")]
    assert str(cell) == "framework seed 0" and str(Cell("monolingual", 3, SMALL, "sw")) == "monolingual sw seed 3"


def test_experiments_need_no_torch():
    import ast
    tree = ast.parse(open(experiments.__file__, encoding="utf-8").read())
    assert not {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)} & {"torch", "transformers"}


# ---- translation, several tasks, other shares -------------------------------------------------------------------

PAIRS = Setting((("en-fr", "high"), ("en-ar", "low")), task="mt", train_rows=30, test_rows=20, other_rows=25)
JOINT = replace(SMALL, beside=(PAIRS,))


def test_of_a_pair_both_languages_are_read_and_a_language_counts_as_its_best_pair_does():
    seen = sees("framework", "low", dict(PAIRS.tiers))
    assert seen.labelled == (("en-fr", 1.0), ("en-ar", 0.01)) and seen.tested == ("en-fr", "en-ar")
    assert seen.auxiliary == (("en", 1.0), ("fr", 1.0), ("ar", 0.01)) and seen.unlabelled == ("en", "fr", "ar")
    assert sees("multilingual", "zero", dict(PAIRS.tiers)).labelled == (("en-fr", 1.0),)


def test_zero_shot_translation_reads_no_pair_of_the_target_and_its_variant_only_text():
    plain, text = (sees(name, "low", dict(PAIRS.tiers)) for name in ("cross_lingual", "text"))
    assert plain.labelled == text.labelled == (("en-fr", 1.0),) and plain.written == () and text.written == ("fr", "ar")
    assert reads(text, "mt") == [("mt", "en-fr"), ("mono", "fr"), ("mono", "ar")] and reads(plain, "mt") == [("mt", "en-fr")]


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
    with pytest.raises(DataError, match="not a share"): Corpora(SMALL).labelled("sw", 1.5, 0)


def test_nothing_that_is_tested_in_any_task_is_trained_on_in_another():
    corpora = Corpora(JOINT)
    pair, name = corpora.rows("mt", "en-fr", "test")[0], corpora.rows("ner", "en", "test")[0]
    mono = corpora.rows("mono", "en", "train").select(range(2))
    leaks = [mono[0] | {"text": pair["source"].upper()}, mono[0] | {"text": " ".join(name["tokens"])}]
    corpora._read["mono", "en", "train"] = mono.from_list([*mono, *leaks], features=mono.features)
    assert corpora.kept("mono", "en")[1] == 2
    french = corpora.rows("mono", "fr", "train").select(range(2))
    corpora._read["mono", "fr", "train"] = french.from_list([*french, french[0] | {"text": pair["target"]}], features=french.features)
    assert corpora.kept("mono", "fr")[1] == 1


def test_a_pair_is_left_out_for_either_of_its_sides():
    corpora = Corpora(PAIRS)
    rows, test = corpora.rows("mt", "en-fr", "train").select(range(3)), corpora.rows("mt", "en-fr", "test")[0]
    leaks = [rows[0] | {"source": test["source"]}, rows[1] | {"target": test["target"]}]
    corpora._read["mt", "en-fr", "train"] = rows.from_list([*rows, *leaks], features=rows.features)
    assert corpora.kept("mt", "en-fr")[1] == 2


@needs_real
def test_another_data_set_is_tested_too_and_kept_out_of_training():
    setting = Setting((("en-sw", "high"),), task="mt", source=str(REAL), datasets=(("mt", "mafand"),), also_tested=("ntrex128",), test_rows=50)
    corpora = Corpora(setting)
    assert [t[2] for t in measured_on(Cell("monolingual", 0, setting, "en-sw").sees, setting)] == [None, "ntrex128"]
    assert len(corpora.test("en-sw", dataset="ntrex128")) == 50 and corpora.test("en-sw", dataset="ntrex128") != corpora.test("en-sw")
    news = {key(r["source"]) for r in corpora.rows("mt", "en-sw", "test", "ntrex128")}
    assert not news & {key(r["source"]) for r in corpora.kept("mt", "en-sw")[0]}


def test_nothing_to_train_on_is_told(tmp_path):
    for split, said in (("train", ["wọ́n wá !"]), ("test", ["Wọ́n wá"])): write(tmp_path, "ner", "masakhaner2", "yo", split, said)
    with pytest.raises(DataError, match="no row to train on: found '1 rows .* 1 of them tested on"): Corpora(Setting((("yo", "high"),), source=str(tmp_path))).kept("ner", "yo")
