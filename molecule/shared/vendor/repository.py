# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""A signed apt repository from a directory of packages: flat as NVIDIA's, or with a suite."""

from __future__ import annotations

import email.utils
import gzip
import hashlib
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vendor.keys import ORDER, Keyring


@dataclass(frozen=True)
class Repository:
    """One repository: where it lies below the server's root, and what its Release says."""

    vendor: str
    directory: str
    key_file: str
    origin: str
    label: str
    suite: str = ""
    component: str = ""

    def write(self, root: Path, archives: Iterable[Path], keyring: Keyring) -> None:
        """Index what lies in `archives`, and sign the index with both keys of the vendor."""
        index = "".join(self._entry(root, archive) for archive in archives).encode()
        top = root / self.directory
        top = top / "dists" / self.suite if self.suite else top
        below = Path(self.component, "binary-amd64") if self.suite else Path()
        (top / below).mkdir(parents=True, exist_ok=True)
        files = {below / "Packages": index, below / "Packages.gz": gzip.compress(index, mtime=0)}
        for name, content in files.items():
            (top / name).write_bytes(content)
        release = self._release({str(name): content for name, content in files.items()})
        for order in ORDER:
            key = keyring.key(self.vendor, order)
            (top / f"InRelease.{order}").write_bytes(keyring.sign(release.encode(), key))
            (root / f"{self.key_file}.{order}").write_text(key.public)

    def _entry(self, root: Path, archive: Path) -> str:
        command = ["dpkg-deb", "--field", str(archive)]
        fields = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        content = archive.read_bytes()
        name = archive.relative_to(root / self.directory)
        return (
            f"{fields}Filename: {'' if self.suite else './'}{name}\nSize: {len(content)}\n"
            f"SHA256: {hashlib.sha256(content).hexdigest()}\n\n"
        )

    def _release(self, files: dict[str, bytes]) -> str:
        fields = {
            "Origin": self.origin,
            "Label": self.label,
            **({"Suite": self.suite, "Codename": self.suite} if self.suite else {}),
            "Architectures": "amd64",
            **({"Components": self.component} if self.suite else {}),
            "Date": email.utils.formatdate(usegmt=True),
        }
        listed = "".join(
            f" {hashlib.sha256(content).hexdigest()} {len(content)} {name}\n"
            for name, content in files.items()
        )
        return (
            "".join(f"{name}: {value}\n" for name, value in fields.items()) + f"SHA256:\n{listed}"
        )
