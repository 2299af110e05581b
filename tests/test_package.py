"""The wheel: its metadata, its data files, and that it works without the notebooks."""
import configparser
import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from conftest import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    "A wheel built from a copy of what is committed by hand and exported, without the notebooks."
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.py", "settings.ini", "pyproject.toml", "README.md", "LICENSE"): shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "xlt_lib", source / "xlt_lib", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", source / "dist", source],
                   check=True, capture_output=True)
    return next((source / "dist").glob("*.whl"))


def test_metadata_comes_from_settings(wheel):
    ini = configparser.ConfigParser(delimiters=["="])
    ini.read(ROOT / "settings.ini", encoding="utf-8")
    names = zipfile.ZipFile(wheel).namelist()
    text = lambda end: zipfile.ZipFile(wheel).read(next(n for n in names if n.endswith(end))).decode()
    wanted = [r.strip() for r in ini["DEFAULT"]["requirements"].splitlines() if r.strip()]
    required = [line.removeprefix("Requires-Dist: ") for line in text("METADATA").splitlines() if line.startswith("Requires-Dist")]
    assert set(wanted) <= set(required) and ini["DEFAULT"]["description"] in text("METADATA")
    assert "xlt = xlt_lib.app.cli:main" in text("entry_points.txt")


def test_every_data_file_and_module_is_inside(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    ours = [p for p in (ROOT / "xlt_lib").rglob("*") if p.suffix in (".py", ".toml") or p.parent.parent.name == "encoder_files"]
    assert len(ours) > 40 and {str(p.relative_to(ROOT)) for p in ours} <= names
    assert not [n for n in names if n.endswith(".ipynb")]


def test_it_works_without_the_notebooks(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = ("import xlt_lib, pathlib; assert 'site' in xlt_lib.__file__, xlt_lib.__file__; from xlt_lib.app.cli import main; "
            "import sys; sys.exit(main(['data', 'show', '--task', 'ner', '--language', 'yo', '-n', '2']))")
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
                         env={**os.environ, "PYTHONPATH": str(tmp_path / "site")})
    assert run.returncode == 0 and len(run.stdout.splitlines()) == 2, run.stderr
