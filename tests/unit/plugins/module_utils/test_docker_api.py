# Copyright (c) 2026 baremetal.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The Docker client against a real server on a real Unix socket."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.baremetal.vllm.plugins.module_utils._docker_api import (
    DockerAPI,
    DockerAPIError,
    DockerUnavailable,
    quote_segment,
)


class Engine:
    """A server that answers every request with prepared bytes and keeps the requests."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.requests: list[str] = []
        self.pieces: list[bytes] = []
        self.reads = True  # all of a body that is sent piece by piece
        self.gate = threading.Event()
        self.gate.set()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(path)
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def answer(self, *body: bytes, status: str = "200 OK", length: int | None = None) -> None:
        """Answer with a body of known length, or (several pieces) chunk by chunk."""
        if len(body) == 1:
            length = len(body[0]) if length is None else length
            head = f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n".encode()
            self.pieces = [head + body[0]]
        else:
            head = f"HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
            self.pieces = [head, *(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in body)]
            self.pieces.append(b"0\r\n\r\n")

    def close(self) -> None:
        self.gate.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                connection, _peer = self._socket.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(65536)
                while b"chunked" in request and self.reads and b"0\r\n\r\n" not in request[-5:]:
                    more = connection.recv(65536)
                    if not more:
                        break
                    request += more
                self.requests.append(request.decode())
                for index, piece in enumerate(self.pieces):
                    if index == 2:
                        self.gate.wait(5)
                    connection.sendall(piece)


@pytest.fixture
def engine(tmp_path: Path) -> t.Iterator[Engine]:
    server = Engine(str(tmp_path / "docker.sock"))
    yield server
    server.close()


def test_get_returns_parsed_json(engine: Engine) -> None:
    engine.answer(b'{"Version": "26.1.5", "Caf\xc3\xa9": true}')
    assert DockerAPI(engine.path).get("/version") == {"Version": "26.1.5", "Café": True}
    assert engine.requests[0].startswith("GET /version HTTP/1.1\r\nHost: docker\r\n")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"message": "No such image: x"}', "No such image: x"),
        (b"plain text\n", "plain text"),
        (b'["list"]', '["list"]'),
        (b"", "Not Found"),
    ],
)
def test_an_error_answer_is_raised_with_its_message(
    engine: Engine, body: bytes, message: str
) -> None:
    engine.answer(body, status="404 Not Found")
    with pytest.raises(DockerAPIError) as failure:
        DockerAPI(engine.path).get("/images/x/json")
    assert (failure.value.status, failure.value.message) == (404, message)
    with pytest.raises(DockerAPIError, match="answered 404"):
        list(DockerAPI(engine.path).stream("POST", "/images/create"))


def test_an_answer_without_json_is_an_error(engine: Engine) -> None:
    engine.answer(b"OK")
    with pytest.raises(DockerAPIError, match="no JSON on /_ping"):
        DockerAPI(engine.path).get("/_ping")


def test_no_socket_no_listener_and_no_docker_are_unavailable(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.sock")
    with pytest.raises(DockerUnavailable, match=r"missing\.sock"):
        DockerAPI(missing).get("/info")
    dead = str(tmp_path / "dead.sock")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(dead)
    with pytest.raises(DockerUnavailable, match="refused"):
        DockerAPI(dead).get("/info")
    regular = tmp_path / "regular.sock"
    regular.write_text("")
    with pytest.raises(DockerUnavailable):
        list(DockerAPI(str(regular)).stream("POST", "/images/create"))


def test_silence_longer_than_the_timeout_is_unavailable(engine: Engine) -> None:
    engine.answer(b'{"half": ', length=100)
    with pytest.raises(DockerUnavailable):
        DockerAPI(engine.path, timeout=0.2).get("/info")


def test_an_engine_that_dies_in_the_middle_is_unavailable(engine: Engine) -> None:
    engine.answer(b'{"a": 1}\n', b'{"b": 2}\n')
    engine.pieces.pop()
    objects = DockerAPI(engine.path).stream("POST", "/images/create")
    assert [next(objects), next(objects)] == [{"a": 1}, {"b": 2}]
    with pytest.raises(DockerUnavailable):
        next(objects)


def test_stream_yields_objects_wherever_the_pieces_are_cut(engine: Engine) -> None:
    whole = '{"status":"Pulling é"}\r\n{"id":"a","progressDetail":{"current":1}}{"id":"b"}\r\n'
    encoded = whole.encode()
    expected = [
        {"status": "Pulling é"},
        {"id": "a", "progressDetail": {"current": 1}},
        {"id": "b"},
    ]
    for size in (1, 2, 7, 19, 1000):
        engine.answer(b"", *(encoded[i : i + size] for i in range(0, len(encoded), size)))
        engine.pieces.pop(1)  # an empty chunk would end the answer
        assert list(DockerAPI(engine.path).stream("POST", "/images/create")) == expected


def test_stream_yields_an_object_before_the_next_one_is_sent(engine: Engine) -> None:
    engine.gate.clear()
    engine.answer(b'{"id": 1}\n', b'{"id": 2}\n')
    objects = DockerAPI(engine.path).stream("POST", "/images/create")
    assert next(objects) == {"id": 1}
    engine.gate.set()
    assert list(objects) == [{"id": 2}]


def test_stream_sends_method_headers_and_an_empty_body(engine: Engine) -> None:
    engine.answer(b"", b'{"id": 1}')
    engine.pieces.pop(1)
    list(DockerAPI(engine.path).stream("POST", "/images/create?tag=1", {"X-Registry-Auth": "e30="}))
    head = engine.requests[0]
    assert head.startswith("POST /images/create?tag=1 HTTP/1.1\r\n")
    assert "X-Registry-Auth: e30=\r\n" in head
    assert "Content-Length: 0\r\n" in head


def test_stream_that_ends_within_an_object_is_an_error(engine: Engine) -> None:
    engine.answer(b'{"id": 1}', b'{"id": ')
    objects = DockerAPI(engine.path).stream("POST", "/images/create")
    assert next(objects) == {"id": 1}
    with pytest.raises(DockerAPIError, match="ends in the middle"):
        next(objects)


def test_closing_the_stream_ends_the_request(engine: Engine) -> None:
    engine.answer(*(b'{"id": 1}\n' for _count in range(10)))
    objects = DockerAPI(engine.path).stream("POST", "/images/create")
    next(objects)
    objects.close()
    with pytest.raises(StopIteration):
        next(objects)
    engine.answer(b'{"alive": true}')
    assert DockerAPI(engine.path).get("/info") == {"alive": True}


def test_names_are_quoted_for_paths() -> None:
    assert quote_segment("docker.io/a/b@sha256:0a") == "docker.io/a/b@sha256:0a"
    assert quote_segment("a?b c#d") == "a%3Fb%20c%23d"


# -- bodies --------------------------------------------------------------------------------------


def test_a_body_is_sent_piece_by_piece(engine: Engine) -> None:
    engine.answer(b'{"stream": "a"}\n{"stream": "b"}\n')
    pieces = (piece for piece in (b"one", b"", b"three"))
    answer = DockerAPI(engine.path).upload("/images/load", pieces, "application/x-tar", 5)
    assert answer == [{"stream": "a"}, {"stream": "b"}]
    head, _blank, body = engine.requests[0].partition("\r\n\r\n")
    assert head.startswith("POST /images/load HTTP/1.1\r\n")
    assert "Transfer-Encoding: chunked" in head
    assert "Content-Type: application/x-tar" in head
    assert "Content-Length" not in head
    assert body == "3\r\none\r\n5\r\nthree\r\n0\r\n\r\n"


def test_an_answer_that_comes_before_the_body_has_ended_is_read(engine: Engine) -> None:
    engine.reads = False
    engine.answer(b'{"message": "disk full"}', status="500 Internal Server Error")
    pieces = (bytes(1_000_000) for _n in range(100))
    with pytest.raises(DockerAPIError, match="disk full"):
        DockerAPI(engine.path).upload("/images/load", pieces, "application/x-tar", 5)


def test_what_a_body_raises_passes(engine: Engine) -> None:
    def pieces() -> t.Iterator[bytes]:
        yield b"one"
        raise KeyError("damaged")

    engine.answer(b"{}")
    with pytest.raises(KeyError, match="damaged"):
        DockerAPI(engine.path).upload("/images/load", pieces(), "application/x-tar", 5)


def test_a_body_that_takes_too_long_is_given_up(engine: Engine) -> None:
    def pieces() -> t.Iterator[bytes]:
        while True:
            time.sleep(0.05)
            yield b"more"

    engine.answer(b"{}")
    with pytest.raises(DockerUnavailable, match="timed out"):
        DockerAPI(engine.path).upload("/images/load", pieces(), "application/x-tar", 0.3)


def test_a_body_for_nobody_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(DockerUnavailable, match=r"missing\.sock"):
        DockerAPI(str(tmp_path / "missing.sock")).upload("/images/load", [b"x"], "x/y", 5)
