"""The registry, the Hub's cache, and `load`: every row, every count, every slip of the pen."""
import csv
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import REAL, needs_real

from xlt_lib.data.corpora import choose, describe, load
from xlt_lib.data.errors import DataError
from xlt_lib.data.hub import command, fetch, parquet_files
from xlt_lib.data.labels import our_label
from xlt_lib.data.registry import Row, catalogue, halves, local_files, registry
from xlt_lib.data.tables import line_of
from xlt_lib.data.tasks import TASKS, features, task

ROWS = registry()
COUNTED = [name for name, row in ROWS.items() if row.counts]


# ---- the registry -----------------------------------------------------------------------------------------------

def test_rows_are_complete():
    for row in ROWS.values():
        assert row.licence != "unknown", row.name
        assert "*" in row.languages or row.cite, row.name
        assert set(row.fallbacks) <= set(ROWS), row.name
        assert "NC" not in row.licence or row.non_commercial, row.name
        if row.hub:
            assert re.fullmatch(r"[\w.-]+/[\w.-]+", row.hub.id) and row.hub.languages, row.name
            assert set(row.hub.codes) <= set(row.hub.languages) | {h for x in row.hub.languages
                                                                   for h in halves(x)}, row.name


def test_the_hub_table_is_covered():
    wanted = {"unimelb-nlp/wikiann", "mteb/AmazonReviewsClassification", "IWSLT/iwslt2017", "stanfordnlp/imdb",
              "lhoestq/conll2003",
              "masakhane/masakhaner2", "masakhane/afrisenti", "masakhane/mafand", "ai4bharat/samanantar",
              "ai4bharat/indic_glue",
              "commul/universal_dependencies", "openlanguagedata/flores_plus"}
    assert wanted <= {r.hub.id for r in ROWS.values() if r.hub}
    assert ROWS["flores_plus"].hub.gated and ROWS["amazon_reviews"].opt_in
    assert "zu" not in ROWS["wikiann"].hub.languages and "en-he" not in ROWS["iwslt2017"].hub.languages


@needs_real
def test_counts_equal_the_recorded_statistics():
    with open(REAL / "STATS.tsv", encoding="utf-8") as f:
        stats = {r["file"].removesuffix(".gz"): r["sentences_or_lines"]
                 for r in csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE)}
    claimed = {}
    for row in ROWS.values():
        for language, splits in row.counts.items():
            for split, n in splits.items():
                code = f"{language}-en" if row.multiway and language != "en" else "en-zu" if row.multiway else language
                names = row.names(code, split)
                claimed |= {name: n for name in (names[:1] if row.multiway else names)}
    kinds = ("ner/", "pos/", "sentiment/", "emotion/", "topic/", "mt/", "mono/", "lexicon/")
    recorded = {f: int(n) for f, n in stats.items() if f.startswith(kinds) and "/_meta/" not in f}
    assert len(recorded) > 500 and recorded.items() <= claimed.items()


def test_names_and_directions():
    assert ROWS["mafand"].serves("sw-en") == "en-sw" and ROWS["mafand"].serves("sw-yo") is None
    assert ROWS["ntrex128"].serves("sw-yo") == "sw-yo" and ROWS["ntrex128"].serves("sw") is None
    assert ROWS["ntrex128"].names("pt-BR-sw", "test") == ["mt/ntrex128/pt-BR/test.txt", "mt/ntrex128/sw/test.txt"]
    assert ROWS["ud_gsd"].splits("de") == ("dev", "test") and ROWS["masakhaner2"].splits("yo") == ("train", "dev",
                                                                                                   "test")
    assert [halves(x) for x in ("en-sw", "pt-BR-en", "en-zh-CN", "pt-BR", "sw")] == [["en", "sw"], ["pt-BR", "en"],
                                                                                     ["en", "zh-CN"], [], []]


def test_catalogue_knows_what_is_here(tmp_path):
    (tmp_path / "ner/masakhaner2").mkdir(parents=True)
    listed = {c["name"]: c for c in catalogue(tmp_path)}
    assert listed["masakhaner2"]["local"] and not listed["wikineural"]["local"] and len(listed) == len(ROWS)
    assert listed["masakhaner2"]["non_commercial"] and listed["wikiann"]["languages"]
    json.dumps(list(listed.values()))   # the command line prints it as JSON


