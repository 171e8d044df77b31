# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Verifying the models of a host: what is named, and that nothing is changed."""

from __future__ import annotations

import hashlib
import json
import os

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.baremetal.vllm.plugins.module_utils._model_install import install
from ansible_collections.baremetal.vllm.plugins.module_utils._model_store import Copy
from ansible_collections.baremetal.vllm.plugins.modules import model_verify

COMMIT = "c0ffee" + "12" * 17
OTHER = "decade" + "34" * 17
CONTENT = {"config.json": b"{}", "model.safetensors": b"weights" * 100}


@pytest.fixture
def store(tmp_path):
    return tmp_path / "models"


@pytest.fixture
def run(store, capsys):
    def run_module(**arguments):
        with patch_module_args({"store": str(store), **arguments}), pytest.raises(SystemExit):
            model_verify.main()
        return json.loads(capsys.readouterr().out)

    return run_module


@pytest.fixture
def add(store):
    def add_copy(model, commit=COMMIT):
        copy = Copy.of(str(store), model, commit)
        os.makedirs(copy.partial)
        for name, content in CONTENT.items():
            with open(os.path.join(copy.partial, name), "wb") as file:
                file.write(content)
        files = {
            name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in CONTENT.items()
        }
        install(copy, "https://hub.example.com", files)
        return copy

    return add_copy


def snapshot(directory):
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in sorted(directory.rglob("*"))
    }


def test_all_models_of_a_host_are_verified(run, add):
    add("openai/gpt-oss-20b")
    add("openai/gpt-oss-120b", OTHER)
    result = run()
    assert not result["changed"]
    assert result["problems"] == []
    assert [(each["model"], each["commit"], each["bytes"]) for each in result["verified"]] == [
        ("openai/gpt-oss-120b", OTHER, 702),
        ("openai/gpt-oss-20b", COMMIT, 702),
    ]
    assert all(each["seconds"] >= 0 for each in result["verified"])


def test_a_changed_file_is_named_and_nothing_is_touched(run, add, store):
    copy = add("openai/gpt-oss-20b")
    add("openai/gpt-oss-120b")
    with open(os.path.join(copy.directory, "model.safetensors"), "r+b") as file:
        file.write(b"W")
    before = snapshot(store)
    result = run()
    assert result["failed"]
    assert len(result["problems"]) == 1
    assert result["problems"][0].startswith("openai/gpt-oss-20b at c0ffee12: model.safetensors has")
    assert result["problems"][0] in result["msg"]
    assert "check=full" in result["msg"]
    assert [each["model"] for each in result["verified"]] == ["openai/gpt-oss-120b"]
    assert snapshot(store) == before


def test_only_the_models_that_are_named_are_read(run, add):
    copy = add("openai/gpt-oss-20b")
    os.unlink(os.path.join(copy.directory, "config.json"))
    add("openai/gpt-oss-120b")
    named = [{"model": "openai/gpt-oss-120b", "commit": COMMIT}]
    assert [each["model"] for each in run(models=named)["verified"]] == ["openai/gpt-oss-120b"]


def test_a_model_that_is_not_there_is_a_problem(run, add):
    add("openai/gpt-oss-20b")
    result = run(models=[{"model": "openai/gpt-oss-20b", "commit": OTHER}])
    assert result["failed"]
    assert "openai/gpt-oss-20b at decade34 is not in" in result["msg"]


def test_a_copy_without_manifest_is_a_problem(run, add):
    os.unlink(add("openai/gpt-oss-20b").manifest)
    assert "has no manifest" in run()["msg"]


def test_a_download_that_was_cut_off_is_none(run, store):
    (store / "openai--gpt-oss-20b" / f"{COMMIT}.partial").mkdir(parents=True)
    result = run()
    assert (result["problems"], result["verified"]) == ([], [])


def test_a_host_without_models_is_fine(run):
    assert run()["verified"] == []


def test_names_that_are_none_are_refused(run):
    result = run(models=[{"model": "../x", "commit": COMMIT}])
    assert result["failed"]
    assert "allowed is org/name" in result["msg"]
