"""Words, vocabularies and vector files: gensim opens ours, we open gensim's, and bad input is told with its line."""
import gzip

import numpy as np
import pytest
from gensim.models import KeyedVectors
from hypothesis import given, settings
from hypothesis import strategies as st

from xlt_lib.data.errors import DataError
from xlt_lib.words.segmentation import SEGMENTERS, UNSPACED, segmentation, words_of
from xlt_lib.words.vectors import Vectors, read_vectors, unit_rows, write_vectors
from xlt_lib.words.vocabulary import build_vocabulary, encode_corpus


@pytest.mark.parametrize("language, text, words", [
    ("sw", "Ng’ombe wa Mary-Ann (wawili!) wamekula.", ["ng'ombe", "wa", "mary-ann", "wawili", "wamekula"]),
    ("yo", "Ó rí ọ̀rẹ́ rẹ̀.", ["ó", "rí", "ọ̀rẹ́", "rẹ̀"]),
    ("hi", "किताब पढ़ता हूँ।", ["किताब", "पढ़ता", "हूँ"]),
    ("en", "'Tis 3-4% -- don't «ask» @home_page …", ["tis", "3-4", "don't", "ask", "home", "page"]),
    ("he", "צה״ל הודיע", ["צה״ל", "הודיע"]),
    ("en", " \t… --- ’’ ", []),
    ("zh", "我喜欢读书，你呢？", ["我", "喜欢", "读书", "你", "呢"]),
    ("ja", "私は本を読む。", ["私", "は", "本", "を", "読む"]),
])
def test_words(language, text, words):
    from unicodedata import normalize
    assert words_of(text, language) == [normalize("NFC", w) for w in words]


@given(st.text())
@settings(deadline=None)
def test_words_have_letters_and_no_blanks(text):
    for word in words_of(text, "sw"):
        assert word and not any(c.isspace() for c in word)
        assert words_of(word, "sw") == [word]


def test_segmentation_is_named_or_refused(monkeypatch):
    assert [segmentation(c) for c in ("sw", "zh", "zh-Hant", "ja")] == ["unicode words", "jieba", "jieba", "janome"]
    for code in UNSPACED:
        with pytest.raises(DataError, match="no segmentation"): segmentation(code)
    from xlt_lib.words import segmentation as module
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    module._cutter.cache_clear()
    for code, package in SEGMENTERS.items():
        with pytest.raises(DataError, match=f"pip install {package}"): words_of("x", code)
    module._cutter.cache_clear()


def test_vocabulary_orders_and_cuts():
    v = build_vocabulary([["b", "a", "c", "c"], ["a", "b", "d"]], min_count=2)
    assert v.words == ("a", "b", "c") and v.counts.tolist() == [2, 2, 2] and "d" not in v and len(v) == 3
    assert build_vocabulary([["b", "a", "c", "c"]], min_count=1, most=2).words == ("c", "a")


@pytest.mark.parametrize("sentences, options, told", [
    ([], {}, "an empty corpus"), ([[]], {}, "an empty corpus"),
    ([["a", "b", "b", "c"]], {"min_count": 5}, "3 different words, of which the most frequent, 'b', is seen 2 times"),
    ([["a", "b"]], {"min_count": 1, "most": 1}, "collapses"),
    (["a string"], {}, "not cut into words"),
])
def test_vocabularies_that_cannot_be(sentences, options, told):
    with pytest.raises(DataError, match=told): build_vocabulary(sentences, **options)


def test_corpus_as_numbers():
    v = build_vocabulary([["a", "b", "a"], ["a", "b"]], min_count=1)
    ids, ends = encode_corpus([["b", "x", "a"], ["x"], [], ["a"]], v)
    assert ids.tolist() == [1, 0, 0] and ends.tolist() == [2, 3] and (ids.dtype, ends.dtype) == (np.int32, np.int64)
    with pytest.raises(DataError, match="read once"): encode_corpus(iter([]), v)


def some(n=50, width=7, seed=0):
    m = np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32) * np.float32(10.0) ** np.arange(-width + 2, 2, dtype=np.float32)
    return Vectors([f"wörd{i}" if i % 3 else f"字{i}" for i in range(n)], m)


@pytest.mark.parametrize("name, binary", [("v", False), ("v.vec", False), ("v.gz", False), ("v", True), ("v.bin", True), ("v.bin.gz", True)])
def test_round_trip_with_gensim(tmp_path, name, binary):
    v, path = some(), tmp_path / name
    write_vectors(v, path, binary)
    back = read_vectors(path)
    assert back.words == v.words and np.array_equal(back.matrix, v.matrix)
    theirs = KeyedVectors.load_word2vec_format(str(path), binary=binary)
    assert tuple(theirs.index_to_key) == v.words and np.array_equal(theirs.vectors, v.matrix)
    theirs.save_word2vec_format(str(tmp_path / f"theirs{name}"), binary=binary)
    again = read_vectors(tmp_path / f"theirs{name}")
    assert again.words == v.words and np.array_equal(again.matrix, v.matrix)
    assert read_vectors(path, most=3).words == v.words[:3]
    assert [n for n, _ in v.neighbours("字0", 5)] == [n for n, _ in theirs.most_similar("字0", topn=5)]