GOOD = '''[village]
tasks = ["ner"]
files = "{language}/{split}.txt"
format = "conll"
columns = { tokens = 0, tags = 1 }
map = { GPE = "LOC" }
languages = ["yo"]
[village.hub]
id = "a/b"
'''

SLIPS = [("files =", "fils =", 3, "files"), ('"ner"', '"nre"', 2, "ner"), ('"conll"', '"conl"', 4, "conll"),
         ("tokens = 0, ", "", 5, "tokens"),
         ("tokens =", "token =", 5, "tokens"), ('"LOC"', '"LOK"', 6, "LOC"), ("{split}", "{spilt}", 3, "split"),
         ('["yo"]', '"yo"', 7, "list"),
         ("tokens = 0", "tokens = [", 5, "TOML"), ("id =", "di =", 9, "id"), ('id = "a/b"', "gated = true", 8, "id"),
         ('"a/b"', "7", 9, "a text"),
         ('tasks = ["ner"]', "tasks = []", 2, "no tasks"), ("[village]\n", "spare = 1\n[village]\n", 1, "table")]


@pytest.mark.parametrize("right,wrong,line,hint", SLIPS)
def test_a_slip_in_a_row_names_file_line_and_remedy(tmp_path, right, wrong, line, hint):
    file = tmp_path / "mine.toml"
    file.write_text(GOOD, "utf-8")
    assert registry(file)["village"].columns == {"tokens": 0, "tags": 1}
    assert right in GOOD
    file.write_text(GOOD.replace(right, wrong, 1), "utf-8")
    with pytest.raises(DataError) as e: registry(file)
    assert e.value.file == file and e.value.line == line and hint in str(e.value), str(e.value)


def test_own_rows_come_first_and_replace(tmp_path, monkeypatch):
    file = tmp_path / "mine.toml"
    file.write_text(GOOD + '[masakhaner2]\ntasks = ["pos"]\nformat = "conllu"\nfiles = "x"\nlanguages = ["yo"]\n', "utf-8")
    monkeypatch.setenv("XLT_REGISTRY", str(file))
    assert list(registry())[:2] == ["village", "masakhaner2"] and registry()["masakhaner2"].format == "conllu"
    monkeypatch.setenv("XLT_REGISTRY", str(tmp_path / "none.toml"))
    with pytest.raises(DataError, match="no such file"): registry()


def test_line_of():
    assert line_of(GOOD, "village", "map") == 6 and line_of(GOOD, "village.hub",
                                                            "id") == 9 and line_of(GOOD, "village") == 1
    assert line_of(GOOD, "village", "id") == 1     # stands in another table: the heading is the best there is


# ---- labels -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("label,given,ours", [
    ("B-DATE", {"DATE": "O"}, "O"), ("I-DATE", {"DATE": "O"}, "O"), ("B-PERSON", {"PERSON": "PER"}, "B-PER"),
                                              ("O", {}, "O"), ("B-O", {}, None),
    ("B-O", {"B-O": "O"}, "O"), ("B-DATE", {}, None), ("PER", {}, None), ("E-PER", {}, None), ("", {}, None),
                                              ("B-X", {"X": ""}, "O")])
def test_entity_labels(label, given, ours):
    assert our_label(label, Row("r", ("ner",), map=given), task("ner")) == ours


def test_every_scheme_gives_the_same_tags(tmp_path, monkeypatch):
    (tmp_path / "r.toml").write_text("".join(f'''[{s}]
tasks = ["ner"]
files = "x"
format = "conll"
columns = {{ tokens = 0, tags = 1 }}
scheme = "{s}"
map = {{ MISC = "O" }}
languages = ["*"]
''' for s in ("IOB1", "IOB2", "BIOES")), "utf-8")
    monkeypatch.setenv("XLT_REGISTRY", str(tmp_path / "r.toml"))
    files = {"IOB1": "I-PER B-PER O I-MISC I-LOC", "IOB2": "B-PER B-PER O B-MISC B-LOC",
             "BIOES": "S-PER S-PER O S-MISC S-LOC"}
    for scheme, tags in files.items():
        (tmp_path / scheme).write_text("\n".join(f"w {tag}" for tag in tags.split()) + "\n", "utf-8")
        assert load("ner", "en", "train", tmp_path / scheme, scheme)[0]["tags"] == ["B-PER", "B-PER", "O", "O", "B-LOC"]


