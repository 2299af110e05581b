"""Distances between languages: what they must satisfy, by hand and against another database; the pictures."""
import math
from dataclasses import replace

import matplotlib
import pytest
from conftest import REAL, needs_real

from xlt_lib.data.distances import (KINDS, compared, distance, distances, draw_distances, draw_family_tree, draw_map,
                                    nearest)
from xlt_lib.data.errors import DataError
from xlt_lib.data.languages import SETTINGS, language, languages

matplotlib.use("Agg")


@pytest.mark.parametrize("kind", KINDS)
def test_symmetric_with_zero_diagonal(kind):
    d = distances(kind)
    assert list(d.index) == list(d.columns) == list(languages()) and d.notna().all().all()
    assert (d - d.T).abs().max().max() < 1e-9 and all(d.loc[c, c] == 0 for c in d)
    most = 20_100 if kind == "geographic" else 1     # half the Earth's girth in km
    assert (d >= 0).all().all() and (d <= most).all().all()


@pytest.mark.parametrize("kind", ["genealogical", "geographic"])
def test_two_languages_are_never_in_one_place(kind):
    d = distances(kind)
    assert all(d.loc[a, b] > 0 for a in d for b in d if a != b)


def test_triangle_on_the_globe():
    d = distances("geographic")
    assert all(d.loc[a, c] <= d.loc[a, b] + d.loc[b, c] + 1e-6 for a in d for b in d for c in d)


def test_quarter_and_half_of_the_globe():
    def at(*coordinates): return replace(language("en"), coordinates=coordinates)
    assert distance(at(0, 0), at(90, 45), "geographic") == pytest.approx(10_007.557, abs=0.01)    # pi/2 · 6371.0088
    assert distance(at(0, 0), at(0, 180), "geographic") == pytest.approx(20_015.115, abs=0.01)
    assert distance(at(10, 179), at(10, -179), "geographic") < 225                                # across the date line


def test_typological_counts_only_what_both_have():
    en = language("en")
    one = en.changed("a test", {"order": "SOV"})
    assert distance(en, one) == 1 / 16 and distance(en, en.changed("a test", {"order": None})) == 0
    assert len(compared("en", en.changed("a test", {"order": None}))) == 15
    assert math.isnan(distance(en, en.changed("a test", dict.fromkeys(SETTINGS))))


def test_genealogical_by_hand():
    a, b = (replace(language("en"), name=n, family=f) for n, f in (("A", ("F", "G")), ("B", ("F",))))
    assert distance(a, b, "genealogical") == pytest.approx(1 - 2 * 1 / 5)
    d = distances("genealogical")
    assert d.loc["xh", "zu"] < d.loc["xh", "sw"] < d.loc["xh", "yo"] < d.loc["xh", "en"] == 1
    assert d.loc["ha", "ar"] < 1 == d.loc["ha", "yo"]


def test_nearest():
    assert list(nearest("xh", "genealogical", 1)) == ["zu"]
    assert "xh" not in nearest("xh", n=99) and len(nearest("xh", n=99)) == 19
    assert list(nearest("yo", "geographic", 9, among=["sw", "ig", "ha", "yo"])) == ["ig", "ha", "sw"]
    far = list(nearest("sw", "typological", 19).values())
    assert far == sorted(far)


def test_wrong_names():
    with pytest.raises(DataError, match="Did you mean 'geographic'"): distance("en", "sw", "geografic")
    with pytest.raises(DataError, match="unknown language"): distance("en", "xx")


def test_labels_on_the_map_do_not_overlap():
    ax = draw_map()
    boxes = [t.get_window_extent() for t in ax.texts]
    assert {t.get_text().split()[0] for t in ax.texts} == set(languages())
    assert not [1 for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]


def test_the_tree_shows_every_language_and_family():
    shown = {t.get_text() for t in draw_family_tree().texts}
    assert {f"{x.code} {x.name}" for x in languages().values()} | {x.family[0] for x in languages().values()} <= shown
    assert "Benue-Congo" in shown and len(draw_family_tree(["sw", "en"]).lines) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_heat_map(kind):
    ax = draw_distances(kind, ["en", "sw", "de", "zu"])
    assert [t.get_text() for t in ax.get_xticklabels()] == ["sw", "zu", "de", "en"]   # relatives side by side


def test_pictures_go_into_a_given_axes():
    import matplotlib.pyplot as plt
    fig, axes = plt.subplots(1, 3)
    drawings = zip((draw_map, draw_family_tree, draw_distances), axes, strict=True)
    assert [draw(ax=ax) for draw, ax in drawings] == list(axes)
    plt.close("all")


@needs_real
def test_typological_agrees_with_uriel(capsys):
    np, stats = pytest.importorskip("numpy"), pytest.importorskip("scipy.stats")
    uriel = np.load(REAL / "typology/lang2vec/feature_predictions.npz")
    syntax, langs = [f.startswith("S_") for f in uriel["feats"]], list(uriel["langs"])
    v = uriel["data"][[langs.index(x.iso639_3) for x in languages().values()]][:, syntax, 0]
    theirs = 1 - v @ v.T / np.outer(*[np.linalg.norm(v, axis=1)] * 2)
    upper = np.triu_indices(len(langs := list(languages())), 1)
    rho = stats.spearmanr(theirs[upper], distances("typological").to_numpy()[upper]).statistic
    with capsys.disabled(): print(f"\nrank correlation with URIEL's syntax (knn) over {len(upper[0])} pairs: {rho:.2f}")
    assert rho > 0
