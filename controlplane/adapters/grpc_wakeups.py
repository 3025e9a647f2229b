"""Keeps a busy event loop from throttling gRPC to one event for each of its turns.

A thread of grpcio puts events (a message came, a write is done) into a queue and wakes the loop with a byte on a socket
pair. The loop takes all events at once, but only one byte a turn. Once turns are slower than events, bytes pile up;
when the socket is full, after 278 of them on Linux, the thread blocks in its write and the loop gets one event a turn:
with turns of 20 ms, 50 messages a second, while the loop seems to be in time and half of the core is idle. A thousand
nodes then look silent.

Nothing is lost when the thread's end of the pair does not block: a byte that does not fit would only wake a loop that
is going to be woken anyway. grpcio gives no handle on the pair, so it is caught while it is made.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def unblocked_wakeups() -> Iterator[None]:
    """Make the first server or channel of grpc.aio inside of this; for later ones, while one lives, it does nothing."""
    made: list[socket.socket] = []
    make = socket.socketpair

    def remember(*args: Any, **options: Any) -> tuple[socket.socket, socket.socket]:
        ends = make(*args, **options)
        made.extend(ends)
        return ends

    socket.socketpair = remember
    try:
        yield
    finally:
        socket.socketpair = make
        for end in made:
            end.setblocking(False)
