"""What costs more than its bytes say, in places where nobody looks for it."""

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from attacks.targets import API_OF, DIALECTS, target
from attacks.test_bounds import CONTEXT, MICRO, held, sound, user, wav
from attacks.test_mutated_answers import ASKED
from attacks.test_mutated_requests import LIMITS
from hpp_middleware.core.bound import IMAGE_TOKENS
from hpp_middleware.dialects.openai_responses import TOOL_TOKENS
from hpp_middleware.errors import RequestError
from hpp_middleware.stages.route.speak import said

IMAGE = "data:image/png;base64," + "A" * 100
PADDED = "data:image/png" + f";{'a' * 100}" * 8 + ";base64," + "A" * 100


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "gemini", "bedrock", "ollama"])
def test_an_image_whose_header_is_long_takes_nothing_from_the_text(dialect: str) -> None:
    """It is not sent on where the request is translated, and was measured all the same."""

    def asked(url: str) -> dict[str, Any]:
        text = {"type": "text", "text": "word " * 2000}
        return user(*[{"type": "image_url", "image_url": {"url": url}}] * 10, text)

    where = target(dialect, "claude-sonnet-4-5" if dialect != "gemini" else "gemini-2.5-flash")
    assert held("chat", where, **asked(PADDED)) >= held("chat", where, **asked(IMAGE)) - 10 * 21


@pytest.mark.parametrize("dialect", ["openai", "azure", "gemini"])
def test_the_sound_of_an_earlier_answer_is_not_referred_to(dialect: str) -> None:
    where = target(dialect, "gpt-audio")
    said = {"role": "assistant", "content": "x", "audio": {"id": "audio_1"}}
    asked = {"role": "user", "content": "And then?"}
    with pytest.raises(RequestError, match=r"messages\[0\]\.audio"):
        held("chat", where, max_tokens=9, messages=[said, asked])
    assert held("chat", where, max_tokens=9, messages=[{**said, "audio": None}, asked]) < 200


def test_tokens_to_be_embedded_hide_no_text_beside_them() -> None:
    where = target("openai", "e")
    assert held("embeddings", where, input=[1, 2], dimensions=100, user="u") == 2
    assert held("embeddings", where, input=[1, 2], prompt="x" * 9000) > 9000
    with pytest.raises(RequestError, match="messages is not accepted"):
        held("embeddings", where, input=[1], messages=[{"role": "user", "content": "x"}])


@pytest.mark.parametrize("field", ["chat_template", "mm_processor_kwargs", "media_io_kwargs", "Enable_Search"])
def test_what_makes_a_prompt_longer_than_it_is_sent_is_refused(field: str) -> None:
    with pytest.raises(RequestError, match=field):
        held("chat", target("openai", "m"), **user({"type": "text", "text": "x"}), **{field: {"max_pixels": 10**9}})


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_image", "image_url": "https://example.com/a.png"},
        {"type": "input_image", "image_url": {"url": IMAGE}},
        {"type": "image_embeds", "image_embeds": "AAAA"},
        {"type": "image", "image": "https://example.com/a.png"},
    ],
)
def test_an_image_in_another_server_s_words_is_one(part: dict[str, Any]) -> None:
    assert held("chat", target("openai", "m"), **user(*[part] * 20)) > 20 * IMAGE_TOKENS


@pytest.mark.parametrize("name", ["document_url", "file_url", "video_url", "audio_url"])
def test_a_document_in_mistral_s_words_is_held_for_by_what_fits_into_the_model(name: str) -> None:
    part = {"type": name, name: "data:application/pdf;base64,AAAA"}
    assert held("chat", target("openai", "m"), **user(part)) > CONTEXT


@pytest.mark.parametrize(
    "part",
    [
        {"type": "video", "video": [f"https://example.com/{frame}.jpg" for frame in range(50)]},  # DashScope's
        {"type": "video", "video": "data:video/mp4;base64,AAAA"},
        {"type": "video_url", "video_url": None, "uuid": "sent-before"},  # vLLM keeps what it has seen
        {"type": "file", "file": {"id": "file-1"}},
        {"type": "file", "file": {"id": "file-1", "filename": "data:text/x"}},
        {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}},
        {"type": "input_video", "input_video": {"url": "https://example.com/a.mp4"}},
    ],
)
def test_a_part_that_nobody_knows_is_held_for_by_what_fits_into_the_model(part: dict[str, Any]) -> None:
    assert held("chat", target("openai", "m"), **user(part)) > CONTEXT


