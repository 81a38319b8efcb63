"""Messages that are in the provider's words already: sent as they are, but for what would cost more than is held."""

import json
from typing import Any

import pytest
from msgspec import Raw

from claude.messages import ID, PDF, PNG, target
from claude.natively import USER, asked, call_of
from hpp_middleware.core.messages import PACKED
from hpp_middleware.dialects.anthropic import Anthropic, request
from hpp_middleware.dialects.anthropic.native import Messages
from hpp_middleware.dialects.openai import OpenAI
from hpp_middleware.errors import RequestError
from hpp_middleware.types.completion import Request
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.provider import Provider


def refused(asks: Request, param: str) -> None:
    with pytest.raises(RequestError) as raised:
        call_of(asks)
    assert (raised.value.status, raised.value.param) == (400, param)
    assert param in raised.value.message


def test_a_request_is_sent_as_it_is_but_for_the_model() -> None:
    fields: dict[str, Any] = {
        "system": [{"type": "text", "text": "A", "cache_control": {"type": "ephemeral"}}],
        "temperature": 0.25,
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "metadata": {"user_id": "u"},
        "stop_sequences": ["x"],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any"},
        "service_tier": "standard_only",
        "speed": "standard",
        "inference_geo": None,
        "stream": True,
    }
    asks = asked(USER, max_tokens=2000, **fields)
    call = call_of(asks)
    sent = json.loads(call.body)
    assert sent.pop("model") == "claude-opus-4-5"
    assert sent == {"max_tokens": 2000, "messages": [USER], **fields}
    for name, raw in asks.fields.items():
        assert name == "model" or bytes(raw) in call.body
    assert call.url == "https://api.anthropic.com/v1/messages"
    head = dict(call.headers)
    assert (head["x-api-key"], head["anthropic-version"], head["X-Request-Id"]) == ("sk-ant-made-up", "2023-06-01", ID)
    assert not any(name.lower() == "anthropic-beta" for name in head)
    assert (call.more_tokens, call.long_cache, call.dropped) == (request.TOOL_TOKENS, False, ())


@pytest.mark.parametrize("kind", ["document", "thinking"])
def test_what_is_too_deep_to_be_read_is_refused(kind: str) -> None:
    deep = "[" * 100_000 + "]" * 100_000  # nobody has counted that: the name is given once more after it
    block = f'{{"type":"{kind}","content":{deep},"content":[]}}'
    asks = asked()
    asks.fields["messages"] = Raw(f'[{{"role":"user","content":[{block}]}}]'.encode())
    with pytest.raises(RequestError) as raised:
        call_of(asks)
    assert raised.value.status == 400


def test_our_cap_is_sent_where_the_client_gave_none() -> None:
    assert json.loads(call_of(asked(max_tokens=...), cap=77).body)["max_tokens"] == 77
    assert json.loads(call_of(asked(), cap=77).body)["max_tokens"] == 100


def test_a_provider_of_openais_dialect_takes_messages_where_it_says_so() -> None:
    apis = frozenset({"messages"})
    found = target("m", provider={"base_url": "http://127.0.0.1:8080/v1", "dialect": "openai", "native_apis": apis})
    dialect = OpenAI()
    native = dialect.native("messages", found.provider)
    assert native is dialect.native("messages", found.provider)
    call = native.call(asked(min_p=0.1), found, cap=None, request_id=ID)
    assert call.url == "http://127.0.0.1:8080/v1/messages"
    assert dict(call.headers)["Authorization"] == "Bearer sk-ant-made-up"
    assert "x-api-key" not in dict(call.headers)
    assert json.loads(call.body)["min_p"] == 0.1
    assert dialect.native("messages", Provider(base_url="http://127.0.0.1:8080/v1")) is None
    assert dialect.native("responses", found.provider) is None
    with pytest.raises(RequestError) as raised:
        native.call(asked(n_predict=9), found, cap=None, request_id=ID)
    assert raised.value.param == "n_predict"


def test_no_other_api_is_native() -> None:
    assert Anthropic().native("responses", target().provider) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("service_tier", "priority"),
        ("Service_Tier", "auto"),
        ("speed", "fast"),
        ("SPEED", "fast"),
        ("inference_geo", "us"),
        ("container", "c"),
        ("mcp_servers", [{}]),
        ("compaction", {"type": "summarize"}),
        ("user_profile_id", "u"),
        ("fallbacks", [{}]),
        ("Max_Tokens", 10),
        ("TOOLS", []),
        ("something_new", 1),
    ],
)
def test_what_changes_the_cost_unpriced_is_refused_by_name(name: str, value: Any) -> None:
    refused(asked(USER, **{name: value}), name)


