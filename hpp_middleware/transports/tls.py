"""Whom a transport trusts."""

import ssl

__all__ = ["context"]


def context(ca_file: str | None) -> ssl.SSLContext:
    """
    Certificates and names are checked, and HTTP/1.1 is asked for.

    Args:
        ca_file: A file of certificates to trust instead of the usual authorities, which are httpx2's.
    Raises:
        OSError: The file cannot be read, or holds none.
    """
    if ca_file is not None:
        found = ssl.create_default_context(cafile=ca_file)
    else:
        import httpx2  # when there is somebody to trust: it takes as long to import as the rest of the router

        found = httpx2.create_ssl_context(trust_env=False)
    found.set_alpn_protocols(["http/1.1"])
    return found
