# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Ten hosts and a model of a GiB: over the uplink once, cut in the middle, refused without a seed.

The tests are in the order of the fleet's life.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import client_image
import large_model
import pytest
from conftest import ENVIRONMENT, LAB, ROOT, SCENARIO, address, lab_host, playbook

MODEL = f"openai-lab/{large_model.NAME}"
HOME = f"/var/lib/vllm/models/openai-lab--{large_model.NAME}"
SEED, *OTHERS = SCENARIO.gpu_hosts
CUT = OTHERS[:4]
PORT = 8791
SIGHT_SECONDS = 300
MIB = 2**20
SERVING = "Serve the models to the hosts that lack them"


def on(name: str, command: str) -> str:
    """What a command prints on a host; it has to succeed."""
    return str(lab_host(name).check_output(command))


def endpoint() -> str:
    return str(json.loads((ROOT / ".cache/lab/hub.json").read_text())["endpoint"])


def sent() -> Counter[tuple[str, str, str]]:
    """What the hub has sent of the model: client, file, and `bytes` or `requests` -> how many.

    It serves other labs of this machine, too: nothing is cleared there, and others may do so.
    """
    with urllib.request.urlopen(f"{endpoint()}/_sent", timeout=30) as answer:
        found = json.load(answer)
    return Counter(
        {
            (client, file.removeprefix(f"{MODEL}/"), what): number
            for client, files in found.items()
            for file, counts in files.items()
            if file.startswith(f"{MODEL}/")
            for what, number in counts.items()
        }
    )


def partial_bytes(name: str) -> int:
    """What a download that was cut has left on a host."""
    sizes = on(name, f"find {HOME}/*.partial -type f -printf '%s\\n' 2>/dev/null || true")
    return sum(map(int, sizes.split()))


def received(name: str) -> int:
    return int(on(name, "cat /sys/class/net/eth0/statistics/rx_bytes"))


def forget(*names: str) -> None:
    """Take the model from hosts, as if they were new in the fleet."""
    for name in names:
        on(name, f"rm -rf {HOME}")


def seed_containers() -> list[str]:
    """Hosts on which a seed's container is, running or not."""
    listed = "docker ps --all --quiet --filter name=^/vllm-seed$"
    return [name for name in SCENARIO.gpu_hosts if on(name, listed)]


