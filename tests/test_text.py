"""What an encoder may read: never a sentence that something is tested on, and no file whose language nobody has named."""
import gzip
import unicodedata
from functools import cache

import pytest
from conftest import REAL, needs_real

from xlt_lib.data.corpora import load
from xlt_lib.data.duplicates import texts
from xlt_lib.data.errors import DataError
from xlt_lib.data.meanings import signature
from xlt_lib.data.world import World, the_world
from xlt_lib.encoders.text import Text, folder_text, held_out, text_files, world_text


@cache
def letters(sentence):
    "Letters and digits alone: the filter's rule, spelled a second time and without its exceptions."
    return "".join(c for c in unicodedata.normalize("NFKC", sentence).casefold() if c.isalnum())


# -- the proof ---------------------------------------------------------------------------------------------------------
def test_the_worlds_development_and_test_meanings_never_enter():
    "By meaning, whatever articles it has, and by letters, in all fifteen languages and in both sides of every pair."
    world = the_world()
    text, evaluation = world_text(world), ("dev", "test")
    by_meaning = {code: {letters(s.text): s.meaning for s in world.sentences(code, "unlabelled")} for code in world.languages}
    tested = {signature(m.clause) for split in evaluation for m in world.meanings(split)}
    assert len(tested) == 960 and len(world.languages) == len(text.mono) == 15
    for code, sentences in text.mono.items():
        meanings = [by_meaning[code][letters(s)] for s in sentences]           # a KeyError would be a sentence from elsewhere
        assert len(meanings) == 4800 and not tested & {signature(m.clause) for m in meanings}
        assert not {letters(s) for s in sentences} & {letters(s.text) for split in evaluation for s in world.sentences(code, split)}
    assert list(text.parallel) == [f"en-{code}" for code in world.languages if code != "en"]
    for name, pairs in text.parallel.items():
        for code, side in zip(name.split("-"), zip(*pairs)): assert list(side) == text.mono[code]


@needs_real
def test_no_tested_sentence_of_real_corpora_is_read():
    """Three of the nine languages, and five data sets to read; all nine take 40 seconds.
    What is tested on is read again here, by `load`, and compared by another function than the filter's."""
    languages, sets = ["en", "sw", "yo"], ["masakhaner2", "wikineural", "masakhapos", "mafand", "lacuna_news"]
    raw = folder_text(languages, REAL, sets)
    text, gone = raw.without(held_out(languages, REAL))
    tests = {("ner", "masakhaner2"): "sw yo", ("ner", "wikineural"): "en", ("pos", "masakhapos"): "sw yo",
             ("mt", "ntrex128"): "en-sw en-yo", ("mt", "tico19"): "en-sw", ("mt", "tatoeba_laser"): "en-sw"}
    tested = set()
    for (task, name), codes in tests.items():
        for code in codes.split():
            for split in ("dev", "test") if task != "mt" else ("test",) if name != "tico19" else ("all",):
                for column in texts(load(task, code, split, REAL, name)).values(): tested |= set(map(letters, column))
    tested -= {""}
    assert len(tested) > 20_000

    def found(t): return {n: len(tested & {letters(s) for row in rows for s in ([row] if isinstance(row, str) else row)})
                          for n, rows in {**t.mono, **t.parallel}.items()}
    assert not any(found(text).values()), found(text)
    there = found(raw)
    assert there["sw"] > 100 and there["yo"] > 10, there   # so there was something to be kept out
    assert set(text.mono) == set(languages) and set(text.parallel) == {"en-sw", "en-yo"}
    for name, rows in {**raw.mono, **raw.parallel}.items():
        assert gone[name] == len(rows) - len({**text.mono, **text.parallel}[name])


# -- the filter --------------------------------------------------------------------------------------------------------
def test_without_by_hand():
    text = Text({"en": ["The cat sleeps.", "A dog runs.", "the  CAT sleeps!", "Birds fly."]},
                {"en-sw": [("The cat sleeps.", "Paka analala."), ("Birds fly.", "Ndege huruka."), ("A dog runs.", "Mbwa anakimbia.")]})
    left, gone = text.without({"adogruns", "ndegehuruka"})
    assert sorted(left.mono["en"]) == ["Birds fly.", "The cat sleeps."]        # said twice, and one that is held out
    assert left.parallel == {"en-sw": [("The cat sleeps.", "Paka analala.")]}  # either side is enough
    assert gone == {"en": 2, "en-sw": 2}
    with pytest.raises(DataError, match="no text to read"): Text({"en": ["One."]}, {}).without({"one"})


def test_sizes_and_fingerprint():
    text = Text({"en": ["one two", "three"]}, {"en-sw": [("one", "moja moja")]})
    assert text.sizes() == [{"text": "en", "sentences": 2, "words": 3}, {"text": "en-sw", "sentences": 1, "words": 3}]
    others = [Text({"en": ["three", "one two"]}, text.parallel), Text({"sw": text.mono["en"]}, text.parallel), Text(text.mono, {})]
    assert len({t.fingerprint() for t in [text, *others]}) == 4 and len(text.fingerprint()) == 64
    assert text.fingerprint() == Text(dict(text.mono), dict(text.parallel)).fingerprint()


def test_a_world_without_english():
    text = world_text(World(languages=("sw", "zu")))
    assert list(text.mono) == ["sw", "zu"] and list(text.parallel) == ["sw-zu"]


# -- files -------------------------------------------------------------------------------------------------------------
def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def test_files_and_folders(tmp_path):
    write(tmp_path / "mono/sw.txt", "Habari.\nAsante.\n")
    write(tmp_path / "mono/more/news.sw.txt.gz", "Leo.\n")
    loose = write(tmp_path / "en.txt", "Hello.\n")
    pairs = write(tmp_path / "en-sw.tsv", "Hello.\tHabari.\nThanks.\tAsante.\n")
    text = text_files([tmp_path / "mono", str(loose)], [pairs])
    assert sorted(text.mono["sw"]) == ["Asante.", "Habari.", "Leo."] and text.mono["en"] == ["Hello."]
    assert text.parallel == {"en-sw": [("Hello.", "Habari."), ("Thanks.", "Asante.")]}


@pytest.mark.parametrize("name, content, message", [
    ("README.txt", "Read me.\n", "name says no language"),
    ("swahili.txt", "Habari.\n", "name says no language"),
    ("en-sw.txt", "Habari.\n", "name says no language"),       # a pair's name for text of one language
    ("sw.txt", "", "no text"),
    ("empty", None, "no text in this folder"),
    ("missing/sw.txt", None, "no such file or folder")])
def test_files_that_cannot_be_read(tmp_path, name, content, message):
    place = tmp_path / name
    if content is not None: write(place, content)
    elif name == "empty": place.mkdir()
    with pytest.raises(DataError, match=message) as e: text_files([place])
    assert name.split("/")[-1] in str(e.value) or "'sw'" in str(e.value)


def test_translations_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="name says no language"): text_files([], [write(tmp_path / "sw.tsv", "a\tb\n")])
    with pytest.raises(DataError, match="en-sw.tsv"): text_files([], [write(tmp_path / "en-sw.tsv", "Hello.\tHabari.\nalone\n")])
    with pytest.raises(DataError, match="no text to read"): text_files([], [write(tmp_path / "en-zu.tsv", "Hello.\tSawubona.\n")])


def test_a_data_set_that_does_not_exist(tmp_path):
    with pytest.raises(DataError, match="unknown data set.*wikinueral.*wikineural"): folder_text(["en"], tmp_path, ["wikinueral"])
    with pytest.raises(DataError, match="no text to read"): folder_text(["en"], tmp_path)
