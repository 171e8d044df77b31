# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Configuration files of the tiny gpt-oss: the shape of the real one, two layers, no MXFP4."""

from __future__ import annotations

from typing import Any

END_OF_TEXT, RETURN, CALL, START_OF_TEXT = 199999, 200002, 200012, 199998

CONFIG: dict[str, Any] = {
    "architectures": ["GptOssForCausalLM"],
    "model_type": "gpt_oss",
    "transformers_version": "4.55.0",
    "dtype": "bfloat16",
    "vocab_size": 201088,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "layer_types": ["sliding_attention", "full_attention"],
    "sliding_window": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "attention_bias": True,
    "hidden_act": "silu",
    "swiglu_limit": 7.0,
    "rms_norm_eps": 1e-05,
    "max_position_embeddings": 131072,
    "initial_context_length": 4096,
    "rope_theta": 150000,
    "rope_scaling": {
        "rope_type": "yarn",
        "factor": 32.0,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "truncate": False,
        "original_max_position_embeddings": 4096,
    },
    "tie_word_embeddings": False,
    "eos_token_id": RETURN,
    "pad_token_id": END_OF_TEXT,
}

GENERATION_CONFIG: dict[str, Any] = {
    "bos_token_id": START_OF_TEXT,
    "do_sample": True,
    "eos_token_id": [RETURN, END_OF_TEXT, CALL],
    "pad_token_id": END_OF_TEXT,
}

TOKENIZER_CONFIG: dict[str, Any] = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": "<|startoftext|>",
    "eos_token": "<|return|>",
    "pad_token": "<|endoftext|>",
    "clean_up_tokenization_spaces": False,
    "model_max_length": CONFIG["max_position_embeddings"],
    "model_input_names": ["input_ids", "attention_mask"],
}
