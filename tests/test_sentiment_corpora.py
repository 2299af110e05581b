"""Sentiment from every file format that is published, from emotions too; and the split of what was not split."""
import gzip

import pytest
from conftest import REAL, needs_real
from hypothesis import given
from hypothesis import strategies as st

from xlt_lib.app.cli import main
from xlt_lib.data.corpora import choose, describe, load, part_of
from xlt_lib.data.duplicates import key
from xlt_lib.data.errors import DataError
from xlt_lib.data.labels import emotion_to_sentiment, sentiment_of
from xlt_lib.data.registry import catalogue, registry
from xlt_lib.data.tasks import corpus

CUT = {"train": 70, "dev": 10, "test": 20}

# Made up, laid out as the published files are: where, what it holds, and the sentiments that `load` finds in it.
FILES = {
    "afrisenti": ("sw", "sentiment/afrisenti/sw/train.tsv", "tweet\tlabel\nNzuri sana\tpositive\nHapana\tnegative\nLeo\tneutral\n",
                  ["positive", "negative", "neutral"]),
    "nollysenti": ("yo", "sentiment/nollysenti/yo/train.tsv", 'yo_review\tsentiment\n"Ó dára, ""gan"""\tpositive\nKò dára\tnegative\n',
                   ["positive", "negative"]),
    "nusax": ("en", "sentiment/nusax/en/train.csv", 'id,text,label\n4,"Near, cheap, good",positive\n7,So so,neutral\n', ["positive", "neutral"]),
    "jrte_pn": ("ja", "sentiment/jrte_pn/ja/train.tsv", 'p1\t1\tよかった。\t{"1": 3}\ttrain\np2\t-1\t残念。\t{"-1": 3}\ttrain\np3\t0\t普通。\t{"0": 2}\ttrain\n',
                ["positive", "negative", "neutral"]),
    "brighter": ("sw", "emotion/brighter/sw/train.csv", "id,text,anger,disgust,fear,joy,sadness,surprise\n"
                 'a,"Nzuri, sana",0,0,0,1,0,1\nb,Hapana,1,0,0,0,1,0\nc,Leo,0,0,0,0,0,0\nd,Lo!,0,0,0,0,0,1\ne,Nalia kwa furaha,0,0,0,1,1,0\n',
                 ["positive", "negative", "neutral"]),
    "xed": ("de", "emotion/xed/de/projected.tsv", "Wie schön!\t5, 7\r\nIch hasse dich.\t1\r\nx.xml.gz\ty.xml.gz\t15\t15\tI swear.\tIch schwöre.\r\n"
            "Vielleicht.\t2, 8\r\nVerzogen.\t3\r\nLachend weinte er.\t5,6\r\n", ["positive", "negative", "negative"])}


def put(folder, name, packed=False):
    "One of the files above, in a data folder."
    language, path, text, _ = FILES[name]
    path = folder / path
    path.parent.mkdir(parents=True)
    if packed: path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(text.encode()))
    else: path.write_bytes(text.encode())
    return language, "all" if name == "xed" else "train"


# ---- every format ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_every_published_format_gives_sentiment(tmp_path, name, packed):
    language, split = put(tmp_path, name, packed)
    data = load("sentiment", language, split, tmp_path, name)
    assert data["label"][:] == FILES[name][3] and set(data["dataset"]) == {name} and set(data["language"]) == {language}
    report = describe(data)
    assert report["task"] == "sentiment" and report["rows"] == len(data)
    inside = sum(n for why, n in report["dropped"].items() if why != "outside `keep`")     # those are not read as rows
    assert report["read"] == len(data) + inside


def test_the_account_of_emotions(tmp_path):
    language, split = put(tmp_path, "xed")
    report = describe(load("sentiment", language, split, tmp_path, "xed"))
    assert report["from emotion"] == {"rows": 5, "negative": 2, "neutral": 0, "positive": 1, "dropped: mixed": 1, "dropped: unsigned": 1}
    assert report["dropped"] == {"outside `keep`": 1, "mixed emotions": 1, "unsigned emotions": 1}
    assert "5 → joy" in report["mapped"] and report["licence"].startswith("CC BY 4.0")


def test_one_file_of_emotions_can_be_read_as_sentiment(tmp_path):
    put(tmp_path, "brighter")
    data = load("sentiment", "sw", "train", tmp_path / FILES["brighter"][1], "brighter")
    assert data["label"][:] == FILES["brighter"][3] and describe(data)["files"] == ["train.csv"]


def test_rows_that_all_lack_a_sign_are_told(tmp_path):
    path = tmp_path / "emotion/xed/de/projected.tsv"
    path.parent.mkdir(parents=True)
    path.write_text("Oh!\t7\nVielleicht.\t2\n")
    with pytest.raises(DataError, match="no row is left as sentiment.*'dropped: unsigned': 2"): load("sentiment", "de", "all", tmp_path, "xed")
    with pytest.raises(DataError, match="no row falls into dev: found '2 in all'"): load("sentiment", "de", "dev", tmp_path, "xed")


