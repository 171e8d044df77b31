# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The lab's engine: the real vLLM on a CPU as an image, and a tiny gpt-oss for it."""
