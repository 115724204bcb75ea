"""Compare questions per second with inspect_ai: same questions, tools, turns and upstream.

    python benchmarks/beside_inspect.py --inspect .venv-inspect/bin/inspect

A master behind one loopback server plays the 595 questions of `tvqa_plus_dev` (`val`) in five turns
(look, ground, look, ground, answer), 64 in flight. The tools are the offline agents. The questions
are played by `eval/run_policy.py`, and by `inspect eval longvideo_env/longtvqa`, which offers the
same tools by function calling. The time includes the start of Python, reading the dataset and
writing logs. The script checks that both play each question to the same answer.

The file is not named `inspect.py`, because scripts started in this folder would import it instead
of Python's own module.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
DATASET = ROOT.parent / "shared" / "data" / "tvqa_plus_dev"
TURNS: list[tuple[str, str, dict[str, str]]] = [
    ("search", "look", {"query": "What is on the table, and who is there?"}),
    ("request_grounding", "ground", {"query": "another scene"}),
    ("search", "look", {"query": "Who holds the mug?"}),
    ("request_grounding", "ground", {"query": "the end of it"}),
]
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
QUESTION = re.compile(r"Question: *(.*)")


def answer_to(body: dict[str, Any]) -> dict[str, Any]:
    """The master's message: a function call if tools are offered, or else tags."""
    messages = body["messages"]
    turn = sum(message["role"] == "assistant" for message in messages)
    opening = next(m["content"] for m in messages if m["role"] == "user")
    text = opening if isinstance(opening, str) else "".join(p["text"] for p in opening)
    found = QUESTION.search(text)
    label = f"a{blake2b((found[1] if found else text).strip().encode()).digest()[0] % 5}"
    tag, name, values = (
        TURNS[turn] if turn < len(TURNS) else ("answer", "answer", {"answer": label})
    )
    if not body.get("tools"):
        (value,) = values.values()
        return {"role": "assistant", "content": f"<{tag}>{value}</{tag}>"}
    function = {"name": name, "arguments": json.dumps(values)}
    call = {"id": f"call_{turn}", "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: *(\d+)", head)
            body = json.loads(await reader.readexactly(int(length[1]) if length else 0))
            choice = {"index": 0, "finish_reason": "stop", "message": answer_to(body)}
            reply = {"id": "x", "object": "chat.completion", "created": 0, "model": "master"}
            payload = json.dumps(reply | {"choices": [choice], "usage": USAGE}).encode()
            head = (
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            )
            writer.write(head % len(payload) + payload)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def serve(port: int) -> None:
    """Serve until stopped."""
    server = await asyncio.start_server(handle, "127.0.0.1", port, limit=1 << 24, backlog=4096)
    async with server:
        await server.serve_forever()


@contextmanager
def upstream() -> Iterator[str]:
    """Run the server in its own process. Yields its base URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, __file__, "--serve", str(port)])
    try:
        for _ in range(400):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(timeout=10)


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall-clock and CPU seconds of a command."""
    spent, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    wall_s, now = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return wall_s, now.ru_utime + now.ru_stime - spent.ru_utime - spent.ru_stime


def ours(url: str, work: Path, options: argparse.Namespace) -> tuple[float, float, float]:
    """Play with this project's evaluator. Returns seconds, CPU seconds and accuracy."""
    endpoints = {"mock": {"base_url": url, "max_in_flight": options.in_flight}}
    (work / "endpoints.yaml").write_text(yaml.safe_dump({"endpoints": endpoints}))
    command = [
        sys.executable, str(ROOT / "eval" / "run_policy.py"), "--policy", "openai:master@mock",
        "--dataset", str(options.dataset), "--split", "val", "--concurrency",
        str(4 * options.in_flight), "--out", str(work / "ours"), "--overwrite",
    ]  # fmt: skip
    seconds = timed(command, {"LONGVIDEO_ENDPOINTS": str(work / "endpoints.yaml")})
    (file,) = (work / "ours").glob("*/summary.json")
    summary = json.loads(file.read_text(encoding="utf-8"))
    assert summary["n_failed"] == 0, summary
    assert summary["n_answered"] == options.questions, summary
    return (*seconds, float(summary["accuracy"]))


def theirs(url: str, work: Path, options: argparse.Namespace) -> tuple[float, float, float]:
    """Play with inspect_ai. Returns the same figures."""
    logs = Path(tempfile.mkdtemp(dir=work))
    command = [
        str(options.inspect), "eval", "longvideo_env/longtvqa", "--model", "openai-api/mock/master",
        "-T", f"dataset={options.dataset}", "-T", "split=val", "--log-dir", str(logs),
        "--display", "none", "--max-connections", str(options.in_flight),
        "--max-samples", str(options.in_flight),
    ]  # fmt: skip
    seconds = timed(command, {"MOCK_BASE_URL": url, "MOCK_API_KEY": "none"})
    (log,) = logs.glob("*.eval")
    dump = [str(options.inspect), "log", "dump", "--header-only", str(log)]
    header = json.loads(subprocess.run(dump, capture_output=True, text=True, check=True).stdout)
    assert header["status"] == "success", header["status"]
    scores = {s["name"]: s["metrics"] for s in header["results"]["scores"]}
    assert scores["turns"]["mean"]["value"] == len(TURNS) + 1, scores["turns"]
    return (*seconds, float(scores["accuracy"]["accuracy"]["value"]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--inspect", type=Path, default=ROOT / ".venv-inspect" / "bin" / "inspect")
    add("--dataset", type=Path, default=DATASET, help="The data pack's folder.")
    add("--in-flight", type=int, default=64, help="Requests in flight. Default: 64.")
    add("--repeat", type=int, default=3, help="Runs of each, for the median. Default: 3.")
    add("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve))
        return
    options.inspect = options.inspect.absolute()
    for path in (options.inspect, options.dataset):
        if not path.exists():
            raise SystemExit(f"{path} does not exist. Fix: give --inspect and --dataset.")
    rows = json.loads((options.dataset / "LongTVQA_plus_val.json").read_text(encoding="utf-8"))
    options.questions = len(rows)
    found: dict[str, list[tuple[float, float, float]]] = {"longvideo-env": [], "inspect_ai": []}
    with tempfile.TemporaryDirectory() as folder, upstream() as url:
        for _ in range(options.repeat):
            for name, play in (("longvideo-env", ours), ("inspect_ai", theirs)):
                run = play(url, Path(folder), options)
                found[name].append(run)
                print(
                    f"{name}: {options.questions} questions in {run[0]:.2f} s, {run[1]:.2f} CPU-s, "
                    f"accuracy {run[2]:.4f}",
                    flush=True,
                )
    assert len({round(run[2], 6) for runs in found.values() for run in runs}) == 1, "not the same"
    wall, cpu = (
        {name: sorted(run[i] for run in runs)[len(runs) // 2] for name, runs in found.items()}
        for i in (0, 1)
    )
    print(
        f"{wall['inspect_ai'] / wall['longvideo-env']:.1f} times inspect_ai's speed, "
        f"{cpu['inspect_ai'] / cpu['longvideo-env']:.1f} times less CPU"
    )


if __name__ == "__main__":
    main()
