"""
Anthropic's Messages API, as a provider speaks it.

``request`` says a chat completion in its words, ``thinking`` what reasoning is called there, ``reading`` what its
answers mean, ``usage`` what they cost, ``errors`` what its refusals are; ``native`` and ``passing`` pass on requests
and answers that are in its words already.

Facts are from Anthropic's API reference (https://platform.claude.com/docs/en/api/messages) and from the types of its
Python SDK 2.14.
"""

from hpp_middleware.dialects.anthropic.dialect import Anthropic

__all__ = ["Anthropic"]
