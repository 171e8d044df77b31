# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What a bundle says of itself, and what it lacks for a host."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.baremetal.vllm.plugins.filter.bundle_listings import bundle_listings
from ansible_collections.baremetal.vllm.plugins.plugin_utils import _bundle
from ansible_collections.baremetal.vllm.plugins.plugin_utils._bundle import BundleError

COMMIT = "ab" * 20
DIGEST = f"sha256:{'cd' * 32}"
IMAGE = f"docker.io/vllm/vllm-openai:v0.32.0@{DIGEST}"
LISTING = {"asked": "a/b@main", "model": "a/b", "commit": COMMIT, "files": []}
CONTENT: dict[str, Any] = {
    "format": 1,
    "images": [{"reference": IMAGE, "digest": DIGEST}],
    "models": [LISTING],
    "packages": {},
    "wheels": [],
}


def written(directory: Path, content: Any = None) -> Path:
    (directory / "bundle.json").write_text(json.dumps(CONTENT if content is None else content))
    return directory


def test_what_is_there_is_found_by_name_and_by_commit(tmp_path: Path) -> None:
    content = _bundle.read(str(written(tmp_path)))
    assert _bundle.lacking("/b", content, [IMAGE, f"other/name@{DIGEST}"], ["a/b@main"]) == []
    for asked in ("a/b@main", f"a/b@{COMMIT}"):
        assert _bundle.listing_of(content, asked) == {**LISTING, "asked": asked}
    assert bundle_listings(str(tmp_path), [f"a/b@{COMMIT}", "x/y"]) == [
        {**LISTING, "asked": f"a/b@{COMMIT}"}
    ]


def test_what_is_lacking_has_a_sentence_each(tmp_path: Path) -> None:
    content = _bundle.read(str(written(tmp_path)))
    other = f"x/y@sha256:{'0' * 64}"
    again = "write it with playbooks/bundle.yml, and this inventory."
    assert _bundle.lacking("/b", content, [other, "x/y:1"], ["a/b", "a/b@other"]) == [
        f"the bundle /b has no image {other}; {again}",
        "vllm_image x/y:1 has no digest, by which a bundle knows it; pin it with playbooks/pin.yml,"
        " and write the bundle again.",
        f"the bundle /b has no model a/b; {again}",
        f"the bundle /b has no model a/b@other; {again}",
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "where this machine has no bundle.json; write it with playbooks/bundle.yml"),
        ({"format": 2}, "is of another format than 1"),
        ([], "is of another format than 1"),
    ],
)
def test_what_is_no_bundle_has_its_sentence(tmp_path: Path, content: Any, words: str) -> None:
    if content is not None:
        written(tmp_path, content)
    with pytest.raises(BundleError, match=words):
        _bundle.read(str(tmp_path))
    with pytest.raises(AnsibleFilterError, match=words):
        bundle_listings(str(tmp_path), [])


def test_text_that_is_no_json_has_its_sentence(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text("{")
    with pytest.raises(BundleError, match=r"cannot be read \(it is no JSON\); write it"):
        _bundle.read(str(tmp_path))


def test_sums_are_those_of_sha256sum_and_nothing_old_is_left(tmp_path: Path) -> None:
    for path, text in (
        ("images/cd/oci-layout", "{}"),
        ("models/a--b/c/config.json", "{ }"),
        ("models/a--b/old/config.json", "old"),
        ("packages/debian-13/Packages", "Package: a\n"),
        ("packages/debian-13/old_1.deb", "old"),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    (tmp_path / "notes.txt").write_text("the operator's own")
    known = hashlib.sha256(b"{ }").hexdigest()
    files = {"images/cd/oci-layout": "", "packages/debian-13/Packages": ""}
    _bundle.write(tmp_path, CONTENT, {**files, "models/a--b/c/config.json": known})
    assert json.loads((tmp_path / "bundle.json").read_text()) == CONTENT
    left = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    added = {"models/a--b/c/config.json", "bundle.json", "SHA256SUMS", "notes.txt"}
    assert left == {*files, *added}
    assert not (tmp_path / "models/a--b/old").exists()
    program = shutil.which("sha256sum")
    assert program is not None
    subprocess.run([program, "--check", "--strict", "SHA256SUMS"], cwd=tmp_path, check=True)


def test_disk_that_does_not_take_it_has_its_sentence(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"gone.* cannot be written \(No such file"):
        _bundle.write(tmp_path, CONTENT, {"images/gone": ""})


def test_parts_have_their_places() -> None:
    assert _bundle.image_part(DIGEST) == f"images/{'cd' * 32}"
    assert _bundle.packages_part("debian-13") == "packages/debian-13"


HOST = {"distribution": "Debian", "distribution_version": "13.2", "architecture": "x86_64"}
PACKED = {
    **CONTENT,
    "architecture": "amd64",
    "packages": {"debian-13": {"packages": {"docker.io": ["26.1.5-9"], "a": ["1-1", "2-1"]}}},
}


@pytest.mark.parametrize("specs", [[], ["docker.io"], ["a=1-1", "a=2-*", "docker.io=26.*"]])
def test_a_host_whose_packages_are_there_fits(specs: list[str]) -> None:
    assert _bundle.unfit("/b", PACKED, HOST, {"engine": {"packages": specs}, "driver": {}}) == []


@pytest.mark.parametrize(
    ("host", "specs", "said"),
    [
        ({"architecture": "aarch64"}, [], "is for x86_64, and this host is aarch64; write one"),
        (
            {"distribution_version": "12.13"},
            [],
            "has packages for debian-13, and this host is debian-12; name it in bundle_systems",
        ),
        (
            {"distribution": "Ubuntu", "distribution_version": "24.04"},
            [],
            "and this host is ubuntu-24.04; name it",
        ),
        ({}, ["a=3-*", "docker.io"], "has no a=3-* for debian-13; compare the variables"),
        (
            {},
            ["linux-headers-6.12.1"],
            "has no linux-headers-6.12.1 for debian-13; name the host's kernel in bundle_kernels,",
        ),
    ],
)
def test_a_host_that_does_not_fit_has_its_sentence(
    host: dict[str, str], specs: list[str], said: str
) -> None:
    problems = _bundle.unfit("/b", PACKED, HOST | host, {"engine": {"packages": specs}})
    assert len(problems) == 1
    assert said in problems[0]
