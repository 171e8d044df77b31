# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Runs steps one after the other, measures them and says at the end how they went."""

from __future__ import annotations

import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from steps.surroundings import ROOT, environment


@dataclass(frozen=True)
class Result:
    part: str
    step: str
    seconds: float
    passed: bool


@dataclass(frozen=True)
class Command:
    """A program to run as a step."""

    step: str
    argv: tuple[str | Path, ...]
    cwd: Path
    env: Mapping[str, str]


class Report:
    """A failed step never stops the ones after it; `end` gives the exit status of them all."""

    def __init__(self) -> None:
        self._part = ""
        self._lock = threading.Lock()
        self._results: list[Result] = []
        self._meanwhile: list[threading.Thread] = []
        self._ended: list[tuple[Result, str]] = []

    def begin(self, part: str) -> None:
        self._part = part
        self.note(f"\n===== {part} =====")

    def note(self, text: str) -> None:
        print(text, flush=True)

    def command(
        self,
        step: str,
        *argv: str | Path,
        cwd: Path = ROOT,
        env: Mapping[str, str] | None = None,
        quiet: bool = False,
        limit: float | None = None,
    ) -> bool:
        """Run a program; `quiet` shows what it printed only if it fails, `limit` is in seconds."""

        def problems() -> Iterable[str]:
            began = time.monotonic()
            done = subprocess.run(
                argv,
                cwd=cwd,
                env=env or environment(),
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if quiet else None,
                stderr=subprocess.STDOUT if quiet else None,
                text=True,
            )
            if done.returncode:
                yield from (done.stdout or "").splitlines()
                yield f"exit status {done.returncode}: {shlex.join(map(str, argv))}"
            took = time.monotonic() - began
            if limit is not None and took > limit:
                yield f"took {took:.0f} s, more than {limit:.0f} s: {shlex.join(map(str, argv))}"

        return self.check(step, problems)

    def side_by_side(self, lanes: Iterable[list[Command]]) -> None:
        """Run every lane's commands one after the other, and the lanes at the same time."""
        threads = [self._start(lane, self._show) for lane in lanes]
        for thread in threads:
            thread.join()

    def meanwhile(self, lane: list[Command]) -> None:
        """Run commands one after the other beside the steps that follow; `settle` shows them."""
        self._meanwhile.append(self._start(lane, lambda *ended: self._ended.append(ended)))

    def settle(self) -> None:
        """Wait for what runs beside the steps: a part that needs it begins with this."""
        while self._meanwhile:
            self._meanwhile.pop().join()
        while self._ended:
            self._show(*self._ended.pop(0))

    def _start(self, lane: list[Command], ended: Callable[[Result, str], None]) -> threading.Thread:
        """What a command prints is shown when it has ended, so that nothing is mixed up."""
        part = self._part

        def run() -> None:
            for command in lane:
                began = time.monotonic()
                try:
                    done = subprocess.run(
                        command.argv,
                        cwd=command.cwd,
                        env=command.env,
                        check=False,
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT,
                        text=True,
                        errors="replace",
                    )
                    output, failed = done.stdout, done.returncode != 0
                except OSError as error:
                    output, failed = f"{error}\n", True
                ended(Result(part, command.step, time.monotonic() - began, not failed), output)

        thread = threading.Thread(target=run, daemon=True)  # it ends with the program
        thread.start()
        return thread

    def _show(self, result: Result, output: str) -> None:
        with self._lock:
            self.note(f"\n--- {result.part}: {result.step}")
            self.note(output.rstrip("\n"))
            self._finish(result)

    def check(self, step: str, problems: Callable[[], Iterable[str]]) -> bool:
        """Pass if `problems` finds none; an error of the machine is a problem too."""
        self.note(f"\n--- {self._part}: {step}")
        began = time.monotonic()
        try:
            found = list(problems())
        except (OSError, subprocess.CalledProcessError) as error:
            found = [str(error)]
        for problem in found:
            self.note(problem)
        return self._finish(Result(self._part, step, time.monotonic() - began, not found))

    def _finish(self, result: Result) -> bool:
        self._results.append(result)
        self.note(f"--- {'passed' if result.passed else 'FAILED'} in {result.seconds:.1f} s")
        return result.passed

    def end(self) -> int:
        """Print the table and the counts."""
        self.settle()
        width = max((len(result.step) for result in self._results), default=4)
        self.note(f"\n{'part':<9} {'step':<{width}} {'seconds':>8}  result")
        for one in self._results:
            verdict = "passed" if one.passed else "FAILED"
            self.note(f"{one.part:<9} {one.step:<{width}} {one.seconds:>8.1f}  {verdict}")
        failed = sum(not result.passed for result in self._results)
        self.note(f"\n{len(self._results) - failed} passed, {failed} failed")
        return 1 if failed else 0
