# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The driver packages of NVIDIA's CUDA repository for Debian, as stand-ins.

Names, dependencies and version strings are those of the repository for Debian 12 and 13, which
keeps every release it ever had. As there, much is asked for as `>=`: who pins one package gets the
newest of the others.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from vendor.package import EXECUTABLE, File, Package

RELEASES = ("580.159.04", "580.178.04", "580.190.08", "595.91.07")
"""Driver releases; the third is the test's own, a security release that is yet to come."""
SUBNET_MANAGER = "2025.10.14-1"
"""nvlsm has a version of its own."""

HERE = Path(__file__).resolve().parent
STAND_INS = HERE / "stand_in"
LIBRARIES = "/usr/lib/x86_64-linux-gnu"
_FLAGS = ("-std=c11", "-D_DEFAULT_SOURCE", "-O1", "-Wall", "-Wextra", "-Werror")

# Libraries that nothing here calls: file names by package.
_EMPTY_LIBRARIES = {
    "libcuda1": "libcuda.so",
    "libnvidia-cfg1": "libnvidia-cfg.so",
    "libnvidia-ptxjitcompiler1": "libnvidia-ptxjitcompiler.so",
    "nvidia-opencl-icd": "libnvidia-opencl.so",
}

_START = """\
if [ "$1" = configure ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    systemctl enable --quiet {unit}
    systemctl restart {unit} || true
fi
"""
_STOP = """\
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    systemctl disable --quiet --now {unit} || true
fi
"""
# What dh_dkms writes.
_DKMS_POSTINST = """\
if [ "$1" = configure ]; then
    /usr/lib/dkms/common.postinst nvidia {release} /usr/share/nvidia-kernel-open-dkms "" "$2"
fi
"""
_DKMS_PRERM = """\
if [ "$(dkms status -m nvidia -v {release})" ]; then
    dkms remove -m nvidia -v {release} --all
fi
"""
_PINNING = """\
Package: cuda-drivers* src:nvidia-open:any src:*nvidia*:any
Pin: version {version}
Pin-Priority: 1000
"""


def packages(work: Path) -> Iterator[Package]:
    """Every package of the repository; compiled parts come to lie below `work`."""
    for release in RELEASES:
        yield from _driver(release, work)
    yield Package(
        "nvlsm",
        SUBNET_MANAGER,
        {"Depends": "libibumad3"},
        files={"/opt/nvidia/nvlsm/sbin/nvlsm": File.script("#!/bin/sh\nexec sleep infinity\n")},
    )
    for branch in ("580", "595"):
        yield _pinning(f"nvidia-driver-pinning-{branch}", f"{branch}-1", f"{branch}*")


def _driver(release: str, work: Path) -> Iterator[Package]:
    version = f"{release}-1"
    yield from _kernel(release, version)
    yield from _libraries(release, version, work)
    yield _pinning(f"nvidia-driver-pinning-{release}", version, f"{release}-*")
    yield Package(
        "nvidia-driver-cuda",
        version,
        {
            "Source": "nvidia-graphics-drivers",
            "Depends": ", ".join(
                [
                    *(f"{name} (= {version})" for name in ("libnvidia-ml1", *_EMPTY_LIBRARIES)),
                    f"nvidia-kernel-open-dkms (= {version}) | nvidia-kernel-dkms (= {version})",
                    f"nvidia-persistenced (>= {release})",
                    f"nvidia-modprobe (>= {release})",
                ]
            ),
            "Conflicts": "nvidia-smi",
            "Replaces": "nvidia-smi",
        },
        files={
            "/usr/bin/nvidia-smi": File(_compiled_smi(release, work), EXECUTABLE),
        },
    )
    yield Package(
        "nvidia-open",
        version,
        {
            "Source": "nvidia-open",
            "Depends": f"nvidia-driver-cuda (>= {release}), nvidia-kernel-open-dkms (>= {release})",
        },
        architecture="all",
    )
    yield Package(
        "nvidia-modprobe", version, files={"/usr/bin/nvidia-modprobe": File.script("#!/bin/sh\n")}
    )
    yield _service(
        "nvidia-persistenced",
        version,
        {"/usr/bin/nvidia-persistenced": _stand_in("nvidia-persistenced", release)},
        {"Depends": f"libnvidia-cfg1 (>= {release})"},
        starts=True,
    )
    yield from _fabric(release, version)