@pytest.mark.parametrize("kind", ["text", "thinking", "tool_use", "search_result", "refusal"])
def test_a_part_that_is_text_is_held_for_by_its_bytes(kind: str) -> None:
    assert held("chat", target("openai", "m"), **user({"type": kind, kind: "https://example.com/"})) < 200


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": IMAGE}, "min_pixels": 9_000_000, "max_pixels": 16_000_000},
        {"type": "image", "image": "https://example.com/a.png", "max_pixels": 16_000_000},
        {"type": "image_url", "image_url": {"url": IMAGE, "max_dynamic_patch": 99}},
    ],
)
def test_an_image_that_is_to_be_larger_than_usual_is_held_for_by_what_fits_into_the_model(part: dict[str, Any]) -> None:
    assert held("chat", target("openai", "m"), **user(part)) > CONTEXT
    speaks = {"type": "text", "text": 'Set "max_pixels": 9, or max_pixels'}
    assert held("chat", target("openai", "m"), **user(speaks, {"type": "image", "image": "a"})) < CONTEXT


def test_a_part_of_an_unknown_size_is_held_for_at_the_dearest_rate_that_it_may_have() -> None:
    where = target("openai", "m")
    rates = msgspec.structs.replace(where.price.base, input_audio=7 * MICRO, input_image=3 * MICRO)
    where = msgspec.structs.replace(where, price=msgspec.structs.replace(where.price, base=rates))
    assert held("chat", where, **user({"type": "video", "video": "x"})) > 7 * CONTEXT


def test_a_part_that_says_twice_what_it_is_is_an_image_where_it_may_be_one() -> None:
    where, spoken = target("openai", "m"), API_OF["chat"]
    twice = '{"type":"image_url","image_url":{"url":"https://example.com/a.png"},"type":"text","text":"x"}'
    body = f'{{"model":"x/y","max_tokens":9,"messages":[{{"role":"user","content":[{twice}]}}]}}'
    assert spoken.request(body.encode(), LIMITS).images.count == 1
    plain = {"type": "text", "text": "x", "image_url": None}
    assert held("chat", where, **user(plain)) < 200


def test_tools_with_instructions_of_the_provider_s_own_are_counted_wherever_they_are_given() -> None:
    shell = {"type": "shell"}
    given = {"type": "additional_tools", "tools": [shell, {"type": "namespace", "name": "n", "tools": [shell]}]}
    asked = {"input": [given, {"role": "user", "content": "x"}], "tools": [{"type": "apply_patch"}]}
    assert held("responses", target("openai", "gpt-5"), **asked) > 3 * TOOL_TOKENS


@pytest.mark.parametrize("source", [{"type": "base64", "data": "AAAA"}, {"type": "url", "url": "https://x/a"}])
@pytest.mark.parametrize("kind", ["video", "audio", "text"])
def test_a_message_has_no_source_of_a_size_that_nobody_knows(kind: str, source: dict[str, Any]) -> None:
    block = {"type": kind, "text": "x", "source": source}
    within = {"type": "tool_result", "tool_use_id": "t", "content": [block]}
    for each in (block, within):
        with pytest.raises(RequestError, match="must be image or document"):
            held("messages", target("anthropic"), **user(each))


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_a_message_brings_no_tool_along(dialect: str) -> None:
    search = {"type": "web_search_20250305", "name": "web_search"}
    brought = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": search}}
    for block in (brought, {"type": "compaction", "content": "x", "tool_changes": [brought]}):
        with pytest.raises(RequestError, match="messages must not define tools"):
            held("messages", target(dialect), **user(block))
    spoken = {"type": "tool_use", "id": "t", "name": "f", "input": {"type": "tool_definition"}}
    known = {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "f"}}
    assert held("messages", target(dialect), **user(spoken, known)) < 200


@pytest.mark.parametrize("tool", [{"googleSearch": {}}, {"google_search": {}, "name": "f"}, {}])
def test_a_tool_that_says_no_type_is_a_function_or_refused(tool: dict[str, Any]) -> None:
    where, asked = target("openai", "m"), user({"type": "text", "text": "x"})
    assert held("chat", where, **asked, tools=[{"function": {"name": "f"}}])
    with pytest.raises(RequestError, match=r"tools\[0\]\.type"):
        held("chat", where, **asked, tools=[tool])


@pytest.mark.parametrize("api", ["chat", "messages", "responses", "embeddings", "images"])
def test_what_an_operator_says_changes_the_cost_is_refused_by_every_api(api: str) -> None:
    where = target("openai", "m")
    where = msgspec.structs.replace(where, provider=replace(where.provider, cost_fields=frozenset({"plugins"})))
    with pytest.raises(RequestError, match="plugins is not accepted"):
        held(api, where, **ASKED[api], plugins=[{"id": "web"}])


