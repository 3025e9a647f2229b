"""What `thalweg doctor` thinks of what its probes saw. Pure.

Each function says ok, warn or fail, what was seen, and what to do.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from controlplane.core.tokens import CLOCK_SKEW_S


class Verdict(StrEnum):
    """How a check went, the best first."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


EXIT_CODES = {Verdict.OK: 0, Verdict.WARN: 1, Verdict.FAIL: 2}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    """What kind of thing: "clock", "turn", …; stable, programs may look for it."""
    subject: str
    """Which one: a node's id, a file, a URL."""
    verdict: Verdict
    seen: str
    todo: str = ""
    """What to do; empty when nothing is."""

    def record(self) -> dict[str, str]:
        """Return it for JSON and YAML."""
        return {
            "check": self.name,
            "subject": self.subject,
            "verdict": self.verdict.value,
            "seen": self.seen,
            "todo": self.todo,
        }


def ok(name: str, subject: str, seen: str) -> Check:
    """Return a check that is well."""
    return Check(name, subject, Verdict.OK, seen)


def warn(name: str, subject: str, seen: str, todo: str) -> Check:
    """Return a check that works, and should not stay so."""
    return Check(name, subject, Verdict.WARN, seen, todo)


def fail(name: str, subject: str, seen: str, todo: str) -> Check:
    """Return a check that does not work."""
    return Check(name, subject, Verdict.FAIL, seen, todo)


def worst(checks: Iterable[Check]) -> Verdict:
    """Return the verdict over all."""
    order = list(Verdict)
    return max((check.verdict for check in checks), key=order.index, default=Verdict.OK)


# --- clocks ---------------------------------------------------------------------------------------

DATE_ERROR_S = 1.0
"""An HTTP Date has whole seconds (RFC 9110, 5.6.7)."""


def judge_clock(subject: str, skew_s: float, took_s: float) -> Check:
    """Judge how far a clock is ahead of this machine's; `took_s` is how long the answer took, which is not known."""
    doubt_s = DATE_ERROR_S + took_s
    seen = f"{abs(skew_s):.1f} s {'ahead of' if skew_s > 0 else 'behind'} this machine, give or take {doubt_s:.1f} s"
    todo = "run chrony or systemd-timesyncd there and here: tokens, TURN credentials and leases go by the clock"
    if abs(skew_s) - doubt_s > CLOCK_SKEW_S:
        return fail("clock", subject, seen, todo)
    if abs(skew_s) > doubt_s + 1:
        return warn("clock", subject, seen, todo)
    return ok("clock", subject, seen)


# --- certificates ---------------------------------------------------------------------------------

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What a certificate says."""

    not_before: float
    not_after: float
    """Seconds since 1970."""
    names: tuple[str, ...]
    """DNS names and IP addresses that it is for."""
    uris: tuple[str, ...]
    trusted: bool
    """It is signed by the CA beside it."""


def judge_certificate(subject: str, facts: CertificateFacts, now: float) -> Check:
    """Judge a process's certificate."""
    left_s = facts.not_after - now
    renew = "give it a fresh one: `thalweg ca issue`, or let the node renew it"
    who = f"{', '.join(facts.uris) or 'nobody'}, for {', '.join(facts.names) or 'no name'}"
    seen = f"{who}, ends in {duration_text(left_s)}"
    faults = (
        (left_s <= 0, f"ended {duration_text(-left_s)} ago", renew),
        (now < facts.not_before, "begins in the future", "set this machine's clock, or wait"),
        (not facts.trusted, f"{seen}; the authorities in ca.pem did not sign it", renew),
        (
            len(facts.uris) != 1 or not facts.uris[0].startswith("spiffe://thalweg/"),
            seen,
            "it needs exactly one URI SAN, spiffe://thalweg/…: docs/operations.md, Certificates",
        ),
    )
    for is_so, what, todo in faults:
        if is_so:
            return fail("certificate", subject, what, todo)
    if not facts.names:
        return warn("certificate", subject, seen, "add DNS or IP SANs: TLS clients check them")
    if left_s < (facts.not_after - facts.not_before) / 6:
        return warn("certificate", subject, seen, renew)
    return ok("certificate", subject, seen)


