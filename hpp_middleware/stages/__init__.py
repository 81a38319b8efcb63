"""
The awaiting half of each stage of the path: auth, route, reserve, upstream, relay, settle, each a module or a folder.

What they carry out is decided in ``core``; ``docs/architecture.md`` says where. Beside the path stand what carries a
request along it (``attempts``), what a gateway is made of (``setup``) and has in one event loop (``worker``), the
limits, how work is stopped (``tasks``), and what counts a prompt, free of charge (``count``).
"""
