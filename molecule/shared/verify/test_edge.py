# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The edge as its clients meet it, asked from the edge host itself."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import pytest
from conftest import Scenario
from testinfra.host import Host

SECRETS = "/etc/nginx/vllm/secrets.conf"
LOG = "/var/log/nginx/access.log"
STATUS = "/run/nginx-vllm-status.sock"
CHAT, MODELS = "/v1/chat/completions", "/v1/models"
LARGER_THAN_ALLOWED = 9_000_000  # bytes; above edge_client_max_body_size of every scenario

# What vLLM would answer, or what an escape from the allowed paths would look like.
HIDDEN_PATHS = [
    "/",
    "/metrics",
    "/health",
    "/version",
    "/docs",
    "/openapi.json",
    "/tokenize",
    "/invocations",
    "/pause",
    "/sleep",
    "/v1",
    "/v1/load_lora_adapter",
    "/v1/chat/completions/",
    "/v1/chat/completions/render",
    "/v1/models/gpt-oss-20b",
    "/v1/../metrics",
    "/v1/%2e%2e/metrics",
    "/v1/..%2fmetrics",
    "/v1/models/../../metrics",
    "//metrics",
    "/%6detrics",
    "/metrics%00",
    "/V1/models",
    "/v1/models;x",
    "/_e/404",
]


@dataclass(frozen=True)
class Answer:
    """A response of the edge, with header names in lower case."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def error(self) -> dict[str, Any]:
        """The error object of a body in OpenAI's format."""
        assert self.headers["content-type"] == "application/json", self
        error: dict[str, Any] = json.loads(self.body)["error"]
        return error


@dataclass(frozen=True)
class Edge:
    """Asks the edge with curl, from the edge host."""

    host: Host
    url: str
    key: str

    def ask(self, path: str, *options: str, key: str | None = "", data: str = "") -> Answer:
        """Send a request; with the key of the edge's first client unless another or None is given.

        `data` is a shell command whose output is posted.
        """
        # The edge is asked by an address that no certificate has to name.
        arguments = ["--silent", "--include", "--path-as-is", "--max-time", "60", *options]
        arguments += ["--http1.1", "--insecure"]
        if key is not None:
            arguments += ["--header", f"Authorization: Bearer {key or self.key}"]
        if data:
            arguments += ["--header", "Expect:", "--header", "Content-Type: application/json"]
            arguments += ["--data-binary", "@-"]
        arguments.append(f"{self.url}{path}")
        command = "curl " + " ".join(["%s"] * len(arguments))
        if data:
            command = f"{data} | {command}"
        done = self.host.run(command, *arguments)
        head, _, body = done.stdout.partition("\r\n\r\n")
        lines = head.split("\r\n")
        assert lines[0].startswith("HTTP/1.1 "), f"no answer to {path}: {done}"
        headers = dict(re.split(r":\s*", line, maxsplit=1) for line in lines[1:])
        return Answer(
            int(lines[0].split()[1]), {name.lower(): headers[name] for name in headers}, body
        )

    def chat(self, **request: Any) -> Answer:
        """Post a chat completion with a body of JSON."""
        return self.ask(CHAT, data=f"echo '{json.dumps(request)}'")

    def logged(self, answer: Answer) -> dict[str, Any]:
        """The line of the access log about an answer."""
        line = self.host.check_output("grep -F %s %s", answer.headers["x-request-id"], LOG)
        entry: dict[str, Any] = json.loads(line)
        return entry


@pytest.fixture(scope="module")
def edge(host: Host, scenario: Scenario) -> Edge:
    configuration = host.check_output("cat /etc/nginx/nginx.conf /etc/nginx/vllm/*.conf")
    listen = re.search(rf"listen (\S+:{scenario.edge_port})\b.* default_server;", configuration)
    key = re.search(r'"Bearer ([0-9a-f]{32,})"', host.file(SECRETS).content_string)
    assert listen and key
    address = listen[1].replace("0.0.0.0", "127.0.0.1")
    return Edge(host, f"{scenario.edge_scheme}://{address}", key[1])


# -- nginx on its host ----------------------------------------------------------------------------


def test_nginx_runs_now_and_at_boot(host: Host) -> None:
    nginx = host.service("nginx")
    assert nginx.is_running
    assert nginx.is_enabled


def test_nginx_runs_the_configuration_on_disk(edge: Edge) -> None:
    in_force = edge.host.file("/etc/nginx/vllm/in_force").content_string.strip()
    on_disk = edge.host.file("/etc/nginx/vllm/healthz.conf").content_string
    assert f"ok {in_force}" in on_disk
    assert edge.ask("/healthz", key=None).body == f"ok {in_force}\n"


def test_configuration_is_still_accepted(host: Host) -> None:
    assert host.run("nginx -t -q").rc == 0


def test_nginx_counts_on_a_socket_of_the_host(host: Host) -> None:
    answer = host.check_output(f"curl -sf --unix-socket {STATUS} http://localhost/stub_status")
    assert re.match(r"Active connections: \d+", answer)


def test_only_root_can_read_the_keys(edge: Edge) -> None:
    secrets = edge.host.file(SECRETS)
    assert (secrets.user, secrets.group, secrets.mode) == ("root", "root", 0o600)
    holders = edge.host.run("grep -rlF %s /etc /var/log /run", edge.key).stdout.split()
    assert holders == [SECRETS]


