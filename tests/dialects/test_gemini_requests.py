"""What is sent to Google: each request is one that Google's own SDK would have written."""

import json
from typing import Any

import pytest
from google_shapes import KEY, REQUEST_ID, asked, body_of, target
from hypothesis import given, settings
from hypothesis import strategies as st

from hpp_middleware.dialects.gemini.request import IMAGE_CAP, PAGES
from hpp_middleware.errors import RequestError
from hpp_middleware.types.price import Price, Rates
from hpp_middleware.types.provider import Model

PIXEL = "iVBORw0KGgo="
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
DECLARED = {
    "name": "weather",
    "description": "Tells the weather.",
    "parametersJsonSchema": TOOL["function"]["parameters"],
}


def call(call_id: str = "call_1", arguments: str = '{"city":"Ulm"}', **more: Any) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "weather", "arguments": arguments}, **more}


def answered(*calls: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    """A conversation in which tools were called, and each has answered."""
    results = [{"role": "tool", "tool_call_id": each["id"], "content": f"rain {each['id']}"} for each in calls]
    question = {"role": "user", "content": "Rain?"}
    return [question, {"role": "assistant", "content": None, "tool_calls": list(calls), **more}, *results]


def refused(*args: Any, **fields: Any) -> str:
    with pytest.raises(RequestError) as raised:
        asked(*args, **fields)
    assert raised.value.status == 400
    assert raised.value.param is not None
    assert raised.value.param in raised.value.message
    return raised.value.param


def generation(**fields: Any) -> Any:
    where = fields.pop("where", None)
    return body_of(where, **fields)["generationConfig"]


def test_a_question_is_one_turn_of_the_user_under_the_key_in_a_header() -> None:
    sent = asked(cap=100)
    assert sent.url == "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent"
    assert dict(sent.headers)["x-goog-api-key"] == KEY
    assert KEY not in sent.url
    assert ("X-Request-Id", REQUEST_ID) in sent.headers
    assert body_of(cap=100) == {
        "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
        "generationConfig": {"maxOutputTokens": 100},
    }


def test_a_stream_is_asked_for_as_server_sent_events() -> None:
    sent = asked(stream=True)
    assert sent.url.endswith(":streamGenerateContent?alt=sse")
    assert ("Accept", "text/event-stream") in sent.headers


def test_what_the_calls_to_a_model_share_is_the_same_object() -> None:
    from google_shapes import request

    from hpp_middleware.dialects.gemini import Gemini

    dialect, where = Gemini(), target()
    first, second = (dialect.call(request(), where, cap=1, request_id=REQUEST_ID) for _ in range(2))
    assert first.shared is second.shared
    assert first.headers[: len(first.shared)] == list(first.shared)


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "a/../b",
        "gemini-2.5-pro:predict",
        "models/../x",
        "x?y",
        "a/b",
        ".",
        "..",
        "models/",
        "a:b",
        "a@",
        "a@/..",
    ],
)
def test_a_name_that_leads_elsewhere_than_to_a_model_is_refused(name: str) -> None:
    assert refused(target(name)) == "model"


def test_a_model_may_be_named_with_its_collection() -> None:
    assert asked(target("tunedModels/mine-1")).url.endswith("/v1beta/tunedModels/mine-1:generateContent")
    assert asked(target("models/gemini-2.5-pro")).url.endswith("/v1beta/models/gemini-2.5-pro:generateContent")


def test_vertex_is_at_the_host_of_its_location_under_the_project() -> None:
    def at(location: str | None, **more: Any) -> str:
        options = {"project": "p-1"} | ({} if location is None else {"location": location})
        base: dict[str, Any] = {"base_url": "https://aiplatform.googleapis.com/v1", "dialect": "vertex"}
        return asked(target(**{**base, "options": options, "api_key": None, **more})).url

    path = "v1/projects/p-1/locations/{}/publishers/google/models/gemini-2.5-flash:generateContent"
    assert at("europe-west4") == f"https://europe-west4-aiplatform.googleapis.com/{path.format('europe-west4')}"
    assert at("global") == at(None) == f"https://aiplatform.googleapis.com/{path.format('global')}"
    assert at("eu") == f"https://aiplatform.eu.rep.googleapis.com/{path.format('eu')}"
    assert at("us", base_url="http://10.0.0.1:9/v1") == f"http://10.0.0.1:9/{path.format('us')}"
    express = at(None, options={}, api_key=KEY)
    assert express == "https://aiplatform.googleapis.com/v1/publishers/google/models/gemini-2.5-flash:generateContent"


