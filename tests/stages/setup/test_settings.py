"""``Gateway(...)`` is checked like a function of its own: by type checkers, and while it is built."""

import inspect
from collections.abc import Callable
from typing import Any, ForwardRef, get_args

import httpx2
import pytest

from hpp_middleware import ConfigurationError, Consumer, Gateway, Provider, SQLiteStore
from hpp_middleware.accounts import Accounts
from hpp_middleware.stages.setup.settings import GatewaySettings
from hpp_middleware.stages.setup.setup import Setup
from hpp_middleware.stores.memory import MemoryStore
from hpp_middleware.types.provider import Declared
from hpp_middleware.types.upstreams import Upstream

URL = "http://127.0.0.1:9/v1"
PROVIDERS = {"fake": Provider(base_url=URL)}
KEY = "a-made-up-key-of-alice"


def test_what_type_checkers_see_is_what_a_gateway_takes() -> None:
    taken = dict(inspect.signature(Setup).parameters)
    seen = dict(GatewaySettings.__annotations__)
    assert list(taken) == list(seen)
    (seen["providers"],) = get_args(seen["providers"])  # Required[...]
    assert [name for name, each in taken.items() if each.default is each.empty] == ["providers"]
    assert GatewaySettings.__required_keys__ == {"providers"}
    for name, each in taken.items():
        told = seen[name].__forward_arg__ if isinstance(seen[name], ForwardRef) else seen[name]
        assert told == each.annotation, name


def test_a_setting_that_there_is_not_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(TypeError, match=r"no setting 'modles'; did you mean models\?"):
        Gateway(providers=PROVIDERS, modles={})  # type: ignore[call-arg]  # which a type checker says, too


class Awaited:
    async def observe(self, event: object) -> None: ...


class Seen:
    def observe(self, event: object) -> None: ...


