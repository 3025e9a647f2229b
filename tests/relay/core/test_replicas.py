from collections import Counter

from relay.core.replicas import Replicas

ALL = ("a:1", "b:1", "c:1")


def order(node: str, targets: tuple[str, ...] = ALL) -> list[str]:
    replicas = Replicas(node, targets)
    found: list[str] = []
    while (target := replicas.pick(found, 0.0)) is not None:
        found.append(target)
    return found


def test_nodes_spread_over_the_replicas_and_over_those_that_remain() -> None:
    nodes = [f"node-{index}" for index in range(3000)]
    first = Counter(order(node)[0] for node in nodes)
    assert all(850 < first[target] < 1150 for target in ALL)
    orphans = Counter(order(node)[1] for node in nodes if order(node)[0] == "a:1")
    assert abs(orphans["b:1"] - orphans["c:1"]) < 200
    assert all(order(node)[1:] == order(node, tuple(order(node)[1:])) for node in nodes[:50])


def test_a_replica_rests_longer_with_each_failure() -> None:
    replicas = Replicas("n", ["a:1"])
    assert replicas.pick([], 0.0) == "a:1"
    replicas.failed("a:1", 0.99, 0.0)
    assert replicas.pick([], 0.1) is None
    assert replicas.pick([], 0.2) == "a:1"
    for _ in range(9):
        replicas.failed("a:1", 0.99, 1.0)
    assert replicas.pick([], 2.9) is None
    assert replicas.pick([], 3.0) == "a:1"
    replicas.worked("a:1")
    replicas.failed("a:1", 0.99, 4.0)
    assert replicas.pick([], 4.2) == "a:1"


def test_what_the_snapshot_names_counts_and_the_flags_when_none_of_it_is_there() -> None:
    replicas = Replicas("n", ["flag:1"])
    replicas.learn([])
    assert replicas.pick([], 0.0) == "flag:1"
    replicas.learn(["a:1", "b:1"])
    first = replicas.pick([], 0.0)
    assert first in ("a:1", "b:1")
    assert replicas.pick(["a:1", "b:1"], 0.0) is None, "the flag is one of them by another name"
    for target in ("a:1", "b:1"):
        replicas.failed(target, 0.5, 0.0)
    assert replicas.pick([], 0.1) == "flag:1"


def test_only_replicas_that_live_are_better() -> None:
    one, other = order("n")[:2]
    replicas = Replicas("n", ["flag:1"])
    replicas.learn(ALL)
    assert replicas.is_better(one, other)
    assert not replicas.is_better(other, one)
    assert replicas.is_better(other, "flag:1")
    assert not replicas.is_better("flag:1", other)


def test_a_snapshot_of_thousands_is_cut() -> None:
    replicas = Replicas("n", ["flag:1"])
    replicas.learn(f"host-{index}:1" for index in range(5000))
    assert len(replicas._learned) == 64


def test_who_is_avoided_is_left_alone_for_that_long() -> None:
    replicas = Replicas("n", ["a:1"])
    replicas.avoid("a:1", 10.0, 0.0)
    assert replicas.pick([], 9.9) is None
    assert replicas.pick([], 10.0) == "a:1"
