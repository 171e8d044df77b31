# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The store of models: what is looked at, what is read, and how a download becomes a copy."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat

import pytest

from ansible_collections.baremetal.vllm.plugins.module_utils import _model_install as installing
from ansible_collections.baremetal.vllm.plugins.module_utils import _model_store as store_of
from ansible_collections.baremetal.vllm.plugins.module_utils._model_store import (
    Copy,
    StoreError,
    damaged,
    look,
    read_revisions,
    record_revision,
    verify,
)

MODEL = "openai-lab/tiny"
COMMIT = "c0ffee" + "12" * 17
OTHER = "decade" + "34" * 17
CONTENT = {"config.json": b"{}", "a.safetensors": b"weights" * 100, "sub/b.txt": b"text"}
SOURCE = "https://hub.example.com"
ME = (os.geteuid(), os.getegid())


def entry(content):
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


FILES = {name: entry(content) for name, content in CONTENT.items()}
LISTED = [{"path": name, "git_sha1": None, "url": "", **file} for name, file in FILES.items()]


def write(directory, content=None):
    for name, data in (CONTENT if content is None else content).items():
        path = os.path.join(directory, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)


def content_of(directory):
    found = {}
    for parent, _directories, names in os.walk(directory):
        for name in names:
            path = os.path.join(parent, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, directory)] = file.read()
    return found


def json_of(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


@pytest.fixture
def copy(tmp_path):
    return Copy.of(str(tmp_path / "models"), MODEL, COMMIT)


@pytest.fixture
def whole(copy):
    """A copy that is complete."""
    write(copy.partial)
    installing.install(copy, SOURCE, FILES)
    return copy


# Names


def test_a_copy_lies_below_its_model_and_commit(copy, tmp_path):
    home = tmp_path / "models" / "openai-lab--tiny"
    assert copy.directory == str(home / COMMIT)
    assert copy.manifest == str(home / f"{COMMIT}.json")
    assert copy.partial == str(home / f"{COMMIT}.partial")
    assert str(copy) == "openai-lab/tiny at c0ffee12"


@pytest.mark.parametrize(
    "model", ["tiny", "a/b/c", "../b", "a/..", "a/b\n", "", "a/ b", "/b", "a--b/c"]
)
def test_names_that_lead_elsewhere_are_refused(tmp_path, model):
    with pytest.raises(StoreError, match="allowed is org/name"):
        Copy.of(str(tmp_path), model, COMMIT)


@pytest.mark.parametrize("commit", ["main", "../x", COMMIT[1:], COMMIT + "0", COMMIT.upper(), ""])
def test_only_a_commit_names_a_copy(tmp_path, commit):
    with pytest.raises(StoreError, match="40 hex digits"):
        Copy.of(str(tmp_path), MODEL, commit)


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "a//b", "", "a/", "./a"])
def test_paths_that_lead_elsewhere_are_refused(path):
    with pytest.raises(StoreError, match="no path within a model"):
        store_of.checked_path(path)


# Looking


def test_a_store_that_does_not_exist_has_nothing(tmp_path):
    assert look(str(tmp_path / "absent")) == []


def test_what_is_no_model_is_passed_over(tmp_path):
    (tmp_path / "hub" / "models--org--name").mkdir(parents=True)
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "a--b" / "notes").mkdir(parents=True)
    (tmp_path / "a--file").write_text("")
    assert look(str(tmp_path)) == []


def test_a_complete_copy_is_told_with_all_that_is_known(whole):
    record_revision(whole, "main")
    assert look(whole.store) == [
        {
            "model": MODEL,
            "commit": COMMIT,
            "directory": whole.directory,
            "source": SOURCE,
            "manifest": True,
            "complete": True,
            "missing": [],
            "wrong_size": [],
            "damaged": [],
            "files": 3,
            "bytes": sum(map(len, CONTENT.values())),
            "partial_bytes": 0,
            "revisions": ["main"],
        }
    ]


def test_missing_files_and_files_of_another_size_are_named(whole):
    os.unlink(os.path.join(whole.directory, "config.json"))
    write(whole.directory, {"sub/b.txt": b"longer than it was"})
    found = look(whole.store)[0]
    assert (found["complete"], found["missing"]) == (False, ["config.json"])
    assert found["wrong_size"] == ["sub/b.txt"]
    assert found["damaged"] == ["config.json", "sub/b.txt"]


