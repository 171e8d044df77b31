# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Model shapes: a small catalogue, and any other model from its Hugging Face ``config.json``.

Keys and defaults are read as vLLM reads them: ``transformers_utils/model_arch_config_convertor.py``
and ``config/model.py`` of 0.33.0, and the classes in ``model_executor/models``.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction
from pathlib import Path
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import Model, Refusal

_DATA = Path(__file__).parent / "data" / "models.json"

# vLLM serves float32 checkpoints in half precision too (config/model.py, _get_and_verify_dtype).
_DTYPE_BYTES = 2

# Keys of config.json that, when set to anything but null, 0, false or nothing, mean a model that
# the planner cannot predict, and what it has.
_UNSUPPORTED: tuple[tuple[str, str], ...] = (
    ("kv_lora_rank", "multi-head latent attention (MLA)"),
    ("is_encoder_decoder", "an encoder and a decoder"),
    ("cross_attention_layers", "cross attention"),
    ("add_cross_attention", "cross attention"),
    ("attention_chunk_size", "chunked local attention"),
    ("state_size", "Mamba layers"),
    ("ssm_cfg", "Mamba layers"),
    ("mamba_d_state", "Mamba layers"),
    ("mamba_num_heads", "Mamba layers"),
    ("hybrid_override_pattern", "Mamba layers"),
    ("layers_block_type", "Mamba layers"),
    ("attn_layer_period", "Mamba layers"),
    ("block_types", "recurrent layers"),
    ("conv_L_cache", "convolution layers"),
    ("linear_attn_config", "linear attention"),
    ("linear_num_key_heads", "linear attention"),
    ("attn_type_list", "linear attention"),
    ("rwkv_version", "linear attention"),
    ("num_kv_shared_layers", "layers that share their KV cache"),
    ("global_head_dim", "attention layers of different shape"),
    ("num_global_key_value_heads", "attention layers of different shape"),
    ("block_configs", "attention layers of different shape"),
    ("per_layer_config", "attention layers of different shape"),
)

# Pooling and classification models end otherwise: BertModel, LlamaForSequenceClassification.
_GENERATES_TEXT = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")

# Every n-th layer is full where config.json has no layer_types: the classes in transformers and
# model_executor/models (gpt_oss.py: every other layer, whatever the file says).
_FULL_EVERY = {"GptOss": 2, "Gemma2": 2, "Gemma3": 6, "Cohere2": 4}

# transformers leaves a nested config's class defaults out of the file (Gemma3TextConfig).
_CLASS_DEFAULTS: dict[str, dict[str, Any]] = {
    "gemma3_text": {
        "vocab_size": 262208,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
    }
}
_TIED_EMBEDDINGS = ("Gemma", "Cohere")
_FOUR_NORMS = ("Gemma2", "Gemma3")
_NORMED_HEADS = ("Qwen3", "Gemma3")
_BIASED_QKV = ("Qwen2",)
_UNGATED_MLP = ("Starcoder2", "Nemotron", "Phi", "Arcee", "GPT", "OPT", "Falcon")
_GATED_MLP = ("Phi3", "Phi4", "PhiMoE", "Phimoe")

_LENGTH_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
_LENGTH_WITHOUT_KEY = 2048
# These leave max_position_embeddings as it is; linear and dynamic multiply it by their factor.
# Before 0.30.0 yarn took original_max_position_embeddings x factor; the smaller one holds for all.
_ROPE_WITHOUT_FACTOR = ("su", "longrope", "llama3", "yarn", "deepseek_yarn", "default", "mrope")

_EXPERT_KEYS = ("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts")
_EXPERTS_PER_TOKEN_KEYS = ("num_experts_per_tok", "moe_topk", "moe_k", "top_k_experts")

