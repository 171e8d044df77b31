# Copyright (c) 2026 baremetal.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Read the state of a host: packages, units, paths, Docker, hardware, ports. Changes nothing.

Every function stands alone and works on a host that lacks what it asks about. `root` is the
directory below which /proc, /sys, /etc and /run are looked for.
"""

from __future__ import annotations

import calendar
import contextlib
import fnmatch
import glob
import hashlib
import ipaddress
import json
import os
import re
import socket
import stat
import subprocess
import sys
import typing as t

from ansible_collections.baremetal.vllm.plugins.module_utils._accounts import (
    group_name,
    user_name,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._docker_api import (
    DockerAPI,
    DockerAPIError,
    DockerUnavailable,
    quote_segment,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._image_reference import (
    PullError,
    Reference,
    carries_local_name,
    image_names,
    known_digest,
    local_name,
)

_SIZE_LIMIT = 1024 * 1024  # bytes; what is larger is neither hashed nor read
_NVIDIA_VENDOR = "0x10de"
_DISPLAY_CLASSES = ("0300", "0302")  # VGA controller, 3D controller
_TCP_LISTEN = "0A"  # TCP_LISTEN of the kernel's include/net/tcp_states.h
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_TIMESTAMP = re.compile(r"\w{3} (\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d) UTC")

JSONObject = t.Dict[str, t.Any]  # noqa: UP006 - evaluated at run time on Python 3.9


class HostStateError(Exception):
    """A sentence for the operator about something that is there but cannot be read."""


def below(root: str, path: str) -> str:
    """Return `path` with `root` for the root directory."""
    return os.path.join(root, path.lstrip("/"))


def output_of(command: t.Sequence[str]) -> str | None:
    """Return what a command prints, None where the program does not exist."""
    environment = {**os.environ, "LC_ALL": "C", "TZ": "UTC", "SYSTEMD_COLORS": "0"}
    try:
        # AnsibleModule.run_command forks with a preexec_fn, which is not safe beside threads.
        finished = subprocess.run(  # pylint: disable=ansible-bad-function
            command, stdin=subprocess.DEVNULL, capture_output=True, env=environment, check=False
        )
    except OSError:
        return None
    return finished.stdout.decode("utf-8", "replace")


# -- packages and units --------------------------------------------------------------------------


class Package(t.NamedTuple):
    """A package that dpkg knows of, in dpkg-query's words."""

    name: str
    status: str  # of the package: installed, config-files, half-configured, unpacked, ...
    version: str
    want: str  # of the operator: install, hold, deinstall, purge
    error: str  # ok or reinstreq


# What dpkg was interrupted in; the others are whole, or gone but for their configuration.
_UNFINISHED = ("unpacked", "half-configured", "half-installed")


def known_packages() -> list[Package]:
    """Return all packages of the host, none where there is no dpkg.

    dpkg-query reads its whole database whatever it is asked for, so one call answers all.
    """
    fields = ("Package", "db:Status-Status", "Version", "db:Status-Want", "db:Status-Eflag")
    form = "\\t".join(f"${{{field}}}" for field in fields) + "\\n"
    output = output_of(["dpkg-query", "--show", f"--showformat={form}"]) or ""
    known = []
    for line in output.splitlines():
        name, status, version, want, error = line.split("\t")
        known.append(Package(name, status, version, want, error))
    return known


def packages(names: t.Sequence[str], known: t.Sequence[Package]) -> dict[str, str | None]:
    """Return the installed version of each Debian package, None where it is not installed.

    :param names: names, and shell globs. A glob adds every installed package that it matches, and
        is no key itself.
    """
    globs = [name for name in names if set(name) & set("*?[")]
    found: dict[str, str | None] = {name: None for name in names if name not in globs}
    for package in known:
        if package.status == "installed" and (
            package.name in found or any(fnmatch.fnmatchcase(package.name, glob) for glob in globs)
        ):
            found[package.name] = package.version
    return found


def held(known: t.Sequence[Package]) -> list[str]:
    """Return the packages that apt is told to leave as they are."""
    return sorted({package.name for package in known if package.want == "hold"})


def unfinished(known: t.Sequence[Package]) -> list[str]:
    """Return the packages in whose installation dpkg was interrupted, or failed."""
    return sorted(
        {
            package.name
            for package in known
            if package.status in _UNFINISHED or package.error == "reinstreq"
        }
    )