class Reached:
    async def send(self, call: object, *, provider: str, sent: object) -> None: ...

    async def aclose(self) -> None: ...


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"providers": ["fake"]}, "providers must be a mapping"),
        ({"providers": {"fake": URL}}, r"providers\.fake must be a Provider"),
        ({"models": {"fake/m": "0.25"}}, "models.fake/m must be a Model or Mapping"),
        ({"consumers": {"alice": {"quota": 5}}}, "consumers.alice must be a Declared"),
        ({"consumers": ["alice"]}, "consumers must be a mapping"),
        ({"fallbacks": {"fake/m": "fake/n"}}, "fallbacks.fake/m must be"),
        ({"store": SQLiteStore}, "store must be a store"),
        ({"limits": 3}, "limits must be Limits"),
        ({"load": {"in_flight": 3}}, "load must be Load"),
        ({"prices": "genai"}, "prices must have a method find"),
        ({"observers": [print]}, "observers must have a method observe"),
        ({"observers": [Awaited()]}, "observe must not be async"),
        ({"client": httpx2.Client}, "client must"),
        ({"transports": {"fkae": Reached()}}, "transports.fkae: there is no provider fkae"),
        ({"transports": {"fake": Reached}}, "transports.fake must have a method send"),
        ({"dialects": {"own": object()}}, "dialects.own must have a method call"),
        ({"prices": {}}, "prices must have a method find"),
        ({"credentials": {}, "pepper": bytes(32)}, "credentials must have a method find"),
        ({"ledger": "ledger.db"}, "ledger must have a method entries"),
        ({"unhealthy": ["fake/m"]}, "unhealthy must be callable"),
        ({"observers": Seen()}, "observers must be several"),
        ({"budgets": ["5.00"]}, r"budgets\[0\] must be a Budget"),
        ({"budgets": "5.00"}, "budgets must be several"),
        ({"rate_limits": 5}, "rate_limits must be several"),
        ({"journal": 5}, "journal must be a str or Path"),
        ({"journal_slots": "64"}, "journal_slots must be a whole number"),
        ({"image_provider": ["fake"]}, "image_provider must be a str"),
        ({"metrics": Seen()}, "metrics must be Metrics"),
        ({"cors_origins": 5}, "cors_origins must be several"),
        ({"authenticate": "alice"}, "authenticate must be callable"),
        ({"cors_origins": "https://app.example"}, "cors_origins must be several"),
    ],
)
def test_a_setting_of_another_kind_is_named_while_building(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Gateway(**{"providers": PROVIDERS, **settings})


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/chat/completions/"])
def test_a_base_url_that_is_an_endpoints_is_named_while_building(path: str) -> None:
    with pytest.raises(ConfigurationError, match="base_url must end before /chat/completions"):
        Provider(base_url=f"https://llm.example{path}")
    below = "https://llm.example/chat/completions/v1"
    assert Provider(base_url=below).base_url == below


def test_a_transport_may_be_a_providers_or_one_of_its_upstreams() -> None:
    provider = Provider(base_url=URL, upstreams=(Upstream(name="near"), Upstream(name="far")))
    own: Any = Reached()
    for name in ("fake", "fake#near"):
        Gateway(providers={"fake": provider}, transports={name: own}, prices=None)
    with pytest.raises(ConfigurationError, match="there is no provider fake#nowhere"):
        Gateway(providers={"fake": provider}, transports={"fake#nowhere": own}, prices=None)


def test_a_client_that_blocks_is_refused() -> None:
    with httpx2.Client() as client, pytest.raises(ConfigurationError, match="client must be an AsyncClient"):
        Gateway(providers=PROVIDERS, client=client)  # type: ignore[arg-type]


def test_no_observers_are_none() -> None:
    given: Any = None
    assert Gateway(providers=PROVIDERS, observers=given).setup.observers == ()


ONE: Any = "fake/*"
"""A text where several are asked for: the ``*`` among its letters would be every model."""


@pytest.mark.parametrize(
    "make",
    [
        lambda: Declared(models=ONE),
        lambda: Declared(keys=ONE),
        lambda: Declared(requires=ONE),
        lambda: Provider(base_url=URL, models=ONE),
        lambda: Provider(base_url=URL, native_apis=ONE),
        lambda: Provider(base_url=URL, cap_fields=ONE),
    ],
)
def test_one_text_in_the_place_of_several_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigurationError, match="must be several texts"):
        make()


def test_a_consumer_has_texts_for_names_and_several_models() -> None:
    number: Any = 7
    for wrong in ({"id": number}, {"id": None}, {"id": "alice", "account": number}):
        with pytest.raises(TypeError, match="id and account must be str"):
            Consumer(**wrong)
    with pytest.raises(TypeError, match="key_id must be str, or None"):
        Consumer(id="alice", key_id=number)
    for wrong in ({"models": ONE}, {"parents": ONE}):
        with pytest.raises(TypeError, match="must be several"):
            Consumer(id="alice", **wrong)


@pytest.mark.anyio
async def test_a_key_for_one_glob_that_is_no_list_is_not_a_key_for_every_model() -> None:
    store = MemoryStore()
    accounts = Accounts(store, store, bytes(32))
    with pytest.raises(ConfigurationError, match="models must be several"):
        await accounts.create_key("alice", quota="5.00", models="fake/*")
    assert (await accounts.keys(), (await store.balance("alice")).quota) == ([], 0)
    with pytest.raises(ConfigurationError, match="consumer must be"):
        await accounts.create_key(7, quota="5.00")  # type: ignore[arg-type]


@pytest.mark.parametrize("quota", ["5.00", 5e9, True])
def test_a_declared_quota_is_whole_nano_dollars(quota: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"5_000_000_000 is \$5"):
        Declared(quota=quota, keys=(KEY,))


@pytest.mark.parametrize(("name", "given"), [("timeouts", 5), ("breaker", False), ("base_url", None)])
def test_a_provider_names_a_setting_of_another_kind(name: str, given: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} must be "):
        Provider(**{"base_url": URL, name: given})