def test_an_endpoint_of_vertex_may_be_a_model() -> None:
    base: dict[str, Any] = {"base_url": "https://aiplatform.googleapis.com/v1", "dialect": "vertex"}
    where = target("endpoints/123", **base, options={"project": "p", "location": "us-central1"})
    assert asked(where).url.endswith("/v1/projects/p/locations/us-central1/endpoints/123:generateContent")


def test_vertex_itself_takes_what_is_sent() -> None:
    from google.genai import Client, models, types

    body = body_of(None, answered(call(), call("call_2")), tools=[TOOL], response_format={"type": "json_object"})
    config = {**body["generationConfig"], "tools": body["tools"]}
    read = types._GenerateContentParameters.model_validate(
        {"model": "m", "contents": body["contents"], "config": config}
    )
    client = Client(vertexai=True, api_key="unused")
    written = models._GenerateContentParameters_to_vertex(client._api_client, read)
    assert {name for name in written if not name.startswith("_")} == set(body)


def test_every_system_message_becomes_the_instruction() -> None:
    turns = [
        {"role": "system", "content": "One."},
        {"role": "user", "content": "Hi"},
        {"role": "developer", "content": [{"type": "text", "text": "Two."}]},
    ]
    body = body_of(None, turns)
    assert body["systemInstruction"] == {"parts": [{"text": "One."}, {"text": "Two."}]}
    assert body["contents"] == [{"role": "user", "parts": [{"text": "Hi"}]}]
    assert refused(None, turns[:1]) == "messages"
    assert refused(None, [{"role": "user", "content": ""}]) == "messages"


def test_whoever_speaks_twice_has_spoken_once() -> None:
    turns = [{"role": role, "content": text} for role, text in (("user", "a"), ("user", "b"), ("assistant", "c"))]
    assert body_of(None, [*turns, {"role": "user", "content": "d"}])["contents"] == [
        {"role": "user", "parts": [{"text": "a"}, {"text": "b"}]},
        {"role": "model", "parts": [{"text": "c"}]},
        {"role": "user", "parts": [{"text": "d"}]},
    ]


def user(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, "detail": "high"}}


