"""Settings given in Python: the same figures as in a file, and faults that name the setting."""

from typing import Any

import pytest

from hpp_middleware import ConfigurationError, Gateway, Model, Provider, SQLiteStore
from hpp_middleware.catalog.known import VendoredModels
from hpp_middleware.core.price import RATES, rates_from_usd
from hpp_middleware.stages.setup.checked import model_from
from hpp_middleware.types.price import Price

PROVIDERS = {"fake": Provider(base_url="http://127.0.0.1:9/v1")}


def test_every_rate_can_be_given_by_mapping() -> None:
    rates = {name: str(number) for number, name in enumerate(RATES, start=1)}
    model = model_from("fake/m", {**rates, "context": 8_000, "reasoning_model": True})
    assert model == Model(price=Price(base=rates_from_usd(dict(rates), "m")), context=8_000, reasoning=True)
    assert model.price is not None
    assert model.price.base.reasoning == int(rates["reasoning"]) * 10**12
    assert model.price.base.web_search == int(rates["web_search"]) * 10**15


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"providers": {"fake": {"base_url": "http://127.0.0.1:9/v1"}}}, "providers.fake"),
        ({"providers": PROVIDERS, "store": "sqlite:///x.db"}, "store"),
        ({"providers": PROVIDERS, "models": {"fake/m": {"input": "1"}}}, "output"),
        ({"providers": PROVIDERS, "models": {"fake/m": {"input": "1", "output": "1", "prize": "1"}}}, "fake/m"),
        ({"providers": PROVIDERS, "error_format": "flat"}, "error_format"),
        ({"providers": PROVIDERS, "quota_status": 403}, "quota_status"),
        ({"providers": PROVIDERS, "capabilities": "models.json"}, "capabilities"),
        ({"providers": PROVIDERS, "capabilities": object()}, "capabilities"),
    ],
)
def test_a_wrong_setting_is_named_while_building(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        Gateway(**settings)


class Told:
    """Capabilities of one's own, that hear which providers there are."""

    def __init__(self) -> None:
        self.loaded: list[str] = []

    def load(self, providers: list[str]) -> None:
        self.loaded += providers

    def find(self, provider: str, model: str) -> Model | None:
        return Model(name=f"{provider}: {model}")


@pytest.mark.anyio
async def test_capabilities_of_ones_own_are_told_the_providers_at_the_start_and_asked() -> None:
    told = Told()
    providers = {**PROVIDERS, "x": Provider(base_url="http://127.0.0.1:9/v1", prices="x-ai")}
    models = {name: {"input": "1", "output": "1"} for name in ("fake/a", "x/b")}
    async with Gateway(providers=providers, models=models, prices=None, capabilities=told) as gateway:
        assert told.loaded == ["fake", "x-ai"]
        assert [target.model.name for target in gateway.catalog.targets()] == ["fake: a", "x-ai: b"]


@pytest.mark.anyio
async def test_a_gateway_reads_the_catalogue_for_its_own_providers_only_and_shares_nothing() -> None:
    providers = {"openai": Provider(base_url="http://127.0.0.1:9/v1")}
    first = Gateway(providers=providers, prices=None)
    second = Gateway(providers=providers, prices=None)
    catalogue = first.catalog.capabilities
    assert isinstance(catalogue, VendoredModels)
    assert catalogue._sections == {}
    async with first:
        assert catalogue._sections.keys() == {"openai"}
    assert isinstance(second.catalog.capabilities, VendoredModels)
    assert second.catalog.capabilities._sections == {}


def test_a_database_in_no_directory_is_said_so(tmp_path: Any) -> None:
    store = SQLiteStore(tmp_path / "none" / "hpp.db")
    with pytest.raises(ConfigurationError, match="no directory"):
        store.pepper()
