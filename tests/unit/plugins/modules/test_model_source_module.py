# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Asking sources of every kind for models, against servers on loopback that answer as they do."""

from __future__ import annotations

import json
import threading
import urllib.parse
import urllib.request

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.baremetal.vllm.plugins.module_utils._model_source import ENDPOINTS
from ansible_collections.baremetal.vllm.plugins.modules import model_source
from ansible_collections.baremetal.vllm.tests.unit.fake_source import (
    COMMIT,
    MODEL_FILES,
    FakeSource,
    Reply,
    git_sha1,
    hub_siblings,
    modelscope_files,
    s3,
    sha256,
    sums_of,
)

MODEL = "openai/gpt-oss-20b"
TOKEN = "hf_sesame"
API = f"/api/models/{MODEL}/revision"
MODELSCOPE_API = f"/api/v1/models/{MODEL}/repo"
ACCESS_KEY, SECRET_KEY, REGION = "AKIDEXAMPLE", "open/sesame+now", "eu-north-1"
SERVED = ["config.json", "model-00000-of-00001.safetensors", "tokenizer/vocab one.json"]
SUMS_COMMIT = sha256(sums_of(MODEL_FILES).encode())[:40]

# Another test's opener, with its proxies, may be installed for everybody.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def source():
    source = FakeSource()
    yield source
    source.close()


@pytest.fixture
def ask(source, capsys):
    """Run the module against the source; return its result, its text under `_text`."""

    def run_module(*models, check_mode=False, **arguments):
        arguments.setdefault("endpoint", source.url)
        arguments.update(models=list(models) or [MODEL], _ansible_check_mode=check_mode)
        with patch_module_args(arguments), pytest.raises(SystemExit):
            model_source.main()
        text = capsys.readouterr().out
        return {**json.loads(text), "_text": text}

    return run_module


def only(result):
    """Return the one listing of a result."""
    assert not result.get("failed"), result["msg"]
    assert not result["changed"]
    assert len(result["listings"]) == 1
    return result["listings"][0]


def by_path(listing):
    return {file["path"]: file for file in listing["files"]}


def assert_refused(result, *parts):
    assert result["failed"]
    for part in parts:
        assert part in result["msg"]
    assert TOKEN not in result["_text"]
    assert "X-Amz-Signature" not in result["msg"]
    assert result["msg"].endswith(".")


# Hugging Face and mirrors


def test_a_hub_gives_commit_files_sizes_and_hashes(ask, source):
    source.add_hub_model(MODEL)
    listing = only(ask(exclude=["original/*"]))
    assert listing.pop("excluded_bytes") == len(MODEL_FILES["original/model.safetensors"])
    files = by_path(listing)
    assert list(files) == SERVED
    assert {name: files[name]["size"] for name in SERVED} == {
        name: len(MODEL_FILES[name]) for name in SERVED
    }
    del listing["files"]
    assert listing == {
        "asked": MODEL,
        "model": MODEL,
        "revision": "main",
        "commit": COMMIT,
        "source": source.url,
    }
    assert [each.path for each in source.requests] == [f"{API}/main?blobs=true"]


def test_a_small_file_of_a_hub_has_the_hash_of_git(ask, source):
    source.add_hub_model(MODEL)
    file = by_path(only(ask()))["config.json"]
    assert (file["sha256"], file["git_sha1"]) == (None, git_sha1(MODEL_FILES["config.json"]))


def test_a_large_file_of_a_hub_has_its_own_hash_and_not_that_of_its_pointer(ask, source):
    source.add_hub_model(MODEL)
    name = "model-00000-of-00001.safetensors"
    file = by_path(only(ask()))[name]
    assert (file["sha256"], file["git_sha1"]) == (sha256(MODEL_FILES[name]), None)


def test_the_files_of_a_hub_are_fetched_by_commit(ask, source):
    source.add_hub_model(MODEL, "v1.0")
    files = by_path(only(ask(f"{MODEL}@v1.0")))
    assert files["tokenizer/vocab one.json"]["url"] == (
        f"{source.url}/{MODEL}/resolve/{COMMIT}/tokenizer/vocab%20one.json"
    )