# Architecture, name, tool call parser, reasoning parser: vLLM's own names, from its pages
# features/tool_calling.md and features/reasoning_outputs.md. The first row that fits counts.
_PARSERS: tuple[tuple[str, str, str, str], ...] = (
    ("GptOssForCausalLM", "", "openai", "openai_gptoss"),
    ("Qwen3(Moe)?ForCausalLM", "coder", "qwen3_coder", ""),
    ("Qwen3(Moe)?ForCausalLM", "instruct|base", "hermes", ""),
    ("Qwen3(Moe)?ForCausalLM", "thinking", "hermes", "deepseek_r1"),
    ("Qwen3(Moe)?ForCausalLM", "", "hermes", "qwen3"),
    ("Qwen2ForCausalLM", "qwq", "hermes", "deepseek_r1"),
    ("Qwen2ForCausalLM", "qwen", "hermes", ""),
    ("LlamaForCausalLM", r"llama-3\.[123].*instruct", "llama3_json", ""),
    ("MistralForCausalLM", "mistral.*instruct-v0.3", "mistral", ""),
)
# vllm/entrypoints/openai/tool_parsers and vllm/reasoning; all others are older than 0.10.1.
PARSERS_SINCE = {"openai": "0.10.2", "openai_gptoss": "0.10.2"}


@functools.cache
def model(name: str) -> Model:
    """The catalogue's model of that Hugging Face id, or of its last part.

    :param name: ``openai/gpt-oss-20b``, ``gpt-oss-20b``, or either with ``@revision``.
    :raises Refusal: the catalogue has no such model.
    """
    wanted = name.partition("@")[0].lower()
    for known, entry in _catalogue().items():
        if wanted in (known.lower(), known.lower().rpartition("/")[2]):
            return from_config(known, entry["config"], entry["checkpoint_bytes"])
    short = {known.lower().rpartition("/")[2]: known for known in _catalogue()}
    near = get_close_matches(wanted.rpartition("/")[2], short, n=3, cutoff=0.5) or sorted(short)
    raise Refusal(
        f"Model {name} is not in the catalogue, which has"
        f" {', '.join(short[key] for key in near)};"
        " give one of these or a directory with the model's config.json."
    )


def models() -> tuple[str, ...]:
    """Names of the catalogue's models."""
    return tuple(_catalogue())


def from_config(name: str, config: Mapping[str, Any], checkpoint_bytes: int | None = None) -> Model:
    """The shape of a model from its ``config.json``.

    :param name: Hugging Face id or directory; the parsers of some families depend on it.
    :param checkpoint_bytes: size of the weight files; worked out from the shape where missing.
    :raises Refusal: a kind of model that cannot be predicted, or a key that is missing.
    """
    architecture = _architecture(name, config)
    text = _text_config(config)
    _refuse_unsupported(name, config, text)
    full, sliding, window = _attention_layers(name, architecture, text)
    heads = _number(name, text, "num_attention_heads")
    hidden = _number(name, text, "hidden_size")
    experts = _first(text, _EXPERT_KEYS)
    shape = Model(
        name=name,
        architecture=architecture,
        hidden_size=hidden,
        intermediate_size=_expert_size(text) if experts else _mlp_size(name, text),
        attention_heads=heads,
        kv_heads=_first(text, ("num_key_value_heads",)) or heads,
        head_dim=_first(text, ("head_dim",)) or hidden // heads,
        full_layers=full,
        sliding_layers=sliding,
        sliding_window=window,
        vocabulary=_number(name, text, "vocab_size"),
        max_model_len=_max_model_len(text),
        experts=experts,
        experts_per_token=_first(text, _EXPERTS_PER_TOKEN_KEYS) if experts else 0,
        quantization=_quantization(config, text).get("quant_method", ""),
        dtype_bytes=_DTYPE_BYTES,
        checkpoint_bytes=0,
        expert_bytes=0,
        embedding_bytes=0,
        attention_sinks=architecture == "GptOssForCausalLM",
        **_parsers(architecture, name),
    )
    return _with_sizes(shape, config, text, checkpoint_bytes)


