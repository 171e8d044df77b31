# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Docker Engine on a host: what is there, what shall be, and what must be done between them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.baremetal.vllm.plugins.module_utils._apt_source import (
    AptSourceError,
    Cleaner,
    repository,
    sources_text,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._debian_version import upstream

NAME = "baremetal-vllm-docker"
DAEMON_JSON = "/etc/docker/daemon.json"
PREFERENCES = f"/etc/apt/preferences.d/{NAME}"
PENDING = f"/run/{NAME}.pending"
"""What a run that was cut off had still to do to Docker, one command in each line."""

_SOURCES = f"/etc/apt/sources.list.d/{NAME}.sources"
_SNAP = "/snap/bin/docker"
_SWARM = "/var/lib/docker/swarm/docker-state.json"
_DOCKERD = "/usr/bin/dockerd"
# They say that dpkg has unpacked the package, configured or not.
_UNPACKED = ("/var/lib/dpkg/info/docker-ce.list", "/var/lib/dpkg/info/docker.io.list")
# Entries as Docker's manual has had them through the years.
_LEFTOVERS = ("/etc/apt/sources.list.d/docker.list", "/etc/apt/sources.list.d/docker.sources")

_OWN = ("docker-ce", "docker-ce-cli", "containerd.io")
_OWN_MORE = (
    "docker-ce-rootless-extras",
    "docker-buildx-plugin",
    "docker-compose-plugin",
    "docker-model-plugin",
)
_EXACT = ("docker-ce", "docker-ce-cli", "docker-ce-rootless-extras")
# docs.docker.com/engine/install/debian and /ubuntu, "Uninstall old versions"; Debian 13 has taken
# docker-cli and docker-buildx out of docker.io, and moby-engine is that of Azure.
_CONFLICTING = (
    "docker.io",
    "docker-cli",
    "docker-buildx",
    "docker-compose",
    "docker-compose-v2",
    "docker-doc",
    "podman-docker",
    "containerd",
    "runc",
    "moby-engine",
    "moby-cli",
    "moby-containerd",
    "moby-runc",
)

PACKAGES = (*_OWN, *_OWN_MORE, *_CONFLICTING, "ca-certificates")
SERVICES = ("docker.service",)
READS = (DAEMON_JSON, _SOURCES, PREFERENCES, PENDING, *_LEFTOVERS)
PATHS = (_SNAP, _SWARM, _DOCKERD, *_UNPACKED)

KEY = "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"
"""Key of Docker's repositories for Debian and Ubuntu."""

_SITE = "https://download.docker.com/linux"
_CDI_FROM = (25, 0)  # Docker's release notes 25.0: CDI, behind features.cdi
_CDI_BY_ITSELF_FROM = (28, 2)  # moby v28.2.0, daemon/command: on unless features.cdi is false
_VALIDATE_FROM = (23, 0)  # docker/cli, reference of dockerd: --validate
_STORE_FROM = 29  # containerd's image store is the default of new installations

# The distribution's own engine: its packages, and its version where that cannot give GPUs.
_DISTRIBUTIONS: dict[str, dict[str, Any]] = {
    "Debian-12": {
        "codename": "bookworm",
        "packages": ["docker.io", "iptables", "ca-certificates"],
        "version": "20.10",
    },
    "Debian-13": {
        "codename": "trixie",
        "packages": ["docker.io", "docker-cli", "iptables", "ca-certificates"],
    },
    "Ubuntu-22.04": {
        "codename": "jammy",
        "packages": ["docker.io", "iptables", "ca-certificates"],
    },
    "Ubuntu-24.04": {
        "codename": "noble",
        "packages": ["docker.io", "iptables", "ca-certificates"],
    },
}
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}