def test_original_binary_has_line_ends_and_glove_no_header(tmp_path):
    v = some(4, 3)
    rows = b"".join(w.encode() + b" " + r.tobytes() + b"\n" for w, r in zip(v.words, v.matrix))
    (tmp_path / "a.bin").write_bytes(b"4 3\n" + rows)
    assert np.array_equal(read_vectors(tmp_path / "a.bin").matrix, v.matrix)
    (tmp_path / "glove.txt").write_text("the 0.5 1 -2e-3\n. . . 1 2 3\nat 4 5 6 \n", "utf-8")
    g = read_vectors(tmp_path / "glove.txt")
    assert g.words == ("the", ". . .", "at") and np.allclose(g.matrix, [[0.5, 1, -0.002], [1, 2, 3], [4, 5, 6]])


BAD = {
    "ragged, short": ("2 3\na 1 2 3\nb 1 2\n", r"v:3: a row of another width: found '2 numbers', expected 3"),
    "ragged, long": ("2 3\na 1 2 3\nb 1 2 3 4\n", r"v:3: a row of another width: found '4 numbers'"),
    "mixed without header": ("a 1 2 3\nb 1 2 3\nc 1 2\n", r"v:3: a row of another width"),
    "header counts too many": ("3 2\na 1 2\nb 3 4\n", r"v:1: a header that counts other rows: found '3 2', expected 2 2"),
    "header counts too few": ("1 2\na 1 2\nb 3 4\n", r"v:3: more rows than the header counts"),
    "header of another width": ("2 5\na 1 2\nb 3 4\n", r"v:2: a row of another width: found '2 numbers', expected 5"),
    "header of nought": ("2 0\na\nb\n", r"v:1: a header that cannot be"),
    "twice": ("3 2\na 1 2\nb 1 2\na 3 4\n", r"v:4: a word with two vectors: found 'a'.*number 1"),
    "nan": ("2 2\na 1 2\nb nan 2\n", r"v:3: a vector that is no number: found 'b'"),
    "inf": ("2 2\na 1 2\nb 1 -inf\n", r"v:3: a vector that is no number"),
    "both infinities": ("2 2\na 1 2\nb inf -inf\n", r"v:3: a vector that is no number"),
    "text": ("2 2\na 1 2\nb 1 two\n", r"v:3: a field that is no number: found 'two'"),
    "no word": ("2 2\n 1 2\nb 1 2\n", r"v:2: a row without a word"),
    "only a header": ("2 2\n", r"v: no vector"),
    "empty": ("", r"v: no text"),
    "prose": ("This is a sentence about vectors\n", r"v:1: a field that is no number"),
    "one word": ("word\n", r"v:1: a row of another width|v:1: a field"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_text(tmp_path, name):
    content, told = BAD[name]
    (tmp_path / "v").write_text(content, "utf-8")
    with pytest.raises(DataError, match=told): read_vectors(tmp_path / "v")


def test_bad_bytes(tmp_path):
    path, v = tmp_path / "v", some(5, 4)
    path.write_bytes("2 2\na 1 2\n".encode() + b"caf\xe9 1 2\n")
    with pytest.raises(DataError, match="v:3: not UTF-8"): read_vectors(path)
    whole = write_vectors(v, path, binary=True).read_bytes()
    for cut in (len(whole) - 2, len(whole) - 20, len(whole) // 2):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match="cut short"): read_vectors(path)
    for header, told in ((b"4 4\n", "more bytes than"), (b"6 4\n", "cut short"), (b"5 3\n", "not UTF-8|more bytes|two vectors|without an end")):
        path.write_bytes(header + whole[4:])
        with pytest.raises(DataError, match=told): read_vectors(path)
    path.write_bytes(whole.replace(v.matrix[2].tobytes(), np.array([1, np.nan, 3, 4], "<f4").tobytes()))
    with pytest.raises(DataError, match="no number: found '" + v.words[2]): read_vectors(path)
    path.write_bytes(gzip.compress(whole)[:-9])
    with pytest.raises(DataError, match="gzip|cut short"): read_vectors(path)
    with pytest.raises(DataError, match="no such file"): read_vectors(tmp_path / "none.vec")


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "v"
    path.write_bytes(content)
    try: assert len(read_vectors(path))
    except DataError: pass


def test_vectors_refuse_and_find(tmp_path):
    m = np.eye(3, 2, dtype=np.float32)
    for words, matrix, told in ((("a", "b"), m, "do not fit"), (("a", "b", "a"), m, "two vectors: found 'a'"), (("a", "b", "c"), m * np.nan, "no number")):
        with pytest.raises(DataError, match=told): Vectors(words, matrix)
    v = Vectors(("a", "b", "c"), m)
    with pytest.raises(DataError, match="without a vector: found 'z'"): v["z"]
    with pytest.raises(DataError, match="unknown step"): v.normalised("whiten")
    assert v.first(2).words == ("a", "b") and v.width == 2 and v.neighbours(np.array([0, 2.0]), 1) == [("b", 1.0)]
    with pytest.raises(DataError, match="cannot hold"): write_vectors(Vectors(("a b",), m[:1]), tmp_path / "v")


def test_normalising_in_order():
    v, m = some(), some().matrix
    assert np.allclose(np.linalg.norm(v.normalised("unit").matrix, axis=1), 1, atol=1e-6)
    assert np.allclose(v.normalised("centre").matrix, m - m.mean(0), atol=1e-5)
    both = m / np.linalg.norm(m, axis=1, keepdims=True)
    both -= both.mean(0)
    assert np.allclose(v.normalised("unit", "centre", "unit").matrix, both / np.linalg.norm(both, axis=1, keepdims=True), atol=1e-5)
    assert (unit_rows(np.zeros((2, 3))) == 0).all()
