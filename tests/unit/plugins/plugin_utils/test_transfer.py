# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Bytes into files: going on after a cut, redirects, and who may see credentials."""

from __future__ import annotations

import io
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.module_utils import _model_download
from ansible_collections.baremetal.vllm.plugins.module_utils._model_download import (
    Download,
    Failure,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._source_client import trust
from ansible_collections.baremetal.vllm.plugins.plugin_utils import _transfer
from ansible_collections.baremetal.vllm.plugins.plugin_utils._transfer import (
    StatusError,
    Transfer,
    TransferError,
)
from ansible_collections.baremetal.vllm.tests.unit.fake_source import (
    CLOSE,
    HANG,
    FakeSource,
    Reply,
    Request,
    sha256,
)

CONTENT = bytes(range(256)) * 4000
SECRET = {"Authorization": "Bearer secret"}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def start_source() -> Iterator[Callable[..., FakeSource]]:
    started: list[FakeSource] = []

    def start(tls: ssl.SSLContext | None = None) -> FakeSource:
        started.append(FakeSource(tls))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.fixture
def source(start_source: Callable[..., FakeSource]) -> FakeSource:
    source = start_source()
    source.routes["/file"] = ranged
    return source


def ranged(request: Request) -> Reply:
    """Answer as a server that knows ranges."""
    asked = request.headers.get("range")
    if not asked:
        return Reply(CONTENT)
    begin = int(asked.removeprefix("bytes=").removesuffix("-"))
    return Reply(CONTENT[begin:], 206)


def get(source: FakeSource, have: bytes = b"", path: str = "/file", **given: Any) -> bytes:
    """What the file has in it after a transfer into one that had something."""
    file = io.BytesIO(have)
    file.seek(len(have))
    arguments = {name: given.pop(name) for name in ("headers",) if name in given}
    transfer = Transfer(trust(), **given)
    transfer.http_get(f"{source.url}{path}", file, resume_size=len(have), **arguments)
    return file.getvalue()


# -- content -------------------------------------------------------------------------------------


def test_a_file_arrives(source: FakeSource) -> None:
    pieces: list[int] = []
    assert get(source, arrived=pieces.append) == CONTENT
    assert sum(pieces) == len(CONTENT)
    assert len(pieces) > 1
    assert "range" not in source.requests[0].headers


def test_what_is_there_is_not_asked_for_again(source: FakeSource) -> None:
    pieces: list[int] = []
    assert get(source, CONTENT[:5000], arrived=pieces.append) == CONTENT
    assert source.requests[0].headers["range"] == "bytes=5000-"
    assert sum(pieces) == len(CONTENT) - 5000


def test_a_server_that_ignores_ranges_has_the_file_begun_anew(source: FakeSource) -> None:
    source.routes["/file"] = Reply(b"short")
    assert get(source, b"something longer than that") == b"short"


@pytest.mark.parametrize("status", [401, 403, 404, 416, 429, 500, 503])
def test_a_status_that_is_no_success_is_where_download_looks_for_it(
    source: FakeSource, status: int
) -> None:
    source.routes["/file"] = Reply(b"no", status)
    with pytest.raises(StatusError) as refused:
        get(source, CONTENT[:10], path="/file?signature=abc")
    assert refused.value.response.status_code == status
    assert "signature" not in str(refused.value)


def test_what_breaks_off_is_left_as_far_as_it_came(source: FakeSource) -> None:
    source.routes["/file"] = Reply(CONTENT[:1000], claimed=len(CONTENT))
    assert get(source) == CONTENT[:1000]


def test_a_server_that_hangs_up_is_no_answer(source: FakeSource) -> None:
    source.routes["/file"] = CLOSE
    with pytest.raises(TransferError):
        get(source)


def test_silence_has_an_end(source: FakeSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_transfer, "SILENCE", 0.2)
    source.routes["/file"] = HANG
    with pytest.raises(TransferError, match="timed out"):
        get(source)


def test_a_header_that_cannot_be_sent_is_not_repeated(source: FakeSource) -> None:
    with pytest.raises(TransferError) as refused:
        get(source, headers={"Authorization": "Bearer se\ncret"})
    assert "cret" not in str(refused.value)


def test_the_proxy_of_the_environment_is_asked(
    source: FakeSource, start_source: Callable[..., FakeSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = start_source()
    proxy.routes[f"{source.url}/file"] = Reply(b"through the proxy")
    monkeypatch.setenv("http_proxy", proxy.url)
    assert get(source) == b"through the proxy"
    assert source.requests == []


# -- redirects -----------------------------------------------------------------------------------


def test_credentials_go_to_the_server_that_was_asked_alone(
    source: FakeSource, start_source: Callable[..., FakeSource]
) -> None:
    storage = start_source()
    storage.routes["/stored"] = ranged
    source.routes["/file"] = Reply(status=302, headers={"Location": "/moved"})
    source.routes["/moved"] = Reply(status=307, headers={"Location": f"{storage.url}/stored"})
    headers = {"X-Amz-Security-Token": "secret", "Accept-Encoding": "identity"}
    found = get(source, CONTENT[:7], headers=headers, authorize=lambda _fresh: dict(SECRET))
    assert found == CONTENT
    for asked in source.requests:
        assert (asked.token, asked.headers["x-amz-security-token"]) == (*SECRET.values(), "secret")
    assert "secret" not in str(storage.requests[0].headers)
    assert storage.requests[0].headers["range"] == "bytes=7-"
    assert storage.requests[0].headers["accept-encoding"] == "identity"


def test_another_port_is_another_server(
    source: FakeSource, start_source: Callable[..., FakeSource]
) -> None:
    other = start_source()
    other.routes["/file"] = Reply(b"other")
    source.routes["/file"] = Reply(status=301, headers={"Location": f"{other.url}/file"})
    assert get(source, headers=SECRET) == b"other"
    assert other.requests[0].token is None


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/file"])
def test_only_web_servers_are_redirected_to(source: FakeSource, target: str) -> None:
    source.routes["/file"] = Reply(status=302, headers={"Location": target})
    with pytest.raises(Failure, match="which is no https address") as refused:
        get(source)
    assert (refused.value.kind, refused.value.facts["status"]) == ("refused", 302)


def test_a_circle_of_redirects_has_an_end(source: FakeSource) -> None:
    source.routes["/file"] = Reply(status=302, headers={"Location": "/file"})
    with pytest.raises(Failure, match="redirects more than 5 times"):
        get(source)
    assert len(source.requests) == 6


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that signs itself."""
    directory = tmp_path_factory.mktemp("authority")
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        " -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem"
    )
    subprocess.run(command.split(), cwd=directory, check=True, capture_output=True)
    return directory


@pytest.fixture
def secured(start_source: Callable[..., FakeSource], authority: Path) -> FakeSource:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "cert.pem", authority / "key.pem")
    return start_source(context)


def test_https_is_not_left(secured: FakeSource, source: FakeSource, authority: Path) -> None:
    secured.routes["/file"] = Reply(status=302, headers={"Location": f"{source.url}/file"})
    transfer = Transfer(trust(str(authority / "cert.pem")))
    with pytest.raises(Failure, match="which is no https address"):
        transfer.http_get(f"{secured.url}/file", io.BytesIO())
    assert source.requests == []


def test_download_knows_a_certificate_that_is_not_trusted(
    secured: FakeSource, tmp_path: Path
) -> None:
    file = {"path": "a", "size": 1, "url": f"{secured.url}/file"}
    result = Download(
        {"directory": str(tmp_path), "files": [file]}, Transfer(trust()).http_get
    ).run()
    assert result["kind"] == "untrusted"


# -- tokens --------------------------------------------------------------------------------------


def test_a_token_that_is_too_old_is_replaced_once(source: FakeSource) -> None:
    asked: list[bool] = []

    def authorize(fresh: bool) -> dict[str, str]:
        asked.append(fresh)
        return {"Authorization": "new" if fresh else "old"}

    source.routes["/file"] = lambda request: (
        ranged(request) if request.token == "new" else Reply(b"expired", 401)
    )
    assert get(source, CONTENT[:3], authorize=authorize) == CONTENT
    assert asked == [False, True]


def test_who_refuses_a_fresh_token_too_is_not_asked_for_ever(source: FakeSource) -> None:
    source.routes["/file"] = Reply(b"no", 401)
    with pytest.raises(StatusError):
        get(source, authorize=lambda _fresh: dict(SECRET))
    assert len(source.requests) == 2


# -- with Download -------------------------------------------------------------------------------


def test_download_goes_on_after_a_cut_and_verifies(source: FakeSource, tmp_path: Path) -> None:
    cut = Reply(CONTENT[:300_000], claimed=len(CONTENT))
    source.routes["/file"] = [cut, Reply(b"busy", 503), ranged]
    file = {"path": "a/b", "size": len(CONTENT), "sha256": sha256(CONTENT)}
    job = {
        "directory": str(tmp_path),
        "files": [{**file, "url": f"{source.url}/file"}],
        "pauses": [0.01],
    }
    result = Download(job, Transfer(trust()).http_get).run()
    assert result["ok"], result
    assert (tmp_path / "a/b").read_bytes() == CONTENT
    assert result["downloaded_bytes"] == len(CONTENT)
    kept = 300_000 - 300_000 % _model_download.CHUNK
    ranges = [each.headers.get("range") for each in source.requests]
    assert ranges[0] is None
    assert set(ranges[1:]) <= {f"bytes={kept}-", "bytes=300000-"}
