# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Fetching a model as on a host: module, download and hub are real, the container is a process."""

from __future__ import annotations

import json
import os
import re
import sys

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.baremetal.vllm.plugins.module_utils import _model_container
from ansible_collections.baremetal.vllm.plugins.module_utils._model_store import Copy, look, verify
from ansible_collections.baremetal.vllm.plugins.modules import model_fetch
from ansible_collections.baremetal.vllm.tests.unit import lab_hub
from ansible_collections.baremetal.vllm.tests.unit.lab_hub import BIG, FILES, MIB, MODEL, LabHub

if not lab_hub.SERVER.exists():
    pytest.skip(lab_hub.WHY_SKIPPED, allow_module_level=True)
pytest.importorskip("huggingface_hub", reason=lab_hub.WHY_SKIPPED)

WANTED = {name: content for name, content in FILES.items() if not name.startswith("original/")}
TOTAL = sum(map(len, WANTED.values()))
TOKEN = "hf_notatokenofanyone"


class ProcessForContainer:
    """Runs the container's text as a process, with the paths of its mounts put in."""

    def __init__(self, directory):
        self._pid_file = f"{directory}/pid"
        self._run = _model_container.run_program
        self.started = 0

    def __call__(self, arguments, text="", seconds=60.0, tick=lambda: None, stop=()):
        if arguments[1] == "rm":
            return _model_container.Ended(0)
        self.started += 1
        partial = re.search(r"source=([^,]+),target=/model\b", " ".join(arguments)).group(1)
        job = json.loads(text)
        job.update(directory=partial, progress_path=f"{partial}/.progress.json")
        job.update(pauses=[0.01])
        remember = 'echo $$ > "$0"; exec "$@"'
        process = ["sh", "-c", remember, self._pid_file, sys.executable, "-c", arguments[-1]]
        kill = ["sh", "-c", f"kill -TERM $(cat {self._pid_file})"]
        return self._run(process, json.dumps(job), seconds, tick, kill)


@pytest.fixture
def hub(tmp_path):
    lab_hub.write_model(tmp_path / "hub" / "tiny")
    hub = LabHub(tmp_path / "hub")
    yield hub
    hub.close()


@pytest.fixture
def docker(monkeypatch, tmp_path):
    docker = ProcessForContainer(tmp_path)
    monkeypatch.setattr(_model_container, "run_program", docker)
    return docker


@pytest.fixture
def fetch(docker, hub, tmp_path, capsys):
    listing = hub.listing()

    def run_module(**arguments):
        arguments = {
            "store": str(tmp_path / "models"),
            "listing": listing,
            "image": "vllm:lab",
            "container_user": f"{os.geteuid()}:{os.getegid()}",
            **arguments,
        }
        with patch_module_args(arguments), pytest.raises(SystemExit):
            model_fetch.main()
        return json.loads(capsys.readouterr().out)

    return run_module


@pytest.fixture
def copy(hub, tmp_path):
    return Copy.of(str(tmp_path / "models"), MODEL, hub.listing()["commit"])


def test_a_model_is_fetched_whole_and_once(fetch, hub, copy):
    result = fetch()
    assert (result["changed"], result["downloaded_bytes"]) == (True, TOTAL)
    assert verify(copy).problems == ()
    assert hub.counts("bytes") == {name: len(content) for name, content in WANTED.items()}

    again = fetch()
    assert (again["changed"], again["downloaded_bytes"]) == (False, 0)
    assert sum(hub.counts("bytes").values()) == TOTAL


def test_a_hub_that_is_down_does_not_matter_to_a_complete_copy(fetch, hub, docker):
    fetch()
    hub.close()
    assert not fetch()["changed"]
    assert docker.started == 1


def test_a_hub_that_is_down_is_named(fetch, hub, copy):
    hub.close()
    result = fetch()
    assert f"{hub.endpoint} cannot be reached from this host" in result["msg"]
    assert not os.path.exists(copy.directory)


def test_a_slow_hub_is_given_up_in_time_and_gone_on_with(fetch, hub, copy, tmp_path):
    hub.fault(BIG, "slow", bytes_per_second=200 * 1024, times=None)
    path = tmp_path / "progress.json"
    result = fetch(timeout=5, progress_file=str(path))
    assert "was not fetched within 5 seconds" in result["msg"]
    status = json.loads(path.read_text())
    assert (status["phase"], status["files"]) == ("failed", len(WANTED))
    assert 0 < status["current_bytes"] < TOTAL
    kept = look(copy.store)[0]["partial_bytes"]
    assert kept > MIB
    hub.mend()

    result = fetch()

    assert result["resumed_bytes"] == kept
    assert result["downloaded_bytes"] == TOTAL - kept
    assert verify(copy).problems == ()


def test_a_file_that_is_always_wrong_is_never_installed(fetch, hub, copy):
    hub.fault(BIG, "flip", times=None, after_bytes=5)
    result = fetch()
    assert f"sent {BIG}" in result["msg"]
    assert re.search(r"\([0-9a-f]{12} instead of [0-9a-f]{12}\)", result["msg"])
    assert not os.path.exists(copy.directory)
    assert not os.path.exists(copy.manifest)


def test_a_gated_model_wants_a_token(fetch, hub, copy):
    (hub.root / "tiny" / ".token").write_text(TOKEN)
    refused = fetch()
    assert "status 401" in refused["msg"]
    assert "token" in refused["msg"]
    assert fetch(token="hf_another")["failed"]
    assert fetch(token=TOKEN)["changed"]
    assert verify(copy).problems == ()


def test_a_damaged_file_is_fetched_alone(fetch, hub, copy):
    fetch()
    path = os.path.join(copy.directory, "model-00002.safetensors")
    with open(path, "r+b") as file:
        file.write(b"damaged")
    assert fetch(check="full")["fetched"] == ["model-00002.safetensors"]
    assert verify(copy).problems == ()
    assert hub.counts("requests") == {**dict.fromkeys(WANTED, 1), "model-00002.safetensors": 2}