def tensor_parallel_sizes(model: Model) -> tuple[int, ...]:
    """Numbers of GPUs that vLLM can split the model over.

    Attention heads are divided evenly, KV heads divided or replicated evenly, MLP columns
    divided evenly; MXFP4 experts and the vocabulary are padded.
    """
    padded = model.quantization == "mxfp4"
    return tuple(
        size
        for size in range(1, model.attention_heads + 1)
        if model.attention_heads % size == 0
        and (model.kv_heads % size == 0 or size % model.kv_heads == 0)
        and (padded or model.intermediate_size % size == 0)
    )


@functools.cache
def _catalogue() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(_DATA.read_text(encoding="utf-8"))["models"]
    return read


# --- keys


def _architecture(name: str, config: Mapping[str, Any]) -> str:
    architectures = config.get("architectures")
    if not architectures:
        raise Refusal(f"config.json of {name} lacks architectures; vLLM needs it too.")
    first = str(architectures[0])
    if not first.endswith(_GENERATES_TEXT):
        raise Refusal(
            f"Model {name} is a {first}, which generates no text; the planner knows models that do."
        )
    return first


def _text_config(config: Mapping[str, Any]) -> dict[str, Any]:
    text = {**config, **(config.get("text_config") or {})}
    return {**_CLASS_DEFAULTS.get(text.get("model_type", ""), {}), **text}


def _refuse_unsupported(name: str, config: Mapping[str, Any], text: Mapping[str, Any]) -> None:
    for key, what in _UNSUPPORTED:
        if text.get(key) or config.get(key):
            raise Refusal(
                f"Model {name} has {what} ({key} in its config.json),"
                " whose memory the planner cannot predict; plan it by hand with vllm serve."
            )
    others = sorted(set(text.get("layer_types") or ()) - {"full_attention", "sliding_attention"})
    if others:
        raise Refusal(
            f"Model {name} has layers of type {', '.join(others)} (layer_types in its"
            " config.json), whose memory the planner cannot predict;"
            " plan it by hand with vllm serve."
        )


def _number(name: str, text: Mapping[str, Any], key: str) -> int:
    value = text.get(key)
    if not isinstance(value, int) or value <= 0:
        wrong = f"lacks {key}" if value is None else f"has {key}: {value}"
        raise Refusal(f"config.json of {name} {wrong}; the planner needs a whole number there.")
    return value


def _first(text: Mapping[str, Any], keys: Iterable[str]) -> int:
    """The first of these keys that is set, or 0."""
    for key in keys:
        value = text.get(key)
        if isinstance(value, list):  # Some remote code repeats one number for every layer.
            value = value[0] if value else None
        if value:
            return int(value)
    return 0


def _expert_size(text: Mapping[str, Any]) -> int:
    return _first(text, ("moe_intermediate_size", "intermediate_size"))


def _mlp_size(name: str, text: Mapping[str, Any]) -> int:
    return _number(name, text, "intermediate_size")


def _is(architecture: str, families: Iterable[str]) -> bool:
    return architecture.startswith(tuple(families))


def _attention_layers(
    name: str, architecture: str, text: Mapping[str, Any]
) -> tuple[int, int, int]:
    """Full layers, sliding layers, window in tokens."""
    layers = _number(name, text, "num_hidden_layers")
    window = text.get("sliding_window") or 0
    # Qwen's classes ignore the window unless told to use it.
    if not window or not text.get("use_sliding_window", not architecture.startswith("Qwen")):
        return layers, 0, 0
    kinds = text.get("layer_types")
    if kinds and architecture != "GptOssForCausalLM":
        sliding = kinds[:layers].count("sliding_attention")
        return layers - sliding, sliding, window if sliding else 0
    if architecture.startswith("Qwen") and (text.get("max_window_layers") or layers) < layers:
        raise Refusal(
            f"Model {name} has a sliding window in some layers only (max_window_layers in its"
            " config.json), which vLLM does not serve for Qwen; set use_sliding_window to false."
        )
    every = next((n for key, n in _FULL_EVERY.items() if architecture.startswith(key)), 0)
    every = _first(text, ("sliding_window_pattern", "_sliding_window_pattern")) or every
    full = layers // every if every else 0
    return full, layers - full, window


