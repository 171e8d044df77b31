# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Running programs, with failures told in one sentence."""

from __future__ import annotations

import fcntl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lab.error import LabError


def run(*command: str, stdin: IO[bytes] | None = None) -> str:
    """Standard output, stripped. Raises LabError with the last line of standard error."""
    try:
        result = subprocess.run(command, stdin=stdin, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise LabError(f"{command[0]} is missing on this machine: install it") from error
    if result.returncode:
        lines = result.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise LabError(f"`{' '.join(command[:3])}` ended with {result.returncode}: {lines[-1]}")
    return result.stdout.decode(errors="replace").strip()


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Wait until no other process builds in `directory`, and keep others out meanwhile."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