def test_a_revision_with_a_slash_is_one_part_of_the_address(ask, source):
    source.add_hub_model(MODEL, "refs/pr/1")
    listing = only(ask(f"{MODEL}@refs/pr/1"))
    assert (listing["asked"], listing["revision"]) == (f"{MODEL}@refs/pr/1", "refs/pr/1")
    assert source.requests[0].path == f"{API}/refs%2Fpr%2F1?blobs=true"


def test_a_mirror_below_a_path_is_asked_there(ask, source):
    source.add_hub_model(MODEL)
    source.routes[f"/hub{API}/main"] = source.routes.pop(f"{API}/main")
    listing = only(ask(endpoint=f"{source.url}/hub/"))
    assert listing["source"] == f"{source.url}/hub"
    assert listing["files"][0]["url"].startswith(f"{source.url}/hub/{MODEL}/resolve/")


def test_the_token_is_sent_and_never_shown(ask, source):
    source.add_hub_model(MODEL)
    result = ask(token=TOKEN)
    only(result)
    assert source.requests[0].token == f"Bearer {TOKEN}"
    assert TOKEN not in result["_text"]


def test_without_a_token_none_is_sent(ask, source):
    source.add_hub_model(MODEL)
    only(ask(token=""))
    assert source.requests[0].token is None


def test_several_models_come_in_their_order(ask, source):
    source.add_hub_model(MODEL)
    source.add_hub_model("a/b", "v2", sha="1" * 40)
    result = ask(MODEL, "a/b@v2", MODEL)
    asked = [(each["asked"], each["commit"]) for each in result["listings"]]
    assert asked == [(MODEL, COMMIT), ("a/b@v2", "1" * 40), (MODEL, COMMIT)]


def test_no_models_are_no_question(ask, source, capsys):
    arguments = {"models": [], "endpoint": source.url}
    with patch_module_args(arguments), pytest.raises(SystemExit):
        model_source.main()
    assert json.loads(capsys.readouterr().out)["listings"] == []
    assert source.requests == []


def test_check_mode_asks_as_well(ask, source):
    source.add_hub_model(MODEL)
    assert ask(check_mode=True)["listings"] == ask()["listings"]


