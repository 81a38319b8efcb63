"""What the servers serve: a gateway before the upstream that the environment names, with its accounts in SQLite."""

import os

from hpp_middleware import Gateway, Provider, SQLiteStore
from hpp_middleware.types.load import Load
from hpp_middleware.types.provider import Declared

KEY = "alice-shows-this-key-of-hers"

gateway = Gateway(
    store=SQLiteStore(os.environ["HPP_DB"]),
    providers={"paced": Provider(base_url=os.environ["UPSTREAM_URL"])},
    models={"paced/paced-1": {"input": "1", "output": "2"}},
    consumers={"alice": Declared(quota=10**9, keys=(KEY,))},
    prices=None,
    load=Load(grace_s=float(os.environ.get("GRACE_S", "25"))),
)
app = gateway.app
