"""The report: read from records, judged by a rule, and safe, whole and readable in every format."""
import csv
import json
import re
from html.parser import HTMLParser
from statistics import mean

import pytest
from conftest import ROOT
from test_experiments import NINE
from test_tables_first import FIRST, WORLD, made_up, measured

from xlt_lib.data.errors import DataError
from xlt_lib.evaluation.statistics import seed_interval
from xlt_lib.reproduction.papers import relative_gain
from xlt_lib.reproduction.report import facts, read_folder, readme_table, tidy, with_numbers
from xlt_lib.reproduction.report_formats import element, latex, markdown, markdown_text, page, tex, write_report
from xlt_lib.reproduction.tables import save_table
from xlt_lib.reproduction.verdicts import OUTCOMES, evidence, judge, verdicts

HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "]]>", "<!--", "</style><b>", "a\x00b", "x\u202ey", "| a | b |", "\\end{document}", "`%s` & {} $ # _ ^ ~",
           "[click](javascript:alert(3))", "![x](http://evil.example/x.png)"]
PUBLISHED = ROOT / "figures/first"


class Read(HTMLParser):
    "A page as a browser's parser sees it: elements with attributes, and the text."
    def __init__(self, text):
        super().__init__()
        self.elements, self.said = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs): self.elements.append((tag, dict(attrs)))

    def handle_data(self, data): self.said.append(data)

    def of(self, tag): return [a for t, a in self.elements if t == tag]


