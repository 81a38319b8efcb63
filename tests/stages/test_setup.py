"""Settings given in Python: the same figures as in a file, and faults that name the setting."""

from typing import Any

import pytest

from hpp_middleware import ConfigurationError, Gateway, Model, Provider, SQLiteStore
from hpp_middleware.core.price import RATES, rates_from_usd
from hpp_middleware.stages.checked import model_from
from hpp_middleware.types.price import Price

PROVIDERS = {"fake": Provider(base_url="http://127.0.0.1:9/v1")}


def test_every_rate_can_be_given_by_mapping() -> None:
    rates = {name: str(number) for number, name in enumerate(RATES, start=1)}
    model = model_from("fake/m", {**rates, "context": 8_000, "reasoning_model": True})
    assert model == Model(price=Price(base=rates_from_usd(dict(rates), "m")), context=8_000, reasoning=True)
    assert model.price is not None
    assert model.price.base.reasoning == 6 * 10**12
    assert model.price.base.web_search == 12 * 10**15


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"providers": {"fake": {"base_url": "http://127.0.0.1:9/v1"}}}, "providers.fake"),
        ({"providers": PROVIDERS, "store": "sqlite:///x.db"}, "store"),
        ({"providers": PROVIDERS, "models": {"fake/m": {"input": "1"}}}, "output"),
        ({"providers": PROVIDERS, "models": {"fake/m": {"input": "1", "output": "1", "prize": "1"}}}, "fake/m"),
        ({"providers": PROVIDERS, "error_format": "flat"}, "error_format"),
    ],
)
def test_a_wrong_setting_is_named_while_building(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        Gateway(**settings)


def test_a_database_in_no_directory_is_said_so(tmp_path: Any) -> None:
    store = SQLiteStore(tmp_path / "none" / "hpp.db")
    with pytest.raises(ConfigurationError, match="no directory"):
        store.pepper()