def test_an_image_is_sent_inline_or_told_to_be_fetched() -> None:
    turns = user(image(f"data:image/PNG;base64,{PIXEL}"), image("https://acme.example/a/cat.JPG?size=1#x"))
    (turn,) = body_of(None, turns)["contents"]
    assert turn["parts"] == [
        {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
        {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://acme.example/a/cat.JPG?size=1#x"}},
    ]
    bare = user({"type": "image_url", "image_url": f"data:image/webp;base64,{PIXEL}"})
    assert body_of(None, bare)["contents"][0]["parts"][0]["inlineData"]["mimeType"] == "image/webp"


@pytest.mark.parametrize(
    ("model", "url"),
    [
        ("gemini-2.5-flash", "https://acme.example/cat"),
        ("gemini-2.5-flash", "https://acme.example/cat.svg"),
        ("gemini-2.0-flash", "https://acme.example/cat.png"),
        ("gemini-2.5-flash", "data:image/png,abc"),
        ("gemini-2.5-flash", "data:video/mp4;base64,AAAA"),
    ],
)
def test_an_image_that_cannot_be_had_is_refused_by_name(model: str, url: str) -> None:
    assert refused(target(model), user({"type": "text", "text": "?"}, image(url))) == (
        "messages[0].content[1].image_url.url"
    )


def test_sound_is_sent_inline_in_formats_whose_bytes_bound_its_length() -> None:
    data = "UklGRgAAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA="  # 8 kHz, 8 bits, one channel

    def sound(form: str) -> list[dict[str, Any]]:
        return user({"type": "input_audio", "input_audio": {"data": data, "format": form}})

    parts = body_of(None, sound("wav"))["contents"][0]["parts"]
    assert parts == [{"inlineData": {"mimeType": "audio/wav", "data": data}}]
    assert refused(None, sound("flac")) == "messages[0].content[0].input_audio.format"


def document(kind: str = "application/pdf") -> dict[str, Any]:
    return {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:{kind};base64,JVBERi0="}}


def test_a_document_is_held_for_by_the_most_pages_it_can_have() -> None:
    sent = asked(target("gemini-2.5-pro"), user(document(), document()))
    assert sent.more_tokens == 2 * PAGES * 258
    assert asked(target("gemini-3-pro-preview"), user(document())).more_tokens == PAGES * 560
    assert asked(target(known=Model(context=100_000)), user(document())).more_tokens == 100_000
    assert asked(target(options={"document_pages": "10"}), user(document())).more_tokens == 2580
    assert asked(None, user(document("text/plain"))).more_tokens == 0
    parts = body_of(None, user(document()))["contents"][0]["parts"]
    assert parts == [{"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0="}}]
    assert refused(None, user(document("audio/mp3"))) == "messages[0].content[0].file.file_data"
    assert refused(None, user({"type": "file", "file": {"file_data": "JVBERi0="}})).endswith("file_data")


@pytest.mark.parametrize("kind", ["video_url", "thinking", "nothing"])
def test_a_part_that_cannot_be_said_is_refused_by_name(kind: str) -> None:
    assert refused(None, user({"type": kind, "text": "?"})) == "messages[0].content[0].type"


def test_calls_and_their_answers_keep_ids_names_and_one_turn_each() -> None:
    contents = body_of(None, answered(call(), call("call_2", '{"x":[1.50,null]}')), tools=[TOOL])["contents"]
    assert [turn["role"] for turn in contents] == ["user", "model", "user"]
    assert contents[1]["parts"] == [
        {"functionCall": {"id": "call_1", "name": "weather", "args": {"city": "Ulm"}}},
        {"functionCall": {"id": "call_2", "name": "weather", "args": {"x": [1.5, None]}}},
    ]
    assert contents[2]["parts"] == [
        {"functionResponse": {"id": "call_1", "name": "weather", "response": {"output": "rain call_1"}}},
        {"functionResponse": {"id": "call_2", "name": "weather", "response": {"output": "rain call_2"}}},
    ]


def test_what_a_user_adds_to_the_answers_of_tools_is_a_turn_of_its_own() -> None:
    contents = body_of(None, [*answered(call()), {"role": "user", "content": "And?"}])["contents"]
    assert [turn["role"] for turn in contents] == ["user", "model", "user", "user"]
    assert contents[3] == {"role": "user", "parts": [{"text": "And?"}]}


def test_a_tool_that_answers_an_object_has_answered_it() -> None:
    turns = answered(call())
    turns[-1]["content"] = '{"rain": true}'
    assert body_of(None, turns)["contents"][2]["parts"][0]["functionResponse"]["response"] == {"rain": True}
    turns[-1]["content"] = "{}"
    assert body_of(None, turns)["contents"][2]["parts"][0]["functionResponse"]["response"] == {}
    turns[-1]["content"] = '{"broken'
    assert body_of(None, turns)["contents"][2]["parts"][0]["functionResponse"]["response"] == {"output": '{"broken'}


def test_an_answer_to_no_call_and_arguments_that_are_none_are_refused() -> None:
    turns = [*answered(call()), {"role": "tool", "tool_call_id": "other", "content": "x"}]
    assert refused(None, turns) == "messages[3].tool_call_id"
    assert refused(None, answered(call(arguments="[1]"))) == "messages[1].tool_calls[0].function.arguments"
    assert body_of(None, answered(call(arguments="")))["contents"][1]["parts"][0]["functionCall"]["args"] == {}


SIGNED: dict[str, Any] = {"extra_content": {"google": {"thought_signature": "c2lnbmVk"}}}


def signatures(turns: list[dict[str, Any]], model: str = "gemini-3-pro-preview") -> list[str | None]:
    parts = body_of(target(model), turns, tools=[TOOL])["contents"][1]["parts"]
    return [part.get("thoughtSignature") for part in parts]


def test_the_signature_of_a_call_goes_back_in_either_form() -> None:
    assert signatures(answered(call(**SIGNED), call("call_2"))) == ["c2lnbmVk", None]
    detail = {"type": "reasoning.encrypted", "id": "call_2", "data": "YWxzbw==", "format": "google-gemini-v1"}
    assert signatures(answered(call(), call("call_2"), reasoning_details=[detail])) == [None, "YWxzbw=="]
    said: list[dict[str, Any]] = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", **SIGNED}]
    assert signatures([*said, {"role": "user", "content": "c"}]) == ["c2lnbmVk"]


def test_another_provider_s_proof_is_no_signature() -> None:
    detail = {"type": "reasoning.encrypted", "data": "EmwK", "format": "anthropic-claude-v1"}
    said: list[dict[str, Any]] = [{"role": "user", "content": "a"}]
    said.append({"role": "assistant", "content": "b", "reasoning_details": [detail]})
    assert signatures([*said, {"role": "user", "content": "c"}]) == [None]
    proven = {**said[1], "reasoning_details": [detail, {**detail, "format": "google-gemini-v1"}]}
    assert signatures([said[0], proven, {"role": "user", "content": "c"}]) == ["EmwK"]


def test_a_signature_that_the_client_has_lost_is_replaced_where_a_model_insists() -> None:
    lost = answered(call(), call("call_2"))
    assert signatures(lost) == ["skip_thought_signature_validator", None]
    assert signatures(lost, "gemini-2.5-pro") == [None, None]


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        ("auto", None),
        (None, None),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ({"type": "function", "function": {"name": "weather"}}, {"mode": "ANY", "allowedFunctionNames": ["weather"]}),
    ],
)
def test_which_tool_is_to_be_called(choice: Any, config: Any) -> None:
    body = body_of(None, tools=[TOOL], tool_choice=choice)
    assert body["tools"] == [{"functionDeclarations": [DECLARED]}]
    assert body.get("toolConfig") == (None if config is None else {"functionCallingConfig": config})


