"""Retry policy, budget, throttle and cancel flag: four small owners, none of which sends or prints anything."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

import pytest

import fastmpu
from fastmpu._upload.cancel import SLICE, CancelFlag
from fastmpu._upload.retry import LONGEST_RETRY_AFTER, RetryBudget
from fastmpu._upload.throttle import RECOVER_AFTER, Throttle
from fastmpu.ais.failure import Failure
from fastmpu.errors import UsageError


def hammer(work: Callable[[], object], times: int = 2000, threads: int = 8) -> None:
    def run() -> None:
        for _ in range(times):
            work()

    running = [threading.Thread(target=run) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(30)


# --- the policy -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", list(Failure))
def test_only_failures_without_doubt_are_tried_again(failure: Failure) -> None:
    """UNKNOWN never: not on the first attempt, not with a Retry-After."""
    policy = fastmpu.RetryPolicy()
    again = failure in (Failure.PASSING, Failure.NEVER_PROCESSED)
    assert (policy.delay(1, failure) is not None) == again
    assert (policy.delay(1, failure, retry_after=1.0) is not None) == again


def test_very_many_attempts_do_not_overflow() -> None:
    """A policy that never gives up waits `cap` seconds at most, also at its 100,000th try."""
    policy = fastmpu.RetryPolicy(attempts=200_000, base=0.2, cap=15.0)
    for attempt in (1_024, 1_025, 100_000):
        wait = policy.delay(attempt, Failure.PASSING)
        assert wait is not None
        assert 0 <= wait <= 15.0


def test_the_last_attempt_is_the_last() -> None:
    """`attempts` counts all tries; a Retry-After does not buy another one."""
    policy = fastmpu.RetryPolicy(attempts=3)
    assert policy.delay(2, Failure.PASSING) is not None
    assert policy.delay(3, Failure.PASSING, retry_after=1.0) is None
    assert fastmpu.RetryPolicy(attempts=1).delay(1, Failure.NEVER_PROCESSED) is None


def test_retry_after_is_obeyed_within_reason() -> None:
    """Two minutes at most."""
    policy = fastmpu.RetryPolicy()
    assert policy.delay(1, Failure.PASSING, retry_after=0.0) == 0.0
    assert policy.delay(1, Failure.PASSING, retry_after=7.5) == 7.5
    assert policy.delay(1, Failure.PASSING, retry_after=math.inf) == LONGEST_RETRY_AFTER


@pytest.mark.parametrize("bad", [{"base": math.nan}, {"cap": math.nan}, {"base": math.inf}, {"cap": math.inf}])
def test_waits_are_finite_numbers(bad: dict[str, float]) -> None:
    """NaN compares with nothing, and would pass a careless check."""
    with pytest.raises(UsageError):
        fastmpu.RetryPolicy(**bad)  # type: ignore[arg-type]


# --- the budget -------------------------------------------------------------------------------------------------------


def test_a_budget_is_ten_and_a_tenth() -> None:
    """A sick cluster is not stormed: 1,000 requests may be repeated 110 times."""
    budget = RetryBudget()
    assert [budget.spend() for _ in range(11)] == [True] * 10 + [False]
    for _ in range(1000):
        budget.request()
    assert sum(budget.spend() for _ in range(500)) == 100


def test_threads_do_not_overspend() -> None:
    """Eight threads ask 2,000 times each: exactly as many as there are."""
    budget = RetryBudget()
    for _ in range(500):
        budget.request()
    granted: list[bool] = []
    hammer(lambda: granted.append(budget.spend()))
    assert sum(granted) == 60


# --- the throttle -----------------------------------------------------------------------------------------------------


def test_too_much_halves_and_success_recovers() -> None:
    """16, 8, 4, ..., never below 1; one more for every 20 successes, never above what was asked for."""
    throttle = Throttle(16)
    seen = []
    for _ in range(6):
        throttle.too_much()
        seen.append(throttle.limit)
    assert seen == [8, 4, 2, 1, 1, 1]
    for _ in range(RECOVER_AFTER - 1):
        throttle.went_well()
    assert throttle.limit == 1
    throttle.went_well()
    assert throttle.limit == 2
    for _ in range(RECOVER_AFTER * 50):
        throttle.went_well()
    assert throttle.limit == 16


def test_a_refusal_starts_the_count_anew() -> None:
    """19 successes, one refusal, and 19 more do not raise the limit."""
    throttle = Throttle(4)
    throttle.too_much()
    for _ in range(2):
        for _ in range(RECOVER_AFTER - 1):
            throttle.went_well()
        throttle.too_much()
    assert throttle.limit == 1


def test_threads_do_not_leave_the_bounds() -> None:
    """Whatever they report, and in whatever order: 1 to `most`, at every look."""
    throttle = Throttle(7)
    seen: set[int] = set()

    def work() -> None:
        for _ in range(RECOVER_AFTER):
            throttle.went_well()
        throttle.too_much()
        seen.add(throttle.limit)

    hammer(work, times=100)
    assert seen <= set(range(1, 8))


# --- the cancel flag --------------------------------------------------------------------------------------------------


def test_any_reason_raises_the_flag() -> None:
    """The caller's event, our own failure, the deadline; and it tells which of the caller's two it was."""
    event = threading.Event()
    asked = CancelFlag(event, None)
    assert (asked.is_set(), asked.interval) == (False, SLICE)
    event.set()
    assert (asked.is_set(), asked.requested, asked.overdue) == (True, True, False)
    late = CancelFlag(None, 0.0)
    time.sleep(0.001)
    assert (late.is_set(), late.requested, late.overdue) == (True, False, True)
    own = CancelFlag(None, None)
    assert own.interval is None
    own.set()
    assert (own.is_set(), own.requested, own.overdue) == (True, False, False)


@pytest.mark.parametrize("how", ["event", "own", "deadline"])
def test_a_wait_ends_when_the_flag_goes_up(how: str) -> None:
    """Soon, though the caller's event cannot wake us."""
    event = threading.Event()
    flag = CancelFlag(event, 0.05 if how == "deadline" else None)
    timer = threading.Timer(0.05, event.set if how == "event" else flag.set if how == "own" else int)
    timer.start()
    began = time.monotonic()
    assert flag.wait(30)
    assert time.monotonic() - began < 5
    timer.join()


def test_a_wait_that_nobody_ends_is_as_long_as_asked() -> None:
    """And says that it was not cancelled; a flag that is up is not waited for."""
    flag = CancelFlag(None, 60.0)
    began = time.monotonic()
    assert not flag.wait(0.06)
    assert time.monotonic() - began >= 0.06
    assert not flag.wait(0)
    flag.set()
    assert flag.wait(60)
