# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What a host serves of its models, and to whom: the server itself, on a port of this machine."""

from __future__ import annotations

import hashlib
import http.client
import inspect
import json
import subprocess
import sys
import threading
import time

import pytest

from ansible_collections.baremetal.vllm.plugins.module_utils import _model_seed_server as server

KEY = "k3y" * 12
COMMIT = "1a" * 20
HOME = "openai--gpt-oss-20b"
WEIGHTS = bytes(range(256)) * 4096
FILES = {"config.json": b"{}\n", "original/model 1.safetensors": WEIGHTS, "empty.txt": b""}


def add_copy(store, commit=COMMIT, files=None, manifest=True):
    """Put a complete copy into a store."""
    files = FILES if files is None else files
    directory = store / HOME / commit
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    entries = {
        name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in files.items()
    }
    if manifest:
        content = {"model": "openai/gpt-oss-20b", "commit": commit, "files": entries}
        (store / HOME / f"{commit}.json").write_text(json.dumps(content))
    return directory


@pytest.fixture
def store(tmp_path):
    add_copy(tmp_path)
    return tmp_path


@pytest.fixture
def ask(store):
    """Ask a server that serves the store: path, key, further headers; answer and body."""
    listener = server.Listener(0, server.catalogue(str(store)), KEY)
    threading.Thread(target=listener.serve_forever, args=(0.01,), daemon=True).start()
    connection = http.client.HTTPConnection("127.0.0.1", listener.server_address[1], timeout=10)

    def asked(path, key=KEY, method="GET", **headers):
        connection.request(method, f"{path}?{key}" if key else path, headers=headers)
        answer = connection.getresponse()
        return answer, answer.read()

    yield asked
    connection.close()
    listener.shutdown()
    listener.server_close()


def of(name):
    return f"/{HOME}/{COMMIT}/{name}"


class TestCatalogue:
    def test_it_has_the_files_of_complete_copies(self, store):
        found = server.catalogue(str(store))
        assert {path: file.size for path, file in found.items()} == {
            of(name): len(content) for name, content in FILES.items()
        }

    def test_a_copy_without_manifest_is_not_there(self, tmp_path):
        add_copy(tmp_path, manifest=False)
        assert server.catalogue(str(tmp_path)) == {}

    @pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": {"config.json": {}}}'])
    def test_a_manifest_that_is_none_is_passed_over(self, store, content):
        (store / HOME / f"{'2b' * 20}.json").write_text(content)
        assert len(server.catalogue(str(store))) == len(FILES)

    def test_a_copy_that_lacks_a_file_is_not_there_at_all(self, store):
        (store / HOME / COMMIT / "config.json").unlink()
        assert server.catalogue(str(store)) == {}

    def test_nor_is_one_with_a_file_of_another_size(self, store):
        (store / HOME / COMMIT / "config.json").write_text("{} \n")
        assert server.catalogue(str(store)) == {}

    def test_a_link_is_no_file(self, store, tmp_path):
        secret = tmp_path / "secret"
        secret.write_bytes(FILES["config.json"])
        path = store / HOME / COMMIT / "config.json"
        path.unlink()
        path.symlink_to(secret)
        assert server.catalogue(str(store)) == {}

    def test_names_of_revisions_are_no_copy(self, store):
        (store / HOME / "revisions.json").write_text(json.dumps({"main": COMMIT}))
        assert len(server.catalogue(str(store))) == len(FILES)

    def test_a_store_that_is_not_there_has_nothing(self, tmp_path):
        assert server.catalogue(str(tmp_path / "none")) == {}


class TestAnswers:
    @pytest.mark.parametrize("name", FILES)
    def test_a_file_comes_as_it_is(self, ask, name):
        answer, body = ask(of(name.replace(" ", "%20")))
        assert (answer.status, body) == (200, FILES[name])
        assert answer.headers["ETag"] == f'"{hashlib.sha256(FILES[name]).hexdigest()}"'

    def test_a_download_goes_on_where_it_was_cut(self, ask):
        answer, body = ask(of("original/model%201.safetensors"), Range="bytes=1000001-")
        size = len(WEIGHTS)
        assert (answer.status, body) == (206, WEIGHTS[1000001:])
        assert answer.headers["Content-Range"] == f"bytes 1000001-{size - 1}/{size}"

    def test_a_range_has_an_end(self, ask):
        answer, body = ask(of("original/model%201.safetensors"), Range="bytes=5-9")
        assert (answer.status, body) == (206, WEIGHTS[5:10])

    @pytest.mark.parametrize("name", ["config.json", "empty.txt"])
    def test_behind_the_end_there_is_nothing(self, ask, name):
        answer, body = ask(of(name), Range="bytes=3-")
        assert (answer.status, body) == (416, b"")
        assert answer.headers["Content-Range"] == f"bytes */{len(FILES[name])}"

    def test_a_range_of_another_kind_gets_the_whole_file(self, ask):
        answer, body = ask(of("config.json"), Range="lines=1-2")
        assert (answer.status, body) == (200, FILES["config.json"])

    def test_head_has_the_size_alone(self, ask):
        answer, body = ask(of("original/model%201.safetensors"), method="HEAD")
        assert (answer.status, body) == (200, b"")
        assert answer.headers["Content-Length"] == str(len(WEIGHTS))

    def test_one_connection_asks_for_many_files(self, ask):
        assert [ask(of("config.json"))[0].status for _time in range(3)] == [200] * 3

    @pytest.mark.parametrize("key", ["", "x", KEY[:-1], KEY + "x", KEY.upper(), "k%C3%A9y"])
    def test_without_the_key_there_is_nothing(self, ask, key):
        answer, body = ask(of("config.json"), key=key)
        assert (answer.status, body) == (404, b"")

    @pytest.mark.parametrize(
        "path",
        [
            "/",
            f"/{HOME}/{COMMIT}.json",
            f"/{HOME}/{COMMIT}",
            f"/{HOME}/{COMMIT}/../{COMMIT}.json",
            f"/{HOME}/{COMMIT}/%2e%2e/%2e%2e/secret",
            f"//{HOME}/{COMMIT}/other.json",
            "/etc/passwd",
        ],
    )
    def test_what_is_in_no_manifest_is_not_there(self, ask, store, path):
        (store / "secret").write_text("secret")
        assert ask(path)[0].status == 404

    def test_a_file_that_has_gone_since_is_not_there(self, ask, store):
        (store / HOME / COMMIT / "config.json").unlink()
        assert ask(of("config.json"))[0].status == 404
        assert ask(of("empty.txt"))[0].status == 200


class TestProcess:
    """As the container runs it: the text alone, and the job on standard input."""

    def test_it_says_what_it_serves_and_ends_by_itself(self, store, capfd):
        job = {"store": str(store), "port": 0, "key": KEY, "seconds": 0.2}
        command = [sys.executable, "-I", "-c", inspect.getsource(server)]
        began = time.monotonic()
        done = subprocess.run(
            command, input=json.dumps(job), capture_output=True, text=True, timeout=20, check=True
        )
        total = sum(map(len, FILES.values()))
        assert json.loads(done.stdout) == {"files": len(FILES), "bytes": total}
        assert done.stderr == ""
        assert time.monotonic() - began >= 0.2

    def test_it_says_nothing_of_requests(self, ask, capfd):
        ask(of("config.json"))
        ask("/nothing")
        assert capfd.readouterr() == ("", "")
