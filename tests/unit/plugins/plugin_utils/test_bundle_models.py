# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Weights that are fetched into a bundle, from a server on loopback."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.module_utils import _model_download
from ansible_collections.baremetal.vllm.plugins.module_utils._source_client import trust
from ansible_collections.baremetal.vllm.plugins.plugin_utils._bundle import BundleError
from ansible_collections.baremetal.vllm.plugins.plugin_utils._bundle_models import (
    fetch_model,
    paths_of,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._transfer import Transfer
from ansible_collections.baremetal.vllm.tests.unit.fake_source import FakeSource, Reply

COMMIT = "ab" * 20
FILES = {"config.json": b"{}", "sub/model.safetensors": bytes(range(256)) * 4096}


@pytest.fixture
def source() -> Iterator[FakeSource]:
    server = FakeSource()
    for path, content in FILES.items():
        server.routes[f"/a/b/{path}"] = Reply(content)
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_model_download, "PAUSES", (0.01,))


def listing(source: FakeSource) -> dict[str, Any]:
    """The hub promises the SHA-256 of large files, and Git's name of small ones."""
    blob = hashlib.sha1(b"blob 2\0{}").hexdigest()  # noqa: S324 - Git's name
    large = FILES["sub/model.safetensors"]
    return {
        "asked": "a/b@main",
        "model": "a/b",
        "commit": COMMIT,
        "source": source.url,
        "files": [
            {
                "path": "config.json",
                "size": 2,
                "git_sha1": blob,
                "url": f"{source.url}/a/b/config.json",
            },
            {
                "path": "sub/model.safetensors",
                "size": len(large),
                "sha256": hashlib.sha256(large).hexdigest(),
                "url": f"{source.url}/a/b/sub/model.safetensors",
            },
        ],
    }


def fetch(source: FakeSource, directory: Path, **more: Any) -> dict[str, Any]:
    return fetch_model(listing(source), directory, Transfer(trust()), **more)


def test_a_model_comes_whole_with_its_manifest(source: FakeSource, tmp_path: Path) -> None:
    found = fetch(source, tmp_path, token="hf_secret")
    home = tmp_path / "models/a--b"
    for path, content in FILES.items():
        assert (home / COMMIT / path).read_bytes() == content
    sums = {file["path"]: file["sha256"] for file in found["files"]}
    assert sums == {path: hashlib.sha256(each).hexdigest() for path, each in FILES.items()}
    manifest = json.loads((home / f"{COMMIT}.json").read_text())
    assert {path: entry["sha256"] for path, entry in manifest["files"].items()} == sums
    assert {request.token for request in source.requests} == {"Bearer hf_secret"}
    # What is written into a bundle leads nobody to the source, whose addresses may be signed.
    assert source.url not in json.dumps(found["files"])
    assert set(paths_of(found)) == {
        f"models/a--b/{COMMIT}.json",
        *(f"models/a--b/{COMMIT}/{path}" for path in FILES),
    }
    assert sorted(each.name for each in home.iterdir()) == [COMMIT, f"{COMMIT}.json"]


def test_what_is_there_is_not_fetched_again(source: FakeSource, tmp_path: Path) -> None:
    first = fetch(source, tmp_path)
    source.requests.clear()
    assert fetch(source, tmp_path) == first
    assert source.requests == []


def test_a_flipped_byte_is_found_and_fetched_alone(source: FakeSource, tmp_path: Path) -> None:
    fetch(source, tmp_path)
    file = tmp_path / "models/a--b" / COMMIT / "sub/model.safetensors"
    content = file.read_bytes()
    file.write_bytes(b"\1" + content[1:])
    source.requests.clear()
    fetch(source, tmp_path)
    assert file.read_bytes() == content
    assert [request.path for request in source.requests] == ["/a/b/sub/model.safetensors"]


def test_other_content_than_was_promised_is_refused(source: FakeSource, tmp_path: Path) -> None:
    wrong = b"x" * len(FILES["sub/model.safetensors"])
    source.routes["/a/b/sub/model.safetensors"] = Reply(wrong)
    with pytest.raises(
        BundleError, match=r"a/b at abababab cannot be had from .*model.safetensors"
    ):
        fetch(source, tmp_path)
    assert not (tmp_path / "models/a--b" / COMMIT).exists()


def test_a_refusal_of_the_source_is_said_without_the_token(
    source: FakeSource, tmp_path: Path
) -> None:
    source.routes["/a/b/config.json"] = Reply(b"", 401)
    with pytest.raises(BundleError, match="401") as error:
        fetch(source, tmp_path, token="hf_secret")
    assert "hf_secret" not in str(error.value)


def test_the_operator_sees_how_far_it_is(source: FakeSource, tmp_path: Path) -> None:
    told: list[Any] = []
    fetch(source, tmp_path, tell=told.append)
    totals = {status["total_bytes"] for status in told if status}
    assert totals == {sum(map(len, FILES.values()))}
