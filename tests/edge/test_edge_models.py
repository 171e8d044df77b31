# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Several models behind one edge: two engines of one model, one of another."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import engines
import pytest
from edge_server import CHAT, Edge, chat
from engines import Engine, reply
from http_client import request
from rendering import ADAPTERS, ALICE, MODEL, OTHER_MODEL

VARIANT = "several"
TAKING_A_MODEL = (
    *(CHAT, "/v1/completions", "/v1/responses", "/v1/embeddings"),
    *("/v1/messages", "/v1/messages/count_tokens"),
)


def asked(edge: Edge) -> set[str]:
    """The models whose engines have seen something."""
    return {engine.model for engine in edge.engines if engine.requests}


@pytest.mark.parametrize("path", TAKING_A_MODEL)
@pytest.mark.parametrize("model", [MODEL, OTHER_MODEL])
def test_a_request_goes_to_an_engine_of_its_model(edge: Edge, path: str, model: str) -> None:
    for number in range(4):
        body = {"input": "Hi", **chat(model, user=f"number {number}")}
        answer = edge.ask("POST", path, body)
        assert answer.status == 200
        assert edge.logged(answer.headers["X-Request-Id"])["path"] == path
    assert asked(edge) == {model}
    assert {(one.method, one.target) for one in edge.seen()} == {("POST", path)}
    assert len({one.json["user"] for one in edge.seen()}) == 4


@pytest.mark.parametrize("model", ADAPTERS)
def test_a_request_for_an_adapter_goes_to_an_engine_of_its_model(edge: Edge, model: str) -> None:
    for adapter in ADAPTERS[model]:
        assert edge.ask("POST", CHAT, chat(adapter)).status == 200
    assert [one.json["model"] for one in edge.seen()] == ADAPTERS[model]
    assert asked(edge) == {model}


@pytest.mark.parametrize("size", [0, 1_000, 20_000, 60_000])
def test_the_body_arrives_as_it_was_sent(edge: Edge, size: int) -> None:
    # Odd spaces, an escaped key and letters of several bytes: it is not written anew.
    text = '{ "messages":[],"text":"%s\\u00e4\u00e4\u20ac", "mod\\u0065l" : "%s"}'
    body = (text % ("x" * size, OTHER_MODEL)).encode()
    assert edge.ask("POST", CHAT, body).status == 200
    assert [one.body for one in edge.seen()] == [body]
    assert asked(edge) == {OTHER_MODEL}


@pytest.mark.variant("tls")
@pytest.mark.parametrize("size", [900_000, 1_100_000, 7_000_000])
def test_bodies_may_be_as_large_as_with_one_model(edge: Edge, size: int) -> None:
    # The last key: all of the body has to be read.
    body = {"messages": [{"role": "user", "content": "x" * size}], "model": OTHER_MODEL}
    assert edge.ask("POST", CHAT, body).status == 200
    assert [one.json for one in edge.seen()] == [body]
    assert asked(edge) == {OTHER_MODEL}


@pytest.mark.variant("tls")
@pytest.mark.parametrize(
    ("text", "status"),
    [
        ('{"a": "LARGE", "model": "MODEL", "b": 1}', 200),
        ('{"a": 1, "model": "MODEL", "b": "LARGE"}', 200),
        ('{"a": "LARGE", "model": "MODEL", "b": "LARGE"}', 200),
        ('{"mod\\u0065l": "MODEL"}', 200),
        # What only a parser could tell.
        ('{"a": "LARGE", "mod\\u0065l": "MODEL"}', 400),
        ('{"a": "LARGE"}', 400),
    ],
)
def test_large_bodies_are_not_parsed(edge: Edge, text: str, status: int) -> None:
    body = text.replace("LARGE", "x" * 300_000).replace("MODEL", OTHER_MODEL)
    answer = edge.ask("POST", CHAT, body.encode())
    assert answer.status == status
    assert asked(edge) == ({OTHER_MODEL} if status == 200 else set())