HUB_REFUSALS = {
    "a model that is unknown or private, without a token": (
        Reply({"error": "Invalid username or password."}, 401),
        None,
        ("it does not exist, or it is private or gated and needs a token",),
    ),
    "the same with the code": (
        Reply("", 401, {"X-Error-Code": "RepoNotFound"}),
        None,
        ("it does not exist, or it is private or gated and needs a token",),
    ),
    "a token that is none": (
        Reply("", 401, {"X-Error-Message": "Invalid credentials in Authorization header"}),
        TOKEN,
        ("does not accept the token",),
    ),
    "a gated model without a token": (
        Reply("", 401, {"X-Error-Code": "GatedRepo"}),
        None,
        ("it is gated", f"/{MODEL} and give the token of an account"),
    ),
    "a gated model with a token": (
        Reply("", 403, {"X-Error-Code": "GatedRepo"}),
        TOKEN,
        ("it is gated", f"accept its terms at ENDPOINT/{MODEL} with the account of the token"),
    ),
    "a token that may not read the model": (
        Reply("", 403),
        TOKEN,
        ("the token may not read it",),
    ),
    "a server that wants a token": (Reply("", 403), None, ("it needs a token",)),
    "a model that is unknown or private, with a token": (
        Reply("", 404, {"X-Error-Code": "RepoNotFound"}),
        TOKEN,
        ("it does not exist there, or is private and not for this token",),
    ),
    "a model that is unknown to a mirror without tokens": (
        Reply("", 404, {"X-Error-Code": "RepoNotFound"}),
        None,
        ("it does not exist there", "check the name and give token"),
    ),
    "an unknown revision": (
        Reply("", 404, {"X-Error-Code": "RevisionNotFound"}),
        None,
        (f"ENDPOINT/{MODEL} has no revision main", "branches, tags or commits"),
    ),
    "a model that the hub has disabled": (
        Reply("", 403, {"X-Error-Message": "Access to this resource is disabled."}),
        TOKEN,
        ("has disabled it",),
    ),
    "a server that is no hub": (Reply("no such page", 404), None, ("answers 404", "endpoint")),
    "a page instead of an answer": (Reply("<html>"), None, ("not with JSON", "endpoint")),
    "JSON that is no object": (Reply([1]), None, ("not with JSON",)),
    "no commit": (Reply({"siblings": []}), None, ("names no commit",)),
    "no files": (Reply({"sha": COMMIT, "siblings": []}), None, ("lists no files",)),
    "names alone": (
        Reply({"sha": COMMIT, "siblings": [{"rfilename": "config.json"}]}),
        None,
        ("no size for config.json",),
    ),
    "no hash": (
        Reply({"sha": COMMIT, "siblings": [{"rfilename": "config.json", "size": 3}]}),
        None,
        ("no hash for config.json",),
    ),
    "a pointer without the content's hash": (
        Reply(
            {
                "sha": COMMIT,
                "siblings": [
                    {"rfilename": "x.bin", "size": 3, "blobId": "a" * 40, "lfs": {"size": 3}}
                ],
            }
        ),
        None,
        ("no hash for x.bin",),
    ),
    "a file that leads out": (
        Reply(
            {"sha": COMMIT, "siblings": hub_siblings({**MODEL_FILES, "../../etc/cron.d/x": b"x"})}
        ),
        None,
        ("'../../etc/cron.d/x'", "does not stay in the model's directory"),
    ),
    "a file that is no object": (
        Reply({"sha": COMMIT, "siblings": ["config.json"]}),
        None,
        ("does not stay in the model's directory",),
    ),
    "a file twice": (
        Reply({"sha": COMMIT, "siblings": hub_siblings(MODEL_FILES) * 2}),
        None,
        ("config.json more than once",),
    ),
    "no weights": (
        Reply({"sha": COMMIT, "siblings": hub_siblings({"config.json": b"{}"})}),
        None,
        (f"{MODEL} at revision main of ENDPOINT has no weights (*.safetensors, *.bin",),
    ),
    "no config.json": (
        Reply({"sha": COMMIT, "siblings": hub_siblings({"x/config.json": b"", "x.pt": b""})}),
        None,
        (f"{MODEL} at revision main of ENDPOINT has no config.json",),
    ),
}


@pytest.mark.parametrize(
    ("reply", "token", "parts"), HUB_REFUSALS.values(), ids=HUB_REFUSALS.keys()
)
def test_what_a_hub_cannot_give_has_its_sentence(ask, source, reply, token, parts):
    source.routes[f"{API}/main"] = reply
    result = ask(token=token)
    assert_refused(result, *(part.replace("ENDPOINT", source.url) for part in parts))
    assert len(source.requests) == 1


def test_a_mirror_that_ignores_the_revision_is_refused(ask, source):
    wanted = "1" * 40
    source.add_hub_model(MODEL, wanted)
    assert_refused(ask(f"{MODEL}@{wanted}"), f"answers with commit {COMMIT} instead")


def test_a_renamed_model_is_followed(ask, source):
    source.add_hub_model("openai/renamed")
    there = "/api/models/openai/renamed/revision/main?blobs=true"
    source.routes[f"{API}/main"] = Reply("", 307, {"Location": there})
    listing = only(ask(token=TOKEN))
    assert (listing["model"], listing["commit"]) == (MODEL, COMMIT)
    assert source.requests[1].token == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    ("exclude", "sentence"),
    [
        (["*.json"], "exclude: it leaves out config.json"),
        (["*.safetensors"], "exclude: it leaves out all weights"),
    ],
)
def test_patterns_that_leave_nothing_to_serve_are_refused(ask, source, exclude, sentence):
    source.add_hub_model(MODEL)
    assert_refused(ask(exclude=exclude), sentence)


