# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""References of images, and the names by which a host knows an image."""

from __future__ import annotations

import contextlib
import re
import typing as t
from dataclasses import dataclass

DOCKER_HUB = "docker.io"
# The registry of names that no registry has. Docker never asks it for an image that is there.
LOCAL_REGISTRY = "localhost"

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_REPOSITORY = re.compile(
    r"(?:(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::[0-9]+)?/)?"
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*\Z"
)


class PullError(Exception):
    """An image cannot be had; the text is one sentence for the operator."""


def split_registry(repository: str) -> tuple[str, str]:
    """Return the registry's host, with its port where one is given, and the name there."""
    first, slash, rest = repository.partition("/")
    if slash and ("." in first or ":" in first or first == LOCAL_REGISTRY):
        return first, rest
    return DOCKER_HUB, repository


def local_name(repository: str, digest: str) -> str:
    """Return the name by which a host runs an image, however it came there.

    An image that was loaded from a file has no digest for Docker's classic store, so a name by
    digest finds only what was pulled. The digest is the tag here, and who gives an image this name
    has verified it. Empty where C(digest) is no C(sha256:<64 hex digits>).
    """
    if not _DIGEST.match(digest):
        return ""
    return f"{LOCAL_REGISTRY}/{split_registry(repository)[1]}:{digest[len('sha256:') :]}"


def image_names(references: t.Iterable[str]) -> set[str]:
    """Return further names of what references name, all of them the same image.

    A digest has its local name; a local name beside another reference has its name by digest.
    """
    parsed = []
    for text in references:
        with contextlib.suppress(PullError):
            parsed.append(Reference.parse(text))
    named = {each.local for each in parsed if each.digest}
    digests = {f"sha256:{each.tag}" for each in parsed if each.is_local}
    for each in parsed:
        if not each.is_local:
            named |= {f"{each.repository}@{digest}" for digest in digests}
    return named


def carries_local_name(repository: str, digest: str, found: t.Mapping[str, t.Any]) -> bool:
    """Return whether an image that was found has the local name of a digest.

    Who gave it that name has verified it. Other digests of the image say nothing: the same layers
    may have been pushed to another registry, packed in another way.

    :param found: what the engine says of it.
    """
    return local_name(repository, digest) in (found.get("RepoTags") or [])


def known_digest(repository: str, found: t.Mapping[str, t.Any], preferred: str = "") -> str:
    """Return the digest by which its registry knows an image that was found by its tag.

    Empty where no registry does, because it was built here. Of several digests it is the preferred
    one, or one whose local name the image carries, or the first.

    :param found: what the engine says of it.
    """
    last = repository.rpartition("/")[2]
    digests = [
        digest
        for known, _at, digest in (
            str(name).partition("@") for name in found.get("RepoDigests") or []
        )
        if known.rpartition("/")[2] == last
    ]
    named = [digest for digest in digests if carries_local_name(repository, digest, found)]
    return preferred if preferred in digests else ([*named, *digests] or [""])[0]


@dataclass(frozen=True)
class Reference:
    """An image reference that names one image: by tag, by digest, or both (the digest counts)."""

    text: str
    repository: str
    tag: str
    digest: str

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Return the parts of `text`; raises PullError unless it has a valid tag or digest."""
        rest, _at, digest = text.partition("@")
        repository, tag = rest, ""
        if ":" in rest.rpartition("/")[2]:
            repository, _colon, tag = rest.rpartition(":")
        allowed = "allowed is repository:tag or, better, repository@sha256:<64 hex digits>"
        if "@" in text and not _DIGEST.match(digest):
            raise PullError(f"image: the digest of {text!r} is not one; {allowed}.")
        if not _REPOSITORY.match(repository) or (":" in rest[len(repository) :] and not tag):
            raise PullError(f"image: {text!r} is no image reference; {allowed}.")
        if tag and not _TAG.match(tag):
            raise PullError(f"image: the tag of {text!r} is not one; {allowed}.")
        if not tag and not digest:
            raise PullError(f"image: {text!r} has neither tag nor digest; {allowed}.")
        return cls(text, repository, tag, digest)

    @property
    def registry(self) -> str:
        """The registry's host, with its port where one is given."""
        return split_registry(self.repository)[0]

    @property
    def local(self) -> str:
        """The name by which a host runs the image; empty without a digest."""
        return local_name(self.repository, self.digest)

    @property
    def is_local(self) -> bool:
        """Whether it is a local name itself."""
        digits = re.fullmatch(r"[0-9a-f]{64}", self.tag)
        return self.registry == LOCAL_REGISTRY and digits is not None and not self.digest

    @property
    def name(self) -> str:
        """The name under which the engine is asked for exactly this image."""
        return (
            f"{self.repository}@{self.digest}" if self.digest else f"{self.repository}:{self.tag}"
        )

    @property
    def short(self) -> str:
        """The reference with its digest cut to eight digits, for messages."""
        if not self.digest:
            return self.text
        return f"{self.text.partition('@')[0]}@{self.digest[:15]}…"
