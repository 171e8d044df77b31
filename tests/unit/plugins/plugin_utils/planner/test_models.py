# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import configuration, given, settings
from hypothesis import strategies as some

from ansible_collections.baremetal.vllm.plugins.plugin_utils import _flags
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner import models
from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import (
    GIB,
    Model,
    Refusal,
)

# Hypothesis keeps notes; not in the checkout.
configuration.set_hypothesis_home_dir(Path(tempfile.gettempdir(), "hypothesis"))

# A made-up model with every key that is needed, and no more: 2 layers, 4 heads of 16.
SMALL: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 1000,
    "max_position_embeddings": 4096,
}
ATTENTION = 2 * 4 * 64 * 64  # weights of query, key, value and output, both layers
MLP = 2 * 3 * 64 * 128
PLAIN = 2 * 1000 * 64 + 5 * 64  # embedding, output head, five norms
MOE = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
EXPERTS = 2 * 8 * 3 * 64 * 32
ROUTERS = 2 * 8 * 64


def read(**keys: Any) -> Model:
    return models.from_config("org/model", {**SMALL, **keys})


@pytest.mark.parametrize(
    "name", ["openai/gpt-oss-20b", "gpt-oss-20b", "GPT-OSS-20B", "openai/gpt-oss-20b@main"]
)
def test_a_catalogue_model_is_found_by_its_id_or_short_name(name: str) -> None:
    assert models.model(name).name == "openai/gpt-oss-20b"


def test_an_unknown_model_is_refused_with_the_nearest() -> None:
    with pytest.raises(Refusal, match=r"gpt-oss-200b is not in the catalogue.*openai/gpt-oss-20b"):
        models.model("gpt-oss-200b")
    with pytest.raises(Refusal, match=r"has .*openai/gpt-oss-120b.*; give one of these or a dir"):
        models.model("zzz")


FALCON: dict[str, Any] = {"architectures": ["FalconForCausalLM"], "model_type": "falcon"}


@pytest.mark.parametrize(
    ("keys", "heads"),
    [
        ({}, 4),
        ({"num_key_value_heads": 2}, 2),
        ({"num_kv_heads": 2}, 2),
        ({"n_head_kv": 1, "num_key_value_heads": 2}, 1),
        ({"num_attention_groups": 2}, 2),
        ({"multi_query_group_num": 2}, 2),
        ({"multi_query_group_num": 2, "multi_query_attention": True}, 2),
        ({"multi_query_group_num": 2, "multi_query_attention": False}, 4),
        ({"multi_query": True}, 1),
        ({"multi_query": False}, 4),
        (FALCON, 1),
        (FALCON | {"multi_query": False}, 4),
        (FALCON | {"new_decoder_architecture": True, "num_kv_heads": 2}, 2),
        (FALCON | {"hidden_size": 8192, "n_head_kv": 2}, 2),
    ],
)
def test_heads_of_the_kv_cache_under_any_of_their_names(keys: dict[str, Any], heads: int) -> None:
    assert read(**keys).kv_heads == heads


def test_heads_that_do_not_divide_are_refused_by_their_key() -> None:
    with pytest.raises(Refusal, match="has num_kv_heads: 3, which does not divide the 4 attention"):
        read(num_kv_heads=3)


PUBLISHED = [name for name, entry in models._catalogue().items() if entry["checkpoint_bytes"]]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes_come_out_of_the_shapes_to_the_byte(name: str) -> None:
    entry = models._catalogue()[name]
    worked_out = models.from_config(name, entry["config"])
    assert worked_out.checkpoint_bytes == models.model(name).checkpoint_bytes
    assert worked_out == models.model(name)


def test_gpt_oss_is_as_large_as_its_files() -> None:
    small, large = models.model("gpt-oss-20b"), models.model("gpt-oss-120b")
    assert round(small.checkpoint_bytes / 1e9, 2) == 13.76
    assert round(large.checkpoint_bytes / GIB, 2) == 60.77
    # Blocks, scales and biases of gate, up and down projection of one expert.
    expert = 5760 * (1440 + 90 + 2) + 2880 * (1440 + 90 + 2)
    assert small.expert_bytes == 24 * 32 * expert
    assert large.expert_bytes == 36 * 128 * expert
    assert small.embedding_bytes == large.embedding_bytes == 2 * 201_088 * 2880 * 2


