# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What goes and what stays, on real directories and a Docker on a real Unix socket."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.module_utils._docker_api import DockerAPI
from ansible_collections.baremetal.vllm.plugins.module_utils._prune import (
    PruneError,
    Settings,
    Unused,
    prune,
)
from ansible_collections.baremetal.vllm.tests.unit.prune_host import (
    FAMILIAR,
    REPOSITORY,
    A,
    B,
    C,
    Host,
    digest,
)


@pytest.fixture
def new_host(tmp_path: Path) -> Iterator[Callable[..., Host]]:
    hosts: list[Host] = []

    def new() -> Host:
        hosts.append(Host(tmp_path / f"host{len(hosts)}"))
        return hosts[-1]

    yield new
    for host in hosts:
        host.docker.close()


@pytest.fixture
def host(new_host: Callable[..., Host]) -> Host:
    return new_host()


def look(host: Host, keep: int = 1, remove: bool = False, **settings: Any) -> Unused:
    where = {"state_directory": str(host.state), "models_directory": str(host.store), **settings}
    api = DockerAPI(host.docker.socket_path)
    return prune(Settings(keep_releases=keep, **where), api, remove)


def removed(host: Host, keep: int = 1) -> list[str]:
    """Prune, and return the releases, models and remainders that went, by the end of their path."""
    found = look(host, keep, remove=True)
    items = [*found.releases, *found.models, *found.partial]
    assert not [item.path for item in items if os.path.lexists(item.path)]
    return [os.path.relpath(item.path, host.state) for item in items]


def in_home(*names: str, model: str = "org--name") -> list[str]:
    return [f"models/{model}/{name}" for name in names]


# Releases


def four_releases(host: Host) -> None:
    """The names are in another order than the times."""
    host.release("chat", "older", age=30)
    host.release("chat", "aged", age=40)
    host.release("chat", "new", age=20)
    host.release("chat", "force", age=35, in_force=True)


@pytest.mark.parametrize(
    ("keep", "going"),
    [
        (0, ["aged", "new", "older"]),
        (1, ["aged", "older"]),
        (2, ["aged"]),
        (3, []),
        (9, []),
    ],
)
def test_the_release_in_force_and_the_newest_others_stay(
    host: Host, keep: int, going: list[str]
) -> None:
    four_releases(host)
    assert sorted(removed(host, keep)) == [f"chat/releases/{name}" for name in going]
    assert (host.state / "chat/current/release.json").exists()


def test_each_instance_has_its_own_count(host: Host) -> None:
    for instance in ("chat", "code"):
        host.release(instance, "new", in_force=True)
        host.release(instance, "before", age=10)
    assert removed(host) == []


@pytest.mark.parametrize("keep", [0, 1])
def test_a_release_that_waits_for_its_switch_stays_and_is_not_counted(
    host: Host, keep: int
) -> None:
    host.release("chat", "new", in_force=True)
    host.release("chat", "before", age=10)
    host.release("chat", "staged", age=-10)
    assert removed(host, keep) == [[], ["chat/releases/before"]][keep == 0]


def test_an_instance_that_was_never_in_force_keeps_all_its_releases(host: Host) -> None:
    for number in range(3):
        host.release("chat", f"staged{number}", age=number)
    assert removed(host, keep=0) == []


def test_an_instance_whose_release_in_force_is_not_there_keeps_all_others(host: Host) -> None:
    four_releases(host)
    shutil.rmtree(host.state / "chat/releases/force")
    assert removed(host, keep=0) == []


def test_a_release_that_a_container_runs_stays(host: Host) -> None:
    four_releases(host)
    host.docker.container(mounts=(host.state / "chat/releases/aged/config.yaml",))
    assert sorted(removed(host, keep=0)) == ["chat/releases/new", "chat/releases/older"]


