"""The same as :mod:`hosted`, in a host whose lifespan knows nothing of the gateway."""

from starlette.applications import Starlette
from starlette.routing import Mount

from embedding.hosted import gateway

app = Starlette(routes=[Mount("/", gateway.app)])
