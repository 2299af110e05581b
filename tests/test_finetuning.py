"""From labelled text to a model: labels in their places, a folder that survives whatever happens, and clear refusals."""
import os
import shutil

import pytest
import torch
from conftest import REAL, needs_real
from hypothesis import given, settings, strategies as st
from tiny import rows, tokenizer

from xlt_lib.data.errors import DataError
from xlt_lib.data.files import read_file, write_file
from xlt_lib.data.tasks import IOB2, TASKS
from xlt_lib.data.world import the_world
from xlt_lib.encoders.batches import IGNORE
from xlt_lib.encoders.recipe import Recipe
from xlt_lib.encoders.transformer import new_encoder, open_encoder, weights_hash
from xlt_lib.transfer import finetuning, multitask
from xlt_lib.transfer.finetuning import fine_tune, new_head, scorer, task_examples, usual_recipe
from xlt_lib.transfer.heads import SentenceHead, TokenHead
from xlt_lib.transfer.multitask import load_model

QUICK = Recipe(learning_rate=3e-3, epochs=3, threads=1, precision="fp32")
BY_F1 = Recipe(learning_rate=3e-3, epochs=3, threads=1, precision="fp32", select="f1")
quiet = lambda line: None


@pytest.fixture(scope="module")
def encoder(): return new_encoder("xlm-roberta", tokenizer(), layers=1, width=32, max_length=64)


@pytest.fixture(scope="module")
def folder(encoder, tmp_path_factory):
    encoder.save(path := tmp_path_factory.mktemp("encoder"))
    return path


def reviews(n=24): return the_world().corpus("sentiment", "en", "train").select(range(n)).to_list()


def test_labels_stand_at_the_first_subword_of_their_words_and_count_by_the_order_given():
    row = {"id": "a", "language": "sw", "tokens": ["Amina", "anaishi"], "tags": ["B-PER", "O"]}
    for labels in (IOB2, IOB2[::-1]):
        [example] = task_examples("ner", [row], tokenizer(), labels, 64, name="names")
        [told] = example["labels"].values()
        assert list(example["labels"]) == ["names"] and example["language"] == "sw"
        assert [k for k in told if k != IGNORE] == [labels.index("B-PER"), labels.index("O")]
        assert [w for w in example["words"] if w != IGNORE] == [0, 1]


def test_a_sentence_has_one_label():
    [example] = task_examples("sentiment", [{"id": "a", "language": "en", "text": "good film", "label": "positive"}], tokenizer(),
                              ("positive", "negative"), 64)
    assert example["labels"] == {"sentiment": 0} and example["input_ids"] == tokenizer()("good film")["input_ids"]


@pytest.mark.parametrize("row, says", [({"id": "row-7", "tokens": ["x"], "tags": ["B-DATE"]}, "row-7.*B-DATE"),
                                       ({"id": "row-7", "tokens": ["x"]}, "row-7.*tags"), ({"id": "row-7", "tags": ["O"]}, "row-7.*tokens")])
def test_rows_that_do_not_fit_are_named(row, says):
    with pytest.raises(DataError, match=says): task_examples("ner", [row], tokenizer(), IOB2, 64)


def test_heads_fit_their_tasks():
    assert type(new_head("pos", 8, TASKS["pos"].labels)) is TokenHead and type(new_head("topic", 8, TASKS["topic"].labels)) is SentenceHead
    with pytest.raises(DataError, match="no head for this task.*emotion"): new_head("emotion", 8, ("a", "b"))
    with pytest.raises(DataError, match="Did you mean 'ner'"): new_head("nerr", 8, IOB2)


class Says:
    "A model that has one answer."
    def __init__(self, answer): self.answer = answer

    def predict(self, texts, name): return self.answer