def test_weights_in_older_formats_are_left_out_beside_safetensors(ask, source):
    older = {"pytorch_model.bin": b"older weights", "rest/x.pth": b"x"}
    source.add_hub_model(MODEL, siblings=hub_siblings({**MODEL_FILES, **older}))
    listing = only(ask())
    assert "pytorch_model.bin" not in by_path(listing)
    assert "rest/x.pth" in by_path(listing)
    assert listing["excluded_bytes"] == len(b"older weights")


# ModelScope


def test_modelscope_gives_a_sha256_for_every_file(ask, source):
    source.add_modelscope_model(MODEL)
    listing = only(ask(provider="modelscope"))
    assert {path: file["sha256"] for path, file in by_path(listing).items()} == {
        path: sha256(content) for path, content in MODEL_FILES.items()
    }
    assert (listing["revision"], listing["commit"]) == ("master", COMMIT)
    expected = f"{MODELSCOPE_API}/files?Revision=master&Recursive=True"
    assert [each.path for each in source.requests] == [expected]


def test_the_files_of_modelscope_are_fetched_by_commit(ask, source):
    source.add_modelscope_model(MODEL)
    files = by_path(only(ask(provider="modelscope")))
    assert files["tokenizer/vocab one.json"]["url"] == (
        f"{source.url}{MODELSCOPE_API}?Revision={COMMIT}&FilePath=tokenizer%2Fvocab%20one.json"
    )


def test_modelscope_gets_the_token_as_its_own_client_sends_it(ask, source):
    source.add_modelscope_model(MODEL)
    only(ask(provider="modelscope", token=TOKEN))
    request = source.requests[0]
    assert request.token == f"Bearer {TOKEN}"
    assert request.headers["cookie"] == f"m_session_id={TOKEN}"


@pytest.mark.parametrize(
    ("asked", "latest", "expected"),
    [
        (MODEL, {"Id": "2" * 40, "ShortId": "2" * 8}, "2" * 40),
        (f"{MODEL}@{'3' * 40}", {"Id": "", "ShortId": "4" * 8}, "3" * 40),
    ],
)
def test_modelscope_names_the_commit_in_several_ways(ask, source, asked, latest, expected):
    source.add_modelscope_model(MODEL, LatestCommitter=latest)
    listing = only(ask(asked, provider="modelscope"))
    assert listing["commit"] == expected
    assert f"?Revision={expected}&" in listing["files"][0]["url"]


@pytest.mark.parametrize("latest", [None, {"Id": "", "ShortId": ""}, {"ShortId": "9" * 8}])
def test_without_a_commit_of_modelscope_the_content_names_it(ask, source, latest):
    source.add_modelscope_model(MODEL, LatestCommitter=latest)
    listing = only(ask(provider="modelscope"))
    lines = sorted(f"{path}\0{sha256(content)}\n" for path, content in MODEL_FILES.items())
    assert listing["commit"] == sha256("".join(lines).encode())[:40]
    assert "?Revision=master&" in listing["files"][0]["url"]


MODELSCOPE_REFUSALS = {
    "an unknown model": (
        Reply({"Code": 10010205001, "Message": "record not found", "Success": False}, 404),
        ("does not exist there, or is private or gated",),
    ),
    "an unknown revision": (
        Reply({"Code": 200, "Success": True, "Data": {"Files": None, "LatestCommitter": None}}),
        ("has no revision master", "branches, tags or commits"),
    ),
    "an unknown revision by its code": (
        Reply({"Code": 10990101004, "Success": False}, 404),
        ("has no revision master",),
    ),
    "a refusal that is no JSON": (Reply("", 403), ("the hub answers 403", "give token")),
    "a code of its own": (Reply({"Code": 500, "Data": {}}), ("its code is 500",)),
    "a server that is none": (Reply("", 405), ("answers 405", "endpoint")),
    "a page instead of an answer": (Reply("<html>"), ("not with JSON",)),
    "no files": (Reply({"Code": 200, "Data": {"Files": []}}), ("lists no files",)),
    "a listing that is cut off": (
        Reply({"Code": 200, "Data": {"Files": [{"Path": "x", "Type": "tree"}] * 3000}}),
        ("lists no more than 3000", "another source"),
    ),
    "no hash": (
        Reply({"Code": 200, "Data": {"Files": [{"Path": "x", "Type": "blob", "Size": 3}]}}),
        ("no hash for x",),
    ),
    "a file that leads out": (
        Reply({"Code": 200, "Data": {"Files": modelscope_files({"../x": b"x"})}}),
        ("does not stay in the model's directory",),
    ),
}


