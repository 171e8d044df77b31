# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Is a vLLM up? Levels of proof, each resting on the one before, and a name for what is wrong.

What vLLM answers in which condition was read in the sources of vLLM 0.32 and 0.33: nothing listens
while the model loads; /health reads a flag and runs no inference, so a hung engine keeps answering
200; a dead engine answers 503 there and 500 elsewhere.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import time
from collections.abc import Callable
from typing import Any

from ansible_collections.baremetal.vllm.plugins.module_utils._http import (
    Answer,
    Client,
    ClosedError,
    HttpError,
    NoConnectionError,
    TimedOutError,
    UnknownHostError,
)

LEVELS = ("process", "models", "token", "heartbeat")

REFUSED = "refused"
STARTING = "starting"
READY = "ready"
ENGINE_DEAD = "engine_dead"
STALLED = "stalled"
OVERLOADED = "overloaded"
WRONG_MODEL = "wrong_model"
UNAUTHORISED = "unauthorised"
ERROR = "error"

ADVICE = {
    REFUSED: "nothing listens there yet, see the journal of the unit",
    STARTING: "a proxy listens, the engine behind it does not yet, see the journal of the unit",
    ENGINE_DEAD: "the engine died, see the journal of the unit",
    STALLED: "the engine hangs, or request_timeout is too short, see the journal of the unit",
    OVERLOADED: "the engine works for others, give it time or less load",
    WRONG_MODEL: "compare the parameter model with the served name",
    UNAUTHORISED: "compare api_key with the key of the server",
    ERROR: "hold that answer against url, then see the journal of the unit",
}

_FIRST_PAUSE = 0.1
_LAST_REQUEST = 1.0
"""Seconds that a request or a watch gets at least, also when the total timeout is nearly over."""

_AFTERTHOUGHT = 5.0
"""Seconds to see whether an engine that owes a token works for others: a step takes far less."""

_EXCERPT = 200

_ENGINE_DEAD_MARKS = ("EngineDeadError", "EngineCore encountered an issue")
_NO_SUCH_MODEL_MARKS = ("NotFoundError", "does not exist")

_BY_STATUS: dict[int, tuple[str, bool]] = {
    # status: state, and whether waiting is useless
    401: (UNAUTHORISED, True),
    403: (UNAUTHORISED, True),
    408: (ERROR, False),
    429: (OVERLOADED, False),
    502: (STARTING, False),
    504: (STALLED, False),
}
_BY_LEVEL_AND_STATUS: dict[tuple[str, int], tuple[str, bool]] = {
    ("process", 503): (ENGINE_DEAD, False),
    ("models", 503): (STARTING, False),
    # --max-num-queued-reqs, vLLM 0.29 and later
    ("token", 503): (OVERLOADED, False),
}

