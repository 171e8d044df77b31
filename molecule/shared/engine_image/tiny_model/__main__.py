# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""`python3 -m tiny_model DIRECTORY HASH`: write the model as a Hugging Face checkpoint."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from safetensors.torch import save_file

from . import script, tokenizer, weights
from .config import CONFIG, GENERATION_CONFIG, TOKENIZER_CONFIG


def write(directory: Path) -> None:
    directory.mkdir()
    converted = tokenizer.make()
    converted.save(str(directory / "tokenizer.json"), pretty=False)
    said = script.build(lambda text: converted.encode(text, add_special_tokens=False).ids)
    save_file(weights.make(said), directory / "model.safetensors", metadata={"format": "pt"})
    for name, content in {
        "config.json": CONFIG,
        "generation_config.json": GENERATION_CONFIG,
        "tokenizer_config.json": TOKENIZER_CONFIG,
    }.items():
        (directory / name).write_text(json.dumps(content, indent=2) + "\n")
    template = "chat_template.jinja"
    shutil.copyfile(Path(__file__).with_name(template), directory / template)
    for file in directory.iterdir():
        file.chmod(0o644)  # safetensors writes 0600, and the engine is another user


def main(directory: Path, built_from: str) -> None:
    """Never half a model under its name: written beside it, then renamed."""
    beside = directory.with_name(f".{directory.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    write(beside)
    (beside / ".built-from").write_text(built_from)
    shutil.rmtree(directory, ignore_errors=True)
    beside.rename(directory)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
