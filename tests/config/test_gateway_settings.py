"""What the file says reaches the gateway."""

from pathlib import Path

import pytest
from reading import KEY, LOCAL, read, refusal

from hpp_middleware.errors import ConfigurationError
from hpp_middleware.stores.sqlite import SQLiteStore
from hpp_middleware.types.provider import Declared, Limits


@pytest.mark.parametrize(("text", "place"), [("", "header"), ('[responses]\ncost = "usage"\n', "usage")])
def test_the_gateway_tells_the_cost_where_the_file_says(tmp_path: Path, text: str, place: str) -> None:
    assert read(tmp_path, LOCAL + text).gateway().setup.cost_in == place


def test_everything_reaches_the_gateway(tmp_path: Path) -> None:
    text = (
        LOCAL
        + '[models."local/m"]\ninput = "0"\noutput = "0"\n[aliases]\nfast = "local/m"\n[errors]\nformat = "simple"\n'
        '[billing]\nmissing_usage = "hold"\norphan = "free"\n[bounds]\nn = 2\nbody_s = 1.5\n'
        f'[consumers.alice]\nquota = "1"\nkeys = ["{KEY}"]\n'
    )
    gateway = read(tmp_path, text, HPP_PEPPER="sixteen-bytes-ok").gateway()
    assert [target.id for target in gateway.catalog.targets()] == ["local/m"]
    assert gateway.catalog.aliases == {"fast": "local/m"}
    assert gateway.limits == Limits(n=2, body_s=1.5)
    setup = gateway.setup
    assert (setup.error_format, setup.missing_usage, setup.orphan) == ("simple", "hold", "free")
    assert setup.pepper == b"sixteen-bytes-ok"
    assert setup.consumers == {"alice": Declared(quota=10**9, keys=(KEY,))}
    assert isinstance(setup.store, SQLiteStore)


@pytest.mark.parametrize("origin", ["*", "app.example", "https://*.example", "https://app.example/path"])
def test_an_origin_that_is_not_exact_is_refused(tmp_path: Path, origin: str) -> None:
    assert refusal(tmp_path, f'[server]\ncors_origins = ["{origin}"]') == [
        "server.cors_origins[0]: must be an exact origin, such as https://app.example.org"
    ]


def test_images_without_a_provider_are_the_configured_ones(tmp_path: Path) -> None:
    named = read(tmp_path, LOCAL + '[images]\nprovider = "local"\n')
    assert named.gateway().catalog.image_provider == "local"
    assert read(tmp_path, LOCAL).gateway().catalog.image_provider == "openai"


def test_a_default_provider_of_images_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"images\.provider: there is no provider 'nobody'"):
        read(tmp_path, LOCAL + '[images]\nprovider = "nobody"\n').gateway()


def test_what_an_image_costs_at_most_is_a_models_own(tmp_path: Path) -> None:
    section = '[models."local/m"]\ninput = "1"\noutput = "2"\noutput_image = "3"\nimage_output_tokens = 77\n'
    target = read(tmp_path, LOCAL + section).gateway().catalog.find("local/m")
    assert target is not None
    assert (target.model.image_output_tokens, target.price.base.output_image) == (77, 3 * 10**12)