def folder(tmp_path, number=1, seeds=2, f1=made_up, **setting):
    "A folder with one saved table."
    from dataclasses import replace
    mine = replace(WORLD, **setting)
    save_table(number, FIRST, mine, measured(number, f1, seeds, mine), seeds, tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def rude(tmp_path_factory):
    "A folder in which every string that somebody else writes is hostile: captions, data sets, languages, labels, commits, file names."
    place = tmp_path_factory.mktemp("rude")
    text = " ".join(HOSTILE)
    codes = [c for c in HOSTILE if c not in ("|",)]
    tiers = [[c, t] for c, t in zip(codes, ["high", "high", "medium", "low", "low", *["low"] * 9])]
    cell = lambda name: dict(method=name, seed=0, language=None, setting=dict(tiers=tiers, scenario="low", source=text, encoder=text, task="ner", labels=HOSTILE, datasets=[["ner", text]], train_rows=5))
    record = lambda name: dict(cell=cell(name), key=text + name, scores={c: {"f1": 0.5, "sentences": 3} for c in codes}, rows={}, recipe={}, steps=1, tokens=1, losses={}, encoder=text,
                               data=text, dropped={}, seconds=1.0, megabytes=1, commit=text, versions={text: text})
    stem = 'table1_"><img src=x onerror=alert(4)> <script>'
    (place / f"{stem}.jsonl").write_text("".join(json.dumps(record(n)) + "\n" for n in ("multilingual", "framework")), "utf-8")
    (place / f"{stem}.md").write_text(f"# {text}\n\n{text}\n\n| a |\n", "utf-8")
    with open(place / f"{stem}.csv", "w", encoding="utf-8", newline="") as f: csv.writer(f).writerows([["method", *codes], ["Our Framework", *[f"{c} | {c}" for c in codes]]])
    (place / f"{stem}.png").write_bytes(b"\x89PNG")
    (place / "figure1_x.md").write_text(f"# {text}\n\n{text}\n\n| claim | verdict |\n| --- | --- |\n| {HOSTILE[0]} | reproduced: {HOSTILE[1]} |\n", "utf-8")
    write_report(place)
    return place


def test_nothing_hostile_gets_out_of_its_place(rude):
    html = Read((rude / "report.html").read_text("utf-8"))
    tags = {t for t, _ in html.elements}
    assert not tags & {"script", "iframe", "object", "embed", "link", "base", "form", "svg"} and not [a for _, a in html.elements if any(n.startswith("on") for n in a)]
    assert all(a["src"].startswith("data:image/") for a in html.of("img")) and len(html.of("img")) == 1
    assert all(re.fullmatch(r"#[\w-]+", a["href"]) for a in html.of("a"))
    said = "".join(html.said)
    for bad in HOSTILE: assert bad.replace("\x00", "\ufffd").replace("\u202e", "\u202e") in said, bad      # shown as it is, and nothing lost
    assert "default-src 'none'" in html.of("meta")[1]["content"]


def test_hostile_text_stays_in_its_cell_in_markdown_and_latex(rude):
    text = re.sub(r"^    .*\n", "", (rude / "report.md").read_text("utf-8"), flags=re.M).replace("](<table1", "](")     # without the commands, which are code
    assert not re.search(r"<[a-zA-Z/!]", text) and not re.search(r"(?<!\\)\]\((javascript|http)", text)
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block[:300]
    check_latex((rude / "report.tex").read_text("utf-8"))


def test_a_command_to_paste_runs_nothing_but_xlt(rude):
    "What a shell makes of the command: the words of the record, each as one word."
    import shlex
    [line] = [line for line in (rude / "report.md").read_text("utf-8").splitlines() if line.startswith("    xlt reproduce")]
    words = shlex.split(line.replace("\ufffd", "?"))
    assert words[:2] == ["xlt", "reproduce"] and HOSTILE[0] in words and HOSTILE[1] in words and not [w for w in words if w in (";", "&", "|", ">")]


def check_latex(text):
    "Braces balance, tables have as many cells in each row as columns, and no command comes from the data."
    bare = re.sub(r"\\[\\{}$&#_%]", "", re.sub(r"(?<!\\)%.*", "", text))
    depth = 0
    for sign in bare:
        depth += (sign == "{") - (sign == "}")
        assert depth >= 0
    assert depth == 0 and bare.count("$") % 2 == 0 and not re.search(r"[#^~]", bare)
    assert set(re.findall(r"\\([A-Za-z]+)", text.split("Written by", 1)[1])) <= set(
        "begin end centering caption label resizebox textwidth toprule midrule bottomrule textbackslash textbar textless textgreater textasciitilde textasciicircum textquotedbl pm lambda times ldots".split())
    for table in re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", text, re.S):
        rows = [line for line in table[1].splitlines() if line.endswith(r"\\")]
        assert len(rows) > 1 and all(len(re.findall(r"(?<!\\)&", r)) == len(table[0]) - 1 for r in rows)


def test_the_checker_of_latex_sees_what_is_wrong():
    for wrong in (r"Written by {", r"Written by \input", "Written by $", "Written by a_b #"):
        with pytest.raises(AssertionError): check_latex(wrong)
    assert tex("50 % of {a_b} & \\x") == r"50 \% of \{a\_b\} \& \textbackslash{}x"


def test_the_page_can_be_heard_and_stands_alone(tmp_path):
    write_report(folder(tmp_path))
    text = (tmp_path / "report.html").read_text("utf-8")
    html = Read(text)
    ids = [a["id"] for _, a in html.elements if "id" in a]
    assert len(ids) == len(set(ids)) and all(a["aria-labelledby"] in ids for _, a in html.elements if "aria-labelledby" in a)
    assert all(a["href"][1:] in ids for a in html.of("a"))
    tables = text.split("<table>")[1:]
    assert len(tables) >= 3 and all("<caption" in t.split("</table>")[0] and 'scope="col"' in t and 'scope="row"' in t for t in tables)
    assert all(a.get("scope") in ("col", "row") for a in html.of("th")) and all(len(a["alt"]) > 40 for a in html.of("img"))
    assert html.of("html")[0]["lang"] == "en" and html.of("meta")[2]["content"] == "width=device-width, initial-scale=1"
    style = text.split("<style>")[1].split("</style>")[0]
    for wanted in ("prefers-color-scheme: dark", "@media print", "max-width", "focus-visible"): assert wanted in style
    assert not re.search(r"""(?:src|href|url|@import)\s*[=(]\s*["']?(?!["']?(?:data:|#))""", text.replace("url(#", ""))
    order = [text.index(f'id="{key}"') for key in ("what", "claims", "tables", "again")]
    assert order == sorted(order) and "make reproduce" in text


def contrast(a, b):
    "The contrast of two colours, by WCAG 2."
    def light(colour):
        parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
        return sum(w * (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4) for w, p in zip((0.2126, 0.7152, 0.0722), parts))
    bright, dark = sorted((light(a), light(b)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_colours_can_be_read_by_day_and_by_night():
    from xlt_lib.reproduction.report_formats import STYLE
    for line in re.findall(r":root \{(.*?)\}", STYLE):
        colours = dict(re.findall(r"--(\w+): (#\w{6})", line))
        for name in ("ink", "soft", "link", "good", "bad"):
            for ground in ("back", "band"): assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground, line)


def test_twice_is_the_same_and_the_report_does_not_read_itself(tmp_path):
    files = write_report(folder(tmp_path))
    before = {f: f.read_bytes() for f in files}
    assert [f.name for f in files] == ["report.html", "report.md", "report.csv", "report.tex"]
    assert {f: f.read_bytes() for f in write_report(tmp_path)} == before and str(tmp_path).encode() not in b"".join(before.values())


def test_the_tidy_table_holds_every_number_of_the_records(tmp_path):
    [saved] = read_folder(folder(tmp_path))
    rows = {(r["method"], r["language"]): r for r in tidy([saved], FIRST)}
    assert rows["Our Framework", "sw"]["measured"] == pytest.approx(65) and rows["Our Framework", "sw"]["half_width"] == pytest.approx(100 * seed_interval([0.6, 0.7]).half, abs=1e-3)
    assert rows["Our Framework", "sw"]["paper"] == 76 and rows["Our Framework", "sw"]["seeds"] == 2
    ours = [r for r in rows.values() if r["method"] not in FIRST.table(1).rows]
    assert ours and all(r["paper"] == "" for r in ours) and {r["language"] for r in rows.values()} == set(NINE)
    [one] = read_folder(folder(tmp_path / "one", seeds=1))
    assert all(r["half_width"] == "" for r in tidy([one], FIRST)) and facts(one.records)["seeds"] == "0"


# ---- verdicts

CLAIMS = {c.name: c for c in FIRST.claims}


@pytest.mark.parametrize("gains, outcome", [
    ([20.0], "cannot be told"), ([], "cannot be told"), ([16.0, 17.0, 18.0], "reproduced"), ([5.0, 6.0, 7.0], "not reproduced"), ([-10.0, -11.0, -12.0], "not reproduced"),
    ([-20.0, 30.0, 10.0], "cannot be told"), ([15.3, 15.3], "reproduced"), ([40.0, 41.0, 42.0], "reproduced")])
def test_a_gain_by_the_rule(gains, outcome):
    assert judge({"sw": gains} if gains else {}, 15.3)[0] == outcome


@pytest.mark.parametrize("cells, outcome", [
    ({"en": [2, 3, 4], "sw": [3, 4, 5]}, "reproduced"), ({"en": [5, 6, 7], "sw": [-1, 1, 2]}, "cannot be told"), ({"en": [5, 6, 7], "sw": [-5, -5.1, -5.2]}, "not reproduced"),
    ({"en": [5, 6], "sw": [1]}, "cannot be told"), ({"en": [-1.0, -1.0], "sw": [1.0, 1.0]}, "not reproduced")])
def test_every_cell_by_the_rule(cells, outcome): assert judge(cells)[0] == outcome


def test_one_cell_below_by_luck_is_forgiven_among_many():
    "The same evidence in one of two cells is shown, in one of forty it is not: Holm's correction."
    bad, good = [-1.0, -2.0, -3.0, -4.5], [5.0, 6.0, 7.0, 8.0]
    assert judge({"x": bad, "y": good})[0] == "not reproduced" and judge({"x": bad, **{str(i): good for i in range(40)}})[0] == "cannot be told"


def test_evidence_follows_from_scores(tmp_path):
    scores = {"monolingual": 0.5, "multilingual": 0.55, "cross_lingual": 0.52, "adversarial": 0.51, "multitask": 0.53, "framework": 0.6, "control": 0.9}
    f1 = lambda cell, code: scores.get(cell.method, 0.9) + 0.01 * cell.seed + (0.1 if code == "en" and cell.method != "monolingual" else 0)
    [saved] = read_folder(folder(tmp_path, f1=f1))
    told = lambda name: evidence(CLAIMS[name], saved, FIRST)
    assert told("NER, low-resource gain") == {"sw yo zu": pytest.approx([relative_gain(0.6, 0.5), relative_gain(0.61, 0.51)])}
    assert set(told("NER, best everywhere")) == set(NINE) and told("NER, best everywhere")["sw"] == pytest.approx([5, 5])      # ours, the control, is no rival
    [(where, values)] = told("largest gain, over monolingual").items()
    assert where == "en" and values == pytest.approx([relative_gain(0.7, 0.5), relative_gain(0.71, 0.51)])
    assert [*told("NER, low-resource gains most")] == ["low − high"] and told("NER, gap between tiers shrinks")["high − low"] == pytest.approx([-10 / 3] * 2)
    assert told("Spanish sentiment, accuracy gain") == {} if saved.number in CLAIMS["Spanish sentiment, accuracy gain"].tables else True


def test_synergy_is_the_whole_less_its_parts(tmp_path):
    scores = {"monolingual": 0.5, "adversarial": 0.56, "tagging": 0.54, "multitask": 0.55, "framework": 0.6, "multilingual": 0.5}
    [saved] = read_folder(folder(tmp_path, 4, f1=lambda cell, code: scores[cell.method]))
    assert evidence(CLAIMS["ablation, synergy"], saved, FIRST) == {c: pytest.approx([0, 0], abs=1e-9) for c in ("sw", "yo", "zu")}
    assert evidence(CLAIMS["ablation, adversarial helps"], saved, FIRST)["sw"] == pytest.approx([6, 6])


def test_one_seed_says_nothing_about_any_claim(tmp_path):
    found = verdicts(read_folder(folder(tmp_path, seeds=1)), FIRST)
    assert {v.outcome for v in found} == {"cannot be told"} and {v.claim.name for v in found} == set(CLAIMS)
    assert {v.why for v in found if v.table} == {"one seed"} and any(v.why == "no Table 3 here" for v in found) and any("prints no number" in v.why for v in found)


def test_other_languages_are_said_to_be_others(tmp_path):
    [saved] = read_folder(folder(tmp_path, tiers=(("en", "high"), ("sw", "low"))))
    [v] = [v for v in verdicts([saved], FIRST) if v.claim.name == "NER, low-resource gain"]
    assert v.on == "sw (not sw yo zu)" and v.outcome in OUTCOMES and "(not sw yo zu)" in page([saved], [v], FIRST)


# ---- the published folder, and README

@pytest.mark.parametrize("file", sorted(PUBLISHED.glob("table*.jsonl")), ids=lambda f: f.stem)
def test_published_tables_follow_from_their_records(file):
    table = readme_table(file)
    assert table in file.with_suffix(".md").read_text("utf-8"), "the table and its records are not of one run: make it again"


def test_published_verdicts_agree_with_the_published_gain():
    "The number that README and Table 1's notebook print is the one that the verdict stands on."
    [v] = [v for v in verdicts(read_folder(PUBLISHED), FIRST) if v.claim.name == "NER, low-resource gain" and "real" in v.table]
    row = next(r for r in csv.DictReader(open(PUBLISHED / f"{v.table}.csv", encoding="utf-8")) if r["method"] == "Our Framework")
    assert v.measured.endswith(row["gain on sw yo zu"].split(" | ")[1]) and v.seeds == 5


def test_readme_shows_the_table_that_its_records_give():
    text, table = (ROOT / "README.md").read_text("utf-8"), readme_table(PUBLISHED / "table1_low_real_small_nine_languages.jsonl")
    assert with_numbers(text, table) == text, "copy it: with_numbers(README, readme_table(…))"


def test_numbers_have_one_place():
    text = "a\n<!-- numbers:first -->\nold\n<!-- /numbers -->\nb"
    new = with_numbers(text, "| new \\1 |")
    assert new == "a\n<!-- numbers:first -->\n\n| new \\1 |\n\n<!-- /numbers -->\nb" and with_numbers(new, "| new \\1 |") == new
    for wrong in ("", "<!-- numbers:first -->", "<!-- /numbers --><!-- numbers:first -->", text + text):
        with pytest.raises(DataError, match="no place"): with_numbers(wrong, "x")
    with pytest.raises(DataError, match="no records"): readme_table("README.md")


def test_bad_folders_are_named(tmp_path):
    with pytest.raises(DataError, match="neither a table nor a figure"): read_folder(tmp_path)
    for text, said in (('{"f1": 1}\n', "table1_x.jsonl"), ("not json\n", "table1_x.jsonl"), ("[]\n", "table1_x.jsonl")):
        (tmp_path / "table1_x.jsonl").write_text(text)
        with pytest.raises(DataError, match=said): read_folder(tmp_path)


def test_a_figure_shows_its_claims_and_its_caption(tmp_path):
    folder(tmp_path)
    (tmp_path / "figure2_low_world_tiny.md").write_text("# Curves\n\nA caption.\n\n| claim | verdict |\n| --- | --- |\n| a \\| b | reproduced |\n", "utf-8")
    (tmp_path / "figure2_low_world_tiny.png").write_bytes((tmp_path / "table1_low_world_tiny.png").read_bytes())
    saved = read_folder(tmp_path)
    assert [s.kind for s in saved] == ["table", "figure"] and saved[1].rows == ({"claim": "a | b", "verdict": "reproduced"},)
    html = page(saved, [], FIRST)
    assert html.index("Table 1") < html.index("Figure 2: Curves") and '<strong class="reproduced">' in html and 'alt="Figure 2: Curves. A caption."' in html
    assert "a \\| b" in markdown(saved, [], FIRST) and "Curves" not in latex(saved)


def test_what_stands_under_a_table_is_in_the_report(tmp_path):
    "Signatures of BLEU, and the table of chrF++."
    file = folder(tmp_path) / "table1_low_world_tiny.md"
    file.write_text(file.read_text("utf-8") + "\nchrF++:\n\n| method | en-fr |\n| --- | --- |\n| Ours | 12 / 3 % |\n\nsacreBLEU: nrefs:1\\|case:mixed <b>\n", "utf-8")
    [saved] = read_folder(tmp_path)
    assert saved.under == ("chrF++:", ({"method": "Ours", "en-fr": "12 / 3 %"},), "sacreBLEU: nrefs:1\\|case:mixed <b>")
    html, text = page([saved], [], FIRST), markdown([saved], [], FIRST)
    assert html.index("Our Framework") < html.index("<td>12 / 3 %</td>") < html.index("case:mixed &lt;b&gt;") and "| Ours | 12 / 3 % |" in text and "&lt;b&gt;" in text


def test_text_is_never_markup():
    assert element("p", "<b>", element("i", "x"), "&").text == "<b>" and markdown_text("a_b *c* <d> |") == r"a_b \*c\* &lt;d&gt; \|"
    assert markdown_text("[a](b)") == r"\[a\](b)"
    assert mean(len(tex(s)) >= len(s.replace("\x00", "")) for s in HOSTILE) == 1
