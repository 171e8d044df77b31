# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Writes the tiny gpt-oss; runs inside the engine image, which has torch and the tokenizer."""
