r"""
The conformance suite of the dialect port: what a dialect of your own can be held to.

Plain asserts, so that any runner can use them; each message is the promise that it checks. ::

    check_dialect(
        MyDialect(),
        Sample(
            provider=Provider(base_url="https://api.example.com", api_key="sk-example"),
            answer=b'{"text": "Hello", "tokens": {"in": 9, "out": 2}}',
            stream=b'{"text": "Hel"}\n{"text": "lo", "why": "end"}\n{"tokens": {"in": 9, "out": 2}}\n',
            text="Hello",
            usage=Usage(input=9, output=2),
        ),
    )

``Sample`` is an answer of the provider's as it really comes, whole and as a stream, and what it means. Take several:
one with tool calls, one with cached tokens, and so on. Nothing is awaited, and nothing is connected to.
``DIALECT_PROMISES`` names every promise by itself: ``promise(dialect, sample)``.
"""

from hpp_middleware.ports import Dialect
from hpp_middleware.testing.dialects import answering, asking, streaming
from hpp_middleware.testing.dialects.bench import DialectPromise, Sample

__all__ = ["DIALECT_PROMISES", "DialectPromise", "Sample", "check_dialect"]

DIALECT_PROMISES: tuple[DialectPromise, ...] = (*asking.PROMISES, *answering.PROMISES, *streaming.PROMISES)


def check_dialect(dialect: Dialect, sample: Sample) -> None:
    """Hold a :class:`~hpp_middleware.ports.Dialect` to every promise."""
    for promise in DIALECT_PROMISES:
        promise(dialect, sample)