def test_a_link_is_no_file(whole):
    path = os.path.join(whole.directory, "config.json")
    os.rename(path, f"{whole.home}/elsewhere")
    os.symlink(f"{whole.home}/elsewhere", path)
    assert look(whole.store)[0]["missing"] == ["config.json"]


@pytest.mark.parametrize(
    "manifest",
    [
        None,
        "",
        "[]",
        '{"model": "m"}',
        '{"model": "m", "files": {"a": 1}}',
        '{"model": "m", "files": {"../a": {"size": 1, "sha256": "' + 64 * "0" + '"}}}',
    ],
)
def test_a_directory_without_a_manifest_counts_as_missing(whole, manifest):
    os.unlink(whole.manifest)
    if manifest is not None:
        with open(whole.manifest, "w", encoding="utf-8") as file:
            file.write(manifest)
    found = look(whole.store)[0]
    assert (found["complete"], found["manifest"]) == (False, False)
    assert set(damaged(whole, LISTED)) == set(CONTENT)


def test_a_download_that_was_cut_off_is_told_in_bytes(copy):
    write(
        copy.partial, {"a.safetensors.part": b"12345", "config.json": b"{}", ".progress.json": b"9"}
    )
    found = look(copy.store)
    assert [(each["complete"], each["partial_bytes"]) for each in found] == [(False, 7)]


def test_every_commit_of_a_model_is_a_copy(whole):
    second = Copy.of(whole.store, MODEL, OTHER)
    write(second.partial)
    installing.install(second, SOURCE, FILES)
    assert [each["commit"] for each in look(whole.store)] == [COMMIT, OTHER]


def test_what_a_listing_has_more_than_the_manifest_is_lacking(whole):
    more = {"path": "new.json", "size": 2, "sha256": None}
    assert damaged(whole, LISTED) == []
    assert damaged(whole, [*LISTED, more]) == ["new.json"]
    assert damaged(whole, LISTED[:1]) == []


def test_another_hash_in_the_listing_is_another_file(whole):
    changed = [{**LISTED[0], "sha256": "0" * 64}, *LISTED[1:]]
    assert damaged(whole, changed) == ["config.json"]


# Verifying


def test_a_copy_that_is_as_it_was_has_no_problems(whole):
    found = verify(whole)
    assert found.problems == ()
    assert found.bytes == sum(map(len, CONTENT.values()))


def test_each_file_that_is_not_as_it_was_is_named(whole):
    os.unlink(os.path.join(whole.directory, "config.json"))
    wrong = b"Weights" + CONTENT["a.safetensors"][7:]
    write(whole.directory, {"a.safetensors": wrong, "sub/b.txt": b"tex", "sub/new.txt": b""})
    os.symlink("/etc", os.path.join(whole.directory, "link"))
    digests = [entry(wrong)["sha256"][:12], FILES["a.safetensors"]["sha256"][:12]]
    assert [(problem.path, problem.text) for problem in verify(whole).problems] == [
        ("a.safetensors", f"has the sha256 {digests[0]} instead of {digests[1]}"),
        ("config.json", "is missing"),
        ("link", "is not in the manifest"),
        ("sub/b.txt", "has 3 bytes instead of 4"),
        ("sub/new.txt", "is not in the manifest"),
    ]


def test_a_link_in_place_of_a_file_is_a_problem(whole):
    path = os.path.join(whole.directory, "config.json")
    os.rename(path, f"{whole.home}/elsewhere")
    os.symlink(f"{whole.home}/elsewhere", path)
    assert [problem.text for problem in verify(whole).problems] == ["is no regular file"]


def test_what_is_not_there_or_has_no_manifest_cannot_be_verified(whole, copy):
    with pytest.raises(StoreError, match=r"openai-lab/tiny at decade34 is not in .*models"):
        verify(Copy.of(copy.store, MODEL, OTHER))
    os.unlink(whole.manifest)
    with pytest.raises(StoreError, match="has no manifest"):
        verify(whole)


# Revisions


def test_a_branch_is_recorded_once(whole):
    assert record_revision(whole, "main")
    assert not record_revision(whole, "main")
    assert record_revision(whole, "v1.0")
    assert read_revisions(whole) == {"main": COMMIT, "v1.0": COMMIT}
    assert json_of(whole.revisions) == {"main": COMMIT, "v1.0": COMMIT}


