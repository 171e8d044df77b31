# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.baremetal.vllm.plugins.module_utils._apt_source import (
    repository,
    sources_text,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils import _engine

FACTS = {
    "distribution": "Debian",
    "distribution_version": "13.1",
    "architecture": "x86_64",
}
BOOKWORM = FACTS | {"distribution_version": "12.5"}
NOBLE = FACTS | {
    "distribution": "Ubuntu",
    "distribution_version": "24.04",
}
SETTINGS: dict[str, Any] = {
    "source": "docker",
    "version": "29.9.0",
    "replace": False,
    "daemon_options": {},
    "repository": "",
    "key_url": "",
    "key_fingerprints": [],
    "wants_gpus": False,
    "serving": [],
    "local": False,
}
RUNNING = {"load": "loaded", "active": "active", "enabled": "enabled"}
DEFAULTS = {
    "live-restore": True,
    "log-driver": "json-file",
    "log-opts": {"max-size": "10m", "max-file": "3"},
}
PREFERENCES = """\
Explanation: Managed by Ansible (baremetal.vllm), changes are overwritten.
Package: docker-ce docker-ce-cli docker-ce-rootless-extras
Pin: version 5:29.9.0-*
Pin-Priority: 1001
"""
SOURCE = {
    "name": "baremetal-vllm-docker",
    "uris": ["https://download.docker.com/linux/debian"],
    "suites": ["trixie"],
    "components": ["stable"],
    "architectures": ["amd64"],
    "fingerprints": [_engine.KEY],
}
SERVING = ["vllm@gpt-oss-20b.service"]
STOP = (
    "and vllm@gpt-oss-20b.service is serving; stop what serves first (systemctl stop"
    " vllm@gpt-oss-20b.service), then run again."
)


def ce(version: str = "29.9.0") -> dict[str, str]:
    revision = "1~debian.13~trixie"
    return {
        "docker-ce": f"5:{version}-{revision}",
        "docker-ce-cli": f"5:{version}-{revision}",
        "containerd.io": "2.4.1-2~debian.13~trixie",
        "ca-certificates": "20250419",
    }


def distro() -> dict[str, str]:
    return {
        "docker.io": "26.1.5+dfsg1-9",
        "docker-cli": "26.1.5+dfsg1-9",
        "containerd": "1.7.24~ds1-6",
        "runc": "1.1.15+ds1-2",
    }


def state(
    packages: dict[str, str] | None = None,
    daemon: Any = "the defaults",
    version: str | None = None,
    cdi: bool | None = None,
    files: dict[str, str] | None = None,
    paths: tuple[str, ...] = (),
    service: Any = "running",
) -> dict[str, Any]:
    """A host on which Docker runs; without `packages`, from nowhere that dpkg knows."""
    daemon = DEFAULTS if daemon == "the defaults" else daemon
    service = RUNNING if service == "running" else service
    installed = packages or {}
    unpacked = [
        f"/var/lib/dpkg/info/{name}.list"
        for name in ("docker-ce", "docker.io")
        if name in installed
    ]
    text = daemon if isinstance(daemon, str) else json.dumps(daemon)
    return {
        "packages": installed,
        "held": [
            name for name in ("docker-ce", "docker-ce-cli", "containerd.io") if name in installed
        ],
        "services": {"docker.service": service or {"load": "not-found", "active": "inactive"}},
        "docker": {"version": version, "cdi": cdi},
        "read": {
            _engine.DAEMON_JSON: None if daemon is None else text,
            **(files or {}),
        },
        "paths": {path: {"exists": True} for path in (*paths, *unpacked, "/usr/bin/dockerd")},
    }


def ours() -> dict[str, str]:
    """The files that the role writes for apt."""
    return {
        "/etc/apt/sources.list.d/baremetal-vllm-docker.sources": sources_text(repository(SOURCE)),
        _engine.PREFERENCES: PREFERENCES,
    }


BARE = state(daemon=None, service=None)
DOCKER_LIST = "/etc/apt/sources.list.d/docker.list"


def converged(**options: Any) -> dict[str, Any]:
    return state(**{"packages": ce(), "version": "29.9.0", "cdi": True, "files": ours()} | options)