# ---- local files ------------------------------------------------------------------------------------------------

def _codes(row):
    "What to ask a row for: each language or pair; for aligned files, English with each other one."
    if not row.multiway: return list(row.counts)
    return [f"en-{code}" for code in row.counts if code != "en"]


@needs_real
@pytest.mark.parametrize("name", COUNTED)
def test_every_row_loads_with_its_recorded_counts(name):
    row = ROWS[name]
    tasks = ["parse"] if "parse" in row.tasks else row.tasks   # its tokens and tags are those of pos: see the next test
    for t in tasks:
        for code in _codes(row):
            for split in row.splits(code):
                data = load(t, code, split, REAL, name)
                report = describe(data)
                assert data.features == features(t) and set(data["language"]) == {code}
                assert len(set(data["id"])) == len(data) == report["rows"]
                if row.synonyms: assert len(data) >= 0.5 * row.counts[halves(code)[1]][split]   # a row a pair
                else: assert len(data) == (row.kept.get(code) or row.counts.get(code)
                                           or row.counts[halves(code)[1]])[split], (code, split, report)


@needs_real
def test_pos_and_parse_read_the_same_words():
    pos, parse = (load(t, "te", "train", REAL, "ud_mtg") for t in ("pos", "parse"))
    assert pos["tokens"][:] == parse["tokens"][:] and pos["tags"][:] == parse["tags"][:]


@needs_real
def test_what_is_dropped_is_explained():
    for name, why in (("xed", "outside `keep`"), ("bible_nt", "on one side only"), ("tico19_facebook", "empty")):
        language = {"xed": "de", "bible_nt": "en-zu", "tico19_facebook": "en-es"}[name]
        report = describe(load(ROWS[name].tasks[0], language, "all", REAL, name))
        assert report["dropped"][why] > 0, report
    report = describe(load("emotion", "de", "all", REAL, "xed"))
    assert ROWS["xed"].counts["de"]["all"] - ROWS["xed"].kept["de"]["all"] == report["dropped"]["outside `keep`"]


@needs_real
def test_mapping_is_counted_as_in_the_statistics():
    with open(REAL / "STATS.tsv", encoding="utf-8") as f: line = next(x for x in f
                                                                      if x.startswith("ner/masakhaner2/yo/test.txt"))
    tags = dict(x.split(":") for x in line.rstrip("\n").split("\t")[4].split())
    data = load("ner", "yo", "test", REAL, "masakhaner2")
    assert describe(data)["mapped"] == {"B-DATE → O": int(tags["B-DATE"]), "I-DATE → O": int(tags["I-DATE"])}
    assert sum(tag == "B-PER" for r in data for tag in r["tags"]) == int(tags["B-PER"])
    assert "CONJ → CCONJ" in describe(load("pos", "hi", "dev", REAL, "ud_hdtb_v1"))["mapped"]


@needs_real
def test_both_directions_read_the_same_files():
    there, back = load("mt", "en-sw", "dev", REAL, "mafand"), load("mt", "sw-en", "dev", REAL, "mafand")
    assert there["source"][:] == back["target"][:] and there["target"][:] == back["source"][:]
    any_two = load("mt", "sw-yo", "test", REAL, "ntrex128")
    assert any_two["source"][:3] == load("mt", "en-sw", "test", REAL, "ntrex128")["target"][:3]


@needs_real
def test_the_choice_does_not_depend_on_the_split(monkeypatch):
    assert choose("ner", "de", "uner_pud,wikineural", REAL)[0].name == "uner_pud"
    assert choose("ner", "yo", "wikineural, masakhaner2", REAL)[0].name == "masakhaner2"
    with pytest.raises(DataError, match="uner_pud has no train for de.*wikineural"): load("ner", "de", "train", REAL,
                                                                                          ["uner_pud", "wikineural"])
    monkeypatch.setenv("XLT_DATA", str(REAL))
    assert describe(load("ner", "en", "dev", "local"))["dataset"] == "uner_ewt"