@pytest.mark.parametrize(
    "kind",
    [
        "web_search_20250305",
        "web_fetch_20250910",
        "code_execution_20250825",
        "tool_search_tool_bm25_20251119",
        "computer_20250124",
        "browser_toolset_20260801",
        "advisor_20260301",
        7,
    ],
)
def test_tools_that_run_at_the_provider_are_refused_by_name(kind: Any) -> None:
    refused(asked(tools=[{"name": "f", "input_schema": {}}, {"type": kind, "name": "x"}]), "tools[1].type")


def test_tools_that_the_client_runs_are_held_for() -> None:
    tools = [
        {"type": "custom", "name": "f", "input_schema": {}},
        {"type": "bash_20250124", "name": "bash"},
        {"type": "text_editor_20250728", "name": "e"},
    ]
    assert call_of(asked(tools=tools)).more_tokens == 3 * request.TOOL_TOKENS
    assert call_of(asked(tools=[])).more_tokens == 0
    assert call_of(asked(tools=None)).more_tokens == 0


CLEARING = {"edits": [{"type": "clear_tool_uses_20250919"}, {"type": "clear_thinking_20251015", "keep": "all"}]}


def betas_of(call: HTTPCall) -> list[str]:
    return [value for name, value in call.headers if name == "anthropic-beta"]


def test_clearing_is_passed_on_with_the_beta_that_it_needs() -> None:
    call = call_of(asked(context_management=CLEARING))
    assert json.loads(call.body)["context_management"] == CLEARING
    assert (betas_of(call), call.dropped) == (["context-management-2025-06-27"], ())
    assert call.headers[: len(call.shared)] == list(call.shared)
    assert "context_management" not in json.loads(call_of(asked(context_management=None)).body)
    assert betas_of(call_of(asked(context_management=None))) == []


@pytest.mark.parametrize(
    ("management", "field"),
    [
        ({"edits": [*CLEARING["edits"], {"type": "compact_20260112"}]}, "context_management.edits[2].type"),
        ({"edits": [{"type": "a_new_one"}]}, "context_management.edits[0].type"),
        ({"edits": [{}]}, "context_management"),
        ({"edits": 7}, "context_management"),
        ([], "context_management"),
    ],
)
def test_what_is_more_than_clearing_is_refused(management: Any, field: str) -> None:
    refused(asked(context_management=management), field)


def test_betas_that_cost_nothing_pass_and_others_are_told() -> None:
    harmless = ["interleaved-thinking-2025-05-14", "context-management-2025-06-27"]
    call = call_of(asked(betas=harmless, context_management=CLEARING))
    assert (betas_of(call), call.dropped) == ([",".join(harmless)], ())
    assert "betas" not in json.loads(call.body)
    dear = ["context-1m-2025-08-07", "fast-mode-2026-02-01", "x\r\nX-Api-Key: y", "compact-2026-01-12"]
    call = call_of(asked(betas=[*dear, harmless[0], harmless[0]]))
    assert (betas_of(call), call.dropped) == ([harmless[0]], ("betas",))
    assert (betas_of(call_of(asked(betas=dear))), call_of(asked(betas=None)).dropped) == ([], ())
    refused(asked(betas="x"), "betas")


def test_a_server_that_is_not_anthropic_s_gets_neither_betas_nor_clearing() -> None:
    found = target("m", provider={"base_url": "http://127.0.0.1:8080/v1", "dialect": "openai"})
    thought = {"type": "thinking", "thinking": "Hm", "signature": ""}
    said = {"role": "assistant", "content": [thought, {"type": "text", "text": "A"}]}
    asks = asked(USER, said, USER, betas=["interleaved-thinking-2025-05-14"], context_management=CLEARING)
    call = Messages().call(asks, found, cap=None, request_id=ID)
    assert (betas_of(call), call.dropped) == ([], ("betas", "context_management"))
    assert json.loads(call.body).keys() == {"model", "max_tokens", "messages"}
    assert json.loads(call.body)["messages"][1] == said


SIGNED = {"type": "thinking", "thinking": "Hm", "signature": "EqQB"}
HIDDEN = {"type": "redacted_thinking", "data": "EmwK"}
FOREIGN = [
    {"type": "thinking", "thinking": "Hm", "signature": ""},
    {"type": "thinking", "thinking": "Hm"},
    {"type": "thinking", "thinking": "Hm", "signature": f"{PACKED}e30="},
    {"type": "redacted_thinking", "data": f"{PACKED}e30="},
    {"type": "redacted_thinking", "data": ""},
]


