"""Which cells there are, and which of them cannot be, with the reason: the table in the docs is made of this."""

from typing import NamedTuple

from matrix.features import FEATURES
from matrix.vendors import VENDORS

__all__ = ["CELLS", "CLIENTS", "LLAMA", "LLAMA_APIS", "NO", "NO_BEFORE", "Cell", "Client", "Real", "reason"]


class Client(NamedTuple):
    """A row's client: how the table calls it, and the API that it speaks to us."""

    title: str
    api: str


CLIENTS: dict[str, Client] = {
    "openai-chat": Client("openai (Python), `chat.completions`", "chat"),
    "openai-responses": Client("openai (Python), `responses`", "Responses"),
    "anthropic": Client("anthropic (Python), `messages`", "Messages"),
    "langchain-chat": Client("LangChain, `ChatOpenAI`", "chat"),
    "langchain-responses": Client("LangChain, `ChatOpenAI(use_responses_api=True)`", "Responses"),
    "pydantic-ai": Client("pydantic-ai, `OpenAIChatModel`", "chat"),
    "instructor": Client("instructor, `from_openai`", "chat"),
    "llm-chat": Client("`llm`, `extra-openai-models.yaml`", "chat"),
    "llm-responses": Client("`llm`, with `responses: true`", "Responses"),
    "node-openai": Client("openai (Node), `chat.completions`", "chat"),
    "node-anthropic": Client("anthropic (Node), `messages`", "Messages"),
    "ai-sdk-compatible": Client("Vercel AI SDK, `@ai-sdk/openai-compatible`", "chat"),
    "ai-sdk-openai": Client("Vercel AI SDK, `@ai-sdk/openai`", "Responses"),
    "ai-sdk-anthropic": Client("Vercel AI SDK, `@ai-sdk/anthropic`", "Messages"),
}

NO: dict[tuple[str, str], str] = {
    ("langchain-chat", "reasoning"): (
        "`ChatOpenAI` leaves out `reasoning_content`, as its documentation says: it is no field of OpenAI's chat "
        "completions. By way of Responses it shows thoughts"
    ),
    (
        "llm-chat",
        "reasoning",
    ): "`llm` reads no `reasoning_content` of chat completions; by way of Responses it shows thoughts",
}
"""Client and feature: what the client does not tell its user, whatever the dialect. It is asked all the same."""
NO_BEFORE: dict[tuple[str, str, str], str] = {
    ("instructor", "ollama", "tools"): (
        "instructor's `Mode.TOOLS` demands a call by `tool_choice`, which Ollama's API has not: a 400 that says so. "
        "`Mode.JSON_SCHEMA` does it"
    ),
}
"""Client, dialect and feature: what we refuse, with a 400 that says why. It is asked all the same."""


class Cell(NamedTuple):
    """One cell, and the number that its consumer and its prompts have."""

    number: int
    client: str
    vendor: str
    feature: str

    @property
    def id(self) -> str:
        """The test's."""
        return f"{self.client}-{self.vendor}-{self.feature}"


CELLS: list[Cell] = [
    Cell(number, client, vendor, feature)
    for number, (client, vendor, feature) in enumerate(
        (client, vendor, feature) for client in CLIENTS for vendor in VENDORS for feature in FEATURES
    )
]


def reason(cell: Cell) -> str | None:
    """Why a cell cannot be; None where it can."""
    return NO.get((cell.client, cell.feature)) or NO_BEFORE.get((cell.client, cell.vendor, cell.feature))


class Real(NamedTuple):
    """A cell before llama.cpp's server, which is asked by one of its APIs."""

    client: str
    api: str
    feature: str

    @property
    def id(self) -> str:
        """The test's."""
        return "-".join(self)


LLAMA_APIS: dict[str, str] = {"chat": "chat", "responses": "Responses", "messages": "Messages"}
"""The APIs of llama.cpp's server that are passed on; a client of another API is translated."""
LLAMA: list[Real] = [
    Real(client, api, feature)
    for client in ("openai-chat", "openai-responses", "anthropic")
    for api in LLAMA_APIS
    for feature in ("json", "stream")
]
