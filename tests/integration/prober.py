"""Asks URLs over and over, each time over a new connection, until it is told to stop (SIGTERM): prober.py RESULT URL...

It runs on the controller and, in a pod's network, on a host: nothing but Python's own library. An answer of any status
counts, since the API server says 401 to strangers; no answer within the time limit is a failure.
"""

from __future__ import annotations

import json
import signal
import ssl
import sys
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass, field
from pathlib import Path

PAUSE_SECONDS = 0.1
LIMIT_SECONDS = 3.0


@dataclass
class Asked:
    """One URL. The gap is the longest time between two answers."""

    requests: int = 0
    failures: list[str] = field(default_factory=list)
    longest_gap_s: float = 0.0


def ask(opener: urllib.request.OpenerDirector, url: str) -> str:
    """What went wrong; empty if somebody answered."""
    try:
        with opener.open(url, timeout=LIMIT_SECONDS) as answer:
            answer.read()
    except urllib.error.HTTPError:
        return ""
    except OSError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def main(result: Path, urls: list[str]) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    began = time.monotonic()
    last = dict.fromkeys(urls, began)
    found = {url: Asked() for url in urls}
    while not stopped:
        for url, entry in found.items():
            entry.requests += 1
            wrong = ask(opener, url)
            now = time.monotonic()
            if wrong:
                entry.failures.append(f"{now - began:.1f} s: {wrong}")
                continue
            entry.longest_gap_s = max(entry.longest_gap_s, round(now - last[url], 3))
            last[url] = now
        time.sleep(PAUSE_SECONDS)
    part = result.with_suffix(".part")
    part.write_text(json.dumps({url: asdict(entry) for url, entry in found.items()}), encoding="utf-8")
    part.replace(result)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