def test_a_release_that_cannot_be_read_is_unknown_and_stays(host: Host) -> None:
    four_releases(host)
    (host.state / "chat/releases/aged/release.json").write_text("{")
    found = look(host, keep=0, remove=True)
    assert [each.name for each in found.unknown] == ["chat/aged"]
    assert (host.state / "chat/releases/aged/run").exists()


def test_releases_that_a_link_leads_to_stay_and_their_models_too(host: Host) -> None:
    host.release("chat", "before", [host.model(A)], age=10)
    host.release("chat", "new", [], in_force=True)
    (host.state / "chat").rename(host.root / "elsewhere")
    (host.state / "chat").symlink_to(host.root / "elsewhere")
    assert removed(host, keep=0) == []


# Models


def test_two_instances_share_a_copy_until_neither_is_left(host: Host) -> None:
    copy = host.model(A)
    host.release("chat", "one", [copy], in_force=True)
    host.release("code", "two", [copy], in_force=True)
    host.remove_instance("chat")
    assert removed(host) == []
    host.remove_instance("code")
    assert removed(host) == in_home(A)
    assert os.listdir(host.store) == []


@pytest.mark.parametrize(("keep", "going"), [(1, []), (0, ["chat/releases/before", *in_home(B)])])
def test_the_model_of_the_release_before_stays_as_long_as_it(
    host: Host, keep: int, going: list[str]
) -> None:
    host.release("chat", "new", [host.model(A)], in_force=True)
    host.release("chat", "before", [host.model(B)], age=10)
    assert removed(host, keep) == going


def test_every_model_that_a_release_names_stays(host: Host) -> None:
    host.release("chat", "one", [host.model(A), host.model(B, "org/draft")], in_force=True)
    host.model(C)
    assert removed(host) == in_home(C)


@pytest.mark.parametrize(
    ("state", "stays"), [("running", True), ("paused", True), ("exited", False)]
)
def test_a_model_that_a_running_container_mounts_stays(host: Host, state: str, stays: bool) -> None:
    host.docker.container(state=state, mounts=(host.model(A),))
    assert removed(host) == ([] if stays else in_home(A))


@pytest.mark.parametrize(
    ("mount", "stays"),
    [
        ("vllm/models", True),
        ("vllm/models/org--name", True),
        (f"vllm/models/org--name/{A}/config.json", True),
        ("vllm", True),
        (".", False),
        (f"vllm/models/org--name/{A[:9]}", False),
    ],
)
def test_a_mount_counts_from_our_directories_downwards(host: Host, mount: str, stays: bool) -> None:
    host.model(A)
    host.docker.container(mounts=(host.root / mount,))
    assert removed(host) == ([] if stays else in_home(A))


def test_a_model_that_is_mounted_through_a_link_stays(host: Host) -> None:
    copy = host.model(A)
    (host.root / "link").symlink_to(host.store)
    host.docker.container(mounts=(host.root / "link" / copy.relative_to(host.store),))
    assert removed(host) == []


def test_a_release_of_an_older_collection_needs_all_copies_of_its_model(host: Host) -> None:
    host.model(A)
    host.model(B)
    other = host.model(C, "org/other")
    host.release("chat", "one", None, in_force=True, model="org/name@main")
    assert removed(host) == [str(other.relative_to(host.state))]


def test_a_model_given_as_a_directory_of_the_store_stays(host: Host) -> None:
    host.release("chat", "one", None, in_force=True, model=f"{host.model(A)}/")
    assert removed(host) == []


@pytest.mark.parametrize("named", ["link", "vllm/models"])
def test_what_the_command_of_a_release_mounts_stays(host: Host, named: str) -> None:
    (host.root / "link").symlink_to(host.store)
    host.model(A)
    release = host.release("chat", "one", [], in_force=True)
    mount = f"type=bind,source={host.root / named}/org--name/{A},target=/models/draft,readonly"
    (release / "run").write_text(f"exec docker run --mount {mount}\n")
    host.model(B)
    found = look(host, models_directory=str(host.root / "link"))
    assert [item.name for item in found.models] == [f"org/name@{B}"]


