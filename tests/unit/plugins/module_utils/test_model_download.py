# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Downloading a model with the real client of the hub, from the hub of the lab."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ansible_collections.baremetal.vllm.plugins.module_utils import _model_download as program
from ansible_collections.baremetal.vllm.tests.unit import lab_hub
from ansible_collections.baremetal.vllm.tests.unit.lab_hub import BIG, FILES, MIB, LabHub

if not lab_hub.SERVER.exists():
    pytest.skip(lab_hub.WHY_SKIPPED, allow_module_level=True)
pytest.importorskip("huggingface_hub", reason=lab_hub.WHY_SKIPPED)

TOKEN = "hf_notatokenofanyone"
WANTED = {name: content for name, content in FILES.items() if not name.startswith("original/")}
TOTAL = sum(map(len, WANTED.values()))


@pytest.fixture
def hub(tmp_path):
    lab_hub.write_model(tmp_path / "hub" / "tiny")
    hub = LabHub(tmp_path / "hub")
    yield hub
    hub.close()


@pytest.fixture
def target(tmp_path):
    directory = tmp_path / "model"
    directory.mkdir()
    return directory


@pytest.fixture
def job(hub, target):
    files = hub.listing()["files"]
    return {"directory": str(target), "files": files, "pauses": [0.01], "origin": hub.endpoint}


def download(job, http_get=None):
    return program.Download(job, http_get or program.client()).run()


def only(job, path):
    return {**job, "files": [file for file in job["files"] if file["path"] == path]}


def names(directory):
    found = (path.relative_to(directory) for path in directory.rglob("*") if path.is_file())
    return sorted(map(str, found))


