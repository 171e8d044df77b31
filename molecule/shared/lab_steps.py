# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What the lab needs before its first host starts, in order; a step ends at once if it is there."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAB = (sys.executable, str(ROOT / "molecule/shared/lab"))
ENGINE_IMAGE = (sys.executable, str(ROOT / "molecule/shared/engine_image"))

PREPARATION: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Check this machine", (*LAB, "doctor")),
    ("Start Docker Engine if none answers", (*LAB, "engine")),
    ("Build the hosts' images and start the registry", (*LAB, "build")),
    ("Build the image of vLLM's CPU build and push it", (*ENGINE_IMAGE, "push")),
    ("Build the tiny gpt-oss", (*ENGINE_IMAGE, "build-model")),
)