def test_gpt_oss_has_every_other_layer_sliding() -> None:
    small, large = models.model("gpt-oss-20b"), models.model("gpt-oss-120b")
    assert (small.full_layers, small.sliding_layers, small.sliding_window) == (12, 12, 128)
    assert (large.full_layers, large.sliding_layers, large.layers) == (18, 18, 36)
    assert small.attention_sinks
    assert small.max_model_len == 131072


def test_the_image_encoder_of_gemma_3_counts() -> None:
    gemma = models.model("gemma-3-12b-it")
    assert (gemma.full_layers, gemma.sliding_layers, gemma.sliding_window) == (8, 40, 1024)
    assert gemma.checkpoint_bytes == pytest.approx(24.4e9, rel=0.005)
    assert gemma.vocabulary == 262_208  # not in its config.json


@pytest.mark.parametrize(
    ("keys", "full", "sliding", "window"),
    [
        ({}, 2, 0, 0),
        ({"sliding_window": 0}, 2, 0, 0),
        ({"sliding_window": None}, 2, 0, 0),
        ({"sliding_window": 4096}, 0, 2, 4096),
        ({"sliding_window": 4096, "use_sliding_window": False}, 2, 0, 0),
        (
            {"sliding_window": 128, "layer_types": ["sliding_attention", "full_attention"]},
            1,
            1,
            128,
        ),
        ({"sliding_window": 128, "layer_types": ["full_attention"] * 2}, 2, 0, 0),
        ({"sliding_window": 512, "sliding_window_pattern": 4, "num_hidden_layers": 9}, 2, 7, 512),
        (
            {
                "sliding_window": 64,
                "architectures": ["Gemma2ForCausalLM"],
                "num_hidden_layers": 26,
            },
            13,
            13,
            64,
        ),
        (
            {
                "sliding_window": 512,
                "architectures": ["Gemma3ForCausalLM"],
                "num_hidden_layers": 26,
            },
            4,
            22,
            512,
        ),
        ({"sliding_window": 4096, "architectures": ["Qwen2ForCausalLM"]}, 2, 0, 0),
        (
            {
                "sliding_window": 4096,
                "architectures": ["Qwen2ForCausalLM"],
                "use_sliding_window": True,
                "max_window_layers": 2,
            },
            0,
            2,
            4096,
        ),
    ],
)
def test_which_layers_slide(keys: dict[str, Any], full: int, sliding: int, window: int) -> None:
    shape = read(**keys)
    assert (shape.full_layers, shape.sliding_layers, shape.sliding_window) == (
        full,
        sliding,
        window,
    )


@pytest.mark.parametrize(
    ("keys", "length"),
    [
        ({}, 4096),
        ({"seq_length": 2048}, 2048),
        ({"model_max_length": 8192}, 8192),
        ({"max_position_embeddings": None}, 2048),
        ({"rope_scaling": None}, 4096),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, 8192),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 4}}, 16384),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 4096),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}, 4096),
        (
            {
                "rope_parameters": {
                    "full_attention": {"rope_type": "linear", "factor": 8.0},
                    "sliding_attention": {"rope_type": "default"},
                }
            },
            32768,
        ),
        (
            {
                "rope_scaling": {
                    "rope_type": "yarn",
                    "factor": 4.0,
                    "original_max_position_embeddings": 512,
                }
            },
            2048,
        ),
    ],
)
def test_the_longest_context_is_derived_as_vllm_does(keys: dict[str, Any], length: int) -> None:
    assert read(**keys).max_model_len == length


def test_heads_have_the_defaults_of_vllm() -> None:
    assert (read().kv_heads, read().head_dim) == (4, 16)
    assert (read(num_key_value_heads=2).kv_heads, read(head_dim=32).head_dim) == (2, 32)


