"""llama.cpp's server (package xllamacpp), a peer to measure beside, and what both are asked."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

QUESTIONS = (
    "I am planning a trip with my sister.", "Which season suits a walk in the hills?", "What should I pack?",
    "My budget is small.", "Tell me about trains.", "What is a good breakfast?", "How do I sleep well outdoors?",
    "Name three birds.",
)  # fmt: skip


@contextmanager
def llama_server(gguf: str, slots: int, threads: int, context: int) -> Iterator[str]:
    code = (
        "import sys, time, xllamacpp as x\n"
        "p = x.CommonParams(); p.model.path = sys.argv[1]; p.n_parallel = int(sys.argv[2])\n"
        "p.n_ctx = int(sys.argv[2]) * int(sys.argv[4]); p.port = 0; p.hostnames = ['127.0.0.1']\n"
        "p.cpuparams.n_threads = p.cpuparams_batch.n_threads = int(sys.argv[3]); p.warmup = True\n"
        "s = x.Server(p); print(s.listening_address, flush=True)\n"
        "while True: time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, gguf, str(slots), str(threads), str(context)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
