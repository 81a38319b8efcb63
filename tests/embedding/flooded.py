"""What the servers serve: a gateway before an upstream that never stops, for readers who do."""

import os

from hpp_middleware import Gateway, Provider, SQLiteStore
from hpp_middleware.types.provider import Declared, Limits

KEY = "alice-shows-this-key-of-hers"

gateway = Gateway(
    store=SQLiteStore(os.environ["HPP_DB"]),
    providers={"fake": Provider(base_url=os.environ["UPSTREAM_URL"], transport=os.environ.get("TRANSPORT", "auto"))},  # type: ignore[arg-type]
    models={"fake/fake-1": {"input": "1", "output": "2"}},
    consumers={"alice": Declared(quota=10**12, keys=(KEY,))},
    prices=None,
    limits=Limits(send_s=float(os.environ.get("SEND_S", "60"))),
)
app = gateway.app