def test_the_command_of_a_release_that_cannot_be_read_counts_too(host: Host) -> None:
    release = host.release("chat", "one", [], in_force=True)
    (release / "run").write_text(f"exec docker run --mount type=bind,source={host.model(A)}\n")
    (release / "release.json").unlink()
    assert removed(host) == []


def test_a_store_behind_a_link_is_the_same_store(host: Host) -> None:
    copy = host.model(A)
    host.model(B)
    link = host.root / "link"
    link.symlink_to(host.store)
    host.release("chat", "one", [link / copy.relative_to(host.store)], in_force=True)
    found = look(host, models_directory=str(link))
    assert [item.path for item in found.models] == [str(host.store / f"org--name/{B}")]


def test_sizes_are_those_of_all_files(host: Host) -> None:
    manifest = host.model(A).with_suffix(".json")
    found = look(host)
    assert found.sizes == [1000 + manifest.stat().st_size]


def test_without_remove_nothing_changes(host: Host) -> None:
    four_releases(host)
    host.model(A, revision="main")
    host.partial(B)
    host.docker.image("9")
    before = host.tree()
    found = look(host, keep=0)
    assert found.releases and found.models and found.partial
    assert host.tree() == before
    assert {line.partition(" ")[0] for line in host.docker.asked} == {"GET"}


def test_a_host_without_anything_has_nothing_to_prune(host: Host) -> None:
    shutil.rmtree(host.state)
    assert look(host, remove=True).sizes == []


# What is not whole


def test_a_download_that_was_cut_off_goes(host: Host) -> None:
    host.partial(B)
    assert removed(host) == in_home(f"{B}.partial")


def test_a_download_of_what_a_release_names_stays(host: Host) -> None:
    partial = host.partial(B)
    host.release("chat", "one", [partial.with_name(B)], in_force=True)
    assert removed(host) == []


def test_a_download_into_which_a_container_writes_stays(host: Host) -> None:
    host.docker.container(mounts=(host.partial(B),))
    assert removed(host) == []


