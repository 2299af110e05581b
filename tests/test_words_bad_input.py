"""Bad input to room 2: every wrong number, score, table and file is told by a DataError, before anything is trained or lost."""
import tracemalloc

import numpy as np
import pytest
from scipy import sparse

from xlt_lib.data.display import write_whole
from xlt_lib.data.errors import DataError, check_numbers
from xlt_lib.words.counts import cooccurrences, ppmi, svd_vectors
from xlt_lib.words.explorer import explore, neighbour_lists
from xlt_lib.words.fasttext import FastTextRecipe, SubwordVectors, character_ngrams, train_fasttext
from xlt_lib.words.glove import GloveRecipe
from xlt_lib.words.isometry import gromov_wasserstein, isospectral, spectrum_gap
from xlt_lib.words.judging import analogy, judge_analogies, judge_likeness, linear_tagger, spearman, tag_features
from xlt_lib.words.published import read_fasttext
from xlt_lib.words.rcsls import RcslsRecipe
from xlt_lib.words.segmentation import segmentation, words_of
from xlt_lib.words.self_learning import SelfLearning
from xlt_lib.words.vectors import Vectors, read_vectors, write_vectors
from xlt_lib.words.vocabulary import build_vocabulary, encode_corpus
from xlt_lib.words.word2vec import WordRecipe

NAN, V = float("nan"), Vectors(tuple("abcdefgh"), np.random.default_rng(0).normal(size=(8, 3)))
WHOLE = (0, -1, 1.5, NAN, True, "5", None)


def told(says, call, *args, **named):
    with pytest.raises(DataError, match=says): call(*args, **named)


def test_numbers():
    check_numbers({"a": 3, "b": np.int32(1), "c": np.float32(0.5)}, "a b", least=1, whole=True)
    check_numbers({"c": np.float32(0.5), "d": 1}, "c d", above=0, most=1)
    for value in WHOLE: told("a that cannot be: ?.*expected a whole number from 1$", check_numbers, {"a": value}, "a", least=1, whole=True)
    for value in (0, 1.01, NAN, float("inf"), False, "x", 1j): told("a number above 0 up to 1", check_numbers, {"a": value}, "a", above=0, most=1)


@pytest.mark.parametrize("recipe, names", [(WordRecipe, "width window epochs negatives threads min_count"), (GloveRecipe, "width window epochs min_count"),
                                           (FastTextRecipe, "width window epochs min_count shortest buckets threads")])
def test_recipes(recipe, names):
    for name in names.split():
        for value in WHOLE: told(f"{name} that cannot be", recipe, **{name: value})
    for value in (-1, 0.5, NAN, None): told("seed that cannot be", recipe, seed=value)
    for value in (-1, NAN, float("inf"), "fast"): told("rate that cannot be", recipe, rate=value)
    assert recipe(seed=0, width=np.int64(3)).width == 3


def test_how_many():
    for value in (0, -1, 1.5, NAN):
        told("most that cannot be", build_vocabulary, [["a", "b"]], 1, value)
        told("most that cannot be", WordRecipe, most=value)
        told("most that cannot be", read_vectors, "any.vec", most=value)
        told("most that cannot be", read_fasttext, "any.bin", most=value)
        told("n that cannot be", V.first, value)
        told("k that cannot be", V.neighbours, "a", value)
        told("k that cannot be", analogy, V, "a", "b", "c", value)
    told("min_count that cannot be", build_vocabulary, [["a", "b"]], -1)


@pytest.mark.parametrize("sentences", [[["a", "b", ""]], [["a", 5]], [["a", None]], [None, ["a"]], [7]])
def test_what_is_no_word(sentences): told("no word|not cut into words", build_vocabulary, sentences, 1)


def test_codes_of_languages():
    "A code is read however corpora write it; what is none, or a pair, or is not cut here, is told and not taken for blanks."
    for code in ("zh", "ZH", "zh_Hant", "zh-hant", "zho", "CMN"): assert segmentation(code) == "jieba" and len(words_of("我喜欢读书", code)) > 1
    assert {segmentation(c) for c in ("sw", "SWH", "pt_BR", "luo", "und")} == {"unicode words"} and segmentation("jpn") == segmentation("JA") == "janome"
    for code in ("", " ", "chinese", "z", "12", None): told("unknown language", words_of, "我喜欢读书", code)
    told("Did you mean 'zh Chinese'", segmentation, "chinese")
    told("a pair", segmentation, "en-zh")
    for code in ("tha", "TH", "my_MM", "yue"): told("no segmentation", segmentation, code)


