"""``hpp-router serve`` as a process."""

import mmap
import platform
import signal
import socket
import subprocess
import sys
from pathlib import Path

import anyio
import httpx2
import pytest
from faults import confined
from running import Running, command, environment, router
from servers import free_port

from hpp_middleware.testing import FakeUpstream

KEY = "a-secret-of-20-characters"
MEMORY = f"""
[store]
url = "memory:"
[providers.local]
base_url = "http://127.0.0.1:9/v1"
[models."local/m"]
input = "1"
output = "2"
[consumers.alice]
quota = "5"
keys = ["{KEY}"]
"""


def configured(folder: Path, text: str = MEMORY, name: str = "router.toml") -> Path:
    (folder / name).write_text(text, "utf-8")
    return folder


def test_it_says_where_it_listens_before_it_serves(tmp_path: Path) -> None:
    with router(configured(tmp_path), "serve") as served:
        assert served.head == [f"hpp-router listens on {served.url} (1 provider, 1 model, 1 declared consumer)"]
        assert served.get("/healthz").status_code == 200
        assert served.get("/readyz").status_code == 200


def test_a_memory_store_with_declared_consumers_needs_no_command(tmp_path: Path) -> None:
    with router(configured(tmp_path), "serve") as served:
        assert served.get("/api/quota-check", KEY).json() == {
            "has_quota": True,
            "quota": 5,
            "used": 0,
            "remaining": 5,
            "held": 0,
            "available": 5,
        }
        assert [model["id"] for model in served.get("/llm/v1/models").json()["data"]] == ["local/m"]


def test_a_wrong_key_is_a_401(tmp_path: Path) -> None:
    with router(configured(tmp_path), "serve") as served:
        response = served.get("/api/usage", "another-secret-of-20-characters")
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "unauthorized"


def test_responses_carry_a_date_and_no_server_name(tmp_path: Path) -> None:
    with router(configured(tmp_path), "serve") as served:
        headers = served.get("/healthz").headers
        assert "date" in headers
        assert "server" not in headers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: int) -> None:
    with router(configured(tmp_path), "serve") as served:
        assert served.get("/healthz").status_code == 200
        done = served.stop(number)
    assert (done.code, done.out, done.err) == (0, "", "")


def test_a_signal_lets_the_answer_in_flight_end(tmp_path: Path) -> None:
    with router(tmp_path, "demo", last="Stop with") as served:
        key = served.head[2].split()[-1]
        body = {"model": "demo/echo", "stream": True, "messages": [{"role": "user", "content": "word " * 20}]}
        with served.client.stream("POST", "/llm/v1/chat/completions", headers={"apikey": key}, json=body) as response:
            pieces = response.iter_raw()
            first = next(pieces)
            served._process.send_signal(signal.SIGTERM)
            rest = b"".join(pieces)
        assert first.startswith(b"data: ")
        assert rest.endswith(b"data: [DONE]\n\n")
        assert served._process.wait(timeout=60) == 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's malloc")
def test_large_bodies_take_the_same_memory_one_after_the_other(tmp_path: Path) -> None:
    size, times = 1_000_000, 10
    body = {"model": "none", "messages": [{"role": "user", "content": "a" * size}]}

    def ask(served: Running) -> int:
        for _ in range(times):
            assert served.chat(KEY, body).status_code == 400
        return served.page_faults()

    with router(configured(tmp_path), "serve") as served:
        once_warm = ask(served)
        assert ask(served) - once_warm < times * size // mmap.PAGESIZE // 4


def test_host_and_port_are_taken_from_the_file_and_overridden(tmp_path: Path) -> None:
    configured(tmp_path, MEMORY + '[server]\nhost = "192.0.2.1"\nport = 1\n')
    refused = command(tmp_path, "serve")
    assert refused.code == 1
    assert refused.err.startswith("hpp-router: cannot listen on 192.0.2.1 port 1: ")
    with router(tmp_path, "serve", "--host", "127.0.0.1") as served:
        assert served.get("/healthz").status_code == 200


def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = command(configured(tmp_path), "serve", "--port", str(port))
    assert (done.code, done.out) == (1, "")
    assert (
        done.err
        == f"hpp-router: cannot listen on 127.0.0.1 port {port}: Address already in use; --port takes another\n"
    )


def test_a_host_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    done = command(configured(tmp_path), "serve", "--host", "no.such.host.invalid")
    assert (done.code, done.out) == (1, "")
    assert done.err == "hpp-router: cannot listen on no.such.host.invalid port 8000: there is no such host\n"


def test_access_log_tells_requests_without_their_words(tmp_path: Path) -> None:
    with router(configured(tmp_path), "serve", "--access-log") as served:
        served.get("/api/usage", "another-secret-of-20-characters")
        done = served.stop()
    (line,) = done.err.strip().split("\n")
    assert "refused" in line
    assert "401 unauthorized" in line
    assert "another-secret" not in line


