"""What the documentation shows a newcomer, run as it stands there; and what texts refer to, looked for."""

import re
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from hpp_middleware import Consumer, Gateway, MemoryStore, Provider, RequestError
from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.testing.dialects import Sample, check_dialect
from hpp_middleware.types.price import Usage

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
FILES = sorted(file for folder in ("hpp_middleware", "tests", "examples") for file in (ROOT / folder).rglob("*.py"))
PRICES = {"acme/small": {"input": "0.50", "output": "1.50"}}

pytestmark = pytest.mark.anyio


def after(page: str, words: str) -> str:
    """The first block of Python behind some words of a page."""
    found = re.search(r"```python\n(.*?)```", (DOCS / page).read_text("utf-8").partition(words)[2], re.DOTALL)
    assert found is not None
    return found.group(1)


def run(page: str, words: str) -> dict[str, Any]:
    """What such a block defines."""
    names: dict[str, Any] = {"__name__": page}
    exec(compile(after(page, words), page, "exec"), names)
    return names


async def test_the_hold_that_is_computed_by_hand_is_the_hold() -> None:
    section = (DOCS / "accounting.md").read_text("utf-8").partition("### A hold by hand")[2].partition("\n### ")[0]
    body, sent = re.findall(r"`({\"model.*?})`", section)
    (held,) = re.findall(r"\| held \| ([\d,]+) nano-dollars", section)
    async with FakeUpstream() as upstream:
        gateway = Gateway(providers={"acme": Provider(base_url=upstream.url)}, models=PRICES, store=MemoryStore())
        async with gateway:
            await gateway.accounts.set_quota("alice", "1.00")
            reply = await gateway.complete(Consumer(id="alice"), body.encode())
            (entry,) = await gateway.store.entries("alice", reply.id)
        assert upstream.log[0].body == sent.encode()
    assert f"{len(sent)} bytes" in section
    assert f"{entry.held:,}" == held


async def test_the_pieces_do_their_work_alone() -> None:
    pieces = run("embedding.md", "## Piece by piece")
    assert pieces["cost"](Usage(input=1000, output=500)) == 1_250_000
    stream = b"".join(
        b"data: %s\n\n" % event
        for event in (
            b'{"choices":[{"delta":{"content":"Hello"}}],"usage":null}',
            b'{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":1}}',
            b"[DONE]",
        )
    )
    for at in range(len(stream)):
        assert pieces["used"]([stream[:at], stream[at:]]) == Usage(input=9, output=1)
    assert pieces["used"]([b"data: [DONE]\n\n"]) is None
    body = b'{"model":"acme/small","max_tokens":10,"messages":[{"role":"user","content":"Say hello."}]}'
    assert pieces["hold"](body) == -(-len(body.replace(b"acme/", b"")) // 2) * 500 + 10 * 1500
    pdf = b'{"type":"file","file":{"file_data":"data:application/pdf;base64,AAAA"}}'
    assert pieces["hold"](body.replace(b'"Say hello."', b"[%s]" % pdf)) > 200_000 * 500  # a model's whole context
    with pytest.raises(RequestError, match="prediction"):
        pieces["hold"](body.replace(b'"max_tokens"', b'"prediction":{"type":"content","content":"x"},"max_tokens"'))


async def test_a_dialect_that_is_nearly_openais_keeps_every_promise_and_sends_its_field() -> None:
    acme = run("dialects.md", "**Nearly OpenAI's**")["Acme"]
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
    body = {"model": "acme/small", "messages": [{"role": "user", "content": "Hello"}]}
    pieces: list[bytes] = []

    async def send(piece: bytes) -> None:
        pieces.append(piece)

    async with FakeUpstream() as upstream:
        provider = Provider(base_url=upstream.url, api_key="made-up-key-of-ours", dialect="acme")
        providers, dialects = {"acme": provider}, {"acme": acme()}
        async with Gateway(providers=providers, dialects=dialects, models=PRICES, store=MemoryStore()) as gateway:
            await gateway.accounts.set_quota("alice", "1.00")
            upstream.next(Script(texts=("Hel", "lo!"), usage=usage), Script(texts=("Hel", "lo!"), usage=usage))
            reply = await gateway.complete(Consumer(id="alice"), body)
            streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}
            await gateway.complete(Consumer(id="alice"), streamed, send=send)
        assert len(upstream.log) == 2
        assert all(b'"project":"blue"' in request.body for request in upstream.log)
    told, stream = reply.body, b"".join(pieces)  # which a dialect of OpenAI's shape may be told again
    check_dialect(
        acme(), Sample(provider=provider, answer=told, stream=stream, text="Hello!", usage=Usage(input=9, output=2))
    )


def is_there(name: str) -> bool:
    """Whether a dotted name is a module, or what one has."""
    parts = name.split(".")
    for most in range(len(parts), 0, -1):
        try:
            found: Any = import_module(".".join(parts[:most]))
        except ImportError:
            continue
        return reduce(lambda each, part: getattr(each, part, None), parts[most:], found) is not None
    return False


def test_every_name_and_file_that_a_text_refers_to_is_there() -> None:
    missing = []
    for file in [*FILES, ROOT / "README.md", *DOCS.glob("*.md")]:
        text = file.read_text("utf-8")
        names = set(re.findall(r":(?:mod|class|func|data|meth|attr):`(?:[^`<]*<|~)?(hpp_middleware[\w.]*)>?`", text))
        paths = set(re.findall(r"`((?:core|stages|asgi|stores|dialects|types|ports|apis|cli)/[\w/]+\.py)`", text))
        missing += [f"{file.name}: {name}" for name in sorted(names) if not is_there(name)]
        roots = [ROOT / "hpp_middleware", ROOT / "tests"]
        missing += [f"{file.name}: {path}" for path in sorted(paths) if not any((at / path).exists() for at in roots)]
    assert missing == []
