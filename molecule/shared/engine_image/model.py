# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The tiny gpt-oss in a Docker volume, made inside the engine image."""

from __future__ import annotations

import hashlib
from pathlib import Path

from . import image
from .commands import run

NAME = "gpt-oss-tiny"
VOLUME = "vllm-lab-models"
SOURCE = image.HERE / "tiny_model"
MARKER = ".built-from"


def content_hash() -> str:
    """Twelve hex digits over the sources of the model."""
    digest = hashlib.sha256()
    for file in sorted(SOURCE.glob("*.*")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def build(volume: str = VOLUME) -> Path:
    """Folder of the model on this machine, inside the volume; made unless it is there."""
    run("docker", "volume", "create", "--label", image.LABEL, volume)
    root = Path(run("docker", "volume", "inspect", "--format", "{{.Mountpoint}}", volume))
    marker = root / NAME / MARKER
    if not marker.is_file() or marker.read_text() != content_hash():
        run(
            *("docker", "run", "--rm", "--network", "none", "--label", image.LABEL),
            *("--volume", f"{volume}:/models", "--volume", f"{SOURCE}:/source/tiny_model:ro"),
            *("--workdir", "/source", "--env", "PYTHONDONTWRITEBYTECODE=1"),
            *("--entrypoint", "python3", image.build()),
            *("-m", "tiny_model", f"/models/{NAME}", content_hash()),
        )
    return root / NAME
