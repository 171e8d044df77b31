# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""How many bytes of weights a shape has, where nobody has measured the files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction

from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner import quantization
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.config_file import (
    MOST_EXPERTS,
    MOST_LAYERS,
    Section,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import Model, Refusal

# Architectures by what their classes in model_executor/models have.
_TIED_EMBEDDINGS = ("Gemma", "Cohere")
_FOUR_NORMS = ("Gemma2", "Gemma3")
_NORMED_HEADS = ("Qwen3", "Gemma3")
_BIASED_QKV = ("Qwen2",)
_UNGATED_MLP = ("Starcoder2", "Nemotron", "Phi", "Arcee", "GPT", "OPT", "Falcon")
_GATED_MLP = ("Phi3", "Phi4", "PhiMoE", "Phimoe")


@dataclass(frozen=True)
class _Weights:
    """Numbers of weights, by what a quantization does to them."""

    attention: int
    mlp: int
    experts: int
    expert_biases: int
    embeddings: int
    rest: int


def with_sizes(shape: Model, file: Section, text: Section, checkpoint_bytes: int | None) -> Model:
    """The shape with its three sizes in bytes.

    :param checkpoint_bytes: size of the weight files; worked out from the shape where missing.
    :raises Refusal: the size of a quantized weight is not known.
    """
    weights = _count(shape, text)
    settings = quantization.settings_of(file, text)
    quantized = weights.experts + (weights.mlp if shape.quantization != "mxfp4" else 0)
    if shape.quantization != "mxfp4" and "attn" not in str(quantization.left_out(settings)):
        quantized += weights.attention
    plain = sum(vars(weights).values()) - quantized
    plain_bytes = plain * quantization.DTYPE_BYTES + _vision_bytes(file.section("vision_config"))
    each = quantization.bytes_each(shape, settings)
    if each is None:
        if checkpoint_bytes is None:
            raise Refusal(
                f"Model {shape.name} is quantized with {shape.quantization}, whose size the planner"
                " cannot work out; give the size of its weight files."
            )
        each = Fraction(max(checkpoint_bytes - plain_bytes, 0), quantized)
    return replace(
        shape,
        checkpoint_bytes=checkpoint_bytes or int(plain_bytes + quantized * each),
        expert_bytes=int(weights.experts * each) + weights.expert_biases * quantization.DTYPE_BYTES,
        embedding_bytes=weights.embeddings * quantization.DTYPE_BYTES,
    )


def _count(shape: Model, text: Section) -> _Weights:
    hidden, heads, head_dim = shape.hidden_size, shape.attention_heads, shape.head_dim
    architecture, layers = shape.architecture, shape.layers
    queries, keys = heads * head_dim, shape.kv_heads * head_dim
    moe_layers = len(_moe_layers(shape, text))
    matrices = 3 if _gated(architecture) else 2
    shared = text.number("shared_expert_intermediate_size") or (
        text.number("n_shared_experts", most=MOST_EXPERTS) * shape.intermediate_size
    )
    dense_size = 0 if moe_layers == layers else text.needed("intermediate_size")
    biased = shape.attention_sinks
    per_layer = (4 if _is(architecture, _FOUR_NORMS) else 2) * hidden
    if _is(architecture, _NORMED_HEADS):
        per_layer += 2 * head_dim
    if text.flag("attention_bias"):
        per_layer += queries + 2 * keys + hidden
    elif _is(architecture, _BIASED_QKV):
        per_layer += queries + 2 * keys
    if shape.attention_sinks:
        per_layer += heads
    router = shape.experts * (hidden + biased)
    return _Weights(
        attention=layers * 2 * hidden * (queries + keys),
        mlp=matrices * hidden * (dense_size * (layers - moe_layers) + shared * moe_layers),
        experts=moe_layers * shape.experts * matrices * hidden * shape.intermediate_size,
        expert_biases=moe_layers * shape.experts * (2 * shape.intermediate_size + hidden) * biased,
        embeddings=shape.vocabulary * hidden * (1 if _tied(architecture, text) else 2),
        rest=layers * per_layer + moe_layers * router + hidden,
    )


def _is(architecture: str, families: Iterable[str]) -> bool:
    return architecture.startswith(tuple(families))


def _gated(architecture: str) -> bool:
    return _is(architecture, _GATED_MLP) or not _is(architecture, _UNGATED_MLP)


def _tied(architecture: str, text: Section) -> bool:
    return text.flag("tie_word_embeddings", _is(architecture, _TIED_EMBEDDINGS))


def _moe_layers(shape: Model, text: Section) -> list[int]:
    """Layers with experts: not the first dense ones, not those in between."""
    if not shape.experts:
        return []
    dense = set(text.items("mlp_only_layers", int))
    first = text.number("first_k_dense_replace", most=MOST_LAYERS)
    step = text.first(("decoder_sparse_step", "moe_layer_freq")) or 1
    return [n for n in range(first, shape.layers) if n not in dense and (n + 1) % step == 0]


def _vision_bytes(vision: Section) -> int:
    """The image encoder, about: its attention and MLP matrices."""
    hidden = vision.first(("hidden_size", "embed_dim"))
    layers = vision.first(("num_hidden_layers", "depth"))
    inner = vision.number("intermediate_size") or 4 * hidden
    return layers * (4 * hidden * hidden + 2 * hidden * inner) * quantization.DTYPE_BYTES