def systemd_version(root: str = "/") -> int | None:
    """Return the version of systemd, None where the host was not booted with it."""
    if not os.path.isdir(below(root, "/run/systemd/system")):
        return None
    match = re.match(r"systemd (\d+)", output_of(["systemctl", "--version"]) or "")
    return int(match.group(1)) if match else None


def services(names: t.Sequence[str], root: str = "/") -> dict[str, JSONObject]:
    """Return the state of each systemd unit. All are `not-found` without a running systemd."""
    units: dict[str, dict[str, str]] = {}
    if names and os.path.isdir(below(root, "/run/systemd/system")):
        wanted = "Names,LoadState,ActiveState,SubState,UnitFileState,MainPID,NRestarts"
        properties = f"--property={wanted},ActiveEnterTimestamp,NeedDaemonReload"
        output = output_of(["systemctl", "show", properties, "--", *names]) or ""
        for block in output.split("\n\n"):
            unit = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            for name in unit.get("Names", "").split():
                units[name] = unit
    return {name: _service(units.get(_unit_name(name), {})) for name in names}


def _unit_name(name: str) -> str:
    """Complete a name the way systemctl does."""
    suffixes = (".service", ".socket", ".target", ".timer", ".mount", ".path", ".slice", ".scope")
    return name if name.endswith(suffixes) else f"{name}.service"


def _service(unit: t.Mapping[str, str]) -> JSONObject:
    return {
        "load": unit.get("LoadState", "not-found"),
        "active": unit.get("ActiveState", "inactive"),
        "sub": unit.get("SubState", "dead"),
        "enabled": unit.get("UnitFileState", ""),
        "main_pid": int(unit.get("MainPID") or 0),
        "active_enter": epoch(unit.get("ActiveEnterTimestamp", "")),
        "n_restarts": int(unit.get("NRestarts") or 0),
        "need_daemon_reload": unit.get("NeedDaemonReload") == "yes",
    }


def epoch(timestamp: str) -> int | None:
    """Turn a timestamp of systemctl in UTC into seconds since the epoch, None where it is unset.

    `systemctl --timestamp=unix` would spare this, but Ubuntu 22.04 (systemd 249) lacks it.
    """
    match = _TIMESTAMP.fullmatch(timestamp)
    return calendar.timegm(tuple(map(int, match.groups()))) if match else None


# -- paths ---------------------------------------------------------------------------------------


def path_state(path: str) -> JSONObject:
    """Return what is at `path`, without following a link at its end."""
    keys = ("type", "target", "mode", "owner", "group", "size", "sha256")
    state: JSONObject = {"exists": False, **dict.fromkeys(keys)}
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return state
    state.update(
        exists=True,
        type="other",
        mode=f"{stat.S_IMODE(status.st_mode):04o}",
        owner=user_name(status.st_uid),
        group=group_name(status.st_gid),
        size=status.st_size,
    )
    if stat.S_ISLNK(status.st_mode):
        state.update(type="link", target=os.readlink(path))
    elif stat.S_ISDIR(status.st_mode):
        state["type"] = "directory"
    elif stat.S_ISREG(status.st_mode):
        state["type"] = "file"
        if status.st_size < _SIZE_LIMIT:
            with open(path, "rb") as file:
                state["sha256"] = hashlib.sha256(file.read()).hexdigest()
    return state


def read_text(path: str) -> str | None:
    """Return the text of a small file, None where there is none.

    Raises HostStateError for a file that exists and is too large, not UTF-8 or not readable:
    None must mean "no such file", as callers write a new one then.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(_SIZE_LIMIT + 1)
        if len(content) > _SIZE_LIMIT:
            raise HostStateError(f"read: {path} is larger than 1 MiB, only small files are read.")
        return content.decode("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise HostStateError(f"read: {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise HostStateError(f"read: {path} is not UTF-8 text: {error.reason}.") from error


def disk(path: str) -> JSONObject:
    """Return the room on the filesystem of `path`, or of its nearest parent that exists."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    filesystem = os.statvfs(path)
    device = os.stat(path).st_dev
    return {
        "path": path,
        "total_bytes": filesystem.f_blocks * filesystem.f_frsize,
        "free_bytes": filesystem.f_bavail * filesystem.f_frsize,
        "device": f"{os.major(device)}:{os.minor(device)}",
    }