def _write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def test_a_users_files_in_every_common_format(tmp_path):
    cases = [("conll", "ner", "yo", "Ayọ̀ B-PER\nlọ O\n\n2020 B-DATE\n"),
             ("conllu", "parse", "en", "1\tGo\t_\tVERB\t_\t_\t0\troot\t_\t_\n\n"),
             ("tsv", "topic", "sw", "text\tlabel\nSoka\tsports\n"), ("csv", "mt", "en-sw", 'source,target\n"a, b",c\n'),
             ("csv", "emotion", "sw", 'text,labels\nNzuri,"joy, trust"\nSawa,\n'),
             ("jsonl", "emotion", "sw", '{"text": "Nzuri", "labels": []}\n'),
             ("jsonl", "ner", "yo", '{"tokens": ["Ayọ̀"], "tags": ["B-PER"]}\n'), ("text", "mono", "sw", "Habari\n\n")]
    for like, t, language, text in cases:
        data = load(t, language, "train", _write(tmp_path, f"mine.{like}", text), like)
        assert data.features == features(t) and describe(data)["files"] == [f"mine.{like}"]
        assert data[0]["id"].startswith(f"{like}/{language}/train:")
    _write(tmp_path, "en-sw/train.en", "a\nb\n"), _write(tmp_path, "en-sw/train.sw", "x\ny\n")
    assert load("mt", "sw-en", "train", tmp_path, "paired_text")["source"][:] == ["x", "y"]
    _write(tmp_path, "yo/test.conll", "Ayọ̀ B-PER\n")
    assert len(load("ner", "yo", "test", tmp_path, "conll")) == 1


def test_the_report_survives_a_round_trip(tmp_path):
    data = load("ner", "yo", "train", _write(tmp_path, "a.txt", "x B-PER\n\ny B-DATE\n"), "conll")
    data.filter(lambda r: "B-PER" in r["tags"]).save_to_disk(tmp_path / "saved")
    from datasets import load_from_disk
    assert describe(load_from_disk(tmp_path / "saved"))["mapped"] == {"B-DATE → O": 1}
    assert str(tmp_path) not in data.info.description


BAD = [(("nre", "sw", "train", "X"), "unknown task.*'ner'"), (("ner", "sw", "trian", "X"), "unknown split.*'train'"),
       (("ner", "qq", "train", "X"), "no ner data for qq.*sw"), (("mt", "sw", "train", "X"), "pair such as en-sw"),
       (("ner", "en-sw", "train", "X"), "one code such as sw"),
       (("ner", "sw", "train", "X", "masakhaner"), "unknown data set.*'masakhaner2'"),
       (("ner", "sw", "train", "X", "sib200"), "no ner in these data sets"),
       (("ner", "sw", "train", "X"), "no files for ner in sw.*masakhaner2/sw/train.txt"),
       (("ner", "sw", "train", "X/none"), "no such file or folder"), (("ner", "sw", "train", "X/f.txt"), "such as conll"),
       (("ner", "sw", "train", "X/f.txt", "colln"), "unknown data set.*'conll'"),
       (("mt", "en-sw", "train", "X/f.txt", "mafand"), "cannot be read"),
       (("ner", "sw", "train", "X/f.txt", "conll"), "f.txt:2: a label outside the task ner: found 'B-FILM'.*map"),
       (("pos", "sw", "train", "X/f.txt", "conll"), "f.txt:1: a label outside the task pos"),
       (("ner", "sw", "train", "local"), "XLT_DATA"),
       (("ner", "sw", "train", "world", "conll"), "world has no data sets")]


@pytest.mark.parametrize("call,message", BAD)
def test_bad_calls_say_what_to_do(tmp_path, monkeypatch, call, message):
    monkeypatch.delenv("XLT_DATA", raising=False)
    _write(tmp_path, "f.txt", "x B-PER\ny B-FILM\n")
    with pytest.raises(DataError, match=f"(?s){message}"): load(*[a.replace("X", str(tmp_path)) if a.startswith("X")
                                                                  else a for a in call])


