# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The planner: from GPUs, a model, an intent and a vLLM release to flags, each with its reason."""