def judge_listener_certificate(subject: str, not_after: float, now: float) -> Check:
    """Judge a public server's certificate, which a client has already believed."""
    left_s = not_after - now
    seen = f"ends in {duration_text(left_s)}"
    if left_s < 14 * DAY_S:
        return warn("certificate", subject, seen, "renew it: see to your ACME client")
    return ok("certificate", subject, seen)


def duration_text(seconds: float) -> str:
    """Return a time in its largest unit."""
    for unit, size in (("days", DAY_S), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} seconds"


# --- GeoIP ----------------------------------------------------------------------------------------

GEOIP_OLD_DAYS = 90
"""As app.py: address blocks change hands."""


def judge_geoip(subject: str, age_s: float) -> Check:
    """Judge a GeoIP file by its age."""
    seen = f"made {duration_text(age_s)} ago"
    if age_s > GEOIP_OLD_DAYS * DAY_S:
        return warn("geoip", subject, seen, "get a newer one; addresses have moved since")
    return ok("geoip", subject, seen)


# --- Redis ----------------------------------------------------------------------------------------

OLDEST_REDIS = (6, 2)
"""Debian 11's; the store's scripts use nothing newer."""


def judge_redis(subject: str, info: Mapping[str, Any], config: Mapping[str, str]) -> list[Check]:
    """Judge a master by INFO and, as far as it may be read, CONFIG GET."""
    version = str(info.get("redis_version", "0"))
    replicas = int(info.get("connected_slaves", 0))
    seen = f"version {version}, master, {replicas} replicas"
    number = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    checks: list[Check] = []
    if number < OLDEST_REDIS:
        checks.append(fail("redis", subject, seen, "run 6.2 or newer"))
    elif not replicas:
        todo = "add a replica and Sentinel: one server is one point of failure, and its end loses what it has"
        checks.append(warn("redis", subject, seen, todo))
    else:
        checks.append(ok("redis", subject, seen))
    policy = str(info.get("maxmemory_policy") or config.get("maxmemory-policy", ""))
    if policy and policy != "noeviction" and int(info.get("maxmemory", 0)):
        todo = "set maxmemory-policy noeviction: what is evicted here is people's seats"
        checks.append(fail("redis-memory", subject, f"maxmemory-policy is {policy}", todo))
    elif policy:
        checks.append(ok("redis-memory", subject, _memory(info, policy)))
    wanted = config.get("min-replicas-to-write")
    if replicas and wanted is not None and int(wanted) < 1:
        todo = "set min-replicas-to-write 1 and min-replicas-max-lag 1: a master that is cut off stops taking writes"
        checks.append(warn("redis-durability", subject, f"min-replicas-to-write is {wanted}", todo))
    elif replicas and wanted is not None:
        checks.append(ok("redis-durability", subject, f"min-replicas-to-write is {wanted}"))
    return checks


def _memory(info: Mapping[str, Any], policy: str) -> str:
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    mega = 1024 * 1024
    limit = f"of {most // mega} MiB" if most else "and no limit"
    return f"{used // mega} MiB {limit}, {policy}"


# --- TURN -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TurnSeen:
    """What a TURN server did by one transport."""

    problem: str = ""
    """Why nothing is known: refused, silent, a TLS failure; empty when it answered."""
    realm: str = ""
    allocated: bool | None = None
    """None when no credential was tried."""
    error: int = 0
    """STUN's error code when it did not allocate."""
    open_peers: tuple[str, ...] = ()
    """Addresses that it would relay to and should not."""
    took_s: float = 0.0


