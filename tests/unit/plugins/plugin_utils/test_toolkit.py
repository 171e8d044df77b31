# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.module_utils._apt_source import (
    repository,
    sources_text,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils import _toolkit

FACTS = {"distribution": "Debian", "distribution_version": "13.1", "architecture": "x86_64"}
A, B = "GPU-10000000-5a1d-4c1a-9d2e-000000000000", "GPU-10000001-5a1d-4c1a-9d2e-000000000001"
MIG = "MIG-7fe57e4d-5e0c-5a3c-a5f7-1f2e3d4c5b6a"
SETTINGS: dict[str, Any] = {
    "source": "nvidia",
    "version": "1.20.1",
    "legacy_runtime": False,
    "repository": "",
    "key_url": "",
    "key_fingerprints": [],
    "wants_gpus": True,
    "serving": [],
    "gpu_uuids": [A, B],
    "driver_changes": False,
}
BASE = "nvidia-container-toolkit-base"
ALL = [
    "nvidia-container-toolkit",
    BASE,
    "libnvidia-container-tools",
    "libnvidia-container1",
]
PREFERENCES = """\
Explanation: Managed by Ansible (baremetal.vllm), changes are overwritten.
Package: nvidia-container-toolkit nvidia-container-toolkit-base libnvidia-container-tools \
libnvidia-container1
Pin: version 1.20.1-*
Pin-Priority: 1001
"""
SOURCE = {
    "name": "baremetal-vllm-nvidia-container-toolkit",
    "uris": ["https://nvidia.github.io/libnvidia-container/stable/deb/amd64"],
    "suites": ["/"],
    "architectures": ["amd64"],
    "fingerprints": [_toolkit.KEY],
}
SPECIFICATION = """\
cdiVersion: 0.5.0
kind: nvidia.com/gpu
containerEdits:
  mounts:
    - hostPath: /usr/lib/x86_64-linux-gnu/libcuda.so.580.178.04
    - hostPath: /usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.178.04
"""


def state(**changes: Any) -> dict[str, Any]:
    """A host as it shall be, with `changes` laid over it."""
    names = ["0", "1", A, B, "all"]
    return {
        "packages": {BASE: "1.20.1-1", "ca-certificates": "20250419"},
        "held": [BASE],
        "services": {
            "nvidia-cdi-refresh.path": {"enabled": "enabled", "active": "active"},
            "nvidia-cdi-refresh.service": {"enabled": "enabled", "active": "inactive"},
        },
        "read": {
            "/etc/apt/sources.list.d/baremetal-vllm-nvidia-container-toolkit.sources": sources_text(
                repository(SOURCE)
            ),
            _toolkit.PREFERENCES: PREFERENCES,
            _toolkit.SPECIFICATION: SPECIFICATION,
        },
        "paths": {},
        "cdi_devices": [f"nvidia.com/gpu={name}" for name in names],
        "nvidia": {"library": "580.178.04"},
        **changes,
    }


LIST = "/etc/apt/sources.list.d/nvidia-container-toolkit.list"
SITE = "https://nvidia.github.io/libnvidia-container"
BARE: dict[str, Any] = {"packages": {}, "cdi_devices": [], "services": {}}


def devices(*names: str) -> dict[str, Any]:
    return {"cdi_devices": [f"nvidia.com/gpu={name}" for name in names]}


def plan(
    host: dict[str, Any], facts: dict[str, Any] | None = None, **settings: Any
) -> dict[str, Any]:
    return _toolkit.plan(facts or FACTS, host, SETTINGS | settings)


def to_do(result: dict[str, Any]) -> list[str]:
    work = ("source", "pin", "prerequisites", "packages", "hold", "start", "refresh")
    return [key for key in work if result[key]]


# -- packages --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "settings"),
    [
        (state(), {}),
        (state(), {"gpu_uuids": None}),
        (BARE, {"wants_gpus": False}),
        (state(packages={BASE: "1.19.1-1"}, read={}), {"source": "preinstalled"}),
    ],
)
def test_host_as_it_shall_be_needs_nothing(host: dict[str, Any], settings: dict[str, Any]) -> None:
    result = plan(host, **settings)
    assert (result["problems"], result["notes"], result["converged"]) == ([], [], True)


def test_bare_host_gets_the_one_package_that_cdi_needs() -> None:
    result = plan(BARE, gpu_uuids=None)
    assert result["packages"] == ["nvidia-container-toolkit-base=1.20.1-*"]
    assert result["hold"] == [BASE]
    assert result["prerequisites"] == ["ca-certificates"]
    assert (result["preferences"], result["pin"]) == (PREFERENCES, True)
    assert result["services"] == ["nvidia-cdi-refresh.path", "nvidia-cdi-refresh.service"]
    assert (result["start"], result["refresh"]) == (True, "the toolkit changes")
    assert result["daemon_options"] == {}
    assert result["brief"] == "Would install and hold nvidia-container-toolkit-base=1.20.1-*."


