# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The seed's container, with a program in the place of Docker's that plays what Docker does."""

from __future__ import annotations

import json
import os
import re

import pytest

from ansible_collections.baremetal.vllm.plugins.module_utils import _model_seed
from ansible_collections.baremetal.vllm.plugins.module_utils._model_seed import (
    Seed,
    SeedError,
    start,
    stop,
)

KEY = "k3y" * 12
SEED = Seed(
    store="/var/lib/vllm/models",
    image="docker.io/vllm/vllm-openai@sha256:" + "1a" * 32,
    user="2000:0",
    address="192.0.2.11",
    port=8791,
    seconds=600,
    key=KEY,
)
READY = """read -r job; echo "$job" >job; echo '{"files": 3, "bytes": 12}'; exec sleep 60"""
REMOVED = "echo vllm-seed"
ABSENT = "echo 'Error: No such container: vllm-seed' >&2; exit 1"


class Docker:
    """Programs that stand for `docker run` and `docker rm`, and what they were told."""

    def __init__(self, directory):
        self.directory = directory
        self.run, self.rm = READY, ABSENT

    def write(self):
        script = f"""#!/bin/sh
cd {self.directory}
echo "$@" | head --lines=1 >>told
case $1 in
run) {self.run} ;;
rm) {self.rm} ;;
esac
"""
        path = self.directory / "docker"
        path.write_text(script)
        path.chmod(0o755)

    @property
    def told(self):
        return [line.split()[0] for line in (self.directory / "told").read_text().splitlines()]


@pytest.fixture
def docker(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return Docker(tmp_path)


def begin(docker, **programs):
    vars(docker).update(programs)
    docker.write()
    return start(SEED, wait_seconds=programs.get("seconds", 20))


class TestCommand:
    def test_neither_it_nor_the_text_of_the_server_has_the_key(self):
        assert KEY not in " ".join(SEED.arguments())
        assert KEY not in repr(SEED)
        assert json.loads(SEED.job())["key"] == KEY

    @pytest.mark.parametrize(
        "wanted",
        [
            "--read-only --cap-drop ALL --security-opt no-new-privileges",
            "--user 2000:0 --publish 192.0.2.11:8791:8790",
            "--mount type=bind,source=/var/lib/vllm/models,target=/models,readonly",
            "--pull never",
            "--rm --interactive --name vllm-seed",
        ],
    )
    def test_the_container_has_no_rights_and_one_address(self, wanted):
        assert wanted in " ".join(SEED.arguments()[:-1])

    def test_it_runs_the_server_and_tells_it_when_to_end(self):
        assert SEED.arguments()[-3:-1] == ["-I", "-c"]
        compile(SEED.arguments()[-1], "server", "exec")
        assert json.loads(SEED.job())["seconds"] == 600


class TestStart:
    def test_it_returns_when_the_server_listens(self, docker):
        assert begin(docker) == {"files": 3, "bytes": 12}
        assert json.loads((docker.directory / "job").read_text()) == json.loads(SEED.job())

    def test_what_an_earlier_run_has_left_goes_first(self, docker):
        begin(docker, rm=REMOVED)
        assert docker.told == ["rm", "run"]

    @pytest.mark.parametrize(
        ("errors", "said"),
        [
            (
                "docker: Error response from daemon: driver failed programming external"
                " connectivity on endpoint vllm-seed: Bind for 192.0.2.11:8791 failed: port is"
                " already allocated.",
                "Port 8791 of 192.0.2.11 is taken .* set model_store_seed_port",
            ),
            (
                "docker: Error response from daemon: listen tcp4 192.0.2.11:8791: bind: address"
                " already in use.\nSee 'docker run --help'.",
                "Port 8791 of 192.0.2.11 is taken",
            ),
            (
                "docker: Error response from daemon: listen tcp4 192.0.2.11:8791: bind: cannot"
                " assign requested address.",
                "192.0.2.11 is no address of this host",
            ),
            (
                "docker: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the"
                " docker daemon running?.\nSee 'docker run --help'.",
                "Docker is not running .*`systemctl start docker`",
            ),
            (
                "docker: Error response from daemon: No such image: vllm:1.\nSee 'docker run'.",
                "image docker.io/vllm/vllm-openai.* is not on it; pull it",
            ),
            (
                'docker: Error response from daemon: exec: "python3": executable file not found in'
                " $PATH: unknown.",
                "has no python3",
            ),
            (
                "Traceback (most recent call last):\nPermissionError: [Errno 13] /models",
                "did not begin to; .*: PermissionError: \\[Errno 13\\] /models\\.$",
            ),
            ("", "did not begin to; .*: it said nothing\\.$"),
        ],
    )
    def test_a_failure_is_a_sentence(self, docker, errors, said):
        (docker.directory / "errors").write_text(errors)
        with pytest.raises(SeedError, match=said) as raised:
            begin(docker, run="cat errors >&2; exit 125")
        assert str(raised.value).count("\n") == 0
        assert docker.told == ["rm", "run", "rm"]

    def test_a_server_that_never_listens_is_ended(self, docker):
        with pytest.raises(SeedError, match="did not begin to"):
            begin(docker, run="exec sleep 60", rm=REMOVED, seconds=0.5)
        assert docker.told == ["rm", "run", "rm"]

    def test_without_docker_the_host_is_to_be_provisioned(self, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(SeedError, match=re.escape("playbooks/provision.yml")):
            start(SEED)


class TestStop:
    @pytest.mark.parametrize(
        ("program", "was_there"),
        [
            (REMOVED, True),
            (ABSENT, False),
            ("echo 'Error response from daemon: No such container: vllm-seed' >&2", False),
            (
                "echo 'removal of container vllm-seed is already in progress' >&2; exit 1",
                False,
            ),
        ],
    )
    def test_it_says_whether_there_was_one(self, docker, program, was_there):
        docker.rm = program
        docker.write()
        assert stop() is was_there

    def test_one_that_stays_is_a_sentence(self, docker):
        docker.rm = "echo 'Error response from daemon: device busy' >&2; exit 1"
        docker.write()
        with pytest.raises(SeedError, match=r"cannot be removed; .*: .*device busy\.$"):
            stop()


def test_the_text_of_the_server_is_that_of_its_file():
    """Where modules run, they are in an archive: it has to come from there, too."""
    assert "def catalogue(" in _model_seed.inspect.getsource(_model_seed._model_seed_server)