def test_the_text_part_of_a_multimodal_model_is_read() -> None:
    nested = {
        "architectures": ["Mistral3ForConditionalGeneration"],
        "text_config": {key: value for key, value in SMALL.items() if key != "architectures"},
        "vision_config": {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 3},
    }
    shape = models.from_config("org/model", nested)
    assert (shape.hidden_size, shape.layers) == (64, 2)
    assert shape.checkpoint_bytes - read().checkpoint_bytes == 3 * (4 * 64 + 2 * 128) * 2


@pytest.mark.parametrize(
    ("keys", "weights"),
    [
        ({}, ATTENTION + MLP + PLAIN),
        ({"tie_word_embeddings": True}, ATTENTION + MLP + PLAIN - 64_000),
        ({"attention_bias": True}, ATTENTION + MLP + PLAIN + 2 * 256),
        ({"architectures": ["Qwen2ForCausalLM"]}, ATTENTION + MLP + PLAIN + 2 * 192),
        ({"architectures": ["Qwen3ForCausalLM"]}, ATTENTION + MLP + PLAIN + 2 * 32),
        ({"architectures": ["Starcoder2ForCausalLM"]}, ATTENTION + MLP * 2 // 3 + PLAIN),
        ({"num_key_value_heads": 1}, ATTENTION * 5 // 8 + MLP + PLAIN),
        (MOE, ATTENTION + EXPERTS + ROUTERS + PLAIN),
        (
            {**MOE, "first_k_dense_replace": 1},
            ATTENTION + (MLP + EXPERTS + ROUTERS) // 2 + PLAIN,
        ),
        ({**MOE, "mlp_only_layers": [0]}, ATTENTION + (MLP + EXPERTS + ROUTERS) // 2 + PLAIN),
        ({**MOE, "decoder_sparse_step": 2}, ATTENTION + (MLP + EXPERTS + ROUTERS) // 2 + PLAIN),
        (
            {**MOE, "n_shared_experts": 2},
            ATTENTION + EXPERTS + ROUTERS + PLAIN + 2 * 3 * 64 * 64,
        ),
        ({"num_local_experts": 8, "num_experts_per_tok": 2}, ATTENTION + 8 * MLP + ROUTERS + PLAIN),
    ],
)
def test_sizes_follow_from_the_shape(keys: dict[str, Any], weights: int) -> None:
    assert read(**keys).checkpoint_bytes == 2 * weights


@pytest.mark.parametrize(
    ("settings", "bits"),
    [
        ({"quant_method": "fp8"}, 8),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 8 + 32 / 128**2),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, 4 + 20 / 128),
        ({"quant_method": "gptq", "bits": 8, "group_size": 32}, 8 + 24 / 32),
        ({"quant_method": "gptq", "bits": 4, "group_size": -1}, 4),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, 8),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 4.5),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, 4.5),
        (
            {
                "quant_method": "compressed_tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float"}}},
            },
            8,
        ),
        (
            {
                "config_groups": {
                    "group_0": {"weights": {"num_bits": 4, "type": "int", "group_size": 128}}
                },
            },
            4 + 16 / 128,
        ),
    ],
)
def test_quantized_sizes(settings: dict[str, Any], bits: float) -> None:
    shape = read(quantization_config=settings, **MOE)
    quantized = ATTENTION + EXPERTS
    assert shape.checkpoint_bytes == int(2 * (PLAIN + ROUTERS) + quantized * bits / 8)
    assert shape.expert_bytes == int(EXPERTS * bits / 8)


def test_attention_that_is_left_out_of_the_quantization() -> None:
    settings = {"quant_method": "fp8", "ignored_layers": ["re:.*self_attn.*"]}
    assert read(quantization_config=settings).checkpoint_bytes == 2 * (ATTENTION + PLAIN) + MLP


def test_quantization_methods_have_one_spelling() -> None:
    settings = {"quant_method": "compressed_tensors", "config_groups": {}}
    shape = models.from_config("org/model", {**SMALL, "quantization_config": settings}, 500_000)
    assert shape.quantization == "compressed-tensors"


def test_the_size_of_the_files_decides_where_the_quantization_is_unknown() -> None:
    config = {**SMALL, **MOE, "quantization_config": {"quant_method": "wonder"}}
    total = 2 * (PLAIN + ROUTERS) + (ATTENTION + EXPERTS)  # a byte each
    shape = models.from_config("org/model", config, total)
    assert (shape.checkpoint_bytes, shape.expert_bytes) == (total, EXPERTS)
    with pytest.raises(Refusal, match=r"quantized with wonder.*give the size of its weight files"):
        models.from_config("org/model", config)