# --- --check and what is refused ---


def test_check_says_that_a_file_is_good_and_leaves_nothing_behind(tmp_path: Path) -> None:
    configured(tmp_path, MEMORY.replace("memory:", "sqlite:///hpp.db"))
    done = command(tmp_path, "serve", "--check", "--config", "router.toml")
    assert (done.code, done.err) == (0, "")
    assert done.out == "router.toml: good (1 provider, 1 model, 1 declared consumer)\n"
    assert [path.name for path in tmp_path.iterdir()] == ["router.toml"]


@pytest.mark.parametrize(
    "url", [f"me:{KEY}@db:port/hpp", f"me:{KEY}@[::1/hpp", f"me:{KEY}@db:99999/hpp", f"me:#{KEY}@db"]
)
@pytest.mark.parametrize("section", ["store", "credentials"])
def test_check_refuses_a_postgresql_url_that_cannot_be_understood(tmp_path: Path, section: str, url: str) -> None:
    text = MEMORY.replace("memory:", "sqlite:///hpp.db")
    if section == "store":
        text = text.replace("sqlite:///hpp.db", f"postgresql://{url}")
    else:
        text += f'[credentials]\nurl = "postgresql://{url}"\n'
    done = command(configured(tmp_path, text), "serve", "--check", HPP_PEPPER="sixteen-bytes-ok")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"hpp-router: {section}.url: is not understood by the PostgreSQL driver")
    assert KEY not in done.err


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", '[store]\nurl = "memory:"\n'])
def test_check_refuses_a_file_that_names_no_upstream(tmp_path: Path, text: str) -> None:
    for arguments in (("serve", "--check"), ("serve",)):
        done = command(configured(tmp_path, text), *arguments)
        assert (done.code, done.out) == (2, "")
        assert done.err == "hpp-router: providers: is missing; a router needs an upstream, such as [providers.openai]\n"


