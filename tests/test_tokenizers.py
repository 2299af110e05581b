"""Tokenizers are the same every time, open as ordinary folders, and give words and labels back as they got them."""
import hashlib
import os
import subprocess
import sys

import pytest
from conftest import REAL, needs_real

from xlt_lib.data.corpora import load
from xlt_lib.data.errors import DataError
from xlt_lib.data.grammar import Grammar
from xlt_lib.data.pieces import IGNORE, align, first_pieces, words_from_subwords
from xlt_lib.data.tokenizers import KINDS, SPECIAL, coverage, fertility, open_tokenizer, train_tokenizer
from xlt_lib.data.world import the_world


def said(split, n):
    "Language → its first n sentences of a split."
    world = the_world()
    return {c: [Grammar(world.lexicons[c], world.names).say(m) for m in world.meanings(split)[:n]] for c in world.languages}


@pytest.fixture(scope="module")
def texts(): return {c: [s.text for s in sentences] for c, sentences in said("unlabelled", 120).items()}


@pytest.fixture(scope="module")
def test_sentences(): return said("test", 40)


@pytest.fixture(scope="module")
def made(texts):
    everything = [t for c in texts for t in texts[c]]
    return {kind: train_tokenizer(everything, kind, size=3000) for kind in KINDS}


TRAIN = """
import hashlib, sys
from xlt_lib.data.tokenizers import KINDS, train_tokenizer
texts = sys.stdin.read().splitlines()
print(*[hashlib.sha256(train_tokenizer(texts, k, size=1500).backend_tokenizer.to_str().encode()).hexdigest() for k in KINDS])
"""


