# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Packages for hosts without network: which ones, and how they come to this machine.

What is wanted follows from the decisions that the roles carry out, made for a host that has
nothing. It is fetched by this machine's apt-get, which sees the archives of the hosts' system, none
of the packages installed here, and of the configuration only how servers are reached.
"""

from __future__ import annotations

import copy
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import urllib.parse
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ansible_collections.baremetal.vllm.plugins.module_utils._apt_source import (
    AptSourceError,
    KeyUnavailableError,
    Repository,
    keyring,
    repository,
    sources_text,
    without_login,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._host import WITHOUT_NJS
from ansible_collections.baremetal.vllm.plugins.plugin_utils._provision import ROLES, provision

INDEX = "Packages"
"""Name of the index beside the packages, in the form that apt reads."""

# The module ansible.builtin.apt works with python3-apt, and would update all lists to get it.
_EVERY_HOST = ("python3-apt",)
_GPU_HOST = ("nftables",)  # roles/vllm/tasks/prerequisites.yml
# roles/edge/vars/main.yml
_EDGE = ("nginx",)
_SEVERAL_MODELS = ("libnginx-mod-http-js",)
_SELF_SIGNED = ("openssl",)
_SHARED_ADDRESS = ("keepalived", "curl")  # roles/edge_vip/vars/main.yml
_PROVISIONED = ("driver", "engine", "toolkit")

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}  # dpkg's name: that of Ansible's facts
_WORK = ".apt"  # what is not whole yet, within the directory of the packages
_TELL_EVERY = 15.0  # seconds
_RETRIES = 3  # of a request, with pauses between them that grow
_GIB = 2**30
_CHUNK = 1024 * 1024

# A line of `apt-get --print-uris`: address, name in apt's cache, bytes, hash.
_ADDRESS = re.compile(r"^'[^']+' (\S+\.deb) (\d+) SHA256:([0-9a-f]{64})$", re.M)
# How this machine reaches servers: proxies, certificates, address families.
_REACHING = re.compile(r'^Acquire::(?:https?|ftp|ForceIPv[46])\b.*";$', re.M | re.I)
# What apt says besides the reason.
_NO_REASON = (
    "Some index files failed",
    "Some files failed",
    "Unable to fetch some archives",
    "Download Failed",
)

JSON = dict[str, Any]


class PackagesError(Exception):
    """Packages cannot be had; the text is one sentence for the operator."""


# -- what is wanted ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Installation:
    """What one kind of host installs.

    :param packages: ``name`` or ``name=version``, which may have wildcards.
    :param optional: the same, taken where there is such a package.
    :param sources: arguments of the module apt_source, for the vendors' repositories.
    :param preferences: texts of files that pin versions, apt_preferences(5).
    """

    packages: tuple[str, ...]
    optional: tuple[str, ...] = ()
    sources: tuple[Mapping[str, Any], ...] = ()
    preferences: tuple[str, ...] = ()

    def includes(self, other: Installation) -> bool:
        """Whether nothing has to be fetched for the other one."""
        return (
            set(other.packages) <= set(self.packages)
            and set(other.optional) <= {*self.packages, *self.optional}
            and all(source in self.sources for source in other.sources)
            and set(other.preferences) <= set(self.preferences)
        )


@dataclass(frozen=True)
class Wanted:
    """All installations on hosts of one system, such as ``debian-12``, and what to tell of them."""

    system: str
    installations: tuple[Installation, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Distribution:
    """A system that hosts may have, as Ansible's facts and as its archive name it."""

    name: str
    version: str
    codename: str


SYSTEMS = {
    "debian-12": _Distribution("Debian", "12", "bookworm"),
    "debian-13": _Distribution("Debian", "13", "trixie"),
    "ubuntu-22.04": _Distribution("Ubuntu", "22.04", "jammy"),
    "ubuntu-24.04": _Distribution("Ubuntu", "24.04", "noble"),
}


