# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Downloads the files of a model, so that what has arrived once is not asked for again.

Runs inside a container of the vLLM image, as `python3 -c <this text>` with the job as JSON on
standard input; its last line of output is the result. Python 3.9 and huggingface_hub 0.33 to 2.4
are enough, nothing else of the collection may be imported.

`hf_hub_download` begins a large file anew after a cut (huggingface_hub, pull request 4228), so its
`http_get` is given a file of our own: `<path>.part` until it is verified, then `<path>`.

Job: `directory`, `files` ([{path, size, sha256, git_sha1, url}]), and what may be left out:
`headers` (only for addresses below `origin`), `environment`, `ca_path`, `workers`, `progress_path`,
`pauses`.
Result: {ok: true, files: {path: {size, sha256}}, downloaded_bytes, resumed_bytes}, or
{ok: false, kind, file, message, ...} with what more is known of this kind.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import functools
import hashlib
import inspect
import json
import os
import queue
import re
import signal
import sys
import tempfile
import threading
import time
import typing as t

ATTEMPTS = 4
"""Requests for one file in a row that bring nothing."""
PAUSES = (1.0, 4.0, 15.0)
"""Seconds between them."""
CHUNK = 256 * 1024
"""Bytes. A cut loses what is no whole chunk yet, which with the client's own 10 MiB is too much."""
_HASH_CHUNK = 4 * 1024 * 1024
_RATE_SECONDS = 10.0
_TICK = 0.2
_GRACE = 3.0
"""Seconds that other files get to write what they have when one has failed."""

_ENVIRONMENT = {
    "HF_HUB_DISABLE_XET": "1",  # what Xet has fetched cannot be continued
    "HF_HUB_ENABLE_HF_TRANSFER": "0",  # of clients before 1.0: opens the file by name, and anew
    "HF_HUB_OFFLINE": "0",  # whatever the image says
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_VERBOSITY": "critical",  # warnings quote addresses, and some are signed
}

HttpGet = t.Callable[..., t.Any]


class Failure(Exception):  # noqa: N818 - what the result says
    """The download is over; `kind` says why."""

    def __init__(self, kind: str, message: str, **facts: t.Any) -> None:
        super().__init__(message)
        self.kind = kind
        self.facts = facts


class Stopped(Exception):  # noqa: N818 - says a state
    """Another file has failed, or the container shall end."""


class Transient(Failure):
    """Trying again may help."""


class Wrong(Exception):  # noqa: N818 - says a state
    """The content is not that of the listing; only fetching it anew can help."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"{found} instead of {expected}")
        self.expected = expected
        self.found = found


def client() -> HttpGet:
    """Return the client's `http_get`, which then leaves most of the trying again to us."""
    try:
        from huggingface_hub import constants, file_download
    except ImportError as error:
        raise Failure("no_client", str(error)) from error
    constants.DOWNLOAD_CHUNK_SIZE = CHUNK
    http_get: HttpGet = file_download.http_get
    known = inspect.signature(http_get).parameters
    return functools.partial(http_get, _nb_retries=0) if "_nb_retries" in known else http_get


def said(error: BaseException) -> str:
    """Return what an error says in one line, without queries of addresses: they may be signed."""
    text = " ".join(str(error).split()) or type(error).__name__
    return re.sub(r"\?[^\s'\"]+", "", text)[:300]


def reason(error: Exception, have: int, size: int) -> Exception:
    """Return what an error of the client means: a Failure, a Transient or a Wrong.

    `have` of `size` bytes were there.
    """
    status = getattr(getattr(error, "response", None), "status_code", None)
    text = said(error)
    if status in (401, 403):
        return Failure("refused", text, status=status)
    if status in (404, 410):
        return Failure("not_found", text, status=status)
    if status == 416:
        return Wrong(f"{size} bytes", f"{have} bytes")  # it ends where we want to go on
    if status in (408, 429) or (status is not None and status >= 500):
        return Transient("unavailable", text, status=status)
    if status is not None:
        return Failure("refused", text, status=status)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return Failure("untrusted", text)
    return Transient("unreachable", text)