@pytest.mark.parametrize("arguments", [("serve", "--check"), ("serve",)])
def test_check_names_each_place_that_cannot_be_written(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    for name in ("data", "heads", "journal"):
        (tmp_path / name).mkdir(mode=0o500)
    (tmp_path / "keys.db").touch(mode=0o400)
    text = MEMORY.replace("memory:", "sqlite:///data/hpp.db")
    text += (
        '[credentials]\nurl = "sqlite:///keys.db"\n[ledger]\nheads = "heads/heads.jsonl"\n[journal]\ndir = "journal"\n'
    )
    configured(tmp_path, text)
    asked = [sys.executable, confined.__file__, "unprivileged", "-", sys.executable, "-m", "hpp_middleware", *arguments]
    variables = environment(HPP_SEAL_KEY="a-seal-key-of-32-characters-0001")
    done = subprocess.run(asked, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert sorted(done.stderr.splitlines()) == [
        f"hpp-router: credentials.url: the file {tmp_path}/keys.db is not writable",
        f"hpp-router: journal.dir: the folder {tmp_path}/journal is not writable",
        f"hpp-router: ledger.heads: the folder {tmp_path}/heads is not writable",
        f"hpp-router: store.url: the folder {tmp_path}/data is not writable",
    ]


def test_check_names_a_heads_folder_that_is_not_there(tmp_path: Path) -> None:
    configured(tmp_path, MEMORY + '[ledger]\nheads = "away/heads.jsonl"\n')
    done = command(tmp_path, "serve", "--check", HPP_SEAL_KEY="a-seal-key-of-32-characters-0001")
    assert (done.code, done.err) == (2, f"hpp-router: ledger.heads: there is no directory {tmp_path}/away\n")


# --- a store that cannot be opened ---


@pytest.mark.parametrize(
    "arguments",
    [
        ("serve", "--port", "0"),
        ("keys", "create", "--consumer", "alice"),
        ("keys", "list"),
        ("quota", "show"),
        ("quota", "set", "alice", "1"),
        ("usage",),
        ("ledger", "verify"),
        ("ledger", "reconcile"),
        ("ledger", "seal"),
        ("ledger", "export"),
    ],
)
def test_a_store_that_cannot_be_opened_is_one_line_that_names_it_and_why(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    url = f"postgresql://me:{KEY}@127.0.0.1:{free_port()}/hpp"
    configured(tmp_path, MEMORY.replace("memory:", url).replace(f'"{KEY}"]', '"env:ALICE"]'))
    variables = {"HPP_PEPPER": "sixteen-bytes-ok", "HPP_SEAL_KEY": "a-seal-key-of-32-characters-0001"}
    done = command(tmp_path, *arguments, ALICE="another-secret-of-20-characters", **variables)
    assert (done.code, done.out) == (1, "")
    assert done.err == "hpp-router: store.url: cannot be opened: connection refused\n"


@pytest.mark.parametrize("arguments", [("move",), ("rebuild", "--yes"), ("verify",)])
def test_an_archive_that_cannot_be_opened_is_named(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "ledger.db").write_text("not a database, though long enough for the head of one " * 20)
    text = MEMORY.replace("memory:", f"redis://127.0.0.1:{free_port()}/0") + '[ledger]\nurl = "sqlite:///ledger.db"\n'
    done = command(configured(tmp_path, text), "ledger", *arguments, HPP_PEPPER="sixteen-bytes-ok")
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[0] == "hpp-router: ledger.url: cannot be opened: not a database"
    (tmp_path / "ledger.db").unlink()
    if arguments != ("verify",):  # which reads the archive alone
        done = command(tmp_path, "ledger", *arguments, HPP_PEPPER="sixteen-bytes-ok")
        assert (done.code, done.err) == (1, "hpp-router: store.url: cannot be opened: connection refused\n")


def test_check_warns_of_a_model_without_a_price(tmp_path: Path) -> None:
    configured(tmp_path, MEMORY + '[models."local/other"]\ncontext = 10\n')
    done = command(tmp_path, "serve", "--check")
    assert done.code == 0
    assert done.err == 'hpp-router: models."local/other": has no price here or in the price list: it is refused\n'


@pytest.mark.parametrize("arguments", [["serve", "--check"], ["serve"], ["models"], ["keys", "list"]])
def test_unknown_keys_are_refused_with_their_paths(tmp_path: Path, arguments: list[str]) -> None:
    configured(tmp_path, MEMORY + '[providers.openai]\nbase_ulr = "x"\n[server]\nprot = 1\n')
    done = command(tmp_path, *arguments)
    assert (done.code, done.out) == (2, "")
    assert sorted(done.err.splitlines()) == [
        "hpp-router: providers.openai.base_ulr: unknown key; did you mean base_url?",
        "hpp-router: server.prot: unknown key; did you mean port?",
    ]


def test_a_missing_variable_is_named(tmp_path: Path) -> None:
    configured(tmp_path, MEMORY.replace(f'"{KEY}"', '"env:ALICE_KEY"'))
    done = command(tmp_path, "serve", "--check")
    assert done.code == 2
    assert done.err == "hpp-router: consumers.alice.keys[0]: the environment variable ALICE_KEY is not set\n"
    assert command(tmp_path, "serve", "--check", ALICE_KEY=KEY).code == 0


def test_without_a_configuration_it_says_so(tmp_path: Path) -> None:
    done = command(tmp_path, "serve")
    assert (done.code, done.err) == (2, "hpp-router: --config is missing, and there is no router.toml here\n")
    done = command(tmp_path, "serve", "--config", "other.toml")
    assert (done.code, done.err) == (2, "hpp-router: other.toml: cannot be read (No such file or directory)\n")


def test_a_database_that_is_none_is_one_line(tmp_path: Path) -> None:
    configured(tmp_path, MEMORY.replace("memory:", "sqlite:///hpp.db"))
    (tmp_path / "hpp.db").write_text("this is no database, however long it is; SQLite will say so\n" * 100)
    done = command(tmp_path, "serve", "--port", "0")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("hpp-router: ")
    assert done.err.count("\n") == 1


def test_an_unknown_option_is_exit_code_2(tmp_path: Path) -> None:
    done = command(tmp_path, "serve", "--reload")
    assert done.code == 2
    assert "--reload" in done.err
    assert "Traceback" not in done.err


# --- the whole path ---


@pytest.mark.anyio
async def test_a_completion_is_relayed_charged_and_told_by_usage(tmp_path: Path) -> None:
    async with FakeUpstream(models=["m"]) as upstream:
        configured(
            tmp_path, MEMORY.replace("memory:", "sqlite:///hpp.db").replace("http://127.0.0.1:9/v1", upstream.url)
        )
        with router(tmp_path, "serve") as served:
            body = {"model": "local/m", "messages": [{"role": "user", "content": "Hello"}]}
            async with httpx2.AsyncClient(base_url=served.url, trust_env=False, timeout=60) as client:
                response = await client.post("/llm/v1/chat/completions", headers={"apikey": KEY}, json=body)
                assert response.status_code == 200, response.text
                assert response.json()["model"] == "local/m"
                used = (await client.get("/api/usage", headers={"apikey": KEY})).json()
        tokens = upstream.usage_total()
        told = await anyio.to_thread.run_sync(lambda: command(tmp_path, "usage", "alice", "--json").json)
    dollars = (tokens.prompt * 1 + tokens.completion * 2) / 10**6
    assert tokens.total > 0
    assert used["total_tokens"] == told["total_tokens"] == tokens.total
    assert used["used"] == told["used"] == told["total_cost"] == pytest.approx(dollars, abs=1e-9)
    assert told["requests"] == 1
