# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""A container image of a few kilobytes, as a registry has it, and as a bundle does."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def layer(name: str, size: int = 1000) -> bytes:
    """A layer with one file of its own."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = size
        archive.addfile(
            entry, io.BytesIO(hashlib.sha256(name.encode()).digest() * (size // 32 + 1))
        )
    return gzip.compress(packed.getvalue(), mtime=0)


class SmallImage:
    """Its parts, to be changed before `seal` is called, which is what makes the digests.

    :ivar blobs: digest -> content, all of it.
    :ivar top: digest of the index, or of the manifest where there is no index.
    """

    def __init__(self, architecture: str = "amd64", indexed: bool = True) -> None:
        self.architecture = architecture
        self.indexed = indexed
        self.layers = [layer("one"), layer("two", 5000), layer("one")]
        self.layer_types = [LAYER] * 3
        self.config: dict[str, Any] = {
            "architecture": architecture,
            "os": "linux",
            "rootfs": {
                "type": "layers",
                "diff_ids": [digest(gzip.decompress(each)) for each in self.layers],
            },
        }
        self.manifest: dict[str, Any] = {"schemaVersion": 2, "mediaType": MANIFEST}
        self.index: dict[str, Any] = {"schemaVersion": 2, "mediaType": INDEX}
        self.others: list[dict[str, Any]] = []
        """Further entries of the index."""
        self.seal()

    def seal(self) -> SmallImage:
        self.blobs: dict[str, bytes] = {digest(each): each for each in self.layers}
        config = self._keep(json.dumps(self.config).encode())
        self.config_digest = config
        manifest = {
            **self.manifest,
            "config": self._entry(config, CONFIG),
            "layers": [
                self._entry(digest(each), said) for each, said in zip(self.layers, self.layer_types)
            ],
        }
        self.chosen = self.top = self._keep(json.dumps(manifest).encode())
        if self.indexed:
            platform = {"os": "linux", "architecture": self.architecture}
            own = {**self._entry(self.chosen, MANIFEST), "platform": platform}
            index = {**self.index, "manifests": [*self.others, own]}
            self.top = self._keep(json.dumps(index).encode())
        return self

    def _keep(self, content: bytes) -> str:
        self.blobs[digest(content)] = content
        return digest(content)

    def _entry(self, name: str, said: str) -> dict[str, Any]:
        return {"mediaType": said, "digest": name, "size": len(self.blobs[name])}

    @property
    def documents(self) -> list[str]:
        """Digests of what is asked for as a manifest."""
        return list(dict.fromkeys([self.top, self.chosen]))

    def write(self, directory: Path) -> Path:
        """Have it in a directory as a bundle has it, but for Docker's own list."""
        blobs = directory / "blobs/sha256"
        blobs.mkdir(parents=True)
        for name, content in self.blobs.items():
            (blobs / name.removeprefix("sha256:")).write_bytes(content)
        (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        named = {"schemaVersion": 2, "manifests": [self._entry(self.top, INDEX)]}
        (directory / "index.json").write_text(json.dumps(named))
        return directory
