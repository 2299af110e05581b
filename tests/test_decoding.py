"""Beam search is what it should be: the plain version's, Hugging Face's, and the best there is where the beam holds everything."""
from functools import lru_cache
from itertools import product

import pytest
import torch
from torch import nn
from transformers import LogitsProcessor, LogitsProcessorList
from twin import translator

from xlt_lib.data.errors import DataError
from xlt_lib.data.tokenizers import train_tokenizer
from xlt_lib.encoders.batches import Collator
from xlt_lib.encoders.transformer import new_encoder
from xlt_lib.transfer.decoding import beam_search, greedy
from xlt_lib.transfer.heads import TokenHead
from xlt_lib.transfer.multitask import MultiTaskModel
from xlt_lib.transfer.translation import TranslationHead

LANGUAGES = ("sw", "yo")
SOURCES = [" ".join(letters) for n in (6, 1, 3, 2, 5) for letters in list(product("ab", repeat=n))[1:9]]     # of many lengths, in no order


@lru_cache
def model(seed=7):
    "A translator with random weights over eight subwords: it ends early, late, and everywhere between."
    tokenizer = train_tokenizer(["a b", "b a a", "a", "b b"], kind="bpe", size=8)
    torch.manual_seed(seed)
    encoder = new_encoder("xlm-roberta", tokenizer, layers=1, width=16, heads=2, max_length=32, seed=seed)
    head = TranslationHead(encoder.model.get_input_embeddings(), LANGUAGES, layers=2, heads=2, max_length=24)
    for p in [*head.parameters(), *encoder.model.parameters()]:
        if p.ndim > 1: nn.init.normal_(p)       # large weights: sources and hypotheses differ, and few are cut at the limit
    return MultiTaskModel(encoder, {"mt": head, "ner": TokenHead(16, ("O", "B-PER"))}).eval()


@torch.no_grad()
def log_probabilities(model, source, written, language="sw"):
    "Of what may come after each of some beginnings, all of one length: no cache, the whole row every time."
    head, ids = model.heads["mt"], model.tokenizer([source])["input_ids"]
    batch = Collator(model.tokenizer.pad_token_id)([{"input_ids": i} for i in ids])
    states, n = model.states(batch), len(written)
    targets = torch.tensor([[head.languages.index(language), *w] for w in written])
    return head(states.expand(n, -1, -1), batch["attention_mask"].expand(n, -1), targets).log_softmax(-1)


def plain(model, source, beam, alpha, limit, language="sw"):
    "Beam search as one would tell it: lists of hypotheses, finished ones put aside, and nothing kept between steps."
    end, live, finished = model.tokenizer.sep_token_id, [(0.0, ())], []
    for length in range(1, limit + 1):
        said = log_probabilities(model, source, [w for _, w in live], language)[:, -1].tolist()
        told = [(score + p, (*w, k)) for (score, w), row in zip(live, said) for k, p in enumerate(row) if length < limit or k == end]
        told.sort(reverse=True)
        finished += [(score / length ** alpha, w) for score, w in told[:beam] if w[-1] == end]
        live = [(score, w) for score, w in told if w[-1] != end][:beam]
        if len(finished) >= beam or not live: break
    return max(finished)


def close(found, expected):
    "The same subwords, and scores that agree but for rounding."
    assert [t.ids for t in found] == [ids for _, ids in expected]
    assert max(abs(t.score - s) for t, (s, _) in zip(found, expected)) < 1e-4


@pytest.mark.parametrize("beam, alpha, limit", [(1, 1.0, 12), (2, 1.0, 12), (4, 0.0, 12), (4, 0.6, 20), (4, 1.0, 3), (4, 2.0, 20), (7, 1.0, 12), (4, 1.0, 1)])
def test_beam_search_is_the_plain_one_without_a_cache(beam, alpha, limit):
    found = beam_search(model(), SOURCES, "yo", beam=beam, length_penalty=alpha, max_length=limit)
    close(found, [plain(model(), s, beam, alpha, limit, "yo") for s in SOURCES])
    if limit == 20: assert len({len(t.ids) for t in found}) > 2      # they end at different times, so the batch shrinks


@pytest.mark.parametrize("seed", (2, 3, 7))
@pytest.mark.parametrize("language", LANGUAGES)
def test_greedy_is_beam_search_with_one_hypothesis(seed, language):
    one = beam_search(model(seed), SOURCES, language, beam=1, length_penalty=0.0)
    close(greedy(model(seed), SOURCES, language), [(t.score, t.ids) for t in one])
    assert [t.text for t in one] == [t.text for t in greedy(model(seed), SOURCES, language)]


def test_greedy_takes_the_most_probable_every_time():
    net, end = model(), model().tokenizer.sep_token_id
    for source, t in zip(SOURCES[:8], greedy(net, SOURCES[:8], "sw", max_length=9)):
        best = log_probabilities(net, source, [t.ids[:-1]])[0].argmax(-1).tolist()
        assert best[:-1] == list(t.ids[:-1]) and (best[-1] == end or len(t.ids) == 9)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 1.7])
