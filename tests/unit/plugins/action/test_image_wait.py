# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Waiting for a pull in the background: what the host answers, what the operator sees."""

from __future__ import annotations

import json
from unittest import mock

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.baremetal.vllm.plugins.action import image_wait as action
from ansible_collections.baremetal.vllm.plugins.modules import image_wait as reader

DIGEST = "sha256:" + "1a" * 32
IMAGE = f"docker.io/vllm/vllm-openai@{DIGEST}"
GIB = 2**30
PULLED = {"changed": True, "id": "sha256:3c", "digest": IMAGE, "size_bytes": 1, "elapsed": 23.0}


class Clock:
    """Time that passes only while somebody sleeps, and a little in each remote call."""

    def __init__(self):
        self.now = 1000.0
        self.slept = []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


class Wait:
    """The action with a scripted host: `looks` are its answers, the last one repeats."""

    def __init__(self, monkeypatch):
        self.clock = Clock()
        self.lines = []
        self.calls = []
        monkeypatch.setattr(action, "time", self.clock)
        monkeypatch.setattr(action, "Display", lambda: mock.Mock(display=self.lines.append))

    def run(self, *looks, **arguments):
        arguments = {"job": "j1.2", "progress_file": "/run/p", "image": IMAGE, **arguments}
        task = mock.Mock(args=arguments, check_mode=False, async_val=0)
        connection = mock.Mock()
        connection._shell.tmpdir = None
        plugin = action.ActionModule(task, connection, mock.Mock(), None, mock.Mock(), None)
        plugin.get_shell_option = lambda name, default: default
        answers = list(looks)

        def execute(module_name, module_args, task_vars):
            assert module_name == "baremetal.vllm.image_wait"
            self.calls.append(module_args)
            self.clock.now += 0.5
            return answers.pop(0) if len(answers) > 1 else answers[0]

        plugin._execute_module = execute
        return plugin.run(task_vars={"inventory_hostname": "gpu1"})


@pytest.fixture
def wait(monkeypatch):
    return Wait(monkeypatch)


def pulling(gib=0.0, done=0, elapsed=1.0, phase="pulling", final=True):
    status = {
        "phase": phase,
        "layers_done": done,
        "layers": 5,
        "current_bytes": int(gib * GIB),
        "total_bytes": int(2.05 * GIB),
        "total_is_final": final,
        "elapsed": elapsed,
    }
    return {"finished": False, "status": status, "job_result": {}}


def ended(**result):
    return {"finished": True, "status": {}, "job_result": {"ansible_job_id": "j1.2", **result}}


def test_the_result_is_that_of_the_pull(wait):
    assert wait.run(pulling(), ended(**PULLED, invocation={"module_args": {}})) == PULLED


def test_a_line_says_how_far_the_pull_is(wait):
    wait.run(pulling(1.2, done=3, elapsed=23.4), ended(**PULLED))
    assert wait.lines == [
        "gpu1 | pulling vllm-openai@sha256:1a1a1a1a… 1.20 of 2.05 GiB, 3 of 5 layers, 23 s"
    ]


def test_a_total_that_still_grows_is_called_one(wait):
    wait.run(pulling(1.2, final=False), ended(**PULLED))
    assert "1.20 of at least 2.05 GiB" in wait.lines[0]


def test_before_the_layers_are_known_there_are_no_numbers(wait):
    look = pulling(elapsed=2.0)
    look["status"].update(layers=0, current_bytes=0, total_bytes=0)
    wait.run(look, ended(**PULLED))
    assert wait.lines == ["gpu1 | pulling vllm-openai@sha256:1a1a1a1a…, 2 s"]


def test_a_failure_has_no_line_of_its_own(wait):
    look = ended(failed=True, msg="Registry r has no image i.")
    look["status"] = pulling(phase="failed")["status"]
    wait.run(look)
    assert wait.lines == []


def test_a_new_phase_is_shown_at_once(wait):
    wait.run(pulling(1.0), pulling(2.05, phase="extracting"), ended(**PULLED))
    assert [line.split()[2] for line in wait.lines] == ["pulling", "extracting"]


def test_bytes_are_shown_every_few_seconds(wait):
    wait.run(*[pulling(n / 50) for n in range(50)], ended(**PULLED))
    between = 5.0
    seconds = wait.clock.now - 1000.0
    assert 0.5 * seconds / between < len(wait.lines) <= seconds / between + 1


