# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What brings a host to the wanted NVIDIA driver; facts and state in, plan out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils import _driver_tables as tables
from ansible_collections.baremetal.vllm.plugins.plugin_utils._driver_state import (
    REBOOT_YOURSELF,
    State,
    driver_packages,
    is_named_so,
    is_proprietary,
    kernels,
    lacking_services,
    loaded,
    numbers,
    pending_kernel,
    reboot_reason,
    runs,
    to_hold,
)

NAME = "baremetal-vllm-nvidia"
PREFERENCES = f"/etc/apt/preferences.d/{NAME}"
BLACKLIST = "/etc/modprobe.d/baremetal-vllm-nouveau.conf"
MODULES = "/etc/modules-load.d/baremetal-vllm-nvlink.conf"
UNINSTALLER = "/usr/bin/nvidia-uninstall"  # of NVIDIA's .run installer
PERSISTENCE = "nvidia-persistenced.service"
FABRIC = "nvidia-fabricmanager.service"
_SOURCES = f"/etc/apt/sources.list.d/{NAME}.sources"
_KEYRINGS = (f"/etc/apt/keyrings/{NAME}.asc", f"/etc/apt/keyrings/{NAME}.gpg")
_INITRAMFS = {  # program: what rebuilds all images
    "/usr/sbin/update-initramfs": "update-initramfs -u -k all",
    "/usr/bin/dracut": "dracut --force --regenerate-all",
}

# What a plan needs to know of a host, for host_state.
PACKAGES = (
    *tables.GLOBS,
    *tables.NVLINK5_PACKAGES,
    "linux-image-*",
    "linux-headers-*",
    "ca-certificates",
)
SERVICES = (PERSISTENCE, FABRIC)
READS = (PREFERENCES, BLACKLIST, MODULES)
PATHS = (_SOURCES, *_KEYRINGS, UNINSTALLER, *_INITRAMFS)

_BLACKLIST_TEXT = """\
# Written by baremetal.vllm (role nvidia_driver): nouveau would take the GPUs first.
blacklist nouveau
options nouveau modeset=0
"""

Settings = Mapping[str, Any]


def plan(facts: Mapping[str, Any], state: State, settings: Settings) -> dict[str, Any]:
    """Decide what has to be done for the driver.

    :param facts: ``platform`` of host_state; distribution, its version, and architecture are read.
    :param state: result of the module host_state, asked for PACKAGES, SERVICES, READS and PATHS.
    :param settings: the role's public variables without ``nvidia_driver_``, and ``wants_gpus``,
        ``serving`` (units of engines that run), ``local`` (Ansible runs on this very host) and
        ``bundled`` (packages come from a bundle: no source is wanted).
    :return: ``problems``, ``notes``, ``converged`` as every part has them, and

        - ``wanted``: version, None where it is the distribution's or was there before
        - ``origin``: nvidia_driver_source
        - ``source``: arguments of the module apt_source, None where no source changes;
          ``prerequisites``: packages that its repository is reached with
        - ``preferences``: text of PREFERENCES, empty where there shall be none; ``pin``: the same
          as entries of the module file_set
        - ``files``: entries of the module file_set; ``initramfs``: command that must follow a
          change of them, or empty
        - ``install``: whether apt has something to do; ``disturbs``: whether that would take the
          GPUs from programs; ``packages``: ``name`` or ``name=version-*``
          of what must be there; ``optional``: of what may; ``headers``: those of ``packages`` that
          a kernel needs, by kernel; ``prebuilt``: what the names of packages with signed modules
          begin with, before a kernel's release; empty where DKMS builds them
        - ``uninstall``: argv of another installer's removal, or empty; ``purge``: packages
        - ``hold``: names and globs of packages to hold
        - ``unhold``: packages on hold that are installed anew
        - ``modules``: kernel modules to load beside nvidia; ``load``: whether to try nvidia
        - ``services``: units to enable and to start once the driver is loaded
        - ``reboot``: sentence why one is needed already now, or None
        - ``consent``: nvidia_driver_reboot, None where a run may not even begin to need one;
          ``may_reboot``: whether the run does it
    """
    empty = _nothing(settings)
    devices = (state.get("nvidia") or {}).get("devices") or []
    gpus = [device for device in devices if device["class"].startswith(("0300", "0302"))]
    system = _system(facts)
    if not settings.get("wants_gpus") or not gpus or system not in tables.REPOSITORIES:
        return empty  # nothing to drive; preflight refuses a GPU that is not there, and the system
    if settings["source"] == "preinstalled":
        return empty | _preinstalled(state)
    problems = [*_bad_version(settings["version"]), *_bad_architecture(facts), *_too_old(gpus)]
    if problems:
        return empty | {"problems": problems, "converged": False}
    return _Driver(system, facts, state, settings, gpus).plan()