@pytest.mark.parametrize("words, matrix, says", [
    (("a", "b"), [[1, 2], [3]], "no table of numbers"), (("a",), [["x", "y"]], "no table of numbers"), (("a",), [{}], "no table of numbers"),
    (("a",), [[None, 1]], "no number"), (("a",), None, "do not fit"), (("a", None), np.eye(2), "no text"), (("a", 5), np.eye(2), "no text"),
    ("ab", np.eye(2), "do not fit"), (None, np.eye(2), "no text")])
def test_vectors_that_cannot_be(words, matrix, says): told(says, Vectors, words, matrix)


def test_neighbours_of_what_fits_nowhere():
    told("another width", V.neighbours, np.ones(4))
    for vector in (np.ones((2, 3)), [1, NAN, 2], ["x"], None): told("no number|no table|do not fit", V.neighbours, vector)
    assert V.neighbours(V.matrix[0], 100)[0][0] == "a" and len(V.neighbours("a", 100)) == 7


@pytest.mark.parametrize("header", ["2 1000000000000", f"2 {'9' * 30}", f"{'9' * 30} 2", "1000000000000 2", "2 1000001", f"2 {2**31}"])
@pytest.mark.parametrize("name", ["v.bin", "v.vec", "v.bin.gz"])
def test_headers_that_promise_too_much(tmp_path, header, name):
    import gzip
    content = header.encode() + b"\na \x00\x01\x02\x03\x04\x05\x06\x07" if ".bin" in name else header.encode() + b"\na 1 2\n"
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    told("header|cut short", read_vectors, tmp_path / name)


def test_counts():
    n = sparse.csr_array(np.array([[0, 2.0, 1], [2, 0, 1], [1, 1, 0]]))
    v = build_vocabulary([["a", "b", "c"]], 1)
    for value, says in ((NAN, "no number"), (float("inf"), "no number"), (-1.0, "below 0")):
        wrong = n.copy()
        wrong.data[1] = value
        told(says, ppmi, wrong)
        if value != -1: told(says, svd_vectors, wrong, v, 1)
    for empty in (sparse.csr_array((3, 3)), n * 0, np.zeros((3, 3)), sparse.csr_array((0, 0))):
        told("without a count", ppmi, empty)
        told("without a count", svd_vectors, empty, v, 1)
    assert np.allclose(ppmi(n.toarray()).toarray(), ppmi(n).toarray()) and np.allclose(svd_vectors(n.toarray(), v, 1).matrix, svd_vectors(n, v, 1).matrix)
    for value in (0, -1, NAN): told("shift that cannot be", ppmi, n, shift=value)
    told("smoothing that cannot be", ppmi, n, -1)
    for value in (0, 1.5, NAN): told("width that cannot be", svd_vectors, n, v, value); told("window that cannot be", cooccurrences, *encode_corpus([["a", "b"]], v), 3, value)
    told("outside the vocabulary", cooccurrences, np.array([0, 5]), np.array([2]), 3)


def test_scores():
    for wrong in ([1, NAN, 2], [1, 2, None], ["x", "y", "z"], [], [[1, 2, 3]], [1, 2, float("inf")]): told("no numbers", spearman, wrong, [1, 2, 3])
    told("unequal length", spearman, [1, 2, 3], [1, 2])
    assert np.isnan(spearman([1, 1, 1], [1, 2, 3]))
    rows = [("a", "b", 1.0), ("c", "d", 2.0), ("e", "f", 3.0)]
    told("people find all pairs equally alike", judge_likeness, V, [(a, b, 5) for a, b, _ in rows])
    told("vectors find all pairs equally alike", judge_likeness, Vectors(V.words, np.ones((8, 3))), rows)
    told("no numbers", judge_likeness, V, [*rows, ("g", "h", NAN)])
    told("row 4 has 2 parts", judge_likeness, V, [*rows, ("g", "h")])


def test_questions():
    for wrong in (("a", "b", "c"), ("a", "b", "c", "d", "e")): told(f"question 2 has {len(wrong)} words", judge_analogies, V, [("a", "b", "c", "d"), wrong])
    told("not cut into words", judge_analogies, V, ["abcd"])
    told("block that cannot be", judge_analogies, V, [("a", "b", "c", "d")], block=0)


def test_tagger():
    rows = [(["a", "b"], ["X", "Y"]), (["c"], ["X"])]
    told("sentence 2: another number of tags", linear_tagger, V, [rows[0], (["c", "d"], ["X"])], [["a"]])
    told("too few different tags", linear_tagger, V, [(["a"], ["X"])], [["a"]])
    told("strength that cannot be", linear_tagger, V, rows, [["a"]], strength=0)
    told("reach that cannot be", tag_features, V, [["a"]], -1)
    for text in ("a b c", ["a b c"]): told("not cut into words", tag_features, V, text)
    assert linear_tagger(V, rows, []) == [] and linear_tagger(V, rows, [[], ["a"], []])[::2] == [[], []]
    assert tag_features(V, []).shape == (0, 12) and tag_features(V, [[], ["a"]], 0).shape == (1, 4)


