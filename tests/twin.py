"""Hugging Face's classes with the weights of a translator of this kit: what its decoder and its beam search are checked and timed against."""
import copy

import torch
from torch import nn
from transformers import EncoderDecoderModel, MBartConfig, MBartForCausalLM

ATTENTION = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "out_proj"}
NORMS = ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm")


@torch.no_grad()
def naming(head):
    "The head's logits as a layer, with one more subword that is never written."
    pieces, size = head.tied[0].weight.shape
    layer = nn.Linear(size, pieces + 1)
    layer.weight[:-1], layer.weight[-1] = head.tied[0].weight, 0.0
    layer.bias[:-1], layer.bias[-1] = 0.0, -1e9
    return layer


def decoder(head, tag=0, pad=1):
    "mBART's decoder with the head's weights. It writes one language: that tag is one more subword, to begin with, and is never written."
    pieces, size = head.tied[0].weight.shape
    theirs = MBartForCausalLM(MBartConfig(
        vocab_size=pieces + 1, d_model=size, decoder_layers=len(head.layers), decoder_attention_heads=head.config["heads"], decoder_ffn_dim=4 * size,
        max_position_embeddings=head.max_length, pad_token_id=pad, dropout=0.0, tie_word_embeddings=False, is_decoder=True,
        add_cross_attention=True, forced_eos_token_id=None)).eval()
    theirs.lm_head, inner = naming(head), theirs.model.decoder
    with torch.no_grad():
        inner.embed_tokens.weight[:-1], inner.embed_tokens.weight[-1] = head.tied[0].weight, head.tags.weight[tag]
        inner.embed_positions.weight[2:] = head.places.weight       # BART's places begin at 2
    same = lambda ours, other: other.load_state_dict(ours.state_dict())
    same(head.first, inner.layernorm_embedding); same(head.last, inner.layer_norm)
    for a, b in zip(head.layers, inner.layers):
        for mine, attention in ((a.own, b.self_attn), (a.cross, b.encoder_attn)):
            for ours, linear in ATTENTION.items(): same(getattr(mine, ours), getattr(attention, linear))
        same(a.up, b.fc1); same(a.down, b.fc2)
        for mine, norm in zip(a.norms, NORMS): same(mine, getattr(b, norm))
    return theirs


def translator(model, name="mt", tag=0):
    "The whole of it: a copy of the encoder, mBART's decoder, and what `generate` needs to know."
    t = model.tokenizer
    made = EncoderDecoderModel(encoder=copy.deepcopy(model.encoder), decoder=decoder(model.heads[name], tag, t.pad_token_id)).eval()
    made.decoder.lm_head = naming(model.heads[name])     # `EncoderDecoderModel` gives a layer that is not its own new weights
    told = {"decoder_start_token_id": model.heads[name].tied[0].num_embeddings, "eos_token_id": t.sep_token_id, "pad_token_id": t.pad_token_id, "bos_token_id": None}
    for key, value in told.items(): setattr(made.generation_config, key, value); setattr(made.config, key, value)
    return made
