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

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the script on a machine of stubs: all is well but for what a test changes."""

    def run_on(
        *arguments: str, new_python: bool = True, index: bool = True
    ) -> subprocess.CompletedProcess[str]:
        old, unreachable = int(not new_python), int(not index)
        python = tmp_path / "python3"
        python.write_text(
            f'#!/bin/sh\ncase "$1" in -c) exit {old};; *) exit {unreachable};; esac\n'
        )
        python.chmod(0o755)
        for name in ("mktemp", "rm"):
            (tmp_path / name).symlink_to(str(shutil.which(name)))
        env = {"PATH": str(tmp_path), "PYTHONS": "python3"}
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


@pytest.mark.parametrize(
    ("lacking", "sentence"),
    [
        (
            {"new_python": False},
            "Python 3.11 or newer with venv is needed; "
            "on Debian 12: apt install python3 python3-venv.",
        ),
        (
            {"index": False},
            "pip cannot reach a package index; check the network or pip's settings.",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_is_missing_is_one_sentence(run: Run, lacking: dict[str, bool], sentence: str) -> None:
    done = run(**lacking)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Cannot go on: {sentence}\n"


def test_python_prints_the_interpreter(run: Run, tmp_path: Path) -> None:
    assert run("python", index=False).stdout == f"{tmp_path}/python3\n"
