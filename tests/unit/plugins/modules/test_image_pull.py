# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Pulling an image, against an engine that speaks the Docker API on a real Unix socket.

The texts of the engine are those of Docker 20.10 with docker-registry 2.8.
"""

from __future__ import annotations

import base64
import http.server
import json
import re
import socketserver
import threading
import time
import urllib.parse

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.baremetal.vllm.plugins.module_utils._image_pull import (
    Progress,
    ProgressFile,
    credentials_of,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._image_reference import (
    PullError,
    Reference,
    image_names,
    local_name,
)
from ansible_collections.baremetal.vllm.plugins.modules import image_pull

DIGEST = "sha256:" + "1a" * 32
OTHER_DIGEST = "sha256:" + "2b" * 32
REGISTRY = "registry.example.com:5000"
BY_DIGEST = f"{REGISTRY}/vllm/vllm-openai@{DIGEST}"
BY_TAG = f"{REGISTRY}/vllm/vllm-openai:v0.32.0"
LOCAL = f"localhost/vllm/vllm-openai:{DIGEST[7:]}"
UNNAMED = {"Id": "sha256:" + "3c" * 32, "RepoTags": [], "RepoDigests": [BY_DIGEST], "Size": 4096}
IMAGE = {**UNNAMED, "RepoTags": [LOCAL]}

LAYERS = [
    {"status": "Pulling from vllm/vllm-openai", "id": DIGEST},
    {"status": "Already exists", "progressDetail": {}, "id": "base"},
    {"status": "Pulling fs layer", "progressDetail": {}, "id": "a"},
    {"status": "Pulling fs layer", "progressDetail": {}, "id": "b"},
    {"status": "Downloading", "progressDetail": {"current": 300, "total": 1000}, "id": "a"},
    {"status": "Downloading", "progressDetail": {"current": 50, "total": 500}, "id": "b"},
    {"status": "Download complete", "progressDetail": {}, "id": "a"},
    {"status": "Verifying Checksum", "progressDetail": {}, "id": "b"},
    {"status": "Extracting", "progressDetail": {"current": 10, "total": 1000}, "id": "a"},
    {"status": "Pull complete", "progressDetail": {}, "id": "a"},
    {"status": "Pull complete", "progressDetail": {}, "id": "b"},
    {"status": f"Digest: {DIGEST}"},
    {"status": "Status: Downloaded newer image"},
]


class FakeEngine:
    """A Docker Engine with one registry behind it.

    `images` are those it has, by the name asked for; a pull streams `stream`, or answers
    `refusal` (its status and body), and then has `pulled`.
    """

    def __init__(self, socket_path):
        self.socket_path = str(socket_path)
        self.images = {}
        self.stream = list(LAYERS)
        self.refusal = {}
        self.pulled = {BY_DIGEST: IMAGE, BY_TAG: IMAGE}
        self.pause = 0.0
        self.pulls = []
        self.tags = {}  # of the registry, by reference
        self.asked = []
        self.named = []
        self.refusal_to_name = ""
        engine = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def address_string(self):
                return "unix"

            def log_message(self, *_arguments):
                """Say nothing in the output of the tests."""

            def answer(self, status, body):
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_GET(self):
                if self.path.startswith("/distribution/"):
                    tagged = self.path[len("/distribution/") : -len("/json")]
                    engine.asked.append((tagged, self.headers.get("X-Registry-Auth")))
                    if tagged in engine.tags:
                        self.answer(200, {"Descriptor": {"digest": engine.tags[tagged]}})
                    else:
                        self.answer(403, {"message": "unauthorized"})
                    return
                name = urllib.parse.unquote(self.path)[len("/images/") : -len("/json")]
                if name in engine.images:
                    self.answer(200, engine.images[name])
                else:
                    self.answer(404, {"message": f"No such image: {name}"})

            def do_POST(self):
                query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
                if not self.path.startswith("/images/create"):
                    identity = urllib.parse.unquote(self.path).partition("/tag?")[0]
                    name = f"{query['repo'][0]}:{query['tag'][0]}"
                    engine.named.append((identity[len("/images/") :], name))
                    if engine.refusal_to_name:
                        self.answer(500, {"message": engine.refusal_to_name})
                        return
                    for found in engine.images.values():
                        found["RepoTags"] = [*found["RepoTags"], name]
                    self.answer(201, "")
                    return
                engine.pulls.append(
                    (query["fromImage"][0], query["tag"][0], self.headers.get("X-Registry-Auth"))
                )
                if engine.refusal:
                    self.answer(**engine.refusal)
                    return
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for message in engine.stream:
                    chunk = json.dumps(message).encode() + b"\r\n"
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                    self.wfile.flush()
                    time.sleep(engine.pause)
                engine.images.update(engine.pulled)
                self.wfile.write(b"0\r\n\r\n")

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                """A client that hangs up in the middle is part of the tests."""

        self.server = Server(self.socket_path, Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def engine(tmp_path):
    engine = FakeEngine(tmp_path / "docker.sock")
    yield engine
    engine.server.shutdown()
    engine.server.server_close()


@pytest.fixture
def pull(engine, capsys, tmp_path):
    """Run the module against the engine; return its result, its text under `_text`."""

    def run_module(image=BY_DIGEST, check_mode=False, **arguments):
        arguments.setdefault("socket", engine.socket_path)
        arguments.setdefault("config_file", str(tmp_path / "config.json"))
        arguments.update(image=image, _ansible_check_mode=check_mode)
        with patch_module_args(arguments), pytest.raises(SystemExit):
            image_pull.main()
        text = capsys.readouterr().out
        return {**json.loads(text), "_text": text}

    return run_module


# What is there is left alone


def test_an_image_that_is_there_by_digest_is_not_pulled(pull, engine):
    engine.images[BY_DIGEST] = IMAGE
    result = pull()
    assert not result["changed"]
    assert (result["id"], result["digest"]) == (IMAGE["Id"], BY_DIGEST)
    assert (result["size_bytes"], result["downloaded_bytes"]) == (4096, 0)
    assert engine.pulls == []


def test_an_image_that_is_there_by_tag_is_not_pulled(pull, engine):
    engine.images[BY_TAG] = IMAGE
    result = pull(BY_TAG)
    assert not result["changed"]
    assert result["digest"] == BY_DIGEST
    assert engine.pulls == []


def test_an_image_that_was_built_here_has_no_digest(pull, engine):
    engine.images[BY_TAG] = {**UNNAMED, "RepoDigests": []}
    result = pull(BY_TAG)
    assert (result["changed"], result["digest"], result["local"]) == (False, "", "")
    assert engine.named == []


def test_the_digest_of_a_tag_is_that_of_its_own_repository(pull, engine):
    foreign = f"mirror.example.com/other@{OTHER_DIGEST}"
    engine.images[BY_TAG] = {**IMAGE, "RepoDigests": [foreign, BY_DIGEST]}
    assert pull(BY_TAG)["digest"] == BY_DIGEST


# The local name


@pytest.mark.parametrize("reference", [BY_DIGEST, BY_TAG, f"{BY_TAG}@{DIGEST}"])
def test_what_is_there_gets_its_local_name(pull, engine, reference):
    engine.images = {BY_DIGEST: dict(UNNAMED), BY_TAG: dict(UNNAMED)}
    result = pull(reference)
    assert result["changed"]
    assert (result["local"], result["digest"]) == (LOCAL, BY_DIGEST)
    assert engine.named == [(IMAGE["Id"], LOCAL)]
    assert engine.pulls == []
    assert not pull(reference)["changed"]


@pytest.mark.parametrize("reference", [BY_DIGEST, BY_TAG])
def test_what_is_pulled_gets_its_local_name(pull, engine, reference):
    engine.pulled = {BY_DIGEST: dict(UNNAMED), BY_TAG: dict(UNNAMED)}
    assert pull(reference)["local"] == LOCAL
    assert engine.named == [(IMAGE["Id"], LOCAL)]


def test_check_mode_says_that_it_would_name(pull, engine):
    engine.images[BY_DIGEST] = dict(UNNAMED)
    assert pull(check_mode=True)["changed"]
    assert engine.named == []


def test_an_image_that_was_loaded_is_found_by_its_local_name(pull, engine):
    engine.images[LOCAL] = {**IMAGE, "RepoDigests": []}
    result = pull()
    assert not result["changed"]
    assert (result["id"], result["digest"], result["local"]) == (IMAGE["Id"], BY_DIGEST, LOCAL)


def test_a_local_name_counts_whatever_other_registries_call_the_image(pull, engine):
    elsewhere = {"Id": "sha256:4d", "RepoDigests": [BY_DIGEST.replace("1a", "2b")]}
    engine.images[LOCAL] = {**IMAGE, **elsewhere}
    result = pull()
    assert not result["changed"]
    assert result["id"] == "sha256:4d"


def test_of_several_digests_the_one_that_has_its_name_is_kept(pull, engine):
    digests = [BY_DIGEST.replace("1a", "2b"), BY_DIGEST]
    engine.images[BY_TAG] = {**IMAGE, "RepoDigests": digests}
    result = pull(BY_TAG)
    assert (result["changed"], result["digest"]) == (False, BY_DIGEST)


def test_docker_that_does_not_name_an_image_has_its_sentence(pull, engine):
    engine.images[BY_DIGEST] = dict(UNNAMED)
    engine.refusal_to_name = "no"
    said = pull()["msg"]
    assert said.startswith(f"Docker has image {REGISTRY}/vllm/vllm-openai@")
    assert said.endswith(": no.")


@pytest.mark.parametrize(
    ("repository", "expected"),
    [
        ("docker.io/vllm/vllm-openai", "vllm/vllm-openai"),
        ("vllm/vllm-openai", "vllm/vllm-openai"),
        ("registry.example.com:5000/a/b/c", "a/b/c"),
        ("localhost/vllm", "vllm"),
        ("[2001:db8::1]:5000/vllm", "vllm"),
        ("debian", "debian"),
    ],
)
def test_a_local_name_has_the_repository_without_its_registry(repository, expected):
    assert local_name(repository, DIGEST) == f"localhost/{expected}:{DIGEST[7:]}"
    assert Reference.parse(f"{repository}@{DIGEST}").local == local_name(repository, DIGEST)
    assert Reference.parse(f"{repository}:v1").local == ""
    assert local_name(repository, "sha256:1a") == ""
    assert Reference.parse(local_name(repository, DIGEST)).is_local
    assert not Reference.parse(f"{repository}:v1").is_local


@pytest.mark.parametrize(
    ("references", "further"),
    [
        ([LOCAL, BY_TAG], {BY_DIGEST}),
        ([LOCAL, BY_DIGEST], {LOCAL, BY_DIGEST}),
        ([BY_DIGEST, BY_TAG], {LOCAL}),
        ([LOCAL], set()),
        ([BY_TAG, "no reference"], set()),
    ],
)
def test_one_image_has_many_names(references, further):
    assert image_names(references) == further


# What is absent is pulled and verified


def test_an_absent_image_is_pulled_by_its_digest(pull, engine):
    result = pull()
    assert result["changed"]
    assert (result["id"], result["digest"]) == (IMAGE["Id"], BY_DIGEST)
    assert result["downloaded_bytes"] == 1500
    assert engine.pulls == [(f"{REGISTRY}/vllm/vllm-openai", DIGEST, None)]


def test_with_tag_and_digest_the_digest_is_pulled(pull, engine):
    assert pull(f"{BY_TAG}@{DIGEST}")["digest"] == BY_DIGEST
    assert engine.pulls[0][:2] == (f"{REGISTRY}/vllm/vllm-openai", DIGEST)


def test_an_absent_tag_is_pulled(pull, engine):
    result = pull(BY_TAG)
    assert result["changed"]
    assert result["digest"] == BY_DIGEST
    assert engine.pulls[0][:2] == (f"{REGISTRY}/vllm/vllm-openai", "v0.32.0")


def test_an_image_without_the_promised_digest_is_refused(pull, engine):
    engine.pulled = {BY_DIGEST: {**UNNAMED, "RepoDigests": [BY_DIGEST.replace("1a", "2b")]}}
    result = pull()
    assert result["failed"]
    assert "does not carry that digest" in result["msg"]
    assert BY_DIGEST in result["msg"]


# A pinned tag


def test_a_pinned_tag_that_names_the_same_image_is_pulled(pull, engine):
    engine.tags[BY_TAG] = DIGEST
    assert pull(f"{BY_TAG}@{DIGEST}", refuse_moved_tag=True)["changed"]
    assert engine.asked == [(BY_TAG, None)]


def test_a_pinned_tag_that_has_moved_is_refused_before_the_pull(pull, engine):
    engine.tags[BY_TAG] = OTHER_DIGEST
    result = pull(f"{BY_TAG}@{DIGEST}", refuse_moved_tag=True)
    assert result["failed"]
    assert result["msg"] == (
        f"Tag v0.32.0 of {REGISTRY}/vllm/vllm-openai names {OTHER_DIGEST[:19]}… now, and"
        f" {DIGEST[:19]}… is pinned; find out what changed, then run playbooks/pin.yml and have the"
        " new pin reviewed."
    )
    assert engine.pulls == []


def test_an_image_that_is_there_is_not_asked_about(pull, engine):
    engine.images[BY_DIGEST] = IMAGE
    engine.tags[BY_TAG] = OTHER_DIGEST
    assert not pull(f"{BY_TAG}@{DIGEST}", refuse_moved_tag=True)["changed"]
    assert engine.asked == []


def test_a_registry_that_does_not_tell_the_tag_is_pulled_from_by_digest(pull, engine):
    assert pull(f"{BY_TAG}@{DIGEST}", refuse_moved_tag=True)["changed"]
    assert len(engine.asked) == 1


def test_a_moved_tag_is_no_matter_where_nobody_minds(pull, engine):
    engine.tags[BY_TAG] = OTHER_DIGEST
    assert pull(f"{BY_TAG}@{DIGEST}")["changed"]


def test_the_tag_is_asked_for_with_the_credentials(pull, engine, tmp_path):
    auth = base64.b64encode(b"me:pass").decode()
    config = {"auths": {REGISTRY: {"auth": auth}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    engine.tags[BY_TAG] = DIGEST
    pull(f"{BY_TAG}@{DIGEST}", refuse_moved_tag=True)
    assert engine.asked[0][1] == engine.pulls[0][2]
    assert engine.asked[0][1]


# Check mode


def test_check_mode_says_that_it_would_pull(pull, engine):
    assert pull(check_mode=True)["changed"]
    assert engine.pulls == []


def test_check_mode_says_that_nothing_is_to_do(pull, engine):
    engine.images[BY_DIGEST] = IMAGE
    assert not pull(check_mode=True)["changed"]


def test_check_mode_on_a_host_without_docker_does_not_fail(pull, tmp_path):
    result = pull(check_mode=True, socket=str(tmp_path / "absent.sock"))
    assert result["changed"]
    assert not result.get("failed")


# Failures, each with its sentence

WRONG_DIGEST = (
    404,
    f"manifest for {BY_DIGEST} not found: manifest unknown: manifest unknown",
)


@pytest.mark.parametrize(
    ("status", "message", "sentence"),
    [
        (*WRONG_DIGEST, f"Registry {REGISTRY} has no image"),
        (
            500,
            f'Get "https://{REGISTRY}/v2/vllm/vllm-openai/manifests/x": no basic auth credentials',
            f"Registry {REGISTRY} does not let us pull",
        ),
        (
            500,
            f'Get "https://{REGISTRY}/v2/": unauthorized: authentication required',
            f"`docker login {REGISTRY}`",
        ),
        (
            500,
            f'Get "https://{REGISTRY}/v2/": dial tcp 192.0.2.1:5000: connect: connection refused',
            f"Registry {REGISTRY} cannot be reached",
        ),
        (
            500,
            f'Get "https://{REGISTRY}/v2/": dial tcp: lookup registry.example.com: no such host',
            f"Registry {REGISTRY} cannot be reached",
        ),
        (
            500,
            f'Get "https://{REGISTRY}/v2/": http: server gave HTTP response to HTTPS client',
            "insecure-registries",
        ),
        (
            500,
            f'Get "https://{REGISTRY}/v2/": x509: certificate signed by unknown authority',
            f"/etc/docker/certs.d/{REGISTRY}/ca.crt",
        ),
        (500, "toomanyrequests: You have reached your pull rate limit.", "rate limit"),
        (500, "something new", "Docker cannot pull image"),
    ],
)
def test_a_refused_pull_has_its_sentence(pull, engine, status, message, sentence):
    engine.refusal = {"status": status, "body": {"message": message}}
    result = pull()
    assert result["failed"]
    assert sentence in result["msg"]
    assert message.rstrip(".") in result["msg"]
    assert "vllm-openai@sha256:1a1a1a1a" in result["msg"]


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (
            "write /var/lib/docker/tmp/GetImageBlob12345: no space left on device",
            "The disk of Docker's data is full",
        ),
        (
            "failed to register layer: Error processing tar file(exit status 1): write /c: "
            "no space left on device",
            "The disk of Docker's data is full",
        ),
        (f"filesystem layer verification failed for digest {DIGEST}", "sent other content"),
        ("unexpected EOF", "cannot be reached"),
    ],
)
def test_a_pull_that_breaks_off_has_its_sentence(pull, engine, tmp_path, message, sentence):
    engine.stream = [*LAYERS[:6], {"errorDetail": {"message": message}, "error": message}]
    status_file = tmp_path / "status.json"
    result = pull(progress_file=str(status_file))
    assert result["failed"]
    assert sentence in result["msg"]
    assert "vllm-openai@sha256:1a1a1a1a" in result["msg"]
    status = json.loads(status_file.read_text())
    assert (status["phase"], status["current_bytes"]) == ("failed", 350)


def test_docker_that_is_not_running_has_its_sentence(pull, tmp_path):
    result = pull(socket=str(tmp_path / "absent.sock"))
    assert result["failed"]
    assert "Docker is not running" in result["msg"]
    assert "systemctl start docker" in result["msg"]


def test_a_pull_that_takes_too_long_is_given_up(pull, engine):
    engine.pause = 0.4
    start = time.monotonic()
    result = pull(timeout=1)
    assert time.monotonic() - start < 3
    assert result["failed"]
    assert "within 1 seconds" in result["msg"]
    assert re.search(r"of \d layers done", result["msg"])


def test_an_engine_that_falls_silent_is_given_up(pull, engine):
    engine.stream = LAYERS[:3]
    engine.pause = 10
    start = time.monotonic()
    result = pull(timeout=1)
    assert time.monotonic() - start < 8
    assert "within 1 seconds" in result["msg"]


@pytest.mark.parametrize(
    ("image", "wrong"),
    [
        ("vllm/vllm-openai", "neither tag nor digest"),
        ("localhost:5000/vllm", "neither tag nor digest"),
        ("vllm/vllm-openai:", "no image reference"),
        ("vllm/VLLM:1", "no image reference"),
        ("vllm/vllm-openai@sha256:12", "digest"),
        ("vllm/vllm-openai:v0.32.0@md5:12", "digest"),
        ("vllm/vllm-openai:v 1", "tag"),
        ("", "no image reference"),
    ],
)
def test_a_reference_that_names_no_one_image_is_refused(pull, engine, image, wrong):
    result = pull(image)
    assert result["failed"]
    assert wrong in result["msg"]
    assert "repository@sha256:<64 hex digits>" in result["msg"]
    assert engine.pulls == []


def test_no_time_to_pull_in_is_refused(pull):
    assert "timeout: 0" in pull(timeout=0)["msg"]


# Credentials

PASSWORD = "pass:word-4711"


def write_config(tmp_path, key, entry):
    (tmp_path / "config.json").write_text(json.dumps({"auths": {key: entry}}))


def basic(user, password):
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize("key", [REGISTRY, f"https://{REGISTRY}", f"http://{REGISTRY}/v2/"])
def test_the_credentials_of_the_registry_are_sent(pull, engine, tmp_path, key):
    write_config(tmp_path, key, basic("robot", PASSWORD))
    pull()
    sent = json.loads(base64.urlsafe_b64decode(engine.pulls[0][2]))
    assert (sent["username"], sent["password"]) == ("robot", PASSWORD)


def test_credentials_that_are_given_win_and_are_hidden(pull, engine, tmp_path):
    stored = {"auths": {REGISTRY: {"auth": base64.b64encode(b"me:old").decode()}}}
    (tmp_path / "config.json").write_text(json.dumps(stored))
    result = pull(username="robot", password="hunter2")
    sent = json.loads(base64.urlsafe_b64decode(engine.pulls[0][2]))
    assert (sent["username"], sent["password"]) == ("robot", "hunter2")
    assert "hunter2" not in result["_text"]


def test_the_credentials_of_another_registry_are_not_sent(pull, engine, tmp_path):
    write_config(tmp_path, "other.example.com", basic("robot", PASSWORD))
    pull()
    assert engine.pulls[0][2] is None


def test_docker_hub_is_known_by_its_old_name(tmp_path):
    write_config(tmp_path, "https://index.docker.io/v1/", basic("robot", PASSWORD))
    reference = Reference.parse("vllm/vllm-openai:v0.32.0")
    assert credentials_of(str(tmp_path / "config.json"), reference.registry) == ("robot", PASSWORD)


def test_a_password_is_never_in_the_output(pull, engine, tmp_path):
    write_config(tmp_path, REGISTRY, basic("robot", PASSWORD))
    message = f"unauthorized: incorrect username or password {PASSWORD}"
    engine.refusal = {"status": 500, "body": {"message": message}}
    result = pull()
    assert result["failed"]
    assert PASSWORD not in result["_text"]


@pytest.mark.parametrize(
    "content",
    ["no json", "[]", json.dumps({"auths": {REGISTRY: {"auth": "no base64!"}}})],
)
def test_credentials_that_cannot_be_read_have_their_sentence(tmp_path, content):
    config = tmp_path / "config.json"
    config.write_text(content)
    with pytest.raises(PullError, match="docker login") as raised:
        credentials_of(str(config), REGISTRY)
    assert "no base64!" not in str(raised.value)


# References


@pytest.mark.parametrize(
    ("text", "registry", "name"),
    [
        ("alpine:3", "docker.io", "alpine:3"),
        ("vllm/vllm-openai:v1", "docker.io", "vllm/vllm-openai:v1"),
        ("localhost/x:1", "localhost", "localhost/x:1"),
        ("127.0.0.1:5000/x:1", "127.0.0.1:5000", "127.0.0.1:5000/x:1"),
        (f"r.example.com/a/b:1@{DIGEST}", "r.example.com", f"r.example.com/a/b@{DIGEST}"),
    ],
)
def test_a_reference_knows_its_registry_and_its_name(text, registry, name):
    reference = Reference.parse(text)
    assert (reference.registry, reference.name) == (registry, name)


# Progress


def progress_after(count):
    progress = Progress()
    for message in LAYERS[:count]:
        progress.feed(message)
    return progress


@pytest.mark.parametrize(
    ("count", "phase", "done", "current", "total", "final"),
    [
        pytest.param(1, "pulling", 0, 0, 0, True, id="manifest"),
        pytest.param(4, "pulling", 1, 0, 0, False, id="layers announced"),
        pytest.param(5, "pulling", 1, 300, 1000, False, id="first layer begun"),
        pytest.param(6, "pulling", 1, 350, 1500, True, id="both begun"),
        pytest.param(7, "pulling", 1, 1050, 1500, True, id="first layer there"),
        pytest.param(8, "extracting", 1, 1500, 1500, True, id="all there"),
        pytest.param(10, "extracting", 2, 1500, 1500, True, id="first layer unpacked"),
        pytest.param(13, "extracting", 3, 1500, 1500, True, id="all unpacked"),
    ],
)
def test_progress_follows_the_messages(count, phase, done, current, total, final):
    progress = progress_after(count)
    status = progress.status(progress.phase, 1.25)
    assert status == {
        "phase": phase,
        "layers_done": done,
        "layers": {1: 0}.get(count, 3),
        "current_bytes": current,
        "total_bytes": total,
        "total_is_final": final,
        "elapsed": 1.2,
    }


def test_the_progress_file_ends_with_done(pull, tmp_path):
    status_file = tmp_path / "status.json"
    pull(progress_file=str(status_file))
    status = json.loads(status_file.read_text())
    assert (status["phase"], status["layers_done"], status["layers"]) == ("done", 3, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docker.sock", "status.json"]


def test_the_progress_file_is_not_written_for_an_image_that_is_there(pull, engine, tmp_path):
    engine.images[BY_DIGEST] = IMAGE
    pull(progress_file=str(tmp_path / "status.json"))
    assert not (tmp_path / "status.json").exists()


def test_the_progress_file_is_written_at_most_once_a_second(tmp_path):
    path = tmp_path / "status.json"
    status_file = ProgressFile(str(path))
    status_file.write({"n": 1})
    status_file.write({"n": 2})
    assert json.loads(path.read_text()) == {"n": 1}
    status_file.write({"n": 3}, final=True)
    assert json.loads(path.read_text()) == {"n": 3}


def test_a_progress_file_that_cannot_be_written_stops_before_the_pull(pull, engine, tmp_path):
    result = pull(progress_file=str(tmp_path / "absent" / "status.json"))
    assert result["failed"]
    assert result["msg"].startswith("progress_file: ")
    assert engine.pulls == []
