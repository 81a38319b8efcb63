"""What ``hpp-router doctor`` sees of a running router from where its clients are: behind its proxies."""

import time
from collections.abc import Iterator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from itertools import pairwise
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx2

from hpp_middleware.cli.common import Fault
from hpp_middleware.cli.examined import Finding

__all__ = ["Watched", "judged", "watched"]

ANSWER_S = 120.0
MOST_TOKENS = 300
CLOCK_S = 30.0
LEAST_S = 0.3
"""An answer that took no longer says nothing of how it came."""
AT_ONCE = 0.1
"""Of the time that an answer took: one whose events all come within the last tenth of it was held back."""
BLOCK_S = 0.1
"""Where an answer comes in blocks, there is nothing between them for longer than this."""

NGINX = (
    "for nginx: proxy_buffering off; proxy_read_timeout above [streams] keep_alive; gzip off for text/event-stream; "
    "proxy_http_version 1.1"
)


class Watched(NamedTuple):
    """
    How a stream came.

    Attributes:
        status: The response's.
        headers: Names in lower case.
        began: When it was asked for, in seconds.
        pieces: When bytes came, and how many events there had been by then.
        whole: Whether it had its end mark.
    """

    status: int
    headers: dict[str, str]
    began: float
    pieces: list[tuple[float, int]]
    whole: bool


async def watched(url: str, key: str | None, model: str | None) -> list[Finding]:
    """
    Look at a router through its public URL.

    Raises:
        Fault: The URL is none.
    """
    base = url.rstrip("/").removesuffix("/llm/v1").removesuffix("/v1")
    if urlsplit(base).scheme not in {"http", "https"} or not urlsplit(base).hostname:
        raise Fault("--url must be an http:// or https:// URL")
    findings: list[Finding] = []
    timeout = httpx2.Timeout(ANSWER_S, connect=10.0)
    async with httpx2.AsyncClient(timeout=timeout, trust_env=False, follow_redirects=False) as client:
        try:
            findings += await _answers(client, base, key)
            if key is not None and model is not None and all(each.verdict != "wrong" for each in findings):
                findings += judged(await _stream(client, base, key, model))
            elif all(each.verdict != "wrong" for each in findings):
                findings.append(Finding("note", "url: streams", "not looked at: that takes --key and --model"))
        except httpx2.HTTPError as error:
            findings.append(Finding("wrong", "url", f"{base} cannot be reached ({type(error).__name__})"))
    return findings


async def _answers(client: httpx2.AsyncClient, base: str, key: str | None) -> list[Finding]:
    """Whether it is there, ready, of one time with us, and knows the key."""
    response = await client.get(f"{base}/readyz")
    findings = []
    if response.status_code == 200:
        findings.append(Finding("good", "url", f"{base} is ready"))
    elif response.status_code == 503:
        findings.append(Finding("wrong", "url", f"{base}/readyz says that the router is not ready"))
    else:
        words = f"{base}/readyz is a {response.status_code}: is the router mounted elsewhere?"
        findings.append(Finding("wrong", "url", words))
    with suppress(KeyError, ValueError, TypeError):
        ahead = parsedate_to_datetime(response.headers["date"]).timestamp() - time.time()
        if abs(ahead) > CLOCK_S:
            words = f"the server's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this one"
            findings.append(Finding("note", "url: clock", words))
    if key is not None:
        response = await client.get(f"{base}/api/quota-check", headers={"apikey": key})
        if response.status_code == 200:
            findings.append(Finding("good", "url: key", "it is known"))
        else:
            findings.append(Finding("wrong", "url: key", f"it was refused with a {response.status_code}"))
    return findings


async def _stream(client: httpx2.AsyncClient, base: str, key: str, model: str) -> Watched:
    """A short answer, piece by piece."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Count from 1 to 60, one number a line, and say nothing else."}],
        "max_tokens": MOST_TOKENS,
        "stream": True,
    }
    headers = {"apikey": key, "accept": "text/event-stream", "accept-encoding": "gzip, deflate"}
    began, pieces, tail, events = time.monotonic(), [], b"", 0
    async with client.stream("POST", f"{base}/llm/v1/chat/completions", json=body, headers=headers) as response:
        async for piece in response.aiter_raw():
            events += (tail[-1:] + piece).count(b"\n\n")
            tail = (tail + piece)[-200:]
            pieces.append((time.monotonic(), events))
    given = {name.lower(): value for name, value in response.headers.items()}
    return Watched(response.status_code, given, began, pieces, tail.endswith(b"data: [DONE]\n\n"))


def judged(seen: Watched) -> Iterator[Finding]:
    """What a stream says of the way that it came."""
    about = "url: streams"
    if seen.status != 200:
        yield Finding("wrong", about, f"the answer is a {seen.status}")
        return
    encoding = seen.headers.get("content-encoding", "identity")
    if encoding != "identity":
        yield Finding("wrong", about, f"they are compressed ({encoding}) on the way, which holds events back; {NGINX}")
        return
    if not seen.whole:
        yield Finding("wrong", about, "the answer broke off, or its end was changed on the way")
    if "no-cache" not in seen.headers.get("cache-control", ""):  # X-Accel-Buffering is nginx's to take off
        yield Finding("note", about, "Cache-Control: no-cache is taken off on the way: caches may hold them back")
    if not seen.pieces:
        return
    first, (last, events) = seen.pieces[0][0], seen.pieces[-1]
    took = last - seen.began
    if took < LEAST_S or events < 4:
        yield Finding("note", about, f"cannot be told: {events} events within {took:.2f} s; ask a slower model")
    elif last - first < AT_ONCE * took and len(seen.pieces) * 4 <= max(events, 8):
        words = f"they are held back: all {events} events came at once, after {took:.1f} s; {NGINX}"
        yield Finding("wrong", about, words)
    elif (blocks := _blocks(seen.pieces)) * 8 <= events:
        words = f"they are held back: {events} events came in {blocks} blocks, over {last - first:.1f} s; {NGINX}"
        yield Finding("wrong", about, words)
    else:
        yield Finding("good", about, f"{events} events came as they were made, over {last - first:.1f} s")


def _blocks(pieces: list[tuple[float, int]]) -> int:
    """In how many blocks events came, as from a proxy that sends a buffer when it is full; one each, where in none."""
    waits = [later - sooner for (sooner, _), (later, _) in pairwise(pieces)]
    long = [wait for wait in waits if wait > BLOCK_S]
    events = pieces[-1][1]
    in_blocks = len(pieces) * 4 <= events and sum(long) > 0.8 * sum(waits)
    return len(long) + 1 if in_blocks else events
