"""The rows of a run: samples, what is left out because it is tested on, and the fingerprint."""
from dataclasses import replace

import pytest
from conftest import REAL, needs_real

from xlt_lib.data.duplicates import key, texts
from xlt_lib.data.errors import DataError
from xlt_lib.reproduction import material
from xlt_lib.reproduction.experiments import Cell, Setting, sees
from xlt_lib.reproduction.material import Corpora, measured_on, reads

SMALL = Setting((("en", "high"), ("sw", "low")), train_rows=30, test_rows=20, other_rows=25)
PAIRS = Setting((("en-fr", "high"), ("en-ar", "low")), task="mt", train_rows=30, test_rows=20, other_rows=25)
JOINT = replace(SMALL, beside=(PAIRS,))


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


def test_zero_shot_translation_reads_no_pair_of_the_target_and_its_variant_only_text():
    plain, text = (sees(name, "low", dict(PAIRS.tiers)) for name in ("cross_lingual", "text"))
    assert plain.labelled == text.labelled == (("en-fr", 1.0),) and plain.written == () and text.written == ("fr", "ar")
    assert reads(text, "mt") == [("mt", "en-fr"), ("mono", "fr"), ("mono", "ar")] and reads(plain, "mt") == [("mt", "en-fr")]


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


def test_a_share_is_a_share():
    with pytest.raises(DataError, match="not a share"): Corpora(SMALL).labelled("sw", 1.5, 0)


def test_material_needs_no_torch():
    import ast
    tree = ast.parse(open(material.__file__, encoding="utf-8").read())
    assert not {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)} & {"torch", "transformers"}