def test_a_strict_tool_has_its_arguments_validated() -> None:
    strict = {"type": "function", "function": {"name": "f", "strict": True}}
    body = body_of(None, tools=[strict])
    assert body["tools"] == [{"functionDeclarations": [{"name": "f"}]}]
    assert body["toolConfig"] == {"functionCallingConfig": {"mode": "VALIDATED"}}


def test_a_choice_of_a_tool_that_is_not_there_is_refused() -> None:
    assert refused(None, tool_choice="required") == "tool_choice"
    other = {"type": "function", "function": {"name": "other"}}
    assert refused(None, tools=[TOOL], tool_choice=other) == "tool_choice.function.name"
    assert "tools" not in body_of(None, tools=[], tool_choice="auto")


def test_sampling_and_the_cap_have_their_own_names() -> None:
    said = generation(
        max_completion_tokens=50, n=2, temperature=0.5, top_p=0.25, top_k=3, seed=7, stop="END",
        presence_penalty=0.5, frequency_penalty=-0.5,
    )  # fmt: skip
    assert said == {
        "maxOutputTokens": 50,
        "candidateCount": 2,
        "temperature": 0.5,
        "topP": 0.25,
        "topK": 3,
        "seed": 7,
        "stopSequences": ["END"],
        "presencePenalty": 0.5,
        "frequencyPenalty": -0.5,
    }
    assert generation(cap=9, stop=["a", "b"]) == {"maxOutputTokens": 9, "stopSequences": ["a", "b"]}
    assert generation(cap=9, max_tokens=5) == {"maxOutputTokens": 5}


def test_structured_output_is_asked_for_by_its_schema() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
    assert generation(response_format=form) == {"responseMimeType": "application/json", "responseJsonSchema": schema}
    assert generation(response_format={"type": "json_object"}) == {"responseMimeType": "application/json"}
    assert generation(response_format={"type": "text"}) == {}


@pytest.mark.parametrize(
    ("model", "asks", "config"),
    [
        ("gemini-2.5-flash", {"reasoning_effort": "low"}, {"includeThoughts": True, "thinkingBudget": 1024}),
        ("gemini-2.5-pro", {"reasoning_effort": "high"}, {"includeThoughts": True, "thinkingBudget": 24576}),
        ("gemini-2.5-flash", {"reasoning_effort": "none"}, {"thinkingBudget": 0}),
        ("gemini-3-pro-preview", {"reasoning_effort": "medium"}, {"includeThoughts": True, "thinkingLevel": "HIGH"}),
        (
            "gemini-3.1-pro-preview",
            {"reasoning_effort": "medium"},
            {"includeThoughts": True, "thinkingLevel": "MEDIUM"},
        ),
        ("gemini-3.1-pro-preview", {"reasoning_effort": "minimal"}, {"includeThoughts": True, "thinkingLevel": "LOW"}),
        ("gemini-3.8-flash", {"reasoning_effort": "minimal"}, {"includeThoughts": True, "thinkingLevel": "MINIMAL"}),
        ("gemini-4-argon", {"reasoning": {"effort": "high"}}, {"includeThoughts": True, "thinkingLevel": "HIGH"}),
        ("gemini-flash-latest", {"reasoning": {"enabled": True}}, {"includeThoughts": True, "thinkingLevel": "MEDIUM"}),
        ("gemini-2.5-pro", {"reasoning": {"max_tokens": 300}}, {"includeThoughts": True, "thinkingBudget": 300}),
        (
            "gemini-3.8-flash",
            {"reasoning": {"effort": "low", "exclude": True}},
            {"includeThoughts": False, "thinkingLevel": "LOW"},
        ),
        ("gemini-2.0-flash", {"reasoning_effort": "none"}, None),
        ("gemini-3.8-flash", {}, None),
    ],
)
def test_how_much_to_think_is_said_in_the_words_of_the_model_s_family(model: str, asks: Any, config: Any) -> None:
    assert generation(where=target(model), **asks).get("thinkingConfig") == config


