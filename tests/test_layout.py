"""Imports point downwards; the library imports fast; modules come from notebooks; the drift check sees what it must."""
import ast
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean

import nbformat
import pytest
from conftest import ROOT

HEAVY = {"torch", "transformers", "datasets", "pandas", "matplotlib", "seaborn", "numpy", "fastcore"}
NUMBERED = re.compile(r"(\d+)_")


def notebooks():
    "The lessons; not the copies that JupyterLab keeps in .ipynb_checkpoints."
    return sorted(p for p in (ROOT / "nbs").rglob("[!_.]*.ipynb") if ".ipynb_checkpoints" not in p.parts)


MEASURES = {"spans", "metrics", "baselines", "statistics"}


def rank(path):
    "(room, order in the room) of a module, from the notebook that its header names. Measures come right after the data: they know labels, no models."
    room, name = Path(re.search(r"File to edit: (\S+)\.$", path.read_text("utf-8"), re.M)[1]).parts[-2:]
    return 1.5 if room == "5_evaluation" and path.stem in MEASURES else int(NUMBERED.match(room)[1]), int(NUMBERED.match(name)[1])


def modules():
    return {".".join(p.relative_to(ROOT).with_suffix("").parts): p
            for p in sorted((ROOT / "xlt_lib").rglob("*.py")) if not p.name.startswith("_")}


def imported(module, path):
    "Every xlt_lib module that a module imports, in functions too."
    package = module.rsplit(".", 1)[0].split(".")
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import): names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[:len(package) - node.level + 1] if node.level else []
            base = ".".join(base + ([node.module] if node.module else []))
            names = [base] + [f"{base}.{a.name}" for a in node.names]
        else: continue
        yield from (n for n in names if n.startswith("xlt_lib."))


@pytest.mark.parametrize("module", modules())
def test_imports_point_downwards(module):
    known = modules()
    if module.startswith("xlt_lib.app."): return     # the command line is the only thing that knows everything
    for name in imported(module, known[module]):
        if name in known: assert rank(known[name]) < rank(known[module]), f"{module} imports {name}"


def test_every_notebook_has_a_number_of_its_own():
    for room in {p.parent for p in notebooks()}:
        numbers = [NUMBERED.match(p.name)[1] for p in notebooks() if p.parent == room]
        assert len(numbers) == len(set(numbers)), f"two notebooks of {room.name} share a number"


@pytest.mark.parametrize("path", notebooks(), ids=lambda p: p.stem)
def test_notebooks_are_committed_run_and_clean(path):
    assert path.stat().st_size < 1_000_000
    cells = [c for c in nbformat.read(path, 4).cells if c.cell_type == "code" and c.source.strip()]
    assert any(c.outputs for c in cells) or len(cells) < 3, "no output is saved: run nbdev-test --save"
    for c in cells:
        assert c.execution_count is None, "run nbdev-clean"
        assert not [o for o in c.outputs if o.output_type == "error"], c.source[:80]


def test_links_lead_somewhere():
    "Every link to a notebook or file of the project, in lessons and in the hand-written texts."
    pages = {p: "\n".join(c.source for c in nbformat.read(p, 4).cells if c.cell_type == "markdown") for p in notebooks()}
    pages |= {p: p.read_text("utf-8") for p in ROOT.glob("*.md")}
    for page, text in pages.items():
        for link in re.findall(r"\]\((?!https?:|#|mailto:)([^)\s#]+)", text):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
    for table in (ROOT / "xlt_lib").rglob("*.toml"):
        for named in re.findall(r"nbs/\S+?\.ipynb", table.read_text("utf-8")): assert (ROOT / named).exists(), f"{table.name}: {named}"


def test_no_placeholder_is_left_in_the_readme():
    assert not re.findall(r"\b[A-Z]{3,}_[A-Z]{3,}\b", (ROOT / "README.md").read_text("utf-8").replace("XLT_DATA", "").replace("XLT_REGISTRY", ""))