# Keys that dockerd takes over on SIGHUP in every release from 20.10 on; any other key needs a
# restart. `features` is read again too, but CDI is set up at the start of the daemon only.
# Source: moby v29.7.2, daemon/reload.go and reload_unix.go; docs.docker.com/reference/cli/dockerd.
RELOADABLE = frozenset(
    {
        "authorization-plugins",
        "debug",
        "default-runtime",
        "insecure-registries",
        "labels",
        "live-restore",
        "max-concurrent-downloads",
        "max-concurrent-uploads",
        "max-download-attempts",
        "registry-mirrors",
        "runtimes",
        "shutdown-timeout",
    }
)
# Without limits one container's log fills the disk.
_LOG_LIMITS = {"log-driver": "json-file", "log-opts": {"max-size": "10m", "max-file": "3"}}

_RELOAD = "systemctl reload docker.service"
_RESTART = "systemctl restart docker.service"

JSON = dict[str, Any]


def plan(facts: Mapping[str, Any], state: Mapping[str, Any], settings: Mapping[str, Any]) -> JSON:
    """What the role docker_engine has to do on one host.

    :param settings: the role's variables without prefix, `wants_gpus`, `serving`, `bundled`
        (packages come from a bundle: no source is wanted) and `extra_options`: keys that another
        role needs in daemon.json.
    :returns: `problems`, `notes`, `converged`, and for the tasks:

        - `installed`: whether there is an engine already
        - `source`: arguments for apt_source, or None where that is as it shall be
        - `preferences`: text of the file that pins the versions, empty for none; `pin` says whether
          the file differs
        - `prerequisites`, `packages`, `remove`, `hold`: packages, each empty where nothing is to do
        - `daemon`: text of daemon.json; `apply`: commands behind it; `validate`: the command that
          judges it, or None; `configure` says whether any of it is to do
        - `before`: `daemon`, `apply` and `validate` of what is to be in force before packages stop
          Docker, or None: live-restore, by which containers live through it
        - `start`: whether the service is to be started or enabled
        - `brief`: what would be done to packages, in words, for check mode
    """
    host = _Host(facts, state, settings)
    if host.distribution is None:  # the check of the platform says so
        return _nothing()
    problems, notes = list(host.check_settings()), []
    packages = _nothing() | (host.packages() if not problems else {})
    problems += packages["problems"]
    daemon = _Daemon(host)
    problems += daemon.problems
    notes += packages["notes"] + daemon.notes
    # A package that is removed may leave its unit masked or stopped.
    start = host.needs_start() or bool(packages["remove"])
    result = packages | daemon.result | {"start": start, "installed": host.is_there}
    if not (result["packages"] or result["remove"]):
        result["before"] = None
    work = ("source", "pin", "prerequisites", "packages", "remove", "hold", "configure", "start")
    return result | {
        "problems": problems,
        "notes": notes,
        "converged": not problems and not any(result[key] for key in work),
    }


def _nothing() -> JSON:
    return {
        "problems": [],
        "notes": [],
        "converged": True,
        "installed": True,
        "source": None,
        "preferences": "",
        "pin": False,
        "prerequisites": [],
        "packages": [],
        "remove": [],
        "hold": [],
        "daemon": "{}\n",
        "apply": [],
        "validate": None,
        "configure": False,
        "before": None,
        "start": False,
        "brief": "",
    }


def numbers(version: str | None) -> tuple[int, ...]:
    """The leading numbers of a version, to be compared; empty for none."""
    found = re.match(r"\d+(?:\.\d+)*", upstream(version or ""))
    return tuple(map(int, found[0].split("."))) if found else ()