def test_explorer_of_nothing():
    for nothing in ({}, None, {"one": None}, {"one": Vectors((), np.empty((0, 3)))}, {"one": np.eye(3)}): told("no vectors to explore", explore, nothing)
    told("no vectors to explore", neighbour_lists, {}, "a")
    for word in ("nowhere", ""): told("without a vector", explore, V, word)
    told("no word", explore, V, 5)
    told("k that cannot be", explore, V, "a", 0)
    assert explore(V).picture.svg.count("<rect") == 7       # begins with the last of the first hundred


def test_pieces_of_any_length(tmp_path):
    assert character_ngrams("soma", 3, 2**40) == character_ngrams("soma", 3, 6)
    v = train_fasttext([["soma", "wali"]] * 5, FastTextRecipe(width=2, min_count=1, epochs=1))
    parts = dict(np.load(v.write(tmp_path / "v.npz")))
    np.savez(tmp_path / "v.npz", **parts | {"sizes": np.array([3, 6, 0])})
    told("not a file", SubwordVectors.read, tmp_path / "v.npz")


# -- writing -------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name, binary", [("v.vec", False), ("v.bin", True), ("v.vec.gz", False)])
def test_vectors_are_written_without_a_copy_and_give_the_same_bytes(tmp_path, name, binary):
    big = Vectors(tuple(map(str, range(4000))), np.random.default_rng(0).normal(size=(4000, 300)))
    tracemalloc.start()
    path = write_vectors(big, tmp_path / name, binary)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < big.matrix.nbytes / 4, peak
    assert path.read_bytes() == write_vectors(big, tmp_path / f"again {name}", binary).read_bytes()
    back = read_vectors(path)
    assert back.words == big.words and np.array_equal(back.matrix, big.matrix)


@pytest.mark.parametrize("trouble", [DataError("x"), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_what_stops_in_the_middle_leaves_the_old_file_and_no_part(tmp_path, trouble):
    path = tmp_path / "v.vec"
    path.write_bytes(b"old")
    def stops(stream):
        stream.write(b"half")
        raise trouble
    with pytest.raises(type(trouble)): write_whole(path, stops)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


# -- alignment -----------------------------------------------------------------------------------------------------------------------
def test_recipes_of_alignment():
    for recipe, names in ((RcslsRecipe, "rounds neighbours frequent"), (SelfLearning, "words neighbours rounds frequent")):
        for name in names.split():
            for value in WHOLE: told(f"{name} that cannot be", recipe, **{name: value})
    for name in ("rate", "least_rate"):
        for value in (0, -1, NAN): told(f"{name} that cannot be", RcslsRecipe, **{name: value})
    for name, values in (("patience", (-1, NAN)), ("final", (-1, 0.5)), ("seed", (-1, 0.5)), ("keep", (0, -1, NAN, 1.1)), ("grow", (0, -1, NAN, 1)), ("least", (-1, NAN))):
        for value in values: told(f"{name} that cannot be", SelfLearning, **{name: value})


def cloud(rows, width, seed): return Vectors(tuple(map(str, range(rows))), np.random.default_rng(seed).normal(size=(rows, width)))


@pytest.mark.filterwarnings("error")
def test_distances_of_spaces_of_other_sizes():
    "Distances that look only within a space take any widths and the words that both have; the one that compares directions does not."
    a, b = cloud(30, 5, 0), cloud(50, 8, 1)
    for distance in (isospectral, gromov_wasserstein):
        assert 0 < distance(a, b, 1000) == distance(a, b.first(30), 30) < np.inf
        for words in WHOLE: told("words that cannot be", distance, a, b, words)
    told("unequal width", spectrum_gap, a, b)
    for share in (0, NAN, 1.5): told("share that cannot be", isospectral, a, b, share=share)
    told("neighbours that cannot be", isospectral, a, b, neighbours=0)
    told("too few words for a graph", isospectral, a.first(10), b)
    told("too few words to match", gromov_wasserstein, a.first(1), b)
    assert spectrum_gap(cloud(2, 5, 0), a) >= 0         # fewer words than directions
    nought, none = Vectors(a.words, np.zeros((30, 5))), Vectors((), np.empty((0, 5)))
    for other in (nought, none): told("without variance", spectrum_gap, a, other)
    told("no direction", gromov_wasserstein, a, nought)
    told("no direction", isospectral, a, nought)