def test_every_import_is_declared():
    "What the library imports is standard, its own, or named in settings.ini; what it can do without (it then says `pip install`), among the dev requirements."
    import configparser
    ini = configparser.ConfigParser(delimiters=["="])
    ini.read(ROOT / "settings.ini", encoding="utf-8")
    named = lambda key: {re.match(r"[\w-]+", r.strip())[0].lower().replace("-", "_") for r in ini["DEFAULT"][key].splitlines() if r.strip()}
    wanted = named("requirements") | named("dev_requirements") & {"jieba", "janome", "ipywidgets"}
    called = {"sklearn": "scikit_learn", "ot": "pot"}       # imported under another name than installed
    for module, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else \
                [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in {called.get(n.split(".")[0], n.split(".")[0]) for n in names}:
                assert name in sys.stdlib_module_names | wanted | {"xlt_lib"}, f"{module} imports {name}"


def loaded_by(code):
    "The top-level modules that a fresh Python has loaded after running `code`, and the seconds it took."
    start = time.perf_counter()
    code += "\nprint(*sorted({m.split('.')[0] for m in sys.modules}))"
    out = subprocess.run([sys.executable, "-c", "import sys\n" + code], capture_output=True, text=True, check=True).stdout
    return set(out.splitlines()[-1].split()), time.perf_counter() - start


@pytest.mark.parametrize("code", ["import xlt_lib", "from xlt_lib.app.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass"])
def test_import_and_help_are_light(code, capsys):
    found, seconds = loaded_by(code)
    with capsys.disabled(): print(f"{code.splitlines()[-1]!r}: {seconds:.2f} s in a fresh Python")
    assert not found & HEAVY, found & HEAVY


def test_public_names_exist():
    import xlt_lib
    for name in xlt_lib.__all__: assert getattr(xlt_lib, name) is not None
    with pytest.raises(AttributeError): xlt_lib.no_such_name  # noqa: B018


@pytest.mark.parametrize("change", ["edit", "orphan", "new"])
def test_drift_is_seen(tmp_path, change):
    "The drift check passes on the tree as it is and fails on an edited module, an orphan, and an unexported notebook."
    copy = tmp_path / "copy"
    for part in ("nbs", "xlt_lib", "tests"): shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    errors, run = copy / "xlt_lib/data/errors.py", ["bash", "tests/drift.sh"]
    if change == "edit":
        assert subprocess.run(run, cwd=copy, capture_output=True).returncode == 0
        errors.write_text(errors.read_text() + "\nx = 1\n")
    if change == "orphan": shutil.copy(errors, copy / "xlt_lib/data/orphan.py")
    if change == "new": errors.unlink()
    assert subprocess.run(run, cwd=copy, capture_output=True).returncode == 1


def test_readme_shows_what_the_world_says():
    "The first table of README is that of figures/world, and the number of data sets is that of the registry."
    import csv

    from xlt_lib.data.registry import registry
    text = (ROOT / "README.md").read_text("utf-8")
    with open(ROOT / "figures/world/same_meaning.csv", encoding="utf-8") as f:
        for row in csv.DictReader(f): assert f"| {row['language']} | {row['sentence']} |" in text
    assert f"knows {len(registry())} data sets" in text


def test_the_first_paper_in_readme_is_the_committed_table():
    "README's second table is the published one, to the letter."
    table = (ROOT / "figures/first/table1_low_real_small_nine_languages.md").read_text("utf-8").split("\n\n")[2].strip()
    assert table.startswith("| method | en |") and table in (ROOT / "README.md").read_text("utf-8")


def test_the_conclusions_in_readme_follow_from_the_records():
    "Points of F1 in README's prose, computed again from the published records of Table 1."
    from xlt_lib.reproduction.records import read_records, seed_means
    pairs = read_records(ROOT / "figures/first/table1_low_real_small_nine_languages.jsonl")
    def points(method, languages): return mean(seed_means(pairs, languages)[method].values())
    between = lambda a, b, languages: abs(points(a, languages) - points(b, languages))
    low, text = ("sw", "yo", "zu"), " ".join((ROOT / "README.md").read_text("utf-8").split())
    assert f"worth {between('multilingual', 'monolingual', ('de', 'it', 'pt')):.0f} points on de, it, pt" in text
    assert f"costs {between('cross_lingual', 'multilingual', low):.0f} points" in text
    assert f"not the reversed gradient (-{between('adversarial', 'control', low):.1f} against its own" in text
    assert f"not the auxiliary tasks ({between('multitask', 'multilingual', low):.1f} points)" in text
    assert f"not the whole framework (-{between('framework', 'monolingual', low):.1f} against" in text


def test_what_readme_says_of_table_2_follows_from_its_records():
    "How many of seven questions in each study on real files have an answer after Holm's correction, and which."
    from xlt_lib.reproduction.records import SavedTable, answers
    arrows = [("multilingual", "monolingual"), ("cross_lingual", "multilingual"), ("control", "multilingual"), ("adversarial", "control"),
              ("multitask", "multilingual"), ("framework", "multitask"), ("framework", "monolingual")]
    studies = [SavedTable(f.stem, f.parent) for f in sorted((ROOT / "figures/first").glob("table2_*_real_*.jsonl"))]
    told = [a for study in studies for a in answers(study.pairs, [(*arrow, "") for arrow in arrows], "macro-F1")]
    shown = [a for a in told if a["verdict"] != "not shown"]
    text = " ".join((ROOT / "README.md").read_text("utf-8").split())
    assert f"Of {len(told)} questions (seven arrows between methods, five studies) {len(shown)} has an answer" in text and len(studies) == 5
    assert [(a["difference"], a["verdict"]) for a in shown] == [("cross_lingual − multilingual", "no: the reverse")]
