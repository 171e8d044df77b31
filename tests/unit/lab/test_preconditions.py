# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What molecule/shared/preconditions says on machines that lack one thing each."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "molecule" / "shared" / "preconditions"

pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="the lab is not in this tree")

GIB_IN_KIB = 1024**2

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the script on a machine of stubs: all is well but for what a test changes."""

    def run_on(
        *arguments: str,
        docker: bool = True,
        uid: int = 0,
        apt: bool = True,
        new_python: bool = True,
        index: bool = True,
        disk_gib: int = 40,
        memory_gib: int = 12,
    ) -> subprocess.CompletedProcess[str]:
        old, unreachable = int(not new_python), int(not index)
        disk = f"Filesystem 1024-blocks Used Available\n/dev/vda 1 1 {disk_gib * GIB_IN_KIB} 1% /"
        stubs = {
            "docker": f"exit {int(not docker)}",
            "id": f"echo {uid}",
            "df": f"echo '{disk}'",
            "python3": f'case "$1" in -c) exit {old};; *) exit {unreachable};; esac',
        }
        if apt:
            stubs["apt-get"] = "exit 0"
        for name, body in stubs.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
            (tmp_path / name).chmod(0o755)
        for name in ("awk", "rm"):
            (tmp_path / name).symlink_to(str(shutil.which(name)))
        meminfo = tmp_path / "meminfo"
        meminfo.write_text(f"MemTotal: 99999999 kB\nMemAvailable: {memory_gib * GIB_IN_KIB} kB\n")
        env = {"PATH": str(tmp_path), "PYTHONS": "python3", "MEMINFO": str(meminfo)}
        return subprocess.run(
            ["/bin/sh", str(SCRIPT), *arguments],
            env={**env, "TMPDIR": str(tmp_path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return run_on


def test_a_machine_that_has_all_passes_in_silence(run: Run) -> None:
    done = run()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_root_without_docker_passes_because_the_lab_installs_it(run: Run) -> None:
    assert run(docker=False).returncode == 0


def test_a_user_whose_docker_answers_passes(run: Run) -> None:
    assert run(uid=1000).returncode == 0


@pytest.mark.parametrize(
    ("lacking", "sentence"),
    [
        (
            {"docker": False, "uid": 1000},
            "no Docker answers and this is not root; "
            "start Docker and join its group, or run as root.",
        ),
        (
            {"docker": False, "apt": False},
            "no Docker answers and apt-get is not there to install it; "
            "install Docker Engine first.",
        ),
        (
            {"new_python": False},
            "Python 3.11 or newer with venv is needed; "
            "on Debian 12: apt install python3 python3-venv.",
        ),
        (
            {"disk_gib": 39},
            "the lab needs 40 GiB of free disk here and 39 GiB are free; "
            "free some, or clone elsewhere.",
        ),
        (
            {"memory_gib": 11},
            "two engines need 12 GiB of free memory and 11 GiB are free; stop something first.",
        ),
        (
            {"index": False},
            "pip cannot reach a package index; check the network or pip's settings.",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_is_missing_is_one_sentence(
    run: Run, lacking: dict[str, bool | int], sentence: str
) -> None:
    done = run(**lacking)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Cannot go on: {sentence}\n"


def test_clean_needs_neither_python_nor_disk_nor_memory(run: Run) -> None:
    assert run("clean", new_python=False, disk_gib=0, memory_gib=0, index=False).returncode == 0


def test_clean_needs_docker_or_root(run: Run) -> None:
    assert run("clean", docker=False, uid=1000).returncode == 1


def test_python_prints_the_interpreter(run: Run, tmp_path: Path) -> None:
    assert run("python", docker=False, uid=1000).stdout == f"{tmp_path}/python3\n"