@pytest.mark.parametrize(
    ("reply", "parts"), MODELSCOPE_REFUSALS.values(), ids=MODELSCOPE_REFUSALS.keys()
)
def test_what_modelscope_cannot_give_has_its_sentence(ask, source, reply, parts):
    source.routes[f"{MODELSCOPE_API}/files"] = reply
    assert_refused(ask(provider="modelscope"), *parts)


# A web server


def test_a_web_server_gives_hashes_in_a_file_and_sizes_by_head(ask, source):
    source.add_directory(f"/models/{MODEL}", MODEL_FILES)
    listing = only(ask(provider="http", endpoint=f"{source.url}/models/", exclude=["original/*"]))
    files = by_path(listing)
    assert list(files) == SERVED
    for path, file in files.items():
        content = MODEL_FILES[path]
        assert (file["size"], file["sha256"], file["git_sha1"]) == (
            len(content),
            sha256(content),
            None,
        )
        assert DIRECT.open(file["url"]).read() == content
    assert (listing["revision"], listing["commit"]) == ("main", SUMS_COMMIT)
    assert listing["source"] == f"{source.url}/models"
    assert listing["excluded_bytes"] == len(MODEL_FILES["original/model.safetensors"])


def test_a_revision_of_a_web_server_is_a_directory(ask, source):
    source.add_directory(f"/{MODEL}/v1.0", MODEL_FILES)
    listing = only(ask(f"{MODEL}@v1.0", provider="http"))
    assert listing["revision"] == "v1.0"
    assert listing["files"][0]["url"] == f"{source.url}/{MODEL}/v1.0/config.json"


def test_the_revision_main_may_be_a_directory_too(ask, source):
    source.add_directory(f"/{MODEL}/main", MODEL_FILES)
    listing = only(ask(provider="http"))
    assert listing["files"][0]["url"] == f"{source.url}/{MODEL}/main/config.json"


def test_a_pinned_model_of_a_web_server_is_found_by_its_content(ask, source):
    source.add_directory(f"/{MODEL}", MODEL_FILES)
    assert only(ask(f"{MODEL}@{SUMS_COMMIT}", provider="http"))["commit"] == SUMS_COMMIT


def test_a_pinned_model_of_a_web_server_with_other_content_is_refused(ask, source):
    source.add_directory(f"/{MODEL}", MODEL_FILES)
    result = ask(f"{MODEL}@{COMMIT}", provider="http")
    assert_refused(result, f"holds {SUMS_COMMIT} by now, and {COMMIT} is asked for")


def test_a_directory_named_by_a_commit_is_that_commit(ask, source):
    source.add_directory(f"/{MODEL}", {**MODEL_FILES, "newer": b""})
    source.add_directory(f"/{MODEL}/{COMMIT}", MODEL_FILES)
    assert only(ask(f"{MODEL}@{COMMIT}", provider="http"))["commit"] == COMMIT


def test_a_web_server_gets_the_token(ask, source):
    source.add_directory(f"/{MODEL}", MODEL_FILES)
    only(ask(provider="http", token=TOKEN))
    assert {each.token for each in source.requests} == {f"Bearer {TOKEN}"}
    assert len(source.requests) == 1 + len(MODEL_FILES)


def test_sizes_are_asked_for_several_at_once(ask, source):
    files = {**MODEL_FILES, **{f"part-{number}.json": b"x" for number in range(12)}}
    source.add_directory(f"/{MODEL}", files)
    together = threading.Barrier(4, timeout=10)

    def with_others(reply):
        return lambda _request: together.wait() >= 0 and reply

    for path in set(source.routes) - {f"/{MODEL}/SHA256SUMS"}:
        source.routes[path] = with_others(source.routes[path])
    assert len(only(ask(provider="http"))["files"]) == len(files)