@pytest.mark.parametrize(
    ("model", "effort"),
    [
        ("gemini-2.0-flash", "low"),
        ("gemini-2.5-pro", "none"),
        ("gemini-3.8-flash", "none"),
        ("gemini-2.5-flash", "a lot"),
    ],
)
def test_thinking_that_a_model_cannot_do_or_leave_is_refused(model: str, effort: str) -> None:
    assert refused(target(model), reasoning_effort=effort) == "reasoning_effort"


DRAWING = target("gemini-2.5-flash-image", price=Price(base=Rates(input=1, output=2, output_image=3)))


def test_images_are_asked_for_and_need_room_whether_asked_for_or_not() -> None:
    assert generation(where=DRAWING, modalities=["text", "image"]) == {"responseModalities": ["TEXT", "IMAGE"]}
    assert generation(where=DRAWING, cap=300) == {"maxOutputTokens": 300}
    assert asked(DRAWING, cap=300).least_cap == IMAGE_CAP
    assert asked(None).least_cap == 0
    assert refused(DRAWING, max_tokens=IMAGE_CAP - 1) == "max_tokens"
    assert refused(DRAWING, max_tokens=9, modalities=["image"]) == "max_tokens"
    assert refused(None, modalities=["text", "audio"]) == "modalities"


@pytest.mark.parametrize(
    "fields",
    [
        {"parallel_tool_calls": False},
        {"logprobs": True},
        {"min_p": 0.1},
        {"web_search_options": {}},
        {"prediction": {"type": "content", "content": "x"}},
        {"cached_content": "cachedContents/x"},
        {"safety_settings": []},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_field_that_cannot_be_said_is_refused_by_name(fields: dict[str, Any]) -> None:
    assert refused(None, **fields) == next(iter(fields))


def test_a_harmless_field_is_left_out_and_told() -> None:
    sent = asked(
        None, user="u", metadata={"a": "b"}, parallel_tool_calls=True, seed=1, cache_control={"type": "ephemeral"}
    )
    assert sent.dropped == ("user", "metadata", "cache_control")
    assert set(json.loads(sent.body)) == {"contents", "generationConfig"}


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
arguments = st.dictionaries(
    words, st.integers(-(2**53), 2**53) | words | st.lists(st.booleans(), max_size=3), max_size=3
)
rounds = st.lists(
    st.tuples(words, st.none() | words, st.lists(st.tuples(words, arguments, words), max_size=3)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=100, deadline=None)
@given(rounds)
def test_there_and_back_roles_texts_calls_and_ids_are_kept(conversation: list[Any]) -> None:
    turns: list[dict[str, Any]] = []
    expected: list[tuple[str, list[Any]]] = []
    for number, (question, reply, calls) in enumerate(conversation):
        turns.append({"role": "user", "content": question})
        told: list[Any] = [] if reply is None else [reply]
        asks = []
        for at, (name, args, _) in enumerate(calls):
            call_id = f"call_{number}_{at}"
            function = {"name": name, "arguments": json.dumps(args)}
            asks.append({"id": call_id, "type": "function", "function": function})
            told.append((call_id, name, args))
        results = [(f"call_{number}_{at}", calls[at][0], calls[at][2]) for at in range(len(calls))]
        if not told:
            told = ["Hm."]
        turns.append({"role": "assistant", "content": reply if calls else told[0], "tool_calls": asks or None})
        turns += [{"role": "tool", "tool_call_id": each[0], "content": each[2]} for each in results]
        expected += [("user", [question]), ("model", told), ("user", list(results))]
    contents = json.loads(asked(None, turns).body)["contents"]
    merged: list[tuple[str, list[Any]]] = []
    for role, parts in expected:
        if parts:
            merged.append((role, list(parts)))
    assert [(turn["role"], [_back(part) for part in turn["parts"]]) for turn in contents] == merged


def _back(part: dict[str, Any]) -> Any:
    """A part as the conversation above has it."""
    if "text" in part:
        return part["text"]
    if "functionCall" in part:
        found = part["functionCall"]
        return found["id"], found["name"], found["args"]
    found = part["functionResponse"]
    response = found["response"]
    return found["id"], found["name"], response["output"] if set(response) == {"output"} else json.dumps(response)