def test_repository_is_nvidias_or_a_mirror() -> None:
    source = plan(BARE, FACTS | {"architecture": "aarch64"})["source"]
    assert source["uris"] == ["https://nvidia.github.io/libnvidia-container/stable/deb/arm64"]
    assert (source["suites"], source["components"]) == (["/"], [])
    assert source["key_url"] == "https://nvidia.github.io/libnvidia-container/gpgkey"
    source = plan(BARE, repository="http://m", key_url="http://m/k", key_fingerprints=["A" * 40])[
        "source"
    ]
    assert (source["uris"], source["key_url"]) == (["http://m"], "http://m/k")
    assert source["fingerprints"] == ["A" * 40]


def test_legacy_runtime_needs_all_packages_at_one_version_and_an_entry_for_docker() -> None:
    result = plan(state(), legacy_runtime=True)
    assert result["packages"] == [f"{name}=1.20.1-*" for name in ALL]
    assert result["hold"] == ALL
    assert result["daemon_options"] == {
        "runtimes": {"nvidia": {"path": "nvidia-container-runtime", "args": []}}
    }


def test_other_packages_that_are_there_go_with_the_one() -> None:
    """They depend on each other by their exact version."""
    packages = {**dict.fromkeys(ALL, "1.19.1-1"), "ca-certificates": "1"}
    result = plan(state(packages=packages))
    assert result["packages"] == [f"{name}=1.20.1-*" for name in ALL]


@pytest.mark.parametrize(
    ("change", "keys"),
    [
        ({"packages": {BASE: "1.19.1-1", "ca-certificates": "1"}}, ["packages", "hold", "refresh"]),
        ({"held": []}, ["hold"]),
        ({"read": {}}, ["source", "pin"]),
        ({"read": {**state()["read"], LIST: f"deb {SITE}/stable/deb/amd64 /\n"}}, ["source"]),
        ({"services": {}}, ["start"]),
        (
            {
                "services": {
                    "nvidia-cdi-refresh.path": {"enabled": "enabled", "active": "inactive"},
                    "nvidia-cdi-refresh.service": {"enabled": "enabled", "active": "inactive"},
                }
            },
            ["start"],
        ),
        (devices(), ["refresh"]),
    ],
)
def test_only_what_differs_is_to_do(change: dict[str, Any], keys: list[str]) -> None:
    result = plan(state(**change))
    assert to_do(result) == keys
    assert not result["converged"]


@pytest.mark.parametrize("text", [f"# deb {SITE}/stable/deb/amd64 /\n", ""])
def test_a_source_that_is_not_in_force_stays(text: str) -> None:
    assert plan(state(read={**state()["read"], LIST: text}))["converged"]


def test_hold_alone_is_told_in_check_mode_too() -> None:
    assert plan(state(held=[]))["brief"] == f"Would hold {BASE}."
    assert plan(state())["brief"] == ""


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"version": "1.18.2"},
            "container_toolkit_version is 1.18.2, below 1.19.1, which closes CVE-2026-24260; give"
            " 1.19.1 or newer.",
        ),
        (
            {"repository": "//m"},
            "container_toolkit_repository and its keys do not fit: uris has '//m'; it must begin"
            " with http://, https:// or file:/ and have no spaces.",
        ),
    ],
)
def test_bad_variables_are_refused(settings: dict[str, Any], sentence: str) -> None:
    result = plan(BARE, **settings)
    assert result["problems"] == [sentence]
    assert not result["converged"]


def test_specification_by_hand_is_told() -> None:
    (note,) = plan(state(paths={"/etc/cdi/nvidia.yaml": {"exists": True}}))["notes"]
    assert note == (
        "has /etc/cdi/nvidia.yaml, which nothing keeps up to date, besides"
        " /var/run/cdi/nvidia.yaml, which goes before it; remove it (rm /etc/cdi/nvidia.yaml)"
        " if nvidia-ctk wrote it."
    )