WEB_REFUSALS = {
    "no such directory": ("SHA256SUMS", Reply("", 404), None, ("at revision main: there is no",)),
    "a server that wants a token": ("SHA256SUMS", Reply("", 401), None, ("it needs a token",)),
    "a token that may not": ("SHA256SUMS", Reply("", 403), TOKEN, ("not accept the token",)),
    "a server that knows no HEAD": ("config.json", Reply("", 405), None, ("405", "GET and HEAD")),
    "a page": ("SHA256SUMS", Reply("<html>"), None, ("line 1, is not what `sha256sum` writes",)),
    "no text": ("SHA256SUMS", Reply(b"\xff\xfe"), None, ("is no text",)),
    "a file that is not there": ("config.json", Reply("", 404), None, ("which is not there",)),
    "a file without a length": (
        "config.json",
        Reply(b"x", headers={"Content-Length": ""}),
        None,
        ("no Content-Length",),
    ),
}


@pytest.mark.parametrize(
    ("path", "reply", "token", "parts"), WEB_REFUSALS.values(), ids=WEB_REFUSALS.keys()
)
def test_what_a_web_server_cannot_give_has_its_sentence(ask, source, path, reply, token, parts):
    source.add_directory(f"/{MODEL}", MODEL_FILES)
    source.routes[f"/{MODEL}/{path}"] = reply
    result = ask(provider="http", token=token)
    assert_refused(result, f"{source.url}/{MODEL}/{path}", *parts)


# S3


@pytest.fixture
def bucket(source):
    """A bucket whose objects want a signature; return the options that reach it."""
    source.add_directory(f"/bucket/weights/{MODEL}", MODEL_FILES)
    for path, reply in list(source.routes.items()):
        source.routes[path] = s3(reply, ACCESS_KEY, SECRET_KEY, REGION)
    return {
        "provider": "s3",
        "endpoint": f"{source.url}/bucket/weights",
        "s3_access_key": ACCESS_KEY,
        "s3_secret_key": SECRET_KEY,
        "s3_region": REGION,
    }


def test_a_bucket_is_asked_with_signatures(ask, bucket):
    listing = only(ask(exclude=["original/*"], **bucket))
    assert list(by_path(listing)) == SERVED
    assert (listing["revision"], listing["commit"]) == ("main", SUMS_COMMIT)
    assert listing["source"] == bucket["endpoint"]


def test_the_files_of_a_bucket_are_fetched_with_no_other_credentials(ask, bucket):
    for path, file in by_path(only(ask(**bucket))).items():
        request = urllib.request.Request(file["url"], headers={"Range": "bytes=0-"})
        assert DIRECT.open(request).read() == MODEL_FILES[path]


@pytest.mark.parametrize("lifetime", [1, 600, 604800])
def test_the_addresses_of_a_bucket_hold_as_long_as_wanted(ask, bucket, lifetime):
    listing = only(ask(s3_url_lifetime=lifetime, **bucket))
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(listing["files"][0]["url"]).query)
    assert query["X-Amz-Expires"] == [str(lifetime)]


def test_what_the_module_asks_itself_holds_longer_than_a_short_lifetime(ask, bucket, source):
    # The date of a signature has no fractions: one of a second may be over when it is sent.
    only(ask(s3_url_lifetime=1, **bucket))
    assert {each.method for each in source.requests} == {"GET", "HEAD"}
    asked = [urllib.parse.parse_qs(each.path.partition("?")[2]) for each in source.requests]
    assert {query["X-Amz-Expires"][0] for query in asked} == {"900"}


def test_the_secret_key_is_never_sent_nor_shown(ask, bucket, source):
    result = ask(**bucket)
    only(result)
    assert SECRET_KEY not in result["_text"]
    assert not any("sesame" in f"{each.path}{each.headers}" for each in source.requests)


def test_a_bucket_does_not_get_the_token(ask, bucket, source):
    only(ask(token=TOKEN, **bucket))
    assert {each.token for each in source.requests} == {None}


