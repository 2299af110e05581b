"""Published fastText files: gensim's loader as the witness, on files of the original program and of gensim; files that are broken."""
from pathlib import Path

import numpy as np
import pytest
from gensim.models.fasttext import load_facebook_vectors
from gensim.test.utils import datapath

from xlt_lib.data.errors import DataError
from xlt_lib.words.published import read_fasttext
from xlt_lib.words.vectors import read_vectors

# gensim's own test files, made by the original program; the first in Russian
FILES = ["crime-and-punishment.bin", "lee_fasttext_new.bin"]


@pytest.mark.parametrize("name", FILES)
def test_seen_and_unseen_words_are_gensims(name):
    ours, theirs = read_fasttext(datapath(name)), load_facebook_vectors(datapath(name))
    assert ours.words == tuple(theirs.index_to_key)
    for word in set(ours.words) - {"</s>"}: assert np.allclose(ours[word], theirs[word], atol=1e-5), word     # gensim gives the end of a sentence pieces, see below
    for word in ("night-and-day", "landlady's", "unerhört", "преступленья", "x"):
        if word in ours or not len(ours.pieces): continue
        try: mine = ours.vector(word)
        except DataError: continue                  # no piece of the word is as short as the file wants
        assert np.allclose(mine, theirs[word], atol=1e-5), word


@pytest.mark.parametrize("name", ["crime-and-punishment"])
def test_words_are_those_that_the_original_program_wrote(name):
    "The .vec file beside the .bin, the end of a sentence included, to the digits that it has."
    ours, theirs = read_fasttext(datapath(f"{name}.bin")), read_vectors(datapath(f"{name}.vec"))
    assert ours.words == theirs.words and "</s>" in ours
    assert np.allclose(ours.matrix, theirs.matrix, atol=2e-4)


def test_first_words_only():
    few, all_ = (read_fasttext(datapath("lee_fasttext_new.bin"), most) for most in (20, None))
    assert few.words == all_.words[:20] and np.array_equal(few.matrix, all_.matrix[:20]) and np.array_equal(few.vector("unheardofword"), all_.vector("unheardofword"))
    assert repr(few) == "<20 words, 10 numbers each>"


def test_broken_files(tmp_path):
    whole, path = Path(datapath("crime-and-punishment.bin")).read_bytes(), tmp_path / "x.bin"
    read_fasttext(datapath("crime-and-punishment.bin"))
    broken = [whole[:n] for n in (0, 5, 40, 80, 95, 100, 150, 2_000, len(whole) // 2)] + [b"\x1f\x8b" + whole, b"5 3\nword " + whole[:40],
              whole[:36] + (3).to_bytes(4, "little") + whole[40:],         # a classifier
              whole[:8] + (7).to_bytes(4, "little") + whole[12:],          # another width than the matrix has
              whole[:92] + b"\xff\xfe" + whole[94:]]                       # a word that is not UTF-8
    for content in broken:
        path.write_bytes(content)
        with pytest.raises(DataError, match="x.bin"): read_fasttext(path)
    with pytest.raises(DataError, match="classifier"): read_fasttext(datapath("pang_lee_polarity_fasttext.bin"))
    with pytest.raises(DataError): read_fasttext(tmp_path / "none.bin")
    with pytest.raises(DataError): read_fasttext(tmp_path)
