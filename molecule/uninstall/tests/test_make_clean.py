# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""`make clean` on a Docker that holds things of ours and of others: that of an emptied lab host."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, ROOT
from testinfra.host import Host

OTHERS = ["others/image:1"]


@pytest.fixture
def docker_host(gpu_host: Host) -> Iterator[str]:
    """Address of the Engine inside the lab host; what the test leaves there goes afterwards."""
    inspected = subprocess.check_output(["docker", "inspect", gpu_host.backend.name])
    address = f"unix:///proc/{json.loads(inspected)[0]['State']['Pid']}/root/run/docker.sock"
    yield address
    for command in (
        "rm -f -v others",
        "volume rm others",
        "network rm others",
        "rmi others/image:1",
    ):
        docker(address, *command.split())


def docker(address: str, *arguments: str) -> list[str]:
    command = ["docker", "--host", address, *arguments]
    return subprocess.check_output(command, text=True).split()


def make_things(address: str, owner: str, image: str, *label: str) -> None:
    """An image, a container with an anonymous volume, a volume and a network."""
    archive = subprocess.check_output(["tar", "-c", "-C", str(ROOT), "LICENSE"])
    subprocess.run(
        ["docker", "--host", address, "import", "-", image], input=archive, check=True, timeout=60
    )
    docker(address, "create", *label, "--name", owner, "--volume", "/data", image, "/none")
    docker(address, "volume", "create", *label, owner)
    docker(address, "network", "create", *label, owner)


def checkout(directory: Path) -> Path:
    """A clone with the tools of this checkout, so that they need not be installed again."""
    clone = directory / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True, timeout=60)
    os.utime(clone / "requirements-dev.txt", (0, 0))  # older than the tools: make keeps them
    (clone / ".venv").symlink_to(ROOT / ".venv")
    (clone / ".cache").mkdir()
    return clone


def test_make_clean_removes_what_is_ours_and_nothing_else(docker_host: str, tmp_path: Path) -> None:
    make_things(docker_host, "others", "others/image:1")
    make_things(docker_host, "ours", "vllm-lab/test:1", "--label", "vllm.lab=test")
    # A name in our registry goes, the image of others under it stays.
    docker(docker_host, "tag", "others/image:1", "127.0.0.1:5055/test:1")
    clone = checkout(tmp_path)

    subprocess.run(
        ["make", "clean"],
        cwd=clone,
        env=ENVIRONMENT | {"DOCKER_HOST": docker_host},
        check=True,
        timeout=120,
    )

    assert docker(docker_host, "ps", "--all", "--format", "{{.Names}}") == ["others"]
    assert docker(docker_host, "images", "--format", "{{.Repository}}:{{.Tag}}") == OTHERS
    assert "others" in docker(docker_host, "network", "ls", "--format", "{{.Name}}")
    assert "ours" not in docker(docker_host, "network", "ls", "--format", "{{.Name}}")
    volumes = docker(docker_host, "volume", "ls", "--format", "{{.Name}}")
    assert "others" in volumes
    assert len(volumes) == 2  # and the one without a name of their container
    assert not (clone / ".cache").exists()
    assert not (clone / ".venv").is_symlink()
    assert (ROOT / ".venv/bin/python").exists()