def test_a_bucket_for_everybody_is_asked_without_a_signature(ask, source):
    source.add_directory(f"/bucket/{MODEL}", MODEL_FILES)
    listing = only(ask(provider="s3", endpoint=f"{source.url}/bucket"))
    assert listing["files"][0]["url"] == f"{source.url}/bucket/{MODEL}/config.json"
    assert {each.path.partition("?")[2] for each in source.requests} == {""}


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"s3_secret_key": "another"}, ("403 SignatureDoesNotMatch", "does not belong to")),
        ({"s3_access_key": "another"}, ("403 InvalidAccessKeyId", "is unknown there")),
        ({"s3_region": "mars"}, ("400 AuthorizationQueryParametersError", "s3_region")),
        (
            {"s3_access_key": "", "s3_secret_key": ""},
            ("403 AccessDenied", "without a key S3 denies what is missing too"),
        ),
    ],
)
def test_what_a_bucket_refuses_has_its_sentence(ask, bucket, changes, parts):
    result = ask(**{**bucket, **changes})
    assert_refused(result, f"{bucket['endpoint']}/{MODEL}/SHA256SUMS cannot be read", *parts)


def test_a_model_that_is_not_in_the_bucket_has_its_sentence(ask, bucket):
    result = ask("openai/other", **bucket)
    assert_refused(result, "openai/other is not there at revision main")


def test_a_bucket_that_does_not_exist_has_its_sentence(ask, bucket, source):
    missing = Reply("<Error><Code>NoSuchBucket</Code></Error>", 404)
    source.routes[f"/bucket/weights/{MODEL}/SHA256SUMS"] = missing
    assert_refused(ask(**bucket), "the bucket does not exist")


# Options


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"models": ["gpt2"]}, "models: 'gpt2' names no model; allowed is org/name"),
        ({"endpoint": "hub.example.com"}, "endpoint: 'hub.example.com' is no address; allowed"),
        ({"provider": "http", "endpoint": ""}, "endpoint: provider http needs one"),
        ({"provider": "s3", "endpoint": None}, "endpoint: provider s3 needs one"),
        ({"provider": "s3", "endpoint": "https://host/"}, "https://host names no bucket"),
        ({"provider": "s3", "endpoint": "https://h/b", "s3_access_key": "a"}, "give both"),
        ({"provider": "s3", "endpoint": "https://h/b", "s3_url_lifetime": 0}, "1 to 604800"),
        ({"timeout": 0}, "timeout: 0 is no time"),
        ({"token": "hf_sesame\nX: y"}, "token: it has characters that fit in no header"),
        ({"ca_path": "/absent.pem"}, "ca_path: /absent.pem cannot be used on this host"),
        ({"provider": "ftp"}, "value of provider must be one of: huggingface"),
    ],
)
def test_an_option_that_cannot_be_used_has_its_sentence(source, capsys, options, sentence):
    arguments = {"models": [MODEL], "endpoint": source.url, **options}
    with patch_module_args(arguments), pytest.raises(SystemExit):
        model_source.main()
    result = json.loads(capsys.readouterr().out)
    assert result["failed"]
    assert sentence in result["msg"]
    assert source.requests == []


def test_equal_keys_of_a_bucket_are_refused(ask, source):
    source.add_directory(f"/bucket/{MODEL}", MODEL_FILES)
    for path, reply in list(source.routes.items()):
        source.routes[path] = s3(reply, "minioadmin", "minioadmin", REGION)
    result = ask(
        provider="s3",
        endpoint=f"{source.url}/bucket",
        s3_access_key="minioadmin",
        s3_secret_key="minioadmin",
        s3_region=REGION,
    )
    assert_refused(result, "s3_secret_key: its value is a part of the files' addresses")


def test_the_documentation_names_the_own_address_of_each_hub():
    text = " ".join(model_source.DOCUMENTATION.split())
    for provider, endpoint in ENDPOINTS.items():
        assert f"C({endpoint}) for O(provider={provider})" in text