def and_list(words: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else ""


class _Host:
    """What is known of a host, under the names that decisions use."""

    def __init__(
        self, facts: Mapping[str, Any], state: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> None:
        name = str(facts.get("distribution", ""))
        version = str(facts.get("distribution_version", ""))
        self.label = f"{name}-{version if name == 'Ubuntu' else version.partition('.')[0]}"
        self.distribution = _DISTRIBUTIONS.get(self.label)
        self.architecture = _ARCHITECTURES.get(str(facts.get("architecture", "")), "amd64")
        self.family = name.lower()
        self.settings = settings
        self.source: str = settings["source"]
        self.serving: Sequence[str] = settings.get("serving") or []
        self.wants_gpus = bool(settings.get("wants_gpus"))
        self.bundled = bool(settings.get("bundled"))
        self.live = state.get("docker") or {}
        self._installed: Mapping[str, str | None] = state.get("packages") or {}
        self._held = set(state.get("held") or [])
        self._read: Mapping[str, str | None] = state.get("read") or {}
        self._paths: Mapping[str, Any] = state.get("paths") or {}
        self._service = (state.get("services") or {}).get("docker.service") or {}

    # -- what is there -------------------------------------------------------------------------

    def has(self, package: str) -> bool:
        return bool(self._installed.get(package))

    def version_of(self, package: str) -> str:
        return upstream(self._installed.get(package) or "")

    def exists(self, path: str) -> bool:
        return bool((self._paths.get(path) or {}).get("exists"))

    def text(self, path: str) -> str:
        return self._read.get(path) or ""

    @property
    def is_there(self) -> bool:
        return bool(self._service.get("load") == "loaded")

    @property
    def is_running(self) -> bool:
        return bool(self._service.get("active") == "active")

    def needs_start(self) -> bool:
        return not self.is_running or self._service.get("enabled") != "enabled"

    @property
    def units(self) -> str:
        return and_list(self.serving)

    @property
    def version(self) -> tuple[int, ...]:
        """Version of the engine as it will be: what runs, or what shall be installed."""
        wanted = {
            "docker": self.settings["version"],
            "distro": self.live.get("version") or (self.distribution or {}).get("version"),
            "preinstalled": self.live.get("version")
            or self.version_of("docker-ce")
            or self.version_of("docker.io"),
        }[self.source]
        return numbers(wanted)

    def in_the_way(self) -> list[str]:
        """Packages of an engine from elsewhere than it shall be from.

        Beside Docker's own engine dpkg lets no other one be.
        """
        conflicting = () if self.has("docker-ce") else _CONFLICTING
        names = {"docker": conflicting, "distro": (*_OWN, *_OWN_MORE), "preinstalled": ()}
        return [name for name in names[self.source] if self.has(name)]

    # -- what shall be -------------------------------------------------------------------------

    def repository(self) -> JSON:
        """Arguments for apt_source."""
        site = f"{_SITE}/{self.family}"
        fingerprints = list(self.settings.get("key_fingerprints") or [KEY])
        return {
            "name": NAME,
            "uris": [self.settings.get("repository") or site],
            "suites": [(self.distribution or {})["codename"]],
            "components": ["stable"],
            "architectures": [self.architecture],
            "key_url": self.settings.get("key_url") or f"{site}/gpg",
            "fingerprints": fingerprints,
            "replaces": {
                "uris": ["download.docker.com/linux/"],
                "keys": sorted({KEY, *fingerprints}),
            },
            "state": "present",
        }

    def check_settings(self) -> list[str]:
        if self.source != "docker":
            return []
        try:
            repository(self.repository())
        except AptSourceError as error:
            return [f"docker_engine_repository and its keys do not fit: {error}"]
        return []

    def packages(self) -> JSON:
        """What to do about packages, with the problems and notes of that."""
        problems = self._foreign_engine() or self._replacement() or self._foreign_version()
        if self.source == "preinstalled":
            return {"problems": problems + self._too_old(), "notes": []}
        work = self._from_docker() if self.source == "docker" else self._from_distribution()
        problems += self._too_old()
        changes = [*work["packages"], *work["remove"]]
        if changes and not problems and self.is_there and self.serving:
            problems.append(
                f"Docker would be stopped for {self._change(work)}, and {self.units}"
                f" {'is' if len(self.serving) == 1 else 'are'} serving; stop what serves first"
                f" (systemctl stop {' '.join(self.serving)}), then run again."
            )
        return {"notes": [], **work, "problems": problems, "brief": self._brief(work)}

    def _foreign_engine(self) -> list[str]:
        if self.source == "preinstalled":
            if self.is_there:
                return []
            return [
                "docker_engine_source is 'preinstalled', but docker.service does not exist on this"
                " host; install Docker Engine, or set docker_engine_source to 'docker' or 'distro'."
            ]
        if self.exists(_SNAP):
            return [
                "has Docker as a snap, beside which no other engine runs; remove it (snap remove"
                " docker), which takes its containers and images along."
            ]
        if self.is_there and not any(map(self.exists, _UNPACKED)) and not self.in_the_way():
            return [
                f"has a docker.service that no package of {self.source!r} brought; remove that"
                " engine, or set docker_engine_source to 'preinstalled' to keep it."
            ]
        return []

    def _replacement(self) -> list[str]:
        found = self.in_the_way()
        if not found or self.settings.get("replace"):
            return []
        named = and_list([f"{name} {self.version_of(name)}" for name in found])
        keep = {"docker": "distro", "distro": "docker"}[self.source]
        return [
            f"has {named}, and docker_engine_source is {self.source!r}; set docker_engine_replace:"
            " true to have them removed and that engine installed (containers and images stay, all"
            f" containers stop), or docker_engine_source: {keep} to keep them."
        ]

    def _foreign_version(self) -> list[str]:
        """Docker's own engine in a version that somebody else chose: no pin of ours is there."""
        found, wanted = self.version_of("docker-ce"), self.settings["version"]
        chosen_here = self.text(PREFERENCES) != "" or self.settings.get("replace")
        if self.source != "docker" or found in ("", wanted) or chosen_here:
            return []
        return [
            f"has docker-ce {found}, which nothing of this collection has pinned, and"
            f' docker_engine_version is {wanted}; set docker_engine_version: "{found}" or'
            " docker_engine_source: preinstalled to keep it, or docker_engine_replace: true to have"
            " it changed (Docker is restarted, under all containers of this host)."
        ]

    def _too_old(self) -> list[str]:
        if not self.wants_gpus or not self.version or self.version >= _CDI_FROM:
            return []
        shown = ".".join(map(str, self.version))
        if self.source == "docker":
            return [
                f"docker_engine_version is {shown}, which cannot give GPUs by CDI; give 25.0.0 or"
                " newer."
            ]
        ways = "set docker_engine_source: docker"
        own = " ".join([*self.label.split("-"), "itself has"]) if self.source == "distro" else ""
        found = f"Docker {shown}{f', which {own}' if own and not self.live.get('version') else ''}"
        if self.source == "preinstalled":
            ways = f"install Docker 25 or newer, or {ways}"
        return [f"would run on {found}, which cannot give GPUs by CDI; {ways}."]

    def _from_docker(self) -> JSON:
        version, wanted = self.settings["version"], self.repository()
        exact = [name for name in _EXACT if name in _OWN or self.has(name)]
        right = all(self.version_of(name) == version for name in exact)
        right = right and self.has("containerd.io")
        text = _preferences(version)
        source = repository(wanted)
        left = any(Cleaner(source).has_entry(path, self.text(path)) for path in _LEFTOVERS)
        has_entry = self.text(_SOURCES) == sources_text(source) and not left
        specs = [*(f"{name}=5:{version}-*" for name in exact), "containerd.io"]
        hold = [*exact, "containerd.io"]
        notes = []
        if not right and self.numbers_of_engine()[:1] >= (_STORE_FROM,) > numbers(version)[:1]:
            notes.append(
                f"goes from Docker {self.version_of('docker-ce')} back to {version}, which does not"
                " know the image store of Docker 29; images are pulled again."
            )
        return {
            "notes": notes,
            "source": None if has_entry or self.bundled else wanted,
            "preferences": text,
            "pin": self.text(PREFERENCES) != text,
            "prerequisites": self._prerequisites(),
            "packages": [] if right else specs,
            "remove": self.in_the_way() if self.settings.get("replace") else [],
            "hold": [] if right and self._held.issuperset(hold) else hold,
        }

    def _prerequisites(self) -> list[str]:
        there = self.bundled or self.has("ca-certificates")
        return [] if there else ["ca-certificates"]

    def numbers_of_engine(self) -> tuple[int, ...]:
        return numbers(self._installed.get("docker-ce"))

    def _from_distribution(self) -> JSON:
        """The distribution's engine goes the way of its security updates: no pin, no hold."""
        there = self.is_there and not self.in_the_way() and self.has("docker.io")
        ours = self.text(_SOURCES) != "" and not self.bundled
        return {
            "source": {"name": NAME, "state": "absent"} if ours else None,
            "preferences": "",
            "pin": self.text(PREFERENCES) != "",
            "prerequisites": [],
            "packages": [] if there else list((self.distribution or {})["packages"]),
            "remove": self.in_the_way() if self.settings.get("replace") else [],
            "hold": [],
        }

    def _change(self, work: Mapping[str, Any]) -> str:
        before = self.version_of("docker-ce") or self.version_of("docker.io")
        if work["remove"]:
            return f"the replacement of {and_list(work['remove'])}"
        wanted = self.settings["version"] if self.source == "docker" else "the distribution's"
        return f"the change from {before or 'what is there'} to {wanted}"

    def _brief(self, work: Mapping[str, Any]) -> str:
        parts = []
        if work["remove"]:
            parts.append(f"remove {and_list(work['remove'])}")
        if work["packages"]:
            parts.append(f"install {and_list(work['packages'])}")
        if work["hold"]:
            parts.append(f"hold {and_list(work['hold'])}")
        return f"Would {and_list(parts)}." if parts else ""


def _preferences(version: str) -> str:
    """Above 1000, so that apt keeps to it downwards too, apt_preferences(5)."""
    return (
        "Explanation: Managed by Ansible (baremetal.vllm), changes are overwritten.\n"
        f"Package: {' '.join(_EXACT)}\n"
        f"Pin: version 5:{version}-*\n"
        "Pin-Priority: 1001\n"
    )


class _Daemon:
    """daemon.json: what is there with what must be, and what dockerd has to be told of it."""

    def __init__(self, host: _Host) -> None:
        self._host = host
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.result: JSON = {}
        self._current = self._read()
        if self._current is not None:  # the host's check says what is wrong with the file
            self._decide(self._current)

    def _read(self) -> JSON | None:
        try:
            options = json.loads(self._host.text(DAEMON_JSON).strip() or "{}")
        except ValueError:
            return None
        return options if isinstance(options, dict) else None

    def _decide(self, current: JSON) -> None:
        host = self._host
        options = host.settings.get("daemon_options") or {}
        must = merged(merged(current, host.settings.get("extra_options") or {}), options)
        if _other_driver(current, must) and "log-opts" not in options:
            must.pop("log-opts", None)  # those of the other driver, which dockerd would refuse
        must = merged(must, self._cdi(must))
        wanted = merged(must, self._defaults(must))
        if self._is_cut(current, wanted) and not self._is_cut(current, must):
            late = sorted(_changed(must, wanted) - RELOADABLE)
            for key in late:
                wanted.pop(key)
            self.notes.append(
                f"daemon.json gets {and_list(late)} when Docker may be restarted; run again while"
                " nothing serves."
            )
        if self._is_cut(current, wanted):
            self.problems.append(self._sentence(current, wanted))
        commands = self._commands(current, wanted)
        self.result = {
            "daemon": _text(wanted),
            "apply": commands,
            "validate": self._validation(),
            "configure": wanted != current or bool(commands or host.text(PENDING)),
            "before": self._before(current, wanted),
        }

    def _before(self, current: JSON, wanted: JSON) -> JSON | None:
        """live-restore by itself, put in force by a reload; no key that would need a restart."""
        lacks = current.get("live-restore") is not True or _RELOAD in self._pending()
        if not (self._host.is_running and wanted.get("live-restore") is True and lacks):
            return None
        return {
            "daemon": _text(current | {"live-restore": True}),
            "apply": [_RELOAD],
            "validate": self._validation(),
        }

    def _cdi(self, options: JSON) -> JSON:
        """The switch that Docker 25 to 28.1 has CDI behind; a newer one that runs shows its CDI."""
        if not self._host.wants_gpus:
            return {}
        given = (options.get("features") or {}).get("cdi")
        asked = (self._host.settings.get("daemon_options") or {}).get("features") or {}
        if asked.get("cdi") is False:
            self.problems.append(
                "docker_engine_daemon_options has features.cdi: false, without which no GPU is"
                " given to a container; take it out."
            )
            return {}
        by_itself = self._host.live.get("cdi") and self._host.version >= _CDI_BY_ITSELF_FROM
        return {} if given is None and by_itself else {"features": {"cdi": True}}

    def _defaults(self, options: JSON) -> JSON:
        """What is better than Docker's own, where nobody has said otherwise."""
        defaults: JSON = {}
        if "live-restore" not in options:
            if self._host.exists(_SWARM):  # dockerd does not start with both
                self.notes.append(
                    "is a node of a swarm, with which Docker knows no live-restore; containers stop"
                    " whenever Docker is restarted."
                )
            else:
                defaults["live-restore"] = True
        if not {"log-driver", "log-opts"} & set(options):
            defaults |= _LOG_LIMITS
        return defaults

    # -- telling dockerd -----------------------------------------------------------------------

    def _restart_for(self, current: JSON, wanted: JSON) -> list[str]:
        """The keys that dockerd must be restarted for."""
        if not self._host.is_running:
            return []
        keys = _changed(current, wanted) - RELOADABLE
        has_cdi = self._host.live.get("cdi")
        if self._host.wants_gpus and has_cdi is False:  # it is in the file, and not in force
            keys.add("features")
        if _RESTART in self._pending():
            keys |= {"what a run that was cut off has written"} if not keys else set()
        return sorted(keys)

    def _is_cut(self, current: JSON, wanted: JSON) -> bool:
        return bool(self._host.serving and self._restart_for(current, wanted))

    def _pending(self) -> list[str]:
        lines = self._host.text(PENDING).splitlines()
        return [line for line in lines if line in (_RELOAD, _RESTART)]

    def _commands(self, current: JSON, wanted: JSON) -> list[str]:
        """live-restore is put in force before the restart that it shall keep containers from."""
        if not self._host.is_running:
            return []
        if self._restart_for(current, wanted):
            begins = wanted.get("live-restore") is True and "live-restore" in _changed(
                current, wanted
            )
            first = [_RELOAD] if begins or _RELOAD in self._pending() else []
            return [*first, _RESTART]
        return [_RELOAD] if wanted != current or self._pending() else []

    def _sentence(self, current: JSON, wanted: JSON) -> str:
        serving = self._host.serving
        return (
            "daemon.json needs a Docker restart for"
            f" {and_list(self._restart_for(current, wanted))}, and {self._host.units}"
            f" {'is' if len(serving) == 1 else 'are'} serving; stop what serves first (systemctl"
            f" stop {' '.join(serving)}), then run again."
        )

    def _validation(self) -> str | None:
        known = numbers(self._host.live.get("version")) >= _VALIDATE_FROM
        if not known or not self._host.exists(_DOCKERD):
            return None
        return f"dockerd --validate --config-file=%s{DAEMON_JSON}"


def _text(options: JSON) -> str:
    return json.dumps(options, indent=2, sort_keys=True) + "\n"


def merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> JSON:
    """Options laid over others, key by key; null takes a key out."""
    result = dict(base)
    for key, value in more.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged(result[key], value)
        elif isinstance(value, Mapping):
            result[key] = merged({}, value)
        else:
            result[key] = value
    return result


def _changed(current: Mapping[str, Any], wanted: Mapping[str, Any]) -> set[str]:
    keys = {*current, *wanted}
    return {key for key in keys if current.get(key) != wanted.get(key)}


def _other_driver(current: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    default = "json-file"
    return bool(current.get("log-driver", default) != wanted.get("log-driver", default))