def _max_model_len(text: Mapping[str, Any]) -> int:
    lengths = [int(text[key]) for key in _LENGTH_KEYS if text.get(key)]
    length = int(text.get("model_max_length") or min(lengths, default=_LENGTH_WITHOUT_KEY))
    # Gemma 3 states its scaled length.
    if "gemma3" in text.get("model_type", ""):
        return length
    for rope in _ropes(text):
        kind = rope.get("rope_type") or rope.get("type") or "default"
        factor = rope.get("factor") or 1.0
        original = rope.get("original_max_position_embeddings")
        if kind == "yarn" and original:
            length = min(length, int(original * factor))
        elif kind not in _ROPE_WITHOUT_FACTOR:
            return int(length * factor)  # one factor, however many layer types have it
    return length


def _ropes(text: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    rope = text.get("rope_scaling") or text.get("rope_parameters") or {}
    nested = [value for value in rope.values() if isinstance(value, Mapping)]
    return nested or [rope]


def _parsers(architecture: str, name: str) -> dict[str, str]:
    for pattern, part_of_name, tool, reasoning in _PARSERS:
        if re.fullmatch(pattern, architecture) and re.search(part_of_name, name, re.IGNORECASE):
            return {"tool_call_parser": tool, "reasoning_parser": reasoning}
    return {}


# --- sizes


@dataclass(frozen=True)
class _Weights:
    """Numbers of weights, by what a quantization does to them."""

    attention: int
    mlp: int
    experts: int
    expert_biases: int
    embeddings: int
    rest: int


def _with_sizes(
    shape: Model,
    config: Mapping[str, Any],
    text: Mapping[str, Any],
    checkpoint_bytes: int | None,
) -> Model:
    weights = _count(shape, text)
    settings = _quantization(config, text)
    quantized = weights.experts + (weights.mlp if shape.quantization != "mxfp4" else 0)
    if shape.quantization != "mxfp4" and "attn" not in str(_left_out(settings)):
        quantized += weights.attention
    plain = sum(vars(weights).values()) - quantized
    plain_bytes = plain * _DTYPE_BYTES + _vision_bytes(config)
    each = _bytes_each(shape, settings)
    if each is None:
        if checkpoint_bytes is None:
            raise Refusal(
                f"Model {shape.name} is quantized with {shape.quantization}, whose size the planner"
                " cannot work out; give the size of its weight files."
            )
        each = Fraction(max(checkpoint_bytes - plain_bytes, 0), quantized)
    return Model(
        **{
            **vars(shape),
            "checkpoint_bytes": checkpoint_bytes or int(plain_bytes + quantized * each),
            "expert_bytes": int(weights.experts * each) + weights.expert_biases * _DTYPE_BYTES,
            "embedding_bytes": weights.embeddings * _DTYPE_BYTES,
        }
    )


def _count(shape: Model, text: Mapping[str, Any]) -> _Weights:
    hidden, heads, head_dim = shape.hidden_size, shape.attention_heads, shape.head_dim
    architecture, layers = shape.architecture, shape.layers
    queries, keys = heads * head_dim, shape.kv_heads * head_dim
    moe_layers = len(_moe_layers(shape, text))
    matrices = 3 if _gated(architecture) else 2
    shared = _first(text, ("shared_expert_intermediate_size",)) or (
        _first(text, ("n_shared_experts",)) * shape.intermediate_size
    )
    dense_size = 0 if moe_layers == layers else _mlp_size(shape.name, text)
    biased = shape.attention_sinks
    per_layer = (4 if _is(architecture, _FOUR_NORMS) else 2) * hidden
    if _is(architecture, _NORMED_HEADS):
        per_layer += 2 * head_dim
    if text.get("attention_bias"):
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


def _gated(architecture: str) -> bool:
    return _is(architecture, _GATED_MLP) or not _is(architecture, _UNGATED_MLP)


def _tied(architecture: str, text: Mapping[str, Any]) -> bool:
    return bool(text.get("tie_word_embeddings", _is(architecture, _TIED_EMBEDDINGS)))


def _moe_layers(shape: Model, text: Mapping[str, Any]) -> list[int]:
    """Layers with experts: not the first dense ones, not those in between."""
    if not shape.experts:
        return []
    dense = set(text.get("mlp_only_layers") or ()) | set(
        range(_first(text, ("first_k_dense_replace",)))
    )
    step = _first(text, ("decoder_sparse_step", "moe_layer_freq")) or 1
    return [n for n in range(shape.layers) if n not in dense and (n + 1) % step == 0]


def _vision_bytes(config: Mapping[str, Any]) -> int:
    """The image encoder, about: its attention and MLP matrices."""
    vision = config.get("vision_config") or {}
    hidden = _first(vision, ("hidden_size", "embed_dim"))
    layers = _first(vision, ("num_hidden_layers", "depth"))
    inner = _first(vision, ("intermediate_size",)) or 4 * hidden
    return layers * (4 * hidden * hidden + 2 * hidden * inner) * _DTYPE_BYTES


def _quantization(config: Mapping[str, Any], text: Mapping[str, Any]) -> dict[str, Any]:
    settings = dict(
        config.get("quantization_config")
        or text.get("quantization_config")
        or config.get("compression_config")
        or {}
    )
    if settings:
        method = str(settings.get("quant_method") or "compressed-tensors").lower()
        settings["quant_method"] = method.replace("_tensors", "-tensors")
    return settings


def _left_out(settings: Mapping[str, Any]) -> list[Any]:
    for key in ("modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules"):
        if settings.get(key):
            return list(settings[key])
    return []


def _bytes_each(shape: Model, settings: Mapping[str, Any]) -> Fraction | None:
    """Bytes of one quantized weight with its share of scales and zero points."""
    method = shape.quantization
    if not method:
        return Fraction(_DTYPE_BYTES)
    if method in ("awq", "gptq"):
        bits = _first(settings, ("bits", "w_bit")) or 4
        group = _first(settings, ("group_size", "q_group_size")) or 128
        return _grouped(bits, group, 16 + bits) if group > 0 else Fraction(bits, 8)
    if method == "compressed-tensors":
        return _compressed_tensors(settings)
    if method in ("fp8", "fbgemm_fp8"):
        block = settings.get("weight_block_size") or (0, 0)
        return Fraction(1) + (Fraction(4, block[0] * block[1]) if all(block) else 0)
    if method == "bitsandbytes":
        if settings.get("load_in_8bit"):
            return Fraction(1)
        return _grouped(4, 64, 8 if settings.get("bnb_4bit_use_double_quant") else 32)
    if method in ("modelopt", "modelopt_fp4"):
        nvfp4 = method.endswith("fp4") or settings.get("quant_algo") == "NVFP4"
        return _grouped(4, 16, 8) if nvfp4 else Fraction(1)
    # E2M1 in blocks of 32 with one byte of scale (OCP Microscaling Formats 1.0).
    return _grouped(4, 32, 8) if method == "mxfp4" else None


def _compressed_tensors(settings: Mapping[str, Any]) -> Fraction | None:
    groups = settings.get("config_groups") or {}
    weights = next((group.get("weights") for group in groups.values()), None)
    if not weights:
        return None
    bits, group = int(weights["num_bits"]), _first(weights, ("group_size",))
    if group <= 0:
        return Fraction(bits, 8)
    float4 = bits == 4 and weights.get("type") == "float"
    return _grouped(bits, group, 8 if float4 else 16)


def _grouped(bits: int, group: int, scale_bits: int) -> Fraction:
    return (bits + Fraction(scale_bits, group)) / 8
