"""Package metadata: everything is read from settings.ini; the version from the package."""
import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
ini = ConfigParser(delimiters=["="])
ini.read(here / "settings.ini", encoding="utf-8")
cfg = ini["DEFAULT"]
version = re.search(r'__version__ = "(.+?)"', (here / "xlt_lib/__init__.py").read_text("utf-8"))[1]


def lines(key):
    "The non-empty lines of a setting."
    return [s.strip() for s in cfg[key].splitlines() if s.strip()]


setup(
    version=version, description=cfg["description"], author=cfg["author"], license=cfg["license"],
    long_description=(here / "README.md").read_text("utf-8"), long_description_content_type="text/markdown",
    keywords=cfg["keywords"].split(), classifiers=lines("classifiers"),
    packages=find_packages(include=["xlt_lib", "xlt_lib.*"]),
    # hand-edited data, in folders that end in _files: languages, the world's words, the registry of data sets, …
    package_data={"": ["*_files/*.toml", "*_files/*/*"]}, include_package_data=False,     # and a folder for each encoder that is shipped
    install_requires=lines("requirements"), extras_require={"dev": lines("dev_requirements")},
    entry_points={"console_scripts": lines("console_scripts"), "nbdev": ["xlt_lib = xlt_lib._modidx:d"]},
)
