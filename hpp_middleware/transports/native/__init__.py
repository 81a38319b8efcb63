"""
The router's own HTTP/1.1 client, for asyncio: what is relayed goes through as few hands as possible.

HTTP/1.1 only, no proxies, no redirects, no cookies, no compression. It needs ``httptools`` (the ``fast`` extra).
"""

from hpp_middleware.transports.native.transport import NativeTransport

__all__ = ["NativeTransport"]
