"""Sends requests over many connections at once, in a process of its own, and times each answer."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def run(url: str, token: str, path: str, bodies: Path, *, clients: int, requests: int) -> dict[str, Any]:
    """Post bodies in turn, each connection one after the other.

    Args:
        url: of the server.
        token: of a user.
        path: that is posted to.
        bodies: a file with a JSON body in each line.
        clients: connections.
        requests: in all.

    Returns:
        ``seconds`` in all, ``latencies`` (seconds, of each request), ``answers`` (JSON) and ``refused`` (how many).
    """
    words = [url, token, path, str(bodies), str(clients), str(requests)]
    done = subprocess.run([sys.executable, __file__, *words], check=True, capture_output=True)
    return json.loads(done.stdout)


async def _load(url: str, token: str, path: str, bodies: list[bytes], clients: int, requests: int) -> dict[str, Any]:
    host, _, port = url.removeprefix("http://").partition(":")
    heads = [
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        for body in bodies
    ]
    numbers = itertools.count()
    latencies: list[float] = []
    answers: list[Any] = []
    refused = 0

    async def client() -> None:
        nonlocal refused
        reader, writer = await asyncio.open_connection(host, int(port))
        while (number := next(numbers)) < requests:
            place = number % len(bodies)
            begun = time.perf_counter()
            writer.write(heads[place] + bodies[place])
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            body = await reader.readexactly(length)
            latencies.append(time.perf_counter() - begun)
            if head.startswith((b"HTTP/1.1 202", b"HTTP/1.1 200")):
                answers.append(json.loads(body))
            else:
                refused += 1
        writer.close()

    begun = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "latencies": latencies, "answers": answers, "refused": refused}


if __name__ == "__main__":
    import uvloop

    _, url, token, path, file, clients, requests = sys.argv
    lines = Path(file).read_bytes().splitlines()
    found = uvloop.run(_load(url, token, path, lines, int(clients), int(requests)))
    with open(sys.stdout.fileno(), "w", closefd=False) as whole:  # sys.stdout may be unbuffered, and then writes a part
        json.dump(found, whole)
