"""Amazon Bedrock's Converse and ConverseStream: requests, answers, and errors."""

from hpp_middleware.dialects.bedrock.dialect import Bedrock, region_of

__all__ = ["Bedrock", "region_of"]
