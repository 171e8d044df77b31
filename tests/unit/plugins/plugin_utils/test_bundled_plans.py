# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Decisions for a host whose packages come from a bundle: the same versions, and no repository."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.plugin_utils import _driver, _engine, _toolkit
from ansible_collections.baremetal.vllm.plugins.plugin_utils._provision import provision

FACTS = {"distribution": "Debian", "distribution_version": "12", "architecture": "x86_64"}
UBUNTU = FACTS | {"distribution": "Ubuntu", "distribution_version": "24.04"}
ROLES: dict[str, dict[str, Any]] = {
    "nvidia_driver": {"source": "nvidia", "version": "580.178.04", "reboot": None},
    "docker_engine": {"source": "docker", "version": "29.9.0", "daemon_options": {}},
    "container_toolkit": {"source": "nvidia", "version": "1.20.1", "legacy_runtime": False},
    "host_tuning": {
        "guard": False,
        "cpu_governor": "",
        "transparent_hugepages": "",
        "gpu_clock_lock": "",
    },
}
COMMON = {"replace": False, "repository": "", "key_url": "", "key_fingerprints": []}
STATE: dict[str, Any] = {
    "packages": {},
    "held": [],
    "kernel": {
        "release": "6.1.0-41-amd64",
        "headers": False,
        "secure_boot": False,
        "nouveau": False,
    },
    "nvidia": {
        "devices": [{"address": "0000:19:00.0", "device": "2330", "class": "030200"}],
        "module": None,
        "library": None,
        "built": {},
    },
}
# Of what a plan says, only this may differ.
REACHES = {"source", "prerequisites", "optional"}


def plans(
    bundled: bool,
    facts: dict[str, Any] | None = None,
    state: dict[str, Any] | None = None,
    **sources: str,
) -> dict[str, dict[str, Any]]:
    settings = {
        role: {**COMMON, **own, **({"source": sources[role]} if role in sources else {})}
        for role, own in ROLES.items()
    }
    host = (facts or FACTS, state or STATE, None)
    return provision(*host, [{"gpus": "all"}], settings, bundled=bundled).plans


@pytest.mark.parametrize("facts", [FACTS, UBUNTU])
@pytest.mark.parametrize("part", ["driver", "engine", "toolkit"])
def test_nothing_but_the_repository_is_left_out(facts: dict[str, Any], part: str) -> None:
    reached, bundled = plans(False, facts)[part], plans(True, facts)[part]
    assert reached["source"]["state"] == "present"
    assert reached["prerequisites"] == ["ca-certificates"]
    assert bundled["source"] is None
    assert bundled["prerequisites"] == []
    assert {key: value for key, value in bundled.items() if key not in REACHES} == {
        key: value for key, value in reached.items() if key not in REACHES
    }
    assert bundled["packages"] and bundled["preferences"] and bundled["hold"]


def test_the_pin_of_the_driver_names_the_repository_that_the_bundle_is_made_of() -> None:
    text = plans(True)["driver"]["preferences"]
    assert "# Repository: https://developer.download.nvidia.com/" in text
    assert "Pin: version 580.178.04-*" in text


def test_what_is_optional_is_told_by_no_repository() -> None:
    """The versions that the repository is known by are those of the pin, which holds here too."""
    assert plans(False, UBUNTU)["driver"]["optional"] == ["nvidia-utils-580=580.178.04-*"]
    assert plans(True, UBUNTU)["driver"]["optional"] == ["nvidia-utils-580"]


def test_a_source_of_an_earlier_run_stays() -> None:
    """A host that was reached by network before the bundle came; its lists may be read again."""
    state = copy.deepcopy(STATE)
    state["read"] = {f"/etc/apt/sources.list.d/{_engine.NAME}.sources": "Types: deb\n"}
    state["paths"] = {f"/etc/apt/sources.list.d/{_driver.NAME}.sources": {"exists": True}}
    sources = {"nvidia_driver": "distro", "docker_engine": "distro"}
    reached = plans(False, UBUNTU, state, **sources)
    assert reached["engine"]["source"]["state"] == reached["driver"]["source"]["state"] == "absent"
    bundled = plans(True, UBUNTU, state, **sources)
    assert bundled["engine"]["source"] is bundled["driver"]["source"] is None


def test_a_host_that_has_all_of_it_needs_no_repository_to_be_as_it_shall_be() -> None:
    settings = {**COMMON, **ROLES["container_toolkit"], "wants_gpus": True, "gpu_uuids": None}
    facts, base = FACTS, "nvidia-container-toolkit-base"
    up = {"active": "active", "enabled": "enabled"}
    state = {
        "packages": {base: "1.20.1-1"},
        "held": [base],
        "read": {_toolkit.PREFERENCES: _toolkit.plan(facts, {}, settings)["preferences"]},
        "services": dict.fromkeys(_toolkit.SERVICES, up),
        "cdi_devices": ["nvidia.com/gpu=0"],
    }
    assert _toolkit.plan(facts, state, settings)["converged"] is False
    assert _toolkit.plan(facts, state, settings | {"bundled": True})["converged"] is True
