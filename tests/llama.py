"""
llama.cpp's own server as an upstream, with a tiny random model: no download, half a megabyte.

Run as a script, it is the server: ``python llama.py MODEL PORT``; with ``embeddings`` after that, it embeds, and does
nothing else.
"""

import http.client
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servers import free_port, stop

START_S = 60.0
MODEL = "tiny-random"

EMBEDDING, LAYERS, HEADS, FEED_FORWARD, CONTEXT = 64, 2, 4, 128, 4096
WORDS = [
    "\u2581",
    *"etaonisrhld",
    *(f"\u2581{word}" for word in ("the", "a", "hello", "world", "of", "and")),
    *".,!?\n",
]
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Llama:
    """
    A running server.

    Attributes:
        url: The base URL, which ends in ``/v1``.
        model: The model's name.
    """

    url: str
    model: str = MODEL


@contextmanager
def running(folder: Path, *, embeddings: bool = False) -> Iterator[Llama]:
    """A server with a model written into ``folder``, that completes or embeds."""
    model = folder / "tiny.gguf"
    write_model(model)
    port = free_port()
    with (folder / "llama.log").open("wb") as log:
        command = [sys.executable, __file__, str(model), str(port), *(["embeddings"] if embeddings else [])]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            _wait_until_healthy(process, port)
            yield Llama(f"http://127.0.0.1:{port}/v1")
        finally:
            stop(process)


def write_model(path: Path) -> None:
    """A llama of random weights, the same ones each time, with a vocabulary of bytes and a few words."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(MODEL)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(EMBEDDING)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(EMBEDDING // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    _add_weights(writer, vocabulary=_add_vocabulary(writer))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_vocabulary(writer: Any) -> int:
    from gguf import TokenType

    tokens = [b"<unk>", b"<s>", b"</s>", *(f"<0x{byte:02X}>".encode() for byte in range(256))]
    types = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL, *[TokenType.BYTE] * 256]
    scores = [0.0] * len(tokens) + [-float(rank) for rank in range(len(WORDS))]
    tokens += [word.encode() for word in WORDS]
    types += [TokenType.NORMAL] * len(WORDS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(True)
    writer.add_chat_template(CHAT_TEMPLATE)
    return len(tokens)


def _add_weights(writer: Any, *, vocabulary: int) -> None:
    import numpy as np

    random = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> None:
        writer.add_tensor(name, (random.standard_normal(shape) * 0.3).astype(np.float32))

    def ones(name: str) -> None:
        writer.add_tensor(name, np.ones(EMBEDDING, dtype=np.float32))

    weights("token_embd.weight", vocabulary, EMBEDDING)
    weights("output.weight", vocabulary, EMBEDDING)
    ones("output_norm.weight")
    for layer in range(LAYERS):
        ones(f"blk.{layer}.attn_norm.weight")
        ones(f"blk.{layer}.ffn_norm.weight")
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            weights(f"blk.{layer}.{name}.weight", EMBEDDING, EMBEDDING)
        weights(f"blk.{layer}.ffn_gate.weight", FEED_FORWARD, EMBEDDING)
        weights(f"blk.{layer}.ffn_up.weight", FEED_FORWARD, EMBEDDING)
        weights(f"blk.{layer}.ffn_down.weight", EMBEDDING, FEED_FORWARD)


def _wait_until_healthy(process: "subprocess.Popen[bytes]", port: int) -> None:
    give_up = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < give_up:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == http.client.OK:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.05)
    raise RuntimeError("llama.cpp's server did not become healthy")


def _serve(model: str, port: int, *purpose: str) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.model_alias = MODEL if isinstance(params.model_alias, str) else {MODEL}
    params.n_ctx = 2 * CONTEXT
    params.endpoint_metrics = True
    params.n_parallel = 2
    params.cpuparams.n_threads = 1
    params.port = port
    if purpose == ("embeddings",):
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)  # noqa: T201 - to the log of whoever started it
    threading.Event().wait()


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
