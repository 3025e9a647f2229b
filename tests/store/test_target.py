"""Where Redis is, as operators write it."""

import pytest

from controlplane.store.redis.target import parse_target


def test_one_server() -> None:
    target = parse_target("redis://cache.example.net/2", "secret")
    assert (target.kind, target.hosts, target.db) == ("single", (("cache.example.net", 6379),), 2)
    assert target.password == "secret"
    assert "secret" not in repr(target)


def test_sentinels() -> None:
    target = parse_target("rediss+sentinel://ops@10.0.0.1:26380,10.0.0.2/calls?ca=/etc/ca.pem")
    assert (target.kind, target.master, target.username) == ("sentinel", "calls", "ops")
    assert target.hosts == (("10.0.0.1", 26380), ("10.0.0.2", 26379))
    assert target.tls
    assert str(target.ca) == "/etc/ca.pem"


def test_a_cluster() -> None:
    target = parse_target("redis+cluster://[2001:db8::1]:7000,10.0.0.2:7000")
    assert (target.kind, target.tls) == ("cluster", False)
    assert target.hosts == (("2001:db8::1", 7000), ("10.0.0.2", 7000))


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("http://10.0.0.1", "is none of"),
        ("redis+sentinel://10.0.0.1", "the master's name is missing"),
        ("redis://:secret@10.0.0.1", "--redis-password-file"),
        ("redis://10.0.0.1/calls", "no number of a database"),
        ("redis+cluster://10.0.0.1/1", "no number of a database"),
        ("redis://10.0.0.1:port", "port"),
        ("redis://", "is not HOST:PORT"),
    ],
)
def test_what_cannot_be_one_is_refused_with_what_to_do(url: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        parse_target(url)


def test_a_refusal_does_not_repeat_a_password() -> None:
    with pytest.raises(ValueError, match="password") as refused:
        parse_target("redis://ops:hunter2@10.0.0.1")
    assert "hunter2" not in str(refused.value)