_FIELDS = {
    "vllm:num_requests_running": "requests",
    "vllm:num_requests_waiting": "requests",
    "vllm:iteration_tokens_total_count": "iterations",
    "vllm:iteration_tokens_total_sum": "tokens",
}
_SAMPLE = re.compile(r"^(vllm:\w+)(?:\{(.*)\})?\s+(\S+)")
_ENGINE_LABEL = re.compile(r'\bengine="([^"]*)"')


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What is to be proved, and how long to try; all times in seconds."""

    level: str = "token"
    model: str | None = None
    api: str = "chat"
    health_path: str = "/health"
    timeout: float = 0.0
    interval: float = 2.0
    request_timeout: float = 30.0
    heartbeat_window: float = 120.0


@dataclasses.dataclass
class Report:
    """What was found; C(elapsed) has an entry for each level that holds."""

    state: str = REFUSED
    level_reached: str | None = None
    attempts: int = 0
    elapsed: dict[str, float] = dataclasses.field(default_factory=dict)
    version: str | None = None
    max_model_len: int | None = None
    model: str | None = None
    message: str = ""

    def results(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


class NotReadyError(Exception):
    """A level does not hold. C(final): waiting would not change that."""

    def __init__(self, state: str, detail: str, final: bool = False) -> None:
        super().__init__(detail)
        self.state = state
        self.detail = detail
        self.final = final


@dataclasses.dataclass(frozen=True)
class Pulse:
    """Of one engine: the requests it owes an answer, and how far it has come."""

    requests: float = 0.0
    iterations: float = 0.0
    tokens: float = 0.0

    def moved_since(self, earlier: Pulse) -> bool:
        return (self.iterations, self.tokens) != (earlier.iterations, earlier.tokens)


def pulses(metrics: str) -> dict[str, Pulse]:
    """Return the pulse of every engine in the text of /metrics, by the label C(engine).

    With data parallelism one server has several engines, and one may hang while the others work.
    Empty when C(vllm:iteration_tokens_total) is absent.
    """
    sums: dict[str, dict[str, float]] = {}
    for line in metrics.splitlines():
        sample = _SAMPLE.match(line)
        field = _FIELDS.get(sample.group(1)) if sample else None
        if not sample or not field:
            continue
        try:
            value = float(sample.group(3))
        except ValueError:
            continue
        if math.isfinite(value):
            label = _ENGINE_LABEL.search(sample.group(2) or "")
            fields = sums.setdefault(label.group(1) if label else "", {})
            fields[field] = fields.get(field, 0.0) + value
    return {engine: Pulse(**fields) for engine, fields in sums.items() if "iterations" in fields}


class Health:
    """Waits until a level holds, or until it cannot or may not wait any longer."""

    def __init__(
        self,
        client: Client,
        wanted: Wanted,
        api_key: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """C(api_key) is only for keeping it out of what is said; the client sends its own."""
        self._client = client
        self._wanted = wanted
        self._secret = api_key
        self._clock = clock
        self._sleep = sleep
        self._report = Report()
        self._start = 0.0
        self._reached: dict[str, float] = {}

    def wait(self) -> Report:
        """Return what was found last; C(state) is C(ready) when the wanted level holds."""
        self._start = self._clock()
        pause = min(_FIRST_PAUSE, self._wanted.interval)
        while True:
            self._report.attempts += 1
            problem = self._attempt()
            if problem is None or problem.final or self._left() <= 0:
                break
            self._sleep(min(pause, self._left()))
            pause = min(pause * 2, self._wanted.interval)
        self._conclude(problem)
        return self._report

    def _attempt(self) -> NotReadyError | None:
        """Go through the levels once; return why it ended early."""
        for index, level in enumerate(LEVELS[: LEVELS.index(self._wanted.level) + 1]):
            try:
                getattr(self, f"_prove_{level}")()
            except NotReadyError as problem:
                # What held in an earlier attempt may hold no longer.
                for lost in LEVELS[index:]:
                    self._reached.pop(lost, None)
                return problem
            self._reached.setdefault(level, self._clock())
        return None

    # The levels

    def _prove_process(self) -> None:
        self._ask("process", "GET", self._wanted.health_path)

    def _prove_models(self) -> None:
        what = "GET /v1/models"
        answer = self._json(what, self._ask("models", "GET", "/v1/models"))
        listed = answer.get("data")
        served = {
            str(entry["id"]): entry.get("max_model_len")
            for entry in (listed if isinstance(listed, list) else [])
            if isinstance(entry, dict) and entry.get("id")
        }
        name = self._wanted.model or next(iter(served), None)
        if name is None:
            raise NotReadyError(ERROR, f"{what} lists no model")
        if name not in served:
            names = ", ".join(list(served)[:5]) or "nothing"
            raise NotReadyError(WRONG_MODEL, f"{what} lists {names}, not {name}", final=True)
        self._report.model = name
        length = served[name]
        self._report.max_model_len = length if isinstance(length, int) else None
        self._report.version = self._ask_version()

    def _ask_version(self) -> str | None:
        """An edge serves no /version, and no level rests on it."""
        try:
            answer = self._client.request(
                "GET", "/version", limit=self._limit(self._wanted.request_timeout)
            )
            version = json.loads(answer.text)["version"] if answer.status == 200 else None
        except (HttpError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return version if isinstance(version, str) else None

    def _prove_token(self) -> None:
        path, body = self._token_request()
        what = f"POST {path}"
        started = self._clock()
        try:
            answer = self._ask("token", "POST", path, json_body=body)
        except NotReadyError as problem:
            if isinstance(problem.__cause__, TimedOutError):
                raise self._late_token(what, self._clock() - started) from None
            raise
        if not _has_token(self._json(what, answer)):
            text = self._excerpt(answer)
            raise NotReadyError(ERROR, f"{what} answered 200 without a generated token: {text}")

    def _token_request(self) -> tuple[str, str]:
        request: dict[str, Any] = {
            "model": self._report.model,
            "max_tokens": 1,
            "temperature": 0,
            "stream": False,
        }
        if self._wanted.api == "completion":
            return "/v1/completions", json.dumps({**request, "prompt": "ping"})
        messages = [{"role": "user", "content": "ping"}]
        return "/v1/chat/completions", json.dumps({**request, "messages": messages})

    def _late_token(self, what: str, waited: float) -> NotReadyError:
        """No token came in time: tell an engine that hangs from one that works for others."""
        detail = f"{what} gave no token in {waited:.1f} seconds"
        try:
            silent, moving = self._watch_pulses(_AFTERTHOUGHT)
        except NotReadyError:
            return NotReadyError(STALLED, detail)
        if moving and not silent:
            return NotReadyError(OVERLOADED, f"{detail}, while other requests were served")
        return NotReadyError(STALLED, detail)

    def _prove_heartbeat(self) -> None:
        started = self._clock()
        silent, _moving = self._watch_pulses(self._wanted.heartbeat_window)
        if silent:
            engines = ", ".join(name or "0" for name in sorted(silent))
            waited = self._clock() - started
            raise NotReadyError(
                STALLED,
                f"vllm:iteration_tokens_total of engine {engines} did not move in {waited:.1f} "
                "seconds although requests were running or waiting",
            )

    def _watch_pulses(self, window: float) -> tuple[set[str], bool]:
        """Look until every engine with requests has moved or has none left, or the window ends.

        Return the engines that had requests at every look and never moved, and whether any moved.
        The window is C(window) seconds, less where the parameters leave less.
        """
        end = self._clock() + self._limit(min(window, self._wanted.heartbeat_window))
        pause = _FIRST_PAUSE
        first = self._look()
        silent = {engine for engine, pulse in first.items() if pulse.requests > 0}
        moving = False
        while silent and self._clock() < end:
            self._sleep(max(min(pause, end - self._clock()), 0.0))
            pause = min(pause * 2, 1.0)
            now = self._look()
            moved = {e for e in silent if e in now and now[e].moved_since(first[e])}
            idle = {e for e in silent if e not in now or now[e].requests <= 0}
            moving = moving or bool(moved)
            silent -= moved | idle
        return silent, moving

    def _look(self) -> dict[str, Pulse]:
        found = pulses(self._ask("heartbeat", "GET", "/metrics").text)
        if not found:
            raise NotReadyError(
                ERROR,
                "GET /metrics has no vllm:iteration_tokens_total, "
                "which vLLM leaves out with --disable-log-stats",
                final=True,
            )
        return found

    # One request

    def _ask(self, level: str, method: str, path: str, json_body: str | None = None) -> Answer:
        """Return an answer of status 200; raise NotReadyError for anything else."""
        what = f"{method} {path}"
        limit = self._limit(self._wanted.request_timeout)
        try:
            answer = self._client.request(method, path, limit=limit, json_body=json_body)
        except HttpError as error:
            state, final = _classify_error(level, error)
            text = str(error)
            if isinstance(error, TimedOutError):
                text = f"no whole answer in {limit:.3g} seconds"
            raise NotReadyError(state, f"{what}: {text}", final) from error
        if answer.status != 200:
            state, final = _classify_answer(level, answer)
            text = self._excerpt(answer)
            raise NotReadyError(state, f"{what} answered {answer.status}: {text}", final)
        return answer

    def _json(self, what: str, answer: Answer) -> dict[str, Any]:
        try:
            content = json.loads(answer.text)
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            text = self._excerpt(answer)
            raise NotReadyError(ERROR, f"{what} answered 200, but not JSON: {text}", final=True)
        return content

    def _excerpt(self, answer: Answer) -> str:
        # The key is taken out before the cut: half a key would not be recognised after it.
        text = " ".join(self._without_secret(answer.text).split())
        return "".join(c if c.isprintable() else "?" for c in text[:_EXCERPT]) or "(empty)"

    def _without_secret(self, text: str) -> str:
        return text.replace(self._secret, "********") if self._secret else text

    # Time

    def _left(self) -> float:
        return self._start + self._wanted.timeout - self._clock()

    def _limit(self, seconds: float) -> float:
        """Return C(seconds), or what is left of them before the timeout."""
        if not self._wanted.timeout:
            return seconds
        return min(seconds, max(self._left(), _LAST_REQUEST))

    def _conclude(self, problem: NotReadyError | None) -> None:
        report, now = self._report, self._clock()
        before = self._start
        for level, reached in self._reached.items():
            report.elapsed[level] = round(reached - before, 3)
            report.level_reached, before = level, reached
        report.elapsed["total"] = round(now - self._start, 3)
        attempts = f"{report.attempts} attempt{'s' if report.attempts > 1 else ''}"
        spent = f"{attempts} in {now - self._start:.1f} seconds"
        url, level = self._client.address.url, self._wanted.level
        if problem is None:
            report.state = READY
            report.message = f"{url} reached the level {level} after {spent}."
            return
        report.state = problem.state
        report.message = self._without_secret(
            f"{url} did not reach the level {level} after {spent}: {problem.detail} "
            f"(state {problem.state}); {ADVICE[problem.state]}."
        )


def _has_token(answer: dict[str, Any]) -> bool:
    """Judge by the count: the first token of a Harmony answer is markup, so its text is null."""
    usage = answer.get("usage")
    count = usage.get("completion_tokens") if isinstance(usage, dict) else None
    if count is not None:
        return isinstance(count, int) and count >= 1
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    # Without a count, C(length) says that the one token allowed was used up.
    return isinstance(first, dict) and first.get("finish_reason") == "length"


def _classify_error(level: str, error: HttpError) -> tuple[str, bool]:
    """Return the state, and whether waiting is useless."""
    if isinstance(error, NoConnectionError):
        return REFUSED, False
    if isinstance(error, ClosedError):
        # Docker's proxy accepts while nothing listens behind it. After a good /health it is a
        # process that went away.
        return (STARTING if level == "process" else ENGINE_DEAD), False
    if isinstance(error, TimedOutError):
        return STALLED, False
    if isinstance(error, UnknownHostError):
        return ERROR, not error.temporary
    return ERROR, True


def _classify_answer(level: str, answer: Answer) -> tuple[str, bool]:
    """Return the state, and whether waiting is useless, for a status other than 200."""
    status = answer.status
    if status >= 500 and any(mark in answer.text for mark in _ENGINE_DEAD_MARKS):
        return ENGINE_DEAD, False
    if level == "token" and status == 404 and any(m in answer.text for m in _NO_SUCH_MODEL_MARKS):
        return WRONG_MODEL, True
    for_level = _BY_LEVEL_AND_STATUS.get((level, status))
    return for_level or _BY_STATUS.get(status) or (ERROR, status < 500)