STARTING_WORK = {
    "moderation": {"model": "omni-moderation-latest"},
    "safety_model": "meta-llama/Llama-Guard-4-12B",
    "guardrails": [{"moderation_llm_v2": {}}],
    "speculation": "x",
    "fallbacks": ["o1-pro"],
    "mock_testing_fallbacks": True,
    "providerOptions": {"gateway": {"models": ["openai/o1-pro"]}},
    "speed": "fast",
    "inference_geo": "us",
    "compound_custom": {"tools": {"enabled_tools": ["web_search"]}},
    "search_settings": {"include_domains": ["example.com"]},
    "enable_code_interpreter": True,
    "vl_high_resolution_images": True,
    "max_dynamic_patch": 99,
    "data_sources": [{"type": "azure_search"}],
}


@pytest.mark.parametrize("field", STARTING_WORK)
def test_a_field_that_starts_other_work_is_refused_unless_the_operator_lets_it_in(field: str) -> None:
    where, said = target("azure" if field == "data_sources" else "openai", "m"), {field: STARTING_WORK[field]}
    asked = user({"type": "text", "text": "x"})
    with pytest.raises(RequestError, match=f"^{field} is not accepted") as raised:
        held("chat", where, **asked, **said)
    assert raised.value.param == field
    where = msgspec.structs.replace(where, provider=replace(where.provider, allow_fields=frozenset({field})))
    assert held("chat", where, **asked, **said)
    with pytest.raises(RequestError, match="web_search_options is not accepted"):
        held("chat", where, **asked, web_search_options={})


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize(("field", "value"), [("speed", "fast"), ("service_tier", "priority"), ("container", "x")])
def test_an_operator_lets_a_field_into_messages_too(dialect: str, field: str, value: str) -> None:
    where, asked = target(dialect), {**ASKED["messages"], field: value}
    with pytest.raises(RequestError, match=f"{field} is not accepted"):
        held("messages", where, **asked)
    where = msgspec.structs.replace(where, provider=replace(where.provider, allow_fields=frozenset({field})))
    assert held("messages", where, **asked)


@pytest.mark.parametrize("field", ["width", "height", "resolution", "steps", "sequential_image_generation"])
def test_an_image_is_as_large_as_its_size_says(field: str) -> None:
    with pytest.raises(RequestError, match=f"{field} is not accepted"):
        held("images", target("openai", "m", drawn=MICRO), prompt="x", **{field: 4096})


@pytest.mark.parametrize("field", ["chat_template", "num_predict", "prediction", "N_Cmpl", "deferred"])
def test_messages_that_are_passed_on_have_no_field_that_chat_completions_refuse(field: str) -> None:
    with pytest.raises(RequestError, match=f"{field} is not accepted"):
        held("messages", target("openai", "m"), **ASKED["messages"], **{field: 5})


@pytest.mark.parametrize("asked", [sound(wav(1)), sound("A" * 400, "flac"), sound("T2dnUwAA", "wav")])
def test_sound_of_any_length_in_few_bytes_is_held_for_by_what_fits_into_the_model(asked: dict[str, Any]) -> None:
    assert held("chat", target("openai", "gpt-audio"), **asked) > CONTEXT
    part = {**asked["messages"][0]["content"][0]}
    assert held("responses", target("openai", "gpt-audio"), input=[{"role": "user", "content": [part]}]) > CONTEXT


def test_sound_whose_bytes_bound_its_length_is_held_for_by_them() -> None:
    assert held("chat", target("openai", "gpt-audio"), **sound(wav(8000))) < 2000


@pytest.mark.parametrize("dialect", ["openai", "azure"])
def test_an_image_that_comes_out_of_a_chat_is_not_cut_by_a_cap(dialect: str) -> None:
    where = target(dialect, "gemini-3-pro-image", drawn=120 * MICRO)
    with pytest.raises(RequestError, match="max_tokens must be at least 2520"):
        held("chat", where, **user({"type": "text", "text": "draw"}), modalities=["image", "text"])
    body = json.dumps({"model": "x/y", "messages": [{"role": "user", "content": "draw"}]}).encode()
    call = DIALECTS[dialect].call(API_OF["chat"].request(body, LIMITS), where, cap=300, request_id="req_1")
    assert call.least_cap == 2520


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_sound_beside_a_number_beyond_every_range_is_a_400(api: str) -> None:
    part = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}, "x": "1e999"}
    asks = user(part) if api == "chat" else {"input": [{"role": "user", "content": [part]}], "store": False}
    body = json.dumps({"model": "x/y", **asks}).replace('"1e999"', "1e999").encode()
    where, spoken = target("openai", "gpt-audio"), API_OF[api]
    request, dialect = said(spoken, spoken.request(body, LIMITS), where, DIALECTS, LIMITS)
    with pytest.raises(RequestError, match="valid JSON") as raised:
        dialect.call(request, where, cap=10, request_id="req_1")
    assert raised.value.status == 400
