"""Two routers on one store: what one finds out of an upstream, the other knows without having asked it."""

import time
from pathlib import Path

import pytest
from background import BackgroundUpstream
from running import router

from hpp_middleware.testing import Script

KEY = "a-secret-of-20-characters"
STORES = {
    "sqlite": "sqlite:///{shared}/hpp.db",
    "postgres": "env:POSTGRES",
    "redis": "env:REDIS",
}


@pytest.mark.parametrize("kind", STORES)
def test_one_sees_it_fail_and_the_other_stops_asking(
    kind: str, tmp_path: Path, background_upstream: BackgroundUpstream, postgres_dsn: str, redis_url: str
) -> None:
    text = (
        f'[store]\nurl = "{STORES[kind].format(shared=tmp_path)}"\n'
        f'[providers.fake]\nbase_url = "{background_upstream.url}"\n'
        "retries = 0\nbreaker = { failures = 3, cooldown = 300 }\n"
        f'[models."fake/fake-1"]\ninput = "1"\noutput = "2"\n[consumers.alice]\nquota = "5"\nkeys = ["{KEY}"]\n'
    )
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "router.toml").write_text(text, "utf-8")
    variables = {"POSTGRES": postgres_dsn, "REDIS": redis_url, "HPP_PEPPER": "sixteen-bytes-ok"}
    body = {"model": "fake/fake-1", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100}
    with (
        router(tmp_path / "one", "serve", **variables) as one,
        router(tmp_path / "other", "serve", **variables) as other,
    ):
        assert one.chat(KEY, body).status_code == 200
        background_upstream.next(*[Script(status=500)] * 3)
        assert [one.chat(KEY, body).status_code for _ in range(4)] == [502, 502, 502, 503]
        upstreams = {"fake": {"state": "closed"}}
        until = time.monotonic() + 60
        while upstreams["fake"]["state"] == "closed" and time.monotonic() < until:
            time.sleep(0.05)
            upstreams = other.client.get("/readyz").json()["upstreams"]
        assert upstreams["fake"]["state"] == "open"
        refused = other.chat(KEY, body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "upstream_unavailable")
    assert len(background_upstream.log) == 4, "the other has asked it"