@pytest.mark.variant("tls")
@pytest.mark.parametrize("piece", [b"[],", b"{},", b'"a",', b"1,"])
def test_no_body_makes_a_worker_large(edge: Edge, piece: bytes) -> None:
    """Parsed, eight megabytes of these took 600, and half a second of every stream."""
    body = b'{"x": [' + piece * (8_000_000 // len(piece)) + b"1]}"
    edge.ask("POST", CHAT, body).refused(400)
    for pid in edge.workers():
        [peak] = re.findall(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.M)
        assert int(peak) < 200_000


def test_of_two_models_in_one_body_the_engine_reads_the_one_that_the_edge_read(edge: Edge) -> None:
    # The last one, as Python's parsers do.
    body = b'{"model": "%s", "messages": [], "model": "%s"}' % (
        MODEL.encode(),
        OTHER_MODEL.encode(),
    )
    assert edge.ask("POST", CHAT, body).status == 200
    assert asked(edge) == {OTHER_MODEL}


@pytest.mark.parametrize(
    "model",
    [
        *("gpt-4o", "gpt-oss-20b-0", "gpt-oss-20", "gpt-oss-20b ", " gpt-oss-20b", "gpt-oss-20b\n"),
        *("gpt-oss-20B", "GPT-OSS-20B", "gpt_oss_20b", "gpt-oss-20b\u0000", "g\u0440t-oss-20b"),
        *("__proto__", "constructor", "toString", "hasOwnProperty", "length", "default", "all"),
        *("vllm_all", "vllm_gpt_oss_20b", "127.0.0.1:22", "http://127.0.0.1:22/", "@again"),
        *("", "*", "../models", '"quoted"', "a\r\nX-Injected: 1", "$request_uri", "x" * 50_000),
    ],
    ids=lambda model: ascii(model)[:30],
)
def test_an_unknown_model_is_a_404_that_names_it(edge: Edge, model: str) -> None:
    answer = edge.ask("POST", CHAT, chat(model))
    error = answer.refused(404, "model_not_found")
    assert error["type"] == "invalid_request_error"
    assert model[:40] in error["message"]
    assert answer.headers["X-Injected"] is None
    assert edge.seen() == []


BROKEN: dict[str, bytes] = {
    "no body": b"",
    "no JSON": b"model=gpt-oss-20b",
    "a list": b'[{"model": "gpt-oss-20b"}]',
    "a string": b'"gpt-oss-20b"',
    "a number": b"1",
    "null": b"null",
    "no model": b'{"messages": []}',
    "model is null": b'{"model": null}',
    "model is a number": b'{"model": 20}',
    "model is a list": b'{"model": ["gpt-oss-20b"]}',
    "model is an object": b'{"model": {"toString": "gpt-oss-20b"}}',
    "only below": b'{"messages": [{"model": "gpt-oss-20b"}]}',
    "only inherited": b'{"__proto__": {"model": "gpt-oss-20b"}}',
    "NUL": b"\x00" * 20,
    "very deep": b"[" * 60_000,
    "deep and whole": b'{"a":' * 9_000 + b"1" + b"}" * 9_000,
    "another key in capitals": b'{"Model": "gpt-oss-20b"}',
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
def test_a_body_without_a_model_is_a_400(edge: Edge, body: bytes) -> None:
    answer = edge.ask("POST", CHAT, body)
    assert answer.refused(400)["type"] == "invalid_request_error"
    assert edge.seen() == []
    # Nothing of a worker has broken.
    assert edge.chat().status == 200


def test_a_body_that_is_not_utf_8_is_a_400_whoever_says_it(edge: Edge) -> None:
    answer = edge.ask("POST", CHAT, b'{"model": "gpt-oss-20b", "text": "\xff\xfe"}')
    assert answer.refused(400)


def test_a_body_that_is_too_large_is_a_413(edge: Edge) -> None:
    edge.chat(text="x" * 70_000).refused(413, "request_too_large")
    assert edge.seen() == []


def test_a_key_is_asked_for_before_the_model(edge: Edge) -> None:
    edge.ask("POST", CHAT, chat("unknown"), key=None).refused(401, "invalid_api_key")


def in_chunks(content: bytes, piece: int) -> bytes:
    parts = (content[start : start + piece] for start in range(0, len(content), piece))
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ALICE}\r\n"
    return head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


@pytest.mark.parametrize(("size", "piece"), [(65_000, 16), (65_000, 4_096)])
def test_a_body_in_chunks_may_be_as_large_as_others(edge: Edge, size: int, piece: int) -> None:
    """nginx keeps what they are wrapped in, too."""
    content = json.dumps(chat(OTHER_MODEL, user="x" * size)).encode()
    assert 65_000 < len(content) < 65_536
    assert edge.send(in_chunks(content, piece)).status == 200
    assert [one.body for one in edge.seen()] == [content]
    assert asked(edge) == {OTHER_MODEL}


def test_a_body_of_single_bytes_is_too_large_earlier(edge: Edge) -> None:
    content = json.dumps(chat(OTHER_MODEL, user="x" * 60_000)).encode()
    edge.send(in_chunks(content, 1)).refused(413, "request_too_large")
    assert edge.seen() == []


# Lists of models.


def models(edge: Edge) -> list[str]:
    answer = edge.ask("GET", "/v1/models")
    assert answer.status == 200
    assert answer.headers.get_content_type() == "application/json"
    assert answer.json["object"] == "list"
    assert {model["object"] for model in answer.json["data"]} == {"model"}
    return sorted(model["id"] for model in answer.json["data"])


def test_the_lists_of_all_models_come_as_one(edge: Edge) -> None:
    assert models(edge) == sorted([MODEL, OTHER_MODEL])
    assert len(edge.seen()) == 2


def test_a_list_lacks_what_nobody_serves_now(edge: Edge) -> None:
    edge.engines[0].stop()
    assert models(edge) == sorted([MODEL, OTHER_MODEL])
    edge.engines[2].stop()
    assert models(edge) == [MODEL]


@pytest.mark.parametrize(
    "behaviour",
    [engines.reset, engines.full, reply(200, b"<html>"), reply(200, {"data": 1}), reply(200, b"")],
    ids=["reset", "full", "HTML", "no list", "empty"],
)
def test_a_list_comes_without_what_answers_nonsense(
    edge: Edge, behaviour: engines.Behaviour
) -> None:
    edge.engines[2].behaviour = behaviour
    assert models(edge) == [MODEL]


def test_without_any_engine_there_is_no_list(edge: Edge) -> None:
    for engine in edge.engines:
        engine.stop()
    answer = edge.ask("GET", "/v1/models")
    answer.refused(503, "overloaded")
    assert int(answer.headers["Retry-After"]) >= 1


def test_a_list_needs_a_key(edge: Edge) -> None:
    edge.ask("GET", "/v1/models", key=None).refused(401, "invalid_api_key")
    assert edge.seen() == []


def test_a_model_whose_engines_are_down_is_a_503_and_the_other_one_serves(edge: Edge) -> None:
    edge.engines[2].stop()
    edge.ask("POST", CHAT, chat(OTHER_MODEL)).refused(503, "overloaded")
    assert edge.chat().status == 200


def test_a_full_engine_is_passed_over_for_one_of_the_same_model(edge: Edge) -> None:
    edge.engines[0].behaviour = engines.full
    assert [edge.chat().status for _turn in range(8)] == [200] * 8
    assert [len(engine.requests) for engine in edge.engines[1:]] == [8, 0]
    edge.engines[1].behaviour = engines.full
    assert edge.chat().body == engines.FULL
    assert edge.engines[2].requests == []


@pytest.mark.variant("one")
@pytest.mark.parametrize("path", ["/v1/models", "/v1/responses/resp_0123"])
def test_what_every_engine_says_at_once_is_not_waited_for_longer(edge: Edge, path: str) -> None:
    hanging, answering = edge.engines
    hanging.behaviour = engines.hang
    answering.behaviour = reply(200, {"id": "resp_0123"})
    answers = [edge.ask("GET", path) for _turn in range(2)]
    assert [answer.status for answer in answers] == [200, 200]
    assert all(answer.seconds < 13 for answer in answers)
    # Requests without a load go round: one of the two met it.
    assert len(hanging.requests) == 1


@pytest.mark.parametrize("query", ["?stream=true", "?stream=True&starting_after=3", "?stream=1"])
def test_a_kept_answer_that_is_still_coming_may_be_silent(edge: Edge, query: str) -> None:
    text = edge.path("/etc/nginx/vllm/responses.conf").read_text()
    [short, long] = re.findall(r"location (@response(?:\.stream)?) \{([^}]*)\}", text)
    assert "proxy_read_timeout 10s;" in short[1]
    assert "proxy_read_timeout" not in long[1]
    for engine in edge.engines:
        engine.behaviour = engines.on_demand
        engine.emit("token 0", None)
    answer = edge.ask("GET", f"/v1/responses/resp_0123{query}")
    assert answer.body.endswith(b"data: [DONE]\n\n")


# Answers that an engine keeps.

KEEPERS = pytest.mark.parametrize(
    ("variant", "keeper"),
    [
        ("one", 0),
        ("one", 1),
        ("several", 0),
        ("several", 2),
        *(("three engines", k) for k in range(3)),
    ],
)


def keeping(identity: str) -> engines.Behaviour:
    kept = {"id": identity, "object": "response", "status": "completed"}

    async def behave(call: engines.Call) -> None:
        if call.request.target in (f"/v1/responses/{identity}", f"/v1/responses/{identity}/cancel"):
            await reply(200, kept)(call)
        else:
            await engines.as_vllm(call)

    return behave


@KEEPERS
@pytest.mark.parametrize(("method", "suffix"), [("GET", ""), ("POST", "/cancel")])
def test_a_kept_answer_is_found_wherever_it_is(
    running: Callable[[str], Edge], variant: str, keeper: int, method: str, suffix: str
) -> None:
    edge = running(variant)
    edge.forget()
    identity = "resp_0123456789abcdef-XY"
    edge.engines[keeper].behaviour = keeping(identity)
    for _turn in range(6):
        answer = edge.ask(method, f"/v1/responses/{identity}{suffix}", b"" if suffix else None)
        assert (answer.status, answer.json["id"]) == (200, identity)
    assert {one.method for one in edge.seen()} == {method}


@pytest.mark.parametrize(("method", "suffix"), [("GET", ""), ("POST", "/cancel")])
def test_an_answer_that_nobody_kept_is_vllms_404(edge: Edge, method: str, suffix: str) -> None:
    answer = edge.ask(method, f"/v1/responses/resp_none{suffix}", b"" if suffix else None)
    assert answer.status == 404
    assert answer.json["error"]["type"] == "NotFoundError"
    # Every engine was asked once.
    assert [len(engine.requests) for engine in edge.engines] == [1, 1, 1]


@pytest.mark.parametrize(
    "path",
    [
        *("resp_a/b", "resp_a/cancel/x", "resp.a", "resp%2fa", "resp%00", "r" * 129),
        *("resp_a/input_items", "resp_a/", "resp_\xe4", "a%20b", "%22", "..%2f..%2fmetrics"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_is_no_id_is_a_404_that_no_engine_sees(edge: Edge, method: str, path: str) -> None:
    answer = edge.ask(method, f"/v1/responses/{path}", {} if method == "POST" else None)
    assert answer.status in (404, 400 if "%00" in path else 404)
    answer.refused(answer.status)
    assert edge.seen() == []


@pytest.mark.parametrize(
    ("method", "path", "right"),
    [
        ("POST", "/v1/responses/resp_a", "GET"),
        ("DELETE", "/v1/responses/resp_a", "GET"),
        ("GET", "/v1/responses/resp_a/cancel", "POST"),
    ],
)
def test_kept_answers_have_one_method_each(edge: Edge, method: str, path: str, right: str) -> None:
    answer = edge.ask(method, path, {} if method == "POST" else None)
    answer.refused(405, "method_not_allowed")
    assert answer.headers["Allow"] == right
    assert edge.seen() == []


def test_kept_answers_need_a_key(edge: Edge) -> None:
    edge.ask("GET", "/v1/responses/resp_a", key=None).refused(401, "invalid_api_key")
    edge.ask("POST", "/v1/responses/resp_a/cancel", b"", key=None).refused(401, "invalid_api_key")
    assert edge.seen() == []


# Sessions.


def test_requests_of_a_session_go_to_one_engine(running: Callable[[str], Edge]) -> None:
    edge = running("session")
    edge.forget()
    for session in range(12):
        for _turn in range(3):
            named = {"X-Session-Id": f"session {session}"}
            answer = edge.ask("POST", CHAT, chat(user=str(session)), headers=named)
            assert answer.status == 200

    def sessions(engine: Engine) -> set[Any]:
        return {one.json["user"] for one in engine.requests}

    first, second = map(sessions, edge.engines)
    assert first
    assert second
    assert first & second == set()


def test_a_session_moves_where_its_engine_is_full_or_down(running: Callable[[str], Edge]) -> None:
    edge = running("session")
    for failing in edge.engines:
        for fail in (lambda engine: setattr(engine, "behaviour", engines.full), Engine.stop):
            edge.forget()
            fail(failing)
            for session in range(6):
                named = {"X-Session-Id": str(session)}
                assert edge.ask("POST", CHAT, chat(), headers=named).status == 200
    edge.forget()


def test_a_request_of_many_models_at_once_is_sorted(edge: Edge) -> None:
    with edge.connect() as connection:
        for number in range(30):
            model = (MODEL, OTHER_MODEL)[number % 2]
            answer = connection.ask(request("POST", CHAT, chat(model), key=ALICE))
            assert answer.json["model"] == model
