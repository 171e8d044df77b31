# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""A stand-in for libnvidia-ml.so.1: any set of GPUs, for the real nvidia-ml-py."""