def judge_turn(subject: str, seen: TurnSeen) -> list[Check]:
    """Judge one TURN server by one transport."""
    if seen.problem:
        todo = "does it run (relay_turn_answering of its node), does the firewall let its port through?"
        return [fail("turn", subject, seen.problem, todo)]
    answered = f"answers in {seen.took_s * 1000:.0f} ms"
    if seen.allocated is None:
        todo = "give --turn-secret-file to try a credential"
        return [warn("turn", subject, f"{answered}; its secrets were not tried", todo)]
    if not seen.allocated:
        todo = (
            "does its node follow this control plane's orders (relay_turn_in_order, relay_turn_secrets), is its clock"
            " right, is --turn-secret-file the one that the control plane has?"
            if seen.error == 401
            else "see the log of its node: quotas, ports"
        )
        return [fail("turn", subject, f"{answered}; refuses a good credential: {seen.error}", todo)]
    checks = [ok("turn", subject, f"{answered}; takes our credential")]
    if seen.open_peers:
        todo = "ANYBODY WITH A CREDENTIAL REACHES YOUR NETWORK: let thalweg-relay write its turnserver.conf (--turn)"
        said = f"relays to {', '.join(seen.open_peers)}"
        checks.append(fail("turn-peers", subject, said, todo))
    else:
        checks.append(ok("turn-peers", subject, "relays to none of the addresses that it must not"))
    return checks


# --- nodes ----------------------------------------------------------------------------------------


def judge_node(node: Mapping[str, Any]) -> Check:
    """Judge a node by what the control plane says of it."""
    seen = (
        f"{node['state']} in {node['region']}, {node['participants']} of {node['capacity']} places"
    )
    why = f": {node['why']}" if node.get("why") else ""
    match node["state"]:
        case "serving":
            return ok("node", node["id"], seen)
        case "lost":
            todo = "see to its machine and its way to the control plane's gRPC port"
            return fail("node", node["id"], seen + why, todo)
        case _:
            return warn("node", node["id"], seen + why, "nobody new is placed on it")


def judge_regions(topology: Mapping[str, int], nodes: Sequence[Mapping[str, Any]]) -> list[Check]:
    """Judge whether each region (id → nodes wanted) has nodes that serve."""
    checks = []
    for region, wanted in sorted(topology.items()):
        serving = sum(node["region"] == region and node["state"] == "serving" for node in nodes)
        seen = f"{serving} nodes serve, {wanted} are wanted"
        if not serving and wanted:
            checks.append(
                fail("region", region, seen, "start nodes, or see why they do not register")
            )
        elif serving < wanted:
            checks.append(warn("region", region, seen, "nodes are missing"))
        else:
            checks.append(ok("region", region, seen))
    return checks


# --- a node's own metrics -------------------------------------------------------------------------

_SAMPLE = re.compile(r"^(\w+) ([0-9.eE+-]+)$", re.MULTILINE)


def read_samples(text: str) -> dict[str, float]:
    """Return the samples without labels of Prometheus' text format."""
    return {name: float(value) for name, value in _SAMPLE.findall(text)}


LAG_S = 0.05
"""What a packet may wait for the event loop before somebody hears it."""


def judge_samples(subject: str, samples: Mapping[str, float], now: float) -> list[Check]:
    """Judge a node by its own metrics."""
    checks = []
    lag_s = samples.get("relay_loop_lag_seconds", 0.0)
    seen = f"packets wait {lag_s * 1000:.0f} ms at worst"
    todo = "the core is full: lower --capacity, or add nodes"
    checks.append(
        ok("node-load", subject, seen) if lag_s < LAG_S else warn("node-load", subject, seen, todo)
    )
    if "relay_turn_answering" not in samples:
        return [*checks, ok("node-turn", subject, "no TURN server is configured on this node")]
    secrets = int(samples.get("relay_turn_secrets", 0))
    synced_s = now - samples.get("relay_turn_synced_timestamp_seconds", 0.0)
    seen = (
        f"{secrets} secrets, {int(samples.get('relay_turn_peers', 0))} peers, in order"
        f" {duration_text(synced_s)} ago"
    )
    if not samples["relay_turn_answering"]:
        todo = "see its log for `coturn complains`: a taken port, a certificate"
        checks.append(fail("node-turn", subject, "coturn does not answer", todo))
    elif not samples.get("relay_turn_in_order", 0):
        todo = "see its log for `TURN cannot do as it should`"
        checks.append(fail("node-turn", subject, f"{seen}; something is wrong", todo))
    else:
        checks.append(ok("node-turn", subject, seen))
    holes = int(samples.get("relay_turn_known_holes", 0))
    if holes:
        seen = f"{holes} known holes that no configuration closes"
        todo = "run a newer coturn; the node's log names them at its start"
        checks.append(warn("node-coturn", subject, seen, todo))
    return checks
