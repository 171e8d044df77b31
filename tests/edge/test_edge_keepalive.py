# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""An engine closes connections that are idle. A POST that meets the close on its way is lost.

nginx repeats no POST of which an engine may have read something. So the edge has to close first,
and always does. Times are scaled down: the edge keeps a connection for one second, the engine for
two; the POSTs are aimed at the engine's two seconds.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from edge_server import Edge
from engines import Engine

VARIANT = "open"
AT_ONCE = 120
ROUNDS = 3


def test_no_post_meets_the_close_of_an_idle_connection(edge: Edge) -> None:
    for engine in edge.engines:
        engine.keep_alive = 2.0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for turn in range(ROUNDS):
            began = time.monotonic()
            # Around two seconds after the last answers, not all at the same instant.
            waits = [turn and 1.99 + 0.02 * number / AT_ONCE for number in range(AT_ONCE)]

            def post(wait: float, began: float = began) -> int:
                time.sleep(max(0.0, began + wait - time.monotonic()))
                return edge.chat(None).status

            assert list(pool.map(post, waits)) == [200] * AT_ONCE
    assert len(edge.seen()) == AT_ONCE * ROUNDS
    # The proof that does not depend on luck: it was never the engine that closed.
    assert [engine.closed_idle for engine in edge.engines] == [0, 0]


def test_connections_are_kept_for_the_next_request(edge: Edge) -> None:
    def connections(engine: Engine) -> int:
        return len({one.connection for one in engine.requests})

    for _turn in range(30):
        assert edge.chat(None).status == 200
    # Each worker has its own.
    assert sum(map(connections, edge.engines)) <= 2 * len(edge.engines)
