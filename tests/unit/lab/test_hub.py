# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The lab's hub as the hub's own client sees it, and its faults."""

from __future__ import annotations

import hashlib
import http.client
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ansible_collections.baremetal.vllm.tests.unit import lab_hub
from ansible_collections.baremetal.vllm.tests.unit.lab_hub import BIG, FILES, MODEL, LabHub

TOKEN = "hf_notatokenofanyone"

# Another test's opener, with its proxies, may be installed for everybody.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LabHub]:
    lab_hub.write_model(tmp_path / "hub" / "tiny")
    hub = LabHub(tmp_path / "hub")
    yield hub
    hub.close()


@pytest.fixture
def api(hub: LabHub) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=False)


def get(url: str, **headers: str) -> tuple[int, bytes]:
    try:
        request = urllib.request.Request(url, headers=headers)
        with DIRECT.open(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_information_has_sizes_and_hashes_of_every_file(api: HfApi) -> None:
    found = api.model_info(MODEL, files_metadata=True).siblings or []
    assert {each.rfilename: each.size for each in found} == {
        name: len(content) for name, content in FILES.items()
    }
    hashes = {each.rfilename: each.lfs.sha256 for each in found if each.lfs}
    assert hashes == {
        name: hashlib.sha256(content).hexdigest()
        for name, content in FILES.items()
        if name.endswith(".safetensors")
    }


def test_small_files_have_the_name_that_git_gives_them(api: HfApi, hub: LabHub) -> None:
    command = ["git", "hash-object", str(hub.root / "tiny" / "config.json")]
    name = subprocess.check_output(command, text=True).strip()
    found = api.model_info(MODEL, files_metadata=True).siblings or []
    assert next(each.blob_id for each in found if each.rfilename == "config.json") == name


def test_without_blobs_there_are_names_alone(hub: LabHub) -> None:
    siblings = hub.ask(f"/api/models/{MODEL}")["siblings"]
    assert siblings == [{"rfilename": name} for name in sorted(FILES)]


def test_the_client_downloads_a_snapshot(hub: LabHub, tmp_path: Path) -> None:
    directory = snapshot_download(
        MODEL, endpoint=hub.endpoint, token=False, local_dir=tmp_path / "snapshot"
    )
    assert {name: (Path(directory) / name).read_bytes() for name in FILES} == FILES


def test_a_tree_has_folders(api: HfApi) -> None:
    assert {each.path for each in api.list_repo_tree(MODEL)} == {
        *(name for name in FILES if "/" not in name),
        "original",
    }
    whole = {each.path for each in api.list_repo_tree(MODEL, recursive=True)}
    assert whole == {*FILES, "original"}
    below = [each.path for each in api.list_repo_tree(MODEL, "original")]
    assert below == ["original/model.safetensors"]
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree(MODEL, "absent"))


def test_branches_and_tags_name_the_one_commit(api: HfApi, hub: LabHub) -> None:
    (hub.root / "tiny" / ".revisions.json").write_text('{"v1": "first", "refs/pr/1": "x"}')
    commit = api.model_info(MODEL).sha
    assert commit is not None
    for revision in ("main", "v1", "refs/pr/1", commit):
        assert api.model_info(MODEL, revision=revision).sha == commit
    with pytest.raises(RevisionNotFoundError):
        api.model_info(MODEL, revision="v2")


def test_a_token_is_asked_for(hub: LabHub) -> None:
    (hub.root / "tiny" / ".token").write_text(f"{TOKEN}\n")
    with pytest.raises(GatedRepoError):
        HfApi(hub.endpoint, token=False).model_info(MODEL)
    with pytest.raises(RepositoryNotFoundError) as refused:
        HfApi(hub.endpoint, token="hf_another").model_info(MODEL)
    assert refused.value.response.status_code == 401
    assert HfApi(hub.endpoint, token=TOKEN).model_info(MODEL).id == MODEL


def test_of_a_gated_repository_anybody_may_read_the_listing(hub: LabHub) -> None:
    (hub.root / "tiny" / ".token").write_text(f"gated {TOKEN}\n")
    listing = hub.listing()
    url = next(file["url"] for file in listing["files"] if file["path"] == "config.json")
    assert get(url)[0] == 401
    assert get(url, Authorization="Bearer hf_another")[0] == 403
    assert get(url, Authorization=f"Bearer {TOKEN}") == (200, FILES["config.json"])


def test_a_repository_that_does_not_exist_is_none(api: HfApi) -> None:
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("openai-lab/absent")


