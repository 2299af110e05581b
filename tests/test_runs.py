"""One cell on a very small encoder: what its record says, that it can be run again, and what stops it."""
import json
import shutil
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
import torch
from test_material import write
from tiny import tokenizer

from xlt_lib.data.errors import DataError
from xlt_lib.encoders.transformer import new_encoder, open_encoder
from xlt_lib.reproduction import conditions, runs
from xlt_lib.reproduction.conditions import ingredients, recipe_for
from xlt_lib.reproduction.experiments import Cell, Setting
from xlt_lib.reproduction.material import Corpora
from xlt_lib.reproduction.runs import Result, key_of, read_result, run_cell


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    "Three languages of the world, few rows, an encoder of 16 numbers a subword."
    folder = tmp_path_factory.mktemp("encoder") / "enc"
    new_encoder("xlm-roberta", tokenizer(), layers=1, width=16).save(folder)
    return Setting((("en", "high"), ("de", "medium"), ("sw", "low")), encoder=str(folder), train_rows=40, test_rows=25, other_rows=20)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(conditions, "LEAST", 4)
    monkeypatch.setattr(conditions, "MOST", 4)


@pytest.fixture(scope="module")
def corpora(setting): return Corpora(setting)


# ---- what a cell is made of -------------------------------------------------------------------------------------

def test_every_method_reads_the_same_unlabelled_rows(setting, corpora):
    network, read = open_encoder(setting.encoder), {}
    for name in ("control", "adversarial", "multitask", "framework"):
        heads, examples, counts = ingredients(Cell(name, 0, setting), corpora, network)
        read[name] = [e["input_ids"] for e in examples[-counts["unlabelled"]:]]
        assert counts["unlabelled"] == 60 and sum(counts.values()) == len(examples)
    assert all(rows == read["control"] for rows in read.values())
    assert ingredients(Cell("control", 1, setting), corpora, network)[1][-1] != ingredients(Cell("control", 0, setting), corpora, network)[1][-1]


def test_all_methods_start_from_the_same_head_and_the_same_labelled_rows(setting, corpora):
    network, made = open_encoder(setting.encoder), {}
    for name in ("multilingual", "adversarial", "framework"):
        torch.rand(3)       # what was drawn before must not matter
        heads, examples, counts = ingredients(Cell(name, 0, setting), corpora, network)
        made[name] = torch.cat([p.flatten() for p in heads["ner"].parameters()]), examples[:counts["ner"]]
    assert all(torch.equal(w, made["framework"][0]) and rows == made["framework"][1] for w, rows in made.values())


def test_rows_for_other_losses_make_batches_larger_not_more_numerous(setting, corpora):
    network = open_encoder(setting.encoder)
    of = {}
    for name in ("multilingual", "framework"):
        _, examples, counts = ingredients(Cell(name, 0, setting), corpora, network)
        of[name] = recipe_for(Cell(name, 0, setting), examples, {"ner": counts["ner"]}, 1000)
        subwords = sum(len(e["input_ids"]) for e in examples)
        assert of[name].tokens / subwords == pytest.approx(conditions.SENTENCES * 1.05 / counts["ner"], abs=0.01)   # the same share of the rows a step
    assert of["framework"].steps == of["multilingual"].steps and of["framework"].tokens > of["multilingual"].tokens
    assert replace(of["framework"], tokens=of["multilingual"].tokens) == of["multilingual"]


# ---- the record -------------------------------------------------------------------------------------------------

NAMED = {"schema", "recipe", "commit", "data", "encoder", "versions", "seconds", "megabytes", "cell", "scores"}


