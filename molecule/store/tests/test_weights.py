# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Weights on a host: whole, fetched once, mended, shared, and freed when nobody uses them.

The tests are in the order of a host's life; the last ones take the instances away.
"""

from __future__ import annotations

import json
import re
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from conftest import ROOT, Run, Scenario, playbook
from on_host import HOST, module, run

HUB: dict[str, Any] = json.loads((ROOT / ".cache/lab/hub.json").read_text())
MODEL = "openai-lab/gpt-oss-tiny"
COMMIT = HUB["models"][MODEL]
HOME = "/var/lib/vllm/models/openai-lab--gpt-oss-tiny"
COPY = f"{HOME}/{COMMIT}"
SMALL = "/srv/small"
VARIABLES = yaml.safe_load((ROOT / "molecule/store/inventory/group_vars/all.yml").read_text())
ONE: dict[str, Any] = VARIABLES["lab_one"]
TWO = ONE | {"name": "two", "port": 8001}
ABSENT_ONE, ABSENT_TWO = ({"name": name, "state": "absent"} for name in ("one", "two"))


def hub(method: str, path: str, content: Any = None) -> Any:
    """Ask the hub for something, or have it fail in some way."""
    body = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(f"{HUB['endpoint']}{path}", data=body, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def sent() -> dict[str, int]:
    """Bytes that have left the hub, by file."""
    found: dict[str, int] = {}
    for files in hub("GET", "/_sent").values():
        for name, counts in files.items():
            found[name.removeprefix(f"{MODEL}/")] = counts["bytes"]
    return found


def started(scenario: Scenario) -> str:
    return run(f"systemctl show -P ActiveEnterTimestampMonotonic {scenario.unit}")


def manifest() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(f"cat {COPY}.json"))
    return found


@pytest.fixture(autouse=True)
def _hub_is_well() -> Iterator[None]:
    hub("DELETE", "/_faults")
    hub("DELETE", "/_sent")
    yield
    hub("DELETE", "/_faults")


@pytest.fixture
def small_disk() -> Iterator[str]:
    """A directory of its own with room for the model and little more."""
    size = sum(file["size"] for file in manifest()["files"].values())
    run(f"mkdir -p {SMALL} && mount -t tmpfs -o size={size + 8 * 2**20} none {SMALL}")
    yield SMALL
    run(f"umount {SMALL}")


def listing() -> dict[str, Any]:
    """What the source says of the model, as preflight asks it."""
    found = module("model_source", models=[MODEL], endpoint=HUB["endpoint"])
    result: dict[str, Any] = found["listings"][0]
    return result


def image() -> str:
    return run("docker inspect --format '{{.Config.Image}}' vllm-one")


def fetch(store: str) -> dict[str, Any]:
    return module("model_fetch", store=store, listing=listing(), image=image(), timeout=240)


def fetch_meanwhile(store: str) -> tuple[threading.Thread, list[dict[str, Any]]]:
    results: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: results.append(fetch(store)))
    thread.start()
    return thread, results


def slowly(bytes_per_second: int) -> None:
    fault = {"path": "*.safetensors", "kind": "slow", "times": None}
    hub("PUT", "/_faults", fault | {"bytes_per_second": bytes_per_second})


def wait_for_weights(store: str) -> None:
    """Wait until some of the weights have arrived."""
    found = f"find {store} -name '*.safetensors.part' -size +256k"
    run(f'for _ in $(seq 300); do [ -n "$({found})" ] && exit; sleep 0.1; done; exit 1')


# -- whole, and once ------------------------------------------------------------------------------


def test_every_file_is_what_its_manifest_says() -> None:
    said = manifest()
    assert (said["model"], said["commit"]) == (MODEL, COMMIT)
    lines = "".join(f"{file['sha256']}  {COPY}/{name}\n" for name, file in said["files"].items())
    run(f"sha256sum --check --quiet <<'X'\n{lines}X")
    assert json.loads(run(f"cat {HOME}/revisions.json")) == {"main": COMMIT}
    assert run(f"find {HOME} -name '*.part*'") == ""
    assert run(f"find {COPY} -type f ! -perm 0644") == ""


def test_the_engine_reads_the_copy_and_cannot_write_it(scenario: Scenario) -> None:
    inspected = json.loads(run("docker inspect vllm-one"))[0]
    mount = next(each for each in inspected["Mounts"] if each["Destination"] == "/model")
    assert (mount["Source"], mount["RW"]) == (COPY, False)
    assert "HF_HUB_OFFLINE=1" in inspected["Config"]["Env"]
    release = json.loads(run(f"cat {scenario.current}/release.json"))
    assert (release["model"], release["commit"], release["weights"]) == (MODEL, COMMIT, [COPY])


def test_a_second_run_asks_nobody(scenario: Scenario) -> None:
    for path in ("/api/*", "/openai-lab/*", "/cdn/*"):
        hub("PUT", "/_faults", {"path": path, "kind": "500", "times": None})
    before = started(scenario)
    again = playbook("site")
    assert (again.code, again.recap(HOST)["changed"]) == (0, 0), again.output
    assert sent() == {}
    run(f"systemctl restart {scenario.unit}")
    assert started(scenario) != before
    assert playbook("site").code == 0, "the engine starts without the hub"


# -- what is wrong is told before anything is changed ---------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model": "openai-lab/nothing"}, "openai-lab/nothing"),
        ({"model": f"{MODEL}@v9"}, "v9"),
    ],
    ids=["no such model", "no such revision"],
)
def test_a_model_that_cannot_be_had_is_refused(changes: dict[str, str], sentence: str) -> None:
    before = run("find /var/lib/vllm /etc/vllm /etc/systemd | sort | sha256sum")
    refused = playbook("site", extra={"vllm_instances": [ONE | changes]})
    assert refused.code == 2
    failures = [line for line in refused.output.splitlines() if "[ERROR]" in line or "msg:" in line]
    assert any(sentence in line for line in failures), refused.output
    assert run("find /var/lib/vllm /etc/vllm /etc/systemd | sort | sha256sum") == before


def test_a_disk_that_is_too_small_is_refused(small_disk: str) -> None:
    run(f"dd if=/dev/zero of={small_disk}/filler bs=1M count=9 2>/dev/null || true")
    refused = playbook("site", extra={"model_store_directory": f"{small_disk}/models"})
    assert refused.code == 2
    assert re.search(
        rf"{small_disk}/models has 0\.\d GiB free and {MODEL} needs", refused.output
    ), refused.output
    assert run(f"ls {small_disk}") == "filler"


# -- what breaks off goes on ----------------------------------------------------------------------


def test_a_disk_that_fills_up_ends_with_a_sentence_and_the_next_run_goes_on(
    small_disk: str, scenario: Scenario
) -> None:
    before = started(scenario)
    slowly(2 * 2**20)
    thread, results = fetch_meanwhile(f"{small_disk}/models")
    wait_for_weights(small_disk)
    run(f"dd if=/dev/zero of={small_disk}/filler bs=1M 2>/dev/null || true")
    thread.join()
    full = f"The disk of {small_disk}/models is full while"
    assert results[0].get("msg", "").startswith(full), results
    kept = int(run(f"find {small_disk}/models -name '*.safetensors.part' -printf '%s'"))
    assert kept > 2**18

    run(f"rm {small_disk}/filler")
    hub("DELETE", "/_faults")
    hub("DELETE", "/_sent")
    assert fetch(f"{small_disk}/models")["changed"]
    weights = next(name for name in manifest()["files"] if name.endswith(".safetensors"))
    assert sent()[weights] <= manifest()["files"][weights]["size"] - kept
    assert started(scenario) == before


def test_a_download_that_is_killed_is_not_begun_anew(small_disk: str) -> None:
    slowly(2 * 2**20)
    thread, results = fetch_meanwhile(f"{small_disk}/models")
    wait_for_weights(small_disk)
    run("docker kill $(docker ps --quiet --filter name=vllm-fetch)")
    thread.join()
    assert "ended with status 137" in results[0].get("msg", ""), results
    hub("DELETE", "/_faults")
    assert fetch(f"{small_disk}/models")["changed"]
    for name, file in manifest()["files"].items():
        # What was on its way when the process ended had left the hub and did not arrive.
        assert sent()[name] <= file["size"] + 2**20, name


# -- what is damaged is mended --------------------------------------------------------------------


def test_a_file_that_was_cut_short_is_fetched_again(scenario: Scenario) -> None:
    before = started(scenario)
    run(f"truncate --size=-10 {COPY}/tokenizer.json")
    mended = playbook("site")
    assert mended.code == 0, mended.output
    assert sent() == {"tokenizer.json": manifest()["files"]["tokenizer.json"]["size"]}
    assert started(scenario) == before
    assert playbook("site").recap(HOST)["changed"] == 0


def test_a_byte_that_has_changed_is_found_by_verify_and_mended(scenario: Scenario) -> None:
    weights = next(name for name in manifest()["files"] if name.endswith(".safetensors"))
    run(f"printf X | dd of={COPY}/{weights} bs=1 seek=100000 conv=notrunc 2>/dev/null")
    found = playbook("verify")
    assert found.code == 2
    assert f"{weights} has the sha256" in found.output, found.output
    mended = playbook("site", extra={"model_store_check": "full"})
    assert mended.code == 0, mended.output
    assert sent() == {weights: manifest()["files"][weights]["size"]}
    verified = playbook("verify")
    assert verified.code == 0, verified.output


# -- shared, and freed ----------------------------------------------------------------------------


def prune(*arguments: str) -> Run:
    done = playbook("prune", *arguments)
    assert done.code == 0, done.output
    return done


def test_another_instance_of_the_model_uses_the_same_copy() -> None:
    """It takes the place of the first: one edge fronts one name."""
    instead = playbook("site", extra={"vllm_instances": [ABSENT_ONE, TWO]})
    assert instead.code == 0, instead.output
    assert sent() == {}
    mounts = run("docker inspect --format '{{range .Mounts}}{{.Source}} {{end}}' vllm-two")
    assert COPY in mounts.split()
    assert run(f"ls {HOME}").split() == sorted([COMMIT, f"{COMMIT}.json", "revisions.json"])


def test_the_copy_stays_while_one_instance_uses_it() -> None:
    assert prune("-e", "prune_remove=true").recap(HOST)["changed"] == 0
    assert run(f"ls {COPY}/config.json")


def test_removing_the_last_and_pruning_frees_it() -> None:
    gone = playbook("site", extra={"vllm_instances": [ABSENT_ONE, ABSENT_TWO]})
    assert gone.code == 0, gone.output
    listed = prune()
    assert MODEL in listed.output
    assert listed.recap(HOST)["changed"] == 0
    assert run(f"ls {COPY}/config.json"), "without prune_remove it lists only"
    assert prune("-e", "prune_remove=true").recap(HOST)["changed"] == 1
    assert run("ls -A /var/lib/vllm/models") == ""
