# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The packages of NVIDIA's container toolkit, as stand-ins around the vendor's own units."""

from __future__ import annotations

from collections.abc import Iterator

from vendor.nvidia import LIBRARIES, STAND_INS
from vendor.package import EXECUTABLE, File, Package

RELEASES = ("1.18.0", "1.19.1", "1.20.1")
UNITS = ("nvidia-cdi-refresh.path", "nvidia-cdi-refresh.service")

# Up to 1.19 the units are conffiles and the script of the package enables them.
_UNITS_IN_ETC = ("1.18.0", "1.19.1")
_POSTINST = """\
if [ "$1" = configure ]; then
    nvidia-ctk --quiet config --in-place
    if [ -d /run/systemd/system ]; then
        case $(systemctl is-system-running || true) in
        running | degraded)
            systemctl daemon-reload
            systemctl enable --quiet nvidia-cdi-refresh.path nvidia-cdi-refresh.service
            systemctl start nvidia-cdi-refresh.path || true
            systemctl start nvidia-cdi-refresh.service || true
            ;;
        esac
    fi
fi
"""
_PRERM = """\
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    systemctl disable --quiet --now nvidia-cdi-refresh.path nvidia-cdi-refresh.service || true
fi
"""


def packages() -> Iterator[Package]:
    """The four packages of every release."""
    for release in RELEASES:
        version = f"{release}-1"
        yield _base(release, version)
        yield Package(
            "nvidia-container-toolkit",
            version,
            {
                "Depends": f"nvidia-container-toolkit-base (= {version}), "
                f"libnvidia-container-tools (= {version})"
            },
            files={"/usr/bin/nvidia-container-runtime-hook": File.script("#!/bin/sh\n")},
        )
        yield Package(
            "libnvidia-container-tools",
            version,
            {"Depends": f"libnvidia-container1 (>= {version})"},
            files={"/usr/bin/nvidia-container-cli": File.script("#!/bin/sh\n")},
        )
        yield Package(
            "libnvidia-container1",
            version,
            files={f"{LIBRARIES}/libnvidia-container.so.{release}": File.text("stand-in\n")},
        )


def _base(release: str, version: str) -> Package:
    in_etc = release in _UNITS_IN_ETC
    directory = "/etc/systemd/system" if in_etc else "/lib/systemd/system"
    units = {f"{directory}/{unit}": File((STAND_INS / unit).read_bytes()) for unit in UNITS}
    environment = "/etc/nvidia-container-toolkit/nvidia-cdi-refresh.env"
    program = (STAND_INS / "nvidia-ctk").read_text().replace("@RELEASE@", release)
    # dpkg's maintscript helper takes the old conffiles away, which would shadow the new units.
    moved = "".join(
        f'dpkg-maintscript-helper rm_conffile /etc/systemd/system/{unit} 1.20.0~ -- "$@"\n'
        for unit in UNITS
    )
    return Package(
        "nvidia-container-toolkit-base",
        version,
        {"Breaks": "nvidia-container-runtime (<= 3.5.0-1)"},
        files={
            "/usr/bin/nvidia-ctk": File(program.encode(), EXECUTABLE),
            "/usr/bin/nvidia-cdi-hook": File.script("#!/bin/sh\n"),
            "/usr/bin/nvidia-container-runtime": File.script('#!/bin/sh\nexec runc "$@"\n'),
            environment: File.text("# NVIDIA_CTK_CDI_OUTPUT_FILE_PATH=/var/run/cdi/nvidia.yaml\n"),
            **units,
        },
        scripts={
            "postinst": ("" if in_etc else moved) + _POSTINST,
            "prerm": ("" if in_etc else moved) + _PRERM,
            **({} if in_etc else {"preinst": moved, "postrm": moved}),
        },
        conffiles=[environment, *(units if in_etc else ())],
    )
