# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Fetches an image from its registry into a directory, without Docker.

The directory is that of ``_image_layout``. What it has already and is right is not fetched again,
and a layer that was cut off goes on where it was.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ansible_collections.baremetal.vllm.plugins.module_utils._image_layout import (
    Blob,
    LayoutError,
    Manifest,
    blob_path,
    check_config,
    documents,
    is_index,
    manifest_for,
    read_document,
    read_manifest,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._image_reference import (
    PullError,
    Reference,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._model_download import (
    Download,
    Failure,
    size_of,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._registry import (
    Credentials,
    RegistryError,
    RegistryImage,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._transfer import Transfer

# Seconds between two lines about the same image.
INTERVAL = 5.0

_GIB = 2**30
_MOVED = range(300, 400)
_SENTENCE = "sentence"
"""Kind of a failure of Download that is one of ours."""

_Asked = TypeVar("_Asked")


def fetch_image(
    reference: str,
    directory: Path,
    architecture: str = "amd64",
    credentials: Credentials | None = None,
    ca_path: str = "",
    insecure: Collection[str] = (),
    say: Callable[[str], None] = lambda _line: None,
) -> dict[str, Any]:
    """Bring an image for Linux on one architecture to a directory of its own, all of it verified.

    :param reference: with a digest: ``repository@sha256:...`` or ``repository:tag@sha256:...``.
    :param architecture: in Go's words, ``amd64`` or ``arm64``.
    :param credentials: user and password at the registry, or None.
    :param ca_path: PEM file of authorities to believe beside those of the system; empty for none.
    :param insecure: registries as in :func:`_registry.digest_of`.
    :param say: is given a line about what has arrived every few seconds.
    :returns: ``reference``, ``digest`` (of the reference), ``manifest`` and ``config`` (digests of
        those for the architecture), ``local`` (the name by which hosts run it), ``size_bytes`` (of
        all files), and ``files``: path below the directory -> sha256 in hex.
    :raises RegistryError: always one sentence; what has arrived is kept.
    """
    try:
        parsed = Reference.parse(reference)
    except PullError as error:
        raise RegistryError(str(error)) from None
    if not parsed.digest:
        raise RegistryError(
            f"image: {reference!r} has no digest, by which alone it can be verified; run"
            " playbooks/pin.yml, or give repository@sha256:<64 hex digits>."
        )
    fetch = _Fetch(
        parsed,
        Path(directory),
        functools.partial(RegistryImage, parsed, credentials, ca_path, insecure),
        say,
    )
    try:
        return fetch.run(architecture)
    except LayoutError as error:
        raise RegistryError(f"Image {parsed.short} {error}") from None
    except OSError as error:
        raise RegistryError(
            f"Image {parsed.short} cannot be written to {directory} on this machine"
            f" ({error.strerror or type(error).__name__}); name a directory that can be."
        ) from None


class _Fetch:
    """One image on its way to a directory. The registry is asked for what is not there alone."""

    def __init__(
        self,
        reference: Reference,
        directory: Path,
        registry: Callable[[], RegistryImage],
        say: Callable[[str], None],
    ) -> None:
        self._reference = reference
        self._directory = directory
        self._connect = registry
        self._connected: RegistryImage | None = None
        self._lock = threading.Lock()
        self._say = say

    @property
    def _registry(self) -> RegistryImage:
        """Made when it is needed first, as it may ask whether the registry speaks TLS."""
        with self._lock:
            if self._connected is None:
                self._connected = self._connect()
            return self._connected

    def run(self, architecture: str) -> dict[str, Any]:
        """Raises RegistryError, LayoutError, OSError."""
        digest = self._reference.digest
        sizes: dict[str, int] = {}
        named = self._document(digest)
        top = own = read_document(named)
        sizes[blob_path(digest)] = len(named)
        chosen = digest
        if is_index(top):
            chosen = manifest_for(top, architecture).digest
            content = self._document(chosen)
            sizes[blob_path(chosen)] = len(content)
            own = read_document(content)
        manifest = read_manifest(own)
        # First, and alone: it says whether the rest is wanted.
        self._download([manifest.config])
        config = (self._directory / manifest.config.path).read_bytes()
        check_config(config, manifest, architecture)
        self._download(manifest.blobs)
        sizes |= {blob.path: blob.size for blob in manifest.blobs}
        files = {path: Path(path).name for path in sizes}
        written = documents(
            self._reference.local, digest, len(named), str(top["mediaType"]), manifest
        )
        for path, content in written.items():
            self._write(path, content)
            files[path] = hashlib.sha256(content).hexdigest()
            sizes[path] = len(content)
        return self._result(chosen, manifest, sizes, files)

    def _result(
        self, chosen: str, manifest: Manifest, sizes: dict[str, int], files: dict[str, str]
    ) -> dict[str, Any]:
        return {
            "reference": self._reference.text,
            "digest": self._reference.digest,
            "manifest": chosen,
            "config": manifest.config.digest,
            "local": self._reference.local,
            "size_bytes": sum(sizes.values()),
            "files": files,
        }

    def _document(self, digest: str) -> bytes:
        """A manifest or an index, from the directory where it is there and right."""
        path = blob_path(digest)
        with contextlib.suppress(FileNotFoundError):
            content = (self._directory / path).read_bytes()
            if f"sha256:{hashlib.sha256(content).hexdigest()}" == digest:
                return content
        content = self._registry.manifest(digest)
        self._write(path, content)
        return content

    def _write(self, path: str, content: bytes) -> None:
        """Replace a file as a whole."""
        target = self._directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f"{target.name}.new")
        fresh.write_bytes(content)
        fresh.replace(target)

    # -- blobs -----------------------------------------------------------------------------------

    def _download(self, blobs: Sequence[Blob]) -> None:
        """Bring blobs and verify those that are there. Raises RegistryError."""
        files = [
            {
                "path": blob.path,
                "size": blob.size,
                "sha256": Path(blob.path).name,
                # Made an address where it is asked for: what is all there needs no registry.
                "url": blob.digest,
            }
            for blob in blobs
        ]
        have = sum(min(blob.size, self._bytes_of(blob.path)) for blob in blobs)
        total = sum(blob.size for blob in blobs)
        lines = _Lines(self._reference.short, have, total, self._say)
        job = {"directory": str(self._directory), "files": files}
        result = Download(job, functools.partial(self._http_get, lines)).run()
        if not result["ok"]:
            raise self._failure(result)

    def _bytes_of(self, path: str) -> int:
        whole = str(self._directory / path)
        return max(0, size_of(whole), size_of(f"{whole}.part"))

    def _http_get(self, lines: _Lines, digest: str, temp_file: Any, **arguments: Any) -> None:
        """What Download calls, with a digest for an address."""
        registry = self._in_a_thread(lambda: self._registry)
        transfer = Transfer(
            registry.context,
            lambda fresh: self._in_a_thread(lambda: registry.authorization(fresh)),
            lines.arrived,
        )
        transfer.http_get(registry.blob(digest), temp_file, **arguments)

    def _in_a_thread(self, asked: Callable[[], _Asked]) -> _Asked:
        """Let a sentence pass through Download, which would take it for a bad connection."""
        try:
            return asked()
        except RegistryError as error:
            raise Failure(_SENTENCE, str(error)) from None

    def _failure(self, result: Mapping[str, Any]) -> RegistryError:
        """The sentence for what Download says."""
        kind, said = result["kind"], str(result["message"]).rstrip(".")
        if kind == _SENTENCE:
            return RegistryError(f"{said}.")
        if kind == "disk_full":
            missing = int(result.get("missing_bytes") or 0)
            return RegistryError(
                f"The disk of {self._directory} is full while image {self._reference.short} is"
                f" fetched; free {missing / _GIB:.1f} GiB there, or name another directory."
            )
        if kind in ("disk", "error"):
            return RegistryError(
                f"Image {self._reference.short} cannot be written to {self._directory} on this"
                f" machine ({said}); name a directory that can be."
            )
        return self._of_the_registry(kind, said, result)

    def _of_the_registry(self, kind: str, said: str, result: Mapping[str, Any]) -> RegistryError:
        registry, status = self._registry, int(result.get("status") or 0)
        if kind == "mismatch":
            return registry.damaged(f"sha256:{result['expected']}")
        if kind == "not_found":
            return registry.error(
                f"has image {{image}} and lacks {Path(str(result['file'])).name[:12]}… of it; push"
                " the image anew."
            )
        if kind == "untrusted":
            return registry.error(
                "sends parts of image {image} from a server that cannot be trusted; name the file"
                " with its authority's certificate in ca_path (bundle_ca for"
                f" playbooks/bundle.yml): {said}."
            )
        if kind == "refused" and status in _MOVED:
            return registry.error(
                "sends parts of image {image} from where nobody must follow; have its administrator"
                f" correct that: {said}."
            )
        if status:
            return registry.refused(status)
        return registry.error(
            "cannot be reached from this machine, or breaks off, for image {image}; run again, what"
            f" has arrived is kept: {said}."
        )


class _Lines:
    """What is said of a download while it goes on, by whichever thread has a piece."""

    def __init__(self, image: str, have: int, total: int, say: Callable[[str], None]) -> None:
        self._image = image
        self._have = have
        self._total = total
        self._say = say
        self._said = time.monotonic()
        self._lock = threading.Lock()

    def arrived(self, count: int) -> None:
        with self._lock:
            self._have += count
            now = time.monotonic()
            if now - self._said < INTERVAL:
                return
            self._said = now
            # More than all of it arrives where something was wrong and comes again.
            have = min(self._have, self._total) / _GIB
            self._say(f"{self._image} {have:.2f} of {self._total / _GIB:.2f} GiB")
