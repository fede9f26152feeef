"""Relay what a line says of work that goes on elsewhere to a log, at a bounded rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_LOOKS = 0.1


def relay(line: Callable[[], str], finished: Callable[[], bool], log: Callable[[str], None]) -> None:
    """Until ``finished()``: log what ``line()`` says when it says something new, at most once in five seconds.

    The last thing it says is always logged; nothing is logged while it is empty.
    """
    last_line, last_time = "", float("-inf")
    while not finished():
        now = time.monotonic()
        if now - last_time >= SECONDS_BETWEEN_LINES:
            said = line()
            if said not in ("", last_line):
                log(said)
                last_line, last_time = said, now
        time.sleep(SECONDS_BETWEEN_LOOKS)
    final = line()
    if final not in ("", last_line):
        log(final)


@contextmanager
def relayed(line: Callable[[], str], log: Callable[[str], None]) -> Iterator[None]:
    """:func:`relay` in a thread beside the block."""
    done = threading.Event()
    follower = threading.Thread(target=relay, args=(line, done.is_set, log), daemon=True)
    follower.start()
    try:
        yield
    finally:
        done.set()
        follower.join()