def test_scores_by_hand():
    "Of two names one is found; three of four tags are right; two of three reviews."
    ner = [{"tokens": ["Amina", "x"], "tags": ["B-PER", "O"]}, {"tokens": ["Kano", "x"], "tags": ["B-LOC", "O"]}]
    answer = Says([["B-PER", "O"], ["O", "O"]])
    assert scorer("ner", ner)(answer) == {"f1": pytest.approx(2 / 3)}
    stray = Says([["I-PER", "O"], ["B-LOC", "O"]])      # strict: a stray I- is no name
    assert scorer("ner", ner)(stray) == {"f1": pytest.approx(2 / 3)}
    pos = [{"tokens": ["a", "b"], "tags": ["DET", "NOUN"]}, {"tokens": ["c", "d"], "tags": ["VERB", "X"]}]
    assert scorer("pos", pos)(Says([["DET", "NOUN"], ["VERB", "NOUN"]])) == {"accuracy": 0.75}
    moods = [{"text": t, "label": m} for t, m in zip("abc", ("positive", "positive", "negative"))]
    scores = scorer("sentiment", moods)(Says(["positive", "negative", "negative"]))
    assert scores == {"accuracy": pytest.approx(2 / 3), "macro_f1": pytest.approx(2 / 3)}


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 100_000), st.integers(1, 10**9))
def test_the_usual_recipe_never_trains_for_too_short(n, parameters):
    recipe = usual_recipe(n, parameters)
    assert recipe.epochs >= 10 and recipe.epochs * -(-n // recipe.rows) >= 150
    assert recipe.epochs == 10 or (recipe.epochs - 1) * -(-n // recipe.rows) < 150      # and not longer than it must
    assert recipe.learning_rate == (5e-4 if parameters < 20_000_000 else 2e-5)


def test_three_lines_from_files_to_names(folder, tmp_path):
    train, dev = write_file("ner", rows(), tmp_path / "train.conll"), write_file("ner", rows("sw", 16), tmp_path / "dev.conll")
    model = fine_tune("ner", str(train), dev=dev, encoder=folder, recipe=Recipe(learning_rate=5e-3, epochs=50, threads=1), say=quiet)
    assert model.predict([["Amina", "lives", "in", "Lagos"]], "ner")[0][1:3] == ["O", "O"]
    assert scorer("ner", rows())(model)["f1"] > 0.5     # of what it has seen
    assert not model.training


def test_the_usual_recipe_can_be_changed_in_part(encoder, tmp_path):
    fine_tune("sentiment", reviews(), dev=reviews(8), encoder=encoder, recipe={"epochs": 1, "threads": 1}, folder=tmp_path / "m", say=quiet)
    import json
    told = json.loads((tmp_path / "m/training.json").read_text())
    assert told["run"]["epochs"] == 1 and told["run"]["learning_rate"] == 5e-4 and told["run"]["select"] == "accuracy"
    assert set(told["best"]) == {"accuracy", "macro_f1"}


def test_an_open_encoder_is_left_as_it_was(encoder):
    before, state = weights_hash(encoder.model), torch.get_rng_state()
    fine_tune("ner", rows(n=8), encoder=encoder, recipe=QUICK, say=quiet)
    assert weights_hash(encoder.model) == before and torch.equal(torch.get_rng_state(), state)


def train(encoder, folder=None, **more):
    more = {"recipe": BY_F1, "say": quiet, **more}
    return fine_tune("ner", rows(), dev=rows("sw", 16), encoder=encoder, folder=folder, **more)


@pytest.fixture(scope="module")
def uninterrupted(encoder): return weights_hash(train(encoder))


def test_killed_and_started_again_is_as_if_never_killed(encoder, uninterrupted, tmp_path):
    def stop(line):
        if line.startswith("epoch 2"): raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt, match="stopped after step 4 of 6.*checkpoint-00000002-0001 is whole: the same call goes on"):
        train(encoder, tmp_path / "m", say=stop)
    with pytest.raises(DataError, match="not a model's folder"): load_model(tmp_path / "m")
    said = []
    model = train(encoder, tmp_path / "m", say=said.append)
    assert any("goes on after step 2 of 6" in line for line in said)
    assert weights_hash(model) == uninterrupted == weights_hash(load_model(tmp_path / "m"))
    assert {p.name for p in (tmp_path / "m").iterdir()} == {"encoder", "heads.safetensors", "model.json", "training.json", "log.jsonl"}
    said.clear()
    assert weights_hash(train(encoder, tmp_path / "m", say=said.append)) == uninterrupted
    assert said == [f"{tmp_path / 'm'} holds this model: it was trained before"]


@pytest.mark.parametrize("nth", range(1, 6))
def test_killed_while_the_model_is_put_in_its_place(encoder, uninterrupted, tmp_path, monkeypatch, nth):
    moved, real = [], os.replace
    def killed(*paths):
        moved.append(paths)
        if len(moved) == nth: raise KeyboardInterrupt
        real(*paths)
    with monkeypatch.context() as m:
        m.setattr(finetuning, "os", type("os", (), {"replace": staticmethod(killed)}))
        with pytest.raises(KeyboardInterrupt): train(encoder, tmp_path / "m")
    assert weights_hash(train(encoder, tmp_path / "m")) == uninterrupted == weights_hash(load_model(tmp_path / "m"))
    assert not (tmp_path / "m/checkpoints").exists()


def test_a_full_disk_at_the_end_loses_nothing(encoder, uninterrupted, tmp_path, monkeypatch):
    def full(*told, **more): raise OSError(28, "No space left on device")
    with monkeypatch.context() as m:
        m.setattr(multitask, "save_file", full)
        with pytest.raises(DataError, match="is the disk full"): train(encoder, tmp_path / "m")
    assert [p.name for p in (tmp_path / "m").iterdir()] == ["checkpoints"]
    said = []
    assert weights_hash(train(encoder, tmp_path / "m", say=said.append)) == uninterrupted
    assert "was finished after 6 steps" in said


@pytest.mark.parametrize("change, says", [({"recipe": QUICK}, "select"), ({"encoder": "other"}, "encoder"), ({"rows": 8}, "train")])
def test_a_folder_with_another_model_is_refused(encoder, tmp_path, change, says):
    train(encoder, tmp_path / "m")
    change = {k: new_encoder("xlm-roberta", tokenizer(), layers=1, width=32, seed=1) if k == "encoder" else v for k, v in change.items()}
    with pytest.raises(DataError, match=f"another model.*{says}.*Give another folder"):
        fine_tune("ner", rows(n=change.pop("rows", 64)), dev=rows("sw", 16), folder=tmp_path / "m", say=quiet,
                  **{"encoder": encoder, "recipe": BY_F1, **change})


def test_what_failed_before_its_first_checkpoint_does_not_stand_in_the_way(encoder, tmp_path):
    with pytest.raises(DataError, match="no number in step"): train(encoder, tmp_path / "m", recipe=Recipe(learning_rate=1e30, epochs=1, threads=1))
    assert train(encoder, tmp_path / "m")


def test_something_else_in_the_place_is_refused_before_any_training(encoder, tmp_path):
    (tmp_path / "thesis.txt").write_text("four years")
    for place in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(DataError, match="something else is in this place"): train(encoder, place, say=pytest.fail)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_what_cannot_be_trained_on(encoder, folder, tmp_path):
    cases = [(dict(train=[]), "train: no sentences"), (dict(train=rows(n=4), dev=[]), "dev: no sentences"),
             (dict(train=tmp_path / "trian.conll"), "no such file"), (dict(train=rows(n=4), recipe=BY_F1), "nothing to select"),
             (dict(train=rows(n=4), encoder=tmp_path), "not an encoder")]
    for told, says in cases:
        with pytest.raises(DataError, match=says): fine_tune("ner", **{"encoder": encoder, "say": quiet, **told})
    bare = shutil.copytree(folder, tmp_path / "bare")
    for file in bare.glob("tokenizer*"): file.unlink()
    with pytest.raises(DataError, match="tokenizer"): fine_tune("ner", rows(n=4), encoder=bare, say=quiet)
    with pytest.raises(DataError, match="no head for this task"): fine_tune("mt", rows(n=4), encoder=encoder)


def test_a_loss_that_is_no_number_names_step_task_and_language(folder, tmp_path):
    broken = open_encoder(folder)
    with torch.no_grad(): broken.model.get_input_embeddings().weight.fill_(float("nan"))
    with pytest.raises(DataError, match="'ner' is no number in step 1, language en.*No checkpoint"):
        fine_tune("ner", rows(n=4), encoder=broken, recipe=QUICK, folder=tmp_path / "m", say=quiet)


def test_tags_of_a_plain_file(tmp_path, encoder):
    "Dates and the like are left out as the plain layout says; what nobody knows is an error with its line."
    (tmp_path / "a.conll").write_text("Amina B-PER\n1986 B-DATE\n\nKano B-LOC\n", "utf-8")
    assert [r["tags"] for r in read_file("ner", tmp_path / "a.conll")] == [["B-PER", "O"], ["B-LOC"]]
    said = []
    fine_tune("ner", tmp_path / "a.conll", encoder=encoder, recipe=QUICK, say=said.append)
    assert said[0] == f"{tmp_path / 'a.conll'}: changed in reading: B-DATE → O 1×"
    (tmp_path / "b.conll").write_text("Amina B-PER\n1986 B-YEAR\n", "utf-8")
    with pytest.raises(DataError, match="b.conll:2.*B-YEAR"): fine_tune("ner", tmp_path / "b.conll", encoder=encoder)
    (tmp_path / "c.conll").write_text("Amina\nsleeps\n", "utf-8")
    with pytest.raises(DataError, match="c.conll:1"): fine_tune("ner", tmp_path / "c.conll", encoder=encoder)


@needs_real
@pytest.mark.parametrize("dataset", [None, "masakhaner2"])
def test_yoruba_from_its_files_as_they_are(folder, tmp_path, dataset):
    place = REAL / "ner/masakhaner2/yo"
    model = fine_tune("ner", place / "dev.txt", encoder=folder, recipe=Recipe(learning_rate=3e-3, steps=4, threads=1), dataset=dataset,
                      folder=tmp_path / "yo", say=quiet)
    said = model.predict([["Ọ̀rẹ́", "mi", "ń", "gbé", "ní", "Ìbàdàn"]], "ner")[0]
    assert len(said) == 6 and set(said) <= set(IOB2)
