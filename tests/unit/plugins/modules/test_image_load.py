# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Loading an image, against an engine that reads archives as both of Docker's stores do."""

from __future__ import annotations

import http.server
import io
import json
import shutil
import socketserver
import tarfile
import threading
import time
import urllib.parse

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.baremetal.vllm.plugins.module_utils import _image_load
from ansible_collections.baremetal.vllm.plugins.modules import image_load
from ansible_collections.baremetal.vllm.tests.unit.small_image import SmallImage, digest

REPOSITORY = "registry.example.com:5000/vllm/vllm-openai"
OTHER_DIGEST = "sha256:" + "2b" * 32


class FakeEngine:
    """A Docker Engine without a registry.

    :ivar store: `classic` or `containerd`: who of the two reads an archive, and makes ids.
    :ivar images: by name.
    :ivar said: message that ends a load, after `reads` bytes of the archive where that is given.
    :ivar loads: the files of every archive that was read to its end.
    """

    def __init__(self, socket_path):
        self.socket_path = str(socket_path)
        self.store = "classic"
        self.architecture = "amd64"
        self.images = {}
        self.said = ""
        self.status = 200
        self.reads = None
        self.pause = 0.0
        self.heeds_names = True
        self.loads = []
        self.tags = []
        self.asked = []
        handler = type("Handler", (_Handler,), {"engine": self})
        self.server = _Server(self.socket_path, handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def have(self, identity, *names, digests=()):
        image = {"Id": identity, "RepoTags": [], "RepoDigests": list(digests), "Size": 4096}
        for name in (identity, *names, *digests):
            self.images[name] = image
        image["RepoTags"] = [name for name in names if "@" not in name]

    def load(self, archive):
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            files = {entry.name: tar.extractfile(entry).read() for entry in tar}
        self.loads.append(files)
        for name, content in files.items():
            if name.startswith("blobs/sha256/"):
                assert digest(content) == f"sha256:{name.rpartition('/')[2]}"
        if self.store == "classic":
            (listed,) = json.loads(files["manifest.json"])
            assert all(layer in files for layer in listed["Layers"])
            identity, names = digest(files[listed["Config"]]), listed["RepoTags"]
            digests = []
        else:
            assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
            (named,) = json.loads(files["index.json"])["manifests"]
            assert len(files[f"blobs/sha256/{named['digest'][7:]}"]) == named["size"]
            identity, names = named["digest"], [named["annotations"]["io.containerd.image.name"]]
            digests = [f"{names[0].rpartition(':')[0]}@{identity}"]
        self.have(identity, *(names if self.heeds_names else []), digests=digests)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    engine: FakeEngine

    def do_GET(self):
        path = urllib.parse.unquote(self.path)
        self.engine.asked.append(path)
        if path == "/version":
            self._answer(200, {"Arch": self.engine.architecture})
            return
        name = path[len("/images/") : -len("/json")]
        found = self.engine.images.get(name)
        self._answer(200 if found else 404, found or {"message": f"No such image: {name}"})

    def do_POST(self):
        self.engine.asked.append(self.path)
        parts = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(parts.query)
        path = urllib.parse.unquote(parts.path)
        if path.endswith("/tag"):
            name = f"{query['repo'][0]}:{query['tag'][0]}"
            self.engine.tags.append(name)
            self.engine.images[path[len("/images/") : -len("/tag")]]["RepoTags"].append(name)
            self.engine.images[name] = self.engine.images[path[len("/images/") : -len("/tag")]]
            self._answer(201, None)
            return
        assert self.path == "/images/load?quiet=1"
        assert self.headers["Content-Type"] == "application/x-tar"
        archive = b"".join(self._chunks())
        time.sleep(self.engine.pause)
        self.close_connection = True
        if self.engine.said:
            said = {"errorDetail": {"message": self.engine.said}, "error": self.engine.said}
            said |= {"message": self.engine.said}
            self._answer(self.engine.status, said)
            return
        self.engine.load(archive)
        self._answer(200, {"stream": "Loaded image"})

    def _chunks(self):
        read = 0
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
            read += size
            if self.engine.reads is not None and read > self.engine.reads:
                return
        self.rfile.readline()

    def _answer(self, status, body):
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def address_string(self):
        return "unix"

    def log_message(self, *_arguments):
        """Say nothing in the output of the tests."""


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def handle_error(self, *_arguments):
        """A client that hangs up in the middle is part of the tests."""


@pytest.fixture
def engine(tmp_path):
    engine = FakeEngine(tmp_path / "docker.sock")
    yield engine
    engine.server.shutdown()
    engine.server.server_close()


@pytest.fixture
def image():
    return SmallImage()


@pytest.fixture
def directory(image, tmp_path):
    return image.write(tmp_path / "image")


@pytest.fixture
def load(engine, image, directory, capsys):
    """Run the module against the engine and return its result."""

    def run_module(check_mode=False, **arguments):
        arguments.setdefault("socket", engine.socket_path)
        arguments.setdefault("image", f"{REPOSITORY}@{image.top}")
        arguments.setdefault("directory", str(directory))
        arguments.update(_ansible_check_mode=check_mode)
        with patch_module_args(arguments), pytest.raises(SystemExit):
            image_load.main()
        result = json.loads(capsys.readouterr().out)
        if result.get("failed"):
            assert result["msg"].endswith(".")
            assert "\n" not in result["msg"]
        return result

    return run_module


def local(image):
    return f"localhost/vllm/vllm-openai:{image.top[7:]}"


# What is loaded


@pytest.mark.parametrize("store", ["classic", "containerd"])
@pytest.mark.parametrize("indexed", [True, False], ids=["index", "manifest"])
def test_an_absent_image_is_loaded(engine, capsys, tmp_path, store, indexed):
    image = SmallImage(indexed=indexed)
    arguments = {
        "socket": engine.socket_path,
        "image": f"{REPOSITORY}:v1@{image.top}",
        "directory": str(image.write(tmp_path / "other")),
    }
    engine.store = store
    with patch_module_args(arguments), pytest.raises(SystemExit):
        image_load.main()
    result = json.loads(capsys.readouterr().out)
    assert result["changed"], result
    assert result["id"] == {"classic": image.config_digest, "containerd": image.top}[store]
    assert result["digest"] == f"{REPOSITORY}@{image.top}"
    assert result["local"] == local(image)
    assert result["size_bytes"] == 4096
    assert engine.images[local(image)]["Id"] == result["id"]
    (sent,) = engine.loads
    assert {digest(content) for name, content in sent.items() if "/" in name} == set(image.blobs)
    assert engine.tags == []


def test_what_is_loaded_is_not_loaded_again_and_its_directory_not_read(load, engine, directory):
    assert load()["changed"]
    shutil.rmtree(directory)
    result = load()
    assert not result["changed"]
    assert result["id"]
    assert len(engine.loads) == 1


def test_an_image_that_was_pulled_is_only_named(load, engine, image, directory):
    shutil.rmtree(directory)
    engine.have("sha256:1d", digests=[f"{REPOSITORY}@{image.top}"])
    assert load()["changed"]
    assert engine.tags == [local(image)]
    assert not load()["changed"]
    assert engine.loads == []


def test_a_local_name_counts_whatever_other_registries_call_the_image(load, engine, image):
    engine.have("sha256:1d", local(image), digests=[f"{REPOSITORY}@{OTHER_DIGEST}"])
    assert not load()["changed"]
    assert engine.loads == []


def test_an_engine_that_does_not_heed_the_name_is_told_it(load, engine, image):
    engine.heeds_names = False
    assert load()["changed"]
    assert engine.tags == [local(image)]
    assert engine.images[local(image)]["Id"] == image.config_digest


def test_what_the_directory_has_beside_the_image_is_not_sent(load, engine, image, directory):
    (directory / "blobs/sha256" / ("0" * 64)).write_bytes(b"other")
    (directory / "manifest.json").write_text('[{"RepoTags": ["nginx:latest"]}]')
    assert load()["changed"]
    (sent,) = engine.loads
    assert f"blobs/sha256/{'0' * 64}" not in sent
    assert json.loads(sent["manifest.json"])[0]["RepoTags"] == [local(image)]


def test_a_layer_that_is_in_it_twice_is_sent_once(load, engine, image):
    load()
    (listed,) = json.loads(engine.loads[0]["manifest.json"])
    assert len(listed["Layers"]) == 3
    assert len(set(listed["Layers"])) == 2


# Check mode


def test_check_mode_says_that_it_would_load(load, engine, directory):
    shutil.rmtree(directory)  # it is not copied in check mode either
    result = load(check_mode=True)
    assert result["changed"]
    assert result["id"] == ""
    assert engine.loads == []


def test_check_mode_says_that_it_would_name(load, engine, image):
    engine.have("sha256:1d", digests=[f"{REPOSITORY}@{image.top}"])
    assert load(check_mode=True)["changed"]
    assert engine.tags == []


def test_check_mode_says_that_nothing_is_to_do(load, engine):
    load()
    assert not load(check_mode=True)["changed"]


def test_check_mode_on_a_host_without_docker_does_not_fail(load, tmp_path):
    result = load(check_mode=True, socket=str(tmp_path / "absent.sock"))
    assert result["changed"]
    assert not result.get("failed")


# Failures, each with its sentence


def blob(directory, name):
    return directory / "blobs/sha256" / name[7:]


@pytest.mark.parametrize("part", ["top", "chosen", "config_digest", "layer"])
def test_a_damaged_blob_is_refused_before_anything_is_sent(load, engine, image, directory, part):
    name = digest(image.layers[1]) if part == "layer" else getattr(image, part)
    path = blob(directory, name)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    said = load()["msg"]
    assert said.startswith(f"{path} of image {REPOSITORY}@{image.top[:15]}… is damaged"), said
    assert "/images/load?quiet=1" not in engine.asked


@pytest.mark.parametrize("part", ["top", "config_digest", "layer"])
def test_a_missing_blob_is_named(load, engine, image, directory, part):
    name = digest(image.layers[1]) if part == "layer" else getattr(image, part)
    blob(directory, name).unlink()
    said = load()["msg"]
    assert said.startswith(f"Directory {directory} lacks blobs/sha256/{name[7:]} of image"), said
    assert engine.loads == []


def test_a_directory_without_an_image_is_refused(load, engine, directory):
    shutil.rmtree(directory)
    assert load()["msg"].startswith(f"Directory {directory} lacks index.json of image")


def test_a_directory_with_another_image_is_refused(load, engine, image):
    said = load(image=f"{REPOSITORY}@{OTHER_DIGEST}")["msg"]
    assert f"holds {image.top} and not image {REPOSITORY}@{OTHER_DIGEST[:15]}…" in said
    assert engine.loads == []


@pytest.mark.parametrize("text", ["", "{}", '{"manifests": [{"digest": "sha256:../../etc"}]}'])
def test_an_index_that_names_no_image_is_refused(load, directory, text):
    (directory / "index.json").write_text(text)
    assert "holds no image and not image" in load()["msg"]


def test_an_image_for_another_architecture_is_refused(load, engine, capsys, tmp_path):
    engine.architecture = "arm64"
    assert "is there for linux/amd64 and not for linux/arm64" in load()["msg"]
    plain = SmallImage(indexed=False)
    directory = str(plain.write(tmp_path / "plain"))
    said = load(image=f"{REPOSITORY}@{plain.top}", directory=directory)["msg"]
    assert "is there for linux/amd64 and not for linux/arm64" in said


def test_a_bundle_for_another_architecture_says_how_it_is_written(load, engine, tmp_path):
    arm = SmallImage("arm64", indexed=False)
    both = SmallImage()
    platform = {"os": "linux", "architecture": "arm64"}
    entry = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": arm.top}
    both.others = [{**entry, "size": 1, "platform": platform}]
    engine.architecture = "arm64"
    directory = str(both.seal().write(tmp_path / "both"))
    said = load(image=f"{REPOSITORY}@{both.top}", directory=directory)["msg"]
    assert "write the bundle again with bundle_architecture=arm64" in said
    assert engine.loads == []


FULL = "Error processing tar file(exit status 1): write /blobs: no space left on device"


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("reads", [None, 100], ids=["at the end", "in the middle"])
def test_a_full_disk_has_its_sentence(load, engine, image, directory, status, reads):
    engine.said, engine.status, engine.reads = FULL, status, reads
    if reads:
        image.layers = [bytes(3_000_000)] * 3
        shutil.rmtree(directory)
        image.seal().write(directory)
    said = load(image=f"{REPOSITORY}@{image.top}")["msg"]
    assert said.startswith("The disk of Docker's data is full while image"), said
    assert said.endswith(f"{FULL}.")


def test_another_failure_of_docker_is_quoted(load, engine):
    engine.said = "invalid diffID for layer 0"
    said = load()["msg"]
    assert said.startswith("Docker cannot load image")
    assert "invalid diffID for layer 0." in said


def test_another_id_than_its_digests_is_refused(load, engine, image, monkeypatch):
    def load_another(_archive):
        engine.have(OTHER_DIGEST, local(image))

    monkeypatch.setattr(engine, "load", load_another)
    said = load()["msg"]
    assert f"as {OTHER_DIGEST}, which is none of its digests" in said


def test_an_image_that_is_not_there_after_the_load_is_told(load, engine, monkeypatch):
    monkeypatch.setattr(engine, "load", lambda _archive: None)
    assert "and does not have it" in load()["msg"]


def test_docker_that_is_not_running_has_its_sentence(load, tmp_path):
    said = load(socket=str(tmp_path / "absent.sock"))["msg"]
    assert "because Docker is not running on this host" in said
    assert "systemctl start docker" in said


def test_a_load_that_takes_too_long_is_given_up(load, engine):
    engine.pause = 10
    start = time.monotonic()
    said = load(timeout=1)["msg"]
    assert "was not loaded within 1 seconds; raise timeout" in said
    assert time.monotonic() - start < 8


def test_a_file_that_shrinks_while_it_is_sent_ends_the_load(
    load, engine, image, directory, monkeypatch
):
    path = blob(directory, digest(image.layers[1]))
    verify = _image_load.ImageLoader._verify

    def verified_and_cut(self, each):
        verify(self, each)
        if each.digest == digest(image.layers[1]):
            path.write_bytes(b"")

    monkeypatch.setattr(_image_load.ImageLoader, "_verify", verified_and_cut)
    assert load()["msg"].startswith(f"{path} of image")
    assert engine.loads == []


# Parameters


def test_an_image_without_a_digest_is_refused(load):
    assert "has no digest, by which alone it can be verified" in load(image="vllm:v1")["msg"]
    assert "is no image reference" in load(image="VLLM:v1")["msg"]


def test_no_time_to_load_in_is_refused(load):
    assert load(timeout=0)["msg"].startswith("timeout: 0 is no time to load an image in")
