"""What would cost more than is held for, or than is priced, is refused with the field named."""

import pytest

from hpp_middleware.core import parse
from hpp_middleware.core.price import rates_from_usd
from hpp_middleware.dialects.openai import OpenAI
from hpp_middleware.dialects.presets import provider
from hpp_middleware.errors import RequestError
from hpp_middleware.types.completion import Target
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.price import Price
from hpp_middleware.types.provider import Limits, Model


def call(body: str, name: str = "openai") -> HTTPCall:
    target = Target(
        id=f"{name}/m",
        provider_name=name,
        model_name="m",
        provider=provider(name, api_key="sk-a-key"),
        model=Model(),
        price=Price(base=rates_from_usd({"input": "1", "output": "2"}, "m")),
    )
    request = parse.completion(body.encode(), Limits())
    return OpenAI().call(request, target, cap=None, request_id="req_1")


@pytest.mark.parametrize(
    "part",
    [
        '{"type":"file","file":{"file_id":"file-1"}}',
        '{"type":"document_url","document_url":"https://example.com/a.pdf"}',
        '{"type":"video_url","video_url":{"url":"https://example.com/a.mp4"}}',
        '{"type":"audio_url","audio_url":{"url":"https://example.com/a.mp3"}}',
    ],
)
def test_content_that_is_only_referred_to_is_refused(part: str) -> None:
    with pytest.raises(RequestError) as refused:
        call(f'{{"model":"openai/m","messages":[{{"role":"user","content":[{part}]}}]}}')
    assert refused.value.param == "messages[0].content[0]"


def test_content_that_is_sent_along_passes() -> None:
    part = '{"type":"file","file":{"file_data":"data:application/pdf;base64,AAAA","filename":"a.pdf"}}'
    sent = call(f'{{"model":"openai/m","messages":[{{"role":"user","content":[{part}]}}]}}')
    assert part.encode() in sent.body


def test_the_dearer_cache_is_refused_where_it_has_no_price() -> None:
    part = '{"type":"text","text":"hi","cache_control":{"type":"ephemeral","ttl":"TTL"}}'
    body = f'{{"model":"openai/m","messages":[{{"role":"user","content":[{part}]}}]}}'
    assert b"5m" in call(body.replace("TTL", "5m")).body
    with pytest.raises(RequestError) as refused:
        call(body.replace("TTL", "1h"))
    assert refused.value.param == "messages"


def test_a_provider_that_refuses_stream_options_is_never_sent_any() -> None:
    options = '"stream":true,"stream_options":{"include_usage":true}'
    body = '{"model":"NAME/m","messages":[{"role":"user","content":"x"}],' + options + "}"
    assert b"stream_options" not in call(body.replace("NAME", "mistral"), "mistral").body
    assert b"stream_options" in call(body.replace("NAME", "groq"), "groq").body