def wanted(
    system: str,
    settings: Iterable[Mapping[str, Any]],
    architecture: str = "amd64",
    kernels: Sequence[str] = (),
) -> Wanted:
    """What the roles would install on hosts of a system that have nothing yet.

    :param system: a key of SYSTEMS.
    :param settings: one for each kind of host: ``gpu_host`` (engines may run on it),
        ``wants_gpus``, ``edge`` (nginx runs on it), ``several_models`` (are behind its edge),
        ``tls`` (edge_tls), ``shares_address`` (edge_vip_address is set), and ``roles``: role -> its
        variables without the role's prefix.
    :param architecture: ``amd64`` or ``arm64``.
    :param kernels: as ``uname -r`` says them; the driver's module needs their headers.
    :raises PackagesError: the system is not supported, or the roles would refuse all of its hosts.
    """
    if system not in SYSTEMS:
        raise PackagesError(
            f"bundle_systems has {system!r}; the systems of hosts are {', '.join(SYSTEMS)}."
        )
    found: list[Installation] = []
    notes: list[str] = []
    for each in settings:
        bare = _Bare(system, architecture, each)
        if problems := bare.problems():  # its hosts may be of another system
            notes.append(f"{system}: {problems[0]}")
            continue
        one = bare.installation(kernels, notes)
        if not any(other.includes(one) for other in found):
            found = [other for other in found if not one.includes(other)] + [one]
    if notes and not found:
        raise PackagesError(notes[0])
    return Wanted(system, tuple(found), tuple(dict.fromkeys(notes)))


class _Bare:
    """A host of one kind before the first run, and what the roles would do to it."""

    def __init__(self, system: str, architecture: str, settings: Mapping[str, Any]) -> None:
        distribution = SYSTEMS[system]
        self._system = system
        self._settings = settings
        self._facts = {
            "distribution": distribution.name,
            "distribution_version": distribution.version,
            "architecture": _MACHINES[architecture],
        }

    def problems(self) -> list[str]:
        """What the roles would refuse."""
        plans = self._plans(_STATE).values()
        problems = [problem for plan in plans for problem in plan["problems"]]
        without_njs = [system.lower().replace(" ", "-") for system in WITHOUT_NJS]
        if self._system in without_njs and set(_SEVERAL_MODELS) & set(self._of_roles()):
            problems.append(
                f"has no {', '.join(_SEVERAL_MODELS)}, by which an edge routes between several"
                " models; give the edge another system, or serve one model."
            )
        return problems

    def installation(self, kernels: Sequence[str], notes: list[str]) -> Installation:
        plans = self._plans(_STATE)
        packages, optional = self._of_roles(), []
        for plan in plans.values():
            own = _without_headers(plan)
            packages += [*plan["prerequisites"], *own]
            optional += plan.get("optional", [])
        if "driver" in plans:
            # NVSwitches want more, and a kernel may be one of another system.
            for state in _machines(kernels):
                driver = self._plans(state)["driver"]
                optional += _without_headers(driver)
                optional += driver["headers"].values() if kernels else ()
            if plans["driver"]["headers"] and not kernels:
                notes.append(
                    f"{self._system}: the packages have no kernel headers, without which a host"
                    " that lacks those of its kernel gets no NVIDIA driver; name the kernels of"
                    " the hosts (uname -r) in bundle_kernels."
                )
        sources = [plan["source"] for plan in plans.values()]
        unique = tuple(dict.fromkeys(packages))
        return Installation(
            unique,
            tuple(spec for spec in dict.fromkeys(optional) if spec not in unique),
            tuple(source for source in sources if source and source["state"] == "present"),
            tuple(filter(None, (plan["preferences"] for plan in plans.values()))),
        )

    def _of_roles(self) -> list[str]:
        """What roles install that decide nothing about it."""
        names = list(_EVERY_HOST)
        names += _GPU_HOST if self._settings["gpu_host"] else ()
        return names + (self._of_edge() if self._settings["edge"] else [])

    def _of_edge(self) -> list[str]:
        names = list(_EDGE)
        names += _SEVERAL_MODELS if self._settings["several_models"] else ()
        names += _SELF_SIGNED if self._settings["tls"] == "self_signed" else ()
        names += _SHARED_ADDRESS if self._settings["shares_address"] else ()
        return names

    def _plans(self, state: Mapping[str, Any]) -> dict[str, JSON]:
        """By part, but for those that are the operator's own."""
        roles = self._settings["roles"]
        planned = provision(
            self._facts,
            state,
            None,
            [{"gpus": "all" if self._settings["wants_gpus"] else "none"}],
            roles,
            is_gpu_host=self._settings["gpu_host"],
        ).plans
        return {
            part: planned[part]
            for part in _PROVISIONED
            if part in planned and roles[ROLES[part]]["source"] != "preinstalled"
        }


