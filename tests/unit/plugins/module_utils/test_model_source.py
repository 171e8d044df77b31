# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The parts of a listing: names of models, files, lists of checksums, signatures."""

from __future__ import annotations

import datetime

import pytest

from ansible_collections.baremetal.vllm.plugins.module_utils._checksum_source import parse_sums
from ansible_collections.baremetal.vllm.plugins.module_utils._model_listing import (
    File,
    Model,
    checked_file,
    needed,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._s3_signature import Keys, presigned
from ansible_collections.baremetal.vllm.plugins.module_utils._source_client import SourceError

SHA256 = "ab" * 32
SHA1 = "cd" * 20

# Names of models


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("openai/gpt-oss-20b", ("openai", "gpt-oss-20b", "main")),
        ("openai/gpt-oss-20b@v1.0", ("openai", "gpt-oss-20b", "v1.0")),
        ("Qwen/Qwen2.5-7B_x@refs/pr/1", ("Qwen", "Qwen2.5-7B_x", "refs/pr/1")),
        (f"a/b@{SHA1}", ("a", "b", SHA1)),
    ],
)
def test_a_model_has_an_organisation_a_name_and_a_revision(text, expected):
    model = Model.parse(text, "main")
    assert (model.organisation, model.name, model.revision) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "gpt2", "/srv/model", "a/b/c", "a/", "/b", "a b/c", "../b", "a/..", "a/b..c", "-a/b"),
        *("a--x/b", "a/b--c", "a/b\n", "a/b@", "a/b@ ", "a/b@../x", "a/b@x//y", "a/b@x/", "a/b@-x"),
        *("a/b@x\n", "a/b@x?y", "a/b@x@y"),
    ],
)
def test_what_is_no_model_is_refused(text):
    with pytest.raises(SourceError, match=r"^models: .*; allowed is .*\.$"):
        Model.parse(text, "main")


@pytest.mark.parametrize(("revision", "pinned"), [(SHA1, True), (SHA1[:7], False), ("main", False)])
def test_a_model_is_pinned_by_a_whole_commit(revision, pinned):
    assert Model.parse(f"a/b@{revision}", "main").is_pinned is pinned


# Files of a model


@pytest.mark.parametrize(
    "path",
    [
        *("", "/etc/passwd", "../x", "a/../../x", "a/..", "./x", "a//b", "a/", "a\\b", "a\nb"),
        *("a\0b", "\ud800", None, 3),
    ],
)
def test_a_file_outside_the_models_directory_is_refused(path):
    with pytest.raises(SourceError, match="does not stay in the model's directory"):
        checked_file(Model("a", "b", "main"), path, 1, SHA256, None, "")


@pytest.mark.parametrize("size", [None, -1, "12", 1.5, True])
def test_a_file_without_a_size_is_refused(size):
    with pytest.raises(SourceError, match=r"no size for model\.safetensors"):
        checked_file(Model("a", "b", "main"), "model.safetensors", size, SHA256, None, "")


@pytest.mark.parametrize(
    ("sha256", "git_sha1"), [(None, None), ("", ""), (SHA1, None), (None, SHA256), ("x" * 64, 7)]
)
def test_a_file_without_a_hash_is_refused(sha256, git_sha1):
    with pytest.raises(SourceError, match=r"no hash for model\.safetensors"):
        checked_file(Model("a", "b", "main"), "model.safetensors", 1, sha256, git_sha1, "")


@pytest.mark.parametrize(
    ("sha256", "git_sha1", "expected"),
    [
        (SHA256.upper(), None, (SHA256, None)),
        (None, SHA1, (None, SHA1)),
        (SHA256, SHA1, (SHA256, SHA1)),
        ("no hash", SHA1, (None, SHA1)),
    ],
)
def test_a_file_has_the_hashes_that_are_some(sha256, git_sha1, expected):
    file = checked_file(Model("a", "b", "main"), "x", 0, sha256, git_sha1, "")
    assert (file.sha256, file.git_sha1) == expected


@pytest.mark.parametrize(
    ("paths", "exclude", "expected"),
    [
        ("b a c", [], "a b c"),
        ("a original/b original/c/d", ["original/*"], "a"),
        ("a README.md x/README.md", ["*.md"], "a"),
        ("a README.md", ["readme.MD"], "README.md a"),
        ("x.safetensors x.bin x.pt x.pth", [], "x.safetensors"),
        ("d/x.safetensors x.bin", [], "d/x.safetensors x.bin"),
        ("d/x.safetensors d/x.bin e/x.bin", [], "d/x.safetensors e/x.bin"),
        ("x.safetensors x.bin", ["*.safetensors"], "x.bin"),
        ("x.gguf x.safetensors", [], "x.gguf x.safetensors"),
    ],
)
def test_only_what_serving_needs_is_kept(paths, exclude, expected):
    files = [File(path, 1, SHA256, None, "") for path in paths.split()]
    assert [file.path for file in needed(files, exclude)] == expected.split()


# Lists of checksums


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{SHA256}  config.json\n", {"config.json": SHA256}),
        (f"{SHA256} *config.json\n", {"config.json": SHA256}),
        (f"{SHA256.upper()}  config.json", {"config.json": SHA256}),
        (f"{SHA256}  ./a/b c.json\r\n\r\n", {"a/b c.json": SHA256}),
        (f"{SHA256}  ./SHA256SUMS\n{SHA256}  x\n", {"x": SHA256}),
        (f"{SHA256}  x\n{SHA256}  ./x\n", {"x": SHA256}),
    ],
)
def test_a_list_of_checksums_is_read_as_coreutils_write_it(text, expected):
    assert parse_sums(text, "here") == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("<html>\n", "here, line 1, is not what `sha256sum` writes"),
        (f"{SHA256}  x\n{SHA256} x\n", "line 2"),
        (f"SHA256 (x) = {SHA256}\n", "line 1"),
        (f"{SHA1}  x\n", "line 1"),
        (f"{SHA256}  /etc/passwd\n", "line 1"),
        (f"{SHA256}  ../x\n", "line 1"),
        (f"{SHA256}  a/../../x\n", "line 1"),
        (f"\\{SHA256}  a\\nb\n", "line 1"),
        (f"{SHA256}  x\n{'0' * 64}  x\n", "two hashes for x"),
        ("", "lists no files"),
        (f"{SHA256}  SHA256SUMS\n", "lists no files"),
    ],
)
def test_what_is_no_list_of_checksums_is_refused(text, sentence):
    with pytest.raises(SourceError) as problem:
        parse_sums(text, "here")
    assert sentence in str(problem.value)


# Signatures


def test_a_signature_is_that_of_the_published_example():
    """From "Authenticating Requests: Using Query Parameters", API reference of Amazon S3."""
    keys = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1")
    moment = datetime.datetime(2013, 5, 24, tzinfo=datetime.timezone.utc)
    url = "https://examplebucket.s3.amazonaws.com/test.txt"
    assert presigned("GET", url, keys, 86400, moment) == (
        f"{url}?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


@pytest.mark.parametrize("lifetime", [0, -1, 604801])
def test_a_signature_for_longer_than_s3_allows_is_not_made(lifetime):
    with pytest.raises(ValueError, match="lifetime"):
        presigned("GET", "https://host/bucket/x", Keys("a", "b"), lifetime)


def test_a_key_does_not_show_its_secret():
    assert "sesame" not in repr(Keys("a", "sesame"))