def sentence(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(scope="module", autouse=True)
def files() -> Iterator[dict[str, int]]:
    """The model's files and their sizes, for as long as the hub has them."""
    lab = [sys.executable, str(ROOT / "molecule/shared/lab")]
    client_image.push()
    sizes = large_model.make()
    subprocess.run([*lab, "hub"], check=True, capture_output=True)
    yield sizes
    large_model.remove()
    subprocess.run([*lab, "hub"], check=True, capture_output=True)


@dataclass(frozen=True)
class Staged:
    """The first run of the fleet, and what it has taken from the hub."""

    output: str
    sent: Counter[tuple[str, str, str]]


@pytest.fixture(scope="module")
def staged() -> Staged:
    forget(*SCENARIO.gpu_hosts)
    before = sent()
    run = playbook("stage")
    assert run.code == 0, run.output
    return Staged(run.output, sent() - before)


def test_every_byte_leaves_the_hub_once(staged: Staged, files: dict[str, int]) -> None:
    once = {(address(SEED), name, "bytes"): size for name, size in files.items()}
    assert staged.sent == once | {(address(SEED), name, "requests"): 1 for name in files}


def test_one_host_serves_the_others(staged: Staged) -> None:
    (task,) = re.findall(rf"TASK \[.*{SERVING}\].*\n((?:\w+: \[.*\n)+)", staged.output)
    assert re.findall(r"^(?:ok|changed): \[(\w+)\]", task, re.MULTILINE) == [SEED]
    assert seed_containers() == []


@pytest.mark.usefixtures("staged")
def test_all_have_the_same_complete_copy(files: dict[str, int]) -> None:
    manifests = {on(name, f"cat {HOME}/*.json | sha256sum") for name in SCENARIO.gpu_hosts}
    assert len(manifests) == 1
    listing = f"cd {HOME}/*/ && find . -type f -printf '%P %s\\n'"
    for name in SCENARIO.gpu_hosts:
        lines = (line.split() for line in on(name, listing).splitlines())
        assert {path: int(size) for path, size in lines} == files
        assert partial_bytes(name) == 0


@pytest.mark.usefixtures("staged")
def test_what_came_from_the_seed_is_what_the_hub_has() -> None:
    (manifest,) = on(OTHERS[-1], f"ls -d {HOME}/*/").split()
    wanted = json.loads(on(OTHERS[-1], f"cat {manifest.rstrip('/')}.json"))
    assert wanted["source"] == endpoint()
    for name, file in wanted["files"].items():
        assert on(OTHERS[-1], f"sha256sum {manifest}{name}").split()[0] == file["sha256"]


@pytest.mark.usefixtures("staged")
def test_a_second_run_transfers_nothing() -> None:
    before = sent()
    run = playbook("stage")
    assert run.code == 0, run.output
    assert [run.recap(name)["changed"] for name in SCENARIO.gpu_hosts] == [0] * 10
    assert SERVING not in run.output
    assert not sent() - before


@pytest.fixture(scope="module")
def cut(staged: Staged) -> tuple[str, dict[str, int], dict[str, Any], str]:
    """Output of a run whose seed dies while four hosts fetch, and what they have by then.

    And of the seed before: what Docker shows of it, and what it answers a stranger.
    """
    del staged
    forget(*CUT)
    command = ["ansible-playbook", "playbooks/stage.yml", *SCENARIO.inventory_arguments]
    run = subprocess.Popen(
        command,
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        part = f"$(du -sb {HOME}/*.partial 2>/dev/null | cut -f1)"
        until = f"until x={part}; [ ${{x:-0}} -gt {64 * MIB} ]; do sleep 0.05; done"
        seen = lab_host(CUT[0]).run(f"timeout {SIGHT_SECONDS} sh -c '{until}'")
        shown = on(SEED, "docker inspect vllm-seed")
        stranger = on(
            CUT[0], f"curl -s -o /dev/null -w '%{{http_code}}' http://{address(SEED)}:{PORT}/"
        )
        on(SEED, "docker kill vllm-seed")
        output, _errors = run.communicate(timeout=SIGHT_SECONDS)
    finally:
        run.kill()
    assert seen.rc == 0, output
    assert run.returncode != 0, output
    return output, {name: partial_bytes(name) for name in CUT}, json.loads(shown)[0], stranger


Cut = tuple[str, dict[str, int], dict[str, Any], str]


def test_the_seed_has_no_rights_and_no_secret_in_sight(cut: Cut) -> None:
    _output, _kept, shown, stranger = cut
    host = shown["HostConfig"]
    assert host["PortBindings"] == {"8790/tcp": [{"HostIp": address(SEED), "HostPort": str(PORT)}]}
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["AutoRemove"]) == (True, ["ALL"], True)
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert [mount["RW"] for mount in shown["Mounts"]] == [False]
    assert shown["Config"]["User"] == SCENARIO.user
    seen = json.dumps([shown["Path"], shown["Args"], shown["Config"], host["Binds"]])
    assert not re.search(r"(?<![A-Za-z0-9])[A-Za-z0-9]{40}(?![A-Za-z0-9])", seen)
    assert stranger == "404"


def test_a_seed_that_dies_fails_the_run_in_a_sentence(cut: Cut) -> None:
    output, kept, _shown, _stranger = cut
    assert "what has arrived is kept" in sentence(output), output
    assert all(size > 0 for size in kept.values()), kept
    assert seed_containers() == []


def test_the_next_run_fetches_the_rest_alone(cut: Cut, files: dict[str, int]) -> None:
    kept = cut[1]
    uplink, before = sent(), {name: received(name) for name in CUT}
    run = playbook("stage")
    assert run.code == 0, run.output
    total = sum(files.values())
    for name in CUT:
        rest = total - kept[name]
        assert rest <= received(name) - before[name] < rest * 1.05 + 8 * MIB, name
    # The seed has had everything all the time.
    assert not sent() - uplink


@pytest.mark.usefixtures("staged")
def test_without_a_seed_a_run_is_refused_before_anything_is_fetched() -> None:
    forget(CUT[0])
    before = sent()
    run = playbook("stage", "--limit", CUT[0])
    assert run.code != 0
    assert "none of these takes part in this run" in sentence(run.output), run.output
    assert partial_bytes(CUT[0]) == 0
    assert not sent() - before


@pytest.mark.usefixtures("staged")
def test_check_mode_says_what_would_be_fetched_and_serves_nothing() -> None:
    forget(CUT[0])
    run = playbook("stage", "--check", "--limit", f"{SEED},{CUT[0]}")
    assert run.code == 0, run.output
    assert run.recap(CUT[0])["changed"] > 0
    assert run.recap(SEED)["changed"] == 0
    assert seed_containers() == []


@pytest.mark.usefixtures("staged")
def test_a_host_that_is_new_gets_it_from_a_seed_that_lacks_nothing() -> None:
    forget(CUT[0])
    before = sent()
    run = playbook("stage", "--limit", f"{SEED},{CUT[0]}")
    assert run.code == 0, run.output
    assert run.recap(SEED)["changed"] == 0
    assert not sent() - before
    on(CUT[0], f"test -s {HOME}/*/config.json")


def test_nothing_is_started(staged: Staged) -> None:
    del staged
    for name in SCENARIO.gpu_hosts:
        assert on(name, "docker ps --all --quiet") == "", f"{LAB}-{name}"