@pytest.mark.parametrize(
    "key",
    [
        "architectures",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "vocab_size",
    ],
)
def test_a_missing_key_is_named(key: str) -> None:
    config = {name: value for name, value in SMALL.items() if name != key}
    with pytest.raises(Refusal, match=rf"config\.json of org/model lacks {key};"):
        models.from_config("org/model", config)


@pytest.mark.parametrize("value", [0, -1, "64", [4, 8]])
def test_a_value_that_is_no_number_is_shown(value: Any) -> None:
    with pytest.raises(Refusal, match="has num_attention_heads: "):
        read(num_attention_heads=value)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"kv_lora_rank": 512}, "MLA"),
        ({"is_encoder_decoder": True}, "an encoder and a decoder"),
        ({"cross_attention_layers": [3, 8]}, "cross attention"),
        ({"attention_chunk_size": 8192}, "chunked local attention"),
        ({"hybrid_override_pattern": "M-M*"}, "Mamba"),
        ({"mamba_d_state": 128}, "Mamba"),
        ({"linear_num_key_heads": 16}, "linear attention"),
        ({"num_kv_shared_layers": 10}, "share their KV cache"),
        ({"layer_types": ["linear_attention", "full_attention"]}, "type linear_attention"),
        ({"layer_types": ["chunked_attention", "full_attention"]}, "type chunked_attention"),
        ({"architectures": ["BertForMaskedLM"]}, "generates no text"),
        ({"architectures": ["Qwen3ForSequenceClassification"]}, "generates no text"),
        (
            {
                "architectures": ["Qwen2ForCausalLM"],
                "sliding_window": 64,
                "use_sliding_window": True,
                "max_window_layers": 1,
            },
            "vLLM does not serve for Qwen",
        ),
    ],
)
def test_what_cannot_be_predicted_is_refused_in_one_sentence(
    keys: dict[str, Any], said: str
) -> None:
    with pytest.raises(Refusal, match=said) as refusal:
        read(**keys)
    text = str(refusal.value).replace("config.json", "")
    assert text.endswith(".")
    assert ". " not in text


@pytest.mark.parametrize(
    ("architecture", "name", "tool", "reasoning"),
    [
        ("GptOssForCausalLM", "/models/mine", "openai", "openai_gptoss"),
        ("Qwen3ForCausalLM", "Qwen/Qwen3-8B", "hermes", "qwen3"),
        ("Qwen3MoeForCausalLM", "Qwen/Qwen3-30B-A3B-Instruct-2507", "hermes", ""),
        ("Qwen3MoeForCausalLM", "Qwen/Qwen3-Coder-30B-A3B-Instruct", "qwen3_coder", ""),
        ("Qwen2ForCausalLM", "Qwen/Qwen2.5-7B-Instruct", "hermes", ""),
        ("LlamaForCausalLM", "meta-llama/Llama-3.1-8B-Instruct", "llama3_json", ""),
        ("LlamaForCausalLM", "meta-llama/Llama-3.1-8B", "", ""),
        ("LlamaForCausalLM", "someone/else", "", ""),
        ("MistralForCausalLM", "mistralai/Mistral-7B-Instruct-v0.3", "mistral", ""),
    ],
)
def test_parsers_of_the_families_that_are_known(
    architecture: str, name: str, tool: str, reasoning: str
) -> None:
    shape = models.from_config(name, {**SMALL, "architectures": [architecture]})
    assert (shape.tool_call_parser, shape.reasoning_parser) == (tool, reasoning)


@pytest.mark.parametrize("row", models._PARSERS, ids=lambda row: f"{row[0]} {row[1]}")
def test_parsers_are_choices_of_vllm_where_it_lists_them(row: tuple[str, str, str, str]) -> None:
    options = {"tool-call-parser": row[2], "reasoning-parser": row[3]}
    given = {name: value for name, value in options.items() if value}
    assert _flags.check_options(given, "0.32.0") == {}