def disk_failure(error: OSError) -> Failure:
    """Return what an error of the disk means."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return Failure("disk_full" if full else "disk", error.strerror or type(error).__name__)


def trust(ca_path: str) -> None:
    """Trust the authorities of a PEM file beside those that the client trusts anyway."""
    import certifi

    directory = tempfile.mkdtemp()
    together = os.path.join(directory, "authorities.pem")
    with open(together, "wb") as bundle:
        for path in (certifi.where(), ca_path):
            with open(path, "rb") as file:
                bundle.write(file.read() + b"\n")
    os.environ.update(SSL_CERT_FILE=together, REQUESTS_CA_BUNDLE=together)


def size_of(path: str) -> int:
    """Return a file's size in bytes; -1 where there is none."""
    try:
        return os.stat(path).st_size
    except (FileNotFoundError, NotADirectoryError):
        return -1


class PartFile:
    """The file that `http_get` writes to: unbuffered, never longer than the listing says."""

    def __init__(
        self, descriptor: int, size: int, stop: threading.Event, grown: t.Callable[[int, int], None]
    ) -> None:
        self._descriptor = descriptor
        self._size = size
        self._stop = stop
        self._grown = grown
        self._position = os.lseek(descriptor, 0, os.SEEK_CUR)

    def write(self, chunk: bytes) -> int:
        """Write all of it. Raises Stopped, Wrong for what is too much, Failure for a bad disk."""
        if self._stop.is_set():
            raise Stopped
        if self._position + len(chunk) > self._size:
            raise Wrong(f"{self._size} bytes", "more")
        view = memoryview(chunk)
        while view:
            try:
                written = os.write(self._descriptor, view)
            except OSError as error:
                # The client must not take a full disk for a bad connection.
                raise disk_failure(error) from error
            view = view[written:]
            self._position += written
            self._grown(self._position, written)
        return len(chunk)

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = os.lseek(self._descriptor, offset, whence)
        return self._position

    def truncate(self, size: int | None = None) -> int:
        """The client does this where a server ignores ranges and sends the file from its start."""
        end = self._position if size is None else size
        os.ftruncate(self._descriptor, end)
        self._grown(end, 0)
        return end