def start(job, **environment):
    """Start the text as the container does."""
    text = Path(program.__file__).read_text(encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-c", text],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    process.stdin.write(json.dumps(job))
    process.stdin.close()
    return process


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# What is fetched


def test_all_files_arrive_and_are_verified(job, target):
    result = download(job)
    assert result["ok"]
    assert {name: (target / name).read_bytes() for name in names(target)} == WANTED
    assert result["files"] == {
        name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in WANTED.items()
    }
    assert (result["downloaded_bytes"], result["resumed_bytes"]) == (TOTAL, 0)


def test_no_byte_is_asked_for_twice_and_none_that_is_not_listed(job, hub):
    download(job)
    assert hub.counts("bytes") == {name: len(content) for name, content in WANTED.items()}
    assert set(hub.counts("requests").values()) == {1}


def test_folders_of_the_model_are_kept(hub, target):
    files = hub.listing(excluded="nothing")["files"]
    assert download({"directory": str(target), "files": files})["ok"]
    assert (target / "original/model.safetensors").read_bytes() == FILES[
        "original/model.safetensors"
    ]


def test_an_empty_file_is_a_file(job, hub, target):
    (hub.root / "tiny" / "empty.txt").touch()
    assert download({**job, "files": hub.listing()["files"]})["ok"]
    assert (target / "empty.txt").read_bytes() == b""


def test_what_an_earlier_run_has_verified_is_not_asked_for(job, hub, target):
    for name, content in WANTED.items():
        (target / name).write_bytes(content)
    result = download(job)
    assert result["ok"]
    assert (result["downloaded_bytes"], result["resumed_bytes"]) == (0, TOTAL)
    assert set(result["files"]) == set(WANTED)
    assert hub.counts("requests") == {}


def test_what_was_verified_against_another_promise_is_fetched_anew(job, hub, target):
    """The same name and size, as with a checksum file that was corrected."""
    name, content = next((n, c) for n, c in WANTED.items() if c)
    (target / name).parent.mkdir(parents=True, exist_ok=True)
    (target / name).write_bytes(bytes(len(content)))
    result = download(job)
    assert result["ok"]
    assert (target / name).read_bytes() == content


# The token


def test_the_token_is_sent_to_the_hub_and_not_to_its_cdn(job, hub):
    """The CDN answers 400 to a token, as the real one does."""
    (hub.root / "tiny" / ".token").write_text(TOKEN)
    assert download({**job, "headers": {"Authorization": f"Bearer {TOKEN}"}})["ok"]


def test_the_token_is_sent_to_no_other_server_that_a_listing_names(job, hub):
    (hub.root / "tiny" / ".token").write_text(TOKEN)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    result = download({**job, "headers": headers, "origin": hub.endpoint[:-1]})
    assert (result["kind"], result["status"]) == ("refused", 401)


def test_a_missing_token_ends_the_download_at_once(job, hub, target):
    (hub.root / "tiny" / ".token").write_text(TOKEN)
    start_time = time.monotonic()
    result = download({**job, "pauses": [60]})
    assert (result["ok"], result["kind"], result["status"]) == (False, "refused", 401)
    assert result["file"] in WANTED
    assert time.monotonic() - start_time < 20
    assert hub.counts("requests") == {}


# What is cut off goes on


def test_a_killed_download_goes_on_where_it_was(job, hub, target):
    part = target / f"{BIG}.part"
    arrived = 6 * program.CHUNK
    hub.fault(BIG, "hang", after_bytes=arrived)
    process = start(job)
    wait_for(lambda: part.exists() and part.stat().st_size == arrived)
    others = set(WANTED) - {BIG}
    wait_for(lambda: set(names(target)) == {*others, part.name})
    process.kill()
    process.wait()
    hub.mend()

    result = download(job)

    assert result["ok"]
    assert (target / BIG).read_bytes() == WANTED[BIG]
    assert result["resumed_bytes"] >= arrived
    assert hub.counts("bytes") == {name: len(content) for name, content in WANTED.items()}


def test_a_part_that_is_whole_is_only_verified(job, hub, target):
    (target / f"{BIG}.part").write_bytes(WANTED[BIG])
    assert download(only(job, BIG))["downloaded_bytes"] == 0
    assert (target / BIG).exists()
    assert hub.counts("requests") == {}


def test_a_part_that_is_too_long_is_not_used(job, hub, target):
    (target / f"{BIG}.part").write_bytes(WANTED[BIG] + b"more")
    result = download(only(job, BIG))
    assert (result["ok"], result["downloaded_bytes"]) == (True, len(WANTED[BIG]))


def test_a_part_of_something_else_is_found_out_and_fetched_anew(job, target):
    (target / f"{BIG}.part").write_bytes(b"x" * MIB)
    assert download(only(job, BIG))["ok"]
    assert (target / BIG).read_bytes() == WANTED[BIG]


def test_sigterm_ends_the_download_and_keeps_what_arrived(job, hub, target):
    part = target / f"{BIG}.part"
    hub.fault(BIG, "hang", after_bytes=MIB)
    process = start(only(job, BIG))
    wait_for(lambda: part.exists() and part.stat().st_size == MIB)
    process.send_signal(signal.SIGTERM)
    result = json.loads(process.stdout.read().splitlines()[-1])
    assert process.wait(timeout=10) == 1
    assert (result["ok"], result["kind"]) == (False, "stopped")
    assert part.stat().st_size == MIB


def test_a_cut_connection_is_taken_up_again(job, hub, target):
    hub.fault(BIG, "cut", after_bytes=MIB)
    assert download(only(job, BIG))["ok"]
    assert hub.counts("bytes") == {BIG: len(WANTED[BIG])}
    assert hub.counts("requests") == {BIG: 2}


def test_a_server_that_ignores_ranges_sends_all_of_it(job, target):
    def ignores_ranges(url, temp_file, resume_size, headers):
        # As the client does it (huggingface_hub 2.4) when 200 comes for a range.
        temp_file.seek(max(temp_file.tell() - resume_size, 0))
        temp_file.truncate()
        temp_file.write(WANTED[BIG])

    (target / f"{BIG}.part").write_bytes(WANTED[BIG][:MIB])
    assert download(only(job, BIG), ignores_ranges)["ok"]
    assert (target / BIG).read_bytes() == WANTED[BIG]


# Servers that fail


def test_errors_of_the_server_are_passed_over(job, hub):
    hub.fault(BIG, "500", times=3)
    assert download(job)["ok"]
    assert hub.counts("requests")[BIG] == 4


def test_a_server_that_only_has_errors_is_asked_four_times(job, hub, target):
    hub.fault(BIG, "503", times=None)
    result = download(only(job, BIG))
    assert (result["kind"], result["file"], result["status"]) == ("unavailable", BIG, 503)
    assert hub.counts("requests") == {BIG: program.ATTEMPTS}


def test_whoever_brings_bytes_may_fail_again(job, hub):
    hub.fault(BIG, "500", times=3)
    hub.fault(BIG, "cut", after_bytes=MIB)
    hub.fault(BIG, "500", times=3)
    assert download(only(job, BIG))["ok"]


def test_a_refused_file_is_asked_for_once(job, hub):
    hub.fault(BIG, "403", times=None)
    result = download(only(job, BIG))
    assert (result["kind"], result["status"]) == ("refused", 403)
    assert hub.counts("requests") == {BIG: 1}


def test_a_file_that_is_gone_is_named(job, hub):
    (hub.root / "tiny" / "tokenizer.json").unlink()
    result = download(only(job, "tokenizer.json"))
    assert (result["kind"], result["file"]) == ("not_found", "tokenizer.json")
    assert result["status"] == 404


def test_a_hub_that_is_down_is_unreachable(job, hub):
    hub.close()
    result = download(job)
    assert result["kind"] == "unreachable"
    assert result["missing_bytes"] == TOTAL


def test_a_server_that_falls_silent_is_unreachable(job, hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    hub.fault(BIG, "hang", times=None)
    result = download(only(job, BIG))
    assert (result["kind"], result["file"]) == ("unreachable", BIG)
    assert hub.counts("requests") == {BIG: program.ATTEMPTS}


def test_another_failure_keeps_what_the_others_have(job, hub, target):
    hub.fault(BIG, "hang", after_bytes=MIB)
    hub.fault("model-00002.safetensors", "403", times=None)
    http_get = program.client()

    def after_the_big_one(url, temp_file, **more):
        if BIG not in url:
            part = target / f"{BIG}.part"
            wait_for(lambda: part.exists() and part.stat().st_size == MIB)
        http_get(url, temp_file, **more)

    result = download(job, after_the_big_one)
    assert (result["kind"], result["file"]) == ("refused", "model-00002.safetensors")
    assert (target / f"{BIG}.part").stat().st_size == MIB


# Wrong content


def test_one_wrong_byte_is_found_and_the_file_fetched_once_more(job, hub, target):
    hub.fault(BIG, "flip", after_bytes=1_234_567)
    result = download(job)
    assert result["ok"]
    assert (target / BIG).read_bytes() == WANTED[BIG]
    assert hub.counts("requests")[BIG] == 2
    assert result["downloaded_bytes"] == TOTAL + len(WANTED[BIG])


@pytest.mark.parametrize("name", [BIG, "config.json"], ids=["sha256", "Git's name alone"])
def test_a_file_that_is_always_wrong_is_named_and_not_kept(job, hub, target, name):
    hub.fault(name, "flip", times=None, after_bytes=3)
    result = download(only(job, name))
    assert (result["kind"], result["file"]) == ("mismatch", name)
    file = next(file for file in job["files"] if file["path"] == name)
    assert result["expected"] == (file["sha256"] or file["git_sha1"])
    assert result["found"] != result["expected"]
    assert names(target) == []
    assert hub.counts("requests") == {name: 2}


def test_a_file_that_ends_too_early_is_wrong(job, hub, target):
    hub.fault(BIG, "truncate", times=None, after_bytes=MIB)
    result = download(only(job, BIG))
    assert (result["kind"], result["file"]) == ("mismatch", BIG)
    assert (result["expected"], result["found"]) == (f"{len(WANTED[BIG])} bytes", f"{MIB} bytes")
    assert names(target) == []


def test_a_file_that_does_not_end_is_wrong(job, target):
    cut = only(job, BIG)
    cut["files"][0]["size"] = MIB
    result = download(cut)
    assert (result["kind"], result["expected"]) == ("mismatch", f"{MIB} bytes")
    assert names(target) == []


# The disk


def test_a_full_disk_is_no_bad_connection(job, hub, target):
    (target / f"{BIG}.part").symlink_to("/dev/full")
    result = download({**only(job, BIG), "pauses": [60]})
    assert (result["kind"], result["file"]) == ("disk_full", BIG)
    assert result["missing_bytes"] == len(WANTED[BIG])
    assert hub.counts("requests") == {BIG: 1}


def test_what_fits_on_a_disk_is_kept(job, hub, target, monkeypatch):
    write = os.write

    def fills_up(descriptor, content):
        if os.fstat(descriptor).st_size >= MIB:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, content)

    monkeypatch.setattr(program.os, "write", fills_up)
    result = download(only(job, BIG))
    monkeypatch.undo()
    assert result["kind"] == "disk_full"
    assert result["missing_bytes"] == len(WANTED[BIG]) - MIB
    assert (target / f"{BIG}.part").read_bytes() == WANTED[BIG][:MIB]
    assert download(only(job, BIG))["downloaded_bytes"] == len(WANTED[BIG]) - MIB


def test_a_directory_that_cannot_be_written_is_the_disks_failure(job, target):
    target.rmdir()
    target.write_text("")
    assert download(only(job, BIG))["kind"] == "disk"


# What is said


def test_the_progress_file_ends_with_all_that_was_done(job, target, tmp_path):
    path = tmp_path / "progress.json"
    (target / f"{BIG}.part").write_bytes(WANTED[BIG][:MIB])
    download({**job, "progress_path": str(path)})
    status = json.loads(path.read_text())
    assert status.pop("bytes_per_second") >= 0
    assert status.pop("elapsed") >= 0
    assert status == {
        "phase": "done",
        "files": len(WANTED),
        "files_done": len(WANTED),
        "current_bytes": TOTAL,
        "total_bytes": TOTAL,
        "resumed_bytes": MIB,
    }


def test_the_rate_is_that_of_the_last_seconds(tmp_path, monkeypatch):
    path = tmp_path / "progress.json"
    now = 100.0
    monkeypatch.setattr(program.time, "monotonic", lambda: now)
    progress = program.Progress(str(path))
    for second in range(30):
        now = 100.0 + second
        progress.write({"phase": "downloading"}, 0 if second < 19 else (second - 19) * MIB)
    monkeypatch.undo()
    assert json.loads(path.read_text())["bytes_per_second"] == MIB


def test_the_progress_file_is_written_at_most_once_a_second(tmp_path):
    path = tmp_path / "progress.json"
    progress = program.Progress(str(path))
    progress.write({"n": 1}, 0)
    progress.write({"n": 2}, 0)
    assert json.loads(path.read_text())["n"] == 1
    progress.write({"n": 3}, 0, final=True)
    assert json.loads(path.read_text())["n"] == 3


def test_hashing_the_last_files_is_a_phase_of_its_own(job, target):
    (target / f"{BIG}.part").write_bytes(WANTED[BIG])
    task = program.Download(only(job, BIG), lambda *_arguments: None)
    assert task._status()["phase"] == "verifying"


def test_a_signature_in_an_address_is_never_repeated():
    error = ValueError("404 for url 'https://s3.example.com/b/f?X-Amz-Signature=abc&x=1' again")
    assert program.said(error) == "404 for url 'https://s3.example.com/b/f' again"


def test_an_image_without_the_client_says_so(job, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(program.Failure) as raised:
        program.client()
    assert raised.value.kind == "no_client"


def test_the_result_is_the_last_line_whatever_the_image_has_set(job, hub):
    hostile = {"HF_HUB_OFFLINE": "1", "HF_HUB_ENABLE_HF_TRANSFER": "1"}
    process = start(job, **hostile)
    output = process.stdout.read()
    assert process.wait() == 0
    assert json.loads(output.splitlines()[-1])["ok"]


def test_further_authorities_are_trusted_beside_the_others(tmp_path, monkeypatch):
    import certifi

    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, "")
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nours\n")
    program.trust(str(tmp_path / "ca.pem"))
    assert os.environ["SSL_CERT_FILE"] == os.environ["REQUESTS_CA_BUNDLE"]
    together = Path(os.environ["SSL_CERT_FILE"]).read_text(encoding="utf-8")
    assert "ours" in together
    assert Path(certifi.where()).read_text(encoding="utf-8") in together