def _without_headers(plan: Mapping[str, Any]) -> list[str]:
    headers = plan.get("headers", {}).values()
    return [spec for spec in plan["packages"] if spec not in headers]


# What host_state reads on a host that has a GPU and nothing else.
_STATE: JSON = {
    "packages": {},
    "held": [],
    "unfinished": [],
    "services": {},
    "read": {},
    "paths": {},
    "kernel": {
        "release": "unknown",
        "headers": False,
        "secure_boot": False,
        "module_key_enrolled": None,
        "nouveau": False,
        "reboot_required": False,
    },
    "nvidia": {
        "devices": [{"address": "0000:19:00.0", "device": "2330", "class": "030200"}],
        "switch_managers": [],
        "module": None,
        "library": None,
        "built": {},
    },
}
_SWITCH = {"address": "0000:07:00.0", "device": "22a3", "class": "068000"}


def _machines(kernels: Sequence[str]) -> Iterator[JSON]:
    """States of hosts with NVSwitches, of both kinds, and with each of the kernels."""
    for release in kernels or ("unknown",):
        state = copy.deepcopy(_STATE)
        state["kernel"]["release"] = release
        state["nvidia"]["devices"].append(_SWITCH)
        state["nvidia"]["switch_managers"] = ["0000:05:00.0"]
        yield state


# -- fetching ------------------------------------------------------------------------------------


def fetch_packages(
    asked: Wanted,
    directory: Path,
    architecture: str = "amd64",
    mirror: str = "",
    say: Callable[[str], None] = lambda line: None,
) -> JSON:
    """Bring packages with all that they depend on into a directory, with an index of them.

    What is there and whole stays, what was cut off goes on where it ended, and packages that
    nothing wants any more are removed.

    :param directory: holds nothing else; it is made.
    :param architecture: ``amd64`` or ``arm64``.
    :param mirror: address of the system's archive; empty for the distribution's own.
    :param say: is told of progress, a line at a time.
    :returns: ``system``, ``packages`` (``name``, ``version``, ``file``, ``sha256``, ``size`` in
        bytes), ``index_sha256``, and ``notes``: sentences for the operator.
    :raises PackagesError: with what apt said last; what has arrived is kept.
    """
    for program in ("apt-get", "dpkg-deb"):
        if not shutil.which(program):
            raise PackagesError(
                f"This machine has no {program}; write the bundle on Debian or Ubuntu."
            )
    fetcher = _Fetcher(asked.system, directory, architecture, mirror, say)
    try:
        return fetcher.fetch(asked)
    except OSError as error:
        raise PackagesError(
            f"{error.filename or directory} cannot be written ({error.strerror}); mend that and run"
            " again."
        ) from error


@dataclass(frozen=True)
class _Archive:
    """One .deb as apt would fetch it.

    :param cached: its name in apt's cache.
    :param size: in bytes.
    """

    cached: str
    size: int
    sha256: str

    @property
    def file(self) -> str:
        """As in a pool: without the epoch of its version."""
        return re.sub(r"_\d+%3a", "_", self.cached, count=1)

    def is_whole(self, path: Path) -> bool:
        return _size(path) == self.size and _digest(path) == self.sha256