def _nothing(settings: Settings) -> dict[str, Any]:
    return {
        "problems": [],
        "notes": [],
        "converged": True,
        "origin": settings.get("source"),
        "wanted": None,
        "source": None,
        "prerequisites": [],
        "preferences": "",
        "pin": [],
        "files": [],
        "initramfs": "",
        "install": False,
        "disturbs": False,
        "packages": [],
        "optional": [],
        "headers": {},
        "prebuilt": "",
        "uninstall": [],
        "purge": [],
        "hold": [],
        "unhold": [],
        "modules": [],
        "load": False,
        "services": [],
        "reboot": None,
        "consent": settings.get("reboot"),
        "may_reboot": settings.get("reboot") is True and not settings.get("local"),
    }


def _system(facts: Mapping[str, Any]) -> str:
    name = str(facts.get("distribution", ""))
    version = str(facts.get("distribution_version", ""))
    return f"{name} {version.partition('.')[0] if name == 'Debian' else version}"


def _preinstalled(state: State) -> dict[str, Any]:
    """The driver is the operator's: look at it, and leave it as it is."""
    module, library = loaded(state), (state.get("nvidia") or {}).get("library")
    promise = "nvidia_driver_source is 'preinstalled', but"
    cure = "mend it, or set nvidia_driver_source to 'nvidia'"
    if not module:
        problems = [f"{promise} no NVIDIA driver is loaded; load it (modprobe nvidia), {cure}."]
    elif library != module:
        problems = [
            f"{promise} the loaded module is {module} and its library is {library or 'missing'};"
            f" reboot the host, {cure}."
        ]
    elif _branch(module) < tables.OLDEST_BRANCH:
        problems = [
            f"{promise} the loaded module is {module}, and vLLM's images need branch"
            f" {tables.OLDEST_BRANCH} or newer; upgrade it, or set nvidia_driver_source to"
            " 'nvidia'."
        ]
    else:
        problems = [f"{promise} {what}, {cure}." for what in _fabric_fault(state, module)]
    notes = _below_floor(module) if module else []
    return {"problems": problems, "notes": notes, "converged": not problems}


def _switches(state: State) -> list[str]:
    """Return the addresses of NVSwitches, or of the bridges that manage them."""
    nvidia = state.get("nvidia") or {}
    switches = [each["address"] for each in nvidia["devices"] if each["class"].startswith("0680")]
    return [*switches, *(nvidia.get("switch_managers") or [])]


def _fabric_fault(state: State, module: str) -> list[str]:
    """Return what keeps GPUs behind NVSwitches from working, with what to do first."""
    if not _switches(state):
        return []
    versions = {
        match[0]
        for name, version in state["packages"].items()
        if re.fullmatch(r"nvidia-fabricmanager(-\d{3})?", name)
        if version and (match := tables.DRIVER_VERSION.match(version))
    }
    if versions and module not in versions:
        return [
            f"the loaded module is {module} and the fabric manager {', '.join(sorted(versions))};"
            " install the one of the same release"
        ]
    if ((state.get("services") or {}).get(FABRIC) or {}).get("active") != "active":
        return [
            f"the host has NVSwitches and {FABRIC} does not run; install the fabric manager of"
            f" {module} and start it (systemctl enable --now {FABRIC})"
        ]
    return []


def _bad_version(version: Any) -> list[str]:
    if not tables.DRIVER_VERSION.fullmatch(str(version)):
        return [
            f"nvidia_driver_version is {version!r}; write a release of NVIDIA's driver in full and"
            " in quotes, such as '580.178.04'."
        ]
    if _branch(version) < tables.OLDEST_BRANCH:
        return [
            f"nvidia_driver_version is {version}; vLLM's images need branch {tables.OLDEST_BRANCH}"
            " or newer; choose such a release."
        ]
    return []


