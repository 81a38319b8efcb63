"""The dialects' conformance suite: whoever breaks a promise is told which; and dialects of other packages are found."""

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw
from rig import ALICE, KEY, check_books

from hpp_middleware import ConfigurationError, Gateway, Provider
from hpp_middleware.dialects import known
from hpp_middleware.dialects.openai import OpenAI
from hpp_middleware.dialects.translating import Delta, End, Finish, Piece, Reader
from hpp_middleware.testing import DIALECT_PROMISES, FakeUpstream, Sample, Script, check_dialect
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.price import Usage
from hpp_middleware.types.provider import Declared

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
sys.path.append(str(EXAMPLES))

import own_dialect  # noqa: E402  # an example, found by the line above

OPENAI = Sample(
    provider=Provider(base_url="https://api.example.com/v1", api_key="made-up-key-of-ours"),
    answer=b'{"id":"c1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":'
    b'"assistant","content":"Hello!"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2,'
    b'"total_tokens":11,"prompt_tokens_details":{"cached_tokens":4}}}',
    stream=b"".join(
        b'data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m",' + rest + b"}\n\n"
        for rest in (
            b'"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]',
            b'"choices":[{"index":0,"delta":{"content":"Hel"},"finish_reason":null}]',
            b'"choices":[{"index":0,"delta":{"content":"lo!"},"finish_reason":null}]',
            b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]',
            (
                b'"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,'
                b'"prompt_tokens_details":{"cached_tokens":4}}'
            ),
        )
    )
    + b"data: [DONE]\n\n",
    text="Hello!",
    usage=Usage(input=5, cache_read=4, output=2),
)
CALLING = Sample(
    provider=OPENAI.provider,
    answer=b'{"id":"c1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":'
    b'"assistant","content":null,"tool_calls":[{"id":"t1","type":"function","function":{"name":"f","arguments":'
    b'"{\\"x\\": 1}"}}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":9,"completion_tokens":2,'
    b'"total_tokens":11}}',
    stream=b"".join(
        b'data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m",' + rest + b"}\n\n"
        for rest in (
            (
                b'"choices":[{"index":0,"delta":{"role":"assistant","tool_calls":[{"index":0,"id":"t1","type":"function",'
                b'"function":{"name":"f","arguments":""}}]},"finish_reason":null}]'
            ),
            (
                b'"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\\"x\\":"}}]},'
                b'"finish_reason":null}]'
            ),
            (
                b'"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":" 1}"}}]},'
                b'"finish_reason":null}]'
            ),
            b'"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]',
            b'"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}',
        )
    )
    + b"data: [DONE]\n\n",
    text="",
    usage=Usage(input=9, output=2),
    tool_calls=(("f", {"x": 1}),),
    finish="tool_calls",
)
PLAIN = Sample(
    provider=Provider(base_url="https://plain.example.com", api_key="made-up-key-of-ours"),
    answer=b'{"id": "p1", "text": "Hello!", "tokens": {"in": 9, "remembered": 4, "out": 2}, "why": "end"}',
    stream=b'{"id": "p1", "text": "Hel"}\n{"text": "lo!"}\n'
    b'{"tokens": {"in": 9, "remembered": 4, "out": 2}, "why": "end"}\n',
    text="Hello!",
    usage=Usage(input=5, cache_read=4, output=2),
)


@pytest.mark.parametrize("sample", [OPENAI, CALLING], ids=["text", "tools"])
@pytest.mark.parametrize("promise", DIALECT_PROMISES, ids=lambda promise: promise.__name__)
def test_openais_dialect_keeps_every_promise(promise: Any, sample: Sample) -> None:
    promise(OpenAI(), sample)


def test_a_dialect_of_about_sixty_lines_keeps_them_all() -> None:
    check_dialect(own_dialect.Plain(), PLAIN)


# --- whoever breaks one is told -------------------------------------------------------------------

Plain = own_dialect.Plain


def sending(change: Callable[[HTTPCall], HTTPCall]) -> type[own_dialect.Plain]:
    class Changed(Plain):
        def call(self, *given: Any, **named: Any) -> HTTPCall:
            return change(super().call(*given, **named))

    return Changed


