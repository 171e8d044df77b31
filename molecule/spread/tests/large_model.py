# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""A model of a GiB in the hub's volume: weights in valid files that mean nothing."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path

NAME = "spread"
SHARDS = 4
SHARD_BYTES = 2**28
_PIECE = 2**20


def _directory() -> Path:
    """The model's directory on this machine."""
    shown = ["docker", "volume", "inspect", "--format", "{{.Mountpoint}}", "vllm-lab-models"]
    done = subprocess.run(shown, check=True, capture_output=True, text=True)
    return Path(done.stdout.strip(), NAME)


def make() -> dict[str, int]:
    """Put it there, the same bytes every time; return the size of each file."""
    directory = _directory()
    directory.mkdir(exist_ok=True)
    names = [f"model-{number:05}-of-{SHARDS:05}.safetensors" for number in range(1, SHARDS + 1)]
    for number, name in enumerate(names):
        _write_shard(directory / name, number)
    total = {"total_size": SHARDS * SHARD_BYTES}
    weights = {f"weight.{number}": name for number, name in enumerate(names)}
    for name, content in {
        "model.safetensors.index.json": {"metadata": total, "weight_map": weights},
        "tokenizer.json": {"version": "1.0"},
        "config.json": {"model_type": "gpt_oss", "architectures": ["GptOssForCausalLM"]},
    }.items():
        (directory / name).write_text(json.dumps(content) + "\n")
    return {path.name: path.stat().st_size for path in directory.iterdir()}


def remove() -> None:
    """Take it away: the hub reads all of its models when it starts."""
    shutil.rmtree(_directory(), ignore_errors=True)


def _write_shard(path: Path, number: int) -> None:
    """The format is 8 bytes of length, a header of JSON, and the tensors."""
    tensor = {"dtype": "U8", "shape": [SHARD_BYTES], "data_offsets": [0, SHARD_BYTES]}
    header = json.dumps({f"weight.{number}": tensor}).encode()
    source = random.Random(number)  # noqa: S311 - anything that does not repeat
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for _piece in range(SHARD_BYTES // _PIECE):
            file.write(source.randbytes(_PIECE))
