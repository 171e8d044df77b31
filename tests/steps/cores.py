# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The ansible-core releases that the checks run on, and the Pythons of this machine."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from steps.report import Report
from steps.surroundings import BIN, ROOT


@dataclass(frozen=True)
class Core:
    """A virtual environment with one ansible-core."""

    release: str
    python: str
    bin: Path


OLDEST = Core("2.19", "3.11", BIN)
REQUIREMENTS = ROOT / "requirements-dev-2.21.txt"


def interpreter(version: str) -> Path | None:
    """A working Python of this minor version, on PATH or kept by pyenv or uv."""
    name = f"python{version}"
    kept = (f".pyenv/versions/{version}*/bin/{name}", f".local/share/uv/python/*/bin/{name}")
    candidates = [*Path.home().glob(kept[0]), *Path.home().glob(kept[1])]
    if on_path := shutil.which(name):
        candidates.append(Path(on_path))
    for candidate in candidates:
        try:
            # pyenv's shims exist for every version and fail for those that are not selected.
            command = [str(candidate), "-c", "import ensurepip, sys, venv; print(sys.base_prefix)"]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        base = Path(done.stdout.strip()) / "bin" / name
        if base.is_file():
            return base
    return None


@functools.cache
def newest(report: Report) -> Core | None:
    """ansible-core 2.21 in .venv-2.21, set up once; None where no Python for it is here."""
    found = ((version, interpreter(version)) for version in ("3.13", "3.12"))
    version, python = next((pair for pair in found if pair[1]), ("", None))
    if python is None:
        report.note(
            "ansible-core 2.21 was not tried: it needs Python 3.12 or 3.13 with venv, "
            "and neither is on PATH or kept by pyenv or uv."
        )
        return None
    directory = ROOT / ".venv-2.21"
    core, stamp = Core("2.21", version, directory / "bin"), directory / ".complete"
    if not stamp.exists() or stamp.stat().st_mtime < REQUIREMENTS.stat().st_mtime:
        venv = (python, "-m", "venv", "--clear", directory)
        install = (core.bin / "pip", "install", "--quiet", "--requirement", REQUIREMENTS)
        stamp.unlink(missing_ok=True)
        # With the user's own settings: pip's caches and indexes.
        if report.command("create .venv-2.21", *venv, env=os.environ) and report.command(
            "install ansible-core 2.21", *install, env=os.environ
        ):
            stamp.touch()
    return core if stamp.exists() else None


def cores(report: Report) -> list[Core]:
    """The oldest supported ansible-core, then the newest where it can be had."""
    return [core for core in (OLDEST, newest(report)) if core]
