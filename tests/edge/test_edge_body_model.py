# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""How a request says which model it is for, whatever else is in it; its engine judges the rest."""

from __future__ import annotations

import json
from typing import Any

import pytest
from edge_server import CHAT, Edge, chat
from rendering import MODEL, OTHER_MODEL

VARIANT = "several"

NAMED = f'"model": "{OTHER_MODEL}"'
NOT_NAMED = f'"model": "{MODEL}"'


def nested(levels: int, core: Any = 1) -> Any:
    for _level in range(levels):
        core = {"properties": {"x": core}}
    return core


def taken_by(edge: Edge) -> list[str]:
    return [engine.model for engine in edge.engines if engine.requests]


SCHEMA = {"type": "object", "properties": {"model": {"type": "string"}}}
IN_TEXT = f'the key {NOT_NAMED}, and a path C:\\ {NOT_NAMED} \\" {NOT_NAMED}'

NAMING: dict[str, Any] = {
    "first": {"model": OTHER_MODEL, "messages": []},
    "last": {"messages": [{"content": "x" * 30_000}], "model": OTHER_MODEL},
    "in between": {"messages": ["x" * 9_000], "model": OTHER_MODEL, "tools": ["x" * 20_000]},
    "in text, too": {"messages": [{"content": IN_TEXT}], "model": OTHER_MODEL},
    "a value like the key": {"stop": ["model"], "x": "model", "model": OTHER_MODEL},
    "a key that ends like it": {'a "model': MODEL, "model": OTHER_MODEL},
    "a key that ends with a backslash": {"a\\": MODEL, "model": OTHER_MODEL},
    "in a tool, too": {"tools": [{"parameters": SCHEMA}], "model": OTHER_MODEL},
    "in a message, too": {"messages": [{"model": MODEL}], "model": OTHER_MODEL},
    "before a message with one": {"model": OTHER_MODEL, "messages": [{"model": MODEL}]},
    "deep": {"tools": nested(100), "model": OTHER_MODEL},
    "before what is deep": {"model": OTHER_MODEL, "tools": nested(100)},
    "between what is deep": {"a": nested(40), "model": OTHER_MODEL, "tools": nested(40)},
    "deep, and in a schema, too": {"tools": nested(100, SCHEMA), "model": OTHER_MODEL},
    "other letters": {"messages": ["\u4f60\u597d\U0001f600" * 3_000], "model": OTHER_MODEL},
}


@pytest.mark.parametrize("body", NAMING.values(), ids=NAMING)
@pytest.mark.parametrize("spaced", [True, False], ids=["spaces", "no spaces"])
def test_the_model_of_the_request_itself_counts(edge: Edge, body: Any, spaced: bool) -> None:
    separators = (" ,\r\n\t", " : ") if spaced else (",", ":")
    content = json.dumps(body, separators=separators, ensure_ascii=False).encode()
    assert edge.ask("POST", CHAT, content).status == 200
    assert taken_by(edge) == [OTHER_MODEL]
    assert [one.body for one in edge.seen()] == [content]


NOT_NAMING: dict[str, Any] = {
    "in a message": {"messages": [{"role": "user", "model": MODEL}]},
    "in a message at the end": {"stream": True, "messages": [{"model": MODEL}]},
    "in a tool": {"tools": [{"parameters": SCHEMA}], "messages": []},
    "in text": {"messages": [{"content": IN_TEXT}]},
    "a key that ends like it": {'a "model': MODEL},
    "in a list": [{"model": MODEL}],
    "in a list of two": [1, {"model": MODEL}, 2],
}


@pytest.mark.parametrize("body", NOT_NAMING.values(), ids=NOT_NAMING)
def test_a_model_elsewhere_is_none(edge: Edge, body: Any) -> None:
    answer = edge.ask("POST", CHAT, json.dumps(body).encode())
    assert answer.refused(400)["message"] == "you must provide a model parameter"
    assert edge.seen() == []


@pytest.mark.parametrize("model", ["gpt-4o", "", "undefined", "__proto__"])
def test_an_unknown_model_is_a_404_however_deep_the_rest_is(edge: Edge, model: str) -> None:
    answer = edge.ask("POST", CHAT, chat(model, tools=nested(100)))
    assert model in answer.refused(404, "model_not_found")["message"]


AMBIGUOUS: dict[str, str] = {
    "two of them, deep": json.dumps({"a": nested(100, {"model": MODEL}), "model": OTHER_MODEL}),
    "no plain one, deep": f'{{"mod\\u0065l": "{MODEL}", "a": {json.dumps(nested(100))}}}',
}


@pytest.mark.parametrize("body", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_what_cannot_be_told_is_refused(edge: Edge, body: str) -> None:
    edge.ask("POST", CHAT, body.encode()).refused(400)
    assert edge.seen() == []


@pytest.mark.parametrize(
    "body",
    [
        f'{{{NAMED}, "messages": [',
        f"{{{NAMED}}} {{}}",
        f'{{"messages": [}}, {NAMED}}}',
        f"\ufeff\ufeff{{{NAMED}}}",
    ],
    ids=["cut", "more behind it", "broken before it", "marks before it"],
)
def test_what_is_no_json_is_a_400_whoever_says_it(edge: Edge, body: str) -> None:
    edge.ask("POST", CHAT, body.encode()).refused(400)
    assert MODEL not in taken_by(edge)


def test_a_hidden_second_model_reaches_an_engine_that_does_not_serve_it(edge: Edge) -> None:
    # Engines refuse every name but their own: the worst that comes of it is vLLM's 404.
    body = f'{{{NOT_NAMED}, "mod\\u0065l": "{OTHER_MODEL}"}}'.encode()
    edge.ask("POST", CHAT, body)
    assert taken_by(edge) == [MODEL]
    assert edge.seen()[0].json["model"] == OTHER_MODEL


@pytest.mark.parametrize("filler", ['"model":', '"model":"', "[" * 8, '\\"model', '"m'])
def test_nothing_in_a_request_keeps_the_edge_busy(edge: Edge, filler: str) -> None:
    body = ("\u20ac" + filler * (60_000 // len(filler))).encode()
    answer = edge.ask("POST", CHAT, body)
    answer.refused(400)
    assert answer.seconds < 1
    assert edge.chat().status == 200
