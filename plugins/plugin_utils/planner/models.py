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
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

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

# Far beyond every published model, so that a typing error is named instead of worked with.
_MOST = 2**31 - 1
_MOST_LAYERS = 2**12
_MOST_HEADS = 2**12
_MOST_EXPERTS = 2**16
_MOST_STRETCHED = 2**20

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


_Item = TypeVar("_Item", str, int)


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
    file = _Section(f"config.json of {name}", _mapping(name, config))
    architecture = _architecture(name, file)
    text = _text_config(file)
    _refuse_unsupported(name, config, text.values)
    full, sliding, window = _attention_layers(name, architecture, text)
    heads, kv_heads, head_dim = _heads(text)
    experts = text.first(_EXPERT_KEYS, most=_MOST_EXPERTS)
    settings = _quantization(file, text)
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
        quantization=_method(settings),
        dtype_bytes=_DTYPE_BYTES,
        checkpoint_bytes=0,
        expert_bytes=0,
        embedding_bytes=0,
        attention_sinks=architecture == "GptOssForCausalLM",
        tool_call_parser=tool,
        reasoning_parser=reasoning,
    )
    whole = _with_sizes(shape, file, text, checkpoint_bytes)
    block = max(_block(settings), default=0) if shape.quantization == "fp8" else 0
    return replace(whole, weight_block=block) if block else whole


def tensor_parallel_sizes(model: Model) -> tuple[int, ...]:
    """Numbers of GPUs that vLLM can split the model over.

    Attention heads are divided evenly, KV heads divided or replicated evenly, MLP columns
    divided evenly, in whole blocks where these have a scale in common; MXFP4 experts and the
    vocabulary are padded.
    """
    padded = model.quantization == "mxfp4"
    # validate_fp8_block_shape and _moe; 0.33.0 can split a block of experts, older ones refuse.
    block = model.weight_block
    return tuple(
        size
        for size in range(1, model.attention_heads + 1)
        if model.attention_heads % size == 0
        and (model.kv_heads % size == 0 or size % model.kv_heads == 0)
        and (padded or model.intermediate_size % (size * block) == 0)
    )


@functools.cache
def _catalogue() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(_DATA.read_text(encoding="utf-8"))["models"]
    return read


# --- keys


