# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""When a wait shows a line, and how long it pauses between two looks at the host."""

from __future__ import annotations

import typing as t

BETWEEN_LINES = 5.0  # seconds between two lines of one host while numbers move
SIGN_OF_LIFE = 30.0  # seconds after which a line is shown although nothing has moved


def pauses(first: float = 0.3, factor: float = 1.6, most: float = 3.0) -> t.Iterator[float]:
    """Yield the seconds to wait before each look: short at first, then up to `most`."""
    pause = first
    while True:
        yield pause
        pause = min(most, pause * factor)


class ProgressDisplay:
    """Shows the lines of one host: a new step at once, moved numbers every few seconds."""

    def __init__(self, show: t.Callable[[str], t.Any], host: str) -> None:
        self._show = show
        self._host = host
        self._step: t.Any = None
        self._numbers: t.Any = None
        self._shown = float("-inf")

    def update(self, now: float, step: t.Any, numbers: t.Any, text: str) -> None:
        """Show `text` if `step` is new, or `numbers` are and the last line is old enough.

        `now` is a monotonic time in seconds.
        """
        age = now - self._shown
        moved = numbers != self._numbers and age >= BETWEEN_LINES
        if step != self._step or moved or age >= SIGN_OF_LIFE:
            self._step, self._numbers, self._shown = step, numbers, now
            self.line(text)

    def line(self, text: str) -> None:
        """Show `text` in any case."""
        self._show(f"{self._host} | {text}")
