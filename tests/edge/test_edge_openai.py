# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""OpenAI's own Python client: behind the edge it behaves as with the vendor's service."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Iterator
from typing import Any

import engines
import httpx2
import openai
import pydantic
import pytest
from edge_server import Edge
from engines import completion, error_body, events, in_turn, reply
from rendering import ALICE, FRANK, MODEL, OTHER_MODEL

VARIANT = "several"

QUESTION: Any = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Seconds for which the client waited before it asked again; one of them in truth."""
    waited: list[float] = []
    sleep = time.sleep

    def nap(seconds: float) -> None:
        waited.append(seconds)
        sleep(min(seconds, 1.05))

    monkeypatch.setattr("openai._base_client.time.sleep", nap)
    yield waited


def client_of(edge: Edge, key: str = ALICE, **more: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{edge.port}/v1", api_key=key, **more)


def behave(edge: Edge, behaviour: engines.Behaviour) -> None:
    for engine in edge.engines:
        engine.behaviour = behaviour


def answer(edge: Edge, value: Any) -> None:
    behave(edge, reply(200, value))


# What works.


def test_chat(edge: Edge) -> None:
    with client_of(edge) as client:
        for model in (MODEL, OTHER_MODEL):
            got = client.chat.completions.create(model=model, messages=QUESTION)
            assert got.choices[0].message.content == "Hello"
            assert got.model == model
            # The vendor's name of it; people quote it when they ask for help.
            assert got._request_id


def test_a_stream_comes_token_by_token(edge: Edge) -> None:
    behave(edge, engines.on_demand)
    engine = edge.engines[-1]
    with (
        client_of(edge) as client,
        client.chat.completions.create(model=OTHER_MODEL, messages=QUESTION, stream=True) as stream,
    ):
        for number in range(10):
            engine.emit(f"token {number}")
            assert next(stream).choices[0].delta.content == f"token {number}"
        engine.emit(None)
        assert list(stream) == []


@pytest.mark.variant("tls")
def test_a_stream_comes_token_by_token_over_http2(edge: Edge, trusting: ssl.SSLContext) -> None:
    behave(edge, engines.on_demand)
    engine = edge.engines[-1]
    engine.emit("token 0")
    with (
        httpx2.Client(http1=False, http2=True, verify=trusting) as http2,
        openai.OpenAI(
            base_url=f"https://127.0.0.1:{edge.port}/v1", api_key=ALICE, http_client=http2
        ) as client,
        client.chat.completions.create(model=OTHER_MODEL, messages=QUESTION, stream=True) as stream,
    ):
        for number in range(10):
            assert next(stream).choices[0].delta.content == f"token {number}"
            engine.emit(f"token {number + 1}")
        engine.emit(None)
        assert [chunk.choices[0].delta.content for chunk in stream] == ["token 10"]


def test_the_asynchronous_client_streams_side_by_side(edge: Edge) -> None:
    behave(edge, engines.stream(20, 0.005))

    async def read(client: openai.AsyncOpenAI) -> int:
        stream = await client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
        return len([chunk async for chunk in stream])

    async def run() -> list[int]:
        url = f"http://127.0.0.1:{edge.port}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key=ALICE) as client:
            return await asyncio.gather(*(read(client) for _stream in range(20)))

    assert asyncio.run(run()) == [21] * 20


def test_leaving_a_stream_ends_the_generation(edge: Edge) -> None:
    behave(edge, engines.on_demand)
    engine = edge.engines[-1]
    with client_of(edge) as client:
        stream = client.chat.completions.create(model=OTHER_MODEL, messages=QUESTION, stream=True)
        engine.emit("token")
        assert next(stream).choices[0].delta.content == "token"
        stream.close()
        engine.wait_for(lambda one: one.requests[0].left is not None, "the engine is left")


def test_tools(edge: Edge) -> None:
    arguments = '{"city": "Paris"}'
    call = {
        **{"id": "call_1", "type": "function"},
        "function": {"name": "weather", "arguments": arguments},
    }
    answer(edge, completion(MODEL, "", tool_calls=[call]))
    tool: Any = {
        "type": "function",
        "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
    }
    with client_of(edge) as client:
        got = client.chat.completions.create(model=MODEL, messages=QUESTION, tools=[tool])
    assert got.choices[0].finish_reason == "tool_calls"
    [called] = got.choices[0].message.tool_calls or []
    assert called.to_dict() == call
    assert edge.seen()[0].json["tools"] == [tool]


class City(pydantic.BaseModel):
    name: str
    people: int


def test_structured_output(edge: Edge) -> None:
    answer(edge, completion(MODEL, '{"name": "Paris", "people": 2000000}'))
    with client_of(edge) as client:
        got = client.chat.completions.parse(model=MODEL, messages=QUESTION, response_format=City)
    assert got.choices[0].message.parsed == City(name="Paris", people=2_000_000)
    assert edge.seen()[0].json["response_format"]["type"] == "json_schema"


def response(status: str = "completed") -> dict[str, Any]:
    text = {"type": "output_text", "text": "Hello", "annotations": []}
    message = {
        **{"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"},
        "content": [text],
    }
    return {
        **{"id": "resp_1", "object": "response", "created_at": 1, "model": MODEL},
        **{"status": status, "output": [message], "parallel_tool_calls": True},
        **{"tool_choice": "auto", "tools": []},
    }


def test_responses(edge: Edge) -> None:
    answer(edge, response())
    with client_of(edge) as client:
        assert client.responses.create(model=MODEL, input="Hi").output_text == "Hello"


def test_responses_as_a_stream(edge: Edge) -> None:
    delta = {
        **{"type": "response.output_text.delta", "delta": "Hello", "sequence_number": 1},
        **{"item_id": "msg_1", "output_index": 0, "content_index": 0, "logprobs": []},
    }
    done = {"type": "response.completed", "response": response(), "sequence_number": 2}
    behave(edge, events(delta, done))
    with client_of(edge) as client:
        got = [
            event.type for event in client.responses.create(model=MODEL, input="Hi", stream=True)
        ]
    assert got == ["response.output_text.delta", "response.completed"]


def test_a_kept_response_is_read_and_cancelled(edge: Edge) -> None:
    keeper = edge.engines[1]

    async def keep(call: engines.Call) -> None:
        cancelled = call.request.target == "/v1/responses/resp_1/cancel"
        await reply(200, response("cancelled" if cancelled else "in_progress"))(call)

    keeper.behaviour = keep
    with client_of(edge) as client:
        assert client.responses.retrieve("resp_1").status == "in_progress"
        assert client.responses.cancel("resp_1").status == "cancelled"


def test_models(edge: Edge) -> None:
    with client_of(edge) as client:
        assert {model.id for model in client.models.list()} == {MODEL, OTHER_MODEL}


# What does not: the client's own classes of errors, and whether it asks again.


def test_a_wrong_key(edge: Edge, naps: list[float]) -> None:
    with client_of(edge, "wrong") as client, pytest.raises(openai.AuthenticationError) as raised:
        client.chat.completions.create(model=MODEL, messages=QUESTION)
    assert raised.value.code == "invalid_api_key"
    assert raised.value.message.endswith("}") or "API key" in raised.value.message
    assert (naps, edge.seen()) == ([], [])


def test_an_unknown_model(edge: Edge, naps: list[float]) -> None:
    with client_of(edge) as client, pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.create(model="gpt-4o", messages=QUESTION)
    assert raised.value.code == "model_not_found"
    assert (naps, edge.seen()) == ([], [])


def test_a_model_without_embeddings(edge: Edge, naps: list[float]) -> None:
    message = "The model does not support Embeddings API"
    behave(edge, reply(400, error_body(message, "BadRequestError", 400)))
    with client_of(edge) as client, pytest.raises(openai.BadRequestError, match=message):
        client.embeddings.create(model=MODEL, input="Hi")
    assert (len(naps), len(edge.seen())) == (0, 1)


@pytest.mark.variant("one")
def test_embeddings_that_are_not_served(edge: Edge) -> None:
    with client_of(edge) as client, pytest.raises(openai.NotFoundError) as raised:
        client.embeddings.create(model=MODEL, input="Hi")
    assert raised.value.code == "unknown_url"
    assert edge.seen() == []


def test_a_prompt_that_is_too_long(edge: Edge, naps: list[float]) -> None:
    message = "This model's maximum context length is 131072 tokens."
    behave(edge, reply(400, error_body(message, "BadRequestError", 400)))
    with client_of(edge) as client, pytest.raises(openai.BadRequestError, match="131072"):
        client.chat.completions.create(model=MODEL, messages=QUESTION)
    assert naps == []


def test_a_body_that_is_too_large(edge: Edge, naps: list[float]) -> None:
    large: Any = [{"role": "user", "content": "x" * 70_000}]
    with client_of(edge) as client, pytest.raises(openai.APIStatusError) as raised:
        client.chat.completions.create(model=MODEL, messages=large)
    assert (raised.value.status_code, naps) == (413, [])


@pytest.mark.variant("limits")
def test_above_its_rate_a_client_waits_as_it_is_told_and_succeeds(
    edge: Edge, naps: list[float]
) -> None:
    with client_of(edge, FRANK) as client:
        for _turn in range(2):
            client.chat.completions.create(model=MODEL, messages=QUESTION)
    assert set(naps) == {1}
    assert len(edge.seen()) == 2


@pytest.mark.variant("limits")
def test_above_its_rate_without_patience(edge: Edge) -> None:
    with (
        client_of(edge, FRANK, max_retries=0) as client,
        pytest.raises(openai.RateLimitError) as raised,
    ):
        for _turn in range(2):
            client.chat.completions.create(model=MODEL, messages=QUESTION)
    assert raised.value.code == "rate_limit_exceeded"


def test_engines_that_are_full_for_a_while(edge: Edge, naps: list[float]) -> None:
    behave(edge, in_turn(engines.full, engines.full, engines.as_vllm))
    with client_of(edge) as client:
        got = client.chat.completions.create(model=MODEL, messages=QUESTION)
    assert got.choices[0].message.content == "Hello"
    assert len(naps) == 1
    assert 1 <= naps[0] <= 10
    assert len(edge.seen()) == 3


@pytest.mark.variant("every path")
@pytest.mark.parametrize(
    ("behaviour", "status"), [(engines.reset, 502), (engines.hang, 504)], ids=["reset", "silent"]
)
def test_what_may_have_been_generated_is_not_asked_for_again(
    edge: Edge, naps: list[float], behaviour: engines.Behaviour, status: int
) -> None:
    behave(edge, behaviour)
    with client_of(edge) as client, pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(model=MODEL, messages=QUESTION)
    assert raised.value.status_code == status
    assert (naps, len(edge.seen())) == ([], 1)


def test_a_client_that_does_not_wait_so_long(edge: Edge) -> None:
    behave(edge, engines.hang)
    with client_of(edge, timeout=0.3, max_retries=0) as client:
        with pytest.raises(openai.APITimeoutError):
            client.chat.completions.create(model=OTHER_MODEL, messages=QUESTION)
        [seen] = edge.seen()
        edge.engines[-1].wait_for(lambda _engine: seen.left is not None, "the engine is left")


def test_a_stream_that_breaks_off_is_an_error(edge: Edge) -> None:
    behave(edge, engines.reset_in_stream)
    with client_of(edge) as client:
        stream = client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
        assert next(stream).choices[0].delta.content == "t0 "
        with pytest.raises((openai.APIError, httpx2.HTTPError)):
            list(stream)
    assert len(edge.seen()) == 1


def test_an_error_within_a_stream_comes_through(edge: Edge) -> None:
    error = {"error": {"message": "out of memory", "type": "InternalServerError", "code": 500}}
    behave(edge, events(engines.chunk_of(MODEL, {"content": "t0"}), json.dumps(error), "[DONE]"))
    with client_of(edge) as client:
        stream = client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
        with pytest.raises(openai.APIError, match="out of memory"):
            list(stream)
