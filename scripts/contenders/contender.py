"""What a user would pick instead of this engine, each run in a process of its own by `icl bench`.

Reads one JSON object from stdin (contender, model, prompts, max_tokens, threads, and what the contender needs) and
prints a list of objects on its last line, one a measurement: contender, parallel, load_seconds, warmup_seconds,
seconds, new_tokens, prompt_tokens, decode_rate, or error. Every contender decodes greedily with its own reading of a
repetition penalty of 1.1, a fixed number of tokens (end of generation ignored), on the same threads, and reuses the
common prefix if it can. With ``serve`` as first argument it is llama-cpp-python's own server, which takes the other
arguments. It imports nothing of icl_local: the libraries themselves are measured.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

WARMUP_PROMPT = "Hello there."
SERVER_START_SECONDS = 120

Measured = list[dict[str, Any]]


def create_completion_loop(job: dict[str, Any]) -> Measured:
    """``Llama.create_completion`` once a prompt; the object keeps the KV cache of the prefix between calls."""
    import llama_cpp

    _prepare_binding()
    started = time.perf_counter()
    llama = llama_cpp.Llama(
        model_path=job["model"],
        n_ctx=job["n_ctx"],
        n_threads=job["threads"],
        n_threads_batch=job["threads"],
        verbose=False,
    )
    loaded = time.perf_counter() - started

    def complete(prompt: str, tokens: int) -> tuple[int, int]:
        reply: Any = llama.create_completion(prompt, max_tokens=tokens, temperature=0.0, repeat_penalty=1.1)
        return reply["usage"]["prompt_tokens"], reply["usage"]["completion_tokens"]

    return [_timed(loaded, complete, job)]


def serve() -> None:
    """llama-cpp-python's OpenAI server in this process, with the arguments after ``serve``."""
    import runpy

    _prepare_binding()
    sys.argv = ["llama_cpp.server", *sys.argv[2:]]
    runpy.run_module("llama_cpp.server", run_name="__main__")


def _prepare_binding() -> None:
    """Let no token end a generation, without a logit bias in Python; and use no AMX kernels, as the engine does."""
    import llama_cpp.llama_cpp as binding

    binding.llama_vocab_is_eog = lambda vocab, token: False
    if b"AMX_INT8 = 1" in binding.llama_print_system_info():  # see repacks in icl_local/engine/llama.py
        defaults = binding.llama_model_default_params

        def without_amx() -> Any:
            parameters = defaults()
            parameters.use_extra_bufts = False
            return parameters

        binding.llama_model_default_params = without_amx


def transformers_generate(job: dict[str, Any], dtype: str) -> Measured:
    """Transformers' batched ``generate`` on the same weights, in batches of eight, left-padded."""
    from pathlib import Path

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(job["threads"])
    path = Path(job["model"])
    started = time.perf_counter()
    tokenizer: Any = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model: Any = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=getattr(torch, dtype))
    loaded = time.perf_counter() - started

    def generate(prompts: list[str], tokens: int) -> tuple[int, int]:
        inputs = tokenizer(prompts, return_tensors="pt", padding=True)
        with torch.inference_mode():
            output = model.generate(
                **inputs,
                do_sample=False,
                repetition_penalty=1.1,
                max_new_tokens=tokens,
                eos_token_id=None,
                pad_token_id=tokenizer.pad_token_id,
            )
        new = output.shape[1] - inputs["input_ids"].shape[1]
        return int(inputs["attention_mask"].sum()), new * len(prompts)

    started = time.perf_counter()
    generate([WARMUP_PROMPT], 4)
    warm = time.perf_counter() - started
    started = time.perf_counter()
    counts = [generate(job["prompts"][i : i + 8], job["max_tokens"]) for i in range(0, len(job["prompts"]), 8)]
    return [_result(job, 8, loaded, warm, time.perf_counter() - started, counts)]


def own_server(job: dict[str, Any]) -> Measured:
    """llama-cpp-python's server with the same file and threads; it answers one request at a time."""
    label = f"{job['contender']} (llama-cpp-python)"
    with _running_server(job) as base_url:
        if base_url is None:
            missing = "not installed; run: pip install 'llama-cpp-python[server]'"
            return [{"contender": label, "parallel": 1, "error": missing}]
        return server({**job, "contender": label, "base_url": base_url, "concurrencies": [1], "begin": ""})