def _kernel(release: str, version: str) -> Iterator[Package]:
    source = f"/usr/src/nvidia-{release}"
    yield Package(
        "firmware-nvidia-gsp",
        version,
        {"Source": "nvidia-graphics-drivers"},
        files={f"/lib/firmware/nvidia/{release}/gsp_ga10x.bin": File.text("stand-in\n")},
    )
    yield Package(
        "nvidia-kernel-support",
        version,
        {"Source": "nvidia-graphics-drivers", "Depends": f"nvidia-modprobe (>= {release})"},
    )
    common = {
        "Source": "nvidia-graphics-drivers",
        "Depends": f"dkms (>= 3.0), nvidia-kernel-support (= {version}), "
        f"firmware-nvidia-gsp (= {version})",
        "Provides": f"nvidia-kernel-dkms-any, nvidia-kernel-{release}",
    }
    yield Package(
        "nvidia-kernel-open-dkms",
        version,
        {**common, "Conflicts": "nvidia-kernel-dkms", "Replaces": "nvidia-kernel-dkms"},
        files={
            f"{source}/{path.name}": _stand_in(f"dkms/{path.name}", release, mode=0o644)
            for path in sorted((STAND_INS / "dkms").iterdir())
        },
        scripts={
            "postinst": _DKMS_POSTINST.format(release=release),
            "prerm": _DKMS_PRERM.format(release=release),
        },
    )
    yield Package(
        "nvidia-kernel-dkms",
        version,
        {**common, "Conflicts": "nvidia-kernel-open-dkms", "Replaces": "nvidia-kernel-open-dkms"},
    )


def _libraries(release: str, version: str, work: Path) -> Iterator[Package]:
    source = {"Source": "nvidia-graphics-drivers"}
    file = f"{LIBRARIES}/libnvidia-ml.so.{release}"
    yield Package(
        "libnvidia-ml1",
        version,
        source,
        files={file: File(_compiled_nvml(release, work))},
        links={
            f"{LIBRARIES}/libnvidia-ml.so.1": Path(file).name,
            f"{LIBRARIES}/libnvidia-ml.so": "libnvidia-ml.so.1",
        },
        scripts={"postinst": "ldconfig\n", "postrm": "ldconfig\n"},
    )
    for name, library in _EMPTY_LIBRARIES.items():
        yield Package(
            name,
            version,
            source,
            files={f"{LIBRARIES}/{library}.{release}": File.text("stand-in\n")},
        )


def _fabric(release: str, version: str) -> Iterator[Package]:
    yield _service(
        "nvidia-fabricmanager",
        version,
        {
            "/usr/bin/nvidia-fabricmanager-start.sh": _stand_in(
                "nvidia-fabricmanager-start.sh", release
            ),
            "/usr/bin/nv-fabricmanager": File.script(
                f"#!/bin/sh\necho 'Fabric Manager version is : {release}'\n"
            ),
            "/usr/share/nvidia/nvswitch/fabricmanager.cfg": File.text("# stand-in\n"),
        },
        {"Source": "fabricmanager"},
        starts=False,
    )
    for name in ("libnvidia-nscq", "libnvsdm"):
        yield Package(name, version, files={f"{LIBRARIES}/{name}.so.2": File.text("stand-in\n")})
    yield Package(
        "nvidia-imex", version, files={"/usr/bin/nvidia-imex": File.script("#!/bin/sh\n")}
    )
    branch = release.partition(".")[0]
    at_least = f"(>= {branch})"
    yield Package(
        f"nvlink5-{branch}" if branch == "580" else "nvlink5",
        version,
        {
            "Depends": f"libnvidia-nscq {at_least}, libnvsdm {at_least}, "
            f"nvidia-fabricmanager {at_least}, nvidia-imex {at_least}, "
            f"nvidia-kernel-open-dkms {at_least}, nvidia-driver-cuda {at_least}, "
            "nvlsm (>= 2025.10.12)",
        },
        architecture="all",
    )


def _service(
    name: str, version: str, files: Mapping[str, File], fields: Mapping[str, str], starts: bool
) -> Package:
    unit = f"{name}.service"
    script = {"postinst": _START.format(unit=unit)} if starts else {}
    return Package(
        name,
        version,
        fields,
        files={**files, f"/lib/systemd/system/{unit}": _stand_in(unit, version, mode=0o644)},
        scripts={**script, "prerm": _STOP.format(unit=unit)},
    )


def _pinning(name: str, version: str, pinned: str) -> Package:
    file = "/etc/apt/preferences.d/nvidia-driver-pin"
    only_one = dict.fromkeys(("Provides", "Conflicts", "Replaces"), "nvidia-driver-pinning")
    return Package(
        name,
        version,
        only_one,
        files={file: File.text(_PINNING.format(version=pinned))},
        conffiles=[file],
        architecture="all",
    )


def _stand_in(name: str, release: str, mode: int = EXECUTABLE) -> File:
    text = (STAND_INS / name).read_text().replace("@RELEASE@", release)
    return File(text.encode(), mode)


def _compiled_nvml(release: str, work: Path) -> Path:
    linked = ("-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1")
    return _compile("nvml_installed.c", work / f"libnvidia-ml.so.{release}", release, *linked)


def _compiled_smi(release: str, work: Path) -> Path:
    return _compile("nvidia_smi.c", work / f"nvidia-smi-{release}", release)


def _compile(source: str, target: Path, release: str, *options: str) -> Path:
    work = target.parent
    work.mkdir(parents=True, exist_ok=True)
    defined = f'-DRELEASE="{release}"'
    command = ["cc", *_FLAGS, *options, defined, "-o", target, STAND_INS / source, "-ldl"]
    subprocess.run([*map(str, command)], check=True)
    return target
