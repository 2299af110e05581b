"""The facts about languages: complete, explained, sourced, and equal to the surveys where those are at hand."""
import csv
import gzip
import re
import subprocess
import sys
import unicodedata
from dataclasses import FrozenInstanceError
from importlib.resources import files

import pytest
from conftest import REAL, needs_real

from xlt_lib.data.errors import DataError
from xlt_lib.data.languages import SETTINGS, language, languages, read_languages, references, settings

CODES = "en es fr de it pt sw yo zu ha ig rw ny xh hi te ar he ja zh".split()
LETTERS = {"Latn": "LATIN", "Deva": "DEVANAGARI", "Telu": "TELUGU", "Arab": "ARABIC", "Hebr": "HEBREW", "Jpan": "CJK",
           "Hans": "CJK"}   # ISO 15924 → the first word of its letters' names in Unicode
TOML = (files("xlt_lib.data") / "language_files" / "languages.toml").read_text("utf-8")


def test_the_twenty(): assert list(languages()) == CODES


@pytest.mark.parametrize("code", CODES)
def test_complete_and_explained(code):
    x = language(code)
    assert re.fullmatch("[a-z]{3}", x.iso639_3) and re.fullmatch("[a-z]{4}[0-9]{4}", x.glottocode) and x.family
    assert x.macroarea in {"Africa", "Eurasia"} and x.name and x.endonym
    for s in SETTINGS:
        value, feature = getattr(x, s), settings()[s]["feature"]
        if value is None: assert x.source(s).startswith(f"WALS {feature} has no value for "), (code, s)
        else: assert value in settings()[s]["values"]
    for fact in (*SETTINGS, "name", "endonym", "script", "family", "coordinates", "macroarea", "direction", "spaces"):
        assert re.split("[ ,]", x.source(fact))[0] in references(), (code, fact)


@pytest.mark.parametrize("code", CODES)
def test_script_and_direction_are_those_of_the_endonym(code):
    x, letters = language(code), [c for c in language(code).endonym if c.isalpha()]
    assert {unicodedata.name(c).split()[0] for c in letters} == {LETTERS[x.script]}
    assert {unicodedata.bidirectional(c) in ("R", "AL") for c in letters} == {x.direction == "rtl"}


def test_only_chinese_and_japanese_have_no_spaces():
    assert [x.code for x in languages().values() if not x.spaces] == ["ja", "zh"]


@pytest.mark.parametrize("tag,code", [("pt-BR", "pt"), ("pt-MZ", "pt"), ("zh-CN", "zh"), ("zh_Hant", "zh"),
                                       ("SWA", "sw"),
                                      ("swh", "sw"), ("arb", "ar"), ("zho", "zh"), ("yor", "yo"), ("ES-es", "es")])
def test_tags(tag, code): assert language(tag) is language(code) is language(language(code))


@pytest.mark.parametrize("tag,found", [("swahili", "Did you mean 'sw Swahili'"), ("", "unknown"), (None, "unknown"),
                                       ("en-sw", "pair"), ("EN-sw", "pair"), ("english", "'en English'"),
                                       (7, "unknown")])
def test_unknown_codes(tag, found):
    with pytest.raises(DataError, match=found): language(tag)


def test_no_code_means_two_languages():
    names = [n for x in languages().values() for n in {x.code, x.iso639_3, *x.aliases}]
    assert len(names) == len(set(names))


def test_frozen_and_changed():
    en = language("en")
    with pytest.raises(FrozenInstanceError): en.order = "SOV"
    new = en.changed("an experiment", {"order": "SOV", "cases": None})
    assert (new.order, new.cases, en.order) == ("SOV", None, "SVO") and new.adjective == en.adjective
    assert new.source("order") == "an experiment" and en.source("order") == "WALS 81A (eng)"
    assert len({en, new}) == 2
    with pytest.raises(DataError, match="Did you mean 'order'"): en.changed("an experiment", {"oder": "SOV"})
    with pytest.raises(DataError, match="unknown fact"): en.source("tier")


@pytest.mark.parametrize("old,new,found", [
    ('adposition = "Prepositions"', 'adposition = "prepositions"', "unknown value of adposition.*Did you mean 'Prep"),
    ('order = "SVO"', '', "order needs a value"),
    ('order = "SVO"', 'ordre = "SVO"', "unknown setting.*'order'"),
    ('[it.absent]\n', '[it.absent]\norder = "why"\n', "order needs a value"),
    ('direction = "ltr"', 'direction = "left"', "bad direction.*ltr or rtl"),
    ('script = "Latn"', 'script = "latin"', "bad script"),
    ('spaces = true', 'spaces = "yes"', "bad spaces"),
    ('coordinates = [53.0, -1.0]', 'coordinates = [153.0, -1.0]', "bad coordinates"),
    ('coordinates = [53.0, -1.0]', 'coordinates = ["53N", -1.0]', "bad coordinates"),
    ('coordinates = [53.0, -1.0]', 'coordinates = [true, -1.0]', "bad coordinates"),
    ('macroarea = "Eurasia"', '', "a fact is missing: expected macroarea"),
    ('macroarea = "Eurasia"', 'macroarea = "Eurasia"\ntier = "high"', "unknown fact: found 'tier'"),
    ('[zu.sources]\nnumeral', '[zu.sources]\nnumerl', "unknown fact"),
    ('\n[defaults]', '\n[default]', r"expected \[defaults\]"),
    ('[en]', '[en', "not TOML"),
    ('name = "English"', 'name = 7', "bad name"),
    ('[settings]\n', 'tier = 7\n[settings]\n', "language 'tier': not a table"),
])
def test_typing_errors_are_found(tmp_path, old, new, found):
    file = tmp_path / "mine.toml"
    file.write_text(TOML.replace(old, new, 1), "utf-8")
    assert old in TOML
    with pytest.raises(DataError, match=found) as e: read_languages(file)
    assert str(file) in str(e.value)