# ---- only by name ----------------------------------------------------------------------------------------------------

def test_emotions_answer_for_sentiment_only_if_they_are_named(tmp_path):
    put(tmp_path, "xed"), put(tmp_path, "brighter"), put(tmp_path, "afrisenti")
    assert choose("sentiment", "sw", None, tmp_path)[0].name == "afrisenti"
    assert choose("sentiment", "sw", "brighter,afrisenti", tmp_path)[0].name == "brighter"
    assert choose("sentiment", "de", "nusax,xed", tmp_path)[0].name == "xed"
    with pytest.raises(DataError, match="no sentiment data for de.*brighter or xed"): load("sentiment", "de", "all", tmp_path)
    with pytest.raises(DataError, match="no emotion in these data sets"): load("emotion", "sw", "train", tmp_path, "afrisenti")
    with pytest.raises(DataError, match="no topic in these data sets"): load("topic", "de", "all", tmp_path, "xed")


def test_every_emotion_data_set_offers_sentiment_and_says_so():
    for row in registry().values(): assert ("emotion" in row.tasks) <= ("sentiment" in row.offers) and set(row.tasks) <= set(row.offers)
    assert {c["name"] for c in catalogue() if "sentiment" in c["tasks"]} >= {*FILES, "xed_annotated"}
    assert registry()["nusax"].offers == ("sentiment",)


def test_the_command_line_lists_and_shows_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XLT_DATA", str(tmp_path))
    put(tmp_path, "xed")
    assert main(["data", "list", "--task", "sentiment", "--language", "de"]) == 0
    assert {"xed", "brighter"} <= {line.split()[0] for line in capsys.readouterr().out.splitlines()[2:]}
    assert main(["data", "show", "--task", "sentiment", "--language", "de", "--source", "local", "--dataset", "xed", "--split", "all"]) == 0
    assert capsys.readouterr().out.splitlines() == ["positive\tWie schön!", "negative\tIch hasse dich.", "negative\tVerzogen."]


# ---- the split -------------------------------------------------------------------------------------------------------

def film(folder, lines=2000):
    "Lines of a made-up film, each twice: the second time with other capitals and punctuation."
    path = folder / "emotion/xed/fr/projected.tsv"
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"Scène {i}, prise {i % 7}.\t{i % 8 + 1}\nSCÈNE {i} – prise {i % 7}\t{i % 8 + 1}\n" for i in range(lines)))


@pytest.mark.parametrize("task", ["emotion", "sentiment"])
def test_a_cut_is_whole_and_no_text_straddles_it(tmp_path, task):
    film(tmp_path)
    whole, parts = load(task, "fr", "all", tmp_path, "xed"), {s: load(task, "fr", s, tmp_path, "xed") for s in CUT}
    assert sorted(t for p in parts.values() for t in p["text"]) == sorted(whole["text"][:])
    keys = {s: {key(t) for t in p["text"]} for s, p in parts.items()}
    assert not keys["train"] & keys["test"] and not keys["train"] & keys["dev"] and not keys["dev"] & keys["test"]
    for s, share in CUT.items(): assert abs(len(parts[s]) / len(whole) - share / 100) < 0.03
    assert describe(parts["dev"])["cut"].startswith(f"{describe(parts['dev'])['read']} of 4000 rows: 10 %") and "cut" not in describe(whole)
    assert parts["test"][0]["id"].startswith("xed/fr/test:")


def test_a_cut_does_not_move_when_rows_are_added(tmp_path):
    film(tmp_path, 200)
    before = set(load("emotion", "fr", "test", tmp_path, "xed")["text"])
    path = tmp_path / "emotion/xed/fr/projected.tsv"
    path.write_text("Un début.\t5\n" + path.read_text())
    assert set(load("emotion", "fr", "test", tmp_path, "xed")["text"]) - {"Un début."} == before


@given(st.text(max_size=30), st.sampled_from(["{}!", " {} ", "„{}“", "\u200b{}"]))
def test_texts_that_count_as_duplicates_fall_into_one_part(text, frame):
    other = frame.format(text)
    assert part_of(text, CUT) in CUT
    if key(text) == key(other) or any(c.isalnum() for c in text): assert part_of(text, CUT) == part_of(other, CUT)


def test_a_cut_is_the_same_everywhere():
    "Fixed for good: another answer here would be another data set under the same name."
    marks = {"train": "-", "dev": "d", "test": "t"}
    assert "".join(marks[part_of(f"Nzuri sana {i}", CUT)] for i in range(30)) == "--t--t---t-----t-tt----tt-----"
    assert [part_of(t, CUT) for t in ("Was ist los?", "Buenas noches", "部屋がきれいでした。", "...")] == ["train", "dev", "train", "train"]


