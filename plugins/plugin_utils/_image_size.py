# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""How many bytes of an image are transferred to a host, as its registry says without sending them.

An answer is wanted soon or not at all: who asks has a figure of his own for when there is none.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ansible_collections.baremetal.vllm.plugins.module_utils._image_layout import (
    LayoutError,
    is_index,
    manifest_for,
    read_document,
    read_manifest,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._image_reference import (
    PullError,
    Reference,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._registry import (
    Credentials,
    RegistryError,
    RegistryImage,
)

PATIENCE = 10.0
"""Seconds that all questions together may take."""

# As `uname -m` says it -> as images do.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Question:
    """An image for Linux on one architecture, and how its registry is to be asked.

    :ivar reference: by tag, by digest, or both.
    :ivar architecture: as ``uname -m`` says it.
    :ivar credentials: user and password at the registry, or None.
    :ivar ca_path: PEM file of authorities to believe beside those of the system; empty for none.
    :ivar authority: the same as text, for where there is no file.
    :ivar insecure: registries as in :func:`_registry.digest_of`.
    """

    reference: str
    architecture: str
    credentials: Credentials | None = None
    ca_path: str = ""
    authority: str = ""
    insecure: tuple[str, ...] = ()


@dataclass(frozen=True)
class Size:
    """Bytes of an image, each layer once, packed as they are sent; or why nobody knows them."""

    bytes: int | None
    problem: str = ""


def sizes_of(questions: Sequence[Question], patience: float = PATIENCE) -> list[Size]:
    """The answers, in the order of the questions. The same question is asked once.

    :param patience: seconds after which those without an answer are given up.
    """
    answers: dict[Question, Size] = {}

    def ask(question: Question) -> None:
        answers[question] = _size(question)

    # The look-up of a name takes as long as it likes; a thread can be left behind.
    threads = [
        threading.Thread(target=ask, args=(question,), daemon=True)
        for question in dict.fromkeys(questions)
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + patience
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = f"has not been told by its registry within {patience:g} seconds."
    return [
        answers.get(question) or Size(None, f"The size of image {question.reference} {late}")
        for question in questions
    ]


def _size(question: Question) -> Size:
    try:
        return Size(_asked(question))
    except (PullError, RegistryError) as error:
        return Size(None, str(error))
    except LayoutError as error:
        return Size(None, f"Image {question.reference} {error}")
    except Exception as error:  # whatever a registry may answer, a run does not end by it
        return Size(
            None,
            f"The registry of image {question.reference} answered what nobody understands"
            f" ({type(error).__name__}); ask its administrator.",
        )


def _asked(question: Question) -> int:
    """Raises PullError, RegistryError, LayoutError."""
    parsed = Reference.parse(question.reference)
    if parsed.is_local:
        raise RegistryError(f"Image {parsed.short} is in no registry that could tell its size.")
    with _authorities(question) as ca_path:
        registry = RegistryImage(parsed, question.credentials, ca_path, question.insecure)
    document = read_document(registry.manifest(parsed.digest or registry.digest()))
    if is_index(document):
        architecture = _ARCHITECTURES.get(question.architecture, question.architecture)
        document = read_document(registry.manifest(manifest_for(document, architecture).digest))
    return sum(blob.size for blob in read_manifest(document).blobs)


@contextlib.contextmanager
def _authorities(question: Question) -> Iterator[str]:
    """The file of authorities; one of their text where no file is named."""
    if question.ca_path or not question.authority:
        yield question.ca_path
        return
    with tempfile.NamedTemporaryFile("w", suffix=".pem", encoding="utf-8") as file:
        file.write(question.authority)
        file.flush()
        yield file.name
