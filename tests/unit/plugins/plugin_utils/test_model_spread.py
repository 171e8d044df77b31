# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Who gets models from whom, so that the uplink is read once."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from ansible_collections.baremetal.vllm.plugins.filter.model_from_seed import model_from_seed
from ansible_collections.baremetal.vllm.plugins.filter.model_spread import model_spread
from ansible_collections.baremetal.vllm.plugins.plugin_utils._model_spread import from_seed, spread

SMALL, LARGE = "openai/gpt-oss-20b", "openai/gpt-oss-120b"
COMMIT = "1a" * 20


def model(name: str, missing: bool = True, commit: str = COMMIT, gib: int = 13) -> dict[str, Any]:
    """One model of a host."""
    return {
        "name": name,
        "asked": name,
        "commit": commit,
        "missing": missing,
        "fetch_bytes": gib * 2**30 if missing else 0,
    }


def has(*names: str) -> dict[str, Any]:
    return {name: model(name, missing=False) for name in names}


def lacks(*names: str) -> dict[str, Any]:
    return {name: model(name) for name in names}


def fleet(**models: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return models


def test_hosts_that_lack_a_model_get_it_from_the_seed() -> None:
    found = spread(fleet(a=lacks(SMALL), b=lacks(SMALL), c=has(SMALL)), ["a"])
    assert found == {"seeds": ["a"], "hosts": {"b": {SMALL: "a"}}, "longest": 1}


def test_a_seed_that_lacks_nothing_serves_too() -> None:
    found = spread(fleet(a=has(SMALL), b=lacks(SMALL)), ["a"])
    assert (found["seeds"], found["hosts"]) == (["a"], {"b": {SMALL: "a"}})


@pytest.mark.parametrize("seed", [has(SMALL), lacks(SMALL)])
def test_where_only_seeds_lack_something_nobody_serves(seed: dict[str, Any]) -> None:
    found = spread(fleet(a=seed, b=lacks(SMALL), c=has(SMALL)), ["a", "b"])
    assert found == {"seeds": [], "hosts": {}, "longest": 0}


def test_hosts_are_shared_out_in_turn() -> None:
    lacking = {f"host{number}": lacks(SMALL) for number in range(1, 6)}
    found = spread({**lacking, "a": has(SMALL), "b": lacks(SMALL)}, ["a", "b"])
    assert [found["hosts"][f"host{number}"][SMALL] for number in range(1, 6)] == [*"ababa"]


def test_a_seed_that_sends_more_of_one_model_sends_less_of_another() -> None:
    hosts = {
        "c": {LARGE: model(LARGE, gib=61)},
        "d": lacks(SMALL),
        "e": lacks(SMALL),
        "f": lacks(SMALL),
    }
    found = spread({"a": has(SMALL, LARGE), "b": has(SMALL, LARGE), **hosts}, ["a", "b"])
    assert found["hosts"]["c"] == {LARGE: "a"}
    assert {found["hosts"][host][SMALL] for host in "def"} == {"b"}


def test_only_a_seed_that_has_the_model_serves_it() -> None:
    found = spread(fleet(a=has(LARGE), b=lacks(SMALL), c=lacks(SMALL, LARGE)), ["a", "b"])
    assert found == {"seeds": ["a", "b"], "hosts": {"c": {SMALL: "b", LARGE: "a"}}, "longest": 2}


@pytest.mark.parametrize(
    "seed", [{}, has(LARGE), {SMALL: model(SMALL, missing=False, commit="2b" * 20)}]
)
def test_a_model_that_no_seed_has_at_this_commit_comes_from_the_source(
    seed: dict[str, Any],
) -> None:
    assert spread(fleet(a=seed, b=lacks(SMALL)), ["a"])["hosts"] == {}


def test_seeds_that_take_no_part_do_not_count() -> None:
    assert spread(fleet(b=lacks(SMALL)), ["a"]) == {"seeds": [], "hosts": {}, "longest": 0}


def test_two_names_of_one_copy_come_from_one_seed() -> None:
    """They are fetched once, and the other name must not have the next host go elsewhere."""
    twice = {SMALL: model(SMALL), f"{SMALL}@v1": {**model(SMALL), "asked": f"{SMALL}@v1"}}
    found = spread(fleet(a=has(SMALL), b=has(SMALL), c=twice, d=lacks(SMALL)), ["a", "b"])
    assert found["hosts"]["c"] == {SMALL: "a", f"{SMALL}@v1": "a"}
    assert found["hosts"]["d"] == {SMALL: "b"}


class TestFromSeed:
    KEY = "k3y" * 12
    LISTING: ClassVar[dict[str, Any]] = {
        "model": SMALL,
        "commit": COMMIT,
        "source": "https://huggingface.co",
        "files": [
            {"path": "config.json", "size": 3, "sha256": "3c" * 32, "url": "https://hub/1"},
            {
                "path": "a b/c?.json",
                "size": 4,
                "sha256": None,
                "git_sha1": "4d",
                "url": "https://2",
            },
        ],
    }

    def test_files_come_from_the_seed_and_names_are_quoted(self) -> None:
        found = from_seed(self.LISTING, "http://192.0.2.11:8790", self.KEY)
        home = f"http://192.0.2.11:8790/openai--gpt-oss-20b/{COMMIT}"
        assert [file["url"] for file in found["files"]] == [
            f"{home}/config.json?{self.KEY}",
            f"{home}/a%20b/c%3F.json?{self.KEY}",
        ]

    def test_all_that_is_verified_stays_the_source_s(self) -> None:
        found = from_seed(self.LISTING, "http://192.0.2.11:8790", self.KEY)
        assert self._without_addresses(found) == self._without_addresses(self.LISTING)

    @staticmethod
    def _without_addresses(listing: dict[str, Any]) -> dict[str, Any]:
        return {**listing, "files": [{**file, "url": ""} for file in listing["files"]]}

    def test_the_listing_itself_is_left_as_it_is(self) -> None:
        before = [dict(file) for file in self.LISTING["files"]]
        from_seed(self.LISTING, "http://192.0.2.11:8790", self.KEY)
        assert self.LISTING["files"] == before


def test_the_filters_take_what_templates_give_them() -> None:
    variables = {
        "fleet": fleet(
            a=has(SMALL), b={SMALL: {**model(SMALL), "name": trust_as_template("{{ n }}")}}
        ),
        "n": SMALL,
        "listing": TestFromSeed.LISTING,
    }
    templar = Templar(loader=DataLoader(), variables=variables)
    given = templar.template(trust_as_template("{{ fleet }}"))
    assert model_spread(given, ["a"])["hosts"] == {"b": {SMALL: "a"}}
    listing = templar.template(trust_as_template("{{ listing }}"))
    found = model_from_seed(listing, "http://a:1", "key")
    assert all(file["url"].endswith("?key") for file in found["files"])