def answer_of(url: str, **headers: str) -> http.client.HTTPResponse:
    """The first answer: no redirect is followed."""
    host, _slash, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.request("GET", f"/{path}", headers=headers)
    return connection.getresponse()


def test_large_files_are_sent_by_the_cdn_which_wants_no_token(hub: LabHub) -> None:
    commit = hub.listing()["commit"]
    url = f"{hub.endpoint}/{MODEL}/resolve/main/{BIG}"
    answer = answer_of(url)
    location = answer.headers["Location"]
    assert answer.status == 302
    assert location.startswith(f"{hub.cdn}/cdn/")
    assert answer.headers["X-Repo-Commit"] == commit
    assert answer.headers["X-Linked-Size"] == str(len(FILES[BIG]))
    assert get(location) == (200, FILES[BIG])
    assert get(location, Range="bytes=10-19") == (206, FILES[BIG][10:20])
    assert get(location, Range=f"bytes={len(FILES[BIG])}-")[0] == 416
    assert get(location, Authorization=f"Bearer {TOKEN}")[0] == 400
    small = answer_of(f"{hub.endpoint}/{MODEL}/resolve/main/config.json")
    assert (small.status, small.read()) == (200, FILES["config.json"])


@pytest.mark.parametrize(
    ("fault", "status", "content"),
    [
        ({"kind": "503"}, 503, None),
        ({"kind": "flip", "after_bytes": 1}, 200, b"{" + bytes([ord('"') ^ 0xFF])),
        ({"kind": "truncate", "after_bytes": 5}, 200, FILES["config.json"][:5]),
        ({"kind": "slow", "bytes_per_second": 100_000}, 200, FILES["config.json"]),
    ],
    ids=lambda value: value.get("kind") if isinstance(value, dict) else "",
)
def test_a_fault_happens_once(
    hub: LabHub, fault: dict[str, Any], status: int, content: bytes | None
) -> None:
    url = f"{hub.endpoint}/{MODEL}/resolve/main/config.json"
    hub.fault("config.*", **fault)
    found = get(url)
    assert found[0] == status
    assert content is None or found[1].startswith(content)
    assert get(url) == (200, FILES["config.json"])


def test_a_cut_ends_the_answer_in_the_middle(hub: LabHub) -> None:
    hub.fault("config.json", "cut", after_bytes=4)
    with pytest.raises(http.client.IncompleteRead) as raised:
        answer_of(f"{hub.endpoint}/{MODEL}/resolve/main/config.json").read()
    assert raised.value.partial == FILES["config.json"][:4]


def test_who_hangs_is_let_go_when_the_faults_are_cleared(hub: LabHub) -> None:
    hub.fault("config.json", "hang", times=None)
    answer = answer_of(f"{hub.endpoint}/{MODEL}/resolve/main/config.json")
    hub.mend()
    with pytest.raises(http.client.IncompleteRead):
        answer.read()


def test_requests_that_are_no_files_fail_too(hub: LabHub) -> None:
    hub.fault("/api/models/*", "500")
    assert get(f"{hub.endpoint}/api/models/{MODEL}")[0] == 500
    assert get(f"{hub.endpoint}/api/models/{MODEL}")[0] == 200


@pytest.mark.parametrize("fault", [{"kind": "explode"}, {"kind": "cut", "when": "now"}])
def test_what_is_no_fault_is_refused(hub: LabHub, fault: dict[str, Any]) -> None:
    with pytest.raises(urllib.error.HTTPError, match="400"):
        hub.fault("config.json", **fault)


def test_what_was_sent_is_told_until_it_is_forgotten(hub: LabHub) -> None:
    url = f"{hub.endpoint}/{MODEL}/resolve/main/config.json"
    for _number in range(2):
        get(url)
    count = {"bytes": 2 * len(FILES["config.json"]), "requests": 2}
    wanted = {"127.0.0.1": {f"{MODEL}/config.json": count}}
    # The hub counts what it has sent, a moment after the client has it.
    deadline = time.monotonic() + 5
    while (told := hub.ask("/_sent")) != wanted and time.monotonic() < deadline:
        time.sleep(0.01)
    assert told == wanted
    hub.ask("/_sent", "DELETE")
    assert hub.ask("/_sent") == {}


def test_it_starts_as_a_text(tmp_path: Path) -> None:
    lab_hub.write_model(tmp_path / "tiny")
    text = lab_hub.SERVER.read_text()
    with subprocess.Popen(
        [sys.executable, "-u", "-c", text, str(tmp_path), "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        port = process.stdout.readline().split()[-1]
        assert get(f"http://127.0.0.1:{port}/api/models")[0] == 200
        process.kill()
