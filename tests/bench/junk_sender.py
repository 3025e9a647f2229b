"""A process that sends junk to UDP ports as fast as one core can.

    python -m tests.bench.junk_sender SECONDS PORT...

Samples to mutate come on stdin, one in hexadecimal a line. Prints how many datagrams it sent.
"""

import socket
import sys
import time
from random import Random

from relay.core import stun
from tests.fakes.junk import pool

POOL = 4096
SOURCES = 16
"""Sockets for each port, on eight addresses."""


def main() -> None:
    """Send until the time is over."""
    seconds, ports = float(sys.argv[1]), [int(one) for one in sys.argv[2:]]
    dice = Random(7)  # noqa: S311 - a seed, so that a failure comes again
    samples = [bytes.fromhex(line) for line in sys.stdin.read().split()]
    # A probe is what a stranger may send, and costs an answer.
    samples += [stun.binding_request(dice.randbytes(12), size=48)]
    datagrams = [*pool(dice, samples, POOL), *(samples[-1] for _ in range(POOL // 8))]
    dice.shuffle(datagrams)
    senders = []
    for port in ports:
        for number in range(SOURCES):
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sender.bind((f"127.0.1.{1 + number % 8}", 0))
            sender.connect(("127.0.0.1", port))
            senders.append(sender.send)
    sent, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        for send in senders:
            for datagram in datagrams[:: 1 + sent % 7][:256]:
                try:
                    send(datagram)
                except OSError:  # an ICMP error of one before
                    continue
                sent += 1
    print(sent)  # noqa: T201 - this is what the command is for


if __name__ == "__main__":
    main()
