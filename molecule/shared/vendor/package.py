# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""One Debian package that the tests make: its control fields, files and scripts."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MAINTAINER = "The baremetal.vllm contributors <nobody@example.org>"
EXECUTABLE = 0o755


class PackageError(Exception):
    """A package cannot be built: which, and what dpkg-deb said."""


@dataclass(frozen=True)
class File:
    """A file of a package: its content, or where that lies on this machine."""

    content: bytes | Path
    mode: int = 0o644

    @classmethod
    def script(cls, text: str) -> File:
        """A file that can be run."""
        return cls(text.encode(), EXECUTABLE)

    @classmethod
    def text(cls, text: str) -> File:
        """A file of text."""
        return cls(text.encode())


@dataclass(frozen=True)
class Package:
    """What `dpkg-deb --build` is given. Paths are absolute; links map a path to its target."""

    name: str
    version: str
    fields: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, File] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    scripts: Mapping[str, str] = field(default_factory=dict)
    conffiles: Sequence[str] = ()
    architecture: str = "amd64"
    compression: Sequence[str] = ("-Znone",)

    @property
    def file_name(self) -> str:
        """The name of the archive; as in a real pool, without the epoch."""
        return (
            f"{self.name}_{self.version.partition(':')[2] or self.version}_{self.architecture}.deb"
        )

    def control(self) -> str:
        """The file `control`."""
        fields = {
            "Package": self.name,
            "Version": self.version,
            "Architecture": self.architecture,
            "Maintainer": MAINTAINER,
            "Section": "non-free/libs",
            "Priority": "optional",
            **self.fields,
            "Description": f"stand-in for {self.name} in the tests of baremetal.vllm",
        }
        return "".join(f"{name}: {value}\n" for name, value in fields.items())

    def build(self, directory: Path) -> Path:
        """Build the archive in `directory`. Raises PackageError."""
        target = directory / self.file_name
        with tempfile.TemporaryDirectory() as temporary:
            tree = Path(temporary, "tree")
            self._lay_out(tree)
            command = [
                *("dpkg-deb", "--root-owner-group", *self.compression, "--build"),
                *(str(tree), str(target)),
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PackageError(f"{self.file_name} cannot be built: {done.stderr.strip()}")
        return target

    def _lay_out(self, tree: Path) -> None:
        _write(tree / "DEBIAN/control", self.control().encode(), 0o644)
        for name, text in self.scripts.items():
            _write(tree / "DEBIAN" / name, f"#!/bin/sh\nset -e\n{text}".encode(), EXECUTABLE)
        if self.conffiles:
            _write(
                tree / "DEBIAN/conffiles", "".join(f"{x}\n" for x in self.conffiles).encode(), 0o644
            )
        for path, file in self.files.items():
            content = file.content if isinstance(file.content, bytes) else file.content.read_bytes()
            _write(tree / path.lstrip("/"), content, file.mode)
        for path, to in self.links.items():
            link = tree / path.lstrip("/")
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(to)
        for directory, _, _ in os.walk(tree):
            os.chmod(directory, 0o755)  # noqa: S103 - whatever the umask is


def _write(path: Path, content: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
