# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What the tiny model says: a Harmony reply as a chain of tokens, each naming its successor.

The weights can hold any text in which no token occurs twice within one of the two parts
(`Script.chains` raises otherwise, naming the token).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

REASONING = "The lab asks; my tiny table answers"
ANSWER = (
    "Hello from a small gpt-oss, streamed live through real parts. I can count:"
    " one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
    " sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety"
    " hundred thousand million billion and then it ends!"
)
LOOP_WORD = " one"
"""Said after the end when the end token is forbidden (`min_tokens`), and after any other token."""

Encode = Callable[[str], Sequence[int]]


@dataclass(frozen=True)
class Script:
    """Successors by token id; `first` holds before the cue token was said, `second` after it."""

    first: dict[int, int]
    second: dict[int, int]
    cue: int
    loop: tuple[int, int]
    """(last token, loop token): the second best successor of the last token."""

    @property
    def sources(self) -> list[int]:
        return sorted(self.first.keys() | self.second.keys())


def chain(tokens: Sequence[int]) -> dict[int, int]:
    """Each token with its successor. Raises ValueError if a token occurs twice."""
    sources = list(tokens[:-1])
    repeated = sorted({token for token in sources if sources.count(token) > 1})
    if repeated:
        raise ValueError(f"tokens {repeated} occur twice in the script: use each word once")
    return dict(zip(sources, tokens[1:]))


def build(encode: Encode) -> Script:
    """The script in token ids; `encode` must map Harmony's special tokens to single ids."""
    reasoning = list(encode(REASONING))
    answer = list(encode(ANSWER))
    header = "assistant<|channel|>"
    first = chain(
        [*encode(f"{header}analysis<|message|>"), *reasoning, *encode("<|end|><|start|>")]
    )
    second = chain(
        [*encode(f"<|end|><|start|>{header}final<|message|>"), *answer, *encode("<|return|>")]
    )
    (loop,) = encode(LOOP_WORD)
    shared = set(reasoning) & set(answer)
    if shared:
        raise ValueError(f"tokens {sorted(shared)} occur in the reasoning and in the answer")
    return Script(first, second, cue=reasoning[-1], loop=(answer[-1], loop))