def test_a_record_is_whole_and_complete(setting, corpora, tmp_path):
    result = run_cell(Cell("framework", 0, setting), corpora, tmp_path)
    told = json.loads((tmp_path / result.key / "result.json").read_text("utf-8"))
    assert NAMED <= set(told) and told == json.loads(json.dumps(asdict(result)))
    assert Result(**told).scores == result.scores and set(result.scores) == {"en", "de", "sw"}
    assert told["cell"]["seed"] == told["recipe"]["seed"] == 0 and told["encoder"] == open_encoder(setting.encoder).weights_hash
    assert {"xlt_lib", "torch", "transformers", "python"} <= set(told["versions"]) and told["megabytes"] > 50 and told["seconds"] > 0
    assert set(told["losses"]) == {"ner", "pos", "mlm", "language"} and told["steps"] == 4
    said = json.loads((tmp_path / result.key / "predictions.json").read_text("utf-8"))
    assert {code: len(rows) for code, rows in said.items()} == dict.fromkeys(("en", "de", "sw"), 25)
    head = subprocess.run(["git", "-C", runs.__file__.rsplit("/", 1)[0], "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
    assert (told["commit"] or "").rstrip("+") == head.stdout.strip()


def test_a_cell_that_is_there_is_read_not_run(setting, corpora, tmp_path, monkeypatch):
    first = run_cell(Cell("monolingual", 0, setting, "sw"), corpora, tmp_path)
    monkeypatch.setattr(runs, "train", lambda *a, **k: pytest.fail("trained again"))
    assert run_cell(Cell("monolingual", 0, setting, "sw"), corpora, tmp_path) == first


def test_the_same_cell_elsewhere_gives_the_same_bits(setting, tmp_path):
    a, b = (run_cell(Cell("framework", 0, setting), Corpora(setting), tmp_path / name) for name in "ab")
    assert (a.key, a.scores, a.losses, a.tokens) == (b.key, b.scores, b.losses, b.tokens)
    files = [(tmp_path / name / a.key / "predictions.json").read_bytes() for name in "ab"]
    assert files[0] == files[1]
    other = run_cell(Cell("framework", 1, setting), Corpora(setting), tmp_path / "a")
    assert other.key != a.key and other.losses != a.losses


def test_a_key_changes_with_what_is_done_not_with_its_name(setting):
    zero = replace(setting, scenario="zero")
    of = lambda cell, encoder="e", data="d": key_of(cell, encoder, data)
    assert of(Cell("multilingual", 0, zero)) == of(Cell("cross_lingual", 0, zero)) != of(Cell("multilingual", 1, zero))
    base = of(Cell("adversarial", 0, setting))
    others = [of(Cell("control", 0, setting)), of(Cell("adversarial", 0, setting), "f"), of(Cell("adversarial", 0, setting), data="x"),
              of(Cell("adversarial", 0, replace(setting, train_rows=41))), of(Cell("adversarial", 0, replace(setting, test_rows=None)))]
    assert len({base, *others}) == 6


def test_a_half_written_folder_is_no_result(setting, corpora, tmp_path):
    cell = Cell("monolingual", 0, setting, "sw")
    key = run_cell(cell, corpora, tmp_path / "once").key
    left = tmp_path / "twice" / f".{key}.1.partial"
    left.mkdir(parents=True)
    (left / "result.json").write_text("{")
    assert run_cell(cell, corpora, tmp_path / "twice").key == key and (tmp_path / "twice" / key / "result.json").is_file()


# ---- what stops it ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("text, found", [('{"schema": 0}', "schema 0"), ("{", "Expecting"), ('{"schema": 1}', "missing"), ("[]", "list")])
def test_a_result_of_another_version_says_what_to_do(setting, corpora, tmp_path, text, found):
    cell = Cell("monolingual", 0, setting, "sw")
    key = run_cell(cell, corpora, tmp_path).key
    (tmp_path / key / "result.json").write_text(text)
    with pytest.raises(DataError, match=f"not a result of this version.*{found}.*Delete its folder"): run_cell(cell, corpora, tmp_path)
    shutil.rmtree(tmp_path / key)
    assert run_cell(cell, corpora, tmp_path) == read_result(tmp_path / key)


def test_a_full_disk_leaves_nothing_half_written(setting, tmp_path):
    "The system lets no file of a process grow beyond 1 KB."
    code = f"""if True:
        import resource, signal, sys
        from xlt_lib.data.errors import DataError
        from xlt_lib.reproduction import conditions, runs
        from xlt_lib.reproduction.experiments import Cell, Setting
        from xlt_lib.reproduction.material import Corpora
        conditions.LEAST = conditions.MOST = 1
        setting = {setting!r}
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
        try: runs.run_cell(Cell("monolingual", 0, setting, "sw"), Corpora(setting), sys.argv[1])
        except DataError as e: print(e)"""
    out = subprocess.run([sys.executable, "-c", code, tmp_path / "results"], capture_output=True, text=True, timeout=300)
    assert "is the disk full?" in out.stdout and "does this cell again" in out.stdout, out.stderr
    assert not list((tmp_path / "results").iterdir())


def test_without_labels_nothing_is_trained(setting, corpora, tmp_path):
    zero = replace(setting, scenario="zero")
    with pytest.raises(DataError, match="monolingual cannot be trained.*no labels in the scenario zero"):
        run_cell(Cell("monolingual", 0, zero, "sw"), Corpora(zero), tmp_path)


def test_missing_pos_data_name_method_task_language_and_remedy(setting, tmp_path):
    for split in ("train", "dev", "test"): write(tmp_path, "ner", "masakhaner2", "yo", split, [f"mo rí {split}"])
    local = replace(setting, tiers=(("yo", "high"),), source=str(tmp_path))
    with pytest.raises(DataError, match="tagging needs pos in yo: .*--datasets pos=.*leave the method out"):
        run_cell(Cell("tagging", 0, local), Corpora(local), tmp_path / "results")
    assert not (tmp_path / "results").exists()
    assert run_cell(Cell("multilingual", 0, local), Corpora(local), tmp_path / "results").rows["ner"] == 1     # which needs none


def test_what_the_filter_took_stands_in_the_record(setting, tmp_path):
    for split, said in (("train", ["mo rí i"]), ("dev", ["ó lọ"]), ("test", ["wọ́n wá"])): write(tmp_path, "ner", "masakhaner2", "yo", split, said)
    write(tmp_path, "pos", "masakhapos", "yo", "train", ["Wọ́n wá .", "ilé ńlá"])
    local = replace(setting, tiers=(("yo", "high"),), source=str(tmp_path))
    result = run_cell(Cell("tagging", 0, local), Corpora(local), tmp_path / "results")
    assert result.dropped == {"pos yo": 1} and result.rows == {"ner": 1, "pos": 1, "unlabelled": 0}


# ---- the weight of auxiliary losses -----------------------------------------------------------------------------

def test_auxiliary_losses_weigh_alpha_and_that_is_part_of_the_key(setting, monkeypatch):
    cell = {name: Cell(name, 0, setting) for name in ("multilingual", "adversarial", "tagging", "framework")}
    assert {n: conditions.loss_weights(c) for n, c in cell.items()} == {"multilingual": {}, "adversarial": {}, "tagging": {"pos": 0.1}, "framework": {"pos": 0.1, "mlm": 0.1}}
    keys = {n: key_of(c, "e", "d") for n, c in cell.items()}
    monkeypatch.setattr(conditions, "ALPHA", 1.0)
    assert {n for n, c in cell.items() if key_of(c, "e", "d") != keys[n]} == {"tagging", "framework"}


def test_the_record_says_the_weights(setting, tmp_path):
    assert run_cell(Cell("framework", 0, setting), Corpora(setting), tmp_path).recipe["weights"] == {"pos": 0.1, "mlm": 0.1}


# ---- translation, and one model for several tasks ---------------------------------------------------------------

@pytest.fixture(scope="module")
def pairs(setting): return replace(setting, tiers=(("en-fr", "high"), ("en-sw", "low")), task="mt", test_rows=8)


@pytest.fixture(scope="module")
def joint(setting, pairs):
    sentiment = replace(setting, task="sentiment", labels=("negative", "positive"))
    return replace(setting, test_rows=8, beside=(replace(sentiment, test_rows=8), pairs))


def test_a_translation_is_scored_with_its_signatures_and_kept(pairs, tmp_path):
    result = run_cell(Cell("text", 0, pairs), Corpora(pairs), tmp_path)
    assert result.rows == {"mt": 40, "pos": 0, "unlabelled": 0, "written": 40} and result.steps == 4 * conditions.TRANSLATING
    for code in ("en-fr", "en-sw"):
        told = result.of("mt")[code]
        assert 0 <= told["bleu"] <= 1 and 0 <= told["chrf"] <= 1 and "tok:13a" in told["signatures"][0] and told["sentences"] == 8
    said = json.loads((tmp_path / result.key / "predictions.json").read_text("utf-8"))
    assert {code: len(lines) for code, lines in said.items()} == {"en-fr": 8, "en-sw": 8} and read_result(tmp_path / result.key) == result


def test_what_is_to_be_mended_is_spoilt_by_the_seed_alone(pairs):
    network, told = open_encoder(pairs.encoder), Corpora(pairs)
    rows = {seed: [conditions._to_write("sw", Cell("text", seed, pairs), told) for _ in range(2)] for seed in (0, 1)}
    assert rows[0][0] == rows[0][1] != rows[1][0] and all(r["source"].split() != r["target"].split() or len(r["target"].split()) < 6 for r in rows[0][0][:5])
    heads, _, counts = ingredients(Cell("cross_lingual", 0, pairs), told, network)
    assert "written" not in counts and heads["mt"].languages == ("fr", "sw")


def test_one_model_learns_three_tasks_and_is_measured_on_all(joint, tmp_path):
    corpora = Corpora(joint)
    result = run_cell(Cell("joint", 0, joint), corpora, tmp_path)
    assert set(result.losses) == {"ner", "sentiment", "mt", "pos", "mlm", "language"} and result.steps == 4 * conditions.TRANSLATING
    assert set(result.of("ner")) == {"en", "de", "sw"} == set(result.of("sentiment")) and set(result.of("mt")) == {"en-fr", "en-sw"}
    assert not result.of("topic") and result.scores == result.of("ner")
    turns = run_cell(Cell("alternating", 0, joint), corpora, tmp_path)
    assert turns.steps == 2 * result.steps and turns.key != result.key and turns.rows == result.rows
    said = json.loads((tmp_path / turns.key / "predictions.json").read_text("utf-8"))
    assert {"en", "sentiment en", "mt en-sw"} <= set(said)


def test_a_task_is_read_in_company_as_it_is_alone(joint, pairs):
    network = open_encoder(joint.encoder)
    together = ingredients(Cell("joint", 0, joint), Corpora(joint), network)[1]
    alone = ingredients(Cell("framework", 0, pairs), Corpora(pairs), network)[1]
    mine = lambda examples: [e for e in examples if "mt" in e.get("labels", {})]
    assert mine(together) == mine(alone) and len(mine(alone)) == 40 + 24      # 1 % of 2,400


def test_older_results_keep_their_names(setting):
    "What came later and is not made use of does not change a key: results on disk and in tables stay valid."
    cell = Cell("framework", 3, setting)
    told = {k: v for k, v in asdict(cell.sees).items() if k not in ("written", "update", "others")}
    assert runs._without_defaults(cell.sees) == told
    assert key_of(cell, "f00d", "cafe") == key_of(replace(cell, setting=replace(setting, beside=(setting,))), "f00d", "cafe")