def _branch(version: str) -> int:
    return int(str(version).partition(".")[0])


def _below_floor(version: str) -> list[str]:
    floor = tables.SECURE_VERSIONS.get(_branch(version))
    if floor is None or numbers(version) >= numbers(floor):
        return []
    return [
        f"driver {version} lacks security fixes that {floor} has (NVIDIA's bulletin 5861); set"
        f" nvidia_driver_version to {floor} or newer."
    ]


def _bad_architecture(facts: Mapping[str, Any]) -> list[str]:
    machine = facts.get("architecture", "x86_64")
    if machine in tables.ARCHITECTURES:
        return []
    return [
        f"is a machine of type {machine}, for which there is no driver; supported are"
        f" {', '.join(tables.ARCHITECTURES)}."
    ]


def _is_too_old(device: Mapping[str, Any]) -> bool:
    return int(device["device"] or "ffff", 16) < tables.FIRST_OPEN_DEVICE


def _too_old(gpus: Sequence[Mapping[str, Any]]) -> list[str]:
    if not all(_is_too_old(gpu) for gpu in gpus):
        return []
    listed = ", ".join(f"10de:{gpu['device']} at {gpu['address']}" for gpu in gpus)
    return [
        f"has only GPUs from before Turing ({listed}), which the open kernel modules do not drive;"
        " fit a newer GPU, or install the proprietary driver of branch 580 yourself and set"
        " nvidia_driver_source to 'preinstalled'."
    ]