@pytest.mark.parametrize("foreign", FOREIGN)
def test_thoughts_that_are_not_anthropic_s_are_left_out_and_told(foreign: dict[str, Any]) -> None:
    text = {"type": "text", "text": 'says "thinking"'}
    call = call_of(
        asked(
            USER,
            {"role": "assistant", "content": [foreign, SIGNED, text, HIDDEN]},
            {"role": "user", "content": [text]},
            {"role": "assistant", "content": [foreign]},
            USER,
        )
    )
    assert json.loads(call.body)["messages"] == [
        *(USER, {"role": "assistant", "content": [SIGNED, text, HIDDEN]}, {"role": "user", "content": [text]}, USER)
    ]
    assert call.dropped == ("messages.thinking",)


def test_proven_thoughts_pass_byte_for_byte() -> None:
    asks = asked(USER, {"role": "assistant", "content": [SIGNED, HIDDEN]}, USER)
    call = call_of(asks)
    assert bytes(asks.fields["messages"]) in call.body
    assert call.dropped == ()


def test_a_budget_of_thought_is_below_the_cap_that_is_held_for() -> None:
    thinking = {"type": "enabled", "budget_tokens": 2000}
    assert json.loads(call_of(asked(thinking=thinking, max_tokens=2001)).body)["thinking"] == thinking
    refused(
        asked(thinking=thinking, max_tokens=2000, betas=["interleaved-thinking-2025-05-14"]), "thinking.budget_tokens"
    )
    refused(asked(thinking={"type": "enabled", "budget_tokens": "x"}), "thinking")


def test_a_format_and_documents_are_held_for() -> None:
    form = {"format": {"type": "json_schema", "schema": {}}}
    assert call_of(asked(output_config=form)).more_tokens == request.FORMAT_TOKENS
    assert call_of(asked(output_config={"effort": "low"})).more_tokens == 0
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}}
    user = {"role": "user", "content": [pdf, {"type": "text", "text": "?"}]}
    assert call_of(asked(user)).more_tokens == request.CONTEXT
    assert call_of(asked(user), target(context=1_000_000)).more_tokens == 1_000_000
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": [pdf]}]}
    assert call_of(asked(result)).more_tokens == request.CONTEXT
    hidden = {"role": "user", "content": [{**pdf, "type": "docu\\u006dent"}]}
    body = json.dumps([hidden]).replace("\\\\", "\\").encode()
    asks = asked()
    asks.fields["messages"] = Raw(body)
    assert call_of(asks).more_tokens == request.CONTEXT
    words = {"role": "user", "content": [{"type": "text", "text": 'a "document" of words'}]}
    assert call_of(asked(words, {"role": "assistant", "content": '"document"'})).more_tokens == 0


FILE = {"type": "file", "file_id": "file_1"}


@pytest.mark.parametrize(
    "block",
    [
        {"type": "document", "source": FILE},
        {"type": "image", "source": FILE},
        {"type": "container_upload", "file_id": "file_1"},
        {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "image", "source": FILE}]},
        {"type": "document", "source": {"type": "content", "content": [{"type": "image", "source": FILE}]}},
    ],
)
def test_files_in_the_operators_account_are_refused(block: dict[str, Any]) -> None:
    refused(asked({"role": "user", "content": [block]}), "messages")


@pytest.mark.parametrize("fields", [{"tools": "f"}, {"output_config": []}])
def test_a_field_of_a_wrong_kind_is_named(fields: dict[str, Any]) -> None:
    refused(asked(**fields), next(iter(fields)))


def test_messages_that_are_none_are_a_400() -> None:
    with pytest.raises(RequestError):
        call_of(asked({"role": "user", "content": [3, {"type": "document"}]}))


@pytest.mark.parametrize(
    "fields",
    [
        {"system": [{"type": "text", "text": "A", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]},
        {"tools": [{"name": "f", "input_schema": {}, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]},
        {"cache_control": {"type": "ephemeral", "ttl": "1h"}},
    ],
)
def test_a_cache_that_lasts_an_hour_is_held_for(fields: dict[str, Any]) -> None:
    assert call_of(asked(**fields)).long_cache
    assert not call_of(asked(**json.loads(json.dumps(fields).replace("1h", "5m")))).long_cache


def test_images_are_left_to_whoever_counts_them() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    assert call_of(asked({"role": "user", "content": [image]})).more_tokens == 0