class _Section:
    """One mapping of a config.json; every value comes out with the type that is asked for.

    :param where: how a sentence names it: ``config.json of org/model``.
    """

    def __init__(self, where: str, values: Mapping[str, Any]) -> None:
        self.where = where
        self.values = values

    def has(self, key: str) -> bool:
        """Whether it is there and neither null, false, 0 nor empty."""
        return bool(self.values.get(key))

    def number(self, key: str, *, least: int = 0, most: int = _MOST) -> int:
        """A whole number, or 0 where there is none."""
        value = self.values.get(key)
        if isinstance(value, list):  # Some remote code repeats one number for every layer.
            value = value[0] if value else None
        if value is None or value is False:
            return 0
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self.wrong(key, f"a whole number from {least} to {most}")
        return value

    def first(self, keys: Iterable[str], *, most: int = _MOST) -> int:
        """The first of these numbers that is set, or 0."""
        return next((found for key in keys if (found := self.number(key, most=most))), 0)

    def needed(self, key: str, *, most: int = _MOST) -> int:
        """A whole number from 1 that has to be there."""
        value = self.values.get(key)
        if value is None:
            raise Refusal(f"{self.where} lacks {key}; the planner needs a whole number there.")
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= most:
            raise self.wrong(key, f"a whole number from 1 to {most}")
        return value

    def factor(self, key: str) -> float:
        """By how much a context is stretched; 1 where nothing is said."""
        value = self.values.get(key)
        if value is None:
            return 1.0
        known = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not known or not 1 <= value <= _MOST_STRETCHED:
            raise self.wrong(key, f"a number from 1 to {_MOST_STRETCHED}")
        return float(value)

    def text(self, key: str) -> str:
        value = self.values.get(key)
        if value is not None and not isinstance(value, str):
            raise self.wrong(key, "a name")
        return value or ""

    def flag(self, key: str, usual: bool = False) -> bool:
        value = self.values.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return usual if value is None else value

    def section(self, key: str) -> _Section:
        """A mapping in it; an empty one where there is none."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, Mapping):
            raise self.wrong(key, "a mapping")
        return _Section(f"{key} in {self.where}", value or {})

    def items(self, key: str, kind: type[_Item]) -> list[_Item]:
        """A list whose entries are of one type; an empty one where there is none."""
        value = self.values.get(key)
        fits = isinstance(value, list) and all(
            isinstance(item, kind) and not isinstance(item, bool) for item in value
        )
        if value is not None and not fits:
            raise self.wrong(key, "a list of names" if kind is str else "a list of whole numbers")
        return list(value or ())

    def wrong(self, key: str, wanted: str) -> Refusal:
        """The sentence about a value of another type."""
        shown = reprlib.repr(self.values[key])
        return Refusal(
            f"{self.where} has {key}: {shown}, where vLLM takes {wanted}; restore the file."
        )


def _mapping(name: str, config: object) -> Mapping[str, Any]:
    if not isinstance(config, Mapping):
        raise Refusal(f"config.json of {name} is no mapping of keys to values; restore the file.")
    return config


def _architecture(name: str, file: _Section) -> str:
    architectures = file.items("architectures", str)
    if not architectures:
        raise Refusal(f"config.json of {name} lacks architectures; vLLM needs it too.")
    first = architectures[0]
    if not first.endswith(_GENERATES_TEXT):
        raise Refusal(
            f"Model {name} is a {first}, which generates no text; the planner knows models that do."
        )
    return first


def _text_config(file: _Section) -> _Section:
    text = _Section(file.where, {**file.values, **file.section("text_config").values})
    defaults = _CLASS_DEFAULTS.get(text.text("model_type"), {})
    return _Section(file.where, {**defaults, **text.values})


def _refuse_unsupported(name: str, config: Mapping[str, Any], text: Mapping[str, Any]) -> None:
    for key, what in _UNSUPPORTED:
        if text.get(key) or config.get(key):
            raise Refusal(
                f"Model {name} has {what} ({key} in its config.json),"
                " whose memory the planner cannot predict; plan it by hand with vllm serve."
            )


def _heads(text: _Section) -> tuple[int, int, int]:
    """Attention heads, heads of the KV cache, and numbers in one of them."""
    heads = text.needed("num_attention_heads", most=_MOST_HEADS)
    kv_heads = text.number("num_key_value_heads") or heads
    if heads % kv_heads:
        raise Refusal(
            f"{text.where} has num_key_value_heads: {kv_heads}, which does not divide the {heads}"
            " attention heads; restore the file."
        )
    hidden = text.needed("hidden_size")
    if hidden < heads:
        raise text.wrong("hidden_size", f"at least 1 for each of the {heads} attention heads")
    return heads, kv_heads, text.number("head_dim") or hidden // heads


def _expert_size(text: _Section) -> int:
    return text.number("moe_intermediate_size") or text.needed("intermediate_size")


def _is(architecture: str, families: Iterable[str]) -> bool:
    return architecture.startswith(tuple(families))


def _attention_layers(name: str, architecture: str, text: _Section) -> tuple[int, int, int]:
    """Full layers, sliding layers, window in tokens."""
    layers = text.needed("num_hidden_layers", most=_MOST_LAYERS)
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


def _kinds_of_layers(name: str, text: _Section) -> list[str]:
    kinds = text.items("layer_types", str)
    others = sorted(set(kinds) - {"full_attention", "sliding_attention"})
    if others:
        raise Refusal(
            f"Model {name} has layers of type {', '.join(others)} (layer_types in its"
            " config.json), whose memory the planner cannot predict;"
            " plan it by hand with vllm serve."
        )
    return kinds


def _max_model_len(text: _Section) -> int:
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


def _ropes(text: _Section) -> list[_Section]:
    rope = text.section("rope_scaling" if text.has("rope_scaling") else "rope_parameters")
    nested = [key for key, value in rope.values.items() if isinstance(value, Mapping)]
    return [rope.section(key) for key in nested] or [rope]


def _parsers(architecture: str, name: str) -> tuple[str, str]:
    """Tool-call parser and reasoning parser, empty where none is known."""
    for pattern, part_of_name, tool, reasoning in _PARSERS:
        if re.fullmatch(pattern, architecture) and re.search(part_of_name, name, re.IGNORECASE):
            return tool, reasoning
    return "", ""


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
    shape: Model, file: _Section, text: _Section, checkpoint_bytes: int | None
) -> Model:
    weights = _count(shape, text)
    settings = _quantization(file, text)
    quantized = weights.experts + (weights.mlp if shape.quantization != "mxfp4" else 0)
    if shape.quantization != "mxfp4" and "attn" not in str(_left_out(settings)):
        quantized += weights.attention
    plain = sum(vars(weights).values()) - quantized
    plain_bytes = plain * _DTYPE_BYTES + _vision_bytes(file.section("vision_config"))
    each = _bytes_each(shape, settings)
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
        expert_bytes=int(weights.experts * each) + weights.expert_biases * _DTYPE_BYTES,
        embedding_bytes=weights.embeddings * _DTYPE_BYTES,
    )


def _count(shape: Model, text: _Section) -> _Weights:
    hidden, heads, head_dim = shape.hidden_size, shape.attention_heads, shape.head_dim
    architecture, layers = shape.architecture, shape.layers
    queries, keys = heads * head_dim, shape.kv_heads * head_dim
    moe_layers = len(_moe_layers(shape, text))
    matrices = 3 if _gated(architecture) else 2
    shared = text.number("shared_expert_intermediate_size") or (
        text.number("n_shared_experts", most=_MOST_EXPERTS) * shape.intermediate_size
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


def _gated(architecture: str) -> bool:
    return _is(architecture, _GATED_MLP) or not _is(architecture, _UNGATED_MLP)


def _tied(architecture: str, text: _Section) -> bool:
    return text.flag("tie_word_embeddings", _is(architecture, _TIED_EMBEDDINGS))


def _moe_layers(shape: Model, text: _Section) -> list[int]:
    """Layers with experts: not the first dense ones, not those in between."""
    if not shape.experts:
        return []
    dense = set(text.items("mlp_only_layers", int))
    first = text.number("first_k_dense_replace", most=_MOST_LAYERS)
    step = text.first(("decoder_sparse_step", "moe_layer_freq")) or 1
    return [n for n in range(first, shape.layers) if n not in dense and (n + 1) % step == 0]


def _vision_bytes(vision: _Section) -> int:
    """The image encoder, about: its attention and MLP matrices."""
    hidden = vision.first(("hidden_size", "embed_dim"))
    layers = vision.first(("num_hidden_layers", "depth"))
    inner = vision.number("intermediate_size") or 4 * hidden
    return layers * (4 * hidden * hidden + 2 * hidden * inner) * _DTYPE_BYTES


def _quantization(file: _Section, text: _Section) -> _Section:
    found = (
        file.section("quantization_config"),
        text.section("quantization_config"),
        file.section("compression_config"),
    )
    return next((section for section in found if section.values), found[0])


def _method(settings: _Section) -> str:
    """The quantization in vLLM's spelling; empty for none."""
    method = settings.text("quant_method").lower() or "compressed-tensors"
    return method.replace("_tensors", "-tensors") if settings.values else ""