# -- hardware ------------------------------------------------------------------------------------


def instances(directory: str) -> list[JSONObject]:
    """Return the vLLM instances below a state directory: each with its releases and images.

    A release whose description cannot be read is left out: a run that was killed while it staged
    leaves such a one, and the next run completes it.
    """
    found = []
    for name in sorted(_names_in(directory)):
        root = os.path.join(directory, name)
        described = [
            description
            for release in sorted(_names_in(os.path.join(root, "releases")))
            if (description := _description(os.path.join(root, "releases", release)))
        ]
        if not described:
            continue
        link = os.path.join(root, "current")
        current = os.path.basename(os.readlink(link)) if os.path.islink(link) else None
        in_force = next((each for each in described if each["id"] == current), {})
        found.append(
            {
                "name": name,
                "directory": root,
                "current": current,
                # What a killed run has staged is not in force, but has a name to be removed by.
                "replica_of": (in_force or described[-1]).get("replica_of"),
                "proved_at": _modified(os.path.join(root, "proved")),
                "publish": in_force.get("publish"),
                "releases": [description["id"] for description in described],
                "weights": sorted({path for each in described for path in each.get("weights", [])}),
                "images": sorted({name for each in described for name in _image_names(each)}),
            }
        )
    return found


def _image_names(description: JSONObject) -> set[str]:
    """Return the names that a release's image may have on the host."""
    named = [str(description[key]) for key in ("image", "reference") if description.get(key)]
    return set(named) | image_names(named)


def published_ports(found: t.Sequence[JSONObject]) -> list[int]:
    """Return the ports of instances, as `instances` has them, that have a release in force."""
    ports = [(each["publish"] or "").rpartition(":")[2] for each in found]
    return [int(port) for port in ports if port.isdigit()]


def _modified(path: str) -> float | None:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return None