def test_a_pull_that_does_not_move_gives_a_sign_of_life_every_half_minute(wait):
    wait.run(pulling(1.0), timeout=100)
    assert len(wait.lines) == 4


def test_nothing_is_shown_before_the_pull_has_begun(wait):
    wait.run({"finished": False, "status": {}, "job_result": {}}, ended(**PULLED))
    assert wait.lines == []


def test_looks_are_frequent_at_first_and_then_every_three_seconds(wait):
    wait.run(*[pulling()] * 12, ended(**PULLED))
    assert wait.clock.slept[0] == pytest.approx(0.3)
    assert wait.clock.slept == sorted(wait.clock.slept)
    assert wait.clock.slept[-1] == pytest.approx(3.0)


def test_each_look_is_one_call_with_the_directory_of_jobs(wait):
    wait.run(pulling(), pulling(), ended(**PULLED))
    assert len(wait.calls) == 3
    assert {call["async_dir"] for call in wait.calls} == {"~/.ansible_async"}


def test_a_failed_pull_fails_with_its_own_sentence(wait):
    result = wait.run(pulling(), ended(failed=True, msg="Registry r has no image i."))
    assert result["failed"]
    assert result["msg"] == "Registry r has no image i."


def test_a_pull_stopped_by_ansible_has_a_sentence(wait):
    result = wait.run(pulling(), ended(failed=True, msg="Timeout exceeded", child_pid=7))
    assert result["failed"]
    assert IMAGE in result["msg"]
    assert "async" in result["msg"]
    assert "child_pid" not in result


def test_a_wait_has_an_end(wait):
    result = wait.run(pulling(1.2, done=3), timeout=60)
    assert result["failed"]
    assert "was not there after 60 seconds" in result["msg"]
    assert "1.20 of 2.05 GiB" in result["msg"]
    assert 1060 <= wait.clock.now < 1062


def test_a_host_that_does_not_know_the_job_ends_the_wait(wait):
    result = wait.run({"failed": True, "msg": "There is no job j1.2."})
    assert result == {"failed": True, "msg": "There is no job j1.2."}
    assert len(wait.calls) == 1


def test_without_a_job_there_is_nothing_to_wait_for(wait):
    result = wait.run(ended(), job="")
    assert result["skipped"]
    assert wait.calls == []


# The reader on the host, with files as Ansible's wrapper and image_pull write them


@pytest.fixture
def read(tmp_path, capsys):
    def run_module(job="j1.2"):
        arguments = {
            "job": job,
            "image": IMAGE,
            "progress_file": str(tmp_path / "status.json"),
            "async_dir": str(tmp_path),
        }
        with patch_module_args(arguments), pytest.raises(SystemExit):
            reader.main()
        return json.loads(capsys.readouterr().out)

    return run_module


def test_a_running_job_is_read_with_its_progress(read, tmp_path):
    (tmp_path / "j1.2").write_text('{"started": true, "finished": false, "ansible_job_id": "j1.2"}')
    (tmp_path / "status.json").write_text('{"phase": "pulling"}')
    result = read()
    assert result["finished"] is False
    assert result["status"] == {"phase": "pulling"}
    assert (tmp_path / "j1.2").exists()


@pytest.mark.parametrize("content", ["", "{"])
def test_a_job_file_that_is_being_written_is_a_running_job(read, tmp_path, content):
    (tmp_path / "j1.2").write_text(content)
    assert read()["finished"] is False


def test_a_finished_job_leaves_no_files(read, tmp_path):
    (tmp_path / "j1.2").write_text(json.dumps(PULLED))
    (tmp_path / "status.json").write_text('{"phase": "done"}')
    result = read()
    assert result["finished"] is True
    assert result["job_result"] == PULLED
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_job_has_its_sentence(read):
    result = read(job="j9.9")
    assert result["failed"]
    assert "no job j9.9" in result["msg"]


def test_a_job_cannot_name_a_file_elsewhere(read, tmp_path):
    (tmp_path.parent / "elsewhere").write_text("{}")
    assert read(job="../elsewhere")["failed"]
    assert (tmp_path.parent / "elsewhere").exists()
