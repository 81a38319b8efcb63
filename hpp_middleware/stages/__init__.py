"""
The awaiting half of each stage of the path: auth, route, reserve, upstream, relay, settle, each a module or a folder.

The deciding half has the same name in ``core``. Beside the path stand what carries a request along it (``attempts``),
what a gateway is made of (``setup``) and has in one event loop (``worker``), the limits, and how work is stopped
(``tasks``).
"""
