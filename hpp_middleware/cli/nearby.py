"""Which model servers run on this machine: the presets whose port answers, and the models they list."""

import re

import anyio
import httpx2
import msgspec
from msgspec import Struct

from hpp_middleware.dialects.presets import PRESETS

__all__ = ["find"]

CONNECT_S = 0.3
ANSWER_S = 2.0
LARGEST_LIST = 1024 * 1024

_NAME = re.compile(r"[A-Za-z0-9._:/@-]{1,180}")


class _Listed(Struct):
    id: str


class _List(Struct):
    data: list[_Listed]


_lists = msgspec.json.Decoder(_List)


async def find(*, except_port: int) -> dict[str, list[str]]:
    """
    The models of each local preset that answers, by the preset's name.

    Args:
        except_port: Our own, which would answer too.
    """
    found: dict[str, list[str]] = {}
    timeout = httpx2.Timeout(ANSWER_S, connect=CONNECT_S)

    async def ask(client: httpx2.AsyncClient, name: str) -> None:
        models = await _models(client, PRESETS[name].base_url)
        if models:
            found[name] = models

    async with (
        httpx2.AsyncClient(timeout=timeout, trust_env=False, follow_redirects=False) as client,
        anyio.create_task_group() as tasks,
    ):
        for name, preset in PRESETS.items():
            if preset.local and httpx2.URL(preset.base_url).port != except_port:
                tasks.start_soon(ask, client, name)
    return {name: found[name] for name in PRESETS if name in found}


async def _models(client: httpx2.AsyncClient, base_url: str) -> list[str]:
    """The models that a server lists; none where it is silent, or says anything else."""
    with anyio.move_on_after(ANSWER_S):
        try:
            async with client.stream("GET", f"{base_url}/models") as response:
                body = await _bounded(response)
            if response.status_code == httpx2.codes.OK:
                return [model.id for model in _lists.decode(body).data if _NAME.fullmatch(model.id)]
        except (httpx2.HTTPError, msgspec.DecodeError, RecursionError):
            pass
    return []


async def _bounded(response: httpx2.Response) -> bytes:
    """The body, or its beginning: more than that is no list, and is read only to be let go."""
    body = bytearray()
    async for piece in response.aiter_bytes():
        if len(body) <= LARGEST_LIST:
            body += piece
    return bytes(body) if len(body) <= LARGEST_LIST else b""