class _Fetcher:
    """Brings the packages of one system."""

    def __init__(
        self,
        system: str,
        directory: Path,
        architecture: str,
        mirror: str,
        say: Callable[[str], None],
    ) -> None:
        self._system = system
        self._directory = directory
        self._archives = directory / _WORK / "archives"
        self._architecture = architecture
        self._mirror = mirror
        self._say = say
        self._notes: list[str] = []

    def fetch(self, asked: Wanted) -> JSON:
        (self._archives / "partial").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="vllm-bundle-") as temporary:
            roots = [
                (self._root(Path(temporary) / str(number), installation), installation)
                for number, installation in enumerate(asked.installations)
            ]
            chosen = [(root, self._choose(root, installation)) for root, installation in roots]
            wanted_by = [(root, specs, root.resolve(specs)) for root, specs in chosen]
            archives = {each.cached: each for _root, _specs, found in wanted_by for each in found}
            self._take_over(archives.values())
            for root, specs, _found in wanted_by:
                root.download(specs, self._teller(archives.values()))
        packages = self._finish(archives.values())
        return {
            "system": self._system,
            "packages": packages,
            "index_sha256": _digest(self._directory / INDEX),
            "notes": [*asked.notes, *dict.fromkeys(self._notes)],
        }

    def _root(self, path: Path, installation: Installation) -> _Root:
        self._say(f"{self._system}: reading the package lists")
        root = _Root(path, self._system, self._architecture, self._archives)
        root.write(installation, self._mirror)
        root.update()
        return root

    def _choose(self, root: _Root, installation: Installation) -> list[str]:
        """The packages that there are, of those that need not be."""
        names = [_split(spec)[0] for spec in (*installation.packages, *installation.optional)]
        rows = root.table(names)
        for spec in installation.packages:
            self._reject_missing(spec, rows)
        vendors = [uri for source in installation.sources for uri in source["uris"]]
        there = [spec for spec in installation.optional if _is_there(spec, rows, vendors)]
        missing = [_split(spec)[0] for spec in installation.optional if spec not in there]
        if missing:
            self._notes.append(
                f"{self._system}: its repositories have no {', '.join(missing)}; a host that needs"
                " one of them cannot have it from the bundle."
            )
        return [*installation.packages, *there]

    def _reject_missing(self, spec: str, rows: Sequence[_Row]) -> None:
        name, version = _split(spec)
        versions = [row.version for row in rows if row.name == name]
        if any(fnmatchcase(each, version) for each in versions):
            return
        if versions:
            raise PackagesError(
                f"{self._system}: its repositories have no {name} {version}, but"
                f" {', '.join(versions[:5])}; set the version that the inventory asks for to one of"
                " them."
            )
        raise PackagesError(
            f"{self._system}: its repositories have no package {name}; see that the repositories in"
            " the inventory and bundle_distribution_mirror are those of this system."
        )

    def _take_over(self, archives: Collection[_Archive]) -> None:
        """Lay what is here already where apt looks before it fetches."""
        total = here = 0
        for each in archives:
            total += each.size
            source, target = self._directory / each.file, self._archives / each.cached
            if each.is_whole(target):
                here += each.size
                continue
            target.unlink(missing_ok=True)  # apt would look at its size alone
            if each.is_whole(source):
                _link(source, target)
                here += each.size
        self._say(
            f"{self._system}: {len(archives)} packages, {total / _GIB:.2f} GiB, of which"
            f" {here / _GIB:.2f} GiB are here"
        )

    def _teller(self, archives: Iterable[_Archive]) -> Callable[[], None]:
        total = sum(each.size for each in archives)

        def tell() -> None:
            done = sum(map(_size, self._archives.rglob("*.deb")))
            text = f"{done / _GIB:.2f} of {total / _GIB:.2f} GiB of packages"
            self._say(f"{self._system}: {text}")

        return tell

    def _finish(self, archives: Collection[_Archive]) -> list[JSON]:
        """Bring the files to their place, and write the index when all of them are there."""
        for each in archives:
            if not each.is_whole(self._archives / each.cached):
                (self._archives / each.cached).unlink(missing_ok=True)
                raise PackagesError(
                    f"{self._system}: {each.file} has not arrived as its archive describes it; run"
                    " again, and look at the mirror or proxy if it says so once more."
                )
        for each in archives:
            (self._archives / each.cached).replace(self._directory / each.file)
        packages, stanzas = [], []
        for each in sorted(archives, key=lambda archive: archive.file):
            fields = _control(self._directory / each.file)
            packages.append(
                {
                    "name": fields["Package"],
                    "version": fields["Version"],
                    "file": each.file,
                    "sha256": each.sha256,
                    "size": each.size,
                }
            )
            fields |= {
                "Filename": f"./{each.file}",
                "Size": str(each.size),
                "SHA256": each.sha256,
            }
            stanzas.append("".join(f"{name}: {value}\n" for name, value in fields.items()))
        fresh = self._directory / f".{INDEX}"
        fresh.write_text("\n".join(stanzas), encoding="utf-8")
        fresh.replace(self._directory / INDEX)
        files = {each.file for each in archives}
        for path in self._directory.glob("*.deb"):
            if path.name not in files:
                path.unlink()
        shutil.rmtree(self._directory / _WORK)
        return packages


