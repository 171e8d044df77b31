# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""A GPU host as the collection leaves it: unit, container, files, ports."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from conftest import Scenario
from testinfra.host import Host


@pytest.fixture(scope="session")
def container(gpu_host: Host, scenario: Scenario) -> dict[str, Any]:
    """What Docker says of the running container."""
    inspected: dict[str, Any] = json.loads(
        gpu_host.check_output(f"docker inspect {scenario.container}")
    )[0]
    return inspected


@pytest.fixture(scope="session")
def release(gpu_host: Host, scenario: Scenario) -> dict[str, Any]:
    """The description of the release in force."""
    found: dict[str, Any] = json.loads(
        gpu_host.file(f"{scenario.current}/release.json").content_string
    )
    return found


def test_unit_runs_now_and_at_boot(gpu_host: Host, scenario: Scenario) -> None:
    unit = gpu_host.service(scenario.unit)
    assert unit.is_running
    assert unit.is_enabled


def test_unit_comes_back_after_any_exit_but_not_for_ever(
    gpu_host: Host, scenario: Scenario
) -> None:
    shown = gpu_host.check_output(
        f"systemctl show {scenario.unit} -p Restart -p StartLimitBurst -p StartLimitIntervalUSec"
    )
    assert "Restart=always" in shown
    assert "StartLimitBurst=5" in shown
    assert "StartLimitIntervalUSec=2h" in shown


def test_stop_times_are_in_order(gpu_host: Host, scenario: Scenario) -> None:
    """The unit waits longer than docker stop, which waits longer than vLLM drains."""
    unit = gpu_host.check_output(f"systemctl cat {scenario.unit}")
    docker = int(next(line for line in unit.splitlines() if "docker stop" in line).split()[-2])
    systemd = int(
        next(line for line in unit.splitlines() if line.startswith("TimeoutStopSec")).split("=")[1]
    )
    config = yaml.safe_load(gpu_host.file(f"{scenario.current}/config.yaml").content_string)
    assert config["shutdown-timeout"] == scenario.shutdown_timeout
    assert config["shutdown-timeout"] < docker < systemd


def test_container_runs_the_digest_of_the_release(
    gpu_host: Host, container: dict[str, Any], release: dict[str, Any]
) -> None:
    assert re.fullmatch(r"localhost/vllm/[a-z-]+:[0-9a-f]{64}", release["image"])
    image = json.loads(gpu_host.check_output(f"docker image inspect {release['image']}"))[0]
    assert container["Image"] == image["Id"]
    assert container["Config"]["Image"] == release["image"]


def test_container_is_confined(container: dict[str, Any], scenario: Scenario) -> None:
    host_config = container["HostConfig"]
    assert host_config["ReadonlyRootfs"] is True
    assert host_config["CapDrop"] == ["ALL"]
    assert not host_config["CapAdd"]
    assert host_config["Privileged"] is False
    assert any(option.startswith("no-new-privileges") for option in host_config["SecurityOpt"])
    assert container["Config"]["User"] == scenario.user
    assert host_config["ShmSize"] == scenario.shm_bytes
    assert host_config["NetworkMode"] in ("bridge", "default")


def test_process_has_neither_root_nor_capabilities(gpu_host: Host, scenario: Scenario) -> None:
    status = gpu_host.check_output(f"docker exec {scenario.container} cat /proc/1/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split()[0] == scenario.user.split(":")[0]
    assert int(fields["CapEff"], 16) == 0
    assert fields["NoNewPrivs"].strip() == "1"


def test_root_file_system_cannot_be_written(gpu_host: Host, scenario: Scenario) -> None:
    assert gpu_host.run(f"docker exec {scenario.container} touch /usr/probe").rc != 0


def test_caches_survive_the_container(container: dict[str, Any], scenario: Scenario) -> None:
    mounts = {mount["Destination"]: mount for mount in container["Mounts"]}
    cache = mounts["/home/vllm/.cache"]
    assert cache["RW"]
    assert cache["Source"] == f"{scenario.state_directory}/{scenario.instance}/cache"


def test_local_weights_are_read_only(container: dict[str, Any]) -> None:
    weights = [mount for mount in container["Mounts"] if mount["Source"].startswith("/srv/models/")]
    assert weights
    assert not any(mount["RW"] for mount in weights)


def test_no_secret_in_arguments_or_release(gpu_host: Host, scenario: Scenario) -> None:
    secrets = gpu_host.file(f"{scenario.config_directory}/secrets")
    assert secrets.mode == 0o600
    assert (secrets.user, secrets.group) == ("root", "root")
    values = [line.split("=", 1)[1] for line in secrets.content_string.splitlines() if "=" in line]
    assert values
    seen = gpu_host.check_output("cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'")
    seen += gpu_host.check_output(
        f"grep -r . {scenario.state_directory}/{scenario.instance}/releases"
    )
    seen += gpu_host.check_output("journalctl --no-pager --output cat")
    for value in values:
        assert value not in seen


def test_release_is_whole_and_not_writable_by_others(gpu_host: Host, scenario: Scenario) -> None:
    assert gpu_host.file(scenario.current).is_symlink
    for name, mode in (
        ("config.yaml", 0o644),
        ("environment", 0o600),
        ("run", 0o755),
        ("release.json", 0o644),
        ("plan.json", 0o644),
    ):
        found = gpu_host.file(f"{scenario.current}/{name}")
        assert found.is_file, name
        assert found.mode == mode, name
        assert found.user == "root", name


def test_cache_belongs_to_the_process_alone(gpu_host: Host, scenario: Scenario) -> None:
    """Compile caches are code: pickles and shared objects that the engine loads."""
    cache = gpu_host.file(f"{scenario.state_directory}/{scenario.instance}/cache")
    assert cache.uid == int(scenario.user.split(":")[0])
    assert cache.mode == 0o700


def test_engine_listens_where_it_should_and_nowhere_else(
    gpu_host: Host, scenario: Scenario
) -> None:
    addresses = {
        line.split()[3].rsplit(":", 1)[0]
        for line in gpu_host.check_output("ss -Hltn").splitlines()
        if line.split()[3].endswith(f":{scenario.port}")
    }
    if scenario.listens_on_loopback:
        assert addresses == {"127.0.0.1"}
    else:
        assert addresses == {gpu_host.check_output("hostname -i").split()[0]}


def test_journal_of_the_unit_has_the_engines_log(gpu_host: Host, scenario: Scenario) -> None:
    log = gpu_host.check_output(f"journalctl --no-pager --output cat -u {scenario.unit}")
    assert "Application startup complete" in log


def test_nothing_of_ours_failed(gpu_host: Host) -> None:
    assert gpu_host.check_output("systemctl list-units --failed --plain --no-legend") == ""
