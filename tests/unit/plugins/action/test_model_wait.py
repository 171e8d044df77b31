# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Waiting for a model in the background: its words; the waiting itself is in test_image_wait.py."""

from __future__ import annotations

import json
from unittest import mock

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.baremetal.vllm.plugins.action import model_wait as action
from ansible_collections.baremetal.vllm.plugins.modules import model_wait as reader

MODEL = "openai/gpt-oss-20b"
GIB = 2**30
MIB = 2**20
FETCHED = {"changed": True, "directory": "/var/lib/vllm/models/x", "bytes": 7, "elapsed": 61.0}


class Clock:
    """Time that passes only while somebody sleeps, and a little in each remote call."""

    now = 1000.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def wait(monkeypatch):
    """Run the action with a scripted host: the last look repeats. Return result and lines."""
    clock, lines = Clock(), []
    monkeypatch.setattr(action, "time", clock)
    monkeypatch.setattr(action, "Display", lambda: mock.Mock(display=lines.append))

    def run(*looks, **arguments):
        arguments = {"job": "j1.2", "progress_file": "/run/p", "model": MODEL, **arguments}
        task = mock.Mock(args=arguments, check_mode=False, async_val=0)
        connection = mock.Mock()
        connection._shell.tmpdir = None
        plugin = action.ActionModule(task, connection, mock.Mock(), None, mock.Mock(), None)
        plugin.get_shell_option = lambda name, default: default
        answers = list(looks)

        def execute(module_name, module_args, task_vars):
            assert module_name == "baremetal.vllm.model_wait"
            assert module_args["model"] == MODEL
            clock.now += 0.5
            return answers.pop(0) if len(answers) > 1 else answers[0]

        plugin._execute_module = execute
        return plugin.run(task_vars={"inventory_hostname": "gpu1"}), lines

    return run


def fetching(gib=0.0, rate=0, phase="downloading", done=3):
    status = {
        "phase": phase,
        "files": 11,
        "files_done": done,
        "current_bytes": int(gib * GIB),
        "total_bytes": int(12.8 * GIB),
        "resumed_bytes": 0,
        "bytes_per_second": rate,
        "elapsed": 17.2,
    }
    return {"finished": False, "status": status, "job_result": {}}


def ended(**result):
    return {"finished": True, "status": {}, "job_result": {"ansible_job_id": "j1.2", **result}}


def test_the_result_is_that_of_the_download(wait):
    assert wait(fetching(), ended(**FETCHED, invocation={}))[0] == FETCHED


@pytest.mark.parametrize(
    ("look", "line"),
    [
        (
            fetching(3.21, 212 * MIB),
            "3.21 of 12.80 GiB, 212 MiB/s, 46 s left",
        ),
        (fetching(3.21, 10 * MIB), "3.21 of 12.80 GiB, 10 MiB/s, 16 min left"),
        (fetching(3.21, MIB), "3.21 of 12.80 GiB, 1 MiB/s, 2 h 44 min left"),
        (fetching(0.0), "0.00 of 12.80 GiB, 0 MiB/s"),
        (fetching(12.8, phase="verifying", done=9), "verifying 12.80 GiB, 9 of 11 files, 17 s"),
        (fetching(12.8, phase="done", done=11), "12.80 of 12.80 GiB, 0 MiB/s"),
    ],
    ids=["seconds", "minutes", "hours", "begun", "verifying", "done"],
)
def test_a_line_says_how_far_the_download_is(wait, look, line):
    _result, lines = wait(look, ended(**FETCHED))
    assert lines == [f"gpu1 | {MODEL} {line}"]


def test_verifying_is_shown_at_once(wait):
    _result, lines = wait(fetching(12.0, MIB), fetching(12.8, phase="verifying"), ended(**FETCHED))
    assert len(lines) == 2


def test_a_failure_has_no_line_of_its_own(wait):
    failed = {**ended(failed=True, msg="The disk is full."), **{"status": {"phase": "failed"}}}
    result, lines = wait(failed)
    assert (result["failed"], result["msg"], lines) == (True, "The disk is full.", [])


def test_a_download_stopped_by_ansible_has_a_sentence(wait):
    result, _lines = wait(ended(failed=True, msg="Timeout exceeded", child_pid=7))
    assert MODEL in result["msg"]
    assert "is kept" in result["msg"]


def test_a_wait_has_an_end(wait):
    result, _lines = wait(fetching(1.2, MIB), timeout=60)
    assert result["failed"]
    assert "was not there after 60 seconds" in result["msg"]
    assert "1.20 of 12.80 GiB" in result["msg"]


def test_without_a_job_there_is_nothing_to_wait_for(wait):
    assert wait(ended(), job="")[0]["skipped"]


# The reader on the host


@pytest.fixture
def read(tmp_path, capsys):
    def run_module(job="j1.2"):
        arguments = {
            "job": job,
            "model": MODEL,
            "progress_file": str(tmp_path / "status.json"),
            "async_dir": str(tmp_path),
        }
        with patch_module_args(arguments), pytest.raises(SystemExit):
            reader.main()
        return json.loads(capsys.readouterr().out)

    return run_module


def test_a_running_download_is_read_with_its_progress(read, tmp_path):
    (tmp_path / "j1.2").write_text('{"started": true, "finished": false, "ansible_job_id": "j1.2"}')
    (tmp_path / "status.json").write_text('{"phase": "downloading"}')
    result = read()
    assert (result["finished"], result["status"]) == (False, {"phase": "downloading"})


def test_a_finished_download_leaves_no_files(read, tmp_path):
    (tmp_path / "j1.2").write_text(json.dumps(FETCHED))
    (tmp_path / "status.json").write_text('{"phase": "done"}')
    assert read()["job_result"] == FETCHED
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_download_has_its_sentence(read):
    result = read(job="j9.9")
    assert result["failed"]
    assert "no job j9.9 in " in result["msg"]
    assert f"fetches {MODEL}" in result["msg"]