@pytest.mark.parametrize("remove", [False, True])
def test_a_model_that_is_being_downloaded_is_left_until_that_has_ended(
    host: Host, remove: bool
) -> None:
    host.model(A, revision="main")
    host.partial(B)
    before = host.tree()
    with open(host.home("org/name") / ".lock", "r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert look(host, remove=remove).sizes == []
        assert host.tree() == before
    assert sorted(removed(host)) == in_home(A, f"{B}.partial")


def test_no_download_begins_in_a_directory_while_it_is_pruned(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, tried, rename = host.model(A), [], os.rename

    def rename_and_try(source: str, target: str) -> None:
        with open(copy.with_name(".lock"), "r+b") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        tried.append(source)
        rename(source, target)

    monkeypatch.setattr(os, "rename", rename_and_try)
    look(host, remove=True)
    assert tried == [str(copy)]


def test_a_copy_without_manifest_goes(host: Host) -> None:
    host.model(A).with_suffix(".json").unlink()
    assert removed(host) == in_home(A)


def test_a_copy_without_manifest_that_a_release_names_stays(host: Host) -> None:
    copy = host.model(A)
    copy.with_suffix(".json").unlink()
    host.release("chat", "one", [copy], in_force=True)
    assert removed(host) == []


def test_a_manifest_without_its_copy_goes(host: Host) -> None:
    shutil.rmtree(host.model(A))
    assert removed(host) == in_home(f"{A}.json")


def test_a_write_that_was_cut_off_goes(host: Host) -> None:
    (host.home("org/name") / ".new-x7d2").write_text("{")
    assert removed(host) == in_home(".new-x7d2")


def test_names_of_commits_that_go_are_forgotten(host: Host) -> None:
    stays = host.model(A, revision="main")
    host.model(B, revision="v1")
    host.partial(C)
    host.release("chat", "one", [stays], in_force=True)
    look(host, remove=True)
    assert json.loads((stays.parent / "revisions.json").read_text()) == {"main": A}
    assert sorted(path.name for path in stays.parent.iterdir()) == [
        ".lock",
        A,
        f"{A}.json",
        "revisions.json",
    ]


def test_the_name_of_a_copy_that_stays_is_kept_when_its_repair_was_cut_off(host: Host) -> None:
    copy = host.model(A, revision="main")
    host.partial(A)
    (copy / "notes.txt").write_text("mine")
    assert removed(host) == in_home(f"{A}.partial")
    assert json.loads((copy.parent / "revisions.json").read_text()) == {"main": A}


def test_the_directory_of_a_model_goes_with_its_last_copy(host: Host) -> None:
    host.model(A, revision="main")
    look(host, remove=True)
    assert os.listdir(host.store) == []


def test_a_directory_of_which_nothing_is_left_goes(host: Host) -> None:
    (host.home("org/name") / "revisions.json").write_text("{}")
    assert removed(host) == ["models/org--name"]


# What is not ours


def test_what_nobody_here_knows_is_listed_and_left(host: Host) -> None:
    (host.store / "hub/models--org--name/blobs").mkdir(parents=True)
    (host.store / "hub/models--org--name/blobs/x").write_bytes(b"w" * 700)
    (host.store / "notes.txt").write_text("mine")
    (host.store / "lost+found").mkdir()
    home = host.home("org/name")
    (home / "adapter").mkdir()
    (home / f"{A}.json").mkdir()
    before = host.tree()
    found = look(host, remove=True)
    assert [(each.path, each.bytes) for each in found.unknown] == [
        (str(host.store / "hub"), 700),
        (str(host.store / "notes.txt"), 4),
        (str(home / f"{A}.json"), 0),
        (str(home / "adapter"), 0),
    ]
    assert found.sizes == []
    assert host.tree() == before


def test_a_copy_with_a_file_that_is_not_in_its_manifest_stays(host: Host) -> None:
    copy = host.model(A, revision="main")
    (copy / "adapter").mkdir()
    (copy / "adapter/weights").write_text("mine")
    before = host.tree()
    found = look(host, remove=True)
    assert [each.path for each in found.unknown] == [str(copy / "adapter/weights")]
    assert host.tree() == before


@pytest.fixture
def elsewhere(host: Host) -> Path:
    directory = host.root / "elsewhere"
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    return directory


@pytest.mark.parametrize("name", ["org--linked", f"org--name/{A}", f"org--name/{A}.partial"])
def test_a_link_is_listed_and_neither_followed_nor_removed(
    host: Host, elsewhere: Path, name: str
) -> None:
    host.home("org/name")
    (host.store / name).symlink_to(elsewhere)
    found = look(host, remove=True)
    assert [each.path for each in found.unknown] == [str(host.store / name)]
    assert (host.store / name).is_symlink()
    assert (elsewhere / "config.json").exists()


def test_the_manifest_of_a_copy_that_is_a_link_stays_with_it(host: Host, elsewhere: Path) -> None:
    copy = host.model(A)
    shutil.rmtree(copy)
    copy.symlink_to(elsewhere)
    assert removed(host) == []
    assert copy.with_suffix(".json").exists()


def test_a_manifest_that_is_a_link_is_none(host: Host, elsewhere: Path) -> None:
    manifest = host.model(A).with_suffix(".json")
    manifest.rename(elsewhere / "manifest")
    manifest.symlink_to(elsewhere / "manifest")
    found = look(host, remove=True)
    assert [each.path for each in found.unknown] == [str(manifest)]
    assert [each.why for each in found.partial] == ["it has no manifest, so it counts as missing"]
    assert manifest.is_symlink()


def test_a_link_to_a_directory_within_a_copy_keeps_it(host: Host, elsewhere: Path) -> None:
    copy = host.model(A)
    (copy / "adapter").symlink_to(elsewhere)
    found = look(host, remove=True)
    assert [each.path for each in found.unknown] == [str(copy / "adapter")]
    assert (copy / "adapter").is_symlink()


def test_a_link_within_a_copy_is_not_followed(host: Host, elsewhere: Path) -> None:
    copy = host.model(A)
    (copy / "config.json").unlink()
    (copy / "config.json").symlink_to(elsewhere / "config.json")
    partial = host.partial(B)
    (partial / "link").symlink_to(elsewhere)
    assert sorted(removed(host)) == in_home(A, f"{B}.partial")
    assert (elsewhere / "config.json").exists()


def test_a_link_in_the_place_of_the_trash_is_refused(host: Host, elsewhere: Path) -> None:
    host.partial(B).with_name(".trash").symlink_to(elsewhere)
    assert [each.name for each in look(host).unknown] == ["org/name"]
    with pytest.raises(OSError, match=r"\.trash"):
        look(host, remove=True)
    assert os.listdir(elsewhere) == ["config.json"]


# Images


def images(host: Host, keep: int = 1) -> list[str]:
    """Prune, and return the digests of the images that are left."""
    look(host, keep, remove=True)
    return [name for image in host.docker.images for name in image["RepoDigests"]]


def test_an_image_goes_with_the_last_release_that_names_it(host: Host) -> None:
    host.docker.image("1")
    host.docker.image("2", tags=("v0.31.0", "old"))
    host.release("chat", "new", [], in_force=True, image="1")
    host.release("chat", "before", [], age=10, image="2")
    both = [f"{FAMILIAR}@{digest('1')}", f"{FAMILIAR}@{digest('2')}"]
    assert images(host, keep=1) == both
    assert images(host, keep=0) == both[:1]


def test_an_image_that_a_release_names_by_its_tag_stays(host: Host) -> None:
    host.docker.image("2", tags=("v0.32.0",))
    host.release("chat", "one", [], in_force=True, image="1", reference=f"{REPOSITORY}:v0.32.0")
    assert images(host) == [f"{FAMILIAR}@{digest('2')}"]


@pytest.mark.parametrize("state", ["running", "exited", "created"])
def test_an_image_that_a_container_uses_stays(host: Host, state: str) -> None:
    host.docker.container(image=host.docker.image("2"), state=state)
    host.release("chat", "one", [], in_force=True, image="1")
    assert images(host) == [f"{FAMILIAR}@{digest('2')}"]
    assert {line.partition(" ")[0] for line in host.docker.asked} == {"GET"}


def test_a_dangling_image_of_our_repositories_goes(host: Host) -> None:
    host.docker.image("2")
    host.docker.images[0]["RepoTags"] = ["<none>:<none>"]
    host.release("chat", "one", [], in_force=True, image="1")
    assert images(host) == []


def test_images_of_other_repositories_stay(host: Host) -> None:
    host.docker.image("2", repository="nginx")
    host.docker.image("3", repository="registry.example.com:5000/vllm/vllm-openai")
    host.docker.images.append({"Id": digest("4"), "RepoTags": None, "RepoDigests": None, "Size": 1})
    host.release("chat", "one", [], in_force=True, image="1")
    assert look(host, remove=True).images == []
    assert len(host.docker.images) == 3


def test_the_registry_and_its_port_are_part_of_a_repository(host: Host) -> None:
    ours = "registry.example.com:5000/vllm"
    host.docker.image("2", repository=ours)
    host.docker.image("3", repository=ours, tags=("v1",))
    named = {"image": f"{ours}@{digest('2')}"}
    host.release("chat", "one", [], in_force=True)
    text = host.state / "chat/releases/one/release.json"
    text.write_text(json.dumps({**json.loads(text.read_text()), **named}))
    assert images(host) == [f"{ours}@{digest('2')}"]


def test_an_image_that_has_another_name_too_stays_whole(host: Host) -> None:
    host.docker.image("2", tags=("v0.31.0",))
    host.docker.images[0]["RepoTags"].append("mine/vllm:test")
    host.release("chat", "one", [], in_force=True, image="1")
    look(host, remove=True)
    assert host.docker.images[0]["RepoTags"] == [f"{FAMILIAR}:v0.31.0", "mine/vllm:test"]


def local(letter: str) -> str:
    return f"localhost/{FAMILIAR}:{letter * 64}"


def name_locally(host: Host, letter: str, loaded: bool = False) -> None:
    """Give the image that came last its local name; one that was loaded has no other."""
    image = host.docker.images[-1]
    image["RepoTags"] = [local(letter), *(image["RepoTags"] or [])]
    if loaded:
        image["RepoTags"], image["RepoDigests"] = [local(letter)], []


@pytest.mark.parametrize("loaded", [False, True], ids=["pulled", "loaded"])
@pytest.mark.parametrize("earlier", [False, True], ids=["local", "by digest"])
def test_an_image_goes_with_all_its_names(host: Host, loaded: bool, earlier: bool) -> None:
    """Releases of earlier collections name it by its digest."""
    for letter in "12":
        host.docker.image(letter, tags=("v1",) if letter == "2" else ())
        name_locally(host, letter, loaded)
    host.release("chat", "new", [], in_force=True, image="1")
    host.release("chat", "before", [], age=10, image="2")
    for release, letter in (("new", "1"), ("before", "2")):
        path = host.state / "chat/releases" / release / "release.json"
        said = json.loads(path.read_text())
        if not earlier:
            written = path.stat().st_mtime
            path.write_text(
                json.dumps({**said, "image": local(letter), "reference": said["image"]})
            )
            os.utime(path, (written, written))
    look(host, keep=1, remove=True)
    assert len(host.docker.images) == 2
    found = look(host, keep=0, remove=True)
    assert [image.names[-1] for image in found.images] == [local("2")]
    assert [image["RepoTags"] for image in host.docker.images] == [[local("1")]]


def test_an_image_that_lost_its_local_name_is_still_the_one_of_its_release(host: Host) -> None:
    host.docker.image("1")
    release = host.release("chat", "one", [], in_force=True)
    said = json.loads((release / "release.json").read_text())
    named = {"image": local("1"), "reference": f"{REPOSITORY}:v1"}
    (release / "release.json").write_text(json.dumps({**said, **named}))
    assert images(host) == [f"{FAMILIAR}@{digest('1')}"]


@pytest.mark.parametrize("tag", ["mine", "2" * 63, "latest"])
def test_images_that_somebody_built_below_localhost_stay(host: Host, tag: str) -> None:
    host.docker.image("2", tags=("v1",))
    host.docker.images[0].update(RepoTags=[f"localhost/{FAMILIAR}:{tag}"], RepoDigests=[])
    host.release("chat", "one", [], in_force=True, image="1")
    assert look(host, remove=True).images == []
    assert len(host.docker.images) == 1


def test_an_image_in_use_stays_whatever_it_is_called(host: Host) -> None:
    host.docker.container(image=host.docker.image("2"))
    name_locally(host, "2")
    host.release("chat", "one", [], in_force=True, image="1")
    assert images(host) == [f"{FAMILIAR}@{digest('2')}"]
    assert host.docker.images[0]["RepoTags"] == [local("2")]


def test_an_image_that_docker_refuses_to_remove_is_told_and_the_others_go(host: Host) -> None:
    host.docker.children.add(host.docker.image("2"))
    host.docker.image("3")
    host.release("chat", "one", [], in_force=True, image="1")
    found = look(host, remove=True)
    assert [image.name for image in found.images] == [f"{FAMILIAR}@{digest('3')}"]
    assert "unable to delete" in found.refused[0]


# Docker


def test_without_docker_it_lists_what_releases_tell(host: Host) -> None:
    host.model(A)
    host.docker.close()
    found = look(host)
    assert "docker.sock" in found.silence
    assert [item.name for item in found.models] == [f"org/name@{A}"]


def test_without_docker_nothing_is_removed(host: Host) -> None:
    host.model(A)
    host.docker.close()
    before = host.tree()
    with pytest.raises(PruneError, match=r"Nothing is removed.*systemctl start docker"):
        look(host, remove=True)
    assert host.tree() == before


def test_without_docker_and_with_nothing_to_remove_all_is_well(host: Host) -> None:
    host.docker.close()
    assert look(host, remove=True).sizes == []


def test_an_error_of_docker_is_told(host: Host) -> None:
    host.model(A)
    host.docker.failure = (500, "database is locked")
    with pytest.raises(PruneError, match=r"journalctl -u docker.*database is locked"):
        look(host, remove=True)
    assert (host.store / f"org--name/{A}.json").exists()


# Killed in between


class Killed(BaseException):
    """The process is no more."""


@contextlib.contextmanager
def killed_after(calls: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """End the process after so many system calls that change a directory."""
    left = [calls]

    def wrapped(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:  # for all that follows: what is dead cleans nothing up
                raise Killed
            return call(*arguments, **options)

        return counted

    with monkeypatch.context() as patch:
        for name in ("mkdir", "rename", "replace", "rmdir", "unlink"):
            patch.setattr(os, name, wrapped(getattr(os, name)))
        yield


def test_a_copy_that_was_fetched_anew_goes_though_its_old_self_is_in_the_trash(host: Host) -> None:
    copy = host.model(A)
    trash = copy.with_name(".trash")
    trash.mkdir()
    copy.rename(trash / A)
    host.model(A)
    assert sorted(removed(host)) == in_home(f".trash/{A}", A)
    assert os.listdir(host.store) == []


def prunable(host: Host) -> None:
    host.release("chat", "new", [host.model(A, revision="main")], in_force=True, image="1")
    host.release("chat", "before", [host.model(B, revision="v1")], age=10, image="2")
    before = host.state / "chat/releases/before/release.json"
    written = before.stat().st_mtime
    before.write_text(
        json.dumps({"id": "before", "image": f"mirror.example.com/vllm@{digest('2')}"})
    )
    os.utime(before, (written, written))
    host.release("chat", "first", [], age=20, image="1")
    host.model(A, "org/other", revision="main")
    host.partial(C)
    host.docker.image("1")
    host.docker.image("2", repository="mirror.example.com/vllm")


def test_wherever_it_is_killed_no_half_copy_is_left_and_the_next_run_ends_the_work(
    new_host: Callable[..., Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = new_host()
    prunable(whole)
    look(whole, keep=0, remove=True)
    names = {"config.json", "model.safetensors", "tokenizer"}
    for calls in range(100):
        host = new_host()
        prunable(host)
        try:
            with killed_after(calls, monkeypatch):
                look(host, keep=0, remove=True)
            break
        except Killed:
            pass
        for manifest in host.store.glob(f"*/{'?' * 40}.json"):
            copy = manifest.with_suffix("")
            assert set(os.listdir(copy)) == names, f"half a copy after {calls} calls"
        look(host, keep=0, remove=True)
        assert sorted(host.tree()) == sorted(whole.tree()), f"something is left after {calls} calls"
        assert host.docker.images == whole.docker.images
        assert look(host, keep=0).sizes == []
    assert 20 < calls < 99
    left = [name for image in whole.docker.images for name in image["RepoDigests"]]
    assert left == [f"{FAMILIAR}@{digest('1')}"]
    assert sorted(whole.tree()) == [
        "chat/releases/new/release.json",
        "chat/releases/new/run",
        "models/org--name/.lock",
        f"models/org--name/{A}.json",
        f"models/org--name/{A}/config.json",
        f"models/org--name/{A}/model.safetensors",
        f"models/org--name/{A}/tokenizer/vocab",
        "models/org--name/revisions.json",
    ]
