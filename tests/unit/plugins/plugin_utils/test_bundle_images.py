# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Images into directories, from a real registry on this machine."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.module_utils import _model_download
from ansible_collections.baremetal.vllm.plugins.plugin_utils import _bundle_images, _web
from ansible_collections.baremetal.vllm.plugins.plugin_utils._bundle_images import fetch_image
from ansible_collections.baremetal.vllm.plugins.plugin_utils._registry import RegistryError
from ansible_collections.baremetal.vllm.tests.unit.fake_registry import FakeRegistry
from ansible_collections.baremetal.vllm.tests.unit.small_image import SmallImage, digest, layer

USER = ("reader", "hunter2")


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_web, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(_model_download, "PAUSES", (0.01,))
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def start() -> Iterator[Callable[..., FakeRegistry]]:
    started: list[FakeRegistry] = []

    def start_one(**settings: Any) -> FakeRegistry:
        started.append(FakeRegistry(**settings))
        return started[-1]

    yield start_one
    for registry in started:
        registry.close()


@pytest.fixture
def registry(start: Callable[..., FakeRegistry]) -> FakeRegistry:
    return start()


@pytest.fixture
def image(registry: FakeRegistry) -> SmallImage:
    return push(registry, SmallImage())


def push(registry: FakeRegistry, image: SmallImage) -> SmallImage:
    for name in image.documents:
        registry.images["lab/vllm", name] = image.blobs[name]
    registry.blobs |= {
        name: content for name, content in image.blobs.items() if name not in image.documents
    }
    return image


def fetch(registry: FakeRegistry, image: SmallImage, directory: Path, **given: Any) -> Any:
    return fetch_image(f"{registry.host}/lab/vllm@{image.top}", directory, **given)


def refusal(registry: FakeRegistry, image: SmallImage, directory: Path, **given: Any) -> str:
    """The one sentence; none of them holds a secret, and nothing looks whole after it."""
    with pytest.raises(RegistryError) as caught:
        fetch(registry, image, directory, **given)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert USER[1] not in sentence
    assert not (directory / "index.json").exists()
    return sentence


def asked_blobs(registry: FakeRegistry) -> list[str]:
    return [each.path.rpartition("/")[2] for each in registry.requests if "/blobs/" in each.path]


