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
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner import quantization
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.config_file import (
    MOST_EXPERTS,
    MOST_HEADS,
    MOST_LAYERS,
    Section,
    mapping,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import Model, Refusal
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.weights import with_sizes

_DATA = Path(__file__).parent / "data" / "models.json"

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

# Other spellings of num_key_value_heads, in vLLM's order (CONFIG_FIELD_ALIASES of 0.33.0).
_KV_HEAD_KEYS = (
    "n_head_kv",
    "num_kv_heads",
    "num_key_value_heads",
    "multi_query_group_num",
    "num_attention_groups",
)
_FALCON = ("falcon", "RefinedWeb", "RefinedWebModel")

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
    file = Section(f"config.json of {name}", mapping(name, config))
    architecture = _architecture(name, file)
    text = _text_config(file)
    _refuse_unsupported(name, config, text.values)
    full, sliding, window = _attention_layers(name, architecture, text)
    heads, kv_heads, head_dim = _heads(text)
    experts = text.first(_EXPERT_KEYS, most=MOST_EXPERTS)
    settings = quantization.settings_of(file, text)
    tool, reasoning = _parsers(architecture, name)
    shape = Model(
        name=name,
        architecture=architecture,
        hidden_size=text.needed("hidden_size"),
        intermediate_size=_expert_size(text) if experts else text.needed("intermediate_size"),
        attention_heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        full_layers=full,
        sliding_layers=sliding,
        sliding_window=window,
        vocabulary=text.needed("vocab_size"),
        max_model_len=_max_model_len(text),
        experts=experts,
        experts_per_token=text.first(_EXPERTS_PER_TOKEN_KEYS, most=experts) if experts else 0,
        quantization=quantization.method(settings),
        dtype_bytes=quantization.DTYPE_BYTES,
        checkpoint_bytes=0,
        expert_bytes=0,
        embedding_bytes=0,
        attention_sinks=architecture == "GptOssForCausalLM",
        tool_call_parser=tool,
        reasoning_parser=reasoning,
    )
    whole = with_sizes(shape, file, text, checkpoint_bytes)
    block = max(quantization.block(settings), default=0) if shape.quantization == "fp8" else 0
    return replace(whole, weight_block=block) if block else whole


@functools.lru_cache(maxsize=64)
def tensor_parallel_sizes(model: Model) -> tuple[int, ...]:
    """Numbers of GPUs that vLLM can split the model over.

    Attention heads are divided evenly, KV heads divided or replicated evenly, MLP columns
    divided evenly, in whole blocks where these have a scale in common; MXFP4 experts and the
    vocabulary are padded.
    """
    return tuple(size for size in range(1, model.attention_heads + 1) if not undivided(model, size))


def undivided(model: Model, size: int) -> str:
    """What so many GPUs cannot share evenly: ``the 64 attention heads``; empty where all is."""
    if model.attention_heads % size:
        return f"the {model.attention_heads} attention heads"
    if model.kv_heads % size and size % model.kv_heads:
        return f"the {model.kv_heads} KV heads"
    # validate_fp8_block_shape and _moe, which look at one GPU too; 0.33.0 can split a block of
    # experts, older ones refuse.
    block = model.weight_block
    if model.quantization == "mxfp4" or model.intermediate_size % (size * block) == 0:
        return ""
    whole = f" into whole blocks of {block}, which share a scale" * (block > 1)
    return f"the {model.intermediate_size:,} columns of the MLP{whole}"


@functools.cache
def _catalogue() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(_DATA.read_text(encoding="utf-8"))["models"]
    return read


def _architecture(name: str, file: Section) -> str:
    architectures = file.items("architectures", str)
    if not architectures:
        raise Refusal(f"config.json of {name} lacks architectures; vLLM needs it too.")
    first = architectures[0]
    if not first.endswith(_GENERATES_TEXT):
        raise Refusal(
            f"Model {name} is a {first}, which generates no text; the planner knows models that do."
        )
    return first


def _text_config(file: Section) -> Section:
    text = Section(file.where, {**file.values, **file.section("text_config").values})
    defaults = _CLASS_DEFAULTS.get(text.text("model_type"), {})
    return Section(file.where, {**defaults, **text.values})


def _refuse_unsupported(name: str, config: Mapping[str, Any], text: Mapping[str, Any]) -> None:
    for key, what in _UNSUPPORTED:
        if text.get(key) or config.get(key):
            raise Refusal(
                f"Model {name} has {what} ({key} in its config.json),"
                " whose memory the planner cannot predict; plan it by hand with vllm serve."
            )


def _heads(text: Section) -> tuple[int, int, int]:
    """Attention heads, heads of the KV cache, and numbers in one of them."""
    heads = text.needed("num_attention_heads", most=MOST_HEADS)
    key, kv_heads = _kv_heads(text, heads)
    if heads % kv_heads:
        raise Refusal(
            f"{text.where} has {key}: {kv_heads}, which does not divide the {heads} attention"
            " heads; restore the file."
        )
    hidden = text.needed("hidden_size")
    if hidden < heads:
        raise text.wrong("hidden_size", f"at least 1 for each of the {heads} attention heads")
    return heads, kv_heads, text.number("head_dim") or hidden // heads


def _kv_heads(text: Section, heads: int) -> tuple[str, int]:
    """Heads of the KV cache, and the key that says so."""
    falcon = text.text("model_type") in _FALCON
    # RWConfig: Falcon 40B is of the new kind, whatever its file says, and the rest share one head
    # unless told otherwise.
    new = text.flag("new_decoder_architecture") or (falcon and text.number("hidden_size") == 8192)
    if not new and text.flag("multi_query", falcon):
        return "multi_query", 1
    for key in _KV_HEAD_KEYS:
        # ChatGLM's classes look at the number of groups only where they are switched on.
        unused = key == "multi_query_group_num" and not text.flag("multi_query_attention", True)
        if not unused and text.number(key):
            return key, text.number(key)
    return "num_attention_heads", heads


def _expert_size(text: Section) -> int:
    return text.number("moe_intermediate_size") or text.needed("intermediate_size")


def _attention_layers(name: str, architecture: str, text: Section) -> tuple[int, int, int]:
    """Full layers, sliding layers, window in tokens."""
    layers = text.needed("num_hidden_layers", most=MOST_LAYERS)
    kinds = _kinds_of_layers(name, text)
    window = text.number("sliding_window")
    # Qwen's classes ignore the window unless told to use it.
    if not window or not text.flag("use_sliding_window", not architecture.startswith("Qwen")):
        return layers, 0, 0
    if kinds and architecture != "GptOssForCausalLM":
        sliding = kinds[:layers].count("sliding_attention")
        return layers - sliding, sliding, window if sliding else 0
    if architecture.startswith("Qwen") and (text.number("max_window_layers") or layers) < layers:
        raise Refusal(
            f"Model {name} has a sliding window in some layers only (max_window_layers in its"
            " config.json), which vLLM does not serve for Qwen; set use_sliding_window to false."
        )
    every = next((n for key, n in _FULL_EVERY.items() if architecture.startswith(key)), 0)
    every = text.first(("sliding_window_pattern", "_sliding_window_pattern")) or every
    full = layers // every if every else 0
    return full, layers - full, window


def _kinds_of_layers(name: str, text: Section) -> list[str]:
    kinds = text.items("layer_types", str)
    others = sorted(set(kinds) - {"full_attention", "sliding_attention"})
    if others:
        raise Refusal(
            f"Model {name} has layers of type {', '.join(others)} (layer_types in its"
            " config.json), whose memory the planner cannot predict;"
            " plan it by hand with vllm serve."
        )
    return kinds


def _max_model_len(text: Section) -> int:
    lengths = [found for key in _LENGTH_KEYS if (found := text.number(key))]
    length = text.number("model_max_length") or min(lengths, default=_LENGTH_WITHOUT_KEY)
    # Gemma 3 states its scaled length.
    if "gemma3" in text.text("model_type"):
        return length
    for rope in _ropes(text):
        kind = rope.text("rope_type") or rope.text("type") or "default"
        factor = rope.factor("factor")
        original = rope.number("original_max_position_embeddings")
        if kind == "yarn" and original:
            length = min(length, int(original * factor))
        elif kind not in _ROPE_WITHOUT_FACTOR:
            return int(length * factor)  # one factor, however many layer types have it
    return length


def _ropes(text: Section) -> list[Section]:
    rope = text.section("rope_scaling" if text.has("rope_scaling") else "rope_parameters")
    nested = [key for key, value in rope.values.items() if isinstance(value, Mapping)]
    return [rope.section(key) for key in nested] or [rope]


def _parsers(architecture: str, name: str) -> tuple[str, str]:
    """Tool-call parser and reasoning parser, empty where none is known."""
    for pattern, part_of_name, tool, reasoning in _PARSERS:
        if re.fullmatch(pattern, architecture) and re.search(part_of_name, name, re.IGNORECASE):
            return tool, reasoning
    return "", ""
