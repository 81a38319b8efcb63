"""What a dialect promises of requests: they go where the operator says, say all that was said, and are bounded."""

import json
from base64 import b64encode
from typing import Any
from urllib.parse import unquote, urlsplit

from msgspec.structs import replace

from hpp_middleware.errors import RequestError
from hpp_middleware.ports import Dialect
from hpp_middleware.testing.dialects.bench import ID, MODEL, DialectPromise, Sample, request, target
from hpp_middleware.types.http import HTTPCall

__all__ = ["PROMISES"]

OURS, CLIENTS = 31_415, 27_182
STRANGE = "x_field_that_nobody_has"
COSTLY: dict[str, Any] = {
    "service_tier": "c-o-s-t-s",
    "prediction": {"type": "content", "content": "c-o-s-t-s"},
    "web_search_options": {"user_location": "c-o-s-t-s"},
    "fallbacks": ["c-o-s-t-s"],
    "tools": [{"type": "web_search", "name": "c-o-s-t-s"}],
}
"""Some of what is billed besides the tokens that a hold is for."""


def _call(dialect: Dialect, sample: Sample, *, cap: int | None = OURS, **fields: object) -> HTTPCall:
    return dialect.call(request(sample, **fields), target(sample), cap=cap, request_id=ID)


def it_goes_where_the_operator_says(dialect: Dialect, sample: Sample) -> None:
    """A request goes to the provider's own host, under its base URL, and nowhere that a client names."""
    base = urlsplit(sample.provider.base_url)
    for stream in (False, True):
        url = urlsplit(_call(dialect, sample, stream=stream).url)
        assert (url.scheme, url.netloc) == (base.scheme, base.netloc), "a request goes to the provider's own host"
        assert url.path.startswith(base.path.rstrip("/")), "and under its base URL"
        assert not url.fragment, "without a fragment"


def its_head_is_built_from_nothing(dialect: Dialect, sample: Sample) -> None:
    """Headers are ASCII, each given once, with the operator's key, a content type, no compression, and no framing."""
    call = _call(dialect, sample)
    names = [name.lower() for name, _ in call.headers]
    headers = {name.lower(): value for name, value in call.headers}
    assert len(names) == len(set(names)), "each header is given once"
    assert all(f"{name}{value}".isascii() and value.isprintable() for name, value in call.headers), "in ASCII"
    assert "content-type" in headers, "a body has a type"
    assert headers.get("accept-encoding") == "identity", "answers are asked for as they are"
    assert not {"host", "content-length", "transfer-encoding", "connection", "cookie"} & set(names), (
        "the transport's own headers are left to it"
    )
    assert tuple(call.headers[: len(call.shared)]) == call.shared, "what is shared stands first"
    key = sample.provider.api_key
    assert key is None or key not in call.url, "a key is no part of a URL, which logs show"


def the_same_request_is_said_alike(dialect: Dialect, sample: Sample) -> None:
    """A dialect is pure: the same request comes out the same, and is left as it was."""
    asked = request(sample)
    before = dict(asked.fields)
    first = dialect.call(asked, target(sample), cap=OURS, request_id=ID)
    second = dialect.call(asked, target(sample), cap=OURS, request_id=ID)
    assert first == second, "the same request is said in the same bytes"
    assert asked.fields == before, "and is left as it was"


def it_names_the_model(dialect: Dialect, sample: Sample) -> None:
    """The provider is told the model by its own name for it, in the URL or in the body."""
    call = _call(dialect, sample)
    assert MODEL.encode() in call.body or MODEL in unquote(call.url), "the model is named as the provider names it"
    assert b"theirs/" not in call.body, "without the provider's own name"


def our_cap_is_sent(dialect: Dialect, sample: Sample) -> None:
    """Where the client gave no output cap, ours is sent, since it is what the hold goes by."""
    assert str(OURS).encode() in _call(dialect, sample).body, "our output cap is sent"


def the_clients_cap_is_never_altered(dialect: Dialect, sample: Sample) -> None:
    """A cap of the client's is sent as it is, under either of its names."""
    for name in ("max_tokens", "max_completion_tokens"):
        asked = request(sample, **{name: CLIENTS})
        body = dialect.call(asked, target(sample), cap=None, request_id=ID).body
        assert str(CLIENTS).encode() in body, f"{name} of the client's is sent"
        assert str(OURS).encode() not in body, "and no other"