def _left_out(settings: _Section) -> list[str]:
    keys = ("modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules")
    return next((found for key in keys if (found := settings.items(key, str))), [])


def _block(settings: _Section) -> list[int]:
    """Rows and columns of weights that share a scale; nothing where blocks are not used."""
    block = settings.items("weight_block_size", int)
    if block and (len(block) != 2 or not all(0 < size <= _MOST for size in block)):
        raise settings.wrong("weight_block_size", "two whole numbers")
    return block


def _bytes_each(shape: Model, settings: _Section) -> Fraction | None:
    """Bytes of one quantized weight with its share of scales and zero points."""
    method = shape.quantization
    if not method:
        return Fraction(_DTYPE_BYTES)
    if method in ("awq", "gptq"):
        bits = settings.first(("bits", "w_bit"), most=_DTYPE_BYTES * 8) or 4
        group = _group(settings, "group_size") or _group(settings, "q_group_size") or 128
        return _grouped(bits, group, 16 + bits) if group > 0 else Fraction(bits, 8)
    if method == "compressed-tensors":
        return _compressed_tensors(settings)
    if method in ("fp8", "fbgemm_fp8"):
        block = _block(settings)
        return Fraction(1) + (Fraction(4, block[0] * block[1]) if block else 0)
    if method == "bitsandbytes":
        if settings.flag("load_in_8bit"):
            return Fraction(1)
        return _grouped(4, 64, 8 if settings.flag("bnb_4bit_use_double_quant") else 32)
    if method in ("modelopt", "modelopt_fp4"):
        nvfp4 = method.endswith("fp4") or settings.text("quant_algo") == "NVFP4"
        return _grouped(4, 16, 8) if nvfp4 else Fraction(1)
    # E2M1 in blocks of 32 with one byte of scale (OCP Microscaling Formats 1.0).
    return _grouped(4, 32, 8) if method == "mxfp4" else None


def _group(settings: _Section, key: str) -> int:
    """Weights with one scale: -1 for a whole column, 0 where nothing is said."""
    return settings.number(key, least=-1)


def _compressed_tensors(settings: _Section) -> Fraction | None:
    groups = settings.section("config_groups")
    weights = next((groups.section(key).section("weights") for key in groups.values), None)
    if weights is None or not weights.values:
        return None
    bits, group = weights.needed("num_bits", most=_DTYPE_BYTES * 8), _group(weights, "group_size")
    if group <= 0:
        return Fraction(bits, 8)
    float4 = bits == 4 and weights.text("type") == "float"
    return _grouped(bits, group, 8 if float4 else 16)


def _grouped(bits: int, group: int, scale_bits: int) -> Fraction:
    return (bits + Fraction(scale_bits, group)) / 8
