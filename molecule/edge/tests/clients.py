# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Clients of the edges as users have them: OpenAI's own, with keys and checked certificates."""

from __future__ import annotations

import functools
import json
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import httpx2
from conftest import LAB, ROOT, SCENARIO, address, lab_host
from openai import APIError, OpenAI

TINY, OTHER = "gpt-oss-tiny", "gpt-oss-other"
QUESTION = "Count from one to ten."
SHARED = str(
    json.loads((ROOT / ".cache/lab/network.json").read_text())["shared_address"]
).partition("/")[0]
AUTHORITY = "/etc/nginx/vllm/tls/ca.pem"


def key(client: str) -> str:
    """The key of a client of the inventory."""
    return (ROOT / ".cache/edge-keys" / client).read_text().strip()


@functools.cache
def trust(names_checked: bool = True) -> ssl.SSLContext:
    """What an operator gives clients: the authorities of all edges, and no other. They are kept."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for front in SCENARIO.edge_hosts:
        context.load_verify_locations(cadata=lab_host(front).file(AUTHORITY).content_string)
    context.check_hostname = names_checked
    return context


def openai(host: str = "", client: str = "app", retries: int = 0, timeout: float = 120.0) -> OpenAI:
    """A client of the shared address, or of one edge by its own, which no certificate names."""
    where = address(host) if host else SHARED
    return OpenAI(
        base_url=f"{SCENARIO.edge_scheme}://{where}:{SCENARIO.edge_port}/v1",
        api_key=key(client),
        max_retries=retries,
        timeout=timeout,
        http_client=httpx2.Client(verify=trust(names_checked=not host)),
    )


def holders() -> list[str]:
    """The edges that hold the shared address."""
    asked = f"ip -oneline address show to {SHARED}"
    return [front for front in SCENARIO.edge_hosts if lab_host(front).check_output(asked)]


def healthy(host: str = "") -> bool:
    """Whether an edge answers, on a connection of its own."""
    where = address(host) if host else SHARED
    url = f"{SCENARIO.edge_scheme}://{where}:{SCENARIO.edge_port}/healthz"
    try:
        return httpx2.get(url, verify=trust(names_checked=not host), timeout=1).status_code == 200
    except httpx2.HTTPError:
        return False


def slow_engines() -> None:
    """About 20 tokens a second for each of four streams, and CPU left for nginx and the plays.

    The engines together may use less than one of the machine's two cores; an engine that starts
    afresh may use all again.
    """
    for name in SCENARIO.gpu_hosts:
        lab_host(name).check_output("docker ps --quiet | xargs docker update --cpus 0.4")


@dataclass(frozen=True)
class Streamed:
    """One streamed answer: when it began and ended, and whether all of it came."""

    begun: float
    ended: float
    whole: bool
    problem: str


class Streams:
    """Clients that stream one answer after the other for as long as the block runs.

    At its beginning every client has its first token; at its end every answer has come to an end.
    """

    def __init__(self, host: str = "", count: int = 4, tokens: int = 200) -> None:
        self._client = openai(host, retries=2)
        self._count, self._tokens = count, tokens
        self._stop = threading.Event()
        self._begun = threading.Semaphore(0)
        self._pool = ThreadPoolExecutor(count)
        self._work: list[Future[None]] = []
        self.answers: list[Streamed] = []

    def __enter__(self) -> Streams:
        slow_engines()
        self._work = [self._pool.submit(self._one_after_the_other) for _ in range(self._count)]
        for _ in range(self._count):
            assert self._begun.acquire(timeout=60), "a stream has not begun"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._pool.shutdown(wait=True)
        for work in self._work:
            work.result()

    def _one_after_the_other(self) -> None:
        first = True
        while not self._stop.is_set():
            self.answers.append(self._stream(first))
            first = False

    def _stream(self, first: bool) -> Streamed:
        begun = time.monotonic()
        finish, tokens, problem = None, 0, ""
        try:
            for chunk in self._client.completions.create(
                model=TINY,
                prompt=QUESTION,
                max_tokens=self._tokens,
                stream=True,
                stream_options={"include_usage": True},
                extra_body={"ignore_eos": True},
            ):
                if first:
                    first = False
                    self._begun.release()
                finish = (chunk.choices[0].finish_reason if chunk.choices else None) or finish
                tokens = chunk.usage.completion_tokens if chunk.usage else tokens
        except (APIError, httpx2.HTTPError) as error:
            problem = f"{type(error).__name__}: {error}"
        whole = finish == "length" and tokens == self._tokens
        return Streamed(begun, time.monotonic(), whole, problem or f"{finish}, {tokens} tokens")

    def across(self, moment: float) -> list[Streamed]:
        """Answers that had begun and not ended then."""
        return [each for each in self.answers if each.begun < moment < each.ended]

    def cut(self) -> list[str]:
        """What was wrong with the answers that did not come whole."""
        return [each.problem for each in self.answers if not each.whole]


def seconds_until(condition: Callable[[], bool], limit: float = 30.0) -> float:
    """Seconds until a condition holds; `limit` when it never does."""
    begun = time.monotonic()
    while time.monotonic() - begun < limit:
        if condition():
            return time.monotonic() - begun
        time.sleep(0.1)
    return limit


def container(host: str) -> str:
    """The container that stands for a host."""
    return f"vllm-{LAB}-{host}"
