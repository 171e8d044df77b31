# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Weights of a two-layer gpt-oss that recites a script.

Every token of the script has a direction of its own in the residual stream, all other tokens
share one; `lm_head` maps a direction to its successor. One attention head of the first layer
looks for the cue token in its window and, once found, sets a flag dimension that turns
`<|channel|>analysis` into `<|channel|>final`. Everything else is small random noise, so that the
whole real computation (attention with sinks, router, experts) takes place.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from .config import CONFIG
from .script import Script

Noise = Callable[..., torch.Tensor]
Directions = dict[int, torch.Tensor]

HIDDEN: int = CONFIG["hidden_size"]
HEAD_DIM: int = CONFIG["head_dim"]
FLAG = HIDDEN - 1
"""Residual dimension that says: the cue was seen."""
NORM = math.sqrt(HIDDEN)
"""Length of a residual vector after RMSNorm with weight 1."""
NOISE = 0.02
STRONG, NEXT_BEST, WEAK, FLAG_GAIN = 10.0, 8.75, 7.0, 5.0
"""Rows of lm_head: a logit of NORM * STRONG = 80 for the successor, 70 for what follows the end
when the end is forbidden (its chance is exp(-10) otherwise), and 80 against 56 where the flag,
once set, turns the choice around."""
MATCH, SINK, FLAG_SIZE = 4.0, 28.0, 6.0
"""Query and key size of the cue head (score about 40 on the cue, at most 20 elsewhere), its
sink (28, between the two), and the value it writes."""
MAX_COSINE = 0.45


def directions(count: int, generator: torch.Generator) -> torch.Tensor:
    """`count` unit vectors without flag component, no two closer than MAX_COSINE."""
    chosen = torch.zeros(0, HIDDEN)
    while len(chosen) < count:
        vector = torch.randn(HIDDEN, generator=generator)
        vector[FLAG] = 0
        vector /= vector.norm()
        if not len(chosen) or (chosen @ vector).abs().max() < MAX_COSINE:
            chosen = torch.cat([chosen, vector[None]])
    return chosen


def make(script: Script, seed: int = 0) -> dict[str, torch.Tensor]:
    """All tensors of the checkpoint, bfloat16."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * NOISE

    other, *vectors = directions(1 + len(script.sources), generator)
    direction = dict(zip(script.sources, vectors))
    tensors = _layers(noise)
    tensors["model.embed_tokens.weight"] = _embedding(direction, other, noise)
    tensors["lm_head.weight"] = _head(script, direction, other, noise)
    tensors["model.norm.weight"] = torch.ones(HIDDEN)
    _add_cue_head(tensors, direction[script.cue])
    return {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in tensors.items()}


def _layers(noise: Noise) -> dict[str, torch.Tensor]:
    heads, kv_heads = CONFIG["num_attention_heads"], CONFIG["num_key_value_heads"]
    experts, inner = CONFIG["num_local_experts"], CONFIG["intermediate_size"]
    shapes = {
        "self_attn.q_proj.weight": (heads * HEAD_DIM, HIDDEN),
        "self_attn.q_proj.bias": (heads * HEAD_DIM,),
        "self_attn.k_proj.weight": (kv_heads * HEAD_DIM, HIDDEN),
        "self_attn.k_proj.bias": (kv_heads * HEAD_DIM,),
        "self_attn.v_proj.weight": (kv_heads * HEAD_DIM, HIDDEN),
        "self_attn.v_proj.bias": (kv_heads * HEAD_DIM,),
        "self_attn.o_proj.weight": (HIDDEN, heads * HEAD_DIM),
        "self_attn.o_proj.bias": (HIDDEN,),
        "self_attn.sinks": (heads,),
        "mlp.router.weight": (experts, HIDDEN),
        "mlp.router.bias": (experts,),
        "mlp.experts.gate_up_proj": (experts, HIDDEN, 2 * inner),
        "mlp.experts.gate_up_proj_bias": (experts, 2 * inner),
        "mlp.experts.down_proj": (experts, inner, HIDDEN),
        "mlp.experts.down_proj_bias": (experts, HIDDEN),
    }
    tensors = {}
    for layer in range(CONFIG["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        for name, shape in shapes.items():
            tensors[prefix + name] = noise(*shape)
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{prefix}{name}.weight"] = torch.ones(HIDDEN)
    return tensors


def _embedding(direction: Directions, other: torch.Tensor, noise: Noise) -> torch.Tensor:
    table = noise(CONFIG["vocab_size"], HIDDEN) + other * NORM
    for token, vector in direction.items():
        table[token] = vector * NORM
    return table


def _head(script: Script, direction: Directions, other: torch.Tensor, noise: Noise) -> torch.Tensor:
    rows = noise(CONFIG["vocab_size"], HIDDEN)
    for source in script.sources:
        vector = direction[source]
        before, after = script.first.get(source), script.second.get(source)
        if before is None or after is None or before == after:
            rows[after if before is None else before] += vector * STRONG
        else:
            rows[before] += vector * STRONG
            rows[before, FLAG] -= FLAG_GAIN
            rows[after] += vector * WEAK
            rows[after, FLAG] += FLAG_GAIN
    last, loop = script.loop
    rows[loop] += other * STRONG + direction[last] * NEXT_BEST
    return rows


def _add_cue_head(tensors: dict[str, torch.Tensor], cue: torch.Tensor) -> None:
    """Head 0 of layer 0: constant query, key = likeness to the cue, value = the flag.

    The last dimension of a head has the lowest rotary frequency, so the match does not depend on
    the distance within the sliding window.
    """
    prefix = "model.layers.0.self_attn."
    for name in ("q_proj.weight", "k_proj.weight", "v_proj.weight"):
        tensors[prefix + name][:HEAD_DIM] = 0
    for name in ("q_proj.bias", "k_proj.bias", "v_proj.bias"):
        tensors[prefix + name][:HEAD_DIM] = 0
    tensors[prefix + "q_proj.bias"][HEAD_DIM - 1] = MATCH
    tensors[prefix + "k_proj.weight"][HEAD_DIM - 1] = cue * MATCH
    tensors[prefix + "v_proj.weight"][0] = cue * FLAG_SIZE / NORM
    tensors[prefix + "o_proj.weight"][:, 0] = 0
    tensors[prefix + "o_proj.weight"][FLAG, 0] = 1
    tensors[prefix + "sinks"][0] = SINK
