# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The stand-in for a machine around a host: what is put into its container before it boots."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

import machine
from nvml.build import SETS

from lab import engine
from lab.error import LabError

_SOURCES = Path(machine.__file__).parent
_DIRECTORY = "usr/lib/lab-machine"
_UNIT = "lab-machine.service"
_FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")


def archive(gpus: str) -> bytes:
    """A tar archive for the root of a container, whose machine has a set of the NVML stand-in."""
    content = {
        f"{_DIRECTORY}/machine": ((_SOURCES / "machine.py").read_bytes(), 0o755),
        f"{_DIRECTORY}/machine.json": (json.dumps({"gpus": gpus}).encode(), 0o644),
        f"{_DIRECTORY}/gpus.txt": ((SETS / f"{gpus}.txt").read_bytes(), 0o644),
        f"{_DIRECTORY}/kernel_name.so": (_compiled(), 0o755),
        "etc/ld.so.preload": (f"/{_DIRECTORY}/kernel_name.so\n".encode(), 0o644),
        f"etc/systemd/system/{_UNIT}": ((_SOURCES / _UNIT).read_bytes(), 0o644),
        "etc/modprobe.d/lab-machine.conf": ((_SOURCES / "modprobe.conf").read_bytes(), 0o644),
    }
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for name, (data, mode) in content.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), mode
            tar.addfile(entry, io.BytesIO(data))
        link = tarfile.TarInfo(f"etc/systemd/system/sysinit.target.wants/{_UNIT}")
        link.type, link.linkname = tarfile.SYMTYPE, f"../{_UNIT}"
        tar.addfile(link)
    return written.getvalue()


def _compiled() -> bytes:
    if not engine.which("cc"):
        raise LabError("There is no C compiler for the lab's machines: apt install gcc libc6-dev.")
    with tempfile.TemporaryDirectory() as directory:
        library = Path(directory, "kernel_name.so")
        source = str(_SOURCES / "kernel_name.c")
        command = ["cc", *_FLAGS, "-o", str(library), source]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LabError(f"kernel_name.c does not compile:\n{done.stderr[-2000:]}")
        return library.read_bytes()
