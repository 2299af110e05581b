"Vocabularies of many languages: weighted lines, clusters, their union, and what bad input is told."
from unicodedata import normalize

import pytest

from xlt_lib.data.errors import DataError
from xlt_lib.data.tokenizers import open_tokenizer, train_tokenizer
from xlt_lib.data.world import the_world
from xlt_lib.encoders.sharing import clustered_tokenizer, language_clusters, weighted_lines

said = {c: [s.text for s in the_world().sentences(c, "unlabelled")[:n]] for c, n in (("en", 300), ("fr", 150), ("hi", 80), ("sw", 40))}


@pytest.mark.parametrize("exponent", [0.0, 0.3, 1.0])
def test_shares_of_the_lines(exponent):
    lines = weighted_lines(said, exponent, 1000)
    weights = {c: len(r) ** exponent for c, r in said.items()}
    for code, rows in said.items():
        mine = [s for s in lines if s in set(rows)]
        assert len(mine) == pytest.approx(1000 * weights[code] / sum(weights.values()), abs=1)
        assert mine[:len(rows)] == rows[:len(mine)]         # in their order, from the beginning again
    assert weighted_lines(said, 1.0) == [s for rows in said.values() for s in rows]


def test_languages_of_one_script_lie_together_and_every_language_lies_somewhere():
    assert language_clusters(said, 2) == [["en", "fr", "sw"], ["hi"]]
    assert language_clusters(said, 1) == [list(said)] and language_clusters(said, 4) == sorted([c] for c in said)
    assert language_clusters(said, 3) == language_clusters(said, 3)


def test_the_union_has_each_piece_once_with_its_best_score_and_stays_within_the_size(tmp_path):
    groups = [["en", "fr", "sw"], ["hi"]]
    made = clustered_tokenizer(said, groups, 900)
    pieces = made.get_vocab()
    assert len(made) <= 900 and sorted(pieces.values()) == list(range(len(made)))
    for rows in said.values():
        known = [text for text in rows[:20] if made.unk_token_id not in made(text)["input_ids"]]
        assert len(known) >= 17                         # 99.95 % of the characters are known, a rare one is not
        for text in known: assert made.decode(made(text)["input_ids"], skip_special_tokens=True) == normalize("NFKC", " ".join(text.split()))
    ids = made("Amina")["input_ids"]
    assert (ids[0], ids[-1]) == (made.cls_token_id, made.sep_token_id) and made.unk_token_id not in made("नमस्ते Amina")["input_ids"][1:2]
    made.save_pretrained(tmp_path)
    assert open_tokenizer(tmp_path)("Amina anaishi.")["input_ids"] == made("Amina anaishi.")["input_ids"]
    assert clustered_tokenizer(said, groups, 900).get_vocab() == pieces


def test_one_cluster_is_the_weighted_vocabulary():
    one, plain = clustered_tokenizer(said, [list(said)], 700, exponent=0.5), train_tokenizer(weighted_lines(said, 0.5), size=700)
    assert one.tokenize("The nurse helps the patient.") == plain.tokenize("The nurse helps the patient.")


@pytest.mark.parametrize("call, says", [
    (lambda: weighted_lines({"en": ["a"], "yo": []}, 0.5), "a language without text: found 'yo'"), (lambda: language_clusters(said, 5), "clusters: found 5"),
    (lambda: language_clusters(said, 0), "clusters: found 0"), (lambda: clustered_tokenizer(said, [["en"], ["hi"]], 60), "a vocabulary that its characters fill")])
def test_bad_input(call, says):
    with pytest.raises(DataError, match=says): call()
