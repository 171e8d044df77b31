# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What `lab doctor` says on machines that lack one thing each."""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest
from lab import archive, doctor, engine, images, settings
from lab.error import LabError


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A virgin machine that has all the lab wants, but for what a test takes away."""

    def change(
        docker: bool = False,
        root: bool = True,
        built: bool = False,
        free_gb: float = 100,
        archive_error: str = "",
    ) -> list[str]:
        monkeypatch.setattr(engine, "answers", lambda: docker)
        monkeypatch.setattr(engine, "read", lambda path: None)
        monkeypatch.setattr(images, "missing", lambda: [] if built else ["an image"])
        monkeypatch.setattr(os, "geteuid", lambda: 0 if root else 1000)
        monkeypatch.setattr(
            shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, int(free_gb * 1e9))
        )

        def check() -> None:
            if archive_error:
                raise LabError(archive_error)

        monkeypatch.setattr(archive, "check", check)
        return list(doctor.problems(index=False))

    return change


def test_a_virgin_machine_with_root_lacks_nothing(machine: Any) -> None:
    assert machine() == []


def test_neither_docker_nor_root(machine: Any) -> None:
    assert machine(root=False)[0].startswith("No Docker answers and you are not root: start Docker")


def test_images_that_only_root_can_build(machine: Any) -> None:
    assert "run this once as root" in machine(docker=True, root=False)[0]


def test_too_little_disk(machine: Any) -> None:
    (sentence,) = machine(free_gb=7)
    assert sentence.startswith("7 GB are free")
    assert f"the lab wants {settings.DISK_GB} GB: free some" in sentence


def test_with_images_built_less_disk_will_do(machine: Any) -> None:
    assert machine(docker=True, built=True, free_gb=settings.DISK_GB_WHEN_BUILT + 1) == []


def test_too_little_memory(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "MEMORY_GIB_WANTED", 10**6)
    (sentence,) = machine()
    assert "two engines and their hosts want 1000000 GiB: stop other programs" in sentence


def test_no_debian_archive(machine: Any) -> None:
    assert machine(archive_error="apt reaches no archive: mend it.") == [
        "apt reaches no archive: mend it."
    ]