class Progress:
    """The progress file, replaced as a whole at most once a second."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._start = time.monotonic()
        self._written = float("-inf")
        self._samples: collections.deque[tuple[float, int]] = collections.deque()

    def write(self, status: dict[str, t.Any], received: int, final: bool = False) -> None:
        now = time.monotonic()
        if not self._path or (not final and now - self._written < 1.0):
            return
        self._written = now
        self._samples.append((now, received))
        while now - self._samples[0][0] > _RATE_SECONDS:
            self._samples.popleft()
        since, before = self._samples[0]
        rate = (received - before) / (now - since) if now > since else 0.0
        elapsed = round(now - self._start, 1)
        content = {**status, "bytes_per_second": round(rate), "elapsed": elapsed}
        # A full disk is the download's to report.
        with contextlib.suppress(OSError):
            with open(f"{self._path}.new", "w", encoding="utf-8") as file:
                json.dump(content, file)
            os.replace(f"{self._path}.new", self._path)


class Download:
    """One job: several files at once, each until it is verified."""

    def __init__(self, job: t.Mapping[str, t.Any], http_get: HttpGet) -> None:
        self._directory = job["directory"]
        self._files = list(job["files"])
        self._headers = job.get("headers") or {}
        self._origin = job.get("origin")
        self._workers = job.get("workers") or 8
        self._pauses = job.get("pauses") or PAUSES
        self._http_get = http_get
        self._progress = Progress(job.get("progress_path") or "")
        self._stop = threading.Event()
        self._lock = threading.RLock()  # a signal may find the main thread with it
        self._failure: dict[str, t.Any] = {}
        self._have = {file["path"]: self._bytes_of(file) for file in self._files}
        self._resumed = sum(self._have.values())
        self._received = 0
        self._done: dict[str, dict[str, t.Any]] = {}

    def run(self) -> dict[str, t.Any]:
        """Fetch all files and return the result."""
        # The largest first, so that none is left alone at the end.
        waiting: queue.SimpleQueue[dict[str, t.Any]] = queue.SimpleQueue()
        for file in sorted(self._files, key=lambda each: -int(each["size"])):
            waiting.put(file)
        count = min(self._workers, len(self._files))
        threads = [
            threading.Thread(target=self._work, args=(waiting,), daemon=True) for _n in range(count)
        ]
        for thread in threads:
            thread.start()
        patience = _GRACE
        while (alive := [each for each in threads if each.is_alive()]) and patience > 0:
            self._progress.write(self._status(), self._received)
            alive[0].join(_TICK)
            patience -= _TICK if self._stop.is_set() else 0.0
        self._progress.write(self._status(ended=True), self._received, final=True)
        if self._failure:
            return {"ok": False, "missing_bytes": self._missing(), **self._failure}
        return {
            "ok": True,
            "files": {file["path"]: self._done[file["path"]] for file in self._files},
            "downloaded_bytes": self._received,
            "resumed_bytes": self._resumed,
        }

    def stop(self) -> None:
        """End soon, as a failure of the kind `stopped`; what has arrived is kept."""
        self._fail("", Failure("stopped", "the download was told to stop"))

    def _work(self, waiting: queue.SimpleQueue[dict[str, t.Any]]) -> None:
        while not self._stop.is_set():
            try:
                file = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                sha256 = self._fetch(file)
                with self._lock:
                    self._done[file["path"]] = {"size": file["size"], "sha256": sha256}
            except Stopped:
                return
            except Failure as failure:
                self._fail(file["path"], failure)
            except OSError as error:
                self._fail(file["path"], disk_failure(error))
            except Exception as error:  # a thread's error must reach the result
                self._fail(file["path"], Failure("error", f"{type(error).__name__}: {said(error)}"))

    def _fail(self, path: str, failure: Failure) -> None:
        with self._lock:
            if not self._failure:
                known = {"kind": failure.kind, "file": path, "message": str(failure)}
                self._failure = {**failure.facts, **known}
        self._stop.set()

    def _fetch(self, file: dict[str, t.Any]) -> str:
        """Return the sha256 of a file that is there and verified. Raises Failure, Stopped."""
        path = os.path.join(self._directory, file["path"])
        part = f"{path}.part"
        if size_of(path) == file["size"]:
            # Verified by an earlier run, but perhaps against another promise of the same size.
            with contextlib.suppress(Wrong):
                return self._verified(file, path)
            os.unlink(path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        attempts, mismatches, best = 0, 0, max(0, size_of(part))
        while True:
            try:
                self._get(file, part)
                sha256 = self._verified(file, part)
                break
            except Wrong as wrong:
                os.unlink(part)
                self._grown(file["path"], 0, 0)
                mismatches, best = mismatches + 1, 0
                if mismatches == 2:
                    facts = {"expected": wrong.expected, "found": wrong.found}
                    raise Failure("mismatch", str(wrong), **facts) from wrong
            except Transient as error:
                size = size_of(part)
                attempts = 1 if size > best else attempts + 1
                best = max(best, size)
                if attempts >= ATTEMPTS:
                    raise
                if self._stop.wait(self._pauses[min(attempts, len(self._pauses)) - 1]):
                    raise Stopped from error
        os.replace(part, path)
        return sha256

    def _get(self, file: dict[str, t.Any], part: str) -> None:
        """Bring the part to its full size. Raises Failure, Transient, Wrong and Stopped."""
        if file["url"].startswith("bundle:"):
            raise Failure("bundle", f"{file['path']} is missing or is not what the source promised")
        if size_of(part) > file["size"]:
            os.unlink(part)
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            have = os.lseek(descriptor, 0, os.SEEK_END)
            self._grown(file["path"], have, 0)
            if have < file["size"]:
                grown = functools.partial(self._grown, file["path"])
                target = PartFile(descriptor, file["size"], self._stop, grown)
                headers = {"Accept-Encoding": "identity", **self._headers_for(file["url"])}
                # Without expected_size, for which the client refuses files of more than 50 GB.
                try:
                    self._http_get(file["url"], target, resume_size=have, headers=headers)
                except (Failure, Stopped, Wrong):
                    raise
                except Exception as error:
                    raise reason(error, target.tell(), file["size"]) from error
                if target.tell() < file["size"]:
                    text = f"the file ended after {target.tell()} of {file['size']} bytes"
                    raise Transient("unreachable", text)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _headers_for(self, url: str) -> dict[str, str]:
        """Only the source itself is told the token."""
        known = not self._origin or url.startswith(f"{self._origin}/")
        return dict(self._headers) if known else {}

    def _verified(self, file: dict[str, t.Any], part: str) -> str:
        """Return the part's sha256. Raises Wrong unless it is what the source promised."""
        sha256, git_sha1 = self._digests(part, file)
        if file.get("sha256") and sha256 != file["sha256"]:
            raise Wrong(file["sha256"], sha256)
        if file.get("git_sha1") and not file.get("sha256") and git_sha1 != file["git_sha1"]:
            raise Wrong(file["git_sha1"], git_sha1)
        return sha256

    def _digests(self, path: str, file: dict[str, t.Any]) -> tuple[str, str]:
        """Return a file's sha256 and, where only that can be compared, Git's name of it."""
        sha256 = hashlib.sha256()
        blob = hashlib.sha1(b"blob %d\0" % file["size"])  # noqa: S324 - Git's name
        with open(path, "rb", buffering=0) as source:
            while chunk := source.read(_HASH_CHUNK):
                if self._stop.is_set():
                    raise Stopped
                sha256.update(chunk)
                if not file.get("sha256"):
                    blob.update(chunk)
        return sha256.hexdigest(), blob.hexdigest()

    def _bytes_of(self, file: dict[str, t.Any]) -> int:
        path = os.path.join(self._directory, file["path"])
        sizes = (size_of(path), size_of(f"{path}.part"))
        return max(0, *(size for size in sizes if size <= file["size"]))

    def _grown(self, path: str, have: int, received: int) -> None:
        with self._lock:
            self._have[path] = have
            self._received += received

    def _missing(self) -> int:
        return sum(int(file["size"]) for file in self._files) - sum(self._have.values())

    def _status(self, ended: bool = False) -> dict[str, t.Any]:
        with self._lock:
            phase = "downloading" if self._missing() else "verifying"
            if ended:
                phase = "failed" if self._failure else "done"
            return {
                "phase": phase,
                "files": len(self._files),
                "files_done": len(self._done),
                "current_bytes": sum(self._have.values()),
                "total_bytes": sum(int(file["size"]) for file in self._files),
                "resumed_bytes": self._resumed,
            }


def main() -> None:
    job = json.load(sys.stdin)
    os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", "30")  # seconds of silence
    os.environ.update({**_ENVIRONMENT, **(job.get("environment") or {})})
    try:
        if job.get("ca_path"):
            trust(job["ca_path"])
        download = Download(job, client())
        signal.signal(signal.SIGTERM, lambda *_arguments: download.stop())
        result = download.run()
    except Failure as failure:
        result = {"ok": False, "kind": failure.kind, "file": "", "message": str(failure)}
    except (ImportError, OSError) as error:
        result = {"ok": False, "kind": "error", "file": "", "message": said(error)}
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
    # Not sys.exit: a thread that waits for a silent server must not delay the end.
    os._exit(0 if result["ok"] else 1)


if __name__ == "__main__":
    main()
