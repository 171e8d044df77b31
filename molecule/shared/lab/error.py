# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The one exception that a person sees as a sentence."""

from __future__ import annotations


class LabError(Exception):
    """What is wrong and how to mend it, in one sentence."""
