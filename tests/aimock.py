"""
A protocol mock that nobody here wrote: the APIs of OpenAI, Azure, Anthropic, Gemini, Bedrock and Ollama on one port.

What it answers, and what it cannot say, stands in ``node/README.md``.
"""

import base64
import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import nodejs
from servers import stop

__all__ = ["AIMock", "Received", "running"]

SECONDS = 60.0
"""A bound on waiting for what must happen; nothing is measured by it."""


@dataclass(frozen=True, slots=True)
class Received:
    """
    A request as it came.

    Attributes:
        path: With its query.
        headers: In order, the names lower-case.
        body: Its bytes.
    """

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        """The first header of a name, or None."""
        return next((value for key, value in self.headers if key == name.lower()), None)


class AIMock:
    """
    A running mock, from outside: all its methods block, shortly, and belong to no event loop.

    ::

        aimock.answer("hello", content="Hi!", usage={"prompt_tokens": 3, "completion_tokens": 2})
        ...  # a request in any dialect whose last user message contains "hello"
        assert aimock.last.header("authorization") == "Bearer key"

    Attributes:
        url: ``http://127.0.0.1:PORT``, without the path of any dialect.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx2.Client(base_url=url, trust_env=False, timeout=SECONDS)

    def close(self) -> None:
        """Close the connection that the methods use."""
        self._http.close()

    def add(self, *fixtures: dict[str, Any]) -> None:
        """Add fixtures, each of ``match`` and ``response`` at least; the first that matches is served."""
        self._control("POST", "fixtures", {"fixtures": fixtures})

    def answer(self, message: str | None = None, *, match: dict[str, Any] | None = None, **response: Any) -> None:
        """
        Add a fixture.

        Args:
            message: What the last user message contains; None matches every request that ``match`` matches.
            match: Other conditions.
            response: Such as ``content``, ``toolCalls``, ``reasoning``, ``usage``, ``finishReason``; or ``error``,
                ``status`` and ``retryAfter``.
        """
        asked = {} if message is None else {"userMessage": message}
        self.add({"match": {**asked, **(match or {})}, "response": response})

    def load(self, path: Path) -> None:
        """Add the fixtures of a JSON file, ``{"fixtures": [...]}``, or of all those in a folder, in order of name."""
        for file in sorted(path.rglob("*.json")) if path.is_dir() else [path]:
            self.add(*json.loads(file.read_text("utf-8"))["fixtures"])

    def fail_next(self, status: int, **body: str) -> None:
        """Answer the next request with an error: ``message``, ``type`` and ``code``, in the shape of its dialect."""
        self._control("POST", "error", {"status": status, "body": body})

    def chaos(self, **rates: float) -> None:
        """
        Let requests fail from now on, each with a probability.

        Args:
            rates: ``dropRate`` (500), ``malformedRate`` (no JSON), ``rateLimitRate`` (429), ``disconnectRate``.
        """
        self._control("POST", "chaos", rates)

    def calm(self) -> None:
        """End the chaos."""
        self._control("DELETE", "chaos")

    def reset(self) -> None:
        """Forget the fixtures, the chaos, the journal and the requests."""
        self._control("POST", "reset")
        self.calm()
        self._http.delete("/__received")

    @property
    def journal(self) -> list[dict[str, Any]]:
        """Its own account of the requests: ``body`` is what it made of one, ``response`` what it served; no secrets."""
        entries: list[dict[str, Any]] = self._control("GET", "journal")
        return entries

    @property
    def received(self) -> list[Received]:
        """The requests as they came, in order."""
        return [_received(**entry) for entry in self._http.get("/__received").json()]

    @property
    def last(self) -> Received:
        """The last request."""
        return self.received[-1]

    def _control(self, method: str, name: str, body: Any = None) -> Any:
        response = self._http.request(method, f"/__aimock/{name}", json=body)
        assert response.status_code == 200, response.text
        return response.json()


@contextmanager
def running(*fixtures: Path) -> Iterator[AIMock]:
    """
    A mock in a process of its own, which ends with ours if not before.

    Args:
        fixtures: Files and folders, as :meth:`AIMock.load` takes them.
    """
    process = subprocess.Popen(
        [nodejs.require(), str(nodejs.FOLDER / "aimock.mjs")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=nodejs.FOLDER,
        env={},
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        try:
            url = process.stdout.readline().decode().strip()
            if not url:
                raise RuntimeError("aimock did not start")
            mock = AIMock(url)
            try:
                _load(mock, fixtures)
                yield mock
            finally:
                mock.close()
        finally:
            stop(process)


def _load(mock: AIMock, fixtures: Sequence[Path]) -> None:
    for path in fixtures:
        mock.load(path)


def _received(*, method: str, path: str, rawHeaders: list[str], body: str) -> Received:  # noqa: N803 - Node's name
    headers = [(name.lower(), value) for name, value in zip(rawHeaders[::2], rawHeaders[1::2], strict=True)]
    return Received(method, path, headers, base64.b64decode(body))
