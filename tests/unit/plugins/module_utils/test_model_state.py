# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What a host says it has of the models that are wanted."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.module_utils._model_state import models

MODEL, COMMIT, OTHER = "org/name", "c0" * 20, "c1" * 20
FILES = {"config.json": b"{}", "folder/model.safetensors": b"w" * 100}


def store(tmp_path: Path, revision: str = "main", commit: str = COMMIT) -> Path:
    """A store with one whole copy."""
    home = tmp_path / "org--name"
    for name, content in FILES.items():
        path = home / commit / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    entries = {
        name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in FILES.items()
    }
    manifest = {"model": MODEL, "commit": commit, "source": "https://hub.example", "files": entries}
    (home / f"{commit}.json").write_text(json.dumps(manifest))
    (home / "revisions.json").write_text(json.dumps({revision: commit}))
    return home


def state(tmp_path: Path, asked: str = MODEL, full: bool = False) -> dict[str, Any]:
    return models(str(tmp_path), [asked], full)[asked]


@pytest.mark.parametrize(
    ("revision", "asked"),
    [("main", MODEL), ("master", MODEL), ("main", f"{MODEL}@main"), ("v1", f"{MODEL}@v1")],
)
def test_a_whole_copy_is_found_by_what_was_asked_when_it_came(
    tmp_path: Path, revision: str, asked: str
) -> None:
    store(tmp_path, revision)
    assert state(tmp_path, asked) == {
        "ask": f"{MODEL}@{COMMIT}",
        "commit": COMMIT,
        "complete": True,
        "damaged": [],
        "bytes": 102,
        "partial_bytes": 0,
    }


def test_a_commit_needs_no_record(tmp_path: Path) -> None:
    store(tmp_path, "v1")
    assert state(tmp_path, f"{MODEL}@{COMMIT}")["complete"]
    missing = state(tmp_path, f"{MODEL}@{OTHER}")
    assert (missing["commit"], missing["complete"]) == (OTHER, False)


def test_what_nobody_has_recorded_is_not_known(tmp_path: Path) -> None:
    store(tmp_path, "v1")
    for asked in (MODEL, f"{MODEL}@v2", "org/other"):
        assert state(tmp_path, asked)["commit"] is None
        assert state(tmp_path, asked)["ask"] == asked
        assert not state(tmp_path, asked)["complete"]


def test_files_that_are_missing_or_cut_short_are_named(tmp_path: Path) -> None:
    home = store(tmp_path)
    (home / COMMIT / "config.json").unlink()
    (home / COMMIT / "folder/model.safetensors").write_bytes(b"w")
    found = state(tmp_path)
    assert (found["complete"], found["damaged"]) == (
        False,
        ["config.json", "folder/model.safetensors"],
    )


def test_another_byte_is_seen_only_when_all_is_read(tmp_path: Path) -> None:
    home = store(tmp_path)
    (home / COMMIT / "config.json").write_bytes(b"[]")
    assert state(tmp_path)["complete"]
    found = state(tmp_path, full=True)
    assert (found["complete"], found["damaged"]) == (False, ["config.json"])


def test_what_was_left_beside_the_files_is_no_damage(tmp_path: Path) -> None:
    home = store(tmp_path)
    (home / COMMIT / "notes.txt").write_text("mine")
    assert state(tmp_path, full=True)["complete"]


def test_a_cut_download_says_how_much_is_there(tmp_path: Path) -> None:
    partial = tmp_path / "org--name" / f"{COMMIT}.partial"
    partial.mkdir(parents=True)
    (partial / "model.safetensors.part").write_bytes(b"w" * 40)
    found = state(tmp_path, f"{MODEL}@{COMMIT}")
    assert (found["complete"], found["damaged"], found["partial_bytes"]) == (False, [], 40)


def test_a_store_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert state(tmp_path / "nowhere")["commit"] is None
    assert models("", [], False) == {}
