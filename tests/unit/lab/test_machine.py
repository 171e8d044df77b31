# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What the stand-in for a machine shows of a set of GPUs, and who may load a module on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

# ansible-test runs in a copy of the collection that has no lab.
pytest.importorskip("machine.machine", reason="the lab is not in this tree")

from machine import machine
from nvml.build import SETS

Devices = dict[str, dict[str, str]]
Machine = Callable[[str], Devices]


@pytest.fixture
def with_gpus(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The PCI devices of a machine with a set of GPUs."""

    def choose(name: str) -> Devices:
        monkeypatch.setattr(machine, "GPUS", SETS / f"{name}.txt")
        return dict(machine.devices())

    return choose


def classes(devices: Devices) -> list[tuple[str, ...]]:
    keys = ("vendor", "device", "class")
    return sorted({tuple(shown[key] for key in keys) for shown in devices.values()})


def test_one_card_is_a_3d_controller_of_nvidia(with_gpus: Machine) -> None:
    assert with_gpus("l4") == {
        "0000:00:04.0": {
            "vendor": "0x10de",
            "device": "0x27b8",
            "class": "0x030200",
            "subsystem_vendor": "0x10de",
            "subsystem_device": "0x0000",
            "numa_node": "0",
            "modalias": "pci:v000010DEd000027B8sv000010DEsd00000000bc03sc02i00",
        }
    }


def test_switches_of_h100_are_bridges(with_gpus: Machine) -> None:
    devices = with_gpus("h100-8")
    assert len(devices) == 8 + 4
    assert classes(devices) == [("0x10de", "0x22a3", "0x068000"), ("0x10de", "0x2330", "0x030200")]


def test_switches_of_b200_are_managed_through_network_cards(
    with_gpus: Machine,
) -> None:
    devices = with_gpus("b200")
    assert classes(devices) == [("0x10de", "0x2901", "0x030200"), ("0x15b3", "0x1021", "0x020700")]
    cards = [shown for shown in devices.values() if shown["vendor"] == "0x15b3"]
    assert all("SW_MNG" in card["vpd"] for card in cards)


def test_a_card_with_a_display_is_a_vga_controller(with_gpus: Machine) -> None:
    assert classes(with_gpus("rtx4090"))[0][2] == "0x030000"


@pytest.mark.parametrize("path", sorted(SETS.glob("*.txt")), ids=lambda path: path.stem)
def test_every_gpu_of_a_set_has_what_is_shown_of_it(path: Path) -> None:
    gpus = list(machine.sections(path.read_text()))
    assert len({gpu["pci"] for gpu in gpus}) == len(gpus)
    for gpu in gpus:
        assert {"name", "uuid", "pci", "minor", "pci_device", "compute_capability"} <= set(gpu)


def test_a_gpu_that_is_cut_is_one_device() -> None:
    gpus = list(machine.sections((SETS / "mig.txt").read_text()))
    assert [gpu["uuid"].partition("-")[0] for gpu in gpus] == ["GPU"]
