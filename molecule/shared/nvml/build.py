# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Compile the stand-in once. Standard library only."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "stand_in.c"
SETS = HERE / "sets"
CACHE = HERE.parents[2] / ".cache" / "nvml"
LIBRARY = "libnvidia-ml.so.1"
VARIABLE = "NVML_STAND_IN"
FLAGS = ("-std=c11", "-D_DEFAULT_SOURCE", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")


class BuildError(Exception):
    """What is wrong and how to mend it, in one sentence."""


def build(directory: Path = CACHE) -> Path:
    """Path of the library in a folder of its own below `directory`, compiled unless it is there.

    The folder's name is a hash of source and flags. Raises BuildError.
    """
    digest = hashlib.sha256(SOURCE.read_bytes() + repr(FLAGS).encode()).hexdigest()[:12]
    library = directory / digest / LIBRARY
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        _compile(library)
    return library


def _compile(library: Path) -> None:
    compiler = shutil.which("cc")
    if not compiler:
        raise BuildError("There is no C compiler: apt install gcc libc6-dev.")
    # Tests run side by side: each compiles beside the name, and the rename lets one win.
    with tempfile.TemporaryDirectory(dir=library.parent) as directory:
        draft = Path(directory, LIBRARY)
        command = [compiler, *FLAGS, f"-Wl,-soname,{LIBRARY}", "-o", str(draft), str(SOURCE)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError(
                f"{SOURCE.name} does not compile; if a header is missing, "
                f"apt install libc6-dev:\n{done.stderr[-2000:]}"
            )
        draft.rename(library)


def environment(gpu_set: str, directory: Path = CACHE) -> dict[str, str]:
    """Variables that make a process see one of the sets, or the set in a file of that path."""
    named = SETS / f"{gpu_set}.txt"
    paths = [str(build(directory).parent), os.environ.get("LD_LIBRARY_PATH", "")]
    return {
        "LD_LIBRARY_PATH": ":".join(filter(None, paths)),
        VARIABLE: str(named if named.exists() else Path(gpu_set).resolve()),
    }