def test_not_utf8(tmp_path):
    (file := tmp_path / "mine.toml").write_bytes(TOML.encode("utf-16"))
    with pytest.raises(DataError, match="not UTF-8"): read_languages(file)


def test_import_is_light():
    code = "import sys, xlt_lib.data.distances; print(*{m.split('.')[0] for m in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"numpy", "pandas", "matplotlib", "seaborn", "torch", "datasets"}


def table(path, delimiter=","):
    "The rows of a gzipped table of the real data."
    with gzip.open(REAL / "typology" / path, "rt", encoding="utf-8") as f:
        return list(csv.DictReader(f, delimiter=delimiter))


@needs_real
def test_equal_to_wals():
    wals = {(r["Language_ID"], r["Parameter_ID"]): r["Value_Name"] for r in table("wals/values_from_raw.csv.gz")}
    glottocode = {r["ID"]: r["Glottocode"] for r in table("wals/languages.csv.gz")}
    for x in languages().values():
        assert glottocode[x.wals] == x.glottocode
        for s in SETTINGS:
            feature, source = settings()[s]["feature"], x.source(s)
            assert (x.wals, feature) in wals or getattr(x, s) is None or not source.startswith("WALS"), (x, s)
            if (x.wals, feature) in wals:
                assert getattr(x, s) == wals[x.wals, feature] and source == f"WALS {feature} ({x.wals})", (x, s)


@needs_real
def test_settings_are_those_of_wals():
    with open(REAL / "typology/wals/codes.csv", encoding="utf-8") as f: codes = list(csv.DictReader(f))
    with open(REAL / "typology/wals/parameters.csv", encoding="utf-8") as f:
        titles = {r["ID"]: r["Name"] for r in csv.DictReader(f)}
    for s in settings().values():
        rows = sorted((int(r["Number"]), r["Name"]) for r in codes if r["Parameter_ID"] == s["feature"])
        assert s["values"] == [name for _, name in rows] and s["title"] == titles[s["feature"]]


def ancestors(newick, glottocode):
    "The groups above a node of a Newick tree, from the top down: those whose bracket is open at the node."
    out, depth = [], 0
    for m in re.finditer(r"[()]|[a-z]{4}\d{4}", newick[newick.index(glottocode) + len(glottocode):]):
        if m[0] == "(": depth += 1
        elif m[0] == ")": depth -= 1
        elif depth < 0: out.append(m[0]); depth = 0
    return out[::-1]


@needs_real
def test_equal_to_glottolog():
    rows = {r["ID"]: r for r in table("glottolog/languages.csv.gz")}
    trees = (REAL / "typology/glottolog/classification.nex").read_text("utf-8")
    for x in languages().values():
        r = rows[x.glottocode]
        assert x.coordinates == (float(r["Latitude"]), float(r["Longitude"]))
        assert (x.macroarea, x.iso639_3) == (r["Macroarea"], r["ISO639P3code"])
        newick = re.search(rf"tree {r['Family_ID']} = (.*);", trees)[1]
        assert x.family == tuple(rows[a]["Name"] for a in ancestors(newick, x.glottocode)), x


@needs_real
def test_equal_to_linguameta():
    rows = {r["bcp_47_code"]: r for r in table("linguameta/linguameta.tsv.gz", "\t")}
    for x in languages().values():
        r = rows[x.code]
        points = x.code == "he"   # LinguaMeta writes Hebrew with vowel points
        nfc = unicodedata.normalize("NFC", r["endonym"])
        bare = "".join(c for c in nfc if not (points and unicodedata.combining(c)))
        assert (x.name, x.endonym) == (r["english_name"], bare) and x.script in r["writing_systems"].split(", ")
        assert r["iso_639_3_code"] in (x.iso639_3, *x.aliases)


@needs_real
def test_equal_to_sswl():
    np = pytest.importorskip("numpy")
    uriel = np.load(REAL / "typology/lang2vec/features.npz")
    feats, langs, who = (list(uriel[k]) for k in ("feats", "langs", "sources"))
    sources = [x.source(s) for x in languages().values() for s in SETTINGS]
    claims = [c for s in sources if (c := re.match(r"SSWL, (\w+) = 1 in URIEL \((\w+)\)", s))]
    assert len(claims) == 4
    for c in claims: assert uriel["data"][langs.index(c[2]), feats.index(c[1]), who.index("SSWL")] == 1
