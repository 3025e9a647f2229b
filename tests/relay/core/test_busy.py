from relay.core.busy import MOST, WINDOW_S, BusyShare


def shares(cpu_per_s: list[float]) -> list[float]:
    busy, used, told = BusyShare(), 0.0, []
    for second, cpu in enumerate(cpu_per_s):
        used += cpu
        told.append(busy.note(used, 100.0 + second))
    return told


def test_nothing_is_said_before_a_window_has_passed() -> None:
    assert set(shares([1.0] * int(WINDOW_S))) == {0.0}


def test_it_is_the_mean_of_the_last_window() -> None:
    assert abs(shares([0.2] * 30)[-1] - 0.2) < 1e-9
    assert abs(shares([0.0] * 30 + [1.0] * 5)[-1] - 0.5) < 1e-9


def test_a_burst_is_forgotten() -> None:
    assert shares([1.0] * 20 + [0.0] * 20)[-1] == 0.0


def test_a_busy_core_alone_never_makes_a_node_full() -> None:
    assert shares([1.0] * 40)[-1] == MOST < 1


def test_it_keeps_no_more_than_a_window() -> None:
    busy = BusyShare()
    for tick in range(10_000):
        busy.note(0.0, tick / 10)
    assert len(busy._samples) <= WINDOW_S * 10 + 2