# -- the specification -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "uuids", "why"),
    [
        ({}, [A, B], ""),
        ({}, None, ""),
        (devices(), None, "no CDI specification names a GPU"),
        ({"cdi_devices": ["vendor.com/net=0"]}, [A], "no CDI specification names a GPU"),
        (devices("0", A), [A, B], f"the CDI specification does not name {B}"),
        (devices("0", "1", "all"), [A, B], ""),  # by index alone, as some write it
        (devices("0", "all"), [A, B], f"the CDI specification does not name {A}, {B}"),
        (
            {},
            [A],
            f"the CDI specification names {B}, which the host does not have",
        ),
        # MIG was switched on: the GPU is no device any more, its instance is one.
        (devices("0", A), [MIG], f"the CDI specification does not name {MIG}"),
        (devices("0:0", MIG), [MIG], ""),
        (
            {"nvidia": {"library": "580.190.08"}},
            [A, B],
            "the CDI specification is that of driver 580.178.04, the host has 580.190.08",
        ),
        ({"nvidia": {"library": None}}, [A, B], ""),
        ({"read": {**state()["read"], _toolkit.SPECIFICATION: None}}, [A, B], ""),
        ({"paths": {"/etc/cdi/nvidia.yaml": {"exists": True}}}, [A], ""),
    ],
)
def test_specification_is_stale_where_it_does_not_describe_the_gpus(
    change: dict[str, Any], uuids: list[str] | None, why: str
) -> None:
    assert _toolkit.stale(state(**change), uuids) == why
    result = plan(state(**change), gpu_uuids=uuids)
    assert result["refresh"] == why
    assert result["converged"] == (not why)


def test_specification_is_written_anew_for_another_driver() -> None:
    assert plan(state(), driver_changes=True)["refresh"] == "the driver changes"


UVM = {path: {"exists": True} for path in ("/dev/nvidia-uvm", "/sys/module/nvidia_uvm")}
WITHOUT_UVM = (
    "the CDI specification does not name /dev/nvidia-uvm, without which CUDA does not start"
)


@pytest.mark.parametrize(
    ("paths", "node", "why"),
    [
        (UVM, "/dev/nvidiactl", WITHOUT_UVM),
        (UVM, "/dev/nvidia-uvm-tools", WITHOUT_UVM),
        (UVM, "/dev/nvidia-uvm", ""),
        # Not loaded, or without its node: writing it anew would not name it either.
        ({}, "/dev/nvidiactl", ""),
        ({"/sys/module/nvidia_uvm": {"exists": True}}, "/dev/nvidiactl", ""),
        ({"/dev/nvidia-uvm": {"exists": True}}, "/dev/nvidiactl", ""),
    ],
)
def test_specification_names_the_node_that_cuda_needs(
    paths: dict[str, Any], node: str, why: str
) -> None:
    text = f"{SPECIFICATION}  deviceNodes:\n    - path: {node}\n"
    read = {**state()["read"], _toolkit.SPECIFICATION: text}
    assert plan(state(paths=paths, read=read))["refresh"] == why


def test_specification_that_cannot_be_read_is_not_judged_by_its_nodes() -> None:
    read = {**state()["read"], _toolkit.SPECIFICATION: None}
    assert plan(state(paths=UVM, read=read))["converged"]


def test_nodes_are_no_matter_where_somebody_else_keeps_the_specification() -> None:
    assert plan(state(paths=UVM), source="preinstalled")["converged"]


def test_nothing_that_serves_is_cut_by_it() -> None:
    """The specification is read when a container is made; a running one does not lose its GPUs."""
    result = plan(state(**devices()), serving=["vllm@a.service"])
    assert (result["problems"], to_do(result)) == ([], ["refresh"])


# -- preinstalled ----------------------------------------------------------------------------------


def test_preinstalled_toolkit_below_the_floor_is_refused() -> None:
    result = plan(state(packages={BASE: "1.18.0-1"}), source="preinstalled")
    assert result["problems"] == [
        "has NVIDIA container toolkit 1.18.0, below 1.19.1, which closes CVE-2026-24260; install a"
        " newer one, or set container_toolkit_source: nvidia."
    ]


def test_preinstalled_without_a_specification_is_refused() -> None:
    (problem,) = plan(BARE, source="preinstalled", gpu_uuids=None)["problems"]
    assert problem == (
        "no CDI specification names a GPU, and container_toolkit_source is 'preinstalled'; run"
        " `systemctl restart nvidia-cdi-refresh.service` or `nvidia-ctk cdi generate"
        " --output=/etc/cdi/nvidia.yaml`, or set container_toolkit_source: nvidia."
    )


def test_preinstalled_may_lack_the_specification_while_the_driver_is_on_its_way() -> None:
    result = plan(BARE, source="preinstalled", gpu_uuids=None, driver_changes=True)
    assert (result["problems"], result["converged"]) == ([], True)


def test_specification_by_index_written_by_hand_will_do() -> None:
    host = state(packages={}, read={}, **devices("0"))
    assert plan(host, source="preinstalled", gpu_uuids=[A])["converged"]


def test_every_file_and_package_that_is_looked_at_is_asked_for() -> None:
    assert set(state()["read"]) <= set(_toolkit.READS)
    assert {*ALL, "ca-certificates"} == set(_toolkit.PACKAGES)
    assert set(state()["services"]) == set(_toolkit.SERVICES)
    assert set(UVM) <= set(_toolkit.PATHS)
