# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
from __future__ import annotations

from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils._models import (
    asked,
    decide,
    disk_needs,
    expected,
    extra_directories,
)

GIB = 2**30
COMMIT, OTHER = "c0" * 20, "c1" * 20
STORE = "/store"
GPT = "openai/gpt-oss-20b"
LISTING = {
    "model": GPT,
    "revision": "main",
    "commit": COMMIT,
    "files": [{"path": "a.safetensors", "size": 10 * GIB}, {"path": "config.json", "size": GIB}],
}


def instance(**changes: Any) -> dict[str, Any]:
    return {"name": "one", "model": GPT} | changes


def decided(
    found: dict[str, Any] | None = None, listings: dict[str, Any] | None = None
) -> dict[str, Any]:
    return decide({GPT: GPT}, {GPT: found} if found else {}, listings or {}, STORE)[GPT]


def test_what_is_to_come_is_said_once_for_each_copy() -> None:
    one = {
        "name": "openai/gpt-oss-20b",
        "commit": "6cee5e81ee83917806bbde320786a8fb61efebee",
        "directory": "/store/one",
        "missing": True,
        "bytes": 13 * 2**30,
        "fetch_bytes": 2**30,
    }
    there = {**one, "directory": "/store/two", "missing": False}
    assert expected({"a": one, "b": one, "c": there}, "/store", 5 * 2**30) == [
        "openai/gpt-oss-20b at 6cee5e81ee83: 1.00 of 13.00 GiB are still to come;"
        " 5.0 GiB are free in /store"
    ]


def test_models_of_a_host_with_their_pins() -> None:
    instances = [
        instance(),
        instance(name="two", model="org/x@v1", extra_models={"draft": "org/draft"}),
        instance(name="three", model="/srv/models/x"),
        instance(name="four", model="org/gone", state="absent"),
    ]
    pins = {"models": {GPT: COMMIT, "org/draft": OTHER}}
    assert asked(instances, pins) == {
        GPT: f"{GPT}@{COMMIT}",
        "org/x@v1": "org/x@v1",
        "org/draft": f"org/draft@{OTHER}",
    }


def test_directories_that_instances_read_besides() -> None:
    instances = [instance(extra_models={"a": "/srv/a", "b": "org/b"}), instance(state="absent")]
    assert extra_directories(instances) == ["/srv/a"]


def test_a_model_that_the_host_has_is_not_missing_whatever_the_source_says() -> None:
    found = {"commit": OTHER, "complete": True, "damaged": [], "bytes": 7, "partial_bytes": 0}
    entry = decided(found, {GPT: LISTING})
    assert (entry["commit"], entry["missing"], entry["fetch_bytes"]) == (OTHER, False, 0)
    assert entry["directory"] == f"/store/openai--gpt-oss-20b/{OTHER}"


def test_a_model_that_the_host_lacks_comes_whole() -> None:
    entry = decided(None, {GPT: LISTING})
    assert (entry["commit"], entry["missing"]) == (COMMIT, True)
    assert entry["bytes"] == entry["fetch_bytes"] == 11 * GIB


def test_what_is_there_of_a_cut_download_is_not_fetched_again() -> None:
    found = {"commit": COMMIT, "complete": False, "damaged": [], "partial_bytes": 4 * GIB}
    assert decided(found, {GPT: LISTING})["fetch_bytes"] == 7 * GIB


def test_of_a_damaged_copy_only_the_damaged_files_come() -> None:
    found = {"commit": COMMIT, "complete": False, "damaged": ["config.json"], "partial_bytes": 0}
    assert decided(found, {GPT: LISTING})["fetch_bytes"] == GIB


def test_a_model_that_nobody_knows_is_left_out() -> None:
    assert decide({GPT: GPT}, {}, {}, STORE) == {}


def test_room_is_wanted_once_for_a_copy_with_two_names() -> None:
    listings = {GPT: LISTING, f"{GPT}@main": LISTING}
    both = decide({GPT: GPT, f"{GPT}@main": f"{GPT}@main"}, {}, listings, STORE)
    assert disk_needs(both, STORE) == [{"path": STORE, "need_gib": 11.6, "what": GPT, "adds": True}]


def test_no_room_is_wanted_for_what_is_there() -> None:
    found = {GPT: {"commit": COMMIT, "complete": True, "damaged": [], "partial_bytes": 0}}
    assert disk_needs(decide({GPT: GPT}, found, {}, STORE), STORE) == []


def test_a_damaged_copy_is_mended_with_its_own_commit_whatever_the_branch_is_now() -> None:
    ask = f"{GPT}@{COMMIT}"
    found = {"ask": ask, "commit": COMMIT, "complete": False, "damaged": ["config.json"]}
    moved = LISTING | {"commit": OTHER}
    entry = decided(found, {ask: LISTING, GPT: moved})
    assert (entry["asked"], entry["commit"], entry["fetch_bytes"]) == (ask, COMMIT, GIB)
