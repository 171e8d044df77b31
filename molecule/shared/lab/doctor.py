# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Looks for what the lab needs, before anything is changed. Standard library only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lab import archive, engine, images, settings
from lab.error import LabError

_INDEX_SECONDS = 60


def problems(index: bool) -> Iterator[str]:
    """A sentence for each thing that is missing, with how to mend it."""
    answers = engine.answers()
    if not answers and os.geteuid() != 0:
        yield "No Docker answers and you are not root: start Docker, or run this as root."
    absent = images.missing()
    if absent and answers and os.geteuid() != 0:
        yield "The lab's images are not built yet, which needs root: run this once as root."
    yield from _disk(bool(absent))
    if not answers or not engine.read('/containers/json?filters={"label":["vllm.lab"]}'):
        yield from _memory()
    if absent or not answers:
        try:
            archive.check()
        except LabError as error:
            yield str(error)
    if index:
        yield from _index()


def _disk(build: bool) -> Iterator[str]:
    info = engine.read("/info") or {}
    directory = Path(info.get("DockerRootDir", "/var/lib/docker"))
    while not directory.exists():
        directory = directory.parent
    wanted = settings.DISK_GB if build else settings.DISK_GB_WHEN_BUILT
    free = shutil.disk_usage(directory).free / 1e9
    if free < wanted:
        yield (
            f"{free:.0f} GB are free where Docker keeps its data ({directory}), the lab wants "
            f"{wanted} GB: free some, or move Docker's data-root to a larger disk."
        )


def _memory() -> Iterator[str]:
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    if available < settings.MEMORY_GIB_WANTED * 1024**2:
        yield (
            f"{available / 1024**2:.1f} GiB of memory are available, two engines and their hosts "
            f"want {settings.MEMORY_GIB_WANTED} GiB: stop other programs or use a larger machine."
        )


def _index() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as directory:
        command = [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir"),
            *("--retries", "1", "--dest", directory, "iniconfig"),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_INDEX_SECONDS)
            failed = done.returncode != 0
        except subprocess.TimeoutExpired:
            failed = True
    if failed:
        yield (
            "The Python package index cannot be reached with pip: check the network or pip's "
            "index-url and proxy, and try `pip download iniconfig`."
        )
