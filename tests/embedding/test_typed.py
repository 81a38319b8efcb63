"""What hosts give a gateway fits the types that it is checked by: ``make types`` reads this file as a host's own."""

from inspect import iscoroutinefunction, isfunction
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest

from hpp_middleware import Gateway, MemoryStore, Model, Provider, SQLiteStore
from hpp_middleware.asgi.metrics import Metrics
from hpp_middleware.audit import Sealing
from hpp_middleware.catalog.genai import GenaiPrices
from hpp_middleware.catalog.known import VendoredModels
from hpp_middleware.catalog.tokens import OpenAITokenizer
from hpp_middleware.cli.echo import Echo
from hpp_middleware.dialects.openai import OpenAI
from hpp_middleware.observers import LoggingObserver
from hpp_middleware.observers.prometheus import PrometheusObserver
from hpp_middleware.ports import LimitStore, Store
from hpp_middleware.stores.archived import ArchivedLedger, OpenedWhenUsed
from hpp_middleware.stores.memory import MemoryLimits
from hpp_middleware.stores.postgres import PostgresStore
from hpp_middleware.stores.redis import RedisStore
from hpp_middleware.transports.httpx import HttpxTransport

PROVIDERS = {"fake": Provider(base_url="http://127.0.0.1:9/v1")}
PEPPER = bytes(32)
MODELS = {"fake/m": {"input": "1", "output": "2"}, "fake/n": {"input": "1", "output": "2"}}
FALLBACKS = {"fake/m": ["fake/n"]}


@pytest.mark.anyio
async def test_the_clients_of_both_libraries_fit() -> None:
    async with httpx.AsyncClient() as older, httpx2.AsyncClient() as newer:
        Gateway(providers=PROVIDERS, client=older)
        Gateway(providers=PROVIDERS, client=newer)


def test_parts_of_the_package_fit(tmp_path: Path) -> None:
    archive = PostgresStore("postgresql://127.0.0.1:9/x")
    redis = RedisStore("redis://127.0.0.1:9/0", archive=OpenedWhenUsed(archive))
    sealing = Sealing(key=bytes(32), heads=tmp_path / "heads")
    Gateway(providers=PROVIDERS, store=redis, ledger=ArchivedLedger(redis, archive), pepper=PEPPER)
    Gateway(providers=PROVIDERS, store=archive, limit_store=redis, pepper=PEPPER, sealing=sealing)
    Gateway(providers=PROVIDERS, quota=MemoryStore(), credentials=SQLiteStore(tmp_path / "x.db"))
    Gateway(providers=PROVIDERS, limit_store=MemoryLimits(), transports={"fake": Echo()}, dialects={"own": OpenAI()})
    Gateway(providers=PROVIDERS, transports={"fake": HttpxTransport()}, models={"fake/m": Model()})
    Gateway(providers={"fake": Provider(base_url="http://127.0.0.1:9")}, models=MODELS, fallbacks=FALLBACKS)
    Gateway(providers=PROVIDERS, prices=GenaiPrices(), capabilities=VendoredModels(), tokenizer=OpenAITokenizer())
    Gateway(providers=PROVIDERS, prices=None, capabilities=None, tokenizer=None, journal=None)
    Gateway(providers=PROVIDERS, metrics=Metrics(PrometheusObserver()), observers=[LoggingObserver()])


@pytest.mark.parametrize("port", [Store, LimitStore])
@pytest.mark.parametrize("store", [MemoryStore, SQLiteStore, PostgresStore, RedisStore])
def test_a_port_asks_for_an_async_def_where_each_store_has_one(port: Any, store: Any) -> None:
    """Pyright, unlike mypy, lets nothing else in its place: the first lines of the README would be marked as wrong."""
    declared = {name: method for each in port.__mro__ for name, method in vars(each).items() if isfunction(method)}
    asked = {name for name, method in declared.items() if iscoroutinefunction(method)}
    assert {name for name in asked if not iscoroutinefunction(getattr(store, name))} == set()
    assert asked
