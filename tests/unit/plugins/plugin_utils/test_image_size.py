# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Sizes of images, from a real registry on this machine."""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.plugin_utils import _web
from ansible_collections.baremetal.vllm.plugins.plugin_utils._image_size import (
    Question,
    Size,
    sizes_of,
)
from ansible_collections.baremetal.vllm.tests.unit.fake_registry import FakeRegistry, digest
from ansible_collections.baremetal.vllm.tests.unit.small_image import MANIFEST, SmallImage

USER = ("reader", "hunter2")


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_web, "PAUSES", (0.0, 0.0))
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    server = FakeRegistry()
    yield server
    server.close()


def push(registry: FakeRegistry, image: SmallImage) -> SmallImage:
    for name in image.documents:
        registry.images["lab/vllm", name] = image.blobs[name]
    registry.images["lab/vllm", "v1"] = image.blobs[image.top]
    return image


def transferred(image: SmallImage) -> int:
    """One of the three layers is there twice, and comes once."""
    return sum(len(blob) for name, blob in image.blobs.items() if name not in image.documents)


def question(registry: FakeRegistry, name: str = ":v1", **given: Any) -> Question:
    return Question(
        **{"reference": f"{registry.host}/lab/vllm{name}", "architecture": "x86_64"} | given
    )


def size(*given: Any, **also: Any) -> Size:
    (found,) = sizes_of([question(*given, **also)])
    return found


def problem(*given: Any, **also: Any) -> str:
    """The one sentence; none of them holds a secret."""
    found = size(*given, **also)
    assert found.bytes is None
    assert found.problem.endswith(".")
    assert "\n" not in found.problem
    assert USER[1] not in found.problem
    return found.problem


@pytest.mark.parametrize("indexed", [True, False])
def test_every_layer_is_counted_once(registry: FakeRegistry, indexed: bool) -> None:
    image = push(registry, SmallImage(indexed=indexed))
    expected = Size(transferred(image))
    assert size(registry, f"@{image.top}") == expected
    assert size(registry, f":v1@{image.top}") == expected
    assert size(registry, ":v1") == expected
    assert not any("/blobs/" in each.path for each in registry.requests)


def test_an_index_is_asked_for_the_host_s_architecture(registry: FakeRegistry) -> None:
    other = SmallImage()
    other.layers = other.layers[:1]
    other.layer_types = other.layer_types[:1]
    push(registry, other.seal())
    image = SmallImage("arm64")
    entry = {"mediaType": MANIFEST, "digest": other.chosen, "size": 1}
    image.others = [{**entry, "platform": {"os": "linux", "architecture": "amd64"}}]
    push(registry, image.seal())
    assert size(registry, architecture="aarch64") == Size(transferred(image))
    assert size(registry, architecture="x86_64") == Size(transferred(other))
    assert transferred(image) != transferred(other)
    assert "not for linux/ppc64le" in problem(registry, architecture="ppc64le")


def test_the_same_question_is_asked_once(registry: FakeRegistry) -> None:
    image = push(registry, SmallImage(indexed=False))
    asked = question(registry, f"@{image.top}")
    assert sizes_of([asked, asked]) == [Size(transferred(image))] * 2
    assert registry.methods() == ["GET"]
    assert sizes_of([]) == []


def test_credentials_are_used(registry: FakeRegistry) -> None:
    image = push(registry, SmallImage())
    registry.authentication, registry.user = "Bearer", ":".join(USER)
    assert size(registry, credentials=USER) == Size(transferred(image))
    assert "without credentials" in problem(registry)
    assert "as reader" in problem(registry, credentials=("reader", "hunter22"))


def test_an_image_that_is_not_there_has_no_size(registry: FakeRegistry) -> None:
    assert "has no repository lab/vllm" in problem(registry)
    assert "has no image" in problem(registry, f"@sha256:{'a' * 64}")


def test_a_registry_that_is_not_there_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        host = f"127.0.0.1:{listening.getsockname()[1]}"
    (found,) = sizes_of([Question(f"{host}/lab/vllm:v1", "x86_64")])
    assert found.problem.startswith(f"Registry {host} cannot be reached from this machine")


def test_a_registry_that_is_silent_is_given_up(registry: FakeRegistry) -> None:
    image = push(registry, SmallImage())
    with socket.create_server(("127.0.0.1", 0)) as listening:
        silent = f"127.0.0.1:{listening.getsockname()[1]}/lab/vllm:v1"
        begin = time.monotonic()
        asked = [Question(silent, "x86_64"), question(registry)]
        late, told = sizes_of(asked, patience=1)
        assert time.monotonic() - begin < 5
    assert told == Size(transferred(image))
    assert late == Size(
        None, f"The size of image {silent} has not been told by its registry within 1 seconds."
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<html>", "has a manifest that is no JSON object"),
        (b'{"schemaVersion": 2, "manifests": [{"platform": "linux"}]}', "nobody understands"),
        (b'{"schemaVersion": 2, "layers": []}', "has a configuration of the type None"),
    ],
)
def test_nonsense_is_no_size(registry: FakeRegistry, content: bytes, said: str) -> None:
    registry.images["lab/vllm", digest(content)] = content
    assert said in problem(registry, f"@{digest(content)}")


def test_a_name_that_is_local_is_asked_of_nobody() -> None:
    (found,) = sizes_of([Question(f"localhost/lab/vllm:{'a' * 64}", "x86_64")])
    assert "is in no registry" in found.problem
    (found,) = sizes_of([Question("lab/vllm", "x86_64")])
    assert "has neither tag nor digest" in found.problem


def test_an_authority_may_be_a_file_or_a_text(tmp_path: Path) -> None:
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-keyout", "key.pem", "-out", "ca.pem", "-days", "2", "-subj", "/CN=Lab"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca.pem", tmp_path / "key.pem")
    secured = FakeRegistry(tls=context)
    try:
        expected = Size(transferred(push(secured, SmallImage())))
        ca, text = str(tmp_path / "ca.pem"), (tmp_path / "ca.pem").read_text()
        assert size(secured, ca_path=ca) == expected
        assert size(secured, authority=text) == expected
        assert size(secured, insecure=(secured.host,)) == expected
        assert "cannot be trusted" in problem(secured)
        assert "no certificate in it" in problem(secured, authority="text")
    finally:
        secured.close()
