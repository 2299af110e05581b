"""The neighbour explorer: lists, pictures, and widgets that follow; a picture where there are none."""
import importlib.util
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from xlt_lib.data.errors import DataError
from xlt_lib.words.explorer import explore, neighbour_lists, neighbour_picture, neighbour_table
from xlt_lib.words.vectors import Vectors

SPACES = {name: Vectors(words, np.random.default_rng(seed).normal(size=(len(words), 4)))
          for seed, (name, words) in enumerate({"one": tuple("abcdef"), "<two> & more": ("a", "b", "水", "मंत्री", "<b>")}.items())}


def test_lists_are_the_neighbours_and_a_word_may_be_in_one_space_only():
    found = neighbour_lists(SPACES, "c", 3)
    assert found["one"] == SPACES["one"].neighbours("c", 3) and found["<two> & more"] == []
    table = neighbour_table(SPACES, "a", 5).splitlines()
    assert len(table) == 7 and any("मंत्री" in line for line in table)


def test_picture_is_xml_with_every_word():
    for word in ("a", "<b>", "c"):
        picture = neighbour_picture(SPACES, word, 4)
        said = "".join(ET.fromstring(picture.svg).itertext())
        for near in neighbour_lists(SPACES, word, 4).values(): assert all(w in said for w, _ in near)
        assert word in said and ("has no vector" in said) == (word != "a")


def test_unknown_words_are_told():
    for call in (neighbour_lists, neighbour_picture, explore):
        with pytest.raises(DataError, match="without a vector"): call(SPACES, "nowhere")
    with pytest.raises(DataError, match="no vectors"): explore({})


def test_widgets_follow():
    explorer = explore(SPACES, "a", 2)
    if explorer.box is None: pytest.skip("ipywidgets is not installed")
    explorer.typed.value, explorer.many.value = "b", 4
    assert explorer.shown.value == neighbour_picture(SPACES, "b", 4).svg
    explorer.typed.value = "nowhere"
    assert "without a vector" in explorer.shown.value
    assert {"image/svg+xml", "application/vnd.jupyter.widget-view+json"} <= set(explorer._repr_mimebundle_())


def test_without_widgets_there_is_a_picture(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("xlt_lib.words.explorer.find_spec", lambda name: None if name == "ipywidgets" else find(name))
    explorer = explore(SPACES["one"], k=3)
    assert explorer.box is None and explorer._repr_mimebundle_() == {"text/plain": repr(explorer), "image/svg+xml": explorer.picture.svg}
