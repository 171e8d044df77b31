# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""A stand-in for a machine with NVIDIA GPUs: its PCI bus, its kernel, its firmware."""