def _names_in(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _description(release: str) -> JSONObject | None:
    try:
        with open(os.path.join(release, "release.json"), encoding="utf-8") as file:
            description: JSONObject = json.load(file)
    except (OSError, ValueError):
        return None
    return description if {"id", "image"} <= set(description) else None


def model_config(directory: str) -> JSONObject:
    """Return `config.json` of a model and the bytes of its weights, without what lies below.

    Directories below hold other formats of the same weights (gpt-oss has `original` and `metal`).
    A configuration that is missing, too large or no JSON object is None: who needs it says so.
    """
    config = None
    with contextlib.suppress(OSError, ValueError):
        with open(os.path.join(directory, "config.json"), "rb") as file:
            content = file.read(_SIZE_LIMIT + 1)
        if len(content) <= _SIZE_LIMIT:
            config = json.loads(content)
    sizes: dict[str, int] = {".safetensors": 0, ".bin": 0}
    for name in _names_in(directory):
        suffix = os.path.splitext(name)[1]
        if suffix in sizes:
            with contextlib.suppress(OSError):
                sizes[suffix] += os.path.getsize(os.path.join(directory, name))
    return {
        "config": config if isinstance(config, dict) else None,
        "checkpoint_bytes": sizes[".safetensors"] or sizes[".bin"],
    }


def numa_cpus(root: str = "/") -> dict[str, str]:
    """Return the processors of every NUMA node (`0-31,64-95`), nothing where there are no nodes."""
    found = {}
    for node in glob.glob(below(root, "/sys/devices/system/node/node[0-9]*")):
        cpus = text_of(f"{node}/cpulist").strip()
        if cpus:
            found[os.path.basename(node)[len("node") :]] = cpus
    return found


def service_manager(root: str = "/") -> str:
    """Return ``systemd`` where it runs the host, and the name of process 1 elsewhere."""
    if os.path.isdir(below(root, "/run/systemd/system")):
        return "systemd"
    return (read_text(below(root, "/proc/1/comm")) or "unknown").strip()


def default_address() -> str | None:
    """Return the IPv4 address that the default route speaks from; None without such a route.

    To connect a datagram socket looks up the route and sends nothing. It is the route to the same
    address that M(ansible.builtin.setup) looks up.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.connect(("8.8.8.8", 9))
            address: str = sender.getsockname()[0]
    except OSError:
        return None
    # A route over a device without an address.
    return None if ipaddress.IPv4Address(address).is_unspecified else address


def memory(root: str = "/") -> JSONObject:
    """Return total and available memory in bytes."""
    values = {}
    for line in text_of(below(root, "/proc/meminfo")).splitlines():
        name, _colon, value = line.partition(":")
        values[name] = value.split()
    return {
        key: int(values[name][0]) * 1024 if values.get(name) else None
        for key, name in (("total_bytes", "MemTotal"), ("available_bytes", "MemAvailable"))
    }


def nvidia_devices(root: str = "/") -> list[JSONObject]:
    """Return all devices of NVIDIA on the PCI bus, in hexadecimal, with or without a driver."""
    devices = []
    for path in sorted(glob.glob(below(root, "/sys/bus/pci/devices/*"))):
        if text_of(f"{path}/vendor").strip() == _NVIDIA_VENDOR:
            devices.append(
                {
                    "address": os.path.basename(path),
                    "device": text_of(f"{path}/device").strip().replace("0x", ""),
                    "class": text_of(f"{path}/class").strip().replace("0x", ""),
                }
            )
    return devices


def display_controllers(devices: t.Sequence[JSONObject]) -> int:
    """Count the GPUs among the devices of NVIDIA; sound and NVSwitches are others."""
    return sum(device["class"].startswith(_DISPLAY_CLASSES) for device in devices)


def text_of(path: str) -> str:
    """Return the text of a file of the kernel, empty where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


# -- CDI -----------------------------------------------------------------------------------------


def cdi_devices(root: str = "/") -> list[str]:
    """Return the qualified names, such as nvidia.com/gpu=0, of all CDI specifications."""
    names: set[str] = set()
    for directory in ("/etc/cdi", "/var/run/cdi"):
        for suffix in ("yaml", "json"):
            for path in glob.glob(below(root, f"{directory}/*.{suffix}")):
                names.update(cdi_names(text_of(path)))
    return sorted(names)


def cdi_names(text: str) -> list[str]:
    """Return the qualified device names of one CDI specification.

    Reads JSON, and YAML in the block style that nvidia-ctk writes: `kind` and `devices` at the
    left edge, one list item per device with a `name` of its own on one line. Flow style, anchors
    and multi-line scalars are not understood, and yield nothing.
    """
    try:
        specification = json.loads(text)
        kind = specification["kind"]
        return [f"{kind}={device['name']}" for device in specification["devices"]]
    except (ValueError, TypeError, KeyError):
        kind, devices = _cdi_from_yaml(text)
        return [f"{kind}={device}" for device in devices] if kind else []


def _cdi_from_yaml(text: str) -> tuple[str, list[str]]:
    kind = ""
    devices = []
    within = False  # between `devices:` and the next key at the left edge
    item_column = -1  # of the dash of the list items
    key_column = -1  # of the keys of the present item
    for line in text.splitlines():
        content = line.strip()
        if not content or content.startswith(("#", "---", "...")):
            continue
        column = len(line) - len(line.lstrip())
        if column == 0 and not content.startswith("-"):
            key, _colon, value = content.partition(":")
            within = key == "devices"
            item_column = -1
            if key == "kind":
                kind = _scalar(value)
            continue
        if not within:
            continue
        if content.startswith("- ") and item_column in (-1, column):
            item_column = column
            column = key_column = column + len(content) - len(content[1:].lstrip())
            content = content[1:].lstrip()
        if column == key_column and content.startswith("name:"):
            devices.append(_scalar(content[len("name:") :]))
    return kind, devices


def _scalar(text: str) -> str:
    """Return the value of a YAML scalar on one line, without quotes and comment."""
    text = text.strip()
    if text[:1] in ("'", '"'):
        return text[1:].split(text[0], 1)[0]
    return text.split(" #", 1)[0].strip()


# -- ports ---------------------------------------------------------------------------------------


def listening(ports: t.Sequence[int] = (), root: str = "/") -> list[JSONObject]:
    """Return the listening TCP sockets, those on `ports` with their process where it is seen."""
    found: list[tuple[str, int, str]] = []  # address, port, inode
    for name in ("tcp", "tcp6"):
        for line in text_of(below(root, f"/proc/net/{name}")).splitlines()[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == _TCP_LISTEN:
                address, hexadecimal = fields[1].split(":")
                found.append((_address(address), int(hexadecimal, 16), fields[9]))
    owners = _owners({inode for _address_, port, inode in found if port in ports}, root)
    listeners = []
    for address, port, inode in found:
        pid, process = owners.get(inode, (None, None))
        listeners.append(
            {"address": address, "port": port, "protocol": "tcp", "pid": pid, "process": process}
        )
    return sorted(listeners, key=lambda listener: (listener["port"], listener["address"]))


def _address(hexadecimal: str) -> str:
    """Turn an address of /proc/net/tcp, words in the byte order of the machine, into text."""
    words = [hexadecimal[i : i + 8] for i in range(0, len(hexadecimal), 8)]
    packed = b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
    return socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, packed)


def _owners(inodes: set[str], root: str) -> dict[str, tuple[int, str]]:
    """Return the first process that holds each socket; looks at no process when none is asked."""
    owners: dict[str, tuple[int, str]] = {}
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    processes = below(root, "/proc")
    pids = sorted(int(name) for name in os.listdir(processes) if name.isdigit()) if inodes else []
    for pid in pids:
        with contextlib.suppress(OSError):  # the process has gone, or is not ours
            for entry in os.scandir(f"{processes}/{pid}/fd"):
                with contextlib.suppress(OSError):
                    inode = wanted.get(os.readlink(entry.path))
                    if inode is not None and inode not in owners:
                        owners[inode] = (pid, text_of(f"{processes}/{pid}/comm").strip())
        if len(owners) == len(inodes):
            break
    return owners


# -- Docker --------------------------------------------------------------------------------------


class Docker:
    """What Docker says, asked until it fails to answer for the first time."""

    def __init__(self, socket_path: str) -> None:
        self._api = DockerAPI(socket_path)
        self.socket = os.path.exists(socket_path)
        self.failure: str | None = None

    def _get(self, path: str) -> t.Any:
        """Return an answer, None where there is no such object or no Docker at all."""
        if not self.socket or self.failure:
            return None
        try:
            return self._api.get(path)
        except DockerUnavailable as error:
            self.failure = str(error)
            return None
        except DockerAPIError as error:
            if error.status == 404:
                return None
            raise HostStateError(f"Docker cannot tell about {path}: {error}.") from error

    def engine(self) -> JSONObject:
        """Return version and settings. CDI is off where the engine names no CDI directories."""
        version = self._get("/version") or {}
        information = self._get("/info") or {}
        return {
            "socket": self.socket,
            "version": version.get("Version"),
            "api_version": version.get("ApiVersion"),
            "storage_driver": information.get("Driver"),
            "root_dir": information.get("DockerRootDir"),
            "cdi": bool(information.get("CDISpecDirs")) if information else None,
        }

    def image(self, reference: str) -> JSONObject | None:
        """Return an image; one with a digest is also found under its local name."""
        repository, digest = _repository_and_digest(reference)
        image = self._get(f"/images/{quote_segment(reference)}/json")
        if image is None and digest:
            image = self._get(f"/images/{quote_segment(local_name(repository, digest))}/json")
        if image is None:
            return None
        digest = digest or known_digest(repository, image)
        named = carries_local_name(repository, digest, image)
        return {
            "id": image["Id"],
            "repo_digests": image.get("RepoDigests") or [],
            "digest": digest,
            "local": local_name(repository, digest) if named else "",
            "size": image["Size"],
        }

    def container(self, name: str) -> JSONObject | None:
        container = self._get(f"/containers/{quote_segment(name)}/json")
        if container is None:
            return None
        return {
            "id": container["Id"],
            "image": container["Image"],
            "labels": container["Config"].get("Labels") or {},
            "config_image": container["Config"]["Image"],
            "state": container["State"]["Status"],
            "started_at": container["State"]["StartedAt"],
            "restart_count": container["RestartCount"],
        }


def _repository_and_digest(reference: str) -> tuple[str, str]:
    """Return the parts of a reference, the reference itself and no digest where it is none."""
    try:
        parsed = Reference.parse(reference)
    except PullError:
        return reference, ""
    return parsed.repository, parsed.digest
