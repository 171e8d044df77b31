# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Fetching a model: what is started, what becomes of its end, and what an operator is told.

Docker is played here; the download itself is in test_model_fetch_from_hub.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import time

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.baremetal.vllm.plugins.module_utils import _model_container
from ansible_collections.baremetal.vllm.plugins.module_utils._image_pull import (
    ProgressFile,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._model_container import (
    Ended,
    FetchError,
    run_program,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._model_install import locked
from ansible_collections.baremetal.vllm.plugins.module_utils._model_store import Copy
from ansible_collections.baremetal.vllm.plugins.modules import model_fetch

MODEL = "openai-lab/tiny"
COMMIT = "c0ffee" + "12" * 17
SOURCE = "https://hub.example.com"
IMAGE = "docker.io/vllm/vllm-openai@sha256:" + "1a" * 32
TOKEN = "hf_notatokenofanyone"
SIGNATURE = "X-Amz-Signature=feedbeef"
CONTENT = {"config.json": b"{}", "model.safetensors": b"weights" * 100}
TOTAL = sum(map(len, CONTENT.values()))


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def listing(**changes):
    files = [
        {
            "path": name,
            "size": len(content),
            "sha256": sha256(content),
            "git_sha1": None,
            "url": f"{SOURCE}/{MODEL}/{name}?{SIGNATURE}",
        }
        for name, content in CONTENT.items()
    ]
    names = {"model": MODEL, "revision": "main", "commit": COMMIT, "source": SOURCE}
    return {**names, "files": files, "excluded_bytes": 7, **changes}


class FakeDocker:
    """Plays the docker program: a container writes what is asked of it, unless told otherwise."""

    def __init__(self):
        self.calls = []
        self.jobs = []
        self.content = dict(CONTENT)
        self.ended = None
        self.meanwhile = lambda partial: None
        self.told = lambda: None

    def __call__(self, arguments, text="", seconds=60.0, tick=lambda: None, stop=()):
        self.calls.append(list(arguments))
        if arguments[1] == "rm":
            return Ended(1, "", f"Error: No such container: {arguments[-1]}")
        self.seconds, self.stop = seconds, stop
        job = json.loads(text)
        self.jobs.append(job)
        partial = re.search(r"source=([^,]+),target=/model\b", " ".join(arguments)).group(1)
        self.meanwhile(partial)
        tick()
        self.told()
        if self.ended:
            return self.ended
        for file in job["files"]:
            with open(os.path.join(partial, file["path"]), "wb") as target:
                target.write(self.content[file["path"]])
        files = {
            file["path"]: {"size": file["size"], "sha256": sha256(self.content[file["path"]])}
            for file in job["files"]
        }
        numbers = {"downloaded_bytes": TOTAL, "resumed_bytes": 0}
        return Ended(0, "noise\n" + json.dumps({"ok": True, "files": files, **numbers}) + "\n")

    @property
    def run(self):
        return next(call for call in self.calls if call[1] == "run")

    def fails(self, **result):
        result = {"ok": False, "file": "config.json", "message": "that is why.", **result}
        self.ended = Ended(1, json.dumps(result))


@pytest.fixture
def docker(monkeypatch):
    docker = FakeDocker()
    monkeypatch.setattr(_model_container, "run_program", docker)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return docker


@pytest.fixture
def copy(tmp_path):
    return Copy.of(str(tmp_path / "models"), MODEL, COMMIT)


@pytest.fixture
def fetch(docker, copy, capsys):
    """Run the module; return its result, its text under `_text`."""

    def run_module(check_mode=False, **arguments):
        arguments = {
            "store": copy.store,
            "listing": listing(),
            "image": IMAGE,
            "container_user": f"{os.geteuid()}:{os.getegid()}",
            **arguments,
            "_ansible_check_mode": check_mode,
        }
        with patch_module_args(arguments), pytest.raises(SystemExit):
            model_fetch.main()
        text = capsys.readouterr().out
        return {**json.loads(text), "_text": text}

    return run_module


def files_of(directory):
    found = {}
    for name in os.listdir(directory):
        with open(os.path.join(directory, name), "rb") as file:
            found[name] = file.read()
    return found


# What is there is left alone


def test_a_missing_model_is_fetched_and_recorded(fetch, copy):
    result = fetch()
    assert result["changed"]
    assert files_of(copy.directory) == CONTENT
    assert sorted(os.listdir(copy.home)) == [".lock", COMMIT, f"{COMMIT}.json", "revisions.json"]
    assert result["directory"] == copy.directory
    assert (result["model"], result["commit"], result["bytes"]) == (MODEL, COMMIT, TOTAL)
    assert (result["downloaded_bytes"], result["missing_bytes"]) == (TOTAL, 0)
    assert result["fetched"] == sorted(CONTENT)


def test_a_complete_copy_needs_neither_docker_nor_the_source(fetch, docker):
    fetch()
    docker.calls.clear()
    result = fetch()
    assert not result["changed"]
    assert (result["downloaded_bytes"], result["fetched"], result["bytes"]) == (0, [], TOTAL)
    assert docker.calls == []


def test_another_name_of_the_same_commit_is_recorded_without_a_download(fetch, docker):
    fetch()
    docker.calls.clear()
    assert fetch(listing=listing(revision="v1.0"))["changed"]
    assert not fetch(listing=listing(revision="v1.0"))["changed"]
    assert docker.calls == []


def test_only_what_is_damaged_is_fetched(fetch, docker, copy):
    fetch()
    with open(os.path.join(copy.directory, "config.json"), "w", encoding="utf-8") as file:
        file.write("cut")
    result = fetch()
    assert (result["changed"], result["fetched"]) == (True, ["config.json"])
    assert [file["path"] for file in docker.jobs[-1]["files"]] == ["config.json"]
    assert files_of(copy.directory) == CONTENT


def test_a_changed_byte_is_found_when_all_is_read(fetch, copy):
    fetch()
    with open(os.path.join(copy.directory, "model.safetensors"), "r+b") as file:
        file.write(b"W")
    assert fetch()["fetched"] == []
    assert fetch(check="full")["fetched"] == ["model.safetensors"]
    assert files_of(copy.directory) == CONTENT
    assert not fetch(check="full")["changed"]


def test_check_mode_says_what_would_come_and_makes_nothing(fetch, docker, copy):
    result = fetch(check_mode=True)
    assert (result["changed"], result["missing_bytes"]) == (True, TOTAL)
    assert result["fetched"] == sorted(CONTENT)
    assert docker.calls == []
    assert not os.path.exists(copy.store)


def test_check_mode_counts_what_was_kept_of_a_download(fetch, copy):
    os.makedirs(copy.partial)
    with open(os.path.join(copy.partial, "model.safetensors.part"), "wb") as file:
        file.write(b"12345")
    assert fetch(check_mode=True)["missing_bytes"] == TOTAL - 5


def test_check_mode_on_a_complete_copy_changes_nothing(fetch):
    fetch()
    result = fetch(check_mode=True)
    assert (result["changed"], result["missing_bytes"]) == (False, 0)


# The container


def test_the_container_can_do_little(fetch, docker, copy):
    fetch()
    start = docker.run[: docker.run.index("-c")]
    assert start == [
        *("docker", "run", "--rm", "--interactive", "--name", "vllm-fetch-tiny-c0ffee121212"),
        *("--label", f"baremetal.vllm.fetch={MODEL}@{COMMIT}"),
        *("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        *("--network", "host", "--pull", "never", "--log-driver", "none"),
        *("--user", f"{os.geteuid()}:{os.getegid()}", "--tmpfs", "/tmp"),
        *("--mount", f"type=bind,source={copy.partial},target=/model"),
        *("--env", "HOME=/tmp", "--env", "NVIDIA_VISIBLE_DEVICES=void"),
        *("--entrypoint", "python3", IMAGE),
    ]
    assert docker.run[-1].startswith("# SPDX-License-Identifier")
    compile(docker.run[-1], "the text", "exec")


def test_a_container_that_was_left_is_removed_before_anything_is_touched(fetch, docker):
    fetch()
    assert docker.calls[0] == ["docker", "rm", "--force", "vllm-fetch-tiny-c0ffee121212"]
    assert docker.calls[1][1] == "run"
    assert len(docker.calls) == 2


def test_secrets_are_on_standard_input_alone(fetch, docker, monkeypatch):
    proxy = "http://user:secret-of-the-proxy@proxy.example.com:3128"
    monkeypatch.setenv("https_proxy", proxy)
    result = fetch(token=TOKEN)
    job = docker.jobs[0]
    assert job["headers"] == {"Authorization": f"Bearer {TOKEN}"}
    assert job["environment"] == {"https_proxy": proxy}
    assert all(SIGNATURE in file["url"] for file in job["files"])
    for secret in (TOKEN, SIGNATURE, "secret-of-the-proxy"):
        assert secret not in " ".join(docker.run)
        assert secret not in result["_text"]


def test_without_a_token_there_is_no_header(fetch, docker):
    fetch()
    assert docker.jobs[0]["headers"] == {}


def test_only_the_source_itself_is_told_the_token(fetch, docker):
    fetch(listing=listing(source="https://hub.example.com:8443/mirror/"))
    assert docker.jobs[0]["origin"] == "https://hub.example.com:8443"


def test_an_authority_of_the_host_is_mounted(fetch, docker, tmp_path):
    (tmp_path / "ca.pem").write_text("")
    fetch(ca_path=str(tmp_path / "ca.pem"))
    mount = f"type=bind,source={tmp_path}/ca.pem,target=/authorities.pem,readonly"
    assert mount in docker.run
    assert docker.jobs[0]["ca_path"] == "/authorities.pem"


def test_the_limits_reach_the_container(fetch, docker):
    fetch(workers=3, timeout=77)
    assert docker.jobs[0]["workers"] == 3
    assert docker.seconds == 77
    stop = ("docker", "stop", "--time", "10", "vllm-fetch-tiny-c0ffee121212")
    assert tuple(docker.stop) == stop


# The progress file

NUMBERS = {
    "files": 2,
    "files_done": 1,
    "current_bytes": 350,
    "total_bytes": TOTAL,
    "resumed_bytes": 50,
    "bytes_per_second": 25,
    "elapsed": 4.5,
}


def writes_progress(status):
    def write(partial):
        with open(os.path.join(partial, ".progress.json"), "w", encoding="utf-8") as file:
            json.dump(status, file)

    return write


def test_the_progress_file_follows_the_container(fetch, docker, tmp_path):
    path = tmp_path / "progress.json"
    docker.meanwhile = writes_progress({"phase": "downloading", **NUMBERS, "secret": "x"})
    docker.fails(kind="refused")
    fetch(progress_file=str(path))
    assert json.loads(path.read_text()) == {"phase": "failed", **NUMBERS}


def test_the_progress_file_says_done_when_the_copy_is_in_place(fetch, docker, tmp_path):
    path = tmp_path / "progress.json"
    docker.meanwhile = writes_progress({"phase": "done", **NUMBERS})
    fetch(progress_file=str(path))
    assert json.loads(path.read_text()) == {"phase": "done", **NUMBERS}


def test_a_container_that_is_done_leaves_work_to_do(fetch, docker, tmp_path, monkeypatch):
    path, phases = tmp_path / "progress.json", []
    monkeypatch.setattr(ProgressFile, "INTERVAL", 0.0)
    docker.meanwhile = writes_progress({"phase": "done", **NUMBERS})
    docker.told = lambda: phases.append(json.loads(path.read_text())["phase"])
    fetch(progress_file=str(path))
    assert phases == ["verifying"]


def test_nonsense_of_a_container_is_not_repeated(fetch, docker, tmp_path):
    path = tmp_path / "progress.json"
    docker.meanwhile = writes_progress({"phase": "downloading", "files": "many", "elapsed": -3})
    fetch(progress_file=str(path))
    status = json.loads(path.read_text())
    assert "files" not in status
    assert status["elapsed"] == 0


def test_no_progress_file_is_written_where_nothing_is_fetched(fetch, tmp_path):
    fetch()
    fetch(progress_file=str(tmp_path / "progress.json"))
    assert not (tmp_path / "progress.json").exists()


def test_a_progress_file_that_cannot_be_written_stops_before_the_download(fetch, docker, tmp_path):
    result = fetch(progress_file=str(tmp_path / "absent" / "progress.json"))
    assert result["failed"]
    assert result["msg"].startswith("progress_file: ")
    assert [call[1] for call in docker.calls] == ["rm"]


# Failures, each with its sentence


@pytest.mark.parametrize(
    ("said", "parts"),
    [
        ({"kind": "refused", "status": 401}, [SOURCE, "config.json", "status 401", "token"]),
        ({"kind": "not_found", "status": 404}, [f"{SOURCE} has no config.json", "revision"]),
        ({"kind": "unreachable"}, [f"{SOURCE} cannot be reached", "proxy", "is kept"]),
        ({"kind": "unavailable", "status": 503}, ["answered 503", "is kept"]),
        ({"kind": "untrusted"}, ["certificate", "ca_path"]),
        (
            {"kind": "mismatch", "expected": "a1" * 32, "found": "b2" * 32},
            ["config.json", "b2b2b2b2b2b2 instead of a1a1a1a1a1a1)", "nothing was installed"],
        ),
        (
            {"kind": "mismatch", "expected": "500 bytes", "found": "12 bytes"},
            ["12 bytes instead of 500 bytes"],
        ),
        ({"kind": "disk_full", "missing_bytes": 3 * 2**30}, ["models is full", "3.00 GiB", "kept"]),
        ({"kind": "disk"}, [f"{COMMIT}.partial cannot be written", "that is why"]),
        ({"kind": "no_client"}, [IMAGE, "huggingface_hub"]),
        ({"kind": "stopped"}, ["stopped from outside", "is kept"]),
        ({"kind": "something new"}, ["could not be fetched", "that is why"]),
    ],
    ids=lambda value: value.get("kind") if isinstance(value, dict) else "",
)
def test_a_download_that_fails_has_its_sentence(fetch, docker, copy, said, parts):
    docker.fails(**said)
    result = fetch()
    assert result["failed"]
    assert all(part in result["msg"] for part in parts), result["msg"]
    assert result["msg"].count("\n") == 0
    assert "None" not in result["msg"]
    assert ".." not in result["msg"]
    assert not os.path.exists(copy.directory)
    assert not os.path.exists(copy.manifest)


@pytest.mark.parametrize(
    ("status", "errors", "sentence"),
    [
        (
            125,
            "docker: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the "
            "docker daemon running?.\nSee 'docker run --help'.",
            "systemctl start docker",
        ),
        (
            125,
            f"docker: Error response from daemon: No such image: {IMAGE}.\n"
            "See 'docker run --help'.",
            f"image {IMAGE} is not on this host",
        ),
        (
            127,
            'docker: Error response from daemon: exec: "python3": executable file not found in '
            "$PATH: unknown.\nRun 'docker run --help' for more information",
            "has no python3",
        ),
        (137, "", "status 137"),
        (1, "Traceback\n  File\nMemoryError: https://a/b?X-Amz-Signature=abc", "MemoryError"),
    ],
    ids=["no engine", "no image", "no python", "killed", "crashed"],
)
def test_a_container_without_a_result_has_its_sentence(fetch, docker, status, errors, sentence):
    docker.ended = Ended(status, "", errors)
    result = fetch()
    assert result["failed"]
    assert sentence in result["msg"]
    assert "Signature" not in result["msg"]
    assert [call[1] for call in docker.calls] == ["rm", "run", "rm"]


def test_a_download_that_takes_too_long_says_how_far_it_came(fetch, docker):
    gib = {"current_bytes": 3 * 2**30, "total_bytes": 12 * 2**30}
    docker.meanwhile = writes_progress({"phase": "downloading", **NUMBERS, **gib})
    docker.ended = Ended(
        1, '{"ok": false, "kind": "stopped", "file": "", "message": ""}', late=True
    )
    result = fetch(timeout=60)
    assert result["failed"]
    assert "was not fetched within 60 seconds (3.00 of 12.00 GiB are there)" in result["msg"]
    assert "is kept" in result["msg"]


def test_a_download_that_ends_just_in_time_counts(fetch, docker, copy, monkeypatch):
    def late(*arguments, **more):
        ended = docker(*arguments, **more)
        return Ended(ended.status, ended.output, late=True)

    monkeypatch.setattr(_model_container, "run_program", late)
    assert fetch()["changed"]
    assert os.path.isdir(copy.directory)


def test_a_disk_without_room_is_refused_before_the_download(fetch, docker):
    files = [{**listing()["files"][0], "size": 2**60}]
    result = fetch(listing=listing(files=files))
    assert "is full" in result["msg"]
    assert [call[1] for call in docker.calls] == ["rm"]


def test_a_hash_that_was_not_promised_is_refused(fetch, docker, copy):
    docker.content["config.json"] = b"{ "
    result = fetch(listing=listing())
    assert "did not verify config.json" in result["msg"]
    assert not os.path.exists(copy.directory)


def test_a_second_run_is_refused_with_the_name_of_the_first(fetch, docker, copy):
    with locked(copy):
        result = fetch()
    assert result["failed"]
    assert f"process {os.getpid()}" in result["msg"]
    assert docker.calls == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"container_user": "vllm"}, "container_user: 'vllm'"),
        ({"timeout": 0}, "whole numbers from 1"),
        ({"workers": 0}, "whole numbers from 1"),
        ({"ca_path": "/absent.pem"}, "ca_path: there is no file /absent.pem"),
        ({"listing": listing(files=[])}, "listing: it has no files"),
        ({"listing": listing(commit="main")}, "commit: 'main'"),
        ({"listing": listing(model="../x")}, "model: '../x'"),
        (
            {"listing": listing(files=[{**listing()["files"][0], "path": "../../etc/passwd"}])},
            "no path within a model",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(fetch, docker, arguments, sentence):
    result = fetch(**arguments)
    assert result["failed"]
    assert sentence in result["msg"]
    assert docker.calls == []


# Running a program


def test_a_program_gets_its_input_and_is_waited_for():
    copies = [sys.executable, "-c", "import sys; sys.stdout.write(sys.stdin.read()); sys.exit(3)"]
    ended = run_program(copies, "x" * 200_000)
    assert (ended.status, ended.output, ended.late) == (3, "x" * 200_000, False)


def test_a_program_that_takes_too_long_is_stopped(tmp_path):
    waits = f"touch {tmp_path}/up; while [ ! -e {tmp_path}/stop ]; do sleep 0.05; done; echo kept"
    start = time.monotonic()
    ended = run_program(["sh", "-c", waits], seconds=0.3, stop=["touch", f"{tmp_path}/stop"])
    assert (ended.output, ended.late) == ("kept\n", True)
    assert time.monotonic() - start < 10


def test_a_program_that_nothing_stops_is_killed():
    ended = run_program(["sleep", "60"], seconds=0.2)
    assert (ended.status, ended.late) == (-9, True)


def test_a_program_is_stopped_when_its_progress_cannot_be_told(tmp_path):
    def tick():
        raise FetchError("no room")

    with pytest.raises(FetchError, match="no room"):
        run_program(["sleep", "60"], tick=tick, stop=["touch", f"{tmp_path}/stopped"])
    assert (tmp_path / "stopped").exists()


def test_a_host_without_docker_has_a_sentence():
    with pytest.raises(FetchError, match="no program docker-is-not-here"):
        run_program(["docker-is-not-here", "run"])