def test_a_beam_that_holds_everything_finds_the_best_of_all_sequences(alpha):
    net, limit, sources = model(), 4, SOURCES[:6]
    end, pieces = net.tokenizer.sep_token_id, range(len(net.tokenizer))
    every = [(*w, end) for n in range(limit) for w in product([k for k in pieces if k != end], repeat=n)]
    expected = []
    for source in sources:
        scored = []
        for n in range(1, limit + 1):
            rows = [w for w in every if len(w) == n]
            p = log_probabilities(net, source, [w[:-1] for w in rows]).gather(2, torch.tensor(rows)[..., None]).sum((1, 2)) / n ** alpha
            scored += zip(p.tolist(), rows)
        expected.append(max(scored))
    assert len(every) == 400
    close(beam_search(net, sources, "sw", beam=400, length_penalty=alpha, max_length=limit), expected)
    few = beam_search(net, sources, "sw", beam=1, length_penalty=alpha, max_length=limit)
    assert any(t.ids != ids for t, (_, ids) in zip(few, expected))      # so the sources are not too easy


class OnlyEnd(LogitsProcessor):
    "Nothing but `end` may stand at a hypothesis' last place, with its own probability, as here."
    def __init__(self, end, limit): self.end, self.limit = end, limit

    def __call__(self, ids, scores):
        if ids.shape[1] < self.limit: return scores      # the one that is there before the first is the start
        return torch.full_like(scores, -torch.inf).index_copy(1, torch.tensor([self.end]), scores[:, [self.end]])


@pytest.mark.parametrize("alpha", [0.0, 1.0, 1.5])
@pytest.mark.parametrize("language", LANGUAGES)
def test_same_weights_same_sentences_as_hugging_face(alpha, language):
    net = model()
    twin, t = translator(net, tag=LANGUAGES.index(language)), net.tokenizer
    batch = t(SOURCES, return_tensors="pt", padding=True)
    told = twin.generate(**batch, num_beams=4, early_stopping=True, length_penalty=alpha, max_new_tokens=24, do_sample=False,
                         logits_processor=LogitsProcessorList([OnlyEnd(t.sep_token_id, 24)]), return_dict_in_generate=True, output_scores=True)
    rows = [tuple(row[1:row.index(t.sep_token_id) + 1]) for row in told.sequences.tolist()]
    close(beam_search(net, SOURCES, language, length_penalty=alpha), list(zip(told.sequences_scores.tolist(), rows)))


@pytest.mark.parametrize("search", [greedy, beam_search])
def test_every_hypothesis_ends_once_and_its_score_is_its_log_probability(search):
    net, end = model(), model().tokenizer.sep_token_id
    for source, t in zip(SOURCES, search(net, SOURCES, "sw", max_length=6)):
        assert t.ids.index(end) == len(t.ids) - 1 < 6
        p = log_probabilities(net, source, [t.ids[:-1]])[0].gather(1, torch.tensor(t.ids)[:, None]).sum().item()
        assert abs(t.score - (p if search is greedy else p / len(t.ids))) < 1e-4
        assert t.text == net.tokenizer.decode(list(t.ids), skip_special_tokens=True).strip()


@pytest.mark.parametrize("search", [greedy, beam_search])
def test_order_company_and_training_mode_change_nothing(search):
    net = model()
    together = search(net, SOURCES, "sw")
    close(search(net, SOURCES, "sw", tokens=16), [(t.score, t.ids) for t in together])
    close(search(net, SOURCES[::-1], "sw"), [(t.score, t.ids) for t in together[::-1]])
    close([search(net, [s], "sw")[0] for s in SOURCES[:10]], [(t.score, t.ids) for t in together[:10]])
    net.train(); again = search(net, SOURCES, "sw"); was = net.training; net.eval()
    assert was and again == together


def test_the_source_is_read_once_and_longer_outputs_are_not_read_again():
    net, passes, written = model(), [], []
    hooks = [net.encoder.register_forward_hook(lambda *told: passes.append(1)),
             net.heads["mt"].layers[0].cross.key.register_forward_hook(lambda *told: passes.append(2)),
             net.heads["mt"].layers[0].own.key.register_forward_hook(lambda module, given, made: written.append(made.shape[1]))]
    beam_search(net, SOURCES[:5], "sw", beam=3)
    for h in hooks: h.remove()
    assert passes == [1, 2] and written[0] == 1 and set(written[1:]) == {3}       # one new subword for each hypothesis


def test_a_longer_search_never_ends_with_less_where_nothing_is_pruned():
    "Without a penalty the best finished hypothesis of a beam that holds everything is at least as probable as a narrow beam's."
    wide, narrow = (beam_search(model(), SOURCES[:6], "yo", beam=b, length_penalty=0.0, max_length=3) for b in (80, 2))
    assert all(w.score >= n.score - 1e-5 for w, n in zip(wide, narrow))


def test_no_sources_no_translations(): assert greedy(model(), [], "sw") == beam_search(model(), [], "sw") == []


@pytest.mark.parametrize("settings, says", [
    ({"language": "zu"}, "not a language"), ({"language": None}, "sw yo"), ({"name": "mt2"}, "no such head"), ({"name": "ner"}, "TokenHead"),
    ({"sources": "a b"}, "list of sentences"), ({"sources": ["a", " "]}, "source 2"), ({"sources": ["a", None]}, "source 2"),
    ({"max_length": 0}, "1 to 24"), ({"max_length": 25}, "1 to 24")])
@pytest.mark.parametrize("search", [greedy, beam_search])
def test_bad_input(search, settings, says):
    with pytest.raises(DataError, match=says): search(**{"model": model(), "sources": ["a"], "language": "sw"} | settings)


@pytest.mark.parametrize("settings, says", [({"beam": 0}, "beam"), ({"length_penalty": -1.0}, "length_penalty"), ({"length_penalty": float("nan")}, "length_penalty")])
def test_bad_beams(settings, says):
    with pytest.raises(DataError, match=says): beam_search(model(), ["a"], "sw", **settings)
