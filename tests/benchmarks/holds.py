"""
How much is held for what is used in the end: hold / actual over a mix of requests, with and without a tokenizer.

    python tests/benchmarks/holds.py [--each]

``requests.jsonl`` has 67 chat requests to OpenAI's models, each with its answer: translations, classifications, answers
from documents, summaries, extractions by a schema, code, agents with tools, chats; in a dozen languages. They were
written for this purpose; no user's words are in them. A capped one has the cap that a client would set: a round number
above the longest answer that such a task may need, chosen before anything was measured. The hold is the gateway's own,
at the price list's prices. Actual is an upstream's that obeys: the prompt by OpenAI's own rules
(``openai_tokens.py``), and the answer that is recorded.
"""

import argparse
import json
import sys
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from openai_tokens import answer_tokens, prompt_tokens

from hpp_middleware.catalog.genai import GenaiPrices
from hpp_middleware.catalog.tokens import OpenAITokenizer
from hpp_middleware.core import parse, price, route
from hpp_middleware.dialects import presets
from hpp_middleware.dialects.openai import OpenAI
from hpp_middleware.stages.attempts.plan import Plan
from hpp_middleware.types.completion import Request, Target
from hpp_middleware.types.consumer import Consumer
from hpp_middleware.types.price import Usage
from hpp_middleware.types.provider import Limits

CONSUMER = Consumer(id="benchmark")
MIX = Path(__file__).with_name("requests.jsonl")


class Row(NamedTuple):
    """
    One request's figures.

    Attributes:
        hold: Hold / actual.
        prompt: The part of the hold that the prompt takes / what its tokens cost, all of them uncached.
    """

    kind: str
    capped: bool
    hold: float
    prompt: float


class Bench:
    """A gateway's path up to the hold, with and without a tokenizer."""

    def __init__(self) -> None:
        self.tokenizer = OpenAITokenizer()
        self.catalog = route.Catalog(
            providers={"openai": presets.provider("openai", api_key="none")},
            models={},
            aliases={},
            prices=GenaiPrices(),
        )
        self.tokenizer.load(["gpt-4o"])

    def row(self, recorded: dict[str, Any], *, counted: bool) -> Row:
        """What one recorded request is held for, and what it comes to."""
        body = {**recorded["request"], "model": f"openai/{recorded['request']['model']}"}
        request = parse.completion(json.dumps(body, ensure_ascii=False).encode(), Limits())
        target = route.resolve(request, CONSUMER, self.catalog)
        want, used = self._hold(request, target, counted=counted), self._usage(recorded)
        output = Usage(output=request.n * (request.cap or Limits().default_cap))
        prompt = want - price.cost(output, target.price)
        return Row(
            kind=recorded["kind"],
            capped=request.cap is not None,
            hold=want / price.cost(used, target.price),
            prompt=prompt / price.cost(Usage(input=used.prompt), target.price),
        )

    def _hold(self, request: Request, target: Target, *, counted: bool) -> int:
        plan = Plan(
            request,
            target,
            OpenAI(),
            request_id="benchmark",
            limits=Limits(),
            orphan="estimate",
            tokenizer=self.tokenizer if counted else None,
        )
        return plan.reserve(CONSUMER, "benchmark", client_request_id=None).want

    def _usage(self, recorded: dict[str, Any]) -> Usage:
        def count(text: str) -> int:
            found = self.tokenizer.count(text, recorded["request"]["model"])
            if found is None:
                raise ValueError(f"{recorded['request']['model']} is not counted")
            return found

        prompt, cached = prompt_tokens(recorded["request"], count), recorded.get("cached_tokens", 0)
        answer = answer_tokens(recorded["answer"], recorded.get("tool_calls", []), count)
        return Usage(
            input=prompt - cached,
            cache_read=cached,
            output=answer * recorded["request"].get("n", 1),
            reasoning=recorded.get("reasoning_tokens", 0),
        )


def recorded() -> list[dict[str, Any]]:
    """The mix."""
    return [json.loads(line) for line in MIX.read_text("utf-8").splitlines()]


def line(name: str, figures: list[float]) -> str:
    """A line of the table: median, ninth decile, least."""
    ordered = sorted(figures)
    p90 = ordered[min(len(ordered) - 1, len(ordered) * 9 // 10)]
    return f"| {name} | {len(ordered)} | {median(ordered):.2f} | {p90:.2f} | {ordered[0]:.2f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", action="store_true", help="print each request's figures, too")
    each, bench = parser.parse_args().each, Bench()
    print("| hold / actual | requests | median | p90 | least |\n|---|---|---|---|---|")
    for counted, how in ((True, "with a tokenizer"), (False, "by bytes")):
        rows = [bench.row(one, counted=counted) for one in recorded()]
        print(line(f"capped, {how}", [row.hold for row in rows if row.capped]))
        print(line(f"uncapped, {how}", [row.hold for row in rows if not row.capped]))
        print(line(f"the prompt alone, {how}", [row.prompt for row in rows]))
        for row in rows if each else ():
            print(f"    {row.kind:10} {'capped' if row.capped else 'uncapped':8} {row.hold:8.2f} {row.prompt:8.2f}")


if __name__ == "__main__":
    main()