def test_sizes_of_tensor_parallelism_that_vllm_accepts() -> None:
    assert models.tensor_parallel_sizes(models.model("gpt-oss-20b")) == (1, 2, 4, 8, 16, 32, 64)
    # 12 heads, 6 of them for keys: 4 neither divides 6 nor is a multiple of it.
    odd = read(num_attention_heads=12, num_key_value_heads=6, hidden_size=192)
    assert models.tensor_parallel_sizes(odd) == (1, 2)
    assert models.tensor_parallel_sizes(read(intermediate_size=126)) == (1, 2)


BLOCKS = {"quant_method": "fp8", "weight_block_size": [128, 128]}


@pytest.mark.parametrize(
    ("size", "quantization", "sizes"),
    [
        # 1536 columns of Qwen3-235B: 8 GPUs would have 192 each, one block and a half.
        (1536, BLOCKS, (1, 2, 4)),
        (1536, {"quant_method": "fp8"}, (1, 2, 4, 8)),
        (2048, BLOCKS, (1, 2, 4, 8)),
        (1536, None, (1, 2, 4, 8)),
    ],
)
def test_fp8_blocks_are_not_cut(size: int, quantization: Any, sizes: tuple[int, ...]) -> None:
    for keys in ({"intermediate_size": size}, {**MOE, "moe_intermediate_size": size}):
        shape = read(num_attention_heads=8, quantization_config=quantization, **keys)
        assert models.tensor_parallel_sizes(shape) == sizes


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"quantization_config": "fp8"}, "has quantization_config: 'fp8'"),
        ({"text_config": "llama"}, "has text_config: 'llama'"),
        ({"vision_config": 3}, "has vision_config: 3"),
        ({"rope_scaling": "yarn"}, "has rope_scaling: 'yarn'"),
        ({"rope_scaling": {"type": "linear", "factor": "2"}}, "has factor: '2'"),
        ({"rope_scaling": {"type": "linear", "factor": 0}}, "has factor: 0"),
        ({"rope_scaling": {"type": ["linear"], "factor": 2}}, "has type: "),
        ({"architectures": "LlamaForCausalLM"}, "has architectures: 'LlamaForCausalLM'"),
        ({"architectures": [1]}, "has architectures: "),
        ({"num_key_value_heads": 3}, "num_key_value_heads: 3, which does not divide the 4"),
        ({"num_key_value_heads": "4"}, "has num_key_value_heads: '4'"),
        ({"num_attention_heads": 128}, "has hidden_size: 64"),
        ({"num_attention_heads": True}, "has num_attention_heads: True"),
        ({"num_hidden_layers": 10**12}, "has num_hidden_layers: 1000000000000"),
        ({"max_position_embeddings": "4k"}, "has max_position_embeddings: '4k'"),
        ({"layer_types": "full_attention"}, "has layer_types: "),
        ({"layer_types": [["full_attention"]]}, "has layer_types: "),
        ({"sliding_window": 8, "sliding_window_pattern": "LLG"}, "has sliding_window_pattern: "),
        ({"model_type": ["llama"]}, "has model_type: "),
        ({"tie_word_embeddings": "no"}, "has tie_word_embeddings: 'no'"),
        ({**MOE, "num_experts_per_tok": 9}, "has num_experts_per_tok: 9"),
        ({**MOE, "mlp_only_layers": 1}, "has mlp_only_layers: 1"),
        ({"quantization_config": {"quant_method": 8}}, "has quant_method: 8"),
        ({"quantization_config": {**BLOCKS, "weight_block_size": 128}}, "weight_block_size: 128"),
        ({"quantization_config": {**BLOCKS, "weight_block_size": [0, 128]}}, "has weight_block"),
        ({"quantization_config": {"quant_method": "awq", "bits": "4"}}, "has bits: '4'"),
        ({"quantization_config": {"config_groups": ["a"]}}, "has config_groups: "),
        ({"quantization_config": {"config_groups": {"a": 1}}}, "has a: 1"),
        ({"quantization_config": {"quant_method": "fp8", "ignore": "lm_head"}}, "has ignore: "),
    ],
)
def test_a_value_of_another_type_is_named(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(Refusal) as refusal:
        read(**keys)
    assert said in str(refusal.value)
    assert str(refusal.value).endswith("restore the file.")


def test_a_file_that_holds_no_mapping() -> None:
    with pytest.raises(Refusal, match="is no mapping of keys to values"):
        models.from_config("org/model", [SMALL])  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [128.0, [128, 128], 128])
