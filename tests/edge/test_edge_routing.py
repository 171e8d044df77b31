# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What reaches the engines, and what never does."""

from __future__ import annotations

import pytest
from edge_server import CHAT, Edge, chat
from engines import reply
from http_client import request
from rendering import ALICE, INTERNAL_KEY

# What vLLM 0.33.0 serves by any of its options: inference, administration, information.
# Sources: docs/usage/security.md and entrypoints/serve of its source.
NEVER_SERVED = (
    *("/invocations", "/generative_scoring", "/pooling", "/classify", "/score", "/v1/score"),
    *("/rerank", "/v1/rerank", "/v2/rerank", "/v2/embed", "/cohere/v2/embed"),
    *("/pause", "/resume", "/is_paused", "/abort_requests"),
    *("/scale_elastic_ep", "/is_scaling_elastic_ep", "/fault_tolerance/status"),
    *("/init_weight_transfer_engine", "/start_weight_update", "/start_draft_weight_update"),
    *("/update_weights", "/finish_weight_update", "/update_weight_version"),
    *("/shutdown_weight_transfer_engine", "/weight_info", "/weight_checker", "/get_world_size"),
    *("/metrics", "/kv_event_sources", "/tokenize", "/detokenize", "/tokenizer_info"),
    *("/health", "/ping", "/version", "/load", "/docs", "/redoc", "/openapi.json"),
    *("/server_info", "/reset_prefix_cache", "/reset_mm_cache", "/reset_encoder_cache"),
    *("/sleep", "/wake_up", "/is_sleeping", "/release_kv_cache_memory", "/collective_rpc"),
    *("/start_profile", "/stop_profile", "/v1/load_lora_adapter", "/v1/unload_lora_adapter"),
    *("/inference/v1/generate", "/v1/audio/transcriptions", "/v1/realtime", "/v1", "/v1/", "/"),
    # On request only, and not asked for in this variant.
    *("/v1/embeddings", "/v1/messages", "/v1/messages/count_tokens"),
    # Almost a served path.
    *("/v1/chat", "/v1/chat/completions/", "/v1/chat/completions/render", "/v1/completions/1"),
    *("/V1/chat/completions", "/v1/Models", "/v1/models/", "/v1/models/gpt-oss-20b/x"),
    *("/v1/chat/completions;x=1", "/v1/chat/completions%00", "/v1/chat/completions%20"),
)
WRITINGS = {
    "as it is": "{path}",
    "with a query": "{path}?a=1",
    "letters encoded": "{encoded}",
    "from below a served path": "/v1/chat/completions/../../..{path}",
    "encoded dots": "/v1/chat/%2e%2e/%2e%2e{path}",
    "encoded slashes": "/v1/models%2f..%2f..{path}",
    "doubled slashes": "/{path}",
    "behind a dot": "/.{path}",
    "whole address": "http://edge.example.net{path}",
    "doubly encoded": "/v1/%252e%252e{path}",
}
# Both methods of vLLM's routes; OPTIONS skips vLLM's own check of keys.
METHODS = ("GET", "POST", "OPTIONS")


@pytest.mark.parametrize("writing", WRITINGS.values(), ids=WRITINGS)
def test_what_is_not_listed_is_a_404_that_no_engine_sees(edge: Edge, writing: str) -> None:
    for path in NEVER_SERVED:
        encoded = path[:1] + "".join(f"%{ord(letter):02x}" for letter in path[1:])
        target = writing.format(path=path, encoded=path if "%" in path else encoded)
        for method in METHODS:
            answer = edge.ask(method, target, {} if method == "POST" else None)
            # %00 in a path is malformed, wherever it leads.
            answer.refused(*((400, "bad_request") if "%00" in target else (404, "unknown_url")))
    assert edge.seen() == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/models"), ("POST", CHAT), ("POST", "/v1/completions"), ("POST", "/v1/responses")],
)
@pytest.mark.parametrize(
    "writing",
    [
        "{path}",
        "/{path}",
        "/x/..{path}",
        "/x/..%2f{path}",
        "/%76%31/../{path}",
        "{path}#fragment",
        "http://edge.example.net{path}",
    ],
)
def test_engines_see_served_paths_in_one_writing(
    edge: Edge, method: str, path: str, writing: str
) -> None:
    body = chat() if method == "POST" else None
    answer = edge.ask(method, writing.format(path=path), body)
    assert answer.status == 200
    assert [(one.method, one.target) for one in edge.seen()] == [(method, path)]


