# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Hosts of one lab: systemd containers that behave like freshly installed machines."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lab import hardware, images, network, registry, settings
from lab.error import LabError

_BOOT_SECONDS = 60

# What systemd and a Docker Engine of its own need, short of `privileged`: some sandboxes lack
# CAP_SYS_RESOURCE, and `privileged` fails there.
_OPTIONS: dict[str, Any] = {
    "cap_add": ["ALL"],
    "cap_drop": ["SYS_RESOURCE"],
    "security_opt": ["seccomp=unconfined", "apparmor=unconfined"],
    "cgroupns": "host",
    "tmpfs": {"/run": "", "/run/lock": "", "/tmp": "exec"},
}
# A machine reboots; and Docker inside may give containers NVIDIA's devices, whose major is 195.
_MACHINE_OPTIONS: dict[str, Any] = {
    "restart_policy": {"Name": "unless-stopped"},
    "device_cgroup_rules": ["c 195:* rwm"],
}
# The command line's `--security-opt systempaths=unconfined`, which the SDK has no word for.
_SYSTEM_PATHS: dict[str, list[str]] = {"MaskedPaths": [], "ReadonlyPaths": []}


def container_name(lab: str, host: str) -> str:
    """The container that stands for a host, also its name in the lab's network."""
    return f"vllm-{lab}-{host}"


def choose(names: str) -> list[str]:
    """Hosts of a comma-separated list, for an empty one those of the demo."""
    chosen = [name for name in names.split(",") if name] or list(settings.DEMO)
    unknown = sorted(set(chosen) - set(settings.HOSTS))
    if unknown:
        raise LabError(
            f"Unknown host {', '.join(unknown)}: the lab has {', '.join(settings.HOSTS)}."
        )
    return chosen


def volumes(lab: str, host: str) -> dict[str, dict[str, str]]:
    """What is mounted into a host, keyed by volume, or by path for the engine's cgroups."""
    mounts = {"/sys/fs/cgroup": {"bind": "/sys/fs/cgroup", "mode": "rw"}}
    if settings.HOSTS[host].gpu:
        docker_volume = f"{container_name(lab, host)}-docker"
        mounts[docker_volume] = {"bind": "/var/lib/docker", "mode": "rw"}
        mounts[settings.MODELS_VOLUME] = {"bind": settings.MODELS_DIRECTORY, "mode": "ro"}
    return mounts


def up(client: Any, lab: str, hosts: Sequence[str], say: Callable[[str], None]) -> None:
    """Make these hosts run and wait until systemd has finished booting."""
    images.build_bases(client, {settings.HOSTS[x].suite for x in hosts} & {*settings.MACHINES}, say)
    absent = [image for image in images.missing() if "registry" not in image]
    wanted = {images.base(settings.HOSTS[host].suite) for host in hosts}
    if wanted & set(absent):
        raise LabError("The lab's images are missing: run the lab's `build` first.")
    network.ensure(client)
    registry.ensure_volume(client, settings.MODELS_VOLUME)
    with ThreadPoolExecutor(len(hosts)) as pool:
        for line in pool.map(lambda host: _up_one(client, lab, host), hosts):
            say(line)


def _up_one(client: Any, lab: str, host: str) -> str:
    started = time.monotonic()
    container = _find(client, lab, host)
    if container is None:
        container, did = _create(client, lab, host), "created"
    else:
        did = "running" if container.status == "running" else "started"
    if container.status != "running":
        container.start()
    state = _booted(container)
    if container.attrs["Config"]["Image"] != images.base(settings.HOSTS[host].suite):
        state += ", from an older image: `down` and `up` renew it"
    return f"{container.name}: {did}, {state}, {time.monotonic() - started:.1f} s"


def _find(client: Any, lab: str, host: str) -> Any:
    import docker.errors  # type: ignore[import-untyped,unused-ignore]

    try:
        return client.containers.get(container_name(lab, host))
    except docker.errors.NotFound:
        return None


def _create(client: Any, lab: str, host: str) -> Any:
    mounts = volumes(lab, host)
    for volume in mounts:
        if volume.startswith(container_name(lab, host)):
            registry.ensure_volume(client, volume, lab)
    api = client.api
    gpus = settings.HOSTS[host].gpus
    options = {**_OPTIONS, **(_MACHINE_OPTIONS if gpus else {})}
    created = api.create_container(
        images.base(settings.HOSTS[host].suite),
        name=container_name(lab, host),
        hostname=host,
        labels={settings.LABEL: lab},
        stop_signal="SIGRTMIN+3",
        host_config={
            **api.create_host_config(binds=mounts, network_mode=settings.NETWORK, **options),
            **_SYSTEM_PATHS,
        },
    )
    container = client.containers.get(created["Id"])
    if gpus:
        container.put_archive("/", hardware.archive(gpus))
    return container


def _booted(container: Any) -> str:
    deadline = time.monotonic() + _BOOT_SECONDS
    state: str = ""
    while time.monotonic() < deadline:
        # `--wait` needs the bus, which comes up in the middle of the boot.
        done = container.exec_run(["systemctl", "is-system-running", "--wait"])
        state = done.output.decode(errors="replace").strip()
        if state == "running":
            return state
        if state == "degraded":
            failed = container.exec_run(["systemctl", "--failed", "--plain", "--no-legend"])
            units = [
                line.split()[0] for line in failed.output.decode().splitlines() if line.strip()
            ]
            return f"degraded ({', '.join(units)})"
        time.sleep(0.1)
    raise LabError(
        f"{container.name} has not booted after {_BOOT_SECONDS} s (systemd says {state!r}): "
        f"see `docker exec {container.name} journalctl -b`."
    )


def down(client: Any, lab: str, say: Callable[[str], None]) -> None:
    """Remove a lab's hosts and their volumes; what labs share stays."""
    mine = {"label": f"{settings.LABEL}={lab}"}
    containers = client.containers.list(all=True, filters=mine)
    if containers:
        with ThreadPoolExecutor(len(containers)) as pool:
            list(pool.map(lambda container: container.remove(force=True, v=True), containers))
    kept = client.volumes.list(filters=mine)
    for volume in kept:
        volume.remove(force=True)
    say(f"removed {len(containers)} hosts and {len(kept)} volumes of {lab}")


def address(client: Any, lab: str, host: str) -> str:
    """The host's address in the lab's network."""
    container = _find(client, lab, choose(host)[0])
    networks = container.attrs["NetworkSettings"]["Networks"] if container else {}
    found = networks.get(settings.NETWORK, {}).get("IPAddress", "")
    if not found:
        raise LabError(f"{container_name(lab, host)} does not run: `up {lab}` starts it.")
    return str(found)