def saying(change: Callable[[Iterable[Piece]], Iterable[Piece]]) -> type[own_dialect.Plain]:
    class Changed(Plain):
        def stream(self, request: Any, target: Any, *, event_bytes: int, cap: int, **said: Any) -> Reader:
            class Lines(own_dialect.Lines):
                def feed(self, chunk: bytes) -> Iterator[Piece]:
                    yield from change(super().feed(chunk))

                def close(self) -> Iterator[Piece]:
                    yield from change(super().close())

            return Reader(Lines(event_bytes), request, target, cap=cap, **said)

    return Changed


class Counting(Plain):
    """Remembers, and says each request otherwise."""

    def __init__(self) -> None:
        self.calls = 0

    def call(self, *given: Any, **named: Any) -> HTTPCall:
        self.calls += 1
        found = super().call(*given, **named)
        return msgspec.structs.replace(found, body=found.body + b" " * self.calls)


class Gullible(Plain):
    """Takes what is no answer for an empty one."""

    def answer(self, body: bytes, *given: Any, **named: Any) -> Any:
        try:
            return super().answer(body, *given, **named)
        except ValueError:
            return super().answer(PLAIN.answer, *given, **named)


class Impatient(Plain):
    """Reads a stream by its chunks and not by its lines."""

    def stream(self, request: Any, target: Any, *, event_bytes: int, cap: int, **said: Any) -> Reader:
        class Chunks(own_dialect.Lines):
            def feed(self, chunk: bytes) -> Iterator[Piece]:
                for line in filter(None, chunk.split(b"\n")):
                    yield from own_dialect.pieces_of(line)

        return Reader(Chunks(event_bytes), request, target, cap=cap, **said)


class Passing(Plain):
    """Passes on whatever it is given, and asks nobody what that costs."""

    def call(self, request: Any, target: Any, **named: Any) -> HTTPCall:
        plain = {"model": request.fields["model"], "messages": msgspec.Raw(b'[{"role":"user","content":"Hi"}]')}
        found = super().call(msgspec.structs.replace(request, fields=plain), target, **named)
        return msgspec.structs.replace(found, body=msgspec.json.encode(request.fields))


def each_twice(pieces: Iterable[Piece]) -> Iterator[Piece]:
    for piece in pieces:
        yield piece
        if isinstance(piece, Delta):
            yield piece


def ended_at_once(pieces: Iterable[Piece]) -> Iterator[Piece]:
    for piece in pieces:
        yield piece
        if isinstance(piece, Delta):
            yield Finish("stop")
            yield End()


