# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""OpenAI's own client at the shared address meets what it knows from the vendor's service."""

from __future__ import annotations

import time

import httpx2
import pytest
from clients import OTHER, QUESTION, SHARED, TINY, key, openai, trust
from conftest import SCENARIO
from openai import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    OpenAI,
    RateLimitError,
)
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

ASKED: list[ChatCompletionMessageParam] = [{"role": "user", "content": QUESTION}]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a town.",
        "parameters": {
            "type": "object",
            "properties": {"town": {"type": "string"}},
            "required": ["town"],
        },
    },
}
COLOUR = {
    "type": "object",
    "properties": {"colour": {"type": "string", "enum": ["red", "green"]}},
    "required": ["colour"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def client() -> OpenAI:
    return openai()


# -- answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [TINY, OTHER])
def test_chat(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=ASKED, max_tokens=20)
    assert answer.model == model
    assert answer.usage
    assert answer.usage.completion_tokens == 20
    assert answer.choices[0].finish_reason == "length"


@pytest.mark.parametrize("model", [TINY, OTHER])
def test_streamed_chat(client: OpenAI, model: str) -> None:
    chunks = list(
        client.chat.completions.create(
            model=model,
            messages=ASKED,
            max_tokens=20,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert {chunk.model for chunk in chunks} == {model}
    # How many pieces come is vLLM's: on a busy machine it hands tokens over in groups.
    *pieces, counted = chunks
    assert [choice.finish_reason for piece in pieces for choice in piece.choices][-1] == "length"
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces)
    assert counted.usage
    assert counted.usage.completion_tokens == 20


def test_chat_with_tools(client: OpenAI) -> None:
    """A model of random weights calls none; vLLM has read and rendered the tool all the same."""
    without = client.chat.completions.create(model=TINY, messages=ASKED, max_tokens=5)
    answer = client.chat.completions.create(
        model=TINY, messages=ASKED, max_tokens=5, tools=[WEATHER], tool_choice="auto"
    )
    assert answer.usage and without.usage
    assert answer.usage.prompt_tokens > without.usage.prompt_tokens + 10
    with pytest.raises(BadRequestError):
        client.chat.completions.create(
            model=TINY,
            messages=ASKED,
            tools=[{"type": "function"}],  # type: ignore[list-item]  # wrong on purpose
        )


def test_structured_output(client: OpenAI) -> None:
    """A choice on the path without Harmony's channels, where it binds from the first token on."""
    answer = client.completions.create(
        model=TINY,
        prompt=QUESTION,
        max_tokens=60,
        extra_body={"structured_outputs": {"choice": ["red", "green"]}},
    )
    assert answer.choices[0].text in ("red", "green")
    chat = client.chat.completions.create(
        model=TINY,
        messages=ASKED,
        max_tokens=20,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "colour", "schema": COLOUR, "strict": True},
        },
    )
    assert chat.usage
    assert chat.usage.completion_tokens > 0


@pytest.mark.parametrize("model", [TINY, OTHER])
def test_responses_are_found_again_whichever_engine_gave_them(client: OpenAI, model: str) -> None:
    given = [
        client.responses.create(model=model, input=QUESTION, max_output_tokens=20) for _ in range(4)
    ]
    for response in given:
        assert client.responses.retrieve(response.id).id == response.id


def test_streamed_response(client: OpenAI) -> None:
    events = list(
        client.responses.create(model=TINY, input=QUESTION, max_output_tokens=20, stream=True)
    )
    assert events[0].type == "response.created"
    assert events[-1].type in ("response.completed", "response.incomplete")


def test_response_in_the_background_is_cancelled(client: OpenAI) -> None:
    """One of five: a model of random weights may come to its end at once."""
    for _attempt in range(5):
        given = client.responses.create(
            model=TINY, input=QUESTION, max_output_tokens=3000, background=True
        )
        assert given.status in ("queued", "in_progress")
        try:
            cancelled = client.responses.cancel(given.id)
        except BadRequestError as error:
            # vLLM's words for whatever is neither queued nor in progress.
            assert "Cannot cancel a synchronous response" in error.message
            continue
        assert cancelled.status == "cancelled"
        assert client.responses.retrieve(given.id).status == "cancelled"
        return
    pytest.fail("every response came to its end before it could be cancelled")


def test_models_of_all_engines_are_listed_once(client: OpenAI) -> None:
    assert sorted(model.id for model in client.models.list()) == sorted([TINY, OTHER])


# -- errors ---------------------------------------------------------------------------------------


def test_key_that_is_wrong() -> None:
    client = openai().with_options(api_key="0" * 64)
    with pytest.raises(AuthenticationError) as error:
        client.models.list()
    assert error.value.code == "invalid_api_key"


def test_both_keys_of_a_client_are_right_while_one_replaces_the_other(client: OpenAI) -> None:
    for name in ("app", "app_before"):
        assert list(client.with_options(api_key=key(name)).models.list())


def test_model_that_nobody_serves(client: OpenAI) -> None:
    with pytest.raises(NotFoundError, match="no-such-model") as error:
        client.chat.completions.create(model="no-such-model", messages=ASKED)
    assert error.value.code == "model_not_found"


def test_response_that_nobody_gave(client: OpenAI) -> None:
    with pytest.raises(NotFoundError):
        client.responses.retrieve("resp_0123456789abcdef")


def test_embeddings_of_a_model_that_has_none(client: OpenAI) -> None:
    """vLLM's own answer: such an engine has no such path."""
    with pytest.raises(NotFoundError) as error:
        client.embeddings.create(model=TINY, input=QUESTION)
    assert isinstance(error.value.body, dict), error.value.response.text


def test_more_tokens_than_the_context_has(client: OpenAI) -> None:
    with pytest.raises(BadRequestError, match="maximum context length") as error:
        client.completions.create(model=TINY, prompt="word " * 6000, max_tokens=5)
    assert "4096" in error.value.message, "vLLM's own words"


def test_path_that_is_not_served(client: OpenAI) -> None:
    with pytest.raises(NotFoundError) as error:
        client.files.list()
    assert error.value.code == "unknown_url"


def test_client_above_its_rate_is_told_when_to_come_back() -> None:
    """The other client is not slowed down."""
    limited = openai(client="limited")
    with pytest.raises(RateLimitError) as error:
        for _ in range(10):
            limited.models.list()
    assert error.value.response.headers["retry-after"] == "1"
    assert error.value.code == "rate_limit_exceeded"
    for _ in range(10):
        openai().models.list()


def test_client_above_its_rate_gets_there_by_the_retries_of_the_library() -> None:
    limited = openai(client="limited", retries=5)
    for _ in range(5):
        assert list(limited.models.list())


def test_client_that_waits_no_longer_is_told_by_its_library() -> None:
    with pytest.raises(APITimeoutError):
        openai(timeout=0.5).chat.completions.create(
            model=TINY, messages=ASKED, max_tokens=3000, extra_body={"min_tokens": 3000}
        )


# -- TLS ------------------------------------------------------------------------------------------


def test_certificate_is_refused_by_who_does_not_trust_the_authority() -> None:
    client = OpenAI(
        base_url=f"https://{SHARED}:{SCENARIO.edge_port}/v1", api_key=key("app"), max_retries=0
    )
    with pytest.raises(APIConnectionError):
        client.models.list()


def test_plain_http_is_an_error_that_clients_can_read() -> None:
    client = openai()
    plain = client.with_options(base_url=f"http://{SHARED}:{SCENARIO.edge_port}/v1")
    with pytest.raises(BadRequestError) as error:
        plain.models.list()
    assert error.value.code == "bad_request"


def moments_over_http_2() -> int:
    """At how many different milliseconds the parts of a streamed answer came."""
    body = {"model": TINY, "prompt": QUESTION, "max_tokens": 40, "stream": True}
    url = f"https://{SHARED}:{SCENARIO.edge_port}/v1/completions"
    with (
        httpx2.Client(http2=True, verify=trust(), timeout=60) as client,
        client.stream(
            "POST",
            url,
            json=body | {"ignore_eos": True},
            headers={"Authorization": f"Bearer {key('app')}"},
        ) as answer,
    ):
        assert answer.http_version == "HTTP/2"
        return len({round(time.monotonic(), 3) for _ in answer.iter_raw()})


def test_tokens_arrive_one_by_one_over_http_2() -> None:
    """The best of five answers: on a busy machine vLLM itself hands tokens over in groups."""
    assert max(moments_over_http_2() for _ in range(5)) >= 20


def test_error_of_the_edge_is_no_page(client: OpenAI) -> None:
    with pytest.raises(APIStatusError) as error:
        client.post("/chat/completions/", cast_to=object, body={})
    assert error.value.response.headers["content-type"] == "application/json"