# ---- the Hub ----------------------------------------------------------------------------------------------------

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WIKIANN = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    "An empty Hub cache, offline, on a machine where every connection fails the test."
    from huggingface_hub import constants
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("socket.socket.connect", lambda *a: pytest.fail("a connection was opened"))
    return tmp_path / "hub"


def _publish(cache, name, path, columns, labels=None):
    "Lays a file out as the Hub client does: bytes under blobs, a link under snapshots, the commit under refs."
    from datasets import ClassLabel, Dataset, List
    row, data = ROWS[name], Dataset.from_dict(columns)
    for column, names in (labels or {}).items():
        kind = ClassLabel(names=names)
        data = data.cast_column(column, List(kind) if isinstance(columns[column][0], list) else kind)
    repository = cache / f"datasets--{row.hub.id.replace('/', '--')}"
    blob, link = repository / "blobs" / path.replace("/", "_"), repository / "snapshots" / COMMIT / path
    ref = repository / "refs" / row.hub.revision
    for f in (blob, link, ref): f.parent.mkdir(parents=True, exist_ok=True)
    data.to_parquet(blob)
    link.symlink_to(Path(*[".."] * (len(Path(path).parts) + 1)) / "blobs" / blob.name)
    ref.write_text(COMMIT)


T, S = [["Amina", "anaishi"]], ["Habari"]
UD = dict(idx=["1"], text=["Dámelo ya"], tokens=[["Dámelo", "Da", "me", "lo", "ya"]], lemmas=[["_"] * 5],
          upos=[["_", "VERB", "PRON", "PRON", "ADV"]],
          head=[["_", "0", "1", "1", "1"]], deprel=[["_", "root", "iobj", "obj", "advmod"]])