def test_the_same_text_gives_the_same_bytes_whatever_the_hash_seed_and_the_threads(texts):
    some = [t for c in ("en", "zu", "te", "ja") for t in texts[c]]
    here = [hashlib.sha256(train_tokenizer(some, k, size=1500).backend_tokenizer.to_str().encode()).hexdigest() for k in KINDS]
    for seed, threads in (("1", "1"), ("2", "4")):
        env = {**os.environ, "PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "true"}
        run = subprocess.run([sys.executable, "-c", TRAIN], input="\n".join(some), env=env, capture_output=True, text=True, check=True)
        assert run.stdout.split() == here, f"hash seed {seed}, {threads} threads"


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_folder_is_ordinary(made, kind, tmp_path, texts):
    from transformers import AutoTokenizer, XLMRobertaConfig
    made[kind].save_pretrained(tmp_path)
    some = [t for c in texts for t in texts[c][:5]]
    for _ in range(2):
        again = AutoTokenizer.from_pretrained(tmp_path)
        assert again(some)["input_ids"] == made[kind](some)["input_ids"] == open_tokenizer(tmp_path)(some)["input_ids"]
        assert again.convert_tokens_to_ids(list(SPECIAL)) == [0, 1, 2, 3, 4]
        assert (again.pad_token_id, again.mask_token_id, again.model_max_length, again.is_fast) == (1, 4, 512, True)
        XLMRobertaConfig(vocab_size=3000).save_pretrained(tmp_path)     # beside a model, the same
    assert again("a", "b")["input_ids"][0] == 0 and again("a", "b")["input_ids"].count(2) == 3   # <s> a </s> </s> b </s>


@pytest.mark.parametrize("kind", KINDS)
def test_size_is_kept_and_every_number_is_used_once(made, kind):
    numbers = sorted(made[kind].get_vocab().values())
    assert numbers == list(range(len(numbers))) and len(numbers) <= 3000


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_words_are_cut_as_text_is(made, kind, test_sentences):
    "Where words are separated by spaces, a list of words gives the very pieces of the text."
    for code in ("en", "sw", "yo", "zu", "hi", "te", "ar", "he"):
        for s in test_sentences[code]:
            assert made[kind].tokenize(s.text) == made[kind].tokenize(s.text.split(), is_split_into_words=True)


def test_normal_forms_and_spaces_do_not_matter(made):
    import unicodedata
    for text in ("Ẹ̀gbọ́n mi ni", "é à ñ", "कक्षा", "ガギグ"):
        forms = {tuple(made["unigram"].tokenize(unicodedata.normalize(f, text))) for f in ("NFC", "NFD", "NFKC", "NFKD")}
        assert len(forms) == 1
    assert made["bpe"].tokenize(" a\u3000\n b ") == made["bpe"].tokenize("a b")


def test_no_piece_crosses_a_border(made):
    for kind in KINDS:
        for piece in set(made[kind].get_vocab()) - set(SPECIAL):
            body = piece.removeprefix("▁")
            assert "▁" not in body and len(piece) <= 16
            assert len({(c.isalpha(), c.isdecimal()) for c in body if c.isalnum()}) <= 1, piece


@pytest.mark.parametrize("kind", KINDS)
def test_labels_go_there_and_back(made, kind, test_sentences):
    for sentences in test_sentences.values():
        for s in sentences:
            a = align(s.tokens, s.tags, made[kind])
            assert not a.lost and len(a.pieces) == len(a.input_ids) == len(a.labels) == len(a.word_ids)
            assert [x for x in a.labels if x != IGNORE] == s.tags and a.labels[0] == a.labels[-1] == IGNORE
            assert words_from_subwords(a.labels, a.word_ids, len(s.tokens)) == s.tags


def test_truncation_is_told(made, test_sentences):
    s = test_sentences["zu"][0]
    a = align(s.tokens, list(range(len(s.tokens))), made["bpe"], max_length=6)
    assert len(a.pieces) == 6 and a.lost == list(range(max(w for w in a.word_ids if w is not None) + 1, len(s.tokens)))
    back = words_from_subwords(a.labels, a.word_ids, len(s.tokens), missing=-1)
    assert back == [-1 if i in a.lost else i for i in range(len(s.tokens))]


def test_a_word_that_is_normalised_away_is_told():
    from tokenizers import normalizers
    t = train_tokenizer(["a b c"], "bpe", size=12)
    t.backend_tokenizer.normalizer = normalizers.Replace("\u200b", "")     # as XLM-R's does with a zero-width space
    a = align(["a", "\u200b", "b"], ["A", "Z", "B"], t)
    assert a.lost == [1] and words_from_subwords(a.labels, a.word_ids, 3) == ["A", "O", "B"]


def test_first_pieces_by_hand():
    assert first_pieces([None, 0, 0, 2, None]) == [IGNORE, 0, IGNORE, 2, IGNORE]
    assert words_from_subwords(["O", "B", "x", "C", "O"], [None, 0, 0, 2, None], 4) == ["B", "O", "C", "O"]


def test_fertility_by_hand(made):
    t = made["bpe"]
    words = [["water", "is", "expensive"], ["water"]]
    sizes = [[len(t.tokenize(w)) for w in s] for s in words]
    row = fertility(t, {"en": words})[0]
    assert row["pieces"] == sum(map(sum, sizes)) and row["words"] == 4 and row["pieces a sentence"] == row["pieces"] / 2
    assert row["pieces a word"] == row["pieces"] / 4
    assert row["words continued, %"] == 100 * sum(n > 1 for s in sizes for n in s) / 4
    assert fertility(t, {"en": [" ".join(s) for s in words]})[0] == row          # text with spaces: the same
    assert fertility(t, {"ja": ["水は高価だ"]})[0]["pieces a word"] is None
    assert fertility(t, {"ja": [["水", "は", "高価だ"]]})[0]["words"] == 3


def test_coverage_counts_what_is_unknown(made):
    row = coverage(made["unigram"], {"en": ["water ☃ is", "☃☃ a"]})[0]
    assert row["unknown characters"] == 1 and row["of running characters, %"] == pytest.approx(100 * 3 / 11)
    assert row["<unk> among pieces, %"] > 0
    assert coverage(made["unigram"], {"en": ["water"]})[0]["<unk> among pieces, %"] == 0


@pytest.mark.parametrize("call, says", [
    (lambda t: train_tokenizer([]), "no text"), (lambda t: train_tokenizer([" "]), "no text"),
    (lambda t: train_tokenizer("a text"), "Write [text]"), (lambda t: train_tokenizer(["a"], "bep"), "'bpe'"),
    (lambda t: train_tokenizer(["abc de"], size=10), "at least 11"),      # a b c d e, the mark, five special tokens
    (lambda t: align(["a", ""], ["O", "O"], t), "word 1 is empty"), (lambda t: align(["a", " "], ["O", "O"], t), "word 1"),
    (lambda t: align(["a"], ["O", "O"], t), "1 words, 2 labels"), (lambda t: align("ab", ["O", "O"], t), "a list"),
    (lambda t: words_from_subwords(["O"], [None, 0], 1), "1 labels, 2 pieces"),
    (lambda t: words_from_subwords(["O", "O"], [None, 3], 2), "below 2"),
    (lambda t: fertility(t, {"en": []}), "en: no sentences"), (lambda t: coverage(t, {"en": "text"}), "en: no sentences"),
    (lambda t: open_tokenizer("./no/such/folder"), "no such folder"),
])
def test_bad_input_is_explained(made, call, says):
    with pytest.raises(DataError) as e: call(made["bpe"])
    assert says in str(e.value)


def test_the_least_size_that_the_message_names_is_enough():
    assert len(train_tokenizer(["abc de"], "bpe", size=11)) == 11 and len(train_tokenizer(["abc de"], size=11)) == 11


def test_folders_without_a_tokenizer(tmp_path):
    with pytest.raises(DataError, match="found 'nothing'"): open_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match="without a tokenizer: found 'config.json'"): open_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "trunc')
    with pytest.raises(DataError, match="cannot open this tokenizer"): open_tokenizer(tmp_path)


@needs_real
def test_real_yoruba_loses_no_word():
    rows = load("ner", "yo", "train", source=REAL)
    words, tags = rows["tokens"][:1500], rows["tags"][:1500]
    t = train_tokenizer([" ".join(w) for w in words], size=4000)
    for w, y in zip(words, tags):
        a = align(w, y, t)
        assert not a.lost and words_from_subwords(a.labels, a.word_ids, len(w)) == y
    assert 1 < fertility(t, {"yo": words})[0]["pieces a word"] < 2