def server(job: dict[str, Any]) -> Measured:
    """An OpenAI-compatible server that is running at ``base_url``, with each number of ``concurrencies`` at once.

    Each is timed twice: cold and warm, with the same prompts again. ``begin`` is put before every prompt: by default a
    random text, so that no cache holds the prefix; a server that has just started needs none.
    """
    import openai

    client = openai.OpenAI(base_url=job["base_url"], api_key=job.get("api_key") or "none", max_retries=0, timeout=3600)
    bias = {str(token): -100 for token in job.get("eog", [])}

    def complete(prompt: str, tokens: int) -> tuple[int, int]:
        reply = client.completions.create(
            model=job.get("served_model") or "default",
            prompt=prompt,
            max_tokens=tokens,
            temperature=0.0,
            logit_bias=bias or openai.omit,
            extra_body={"repeat_penalty": 1.1, "ignore_eos": True, "cache_prompt": True},
        )
        usage = reply.usage
        return (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)

    measured: Measured = []
    for concurrency in job["concurrencies"]:
        begin = job.get("begin", f"{secrets.token_hex(4)}\n")
        same = {**job, "prompts": [begin + prompt for prompt in job["prompts"]]}
        for state in ("cold", "warm"):
            result: dict[str, Any] = {"contender": f"{job['contender']}, {state}", "parallel": concurrency}
            try:
                result = _timed(0.0, complete, same, concurrency=concurrency, warm_up=state == "cold") | result
            except openai.OpenAIError as error:
                result["error"] = str(error)
            measured.append(result)
    return measured


@contextlib.contextmanager
def _running_server(job: dict[str, Any]) -> Iterator[str | None]:
    """Yield the base URL of llama-cpp-python's server on loopback; None if it is not installed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, __file__, "serve", "--model", job["model"], "--host", "127.0.0.1", "--port", str(port)]
    command += ["--n_ctx", str(job["n_ctx"])]
    command += ["--n_threads", str(job["threads"]), "--n_threads_batch", str(job["threads"])]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + SERVER_START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                yield f"http://127.0.0.1:{port}/v1"
                return
            except OSError:
                time.sleep(0.2)
        if process.poll() is None:
            raise TimeoutError(f"llama-cpp-python's server did not answer within {SERVER_START_SECONDS} s")
        yield None
    finally:
        process.kill()
        process.wait()


def batched_bench(job: dict[str, Any]) -> Measured:
    """llama.cpp's own benchmark: a prompt of ``n_prompt`` tokens shared by each number of ``parallels`` sequences."""
    measured = []
    for parallel in job["parallels"]:
        sizes = {"c": (job["n_prompt"] + job["max_tokens"]) * parallel, "npp": job["n_prompt"]}
        sizes |= {"ntg": job["max_tokens"], "npl": parallel, "t": job["threads"], "tb": job["threads"]}
        command = [job["program"], "-m", job["model"], "-pps", "--output-format", "jsonl", "-b", "2048", "-ub", "512"]
        command += [word for name, value in sizes.items() for word in (f"-{name}", str(value))]
        result: dict[str, Any] = {"contender": job["contender"], "parallel": parallel}
        try:
            done = subprocess.run(command, capture_output=True, text=True)
            printed = next(json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
            result |= {"prompt_tokens": job["n_prompt"], "new_tokens": job["max_tokens"] * parallel}
            result |= {"seconds": printed["t"], "decode_rate": printed["speed_tg"]}
        except (OSError, StopIteration) as error:
            result["error"] = str(error) or f"{job['contender']} wrote no result"
        measured.append(result)
    return measured


def _timed(
    loaded: float,
    complete: Callable[[str, int], tuple[int, int]],
    job: dict[str, Any],
    *,
    concurrency: int = 1,
    warm_up: bool = True,
) -> dict[str, Any]:
    started = time.perf_counter()
    if warm_up:
        complete(WARMUP_PROMPT, 4)
    warm = time.perf_counter() - started
    started = time.perf_counter()
    with ThreadPoolExecutor(concurrency) as pool:
        counts = list(pool.map(lambda prompt: complete(prompt, job["max_tokens"]), job["prompts"]))
    return _result(job, concurrency, loaded, warm, time.perf_counter() - started, counts)


def _result(
    job: dict[str, Any], parallel: int, loaded: float, warm: float, seconds: float, counts: list[tuple[int, int]]
) -> dict[str, Any]:
    return {
        "contender": job["contender"],
        "parallel": parallel,
        "load_seconds": loaded,
        "warmup_seconds": warm,
        "seconds": seconds,
        "prompt_tokens": sum(prompt for prompt, _ in counts),
        "new_tokens": sum(new for _, new in counts),
    }


CONTENDERS: dict[str, Callable[[dict[str, Any]], Measured]] = {
    "create_completion": create_completion_loop,
    "transformers fp32": lambda job: transformers_generate(job, "float32"),
    "transformers bf16": lambda job: transformers_generate(job, "bfloat16"),
    "server": own_server,
}

if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve()
    else:
        job = json.load(sys.stdin)
        kind = server if "base_url" in job else batched_bench if "program" in job else CONTENDERS[job["contender"]]
        sys.stdout.write("\n" + json.dumps(kind(job)) + "\n")