PUBLISHED = [   # data set, task, language, split, path in the repository, columns, class labels, the first row
    ("wikiann", "ner", "sw", "train", "sw/train-00000-of-00001.parquet",
     dict(tokens=T, ner_tags=[[1, 0]], langs=[["sw", "sw"]], spans=[["PER: Amina"]]),
     {"ner_tags": WIKIANN}, {"tokens": T[0], "tags": ["B-PER", "O"]}),
    ("masakhaner2", "ner", "sw", "dev", "swa/validation/0000.parquet", dict(id=["0"], tokens=T, ner_tags=[[8, 1]]),
     {"ner_tags": ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-DATE", "I-DATE"]},
     {"tags": ["O", "B-PER"]}),
    ("masakhaner2", "ner", "yo", "test", "yor/masakhaner2-test.parquet", dict(id=["0"], tokens=T, ner_tags=[[0, 1]]),
     {"ner_tags": ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-DATE", "I-DATE"]},
     {"tags": ["O", "B-PER"]}),
    ("wikineural", "ner", "de", "dev", "data/val_de-00000-of-00001-abc.parquet",
     dict(tokens=T, ner_tags=[[7, 5]], lang=["de"]), None, {"tags": ["O", "B-LOC"]}),
    ("conll2003", "ner", "en", "test", "default/test/0000.parquet",
     dict(id=["0"], tokens=T, pos_tags=[[1, 2]], chunk_tags=[[1, 2]], ner_tags=[[3, 4]]), None,
     {"tags": ["B-ORG", "I-ORG"]}),
    ("uner_ewt", "ner", "en", "train", "en_ewt/train-00000-of-00001.parquet",
     dict(idx=["1"], text=["x"], tokens=T, ner_tags=[[1, 0]], annotator=[["a", "b"]]),
     {"ner_tags": WIKIANN}, {"tags": ["B-PER", "O"]}),
    ("ud_gsd", "parse", "es", "train", "parquet/es_gsd/train.parquet", UD, None,
     {"tokens": ["Da", "me", "lo", "ya"], "tags": ["VERB", "PRON", "PRON", "ADV"], "heads": [0, 1, 1, 1],
      "relations": ["root", "iobj", "obj", "advmod"]}),
    ("ud_gsd", "pos", "es", "train", "es_gsd/train-00000-of-00001.parquet", UD | {"upos": [[5, 0, 1, 1, 2]]},
     {"upos": ["VERB", "PRON", "ADV", "X", "NOUN", "_"]},
     {"tags": ["VERB", "PRON", "PRON", "ADV"]}),
    ("afrisenti", "sentiment", "yo", "test", "yor/test/0000.parquet", dict(tweet=S, label=[2]),
     {"label": ["positive", "neutral", "negative"]}, {"text": S[0], "label": "negative"}),
    ("amazon_reviews", "sentiment", "ja", "dev", "ja/validation-00000-of-00001.parquet", dict(text=S, label=[4]), None,
     {"label": "positive"}),
    ("imdb", "sentiment", "en", "test", "plain_text/test-00000-of-00001.parquet", dict(text=S, label=[0]),
     {"label": ["neg", "pos"]}, {"label": "negative"}),
    ("iitp_reviews", "sentiment", "hi", "dev", "iitp-pr.hi/validation/0000.parquet", dict(text=S, label=[1]),
     {"label": ["negative", "neutral", "positive"]}, {"label": "neutral"}),
    ("brighter", "emotion", "zu", "dev", "zul/dev-00000-of-00001.parquet",
     dict(id=["1"], text=S, anger=[1], disgust=[0], fear=[1], joy=[0], sadness=[0], surprise=[0]), None,
     {"labels": ["anger", "fear"]}),
    ("sib200", "topic", "sw", "train", "swh_Latn/train-00000-of-00001.parquet",
     dict(index_id=[1], category=["health"], text=S), None, {"label": "health"}),
    ("iwslt2017", "mt", "fr-en", "dev", "iwslt2017-en-fr/validation/0000.parquet",
     dict(translation=[{"en": "Good", "fr": "Bon"}]), None, {"source": "Bon", "target": "Good"}),
    ("mafand", "mt", "en-yo", "test", "en-yor/test/0000.parquet", dict(translation=[{"en": "Good", "yor": "Ó dára"}]),
     None, {"source": "Good", "target": "Ó dára"}),
    ("samanantar", "mt", "en-hi", "train", "hi/train-00000-of-00001.parquet",
     dict(idx=[0], src=["Good"], tgt=["अच्छा"]), None, {"target": "अच्छा"}),
]


@pytest.mark.parametrize("name,t,language,split,path,columns,labels,first", PUBLISHED)
def test_a_cache_with_the_published_columns_is_read_offline(hub, name, t, language, split, path, columns, labels,
                                                            first):
    with pytest.raises(DataError, match=f"hf download {ROWS[name].hub.id}"): load(t, language, split, "hub", name)
    _publish(hub, name, path, columns, labels)
    data = load(t, language, split, "hub", name)
    assert data.features == features(t) and describe(data)["revision"] == COMMIT and data[0]["language"] == language
    assert {k: data[0][k] for k in first} == first


def test_flores_is_joined_by_identifier(hub):
    for code, ids, text in (("swh_Latn", [1, 2], ["moja", "mbili"]), ("yor_Latn", [2, 3], ["èjì", "ẹ̀ta"])):
        _publish(hub, "flores_plus", f"devtest/{code}.parquet", dict(id=ids, text=text))
    data = load("mt", "sw-yo", "test", "hub", "flores_plus")
    assert (data["source"][:], data["target"][:]) == (["mbili"],
                                                      ["èjì"]) and describe(data)["dropped"] == {"on one side only": 2}


def test_a_split_in_several_parts_must_be_whole(hub):
    folder = hub / "datasets--ai4bharat--samanantar" / "snapshots" / COMMIT
    _publish(hub, "samanantar", "hi/train-00001-of-00002.parquet", dict(idx=[1], src=["b"], tgt=["y"]))
    assert parquet_files(folder, {"config": "hi", "split": "train"}) == []
    with pytest.raises(DataError, match="1918 MB.*CC BY-NC"): load("mt", "en-hi", "train", "hub", "samanantar")
    _publish(hub, "samanantar", "hi/train-00000-of-00002.parquet", dict(idx=[0], src=["a"], tgt=["x"]))
    assert load("mt", "en-hi", "train", "hub", "samanantar")["source"][:] == ["a", "b"]


def test_what_is_missing_offline_is_named(hub):
    for name, language, told in (("flores_plus", "sw", "Access has to be asked for.*Instead: ntrex128"),
                                 ("amazon_reviews", "en", "withdrawn.*Instead: nollysenti"),
                                 ("masakhaner2", "zu", "refs/convert/parquet.*zul.*not for commercial use")):
        with pytest.raises(DataError, match=told): fetch(ROWS[name], language, "train")
    assert '--include "*yor/*validation*"' in command(ROWS["masakhaner2"], "yo", "dev")


def test_changed_columns_and_damaged_files_are_named(hub):
    _publish(hub, "sib200", "swh_Latn/train-00000-of-00001.parquet", dict(index_id=[1], topic=["health"], text=S))
    with pytest.raises(DataError, match="no column 'category'"): load("topic", "sw", "train", "hub", "sib200")
    blob = next((hub / "datasets--Davlan--sib200" / "blobs").iterdir())
    blob.write_bytes(blob.read_bytes()[:40])
    with pytest.raises(DataError, match="damaged Parquet"): load("topic", "sw", "train", "hub", "sib200")


@pytest.mark.parametrize("kind,status,error,told", [
    ("GatedRepoError", 403, DataError, "access has to be asked for"),
                                                    ("RepositoryNotFoundError", 404, DataError, "withdrawn"),
    ("RepositoryNotFoundError", 401, DataError, "access has to be asked for"),
                                                    ("RevisionNotFoundError", 404, DataError, "no such revision"),
    ("HfHubHTTPError", 503, OSError, "503"), ("LocalEntryNotFoundError", None, OSError, "cannot be reached"),
                                                    (None, None, OSError, "goes on where it stopped")])
def test_what_the_hub_refuses_is_told_apart(hub, monkeypatch, capsys, kind, status, error, told):
    import huggingface_hub
    from huggingface_hub import constants, errors
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def answer(*a, local_files_only, **k):
        if local_files_only: raise errors.LocalEntryNotFoundError("not cached")
        if kind is None: raise ConnectionResetError("connection reset by peer")
        raise getattr(errors, kind)("no", **({"response": SimpleNamespace(status_code=status, headers={},
                                                                          request=None)} if status else {}))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", answer)
    with pytest.raises(error, match=told) as e: fetch(ROWS["flores_plus"], "sw", "dev")
    assert isinstance(e.value, DataError) == (error is DataError)
    assert "fetching" in capsys.readouterr().out       # nothing goes over the network without a word


def test_with_a_network_the_pinned_revision_and_only_the_needed_files_are_asked_for(hub, monkeypatch):
    import huggingface_hub
    from huggingface_hub import constants
    real, asked = huggingface_hub.snapshot_download, []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def download(*a, local_files_only, **k):
        if local_files_only: return real(*a, local_files_only=True, **k)
        asked.append(k)
        _publish(hub, "masakhaner2", "yor/train/0000.parquet", dict(id=["0"], tokens=T, ner_tags=[[0, 1]]),
                 {"ner_tags": WIKIANN})
        return real(*a, local_files_only=True, **k)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    for _ in range(2): assert len(load("ner", "yo", "train", "hub", "masakhaner2")) == 1
    assert [(k["revision"], k["repo_type"]) for k in asked] == [("refs/convert/parquet",
                                                                 "dataset")]   # the second call reads the cache
    assert asked[0]["allow_patterns"][0] == "*yor/*train*"


# ---- the world --------------------------------------------------------------------------------------------------

def test_the_world_answers_the_same_call():
    try: data = load("ner", "sw", "test")
    except (ImportError, FileNotFoundError) as e: pytest.skip(f"the world is not complete yet: {e}")
    assert data.features == features("ner") and len(data) >= 400
    assert load("mt", "en-sw", "dev").features == features("mt")
    assert set(TASKS["ner"].labels) >= {tag for tags in data["tags"] for tag in tags}


def test_local_files_need_both_sides(tmp_path):
    row = ROWS["mafand"]
    _write(tmp_path, "mt/mafand/en-sw/dev.en", "a\n")
    assert local_files(row, tmp_path, "en-sw", "dev") == []
    _write(tmp_path, "mt/mafand/en-sw/dev.sw", "b\n")
    assert [p.name for p in local_files(row, tmp_path, "en-sw", "dev")] == ["dev.en", "dev.sw"]