def in_directory(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


# -- what is written -----------------------------------------------------------------------------


@pytest.mark.parametrize("indexed", [True, False], ids=["index", "manifest"])
def test_all_of_an_image_is_in_the_directory(
    registry: FakeRegistry, tmp_path: Path, indexed: bool
) -> None:
    image = push(registry, SmallImage(indexed=indexed))
    found = fetch(registry, image, tmp_path)
    blobs = {f"blobs/sha256/{name[7:]}": content for name, content in image.blobs.items()}
    there = in_directory(tmp_path)
    written = {name: there.pop(name) for name in ("oci-layout", "index.json", "manifest.json")}
    assert there == blobs
    hexadecimal = image.top.removeprefix("sha256:")
    assert found["local"] == f"localhost/lab/vllm:{hexadecimal}"
    assert json.loads(written["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (named,) = json.loads(written["index.json"])["manifests"]
    assert (named["digest"], named["size"]) == (image.top, len(image.blobs[image.top]))
    assert set(named["annotations"].values()) == {found["local"]}
    assert json.loads(written["manifest.json"]) == [
        {
            "Config": f"blobs/sha256/{image.config_digest[7:]}",
            "RepoTags": [found["local"]],
            "Layers": [f"blobs/sha256/{digest(each)[7:]}" for each in image.layers],
        }
    ]
    assert (found["digest"], found["manifest"], found["config"]) == (
        image.top,
        image.chosen,
        image.config_digest,
    )
    assert found["files"] == {
        name: digest(content)[7:] for name, content in in_directory(tmp_path).items()
    }
    assert found["size_bytes"] == sum(map(len, in_directory(tmp_path).values()))


def test_of_an_index_the_manifest_of_the_architecture_is_taken(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    arm = push(registry, SmallImage("arm64", indexed=False))
    both = SmallImage()
    both.others = [
        {
            **both._entry(both.chosen, "application/vnd.oci.image.manifest.v1+json"),
            "digest": arm.top,
            "size": len(arm.blobs[arm.top]),
            "platform": {"os": "linux", "architecture": "arm64"},
        },
        {"platform": {"os": "unknown", "architecture": "unknown"}, "digest": "sha256:attestation"},
    ]
    push(registry, both.seal())
    assert fetch(registry, both, tmp_path / "amd")["manifest"] == both.chosen
    assert fetch(registry, both, tmp_path / "arm", architecture="arm64")["manifest"] == arm.top
    assert not (tmp_path / "amd/blobs/sha256" / arm.top[7:]).exists()


def test_a_tag_beside_the_digest_is_not_asked_about(
    registry: FakeRegistry, image: SmallImage, tmp_path: Path
) -> None:
    found = fetch_image(f"{registry.host}/lab/vllm:v9@{image.top}", tmp_path)
    assert found["reference"] == f"{registry.host}/lab/vllm:v9@{image.top}"
    assert not any("v9" in each.path for each in registry.requests)


# -- what is there already -----------------------------------------------------------------------


def test_what_is_there_is_not_asked_for(
    registry: FakeRegistry, image: SmallImage, tmp_path: Path
) -> None:
    first = fetch(registry, image, tmp_path)
    registry.requests.clear()
    assert fetch(registry, image, tmp_path) == first
    assert registry.requests == []


def test_what_is_damaged_is_fetched_anew_and_nothing_else(
    registry: FakeRegistry, image: SmallImage, tmp_path: Path
) -> None:
    fetch(registry, image, tmp_path)
    damaged = [image.top, digest(image.layers[1])]
    for name in damaged:
        path = tmp_path / "blobs/sha256" / name[7:]
        path.write_bytes(b"x" * path.stat().st_size)
    registry.requests.clear()
    fetch(registry, image, tmp_path)
    assert registry.methods() == ["GET"]
    assert asked_blobs(registry) == damaged[1:]
    assert (tmp_path / "blobs/sha256" / image.top[7:]).read_bytes() == image.blobs[image.top]


def test_a_layer_that_was_cut_off_goes_on_where_it_was(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    image = SmallImage()
    image.layers = [os.urandom(600_000)] * 3
    push(registry, image.seal())
    registry.cuts = [10_000, 400_000]  # the configuration, which is shorter, and the layer
    fetch(registry, image, tmp_path)
    big = [each for each in registry.requests if each.path.endswith(digest(image.layers[0]))]
    assert len(big) == 2
    begin = int(big[1].range.removeprefix("bytes=").removesuffix("-"))
    assert 100_000 < begin <= 400_000


# -- credentials ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Basic", "Bearer"])
def test_credentials_are_given_to_the_registry_and_not_to_where_the_layers_are(
    registry: FakeRegistry,
    start: Callable[..., FakeRegistry],
    image: SmallImage,
    tmp_path: Path,
    kind: str,
) -> None:
    storage = start(blobs=registry.blobs)
    registry.authentication, registry.user = kind, ":".join(USER)
    registry.elsewhere = storage.url
    fetch(registry, image, tmp_path, credentials=USER)
    assert len(storage.requests) == 3
    assert {each.authorization for each in storage.requests} == {""}
    assert all(
        each.authorization.startswith(kind) for each in registry.requests if "/blobs/" in each.path
    )


def test_a_token_that_ends_in_the_middle_is_replaced(
    registry: FakeRegistry, image: SmallImage, tmp_path: Path
) -> None:
    registry.authentication, registry.lifetime = "Bearer", 2
    fetch(registry, image, tmp_path)
    assert [each.path for each in registry.requests].count("/token") > 1


def test_wrong_credentials_are_told(
    registry: FakeRegistry, image: SmallImage, tmp_path: Path
) -> None:
    registry.authentication, registry.user = "Basic", ":".join(USER)
    said = refusal(registry, image, tmp_path, credentials=("reader", "wrong"))
    assert "does not let us see image" in said
    assert "as reader" in said


# -- refusals ------------------------------------------------------------------------------------


def test_an_image_without_a_digest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"'registry\.invalid/vllm:v1' has no digest"):
        fetch_image("registry.invalid/vllm:v1", tmp_path)
    with pytest.raises(RegistryError, match="is no image reference"):
        fetch_image("Registry.invalid/VLLM@sha256:" + "a" * 64, tmp_path)


def test_an_image_that_is_not_there_is_told(registry: FakeRegistry, tmp_path: Path) -> None:
    assert f"Registry {registry.host} has no image" in refusal(registry, SmallImage(), tmp_path)


def test_an_architecture_that_is_not_there_is_told(
    registry: FakeRegistry, image: SmallImage, tmp_path: Path
) -> None:
    said = refusal(registry, image, tmp_path, architecture="arm64")
    assert "is there for linux/amd64 and not for linux/arm64; name an image for arm64." in said
    assert asked_blobs(registry) == []


def test_another_architecture_without_index_is_told_before_the_layers_come(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    image = push(registry, SmallImage("arm64", indexed=False))
    said = refusal(registry, image, tmp_path)
    assert "is there for linux/arm64 and not for linux/amd64" in said
    assert asked_blobs(registry) == [image.config_digest]


def foreign(image: SmallImage) -> None:
    image.layer_types[1] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"


def schema_1(image: SmallImage) -> None:
    image.indexed = False
    image.manifest = {
        "schemaVersion": 1,
        "mediaType": "application/vnd.docker.distribution.manifest.v1+json",
    }


def unequal(image: SmallImage) -> None:
    image.config["rootfs"]["diff_ids"].pop()


def without_layers(image: SmallImage) -> None:
    image.config.pop("rootfs")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (foreign, "has a layer of the type application/vnd.docker.image.rootfs.foreign.diff"),
        (schema_1, "has a manifest of the type application/vnd.docker.distribution.manifest.v1"),
        (unequal, "has 3 layers in its manifest and 2 in its configuration"),
        (without_layers, "has a configuration that is not Docker's"),
    ],
    ids=["foreign layer", "schema 1", "unequal", "no image of Docker"],
)
def test_what_docker_could_not_load_is_refused(
    registry: FakeRegistry, tmp_path: Path, change: Callable[[SmallImage], None], said: str
) -> None:
    image = SmallImage()
    change(image)
    push(registry, image.seal())
    assert said in refusal(registry, image, tmp_path)
    assert not set(map(digest, image.layers)) & set(asked_blobs(registry))


def test_a_manifest_with_other_content_is_refused(
    registry: FakeRegistry, image: SmallImage, tmp_path: Path
) -> None:
    registry.images["lab/vllm", image.top] = b"{}"
    assert f"sent other content than {image.top} promises" in refusal(registry, image, tmp_path)


def test_a_layer_with_other_content_is_refused(
    registry: FakeRegistry, image: SmallImage, tmp_path: Path
) -> None:
    name = digest(image.layers[1])
    registry.blobs[name] = b"x" * len(registry.blobs[name])
    assert f"sent other content than {name} promises" in refusal(registry, image, tmp_path)
    assert asked_blobs(registry).count(name) == 2


def test_a_layer_that_is_not_there_is_told(
    registry: FakeRegistry, image: SmallImage, tmp_path: Path
) -> None:
    name = digest(image.layers[1])
    del registry.blobs[name]
    assert f"lacks {name[7:19]}… of it" in refusal(registry, image, tmp_path)


def test_a_registry_that_cannot_be_reached_is_told(
    registry: FakeRegistry, image: SmallImage, tmp_path: Path
) -> None:
    host = registry.host
    registry.close()
    with pytest.raises(RegistryError, match=f"Registry {host} cannot be reached"):
        fetch_image(f"{host}/lab/vllm@{image.top}", tmp_path)


def test_a_full_disk_is_told(
    registry: FakeRegistry, image: SmallImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int, _content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_model_download.os, "write", full)
    said = refusal(registry, image, tmp_path)
    assert said.startswith(f"The disk of {tmp_path} is full while image")


def test_a_directory_that_cannot_be_written_is_told(
    registry: FakeRegistry, image: SmallImage, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    said = refusal(registry, image, tmp_path / "file/below")
    assert "cannot be written to" in said


# -- lines ---------------------------------------------------------------------------------------


def test_lines_tell_how_much_is_there(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_bundle_images, "INTERVAL", 0.0)
    image = SmallImage()
    image.layers = [layer("a", 3000)] * 3
    push(registry, image.seal())
    lines: list[str] = []
    fetch(registry, image, tmp_path, say=lines.append)
    assert lines
    assert all("of 0.00 GiB" in line and f"@{image.top[:15]}…" in line for line in lines)
    monkeypatch.setattr(_bundle_images, "INTERVAL", 60.0)
    lines.clear()
    fetch(registry, image, tmp_path / "again", say=lines.append)
    assert lines == []