@pytest.mark.parametrize(
    ("path", "wrong", "right"),
    [
        *((CHAT, wrong, "POST") for wrong in ("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS")),
        ("/v1/models", "POST", "GET"),
        ("/v1/responses", "GET", "POST"),
    ],
)
def test_another_method_is_a_405_that_names_the_right_one(
    edge: Edge, path: str, wrong: str, right: str
) -> None:
    answer = edge.ask(wrong, path, chat() if wrong in ("POST", "PUT", "PATCH") else None)
    if wrong == "HEAD":
        assert (answer.status, answer.body) == (405, b"")
    else:
        answer.refused(405, "method_not_allowed")
    assert answer.headers["Allow"] == right
    assert edge.seen() == []


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "get", "FOO", "P@ST"])
def test_strange_methods_are_refused_as_json(edge: Edge, method: str) -> None:
    answer = edge.send(request(method, CHAT, key=ALICE))
    assert answer.status in (400, 405)
    answer.refused(answer.status)
    assert edge.seen() == []


def test_an_engine_is_told_what_it_must_know_and_nothing_of_the_clients_key(edge: Edge) -> None:
    sent = {
        "X-Forwarded-For": "203.0.113.9",
        "X-Request-Id": "mine",
        "Accept-Encoding": "gzip",
        "Connection": "close, X-Request-Id",
        "Upgrade": "h2c",
    }
    answer = edge.ask("POST", CHAT, chat(), headers=sent)
    [seen] = edge.seen()
    assert seen.json == chat()
    assert seen.header("Authorization") == f"Bearer {INTERNAL_KEY}"
    assert seen.header("X-Request-Id") == answer.headers["X-Request-Id"]
    assert seen.header("X-Forwarded-For") == "127.0.0.1"
    assert seen.header("Accept-Encoding") is None
    assert seen.header("Connection") is None
    assert seen.header("Upgrade") is None
    assert ALICE not in str(seen.headers)


@pytest.mark.variant("one engine")
@pytest.mark.parametrize("status", [400, 404, 409, 422, 429, 500, 501])
def test_what_an_engine_says_comes_through_as_it_said_it(edge: Edge, status: int) -> None:
    body = b'{"error":{"message":"as vLLM words it","type":"X","param":null,"code":%d}}' % status
    edge.engines[0].behaviour = reply(status, body)
    answer = edge.chat()
    assert (answer.status, answer.body) == (status, body)
    # With 500 the engine may have died of a generation, which no client shall repeat.
    assert answer.headers["X-Should-Retry"] == ("false" if status == 500 else None)


@pytest.mark.variant("one engine")
def test_an_engine_steers_neither_the_edge_nor_its_clients(edge: Edge) -> None:
    steering = {
        **{"X-Accel-Redirect": "/_e/429", "X-Accel-Limit-Rate": "1", "X-Should-Retry": "true"},
        **{"WWW-Authenticate": "Basic", "Allow": "PUT", "Retry-After": "9999", "Server": "uvicorn"},
    }
    body = b'{"id": "kept"}'
    edge.engines[0].behaviour = reply(200, body, steering)
    answer = edge.chat()
    assert (answer.status, answer.body) == (200, body)
    for name in set(steering) - {"Server"}:
        assert answer.headers[name] is None
    assert answer.headers["Server"] == "nginx"


@pytest.mark.variant("one engine")
def test_an_engine_that_refuses_the_edges_own_key_is_no_fault_of_the_client(edge: Edge) -> None:
    edge.engines[0].behaviour = reply(401, {"error": "Unauthorized"})
    edge.chat().refused(502, "bad_gateway")


def test_healthz_tells_the_configuration_to_everyone(edge: Edge) -> None:
    answer = edge.ask("GET", "/healthz", key=None)
    assert answer.status == 200
    assert answer.body.startswith(b"ok ")
    assert edge.seen() == []
