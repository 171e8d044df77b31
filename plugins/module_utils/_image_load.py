# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Loading one image from a directory of the host into the Docker Engine.

Only what has been verified is sent: the blobs against their digests, and the files that name them
are written anew for the engine.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tarfile
import time
import typing as t

from ansible_collections.baremetal.vllm.plugins.module_utils._docker_api import (
    DockerAPI,
    DockerAPIError,
    DockerUnavailable,
    quote_segment,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._image_layout import (
    INDEX,
    Blob,
    LayoutError,
    blob_path,
    check_config,
    digest_in,
    documents,
    is_index,
    manifest_for,
    read_document,
    read_manifest,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._image_pull import (
    Image,
    ImagePuller,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._image_reference import (
    PullError,
    Reference,
)

_PIECE = 1024 * 1024
_BLOCK = tarfile.BLOCKSIZE
_LARGEST_DOCUMENT = 16 * 1024 * 1024
"""Bytes; a manifest has at most 4 MiB (OCI distribution specification)."""

_COPY_AGAIN = "copy it from the bundle again, and write the bundle again where that is so too"


class LoadError(Exception):
    """An image cannot be loaded; the text is one sentence for the operator."""


class _Content(t.NamedTuple):
    """What is sent: small files with their content, and blobs."""

    small: dict[str, bytes]
    blobs: list[Blob]
    ids: tuple[str, ...]
    """Which ids the engine may give the image: each of its stores takes another digest for it."""


class ImageLoader:
    """Brings the image of a layout to the engine behind `api`.

    :param reference: with a digest.
    """

    def __init__(self, api: DockerAPI, reference: Reference, directory: str) -> None:
        self._api = api
        self._reference = reference
        self._directory = directory
        self._puller = ImagePuller(api, reference)

    def present(self) -> Image | None:
        """Return the image if the engine has it. Raises LoadError and DockerUnavailable."""
        with _in_our_words():
            return self._puller.present()

    def name(self, image: Image) -> None:
        """Give an image that is present its local name. Raises like `present`."""
        with _in_our_words():
            self._puller.name_locally(image)

    def load(self, timeout: float) -> Image:
        """Verify the directory and load it within `timeout` seconds; return what was loaded.

        The time is that of the engine, without the verification. Raises LoadError, and
        DockerUnavailable when nobody answers.
        """
        architecture = str(self._ask("/version").get("Arch", ""))
        content = self._verified(architecture)
        start = time.monotonic()
        try:
            answer = self._api.upload(
                "/images/load?quiet=1", self._tar(content), "application/x-tar", timeout
            )
        except DockerAPIError as error:
            raise self._failure(error.message) from error
        except DockerUnavailable:
            if time.monotonic() - start < timeout:
                raise
            raise LoadError(
                f"Image {self._reference.short} was not loaded within {timeout:.0f} seconds; raise "
                "timeout, or look at the disk of Docker's data."
            ) from None
        for message in answer:
            if isinstance(message, dict) and message.get("error"):
                raise self._failure(str(message["error"]))
        return self._loaded(content)

    # -- the directory ---------------------------------------------------------------------------

    def _verified(self, architecture: str) -> _Content:
        """Return what is to be sent, all of it verified. Raises LoadError."""
        digest = self._reference.digest
        held = digest_in(self._read(INDEX))
        if held != digest:
            raise LoadError(
                f"Directory {self._directory} holds {held or 'no image'} and not image "
                f"{self._reference.short}; name the directory of this image, or copy it from the "
                "bundle again."
            )
        named = self._read(blob_path(digest), digest)
        try:
            top = read_document(named)
            own, small = top, {blob_path(digest): named}
            chosen = digest
            if is_index(top):
                chosen = manifest_for(top, architecture).digest
                small[blob_path(chosen)] = self._of_architecture(chosen, architecture)
                own = read_document(small[blob_path(chosen)])
            manifest = read_manifest(own)
            config = self._read(manifest.config.path, manifest.config.digest)
            check_config(config, manifest, architecture)
        except LayoutError as error:
            raise LoadError(f"Image {self._reference.short} {error}") from None
        for blob in manifest.blobs:
            self._verify(blob)
        local, size = self._reference.local, len(named)
        small |= documents(local, digest, size, top["mediaType"], manifest)
        return _Content(small, manifest.blobs, (manifest.config.digest, digest, chosen))

    def _of_architecture(self, digest: str, architecture: str) -> bytes:
        if not os.path.exists(self._path(blob_path(digest))):
            raise LoadError(
                f"Directory {self._directory} has image {self._reference.short} for another "
                f"architecture than {architecture}, which this host has; write the bundle again "
                f"with bundle_architecture={architecture}."
            )
        return self._read(blob_path(digest), digest)

    def _path(self, path: str) -> str:
        return os.path.join(self._directory, path)

    def _read(self, path: str, digest: str = "") -> bytes:
        """Return a small file, verified where it has a digest."""
        try:
            with open(self._path(path), "rb") as file:
                content = file.read(_LARGEST_DOCUMENT)
        except OSError as error:
            raise self._unreadable(path, error) from error
        if digest and f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            raise self._damaged(path)
        return content

    def _verify(self, blob: Blob) -> None:
        sha256, size = hashlib.sha256(), 0
        try:
            with open(self._path(blob.path), "rb", buffering=0) as file:
                while piece := file.read(_PIECE):
                    sha256.update(piece)
                    size += len(piece)
        except OSError as error:
            raise self._unreadable(blob.path, error) from error
        if f"sha256:{sha256.hexdigest()}" != blob.digest or size != blob.size:
            raise self._damaged(blob.path)

    def _unreadable(self, path: str, error: OSError) -> LoadError:
        if isinstance(error, FileNotFoundError):
            return LoadError(
                f"Directory {self._directory} lacks {path} of image {self._reference.short}; "
                f"{_COPY_AGAIN}."
            )
        return LoadError(
            f"{self._path(path)} of image {self._reference.short} cannot be read "
            f"({error.strerror or type(error).__name__}); look at the disk, and copy it again."
        )

    def _damaged(self, path: str) -> LoadError:
        return LoadError(
            f"{self._path(path)} of image {self._reference.short} is damaged, its sha256 is not "
            f"the one in its name; {_COPY_AGAIN}."
        )

    # -- the engine ------------------------------------------------------------------------------

    def _tar(self, content: _Content) -> t.Iterator[bytes]:
        """Yield the directory as the engine reads it."""
        for path, small in sorted(content.small.items()):
            yield _header(path, len(small)) + small + _padding(len(small))
        for blob in content.blobs:
            yield _header(blob.path, blob.size)
            sent = 0
            try:
                with open(self._path(blob.path), "rb", buffering=0) as file:
                    while piece := file.read(min(_PIECE, blob.size - sent)):
                        yield piece
                        sent += len(piece)
            except OSError as error:
                raise self._unreadable(blob.path, error) from error
            if sent < blob.size:
                raise self._damaged(blob.path)
            yield _padding(blob.size)
        yield bytes(2 * _BLOCK)

    def _loaded(self, content: _Content) -> Image:
        """Return the image under its local name. Raises LoadError unless it is the right one."""
        reference = self._reference
        found = self._inspect(reference.local)
        if found is None:
            # Loaded, and the name of the archive not heeded.
            unnamed = next(filter(None, map(self._inspect, content.ids)), None)
            if unnamed is None:
                raise LoadError(
                    f"Docker loaded image {reference.short} and does not have it; read its log "
                    "with `journalctl -u docker`."
                )
            found = unnamed
            self.name(Image(str(found["Id"]), "", 0, reference.local))
        if found["Id"] not in content.ids:
            raise LoadError(
                f"Docker loaded image {reference.short} as {found['Id']}, which is none of its "
                f"digests ({', '.join(content.ids)}); remove {reference.local} and read Docker's "
                "log with `journalctl -u docker`."
            )
        return Image(
            id=str(found["Id"]),
            digest=reference.name,
            size_bytes=int(found.get("Size", 0)),
            local=reference.local,
            named=True,
        )

    def _inspect(self, name: str) -> dict[str, t.Any] | None:
        try:
            return self._ask(f"/images/{quote_segment(name)}/json")
        except _AbsentError:
            return None

    def _ask(self, path: str) -> dict[str, t.Any]:
        try:
            answer: dict[str, t.Any] = self._api.get(path)
        except DockerAPIError as error:
            if error.status == 404:
                raise _AbsentError from None
            raise self._failure(error.message) from error
        return answer

    def _failure(self, said: str) -> LoadError:
        """Return the sentence for what the engine said."""
        said, image = " ".join(said.split()).rstrip("."), self._reference.short
        if re.search(r"no space left on device|disk quota exceeded", said, re.IGNORECASE):
            return LoadError(
                f"The disk of Docker's data is full while image {image} is loaded; free space "
                f"there (`docker system df` shows what takes it) and run again: {said}."
            )
        return LoadError(
            f"Docker cannot load image {image}; read what it says, and its log with "
            f"`journalctl -u docker`: {said}."
        )


class _AbsentError(Exception):
    """The engine has no such object."""


@contextlib.contextmanager
def _in_our_words() -> t.Iterator[None]:
    """Pass a sentence on."""
    try:
        yield
    except PullError as error:
        raise LoadError(str(error)) from error


def _header(path: str, size: int) -> bytes:
    entry = tarfile.TarInfo(path)
    entry.size = size
    entry.mode = 0o644
    return entry.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)