@dataclass(frozen=True)
class _Row:
    """A line of `apt-cache madison`."""

    name: str
    version: str
    origin: str


def _split(spec: str) -> tuple[str, str]:
    """Name and version; a spec without version takes any."""
    name, _equals, version = spec.partition("=")
    return name, version or "*"


def _is_there(spec: str, rows: Sequence[_Row], vendors: Sequence[str]) -> bool:
    """Whether a package can be had.

    One of an exact version belongs to a vendor's others; the distribution has such names, too.
    """
    name, version = _split(spec)
    return any(
        row.name == name
        and fnmatchcase(row.version, version)
        and (
            version == "*"
            or any(row.origin.startswith(uri.rstrip("/")) for uri in map(_uri, vendors))
        )
        for row in rows
    )


def _uri(uri: str) -> str:
    """An address that apt copies packages from; those of `file:` it would use where they are."""
    return re.sub(r"^file:", "copy:", uri)


def _size(path: Path) -> int:
    """Bytes; 0 where there is no such file, or none any more."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # not every file system has links
        shutil.copyfile(source, target)


def _digest(path: Path) -> str:
    """SHA-256 of a file."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            state.update(chunk)
    return state.hexdigest()


def _control(path: Path) -> dict[str, str]:
    """Fields of a package, each in one line; of the description the first one is enough."""
    done = subprocess.run(["dpkg-deb", "--field", path], check=False, capture_output=True)
    if done.returncode:
        raise PackagesError(
            f"{path} cannot be read: {_said(done.stderr.decode(errors='replace'))}."
        )
    fields: dict[str, str] = {}
    name = ""
    for line in done.stdout.decode("utf-8", errors="replace").splitlines():
        if line[:1].isspace():
            fields[name] += "" if name == "Description" else f" {line.strip()}"
        else:
            name, _colon, value = line.partition(":")
            fields[name] = value.strip()
    return fields


# -- apt -----------------------------------------------------------------------------------------


