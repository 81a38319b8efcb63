"""nginx as a plain reverse proxy with keep-alive to the upstream: one process, no log, no buffering."""

import os
import shutil
from pathlib import Path

__all__ = ["command", "path"]


def path() -> str:
    """Where it is; empty where it is not installed."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin") or ""


def command(folder: Path, *, port: int, upstream: int) -> list[str]:
    """Write its configuration, and what starts it."""
    (folder / "nginx.conf").write_text(_configuration(port, upstream), "utf-8")
    return [path(), "-e", str(folder / "error.log"), "-p", str(folder), "-c", str(folder / "nginx.conf")]


def _configuration(port: int, upstream: int) -> str:
    return f"""
daemon off; master_process off; pid nginx.pid; error_log error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000; client_max_body_size 20m; client_body_buffer_size 2m;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  upstream fake {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    location / {{
      proxy_pass http://fake; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""