def test_the_authors_own_split_comes_first(tmp_path):
    film(tmp_path, 50)
    (tmp_path / "rows.toml").write_text('[mine]\ntasks = ["sentiment"]\nfiles = "{split}.tsv"\nformat = "table"\nlanguages = ["fr"]\n'
                                        'cut = { train = 50, test = 50 }\n')
    (tmp_path / "all.tsv").write_text("text\tlabel\n" + "".join(f"{i}\tpositive\n" for i in range(50)))
    (tmp_path / "train.tsv").write_text("text\tlabel\nseul\tnegative\n")
    with pytest.MonkeyPatch.context() as m:
        m.setenv("XLT_REGISTRY", str(tmp_path / "rows.toml"))
        assert load("sentiment", "fr", "train", tmp_path, "mine")["text"][:] == ["seul"]
        assert 10 < len(load("sentiment", "fr", "test", tmp_path, "mine")) < 40
        with pytest.raises(DataError, match="mine has no dev for fr here: found 'train, test, all'"): load("sentiment", "fr", "dev", tmp_path, "mine")


@pytest.mark.parametrize("cut,hint", [("{ train = 70, test = 20 }", "add up to 100"), ("{ train = 100, test = 0 }", "above 0"),
                                      ("{ trian = 100 }", "train"), ("{ all = 100 }", "an unknown name under 'cut'")])
def test_a_slip_in_a_cut_is_told(tmp_path, cut, hint):
    file = tmp_path / "rows.toml"
    file.write_text(f'[mine]\ntasks = ["sentiment"]\nfiles = "{{split}}.tsv"\nformat = "table"\nlanguages = ["fr"]\ncut = {cut}\n')
    with pytest.raises(DataError, match=hint) as e: registry(file)
    assert e.value.line == 6


# ---- emotions by hand ------------------------------------------------------------------------------------------------

def test_emotions():
    table = {("joy",): "positive", ("joy", "surprise", "trust"): "positive", ("anger", "fear"): "negative",
             (): "neutral", ("joy", "anger"): "mixed", ("surprise",): "unsigned", ("anticipation", "trust"): "unsigned"}
    assert {k: sentiment_of(list(k)) for k in table} == table
    with pytest.raises(DataError, match="not an emotion"): sentiment_of(["joyful"])
    rows = [dict(id=str(i), language="sw", dataset="d", domain="", text="x", labels=list(k)) for i, k in enumerate(table)]
    out, counts = emotion_to_sentiment(corpus("emotion", rows))
    assert out["id"][:] == ["0", "1", "2", "3"] and counts == {"rows": 7, "negative": 1, "neutral": 1, "positive": 2,
                                                               "dropped: mixed": 1, "dropped: unsigned": 2}
    with pytest.raises(DataError, match="no column 'labels' for the task emotion"): emotion_to_sentiment(out)


# ---- real files ------------------------------------------------------------------------------------------------------

@needs_real
@pytest.mark.parametrize("name,language", [("brighter", "sw"), ("brighter", "zh"), ("xed", "de"), ("xed", "zh"), ("xed_annotated", "en")])
def test_real_emotions_balance(name, language):
    felt, data = (load(task, language, "train", REAL, name) for task in ("emotion", "sentiment"))
    counts = describe(data)["from emotion"]
    assert len(felt) == counts["rows"] and len(data) == sum(counts[s] for s in ("negative", "neutral", "positive"))
    assert counts["rows"] == len(data) + counts["dropped: mixed"] + counts["dropped: unsigned"]
    assert (counts["neutral"] == 0) == (name != "brighter") and counts["negative"] > counts["positive"] > 0


@needs_real
@pytest.mark.parametrize("language", ["de", "zh"])
def test_real_parts_share_no_text(language):
    whole, parts = load("emotion", language, "all", REAL, "xed"), {s: load("emotion", language, s, REAL, "xed") for s in CUT}
    assert sum(map(len, parts.values())) == len(whole)
    keys = [{key(t) for t in p["text"]} for p in parts.values()]
    assert sum(map(len, keys)) == len(set.union(*keys))


@needs_real
@pytest.mark.parametrize("name,language", [("afrisenti", "ha"), ("nollysenti", "en"), ("nusax", "en"), ("jrte_pn", "ja"), ("brighter", "ig")])
def test_repeats_that_the_authors_left_are_taken_out_of_training(name, language):
    "What QUIRKS.tsv of the corpora lists: development and test texts that stand in training, too."
    from xlt_lib.reproduction.experiments import Setting
    from xlt_lib.reproduction.material import Corpora
    corpora = Corpora(Setting(((language, "high"),), source=str(REAL), datasets=(("sentiment", name),), task="sentiment"))
    rows, gone = corpora.kept("sentiment", language)
    tested = {key(t) for split in ("dev", "test") for t in corpora.rows("sentiment", language, split)["text"]}
    assert not tested & {key(t) for t in rows["text"]} and len(rows) + gone == len(corpora.rows("sentiment", language, "train"))
    assert gone >= {"afrisenti": 215, "nollysenti": 10, "brighter": 24}.get(name, 0)
