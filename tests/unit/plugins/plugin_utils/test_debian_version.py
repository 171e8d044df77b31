# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
from __future__ import annotations

import shutil
import subprocess

import pytest

from ansible_collections.baremetal.vllm.plugins.plugin_utils._debian_version import (
    is_older,
    upstream,
)

IN_ORDER = [
    "0.9~rc1-1",
    "0.9-1",
    "0.9-1+b1",
    "0.9a-1",
    "0.10-1",
    "1.22.1-9+deb12u9",
    "1.22.1-9+deb12u10",
    "1.26.3-3",
    "1.26.3-3+deb13u10",
    "1.30.6-1~bookworm",
    "1.30.6-1",
    "26.1.5+dfsg1-9",
    "580.95.05-0ubuntu1",
    "580.178.04-1",
    "580.178.04-1ubuntu1",
    "580.190.08-1",
    "1:0.1-1",
    "5:28.5.2-1~debian.13~trixie",
    "5:29.9.0-1~debian.13~trixie",
]


def test_older_versions_sort_before_newer_ones() -> None:
    for index, version in enumerate(IN_ORDER):
        assert not is_older(version, version)
        for newer in IN_ORDER[index + 1 :]:
            assert is_older(version, newer), (version, newer)
            assert not is_older(newer, version), (newer, version)


@pytest.mark.skipif(not shutil.which("dpkg"), reason="dpkg is only on Debian and its children")
def test_dpkg_agrees() -> None:
    for older, newer in zip(IN_ORDER, IN_ORDER[1:]):
        subprocess.run(["dpkg", "--compare-versions", older, "lt", newer], check=True)


@pytest.mark.parametrize(
    ("version", "software"),
    [
        ("5:29.9.0-1~debian.13~trixie", "29.9.0"),
        ("580.178.04-0ubuntu0.24.04.1", "580.178.04"),
        ("580.178.04", "580.178.04"),
        ("", ""),
    ],
)
def test_the_release_of_the_software(version: str, software: str) -> None:
    assert upstream(version) == software