def test_spellings_of_a_number_that_vllm_takes_too(value: Any) -> None:
    assert read(head_dim=value).head_dim == 128


# Nearly everything that is read from a config.json somewhere.
RICH: dict[str, Any] = {
    **SMALL,
    **MOE,
    "model_type": "mistral3",
    "num_key_value_heads": 2,
    "head_dim": 16,
    "sliding_window": 128,
    "use_sliding_window": True,
    "sliding_window_pattern": 2,
    "max_window_layers": 2,
    "layer_types": ["sliding_attention", "full_attention"],
    "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512},
    "rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2.0}},
    "model_max_length": 4096,
    "first_k_dense_replace": 1,
    "mlp_only_layers": [0],
    "decoder_sparse_step": 1,
    "n_shared_experts": 1,
    "shared_expert_intermediate_size": 32,
    "attention_bias": False,
    "tie_word_embeddings": True,
    "text_config": {"vocab_size": 2000, "model_type": "mistral"},
    "vision_config": {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 3},
    "quantization_config": {
        "quant_method": "compressed-tensors",
        "config_groups": {"a": {"weights": {"num_bits": 4, "type": "int", "group_size": 32}}},
        "weight_block_size": [32, 32],
        "ignore": ["lm_head"],
        "bits": 4,
        "group_size": 32,
        "load_in_8bit": False,
        "bnb_4bit_use_double_quant": True,
        "quant_algo": "NVFP4",
    },
}
METHODS = ("compressed-tensors", "fp8", "awq", "gptq", "bitsandbytes", "modelopt", "mxfp4", "odd")


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        inner = [found for key, item in value.items() for found in _paths(item, (*path, key))]
    elif isinstance(value, list):
        inner = [found for key, item in enumerate(value) for found in _paths(item, (*path, key))]
    else:
        inner = []
    return [path, *inner] if path else inner


JSON = some.recursive(
    some.none()
    | some.booleans()
    | some.integers()
    | some.integers(min_value=-2, max_value=300)
    | some.floats()
    | some.sampled_from(["", "yarn", "4", "fp8", "sliding_attention", "LlamaForCausalLM"])
    | some.text(max_size=5),
    lambda inner: (
        some.lists(inner, max_size=3)
        | some.dictionaries(some.sampled_from(["weights", "type", "factor", "a"]), inner)
    ),
    max_leaves=6,
)
CHANGES = some.lists(some.tuples(some.sampled_from(_paths(RICH)), JSON), min_size=1, max_size=3)
FAMILIES = some.sampled_from(["Llama", "Gemma3", "Qwen2", "Qwen3Moe", "GptOss", "Starcoder2"])


def _put(config: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        try:
            config = config[key]
        except (IndexError, KeyError, TypeError):
            return  # an earlier change took it away
    try:
        config[path[-1]] = value
    except (IndexError, TypeError):
        return


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(CHANGES, some.sampled_from(METHODS), FAMILIES, some.none() | some.integers(1, 10**12))
def test_any_config_is_a_model_or_a_refusal(
    changes: list[tuple[tuple[Any, ...], Any]], method: str, family: str, size: int | None
) -> None:
    config = copy.deepcopy(RICH)
    config["architectures"] = [f"{family}ForCausalLM"]
    config["quantization_config"]["quant_method"] = method
    for path, value in changes:
        _put(config, path, value)
    try:
        shape = models.from_config("org/model", config, size)
    except Refusal as refusal:
        assert str(refusal).endswith(".")
    else:
        assert min(shape.kv_heads, shape.head_dim, shape.layers, shape.max_model_len) >= 1
        assert shape.attention_heads % shape.kv_heads == 0
        assert shape.checkpoint_bytes > 0
        assert all(shape.attention_heads % n == 0 for n in models.tensor_parallel_sizes(shape))