def plan(
    host: dict[str, Any], facts: dict[str, Any] | None = None, **settings: Any
) -> dict[str, Any]:
    return _engine.plan(facts or FACTS, host, SETTINGS | settings)


def daemon(result: dict[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = json.loads(result["daemon"])
    return options


# -- nothing to do ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "settings"),
    [
        (converged(), {}),
        (converged(), {"wants_gpus": True}),
        (converged(), {"serving": SERVING}),
        (state(distro(), version="26.1.5+dfsg1"), {"source": "distro"}),
        (state(version="27.5.1"), {"source": "preinstalled"}),
        (
            state(version="27.5.1", cdi=True, daemon=DEFAULTS | {"features": {"cdi": True}}),
            {"source": "preinstalled", "wants_gpus": True},
        ),
        (state(ce("28.5.2"), version="28.5.2", cdi=True), {"source": "preinstalled"}),
    ],
)
def test_host_as_it_shall_be_needs_nothing(host: dict[str, Any], settings: dict[str, Any]) -> None:
    result = plan(host, **settings)
    assert (result["problems"], result["notes"], result["converged"]) == ([], [], True)


def test_platform_that_is_refused_elsewhere_is_not_judged() -> None:
    assert plan(BARE, FACTS | {"distribution": "Fedora"})["converged"]


# -- packages --------------------------------------------------------------------------------------


def test_bare_host_gets_dockers_own_engine_pinned_and_held() -> None:
    result = plan(BARE)
    assert result["problems"] == []
    assert result["packages"] == [
        "docker-ce=5:29.9.0-*",
        "docker-ce-cli=5:29.9.0-*",
        "containerd.io",
    ]
    assert result["hold"] == ["docker-ce", "docker-ce-cli", "containerd.io"]
    assert (result["preferences"], result["pin"]) == (PREFERENCES, True)
    assert result["prerequisites"] == ["ca-certificates"]
    assert result["source"]["uris"] == ["https://download.docker.com/linux/debian"]
    assert result["source"]["key_url"] == "https://download.docker.com/linux/debian/gpg"
    assert (result["start"], result["installed"], result["converged"]) == (True, False, False)
    assert result["brief"] == (
        "Would install docker-ce=5:29.9.0-*, docker-ce-cli=5:29.9.0-* and containerd.io and hold"
        " docker-ce, docker-ce-cli and containerd.io."
    )


@pytest.mark.parametrize(
    ("facts", "uri", "suite", "architecture"),
    [
        (BOOKWORM, "https://download.docker.com/linux/debian", "bookworm", "amd64"),
        (NOBLE, "https://download.docker.com/linux/ubuntu", "noble", "amd64"),
        (
            NOBLE | {"distribution_version": "22.04", "architecture": "aarch64"},
            "https://download.docker.com/linux/ubuntu",
            "jammy",
            "arm64",
        ),
    ],
)
def test_repository_is_that_of_the_distribution(
    facts: dict[str, Any], uri: str, suite: str, architecture: str
) -> None:
    source = plan(BARE, facts)["source"]
    assert (source["uris"], source["suites"]) == ([uri], [suite])
    assert source["architectures"] == [architecture]


def test_mirror_takes_the_place_of_dockers_repository() -> None:
    source = plan(
        BARE, repository="http://mirror/docker", key_url="file:///k", key_fingerprints=["A" * 40]
    )["source"]
    assert (source["uris"], source["key_url"]) == (["http://mirror/docker"], "file:///k")
    assert source["fingerprints"] == ["A" * 40]
    assert source["replaces"] == {
        "uris": ["download.docker.com/linux/"],
        "keys": [_engine.KEY, "A" * 40],
    }


@pytest.mark.parametrize(
    "text",
    [
        "# deb https://download.docker.com/linux/debian bookworm stable # disabled on upgrade\n",
        "deb https://mirror.example/docker bookworm stable\n",
        "",
    ],
)
def test_a_source_that_is_not_in_force_or_not_docker_s_stays(text: str) -> None:
    assert plan(converged(files={**ours(), DOCKER_LIST: text}))["converged"]


@pytest.mark.parametrize(
    ("change", "keys"),
    [
        ({"packages": ce("28.5.2")}, ["packages", "hold"]),
        ({"packages": {**ce(), "containerd.io": ""}}, ["packages", "hold"]),
        ({"files": {}}, ["source", "pin"]),
        (
            {"files": {**ours(), DOCKER_LIST: "deb https://download.docker.com/linux/debian x y"}},
            ["source"],
        ),
        ({"service": {**RUNNING, "enabled": "disabled"}}, ["start"]),
        ({"service": {**RUNNING, "active": "failed"}}, ["start"]),
        ({"daemon": {}}, ["configure"]),
    ],
)
def test_only_what_differs_is_to_do(change: dict[str, Any], keys: list[str]) -> None:
    result = plan(converged(**change))
    work = ("source", "pin", "prerequisites", "packages", "remove", "hold", "configure", "start")
    assert [key for key in work if result[key]] == keys
    assert not result["converged"]


def test_package_that_is_not_on_hold_is_put_there_without_a_repository() -> None:
    host = converged() | {"held": ["docker-ce"]}
    result = plan(host)
    assert result["hold"] == ["docker-ce", "docker-ce-cli", "containerd.io"]
    assert (result["packages"], result["source"]) == ([], None)


def test_key_that_was_replaced_makes_another_entry() -> None:
    result = plan(converged(), key_fingerprints=["B" * 40])
    assert result["source"]["fingerprints"] == ["B" * 40]
    assert result["packages"] == []


def test_rootless_extras_go_with_the_engine() -> None:
    result = plan(converged(packages=ce("28.5.2") | {"docker-ce-rootless-extras": "5:28.5.2-1"}))
    assert "docker-ce-rootless-extras=5:29.9.0-*" in result["packages"]


def test_way_back_from_docker_29_says_what_becomes_of_the_images() -> None:
    result = plan(converged(), version="28.5.2")
    assert result["packages"][0] == "docker-ce=5:28.5.2-*"
    (note,) = result["notes"]
    assert "back to 28.5.2, which does not know the image store of Docker 29" in note


def test_engine_of_another_source_is_replaced_only_when_asked() -> None:
    host = state(distro(), version="26.1.5+dfsg1")
    (problem,) = plan(host)["problems"]
    assert problem == (
        "has docker.io 26.1.5+dfsg1, docker-cli 26.1.5+dfsg1, containerd 1.7.24~ds1 and runc"
        " 1.1.15+ds1, and docker_engine_source is 'docker'; set docker_engine_replace: true to have"
        " them removed and that engine installed (containers and images stay, all containers stop),"
        " or docker_engine_source: distro to keep them."
    )
    result = plan(host, replace=True)
    assert result["problems"] == []
    assert result["remove"] == ["docker.io", "docker-cli", "containerd", "runc"]
    assert result["start"]  # a package that goes may leave its unit masked
    assert result["brief"].startswith("Would remove docker.io, docker-cli, containerd and runc,")


@pytest.mark.parametrize("version", ["30.1.0", "28.5.2"])
@pytest.mark.parametrize("serving", [[], SERVING])
def test_version_that_somebody_else_chose_is_changed_only_when_asked(
    version: str, serving: list[str]
) -> None:
    """Under it run other people's containers, of which nothing here knows."""
    host = state(ce(version), version=version)
    result = plan(host, serving=serving)
    assert result["problems"] == [
        f"has docker-ce {version}, which nothing of this collection has pinned, and"
        f' docker_engine_version is 29.9.0; set docker_engine_version: "{version}" or'
        " docker_engine_source: preinstalled to keep it, or docker_engine_replace: true to have it"
        " changed (Docker is restarted, under all containers of this host)."
    ]
    assert not result["converged"]


@pytest.mark.parametrize(
    "settings", [{"version": "30.1.0"}, {"source": "preinstalled"}, {"replace": True}]
)
def test_every_way_out_that_is_named_is_one(settings: dict[str, Any]) -> None:
    result = plan(state(ce("30.1.0"), version="30.1.0"), **settings)
    assert result["problems"] == []
    assert bool(result["packages"]) == ("replace" in settings)
    assert result["remove"] == []


@pytest.mark.parametrize("version", ["30.1.0", "28.5.2"])
def test_version_that_was_pinned_here_is_changed(version: str) -> None:
    files = {_engine.PREFERENCES: PREFERENCES.replace("29.9.0", version)}
    result = plan(state(ce(version), version=version, files=files))
    assert (result["problems"], result["packages"][0]) == ([], "docker-ce=5:29.9.0-*")


def test_replacement_goes_the_other_way_too() -> None:
    host = converged()
    (problem,) = plan(host, source="distro")["problems"]
    assert "or docker_engine_source: docker to keep them" in problem
    result = plan(host, source="distro", replace=True)
    assert result["remove"] == ["docker-ce", "docker-ce-cli", "containerd.io"]
    assert result["packages"] == ["docker.io", "docker-cli", "iptables", "ca-certificates"]
    assert result["source"] == {"name": "baremetal-vllm-docker", "state": "absent"}
    assert (result["preferences"], result["pin"]) == ("", True)


def test_what_dpkg_lets_be_beside_dockers_engine_stays() -> None:
    assert plan(converged(packages=ce() | {"docker-compose": "2.26.1-4"}))["converged"]


def test_engine_that_was_only_unpacked_is_ours_to_finish() -> None:
    """A run was killed in dpkg: the package counts as not installed, its unit is there."""
    host = state(paths=("/var/lib/dpkg/info/docker-ce.list",))
    result = plan(host)
    assert result["problems"] == []
    assert "docker-ce=5:29.9.0-*" in result["packages"]


@pytest.mark.parametrize(
    ("host", "settings", "sentence"),
    [
        (
            BARE,
            {"source": "preinstalled"},
            "docker_engine_source is 'preinstalled', but docker.service does not exist on this"
            " host; install Docker Engine, or set docker_engine_source to 'docker' or 'distro'.",
        ),
        (
            state(),
            {},
            "has a docker.service that no package of 'docker' brought; remove that engine, or set"
            " docker_engine_source to 'preinstalled' to keep it.",
        ),
        (
            state(service=None, paths=("/snap/bin/docker",)),
            {},
            "has Docker as a snap, beside which no other engine runs; remove it (snap remove"
            " docker), which takes its containers and images along.",
        ),
        (
            state(ce("28.5.2"), version="28.5.2", files=ours()),
            {"serving": SERVING},
            f"Docker would be stopped for the change from 28.5.2 to 29.9.0, {STOP}",
        ),
        (
            state(distro(), version="26.1.5"),
            {"serving": SERVING, "replace": True},
            "Docker would be stopped for the replacement of docker.io, docker-cli, containerd and"
            f" runc, {STOP}",
        ),
        (
            BARE,
            {"wants_gpus": True, "version": "24.0.9"},
            "docker_engine_version is 24.0.9, which cannot give GPUs by CDI; give 25.0.0 or newer.",
        ),
        (
            state(version="20.10.24"),
            {"wants_gpus": True, "source": "preinstalled"},
            "would run on Docker 20.10.24, which cannot give GPUs by CDI; install Docker 25 or"
            " newer, or set docker_engine_source: docker.",
        ),
        (
            BARE,
            {"key_fingerprints": ["63BF863C"]},
            "docker_engine_repository and its keys do not fit: fingerprints has '63BF863C'; a"
            " fingerprint is 40 hexadecimal digits (64 for a key of version 6), a short key id is"
            " not enough: take it from gpg --show-keys.",
        ),
    ],
)
def test_what_cannot_be_is_refused(
    host: dict[str, Any], settings: dict[str, Any], sentence: str
) -> None:
    result = plan(host, **settings)
    assert result["problems"] == [sentence]
    assert not result["converged"]


def test_engine_of_debian_12_cannot_give_gpus() -> None:
    result = plan(BARE, BOOKWORM, source="distro", wants_gpus=True)
    assert result["problems"] == [
        "would run on Docker 20.10, which Debian 12 itself has, which cannot give GPUs by CDI; set"
        " docker_engine_source: docker."
    ]
    assert plan(BARE, BOOKWORM, source="distro")["problems"] == []


# -- daemon.json -----------------------------------------------------------------------------------


def preinstalled(file: Any, **settings: Any) -> dict[str, Any]:
    options = {
        key: settings.pop(key)
        for key in ("version", "cdi", "files", "service", "paths")
        if key in settings
    }
    host = state(daemon=file, **{"version": "27.5.1", "cdi": False, **options})
    return plan(host, source="preinstalled", **settings)


def test_file_is_merged_and_foreign_keys_stay() -> None:
    file = {"data-root": "/srv/docker", "registry-mirrors": ["https://m"], **DEFAULTS}
    result = preinstalled(file, daemon_options={"insecure-registries": ["r:5000"]})
    assert daemon(result) == file | {"insecure-registries": ["r:5000"]}
    assert result["apply"] == ["systemctl reload docker.service"]


def test_options_are_laid_over_the_file_key_by_key() -> None:
    file = DEFAULTS | {"features": {"containerd-snapshotter": True}, "debug": True}
    options = {"features": {"buildkit": True}, "debug": None, "dns": None}
    result = daemon(preinstalled(file, daemon_options=options))
    assert result == DEFAULTS | {"features": {"containerd-snapshotter": True, "buildkit": True}}


def test_what_another_role_needs_is_merged_too_and_the_option_wins() -> None:
    extra = {"runtimes": {"nvidia": {"path": "nvidia-container-runtime", "args": []}}}
    result = preinstalled(DEFAULTS, extra_options=extra)
    assert daemon(result)["runtimes"] == extra["runtimes"]
    assert result["apply"] == ["systemctl reload docker.service"]
    asked = {"runtimes": {"nvidia": {"path": "/opt/runtime"}}}
    result = preinstalled(DEFAULTS, extra_options=extra, daemon_options=asked)
    assert daemon(result)["runtimes"]["nvidia"]["path"] == "/opt/runtime"


@pytest.mark.parametrize("text", [None, "", " \n", "{}"])
def test_virgin_file_gets_what_is_better_than_dockers_defaults(text: str | None) -> None:
    result = preinstalled(text)
    assert daemon(result) == DEFAULTS
    assert result["daemon"].endswith("}\n")


@pytest.mark.parametrize(
    ("file", "options", "expected"),
    [
        ({"live-restore": False}, {}, {"live-restore": False}),
        ({}, {"live-restore": False}, {"live-restore": False}),
        ({"log-driver": "journald"}, {}, {"log-driver": "journald"}),
        ({"log-opts": {"max-size": "1g"}}, {}, {"log-opts": {"max-size": "1g"}}),
        ({}, {"log-driver": "local"}, {"log-driver": "local"}),
    ],
)
def test_default_yields_to_file_and_options(
    file: dict[str, Any], options: dict[str, Any], expected: dict[str, Any]
) -> None:
    result = daemon(preinstalled(file, daemon_options=options))
    assert {key: result.get(key) for key in expected} == expected
    logs = {"log-driver", "log-opts"}
    assert logs & set(result) == (logs & set(expected) or logs)


def test_log_options_of_another_driver_are_dropped() -> None:
    """dockerd does not start with options that its log driver does not know."""
    result = preinstalled(DEFAULTS, daemon_options={"log-driver": "journald"})
    assert daemon(result) == {"live-restore": True, "log-driver": "journald"}


def test_live_restore_is_not_set_in_a_swarm() -> None:
    result = preinstalled({}, paths=("/var/lib/docker/swarm/docker-state.json",))
    assert "live-restore" not in daemon(result)
    assert "is a node of a swarm" in result["notes"][0]


@pytest.mark.parametrize(
    ("version", "cdi", "file", "features"),
    [
        ("26.1.5", False, {}, {"cdi": True}),
        ("28.1.1", False, {"features": {"buildkit": True}}, {"buildkit": True, "cdi": True}),
        ("28.2.0", True, {}, None),
        ("29.9.0", True, {}, None),
        ("29.9.0", False, {"features": {"cdi": False}}, {"cdi": True}),
        (None, None, {}, {"cdi": True}),
    ],
)
def test_cdi_is_switched_on_where_docker_does_not_have_it_by_itself(
    version: str | None, cdi: bool | None, file: dict[str, Any], features: dict[str, bool] | None
) -> None:
    result = preinstalled(DEFAULTS | file, version=version, cdi=cdi, wants_gpus=True)
    assert daemon(result).get("features") == features


def test_host_without_gpus_needs_no_cdi() -> None:
    assert "features" not in daemon(preinstalled(DEFAULTS))


def test_options_cannot_switch_cdi_off_where_gpus_are_wanted() -> None:
    result = preinstalled(
        DEFAULTS, daemon_options={"features": {"cdi": False}}, wants_gpus=True, version="29.9.0"
    )
    assert result["problems"] == [
        "docker_engine_daemon_options has features.cdi: false, without which no GPU is given to a"
        " container; take it out."
    ]


@pytest.mark.parametrize(
    ("file", "options", "commands"),
    [
        (DEFAULTS, {"debug": True}, ["systemctl reload docker.service"]),
        (DEFAULTS, {"dns": ["192.0.2.1"]}, ["systemctl restart docker.service"]),
        (DEFAULTS, {"dns": None}, []),
        # Containers live through a restart only if dockerd knows of it before.
        ({}, {}, ["systemctl reload docker.service", "systemctl restart docker.service"]),
    ],
)
def test_docker_is_restarted_only_for_keys_that_need_it(
    file: dict[str, Any], options: dict[str, Any], commands: list[str]
) -> None:
    assert preinstalled(file, daemon_options=options)["apply"] == commands


def test_engine_that_is_stopped_or_not_there_yet_is_told_nothing() -> None:
    stopped = RUNNING | {"active": "inactive"}
    assert preinstalled({}, service=stopped, version=None, cdi=None)["apply"] == []
    assert plan(BARE)["apply"] == []


OLD = {"packages": ce("28.5.2"), "version": "28.5.2"}
BEFORE = {
    "apply": ["systemctl reload docker.service"],
    "validate": "dockerd --validate --config-file=%s/etc/docker/daemon.json",
}


def test_live_restore_is_in_force_before_packages_stop_docker() -> None:
    """Alone: what else is to change needs a restart, or the new engine."""
    result = plan(converged(**OLD, daemon={"bip": "192.0.2.1/24"}))
    before = result["before"]
    assert json.loads(before.pop("daemon")) == {"bip": "192.0.2.1/24", "live-restore": True}
    assert before == BEFORE
    assert daemon(result) == DEFAULTS | {"bip": "192.0.2.1/24"}


def test_live_restore_goes_before_a_replacement_too() -> None:
    host = state(distro(), daemon=None, version="26.1.5+dfsg1")
    assert json.loads(plan(host, replace=True)["before"]["daemon"]) == {"live-restore": True}


def test_reload_that_a_killed_run_owes_goes_before_packages() -> None:
    files = {**ours(), _engine.PENDING: "systemctl reload docker.service\n"}
    before = plan(converged(**OLD, files=files))["before"]
    assert json.loads(before["daemon"]) == DEFAULTS


@pytest.mark.parametrize(
    ("change", "settings"),
    [
        ({}, {}),  # it has it
        ({"daemon": {"live-restore": False}}, {}),  # the host's own word
        ({"daemon": {}}, {"daemon_options": {"live-restore": False}}),
        ({"daemon": {}, "paths": ("/var/lib/docker/swarm/docker-state.json",)}, {}),
        ({"daemon": {}, "service": RUNNING | {"active": "inactive"}}, {}),
        ({"daemon": {}, "packages": ce(), "version": "29.9.0"}, {}),  # no package changes
        ({"daemon": "{"}, {}),
    ],
)
def test_nothing_is_told_to_docker_before_packages_otherwise(
    change: dict[str, Any], settings: dict[str, Any]
) -> None:
    assert plan(converged(**OLD | change), **settings)["before"] is None


def test_restart_under_a_serving_instance_is_refused() -> None:
    result = preinstalled(DEFAULTS, daemon_options={"dns": ["192.0.2.1"]}, serving=SERVING)
    assert result["problems"] == [f"daemon.json needs a Docker restart for dns, {STOP}"]


def test_all_that_serve_are_named() -> None:
    units = ["vllm@a.service", "vllm@b.service"]
    (problem,) = preinstalled(DEFAULTS, daemon_options={"bip": "x"}, serving=units)["problems"]
    assert "vllm@a.service and vllm@b.service are serving" in problem
    assert "(systemctl stop vllm@a.service vllm@b.service)" in problem


def test_reload_under_a_serving_instance_is_done() -> None:
    result = preinstalled(DEFAULTS, daemon_options={"debug": True}, serving=SERVING)
    assert (result["problems"], result["configure"]) == ([], True)


def test_default_that_needs_a_restart_waits_until_nothing_serves() -> None:
    """A host of an earlier release must not be refused for a default that is new."""
    result = preinstalled({"live-restore": True}, serving=SERVING)
    assert (result["problems"], result["converged"]) == ([], True)
    assert result["notes"] == [
        "daemon.json gets log-driver and log-opts when Docker may be restarted; run again while"
        " nothing serves."
    ]
    result = preinstalled({}, serving=SERVING)
    assert daemon(result) == {"live-restore": True}
    assert result["apply"] == ["systemctl reload docker.service"]


@pytest.mark.parametrize("text", ["{", "[]", "3"])
def test_file_that_is_no_json_is_left_alone(text: str) -> None:
    """The check of the host says what is wrong with it."""
    assert not preinstalled(text)["configure"]


def test_dockerd_judges_the_file_where_it_can() -> None:
    command = "dockerd --validate --config-file=%s/etc/docker/daemon.json"
    assert preinstalled({})["validate"] == command
    assert preinstalled({}, version="20.10.24")["validate"] is None
    assert plan(BARE)["validate"] is None


# -- a run that was cut off ------------------------------------------------------------------------

RESTART = {_engine.PENDING: "systemctl reload docker.service\nsystemctl restart docker.service\n"}


def test_restart_that_a_killed_run_owes_is_made_up_for() -> None:
    result = preinstalled(DEFAULTS, files=RESTART)
    assert (result["converged"], result["configure"]) == (False, True)
    assert result["apply"] == RESTART[_engine.PENDING].splitlines()


def test_reload_that_a_killed_run_owes_is_made_up_for() -> None:
    result = preinstalled(DEFAULTS, files={_engine.PENDING: "systemctl reload docker.service\n"})
    assert result["apply"] == ["systemctl reload docker.service"]


def test_restart_that_is_owed_waits_for_what_serves() -> None:
    (problem,) = preinstalled(DEFAULTS, files=RESTART, serving=SERVING)["problems"]
    assert "needs a Docker restart for what a run that was cut off has written, and" in problem


def test_nothing_but_known_commands_is_run_from_the_note() -> None:
    result = preinstalled(DEFAULTS, files={_engine.PENDING: "rm -rf /\n"})
    assert result["apply"] == []
    assert result["configure"]  # so that the note is removed


def test_cdi_that_is_written_and_not_in_force_needs_the_restart() -> None:
    file = DEFAULTS | {"features": {"cdi": True}}
    result = preinstalled(file, wants_gpus=True, cdi=False)
    assert result["apply"] == ["systemctl restart docker.service"]
    assert not result["converged"]


# -- small things ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("5:29.9.0-1~debian.13~trixie", (29, 9, 0)),
        ("26.1.5+dfsg1-9", (26, 1, 5)),
        ("28.2", (28, 2)),
        (None, ()),
        ("", ()),
        ("dev", ()),
    ],
)
def test_numbers_of_a_version(version: str | None, expected: tuple[int, ...]) -> None:
    assert _engine.numbers(version) == expected


def test_every_package_and_file_that_is_looked_at_is_asked_for() -> None:
    asked = {*_engine.READS, *_engine.PATHS}
    assert set(ours()) <= asked
    assert set(ce()) | set(distro()) <= set(_engine.PACKAGES)


# -- what the role waits for -----------------------------------------------------------------------

ROLES = Path(__file__).resolve().parents[4] / "roles"


@pytest.mark.parametrize("role", ["docker_engine", "container_toolkit"])
@pytest.mark.parametrize(
    ("said", "waits"),
    [
        ("dpkg: error: dpkg frontend lock was locked by another process with pid 812", True),
        ("dpkg: error: dpkg database lock was locked by another process with pid 812", True),
        ("E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 8", True),
        ("E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend)", True),
        ("dpkg: dependency problems prevent configuration of clocks:", False),
        ("update-initramfs: failed for /dev/block/8:1, block device is read-only", False),
        ("", False),
    ],
)
def test_role_waits_for_dpkgs_lock_and_for_no_other_word(role: str, said: str, waits: bool) -> None:
    variables = yaml.safe_load((ROLES / role / "vars/main.yml").read_text())
    assert bool(re.search(variables[f"_{role}_lock"], said)) == waits
