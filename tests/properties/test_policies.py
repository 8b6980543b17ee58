"""Classes, waits and budgets for any input: bounds that hold, and nobody who starves (section 4.6 and 4.9)."""

from __future__ import annotations

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

import fastmpu
from fastmpu._upload.retry import LONGEST_RETRY_AFTER, RetryBudget
from fastmpu._upload.throttle import Throttle
from fastmpu.ais.failure import Answer, Facts, Failure, classify, facts_of
from fastmpu.errors import ClusterError, TransportError

SETTINGS = settings(deadline=None, derandomize=True, max_examples=150)
POLICIES = st.builds(
    lambda attempts, base, more: fastmpu.RetryPolicy(attempts=attempts, base=base, cap=base + more),
    st.integers(1, 100_000),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
)
AGAIN = {Failure.PASSING, Failure.NEVER_PROCESSED}


@SETTINGS
@given(
    of_upload=st.booleans(),
    sent=st.booleans(),
    status=st.integers(100, 999),
    tcode=st.sampled_from(["", "ErrNotFound", "ErrBadCksum", "ErrBckNotFound"]) | st.text(max_size=8),
    node=st.sampled_from(["", "t[x]"]),
)
def test_only_aistores_own_words_allow_another_try(
    of_upload: bool, sent: bool, status: int, tcode: str, node: str
) -> None:
    """Whatever an answer says: without a node's name it is doubt, and with one it never is."""
    error = ClusterError("no", status=status, tcode=tcode, node=node)
    failure = classify(facts_of(error, of_upload=of_upload, sent=sent))
    assert (failure is Failure.UNKNOWN) == (not node)


@SETTINGS
@given(facts=st.builds(Facts, st.booleans(), st.booleans(), st.sampled_from(Answer), st.integers(-1, 10_000)))
def test_the_classifier_is_total_and_careful(facts: Facts) -> None:
    """Any facts have a class; what may be stored is never in one that is sent again."""
    doubt = facts.answer is Answer.STRANGE or (facts.answer is Answer.NONE and facts.sent)
    assert (classify(facts) in AGAIN) <= (not doubt)
    if facts.answer is Answer.NONE:
        error = TransportError("no answer", sent=facts.sent)
        assert classify(facts_of(error, of_upload=facts.of_upload, sent=True)) is classify(facts)


@SETTINGS
@given(
    policy=POLICIES,
    attempt=st.integers(1, 200_000),
    failure=st.sampled_from(Failure),
    retry_after=st.none() | st.floats(0, 1e9),
)
def test_a_wait_is_within_its_bounds(
    policy: fastmpu.RetryPolicy, attempt: int, failure: Failure, retry_after: float | None
) -> None:
    """Never after the last attempt, never in doubt, never longer than the cap or two minutes."""
    wait = policy.delay(attempt, failure, retry_after)
    assert (wait is not None) == (attempt < policy.attempts and failure in AGAIN)
    if wait is not None:
        assert 0 <= wait <= (policy.cap if retry_after is None else min(retry_after, LONGEST_RETRY_AFTER))
        if retry_after is None and attempt < 1000:
            assert wait <= policy.base * 2.0 ** (attempt - 1)


@SETTINGS
@given(steps=st.lists(st.booleans(), max_size=400))
def test_a_budget_is_never_overspent(steps: list[bool]) -> None:
    """At every moment: 10 and a tenth of the requests, rounded up to the next whole one."""
    budget = RetryBudget()
    requests = spent = 0
    for request in steps:
        if request:
            budget.request()
            requests += 1
        else:
            allowed = spent < 10 + 0.1 * requests
            assert budget.spend() == allowed
            spent += allowed
        assert spent <= 10 + 0.1 * requests + 1


@SETTINGS
@given(
    parts=st.integers(1, 60),
    most=st.integers(1, 16),
    storm=st.lists(st.booleans(), max_size=200),
)
def test_nobody_starves_once_the_storm_is_over(parts: int, most: int, storm: list[bool]) -> None:
    """On virtual time: each round sends as many parts as the throttle allows; a 429 puts a part back. Whatever the
    storm was like, all parts are through soon after it, and the concurrency comes back."""
    throttle = Throttle(most)
    waiting = deque(range(parts))
    weather = deque(storm)
    rounds = 0
    while waiting:
        rounds += 1
        assert rounds <= len(storm) + parts, "a round without a storm sends at least one part"
        assert 1 <= throttle.limit <= most
        for _ in range(min(throttle.limit, len(waiting))):
            part = waiting.popleft()
            if weather and weather.popleft():
                throttle.too_much()
                waiting.append(part)
            else:
                throttle.went_well()
    for _ in range(20 * most):
        throttle.went_well()
    assert throttle.limit == most