def test_a_commit_needs_no_record(whole):
    assert not record_revision(whole, COMMIT)
    assert not record_revision(whole, "")
    assert not os.path.exists(whole.revisions)


def test_a_record_can_be_asked_for_without_being_made(whole):
    assert record_revision(whole, "main", write=False)
    assert not os.path.exists(whole.revisions)


def test_a_record_that_cannot_be_read_is_none(whole):
    with open(whole.revisions, "w", encoding="utf-8") as file:
        file.write('{"main": ["no commit"]}')
    assert read_revisions(whole) == {}


# Making room


def test_a_download_starts_with_what_an_earlier_one_left(copy):
    write(copy.partial, {"a.safetensors.part": b"123", "config.json": b"{}", "stranger": b"x"})
    os.symlink("/etc/passwd", os.path.join(copy.partial, "sub"))
    kept = installing.prepare(copy, list(CONTENT), ME)
    assert kept == 5
    assert content_of(copy.partial) == {"a.safetensors.part": b"123", "config.json": b"{}"}


def test_directories_are_readable_whatever_the_umask(copy):
    before = os.umask(0o077)
    try:
        installing.prepare(copy, list(CONTENT), ME)
    finally:
        os.umask(before)
    for path in (copy.store, copy.home, copy.partial):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o755


def test_a_directory_without_manifest_is_taken_for_a_download_to_be_verified(whole):
    os.unlink(whole.manifest)
    installing.prepare(whole, list(CONTENT), ME)
    assert not os.path.exists(whole.directory)
    assert content_of(whole.partial) == {f"{name}.part": data for name, data in CONTENT.items()}


def test_a_disk_without_room_is_named_with_what_it_lacks(copy):
    installing.prepare(copy, [], ME)
    assert installing.too_little_space(copy, 1) == ""
    sentence = installing.too_little_space(copy, 2**60)
    assert f"The disk of {copy.store} is full" in sentence
    assert "GiB more are needed there" in sentence
    assert "is kept" in sentence


# Installing


def test_a_download_becomes_a_copy_with_a_manifest(copy):
    write(copy.partial)
    write(copy.partial, {".progress.json": b"{}", "sub/stranger.part": b"x"})
    installing.install(copy, SOURCE, FILES)
    assert content_of(copy.directory) == CONTENT
    assert not os.path.exists(copy.partial)
    with open(copy.manifest, encoding="utf-8") as file:
        text = file.read()
    manifest = {"model": MODEL, "commit": COMMIT, "source": SOURCE, "files": FILES}
    assert text == json.dumps(manifest, indent=1, sort_keys=True) + "\n"


def test_a_copy_belongs_to_whoever_runs_the_module_and_all_may_read_it(copy):
    write(copy.partial)
    os.chmod(os.path.join(copy.partial, "config.json"), 0o600)
    os.chmod(os.path.join(copy.partial, "sub"), 0o700)
    installing.install(copy, SOURCE, FILES)
    modes = {
        name: stat.S_IMODE(os.stat(os.path.join(copy.directory, name)).st_mode)
        for name in ("", "sub", "config.json", "sub/b.txt")
    }
    assert modes == {"": 0o755, "sub": 0o755, "config.json": 0o644, "sub/b.txt": 0o644}
    assert stat.S_IMODE(os.stat(copy.manifest).st_mode) == 0o644
    owner = os.stat(os.path.join(copy.directory, "config.json"))
    assert (owner.st_uid, owner.st_gid) == ME


def test_the_manifest_is_there_before_the_directory_has_its_name(copy, monkeypatch):
    write(copy.partial)
    seen = []

    def rename(source, target):
        seen.append((source, target, os.path.exists(copy.manifest), content_of(source)))
        raise OSError("power cut")

    monkeypatch.setattr(installing.os, "rename", rename)
    with pytest.raises(OSError, match="power cut"):
        installing.install(copy, SOURCE, FILES)
    assert seen == [(copy.partial, copy.directory, True, CONTENT)]
    monkeypatch.undo()
    assert look(copy.store)[0]["complete"] is False
    installing.install(copy, SOURCE, FILES)
    assert look(copy.store)[0]["complete"] is True