def all_that_was_said_is_sent(dialect: Dialect, sample: Sample) -> None:
    """Every text of the conversation reaches the provider, in its order."""
    said = ["You are m-a-r-k-0.", "m-a-r-k-1?", "m-a-r-k-2!", 'm-a-r-k-3 \N{SNOWMAN} " \\']
    roles = ["system", "user", "assistant", "user"]
    messages = [{"role": role, "content": text} for role, text in zip(roles, said, strict=True)]
    body = _call(dialect, sample, messages=messages).body
    assert _strings(json.loads(body)).issuperset(said[:1]) or said[0].encode() in body, "the system's words are sent"
    places = [body.find(f"m-a-r-k-{number}".encode()) for number in range(1, len(said))]
    assert -1 not in places, "every text is sent"
    assert places == sorted(places), "in the order in which it was said"
    assert any(said[3] in found for found in _strings(json.loads(body))), "character for character"


def no_field_is_lost_in_silence(dialect: Dialect, sample: Sample) -> None:
    """What has no word at the provider is refused by name, or told as dropped; it is never lost without a word."""
    try:
        call = dialect.call(request(sample, **{STRANGE: "value-of-it"}), target(sample), cap=OURS, request_id=ID)
    except RequestError as refused:
        assert refused.status == 400, "a field that cannot be said is a 400"
        assert refused.param == STRANGE, "that names it"
        return
    assert STRANGE in call.dropped or b"value-of-it" in call.body, "a field is sent, or told as dropped"


def more_than_one_choice_is_held_for(dialect: Dialect, sample: Sample) -> None:
    """Several choices are asked for, or refused: they multiply the bill."""
    try:
        call = _call(dialect, sample, n=13)
    except RequestError as refused:
        assert refused.param == "n", "more than one choice is refused by name"
        return
    assert b"13" in call.body, "n is sent as it is"


def what_changes_the_cost_is_not_sent(dialect: Dialect, sample: Sample) -> None:
    """What is billed in a way that no hold covers is refused by name, or left out and told as dropped."""
    for name, value in COSTLY.items():
        try:
            call = _call(dialect, sample, **{name: value})
        except RequestError as refused:
            assert refused.status == 400, "what changes the cost is a 400"
            continue
        assert name in call.dropped, f"{name} changes the cost, and is refused, or told as dropped"
        assert b"c-o-s-t-s" not in call.body, "and not sent"


def what_lasts_an_hour_is_held_for(dialect: Dialect, sample: Sample) -> None:
    """A cache that lasts an hour costs more to write: it is refused, left out, or held for."""
    part = {"type": "text", "text": "Hello", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    call = _asked(dialect, sample, part)
    assert call is None or call.long_cache or b'"1h"' not in call.body, "a cache that lasts an hour is held for"


def what_its_bytes_do_not_bound_is_held_for(dialect: Dialect, sample: Sample) -> None:
    """A document's pages are billed, of which its bytes say little: it is refused, left out, or held for."""
    data = b64encode(b"%PDF-1.7 p-a-g-e-s").decode()
    part = {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{data}"}}
    call = _asked(dialect, sample, part)
    if call is not None and data.encode() in call.body:
        assert call.more_tokens > len(data), "a document is held for by more than its bytes"


def _asked(dialect: Dialect, sample: Sample, part: dict[str, Any]) -> HTTPCall | None:
    """The call for a question with this in it; None where it is refused."""
    try:
        return _call(dialect, sample, messages=[{"role": "user", "content": [part]}])
    except RequestError as refused:
        assert refused.status == 400, "what cannot be said is a 400"
        return None


def a_lower_cap_changes_nothing_else(dialect: Dialect, sample: Sample) -> None:
    """Said again with a lower cap, for a smaller hold, a request has the same bytes but for the cap."""
    higher, lower = _call(dialect, sample, cap=OURS), _call(dialect, sample, cap=CLIENTS)
    assert replace(lower, body=b"") == replace(higher, body=b""), "only the body changes"
    assert lower.body == higher.body.replace(str(OURS).encode(), str(CLIENTS).encode()), "and there only the cap"


def _strings(value: object) -> set[str]:
    """Every string in it."""
    if isinstance(value, str):
        return {value}
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {found for each in inner for found in _strings(each)}


PROMISES: tuple[DialectPromise, ...] = (
    it_goes_where_the_operator_says,
    its_head_is_built_from_nothing,
    the_same_request_is_said_alike,
    it_names_the_model,
    our_cap_is_sent,
    the_clients_cap_is_never_altered,
    all_that_was_said_is_sent,
    no_field_is_lost_in_silence,
    more_than_one_choice_is_held_for,
    what_changes_the_cost_is_not_sent,
    what_lasts_an_hour_is_held_for,
    what_its_bytes_do_not_bound_is_held_for,
    a_lower_cap_changes_nothing_else,
)
