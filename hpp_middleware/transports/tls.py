"""Whom a transport trusts."""

import ssl
from functools import cache

__all__ = ["context"]


def context(ca_file: str | None) -> ssl.SSLContext:
    """
    Certificates and names are checked, and HTTP/1.1 is asked for.

    Args:
        ca_file: A file of certificates to trust instead of the usual authorities, which are httpx2's, and are read
            once in a process: that takes 40 ms, in which nothing else is done.
    Raises:
        OSError: The file cannot be read, or holds none.
    """
    return _usual() if ca_file is None else _with_alpn(ssl.create_default_context(cafile=ca_file))


@cache
def _usual() -> ssl.SSLContext:
    import httpx2  # when there is somebody to trust: it takes as long to import as the rest of the router

    return _with_alpn(httpx2.create_ssl_context(trust_env=False))


def _with_alpn(found: ssl.SSLContext) -> ssl.SSLContext:
    found.set_alpn_protocols(["http/1.1"])
    return found