BREACHES: dict[str, Callable[[], Any]] = {
    "it_goes_where_the_operator_says": sending(
        lambda call: msgspec.structs.replace(call, url=call.url.replace("plain.", "elsewhere."))
    ),
    "its_head_is_built_from_nothing": sending(
        lambda call: msgspec.structs.replace(call, headers=[*call.headers, ("Host", "elsewhere.example.com")])
    ),
    "the_same_request_is_said_alike": Counting,
    "it_names_the_model": sending(
        lambda call: msgspec.structs.replace(call, body=call.body.replace(b"a-model-of-theirs", b"another"))
    ),
    "our_cap_is_sent": sending(
        lambda call: msgspec.structs.replace(call, body=call.body.replace(b"31415", b"99999"))
    ),
    "the_clients_cap_is_never_altered": sending(
        lambda call: msgspec.structs.replace(call, body=call.body.replace(b"27182", b"31415"))
    ),
    "all_that_was_said_is_sent": sending(
        lambda call: msgspec.structs.replace(call, body=call.body.replace(b"m-a-r-k-2", b""))
    ),
    "no_field_is_lost_in_silence": type(
        "Silent", (Plain,), {"call": lambda self, request, target, **named: Plain.call(
            self, msgspec.structs.replace(request, fields={
                name: value for name, value in request.fields.items() if name != "x_field_that_nobody_has"
            }), target, **named)}
    ),
    "what_changes_the_cost_is_not_sent": Passing,
    "what_lasts_an_hour_is_held_for": Passing,
    "what_its_bytes_do_not_bound_is_held_for": Passing,
    "what_is_no_answer_is_refused": Gullible,
    "a_stream_says_what_the_model_said": saying(each_twice),
    "it_matters_not_where_a_stream_is_cut": Impatient,
    "a_clean_end_is_only_of_what_is_whole": saying(ended_at_once),
    "a_stream_is_billed_by_its_report": saying(
        lambda pieces: (piece for piece in pieces if type(piece).__name__ != "Reported")
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BREACHES)
def test_whoever_breaks_a_promise_is_told_which(name: str) -> None:
    (promise,) = [each for each in DIALECT_PROMISES if each.__name__ == name]
    promise(Plain(), PLAIN)
    with pytest.raises((AssertionError, ValueError)):
        promise(BREACHES[name](), PLAIN)


# --- and they are found ---------------------------------------------------------------------------

CONSUMERS = {"alice": Declared(quota=10**9, keys=(KEY,))}


@pytest.mark.anyio
async def test_a_dialect_that_is_passed_in_is_spoken_and_billed(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(raw_body=PLAIN.answer, content_type="application/json")
    gateway = Gateway(
        providers={"theirs": Provider(base_url=fake_upstream.url, dialect="plain")},
        dialects={"plain": Plain()},
        models={"theirs/m": {"input": "1", "output": "2", "cache_read": "0.5"}},
        consumers=CONSUMERS,
        prices=None,
    )
    question = {"model": "theirs/m", "messages": [{"role": "user", "content": "Hi"}], "seed": 1, "max_tokens": 50}
    async with gateway:
        reply = await gateway.complete(ALICE, question)
        assert msgspec.json.decode(reply.body)["choices"][0]["message"]["content"] == "Hello!"
        assert reply.cost == 5 * 1_000 + 4 * 500 + 2 * 2_000
        assert dict(reply.headers)["X-HPP-Router-Dropped-Fields"] == "seed"
        await check_books(gateway)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that brings a dialect, as if pip had installed it."""
    info = tmp_path / "plain_dialect-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plain-dialect\nVersion: 1\n", "utf-8")
    lines = ["[hpp_middleware.dialects]", "plain = own_dialect:Plain", "broken = own_dialect:Nothing"]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("installed")
def test_one_that_an_installed_package_brings_is_found_by_its_name() -> None:
    gateway = Gateway(providers={"theirs": Provider(base_url="https://x.example", dialect="plain")}, prices=None)
    assert isinstance(gateway.setup.dialects["plain"], Plain)
    assert "plain" in known.names()


@pytest.mark.usefixtures("installed")
def test_one_that_cannot_be_made_says_so() -> None:
    with pytest.raises(ConfigurationError, match="'broken' of own_dialect:Nothing cannot be made") as raised:
        Gateway(providers={"theirs": Provider(base_url="https://x.example", dialect="broken")}, prices=None)
    assert raised.value.param == "providers.theirs.dialect"


def test_one_that_nobody_brings_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"providers\.theirs\.dialect 'plain' is unknown; there are openai"):
        Gateway(providers={"theirs": Provider(base_url="https://x.example", dialect="plain")}, prices=None)


def test_a_provider_that_lacks_what_its_dialect_needs_is_refused() -> None:
    class Needy(Plain):
        def check(self, provider: Provider) -> None:
            if "region" not in provider.options:
                raise ConfigurationError("options.region is missing", param="options.region")

    dialects = {"plain": Needy()}
    providers = {"theirs": Provider(base_url="https://x.example", dialect="plain")}
    with pytest.raises(ConfigurationError, match=r"providers\.theirs\.options\.region is missing"):
        Gateway(providers=providers, dialects=dialects, prices=None)
    there = {"theirs": Provider(base_url="https://x.example", dialect="plain", options={"region": "eu"})}
    Gateway(providers=there, dialects=dialects, prices=None)


def test_usage_is_kept_as_it_came() -> None:
    _, seen = Plain().answer(PLAIN.answer, *_asked())
    assert seen.usage_raw == Raw(b'{"in": 9, "remembered": 4, "out": 2}')


def _asked() -> tuple[Any, Any]:
    from hpp_middleware.testing.dialects import bench

    return bench.request(PLAIN), bench.target(PLAIN)