class _Root:
    """A place where apt sees the archives of a system, and a machine without packages."""

    def __init__(self, path: Path, system: str, architecture: str, archives: Path) -> None:
        self._path = path
        self._system = system
        self._architecture = architecture
        self._archives = archives

    def write(self, installation: Installation, mirror: str) -> None:
        """Write apt's configuration, with keys that have the fingerprints that they shall have."""
        for name in ("lists/partial", "keys", "sources", "preferences", "logins", "none/partial"):
            (self._path / name).mkdir(parents=True)
        (self._path / "status").touch()
        (self._path / "apt.conf").write_text(self._configuration(), encoding="utf-8")
        self._lend_logins()
        archive = _archive_text(self._system, self._architecture, mirror)
        (self._path / "sources" / "system.sources").write_text(archive, encoding="utf-8")
        for source in installation.sources:
            self._write_source(source)
        for number, text in enumerate(installation.preferences):
            (self._path / "preferences" / f"{number}").write_text(text, encoding="utf-8")

    def _configuration(self) -> str:
        """Of this machine's own configuration only what says how to reach servers."""
        own = subprocess.run(["apt-config", "dump"], check=False, capture_output=True, text=True)
        root = self._path
        values = {
            "Dir": f"{root}/",
            "Dir::State": f"{root}/",
            "Dir::State::lists": f"{root}/lists/",
            "Dir::State::status": f"{root}/status",
            "Dir::Cache": f"{root}/",
            "Dir::Cache::archives": f"{self._archives}/",
            "Dir::Etc": f"{root}/",
            "Dir::Etc::main": "absent",
            "Dir::Etc::parts": "none/",
            "Dir::Etc::sourcelist": "absent",
            "Dir::Etc::sourceparts": "sources/",
            "Dir::Etc::preferences": "absent",
            "Dir::Etc::preferencesparts": "preferences/",
            "Dir::Etc::trusted": "absent",
            "Dir::Etc::trustedparts": "none/",
            "Dir::Etc::netrc": "absent",
            "Dir::Etc::netrcparts": "logins/",
            "APT::Architecture": self._architecture,
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "root",  # another user could not write here
            "Acquire::ForceHash": "SHA256",  # else `--print-uris` says that of MD5
            "Acquire::Languages": "none",
            "Acquire::Retries": str(_RETRIES),
        }
        lines = [f'{name} "{value}";' for name, value in values.items()]
        lines.append(f'APT::Architectures {{ "{self._architecture}"; }};')
        return "\n".join([*lines, *_REACHING.findall(own.stdout), ""])

    def _lend_logins(self) -> None:
        """Let apt log in where it does so for this machine; apt_auth.conf(5)."""
        system = Path("/etc/apt")
        for path in [system / "auth.conf", *system.glob("auth.conf.d/*.conf")]:
            if os.access(path, os.R_OK):
                (self._path / "logins" / f"own-{path.name}").symlink_to(path)

    def _write_source(self, source: Mapping[str, Any]) -> None:
        try:
            described = repository({**source, "uris": list(map(_uri, source["uris"]))})
        except AptSourceError as error:
            raise PackagesError(f"{self._system}: {error}") from error
        path = self._path / "keys" / f"{described.name}.asc"
        path.write_bytes(self._key(described, source["key_url"]))
        text = sources_text(described).replace(described.keyring_path, str(path))
        sources = self._path / "sources" / f"{described.name}.sources"
        sources.write_text(text, encoding="utf-8")

    def _key(self, described: Repository, url: str) -> bytes:
        """The vendor's key, by apt's own way through proxies."""

        def get() -> bytes:
            if url.startswith("file:"):
                return _read(Path(urllib.parse.urlsplit(url).path))
            path = self._path / "keys" / "fetched"
            command = ["/usr/lib/apt/apt-helper", "download-file", url, str(path)]
            status, output = self._run(command)
            if status:
                raise KeyUnavailableError(
                    f"{without_login(url)} cannot be fetched by this machine ({_said(output)}); let"
                    " it reach that server, directly or through a proxy, or give the address of a"
                    " mirror."
                )
            return _read(path)

        try:
            return keyring(None, described, get, f"{without_login(url)} gave").content
        except AptSourceError as error:
            raise PackagesError(f"{self._system}: {error}") from error

    def update(self) -> None:
        """Read the lists of all archives."""
        status, output = self._run(["apt-get", "--quiet", "--error-on=any", "update"])
        if status:
            raise PackagesError(
                f"{self._system}: the package lists cannot be read ({_said(output)}); let this"
                " machine reach that archive, directly or through a proxy, or name a mirror in"
                " bundle_distribution_mirror or the repository's variable."
            )

    def table(self, names: Sequence[str]) -> list[_Row]:
        """All versions of packages, the newest first."""
        _status, output = self._run(["apt-cache", "madison", *names])
        cells = [[cell.strip() for cell in line.split("|")] for line in output.splitlines()]
        return [_Row(*row) for row in cells if len(row) == 3]

    def resolve(self, specs: Sequence[str]) -> list[_Archive]:
        """All that would be installed; nothing is fetched."""
        option = f"--option=Dir::Cache::archives={self._path}/none/"
        status, output = self._install(["--print-uris", option], specs)
        if status:
            raise PackagesError(
                f"{self._system}: the packages cannot be installed together ({_said(output)}); see"
                " that the versions in the inventory fit this system."
            )
        found = _ADDRESS.findall(output)
        return [_Archive(cached, int(size), sha256) for cached, size, sha256 in found]

    def download(self, specs: Sequence[str], tell: Callable[[], None]) -> None:
        status, output = self._install(["--download-only"], specs, tell)
        if status:
            raise PackagesError(
                f"{self._system}: the packages cannot be downloaded ({_said(output)}); run again,"
                " what has arrived is kept."
            )

    def _install(
        self, options: Sequence[str], specs: Sequence[str], tell: Callable[[], None] | None = None
    ) -> tuple[int, str]:
        return self._run(["apt-get", "--quiet", "--yes", *options, "install", *specs], tell)

    def _run(
        self, command: Sequence[str], tell: Callable[[], None] | None = None
    ) -> tuple[int, str]:
        """Exit status and all that was printed."""
        with subprocess.Popen(
            command,
            env={**os.environ, "APT_CONFIG": str(self._path / "apt.conf"), "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            try:
                return self._outcome(process, tell)
            except BaseException:  # the run is ended
                process.kill()
                raise

    def _outcome(
        self, process: subprocess.Popen[str], tell: Callable[[], None] | None
    ) -> tuple[int, str]:
        while True:
            try:
                output, _nothing = process.communicate(timeout=_TELL_EVERY)
                return process.returncode, output
            except subprocess.TimeoutExpired:
                if tell:
                    tell()


def _archive_text(system: str, architecture: str, mirror: str) -> str:
    """Entries of the distribution's own archive, sources.list(5).

    Source: wiki.debian.org/SourcesList; the files that Ubuntu's installer writes.
    """
    distribution = SYSTEMS[system]
    name, codename = distribution.name.lower(), distribution.codename
    signed_by = Path(f"/usr/share/keyrings/{name}-archive-keyring.gpg")
    if not signed_by.exists():
        package = {"debian": "debian-archive-keyring", "ubuntu": "ubuntu-keyring"}[name]
        raise PackagesError(
            f"{system}: this machine has no {signed_by}, by which its archive is checked; install"
            f" {package}."
        )
    if name == "debian":
        site = (mirror or "http://deb.debian.org/debian").rstrip("/")
        components = "main contrib non-free non-free-firmware"
        suites = {
            site: f"{codename} {codename}-updates",
            f"{site}-security": f"{codename}-security",
        }
    else:
        site = "http://archive.ubuntu.com/ubuntu"
        site = site if architecture == "amd64" else "http://ports.ubuntu.com/ubuntu-ports"
        components = "main restricted universe multiverse"
        pockets = ("", "-updates", "-security")
        suites = {mirror or site: " ".join(f"{codename}{pocket}" for pocket in pockets)}
    return "\n".join(
        f"Types: deb\nURIs: {_uri(uri)}\nSuites: {names}\nComponents: {components}\n"
        f"Signed-By: {signed_by}\n"
        for uri, names in suites.items()
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyUnavailableError(
            f"key_url: {path} cannot be read on this machine ({error.strerror}); copy the key"
            " there."
        ) from error


def _said(output: str) -> str:
    """The reason in what apt printed: unmet dependencies, else its last error."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    unmet = [line for line in lines if re.match(r"\S+ : (Pre)?Depends: |(Pre)?Depends: ", line)]
    errors = [line.partition(" ")[2] for line in lines if re.match(r"[EW]: ", line)]
    reasons = unmet or [line for line in errors if not line.startswith(_NO_REASON)] or lines
    return re.sub(r"\s+", " ", reasons[-1]).rstrip(".") if reasons else "it said nothing"
