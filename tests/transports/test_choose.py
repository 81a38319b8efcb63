"""Which client reaches a provider."""

from pathlib import Path

import pytest

from hpp_middleware import Gateway, Provider
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.transports import choose as choosing
from hpp_middleware.transports.choose import check, choose

pytestmark = pytest.mark.anyio


def kind(provider: Provider, *, is_asyncio: bool = True) -> str:
    return type(choose("fake", provider, is_asyncio=is_asyncio)).__name__


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_auto_takes_the_first_that_can_do_it(anyio_backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Provider(base_url="http://127.0.0.1:1/v1")
    proxied = Provider(base_url="http://127.0.0.1:1/v1", proxy="http://127.0.0.1:2")
    named = Provider(base_url="http://user:word@127.0.0.1:1/v1")
    assert (kind(plain), kind(proxied), kind(named)) == ("NativeTransport", "AiohttpTransport", "AiohttpTransport")
    assert kind(plain, is_asyncio=False) == "HttpxTransport"
    monkeypatch.setattr(choosing, "find_spec", lambda name: None if name == "httptools" else name)
    assert kind(plain) == "AiohttpTransport"
    monkeypatch.setattr(choosing, "find_spec", lambda name: None)
    assert (kind(plain), kind(proxied)) == ("HttpxTransport", "HttpxTransport")


@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.parametrize("name", ["native", "aiohttp"])
async def test_one_that_is_named_needs_its_event_loop(anyio_backend: str, name: str) -> None:
    provider = Provider(base_url="http://127.0.0.1:1/v1", transport=name)  # type: ignore[arg-type]
    gateway = Gateway(providers={"fake": provider}, prices=None)
    with pytest.raises(ConfigurationError, match=f"providers.fake.transport = '{name}' needs asyncio"):
        async with gateway.lifespan():
            pass


@pytest.mark.parametrize(("name", "extra"), [("native", "fast"), ("aiohttp", "aiohttp")])
def test_one_that_is_not_installed_is_refused_with_its_extra(
    name: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=rf"providers\.fake\.transport needs .*\[{extra}\]"):
        check("fake", Provider(base_url="http://127.0.0.1:1/v1", transport=name))  # type: ignore[arg-type]


def test_a_user_in_the_url_is_refused_where_it_would_not_be_sent_or_in_the_place_of_the_key() -> None:
    url = "http://user:word@127.0.0.1:1/v1"
    Gateway(providers={"fake": Provider(base_url=url)}, prices=None)
    Gateway(providers={"fake": Provider(base_url="http://127.0.0.1:1/@cf/v1", api_key="key")}, prices=None)
    with pytest.raises(ConfigurationError, match=r"providers\.fake\.transport cannot be native") as native:
        Gateway(providers={"fake": Provider(base_url=url, transport="native")}, prices=None)
    with pytest.raises(ConfigurationError, match=r"providers\.fake\.base_url names a user") as keyed:
        Gateway(providers={"fake": Provider(base_url=url, api_key="key")}, prices=None)
    assert "word" not in f"{native.value}{keyed.value}"


def test_a_file_of_certificates_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "noise.pem").write_text("noise")
    for file in ("none.pem", "noise.pem"):
        provider = Provider(base_url="https://127.0.0.1:1/v1", ca_file=str(tmp_path / file))
        with pytest.raises(ConfigurationError, match=r"providers\.fake\.ca_file"):
            Gateway(providers={"fake": provider}, prices=None)


@pytest.mark.parametrize(
    "url", ["http://x:port/v1", "http://x:99999/v1", "http://[::1/v1", "http://:80/v1", "http:///v1"]
)
def test_an_address_that_names_no_place_is_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"providers\.fake\.base_url"):
        Gateway(providers={"fake": Provider(base_url=url)}, prices=None)


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        ({"transport": "curl"}, "transport"),
        ({"proxy": "socks5://x"}, "proxy"),
        ({"proxy": "http://x", "transport": "native"}, "transport"),
        ({"connections": 0}, "connections"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(settings: dict[str, object], param: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Provider(base_url="http://127.0.0.1:1/v1", **settings)  # type: ignore[arg-type]
    assert caught.value.param == param
