# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""An image as files of a directory, which the controller writes and a host loads into Docker.

It is an OCI image layout (OCI image specification 1.1) with the `manifest.json` of `docker save`
beside it. Docker's classic store reads that one, since 20.10 at least; its containerd store reads
`index.json`. Blobs are what the registry sent, byte by byte.
"""

from __future__ import annotations

import json
import re
import typing as t
from dataclasses import dataclass

INDEX = "index.json"
OCI_LAYOUT = "oci-layout"
DOCKER_LIST = "manifest.json"

INDEX_TYPES = frozenset(
    {
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    }
)
MANIFEST_TYPES = frozenset(
    {
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    }
)
_CONFIG_TYPES = frozenset(
    {
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    }
)
_LAYER_TYPES = frozenset(
    {
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
    }
)
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})\Z")
_ADVICE = "use the image of a release of vLLM, or one that was built from it"


class LayoutError(Exception):
    """An image is not one that can be brought; the text goes on after its name."""


@dataclass(frozen=True)
class Blob:
    """A file of the image: its digest (`sha256:...`), its bytes, its media type."""

    digest: str
    size: int
    media_type: str

    @property
    def path(self) -> str:
        return blob_path(self.digest)


@dataclass(frozen=True)
class Manifest:
    """What an image for one architecture consists of; an empty layer may be there many times."""

    config: Blob
    layers: tuple[Blob, ...]

    @property
    def blobs(self) -> list[Blob]:
        """Its files, each once."""
        return list({blob.digest: blob for blob in (self.config, *self.layers)}.values())


def blob_path(digest: str) -> str:
    """Return where in the layout a blob is."""
    return f"blobs/sha256/{digest[len('sha256:') :]}"


def read_document(content: bytes) -> dict[str, t.Any]:
    """Return a manifest or an index, and under `mediaType` which of them. Raises LayoutError."""
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise LayoutError(f"has a manifest that is no JSON object; {_ADVICE}.")
    # OCI's documents need not say what they are.
    implied = "index" if "manifests" in document else "manifest"
    said = document.get("mediaType") or f"application/vnd.oci.image.{implied}.v1+json"
    if said not in INDEX_TYPES | MANIFEST_TYPES or document.get("schemaVersion") != 2:
        raise LayoutError(
            f"has a manifest of the type {said}, schema {document.get('schemaVersion')}, which is"
            f" not known here; {_ADVICE}."
        )
    return {**document, "mediaType": said}


def is_index(document: t.Mapping[str, t.Any]) -> bool:
    """Return whether a document names images of several architectures."""
    return document["mediaType"] in INDEX_TYPES


def manifest_for(index: t.Mapping[str, t.Any], architecture: str) -> Blob:
    """Return which manifest of an index is that of Linux on an architecture, in Go's words.

    Raises LayoutError where there is none.
    """
    there = []
    for entry in _list(index.get("manifests")):
        platform = entry.get("platform") or {}
        system = f"{platform.get('os')}/{platform.get('architecture')}"
        if system == f"linux/{architecture}":
            return _blob(entry, MANIFEST_TYPES, "a manifest")
        if platform.get("os") != "unknown":  # what a build says about itself
            there.append(system)
    raise LayoutError(
        f"is there for {', '.join(sorted(set(there))) or 'no system'} and not for"
        f" linux/{architecture}; name an image for {architecture}."
    )


def read_manifest(document: t.Mapping[str, t.Any]) -> Manifest:
    """Return what the manifest of one architecture names. Raises LayoutError."""
    if is_index(document):
        raise LayoutError(f"has an index within its index; {_ADVICE}.")
    layers = [_blob(entry, _LAYER_TYPES, "a layer") for entry in _list(document.get("layers"))]
    config = document.get("config")
    return Manifest(
        _blob(config if isinstance(config, dict) else {}, _CONFIG_TYPES, "a configuration"),
        tuple(layers),
    )


def check_config(content: bytes, manifest: Manifest, architecture: str) -> None:
    """Raise LayoutError unless a configuration is of this manifest and of this architecture."""
    try:
        config = json.loads(content)
        system = f"{config['os']}/{config['architecture']}"
        layers = len(config["rootfs"]["diff_ids"])
    except (ValueError, KeyError, TypeError):
        raise LayoutError(f"has a configuration that is not Docker's; {_ADVICE}.") from None
    if system != f"linux/{architecture}":
        raise LayoutError(
            f"is there for {system} and not for linux/{architecture}; name an image for"
            f" {architecture}."
        )
    if layers != len(manifest.layers):
        raise LayoutError(
            f"has {len(manifest.layers)} layers in its manifest and {layers} in its configuration;"
            f" {_ADVICE}."
        )


def documents(
    local: str, digest: str, size: int, media_type: str, manifest: Manifest
) -> dict[str, bytes]:
    """Return the files of a layout that are no blobs.

    :param local: the name that the image shall have.
    :param digest: what its reference names, an index or a manifest, with its size in bytes and its
        media type.
    :param manifest: that of the one architecture that is brought.
    """
    named = {
        "mediaType": media_type,
        "digest": digest,
        "size": size,
        "annotations": {
            "io.containerd.image.name": local,
            "org.opencontainers.image.ref.name": local,
        },
    }
    listed = {
        "Config": manifest.config.path,
        "RepoTags": [local],
        "Layers": [layer.path for layer in manifest.layers],
    }
    return {
        OCI_LAYOUT: _text({"imageLayoutVersion": "1.0.0"}),
        INDEX: _text({"schemaVersion": 2, "manifests": [named]}),
        DOCKER_LIST: _text([listed]),
    }


def digest_in(content: bytes) -> str:
    """Return which image an `index.json` names; empty where it is none of ours."""
    try:
        digest = json.loads(content)["manifests"][0]["digest"]
    except (ValueError, KeyError, IndexError, TypeError):
        return ""
    return digest if isinstance(digest, str) and _DIGEST.match(digest) else ""


def _list(value: t.Any) -> list[dict[str, t.Any]]:
    """Return the objects of a list, none where it is something else."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _blob(entry: t.Mapping[str, t.Any], allowed: t.Collection[str], what: str) -> Blob:
    digest, size, said = (entry.get(key) for key in ("digest", "size", "mediaType"))
    if said not in allowed:
        raise LayoutError(f"has {what} of the type {said}, which is not known here; {_ADVICE}.")
    if not isinstance(digest, str) or not _DIGEST.match(digest) or not isinstance(size, int):
        raise LayoutError(f"has {what} without a sha256 digest and a size; {_ADVICE}.")
    return Blob(digest, size, str(said))


def _text(content: t.Any) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