def test_a_stop_lets_streams_end(host: Host) -> None:
    shown = host.check_output("systemctl show nginx -p KillSignal -p ExecStop -p TimeoutStopUSec")
    properties = dict(line.split("=", 1) for line in shown.splitlines())
    longest = re.search(
        r"worker_shutdown_timeout (\d+)s;", host.file("/etc/nginx/nginx.conf").content_string
    )
    assert properties["KillSignal"] == "3"  # SIGQUIT
    assert not properties.get("ExecStop")
    assert longest and _seconds(properties["TimeoutStopUSec"]) > int(longest[1])


def _seconds(span: str) -> int:
    """Seconds in a time span as systemd prints it, such as `1h 1min 50s`."""
    units = {"d": 86400, "h": 3600, "min": 60, "s": 1}
    return sum(int(count) * units[unit] for count, unit in re.findall(r"(\d+)(d|h|min|s)", span))


# -- what is served -------------------------------------------------------------------------------


def test_models_are_listed(edge: Edge) -> None:
    answer = edge.ask(MODELS)
    assert answer.status == 200
    assert json.loads(answer.body)["data"]


@pytest.mark.parametrize("path", ["//v1/models", "/v1/%6dodels", "/v1/x/../models", "/v1/./models"])
def test_spellings_of_a_served_path_reach_vllm_in_one_form(edge: Edge, path: str) -> None:
    assert edge.ask(path).status == 200


@pytest.mark.parametrize("path", HIDDEN_PATHS)
def test_everything_else_is_hidden(edge: Edge, path: str) -> None:
    answer = edge.ask(path)
    assert answer.status == (400 if "%00" in path else 404)
    assert answer.error["type"] == "invalid_request_error"
    assert edge.logged(answer)["upstream"] == "", "the request was passed on to vLLM"


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [(CHAT, "GET", "POST"), (CHAT, "DELETE", "POST"), (MODELS, "POST", "GET")],
)
def test_other_methods_are_refused(edge: Edge, path: str, method: str, allowed: str) -> None:
    answer = edge.ask(path, "--request", method)
    assert answer.status == 405
    assert answer.headers["allow"] == allowed
    assert answer.error["code"] == "method_not_allowed"
    assert edge.logged(answer)["upstream"] == ""


# -- keys -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [CHAT, MODELS])
@pytest.mark.parametrize("key", [None, "0" * 64, "internal"])
def test_a_key_of_ours_is_needed(edge: Edge, path: str, key: str | None) -> None:
    answer = edge.ask(path, key=key, data="echo '{}'" if path == CHAT else "")
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.error["code"] == "invalid_api_key"
    assert edge.logged(answer)["upstream"] == ""


def test_a_longer_key_is_another_key(edge: Edge) -> None:
    assert edge.ask(MODELS, key=f"{edge.key}0").status == 401
    assert edge.ask(MODELS, key=edge.key[:-1]).status == 401


def test_a_key_in_another_case_is_another_key(edge: Edge) -> None:
    assert edge.ask(MODELS, key=edge.key.upper()).status == 401


def test_the_key_may_come_as_x_api_key(edge: Edge) -> None:
    assert edge.ask(MODELS, "--header", f"x-api-key: {edge.key}", key=None).status == 200


# -- errors ---------------------------------------------------------------------------------------


def test_vllms_own_errors_come_through(edge: Edge) -> None:
    answer = edge.chat(model="no-such-model", messages=[{"role": "user", "content": "Hi"}])
    assert answer.status == 404
    assert "no-such-model" in answer.error["message"]
    answer = edge.ask(CHAT, data="echo '{'")
    assert answer.status == 400
    assert answer.error["message"] != "The request is malformed."


def test_too_large_a_body(edge: Edge) -> None:
    answer = edge.ask(CHAT, data=f"head -c {LARGER_THAN_ALLOWED} /dev/zero")
    assert answer.status == 413
    assert answer.error["code"] == "request_too_large"


def test_too_long_a_url(edge: Edge) -> None:
    # More than a buffer of 8 KiB. Of a URL that needs several TLS records nginx leaves some unread,
    # and the client may get a reset before the answer.
    answer = edge.ask(f"/{'x' * 12_000}")
    assert answer.status == 414
    assert answer.error["type"] == "invalid_request_error"


def test_two_lengths_of_one_body(edge: Edge) -> None:
    answer = edge.ask(
        *(CHAT, "--request", "POST"),
        *("--header", "Content-Length: 3", "--header", "Transfer-Encoding: chunked"),
    )
    assert answer.status == 400
    assert answer.error["code"] == "bad_request"


# -- the log, and the way to vLLM -----------------------------------------------------------------


def test_every_answer_has_an_id_that_the_log_knows(edge: Edge) -> None:
    answer = edge.ask(f"{MODELS}?secret=in-the-query", "--header", "X-Request-Id: chosen-by-client")
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])
    entry = edge.logged(answer)
    assert (entry["method"], entry["path"], entry["status"]) == ("GET", MODELS, 200)
    assert entry["client"] in edge.host.file(SECRETS).content_string
    assert "in-the-query" not in json.dumps(entry)


def test_refused_requests_are_logged_as_they_were_made(edge: Edge) -> None:
    entry = edge.logged(edge.ask(CHAT, "--request", "POST", key=None))
    assert (entry["method"], entry["path"], entry["status"]) == ("POST", CHAT, 401)


def test_connections_to_vllm_are_kept(edge: Edge, scenario: Scenario) -> None:
    answer = edge.chat(
        model=scenario.instance, messages=[{"role": "user", "content": "Hi"}], max_tokens=1
    )
    backend = edge.logged(answer)["upstream"]
    sockets = edge.host.check_output("ss --no-header --tcp --numeric state established")
    peers = [line.split()[3] for line in sockets.splitlines()]
    assert backend in peers