class _Driver:
    """The plan for one host whose driver this collection brings."""

    def __init__(
        self,
        system: str,
        facts: Mapping[str, Any],
        state: State,
        settings: Settings,
        gpus: Sequence[Mapping[str, Any]],
    ) -> None:
        self._system = system
        self._facts = facts
        self._state = state
        self._settings = settings
        self._gpus = gpus
        self._nvidia: Mapping[str, Any] = state["nvidia"]
        self._kernel: Mapping[str, Any] = state["kernel"]
        self._origin: str = settings["source"]
        self._branch = _branch(settings["version"])
        self._wanted: str | None = settings["version"] if self._origin == "nvidia" else None
        choose = (
            tables.vendor_packages if self._origin == "nvidia" else tables.distribution_packages
        )
        self._set = choose(system, self._branch)
        self._installed = driver_packages(state)
        self._managers: Sequence[str] = self._nvidia.get("switch_managers") or []
        self._bundled = bool(settings.get("bundled"))

    def plan(self) -> dict[str, Any]:
        headers = self._headers()
        packages = [*self._names(), *headers.values()]
        unmet = [name for name in packages if not self._is_met(name)]
        purge, foreign, other = self._purge()
        uninstall = [UNINSTALLER, "--silent"] if self._exists(UNINSTALLER) else []
        install = bool(unmet or purge or uninstall or self._unfinished())
        # Packages that only come beside a driver that runs take nothing from anybody. Without a
        # release of ours nobody knows which one apt brings with them.
        stays = self._wanted and runs(self._state, self._wanted)
        disturbs = bool(
            (loaded(self._state) or self._nvidia["library"])
            and (foreign or uninstall or (install and not stays))
        )
        reboot = self._foreseen(bool(foreign or other or uninstall))
        files = self._files()
        services = [PERSISTENCE, *([FABRIC] if self._has_switches else [])]
        result = _nothing(self._settings) | {
            "wanted": self._wanted,
            "source": self._source(),
            "prerequisites": self._prerequisites(),
            "preferences": self._preferences(),
            "pin": self._pin(),
            "files": files,
            "initramfs": self._rebuild(),
            "install": install,
            "disturbs": disturbs,
            "packages": packages,
            "optional": self._optional(),
            "headers": headers,
            "prebuilt": self._set.prebuilt,
            "uninstall": uninstall,
            "purge": purge,
            "hold": list(tables.GLOBS),
            "unhold": self._held() if install else [],
            "modules": list(tables.NVLINK5_MODULES) if self._managers else [],
            "load": not self._nvidia["module"] and not self._kernel["nouveau"],
            "services": services,
            "reboot": f"{reboot}; {REBOOT_YOURSELF}." if reboot else None,
        }
        result["problems"] = [
            *self._hopeless(),
            *self._outrun(),
            *(another := list(self._another_driver(foreign, other))),
            *([] if another else self._downgrade()),
            *self._unsigned(),
            *self._no_consent(reboot, install),
            *self._serves(reboot, disturbs),
        ]
        result["notes"] = list(self._notes())
        result["converged"] = not (
            result["problems"]
            or install
            or self._lacks_source()
            or self._differs(files)
            or to_hold(self._state)
            or not runs(self._state, self._wanted)
            or is_proprietary(self._state)
            or lacking_services(self._state, services)
        )
        return result

    def _prerequisites(self) -> list[str]:
        fetched = (self._source() or {}).get("state") == "present"
        there = self._state["packages"].get("ca-certificates")
        return ["ca-certificates"] if fetched and not there else []

    def _held(self) -> list[str]:
        """Return the driver's packages on hold, which keep apt from their new versions."""
        return [name for name in driver_packages(self._state) if name in self._state["held"]]

    def _foreseen(self, replaced: bool) -> str | None:
        """Return why a reboot will be needed, as far as that can be told before anything changes.

        :param replaced: whether packages of another source or branch, or an installer's driver, go.
        """
        if self._left_behind():
            return None
        reason = reboot_reason(self._state, self._wanted or self._nvidia["library"])
        module = loaded(self._state)
        if reason or self._wanted or not module:
            return reason
        changes = self._system.startswith("Ubuntu") and _branch(module) != self._branch
        if not (replaced or changes):
            return None
        return f"driver {module} is loaded, and the distribution's takes its place at a reboot only"

    def _left_behind(self) -> list[str]:
        """Return held packages that a newer kernel with a newer signed module has outrun."""
        module, library = loaded(self._state), self._nvidia["library"]
        if not (self._set.prebuilt and module and library and _branch(module) == self._branch):
            return []
        on_disk = self._nvidia["built"].get(self._kernel["release"])
        if on_disk != module or numbers(library) >= numbers(module):
            return []  # another module than the loaded one waits for a reboot
        return sorted(
            name
            for name in self._installed
            if tables.branch_of(name) == self._branch and not name.startswith(tables.PREBUILT)
        )

    # -- what there is

    def _exists(self, path: str) -> bool:
        return bool(((self._state.get("paths") or {}).get(path) or {}).get("exists"))

    def _differs(self, files: Sequence[Mapping[str, Any]]) -> bool:
        read = self._state.get("read") or {}
        texts = {
            each["path"]: each["content"] if each["state"] == "present" else None for each in files
        }
        texts[PREFERENCES] = self._preferences() or None
        return any(read.get(path) != text for path, text in texts.items())

    def _is_met(self, spec: str) -> bool:
        name, _equals, version = spec.partition("=")
        installed = self._state["packages"].get(name)
        return bool(installed) and fnmatchcase(installed, version or "*")

    def _unfinished(self) -> list[str]:
        return [
            name
            for name in self._state.get("unfinished") or []
            if is_named_so(name) or name.startswith(("dkms", "linux-headers-"))
        ]

    @property
    def _has_switches(self) -> bool:
        return bool(_switches(self._state))

    # -- packages

    def _spec(self, name: str) -> str:
        return f"{name}={self._wanted}-*" if self._wanted else name

    def _names(self) -> list[str]:
        names = [self._spec(name) for name in self._set.names]
        if self._has_switches:
            names += [self._spec(name) for name in self._set.fabric]
        if self._managers:
            names += tables.NVLINK5_PACKAGES
        return names

    def _optional(self) -> list[str]:
        """What follows the kernel when it is upgraded, and what some repositories have not."""
        follow = []
        for name in self._state["packages"]:
            match = re.fullmatch(r"linux-image-([a-z].*)", name)
            if match and not match[1].startswith("unsigned-"):
                flavour = match[1].replace("virtual", "generic")
                # Kernel and headers are of one source, so of one version: backports stay out.
                version = self._state["packages"][name]
                headers = f"linux-headers-{flavour}" + (f"={version}" if version else "")
                follow.append(f"{self._set.prebuilt}{flavour}" if self._set.prebuilt else headers)
        optional = [*self._set.optional, *self._companions()]
        # By its version the repository is told from others; a bundle is none, and the pin holds.
        specs = optional if self._bundled else list(map(self._spec, optional))
        return [*specs, *sorted(set(follow))]

    def _companions(self) -> list[str]:
        """Packages of another release that somebody has added, such as nvidia-imex."""
        left = {
            *(*self._set.names, *self._set.fabric, *self._set.optional),
            *tables.foreign(self._system, self._origin, self._installed),
            *tables.of_other_branch(self._system, self._branch, self._installed),
        }
        others = (tables.PREBUILT, *tables.PREBUILT_NEEDS, tables.PINNING)
        return [
            name
            for name, version in driver_packages(self._state).items()
            if self._wanted and name not in left and not name.startswith(others)
            if version and not fnmatchcase(version, f"{self._wanted}-*")
        ]

    def _headers(self) -> dict[str, str]:
        """Return by kernel the package that it needs before it can have the driver's module.

        Where the driver runs none is looked for: an archive keeps headers for its newest kernel.
        """
        if runs(self._state, self._wanted):
            return {}
        needed = {}
        for release in kernels(self._state):
            if self._set.prebuilt:
                needed[release] = f"{self._set.prebuilt}{release}"
            elif release != self._kernel["release"] or not self._kernel["headers"]:
                needed[release] = f"linux-headers-{release}"
        return needed

    def _purge(self) -> tuple[list[str], dict[str, str], list[str]]:
        """Return the packages to remove; of them those from elsewhere, and those of a branch.

        The second are by origin, and need consent. The third are of another branch and need it
        where no release was asked for.
        """
        foreign = tables.foreign(self._system, self._origin, self._installed)
        names = [spec.partition("=")[0] for spec in [*self._names(), *self._optional()]]
        other = tables.of_other_branch(self._system, self._branch, self._installed)
        pinning = [name for name in self._state["packages"] if name.startswith(tables.PINNING)]
        purge = {*foreign, *other, *pinning} - set(names)
        return (
            sorted(purge),
            {name: foreign[name] for name in sorted(purge & set(foreign))},
            sorted(purge & set(other) - set(foreign)),
        )

    # -- files

    def _source(self) -> dict[str, Any] | None:
        if self._bundled:
            return None
        if self._origin != "nvidia":
            return {"name": NAME, "state": "absent"} if self._exists(_SOURCES) else None
        return self._repository()

    def _repository(self) -> dict[str, Any]:
        directory, key, fingerprint = tables.REPOSITORIES[self._system]
        dpkg, machine = tables.ARCHITECTURES[self._facts.get("architecture", "x86_64")]
        address = self._settings["repository"] or f"{tables.REPOSITORY}/{directory}/{machine}"
        address = address.rstrip("/") + "/"
        fingerprints = list(self._settings["key_fingerprints"] or [fingerprint])
        return {
            "name": NAME,
            "uris": [address],
            "suites": ["/"],
            "components": [],
            "architectures": [dpkg],
            "key_url": self._settings["key_url"] or f"{address}{key}",
            "fingerprints": fingerprints,
            "replaces": {
                "uris": [tables.REPOSITORY.partition("://")[2]],
                "keys": sorted({tables.WITHDRAWN_KEY, *fingerprints}),
            },
            "state": "present",
        }

    def _lacks_source(self) -> bool:
        if self._bundled or self._origin != "nvidia":
            return self._source() is not None
        return not self._exists(_SOURCES) or not any(self._exists(path) for path in _KEYRINGS)

    def _preferences(self) -> str:
        """The pin, and what it stands on: another key or repository is a change to be seen."""
        if not self._wanted:
            return ""
        source = self._repository()
        return (
            f"# Written by baremetal.vllm (role nvidia_driver): the driver stays at one version.\n"
            f"# Repository: {source['uris'][0]}\n"
            f"# Key: {source['key_url']} {' '.join(source['fingerprints'])}\n"
            f"Package: {' '.join(tables.GLOBS)}\n"
            f"Pin: version {self._wanted}-*\n"
            f"Pin-Priority: 1001\n"
        )

    def _pin(self) -> list[dict[str, str]]:
        text = self._preferences()
        state = "present" if text else "absent"
        return [{"path": PREFERENCES, "content": text, "state": state}]

    def _files(self) -> list[dict[str, Any]]:
        modules = "".join(f"{name}\n" for name in tables.NVLINK5_MODULES) if self._managers else ""
        return [
            {"path": BLACKLIST, "content": _BLACKLIST_TEXT, "state": "present"},
            {
                "path": MODULES,
                "content": modules,
                "state": "present" if modules else "absent",
            },
        ]

    def _rebuild(self) -> str:
        """An initramfs that has loaded nouveau once would do so again."""
        if not self._kernel["nouveau"]:
            return ""
        return next((how for program, how in _INITRAMFS.items() if self._exists(program)), "")

    # -- problems

    def _hopeless(self) -> Iterator[str]:
        if self._origin != "distro":
            return
        cure = "set nvidia_driver_source to 'nvidia'"
        if self._system == "Debian 12":
            yield (
                "nvidia_driver_source is 'distro', but Debian 12 has its open kernel module and its"
                f" libraries in versions that do not work together; {cure}."
            )
        if self._has_switches and not self._set.fabric:
            yield (
                "has NVSwitches, which need the fabric manager, and"
                f" {self._system} has none of its own; {cure}."
            )

    def _outrun(self) -> Iterator[str]:
        names = self._left_behind()
        if names:
            yield (
                f"the kernel has brought module {loaded(self._state)}, and the libraries are still"
                f" {self._nvidia['library']}; upgrade them (apt-get update && apt-get install"
                f" --only-upgrade --allow-change-held-packages {' '.join(names)}), then run again."
            )

    def _another_driver(self, foreign: Mapping[str, str], other: Sequence[str]) -> Iterator[str]:
        nvidia = self._nvidia
        if self._settings["replace"]:
            stray = nvidia["library"] and not self._installed and not self._exists(UNINSTALLER)
            if stray:
                yield (
                    f"has libraries of driver {nvidia['library']} that no package and no"
                    " nvidia-uninstall owns; remove them by hand, or set nvidia_driver_source to"
                    " 'preinstalled' to keep them."
                )
            return
        cure = "set nvidia_driver_replace: true to have it removed, or nvidia_driver_source to"
        if self._exists(UNINSTALLER) or (nvidia["library"] and not self._installed):
            version = nvidia["library"] or loaded(self._state) or "of an unknown version"
            yield (
                f"has driver {version} from NVIDIA's installer or a copy, not from packages, and"
                f" nvidia_driver_source is {self._origin!r}; {cure} 'preinstalled' to keep it."
            )
        # The distribution's source would replace any other set of its own just so.
        kept = any(re.search(r"-server-open\b", name) for name in foreign)
        kept = kept or (self._system == "Debian 13" and "nvidia-open-kernel-dkms" in foreign)
        words = {  # origin: what it is, what keeps it
            "distro": ("from the distribution's packages", "distro" if kept else "preinstalled"),
            "nvidia": ("from NVIDIA's repository", "nvidia"),
            "proprietary": ("with the proprietary kernel module", "preinstalled"),
        }
        for origin, (what, keep) in words.items():
            names = [name for name, each in foreign.items() if each == origin]
            brings = ", which brings the open one" if origin == "proprietary" else ""
            if names:
                yield (
                    f"has a driver {what} ({', '.join(names)}), and nvidia_driver_source is"
                    f" {self._origin!r}{brings}; {cure} {keep!r} to keep it."
                )
        if other and not self._wanted:
            branches = {tables.branch_of(name) for name in other}
            keep = ""
            if len(branches) == 1 and min(branches) >= tables.OLDEST_BRANCH:
                keep = f", or nvidia_driver_version to a release of {min(branches)} to keep it"
            yield (
                f"has a driver of branch {', '.join(map(str, sorted(branches)))}"
                f" ({', '.join(other)}), and nvidia_driver_version asks for {self._branch}; set"
                f" nvidia_driver_replace: true to have it removed{keep}."
            )

    def _downgrade(self) -> Iterator[str]:
        """A newer driver that somebody else chose is not taken away by a default."""
        there = [version for version in (loaded(self._state), self._nvidia["library"]) if version]
        newest = max(there, key=numbers, default="")
        if (
            self._wanted
            and numbers(newest) > numbers(self._wanted)
            and not self._settings["replace"]
            and not (self._state.get("read") or {}).get(PREFERENCES)
        ):
            yield (
                f"has driver {newest}, which no run of this collection has pinned, and"
                f" nvidia_driver_version is {self._wanted}, which is older; set"
                f" nvidia_driver_version to '{newest}' to keep it, or nvidia_driver_replace: true"
                " to have it replaced."
            )

    def _unsigned(self) -> Iterator[str]:
        """Refuse before half of it is installed: a key is enrolled by a person at the console."""
        kernel = self._kernel
        # Another's key, Canonical's or an installer's, says nothing of the one that DKMS signs by.
        others = self._exists(UNINSTALLER) or any(
            name.startswith(tables.PREBUILT) for name in self._installed
        )
        if (
            not kernel["secure_boot"]
            or kernel.get("module_key_enrolled")
            or self._set.prebuilt
            or (self._nvidia["module"] and not others)
        ):
            return
        make, certificate, other = "dkms generate_mok", "/var/lib/dkms/mok.pub", ""
        if self._system.startswith("Ubuntu"):
            make = "update-secureboot-policy --new-key"
            certificate = "/var/lib/shim-signed/mok/MOK.der"
            other = " set nvidia_driver_source to 'distro' for modules that Canonical signed,"
        yield (
            "has Secure Boot on, which refuses a kernel module built here as long as its key is not"
            f" enrolled; switch Secure Boot off in the firmware,{other} or install dkms, run"
            f" `{make} && mokutil --import {certificate}`, reboot, choose Enroll MOK at the"
            " console, then run again."
        )

    def _no_consent(self, reboot: str | None, install: bool) -> Iterator[str]:
        if reboot and self._settings["reboot"] is None:
            yield (
                f"needs a reboot: {reboot}; set nvidia_driver_reboot: true to let the run reboot"
                f" the host once, or false to {'install now and ' if install else ''}reboot it"
                " yourself later."
            )

    def _serves(self, reboot: str | None, disturbs: bool) -> Iterator[str]:
        """A change under a running engine would take its GPUs, at the latest when it restarts."""
        serving = list(self._settings["serving"])
        reboots = reboot and self._settings["reboot"] is True and not self._settings["local"]
        if serving and (disturbs or reboots):
            what = "a reboot" if reboots else "another driver"
            verb, it = ("serves", "it") if len(serving) == 1 else ("serve", "them")
            yield (
                f"needs {what} while {', '.join(serving)} {verb}; stop {it} first (systemctl stop"
                f" {' '.join(serving)}), then run again."
            )

    # -- notes

    def _notes(self) -> Iterator[str]:
        if self._wanted:
            yield from _below_floor(self._wanted)
        elif self._system.startswith("Debian"):
            yield (
                f"takes the driver of {self._system}, whose branch is older than"
                f" {tables.OLDEST_BRANCH}; vLLM's images may refuse it, and it gets no fixes from"
                " NVIDIA. nvidia_driver_source 'nvidia' brings a supported one."
            )
        for gpu in self._gpus:
            if _is_too_old(gpu):
                yield (
                    f"has a GPU from before Turing (10de:{gpu['device']} at {gpu['address']}),"
                    " which the open kernel modules leave out; the others work."
                )
        if (
            sum(gpu["device"] in tables.NVLINK5_DEVICES for gpu in self._gpus) > 1
            and not self._has_switches
        ):
            yield (
                "has GPUs of an HGX baseboard, but no NVSwitch and no bridge that manages one is"
                " seen; if they are there, the fabric manager will be missing (CUDA error 802)."
            )
        pending = pending_kernel(self._state)
        if pending and runs(self._state, self._wanted) and pending not in self._nvidia["built"]:
            package = f"{self._set.prebuilt or 'linux-headers-'}{pending}"
            yield (
                f"kernel {pending} boots next and has no driver; install {package} before the host"
                " is rebooted."
            )
        if not self._settings["local"] or self._settings["reboot"] is not True:
            return
        yield "is the machine that Ansible runs on; it is never rebooted by a run."
