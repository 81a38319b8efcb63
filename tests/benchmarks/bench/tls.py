"""Certificates for the upstream over TLS, and where it listens."""

import os
import ssl
from pathlib import Path

__all__ = ["PORT", "authority", "prepare", "server_context"]

PORT = "port"
_FOLDER = "HPP_BENCH_TLS"


def prepare(folder: Path) -> None:
    """Make them, for this process's children."""
    import trustme

    folder.mkdir(parents=True, exist_ok=True)
    issued = trustme.CA()
    issued.cert_pem.write_to_path(str(folder / "ca.pem"))
    issued.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(folder / "localhost.pem"))
    os.environ[_FOLDER] = str(folder)


def server_context() -> tuple[ssl.SSLContext, Path] | None:
    """The upstream's, and the file in which it tells its port; None where nobody asked for it."""
    if (folder := os.environ.get(_FOLDER)) is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(folder) / "localhost.pem")
    return context, Path(folder) / PORT


def authority() -> tuple[str, str]:
    """The upstream's URL, and the certificates to trust."""
    folder = Path(os.environ[_FOLDER])
    return f"https://localhost:{(folder / PORT).read_text()}", str(folder / "ca.pem")
