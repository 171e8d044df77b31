# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Lab hosts with hardware: brought up as new, rebooted, broken, and asked what is on them."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conftest import ENVIRONMENT, LAB, ROOT, SCENARIO, Run, lab_host, playbook

VENDOR: dict[str, Any] = json.loads((ROOT / ".cache/lab/vendor.json").read_text())
KEYS = VENDOR["keys"]
DRIVER, NEWER = "580.178.04", "580.190.08"
FLEET = ("l4", "h100", "b200")
LIMIT = ("--limit", ",".join(FLEET))
BOOT_SECONDS = 60


@dataclass(frozen=True)
class Machine:
    """A host of the lab by its name in the inventory."""

    name: str

    @property
    def container(self) -> str:
        return f"vllm-{LAB}-{self.name}"

    def run(self, command: str) -> str:
        """What a command prints on the host; it has to succeed."""
        return str(lab_host(self.name).check_output(command))

    def fails(self, command: str) -> bool:
        """Whether a command fails on the host."""
        return bool(lab_host(self.name).run(command).rc)

    def renew(self, **hardware: Any) -> None:
        """Make it a freshly installed machine again, with other firmware or kernel if asked."""
        docker("rm", "--force", "--volumes", self.container)
        docker("volume", "rm", "--force", f"{self.container}-docker")
        lab = [sys.executable, str(ROOT / "molecule/shared/lab")]
        subprocess.run([*lab, "up", LAB, "--hosts", self.name], check=True, capture_output=True)
        if hardware:
            self.change(**hardware)
            self.reboot()

    def change(self, **hardware: Any) -> None:
        """Change firmware or kernel for the next boot."""
        for key, value in hardware.items():
            self.run(f"/usr/lib/lab-machine/machine set '{key}={json.dumps(value)}'")

    def reboot(self) -> None:
        """Reboot as an operator would, and wait for the end of the boot."""
        before = self.started()
        lab_host(self.name).run("systemctl reboot")
        deadline = time.monotonic() + BOOT_SECONDS
        while self.started() == before and time.monotonic() < deadline:
            time.sleep(0.1)
        self.wait()

    def cut_power(self) -> None:
        """End everything on it at once, and switch it on again."""
        docker("kill", self.container)
        docker("start", self.container)
        self.wait()

    def wait(self) -> None:
        """Wait until it has booted."""
        deadline = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline:
            state = lab_host(self.name).run("systemctl is-system-running --wait").stdout.strip()
            if state in ("running", "degraded"):
                return
            time.sleep(0.1)
        raise AssertionError(f"{self.name} has not booted after {BOOT_SECONDS} s")

    def wait_for_engine(self) -> None:
        """Wait until its engine answers."""
        health = "curl --silent --fail http://127.0.0.1:8000/health"
        self.run(f"for _ in $(seq 300); do {health} && exit; sleep 1; done; exit 1")

    def started(self) -> str:
        return docker("inspect", "--format", "{{.State.StartedAt}}", self.container)

    def show(self, what: str, value: str) -> None:
        """Have the vendors' repositories show this host another key, or another status."""
        self.run(f"curl --silent --fail --request POST {VENDOR['url']}/_{what}/{value}")

    # -- what is there -----------------------------------------------------------------------------

    def packages(self, *patterns: str) -> dict[str, str]:
        """Installed packages and their versions."""
        shown = "dpkg-query --show --showformat '${db:Status-Abbrev}|${Package}|${Version}\\n' "
        lines = lab_host(self.name).run(shown + " ".join(f"'{x}'" for x in patterns)).stdout
        found = (line.split("|") for line in lines.splitlines())
        return {name: version for status, name, version in found if status[1] == "i"}

    def held(self) -> set[str]:
        return set(self.run("apt-mark showhold").split())

    def loaded(self) -> str:
        """The release of the kernel module that runs."""
        return self.run("cat /sys/module/nvidia/version 2>/dev/null || true")

    def devices(self) -> list[str]:
        """CDI names of the devices that the specification has."""
        return self.run("sed -nE 's/^ +- name: \"(.*)\"$/\\1/p' /var/run/cdi/nvidia.yaml").split()

    def gpus(self) -> list[str]:
        """UUIDs that nvidia-smi lists."""
        return self.run("nvidia-smi -L | sed -E 's/.*UUID: (.*)\\)/\\1/'").split()


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def provision(machine: Machine, *arguments: str, **variables: Any) -> Run:
    """Run playbooks/provision.yml for one machine."""
    return playbook("provision", "--limit", machine.name, *arguments, extra=variables)


def assert_changes_nothing(machine: Machine, run: Run) -> None:
    assert run.code == 0, run.output
    assert run.recap(machine.name)["changed"] == 0, run.output


@functools.cache
def fleet() -> Run:
    """Bring three virgin machines to tokens with site.yml, once in a run of the tests."""
    machines = [Machine(name) for name in FLEET]
    for machine in machines:
        machine.renew()
    run = playbook("site", *LIMIT)
    assert run.code == 0, run.output
    return run


def gpu_facts(machine: Machine) -> dict[str, Any]:
    """What the module gpu_info reads on a machine."""
    command = ["ansible", *SCENARIO.inventory_arguments, "--module-name=baremetal.vllm.gpu_info"]
    done = subprocess.run(
        [*command, machine.name],
        cwd=ROOT,
        env=ENVIRONMENT | {"ANSIBLE_CALLBACK_RESULT_FORMAT": "json"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout.partition("=>")[2])
    found: dict[str, Any] = answer["ansible_facts"]["gpu_info"]
    return found


def findings(machine: Machine, **variables: Any) -> dict[str, dict[str, str]]:
    """What doctor.yml finds on a machine, by code."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "doctor.json")
        told = {"doctor_json": str(file), "doctor_fail_on": "never", **variables}
        run = playbook("doctor", "--limit", machine.name, extra=told)
        assert run.code == 0, run.output
        found = json.loads(file.read_text())["findings"]
    return {finding["code"]: finding for finding in found}


def sentence(text: str) -> str:
    """A text as it is read, without the line breaks of the output."""
    return " ".join(text.split())