def test_everything_is_on_the_disk_before_the_manifest(copy, monkeypatch):
    write(copy.partial)
    synced, sync = [], installing.sync
    monkeypatch.setattr(installing, "sync", lambda path: (synced.append(path), sync(path)))
    monkeypatch.setattr(installing, "write_json", lambda *_arguments: synced.append("the manifest"))
    installing.install(copy, SOURCE, FILES)
    before = synced[: synced.index("the manifest")]
    assert {os.path.relpath(path, copy.partial) for path in before} == {*CONTENT, "sub", "."}
    assert synced[-1] == copy.home


@pytest.mark.parametrize("size", [None, 3])
def test_a_file_that_is_not_as_the_download_said_is_not_installed(copy, size):
    write(copy.partial)
    path = os.path.join(copy.partial, "a.safetensors")
    os.unlink(path)
    if size:
        write(copy.partial, {"a.safetensors": b"x" * size})
    with pytest.raises(StoreError, match=r"has no a\.safetensors of 700 bytes"):
        installing.install(copy, SOURCE, FILES)
    assert not os.path.exists(copy.directory)
    assert not os.path.exists(copy.manifest)


def test_a_link_that_a_container_left_is_not_followed(copy, tmp_path):
    write(copy.partial)
    secret = tmp_path / "secret"
    secret.write_text("x" * 700)
    secret.chmod(0o600)
    path = os.path.join(copy.partial, "a.safetensors")
    os.unlink(path)
    os.symlink(secret, path)
    with pytest.raises(StoreError, match=r"has no a\.safetensors"):
        installing.install(copy, SOURCE, FILES)
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600


# Repairing


def test_a_repair_replaces_files_one_by_one(whole, monkeypatch):
    write(whole.directory, {"a.safetensors": b"damaged"})
    reader = open(os.path.join(whole.directory, "a.safetensors"), "rb")  # noqa: SIM115
    write(whole.partial, {"a.safetensors": CONTENT["a.safetensors"]})
    whole_before = os.stat(whole.directory).st_ino
    installing.install(whole, SOURCE, {"a.safetensors": FILES["a.safetensors"]})
    assert content_of(whole.directory) == CONTENT
    assert json_of(whole.manifest)["files"] == FILES
    assert os.stat(whole.directory).st_ino == whole_before
    assert reader.read() == b"damaged"  # whoever has it open keeps what they have
    reader.close()
    assert not os.path.exists(whole.partial)


def test_a_file_that_a_listing_has_more_joins_the_copy(whole):
    write(whole.partial, {"new/c.json": b"new"})
    installing.install(whole, "https://other.example.com", {"new/c.json": entry(b"new")})
    assert content_of(whole.directory) == {**CONTENT, "new/c.json": b"new"}
    manifest = json_of(whole.manifest)
    assert manifest["files"] == {**FILES, "new/c.json": entry(b"new")}
    assert manifest["source"] == SOURCE


# One at a time


def test_a_second_run_is_told_of_the_first(copy):
    said = rf"process {os.getpid()}, since \d.* fetches {MODEL}"
    first, second = installing.locked(copy), installing.locked(copy)
    with first, pytest.raises(StoreError, match=said), second:
        pass
    with installing.locked(copy):
        pass


def test_a_lock_ends_with_its_process(copy):
    os.makedirs(copy.home)
    with open(os.path.join(copy.home, ".lock"), "w", encoding="utf-8") as file:
        file.write("process 1, since long ago\n")
        fcntl.flock(file, fcntl.LOCK_EX)
    with installing.locked(copy):
        pass


# What a download says of itself


@pytest.mark.parametrize(
    ("text", "status"),
    [('{"phase": "downloading"}', {"phase": "downloading"}), ("{", {}), ("[1]", {}), (None, {})],
)
def test_progress_is_what_the_container_wrote(copy, text, status):
    if text is not None:
        write(copy.partial, {".progress.json": text.encode()})
    assert installing.progress_of(copy) == status


def test_progress_is_not_read_from_elsewhere(copy, tmp_path):
    (tmp_path / "secret").write_text('{"phase": "secret"}')
    os.makedirs(copy.partial)
    os.symlink(tmp_path / "secret", os.path.join(copy.partial, ".progress.json"))
    assert installing.progress_of(copy) == {}
