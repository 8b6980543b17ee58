"""The planner: whatever is asked, the parts are the source, and AIStore will take them; or a PlanError says why not."""

from __future__ import annotations

import pickle
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmpu._plan import MAX_PART_SIZE, MAX_PARTS, MAX_SIZE, PartRange, Plan, plan_parts
from fastmpu._sizes import GiB, MiB, TiB
from fastmpu.errors import PlanError

SIZES = st.one_of(st.integers(0, 300 * MiB), st.integers(0, MAX_SIZE))
PROVIDERS = st.sampled_from(["ais", "aws", "gcp", "azure", "oci"])


def check(plan: Plan, size: int) -> None:
    parts = plan.parts
    assert plan.size == size
    assert len(parts) <= MAX_PARTS
    if len(parts) <= 300:
        sample = list(parts)
        assert [part.number for part in sample] == list(range(1, len(parts) + 1))
        assert sum(part.length for part in sample) == size
        assert sorted(plan.send_order()) == [part.number for part in sample]
    else:
        sample = [parts[0], parts[1], parts[len(parts) // 2], parts[-2], parts[-1]]
        assert parts[-1].number == len(parts)
    for part in sample:
        assert 1 <= part.length <= MAX_PART_SIZE or not plan.multipart
        assert part.length == plan.part_size or part.number == len(parts)
        assert part.length <= plan.part_size
        # Disjoint and without a gap: each begins where the one before it ends.
        assert part.offset == (0 if part.number == 1 else parts[part.number - 2].offset + plan.part_size)
    if parts:
        assert parts[-1].offset + parts[-1].length == size
    order = plan.send_order()
    if len(parts) >= 2:
        assert next(order) != 1
    assert plan.multipart == (len(parts) >= 2)


@given(size=SIZES, provider=PROVIDERS, concurrency=st.integers(1, 100))
def test_the_automatic_plan_always_fits(size: int, provider: str, concurrency: int) -> None:
    """And comes out even: no round of requests but a late one has fewer of them, and no last part is a crumb."""
    plan = plan_parts(size, provider=provider, max_concurrency=concurrency)
    check(plan, size)
    if plan.multipart:
        count = len(plan.parts)
        assert plan.part_size >= (64 if count > 4 * concurrency else 16) * MiB
        assert plan.part_size % (64 << 10) == 0
        assert size > 128 * MiB
        if count <= 4 * concurrency:
            assert plan.parts[-1].length > plan.part_size - count * (64 << 10) > 0
            assert count % concurrency == 0 or plan.part_size < 32 * MiB
    else:
        assert size <= 128 * MiB


@given(size=SIZES, part_size=st.integers(1, MAX_PART_SIZE), provider=PROVIDERS, data=st.data())
def test_an_asked_part_size_is_taken_or_refused_never_bent(size: int, part_size: int, provider: str, data: Any) -> None:
    threshold = data.draw(st.one_of(st.just("auto"), st.integers(0, MAX_PART_SIZE)))
    smallest = max(-(-size // MAX_PARTS), 1 if provider == "ais" else 5 * MiB)
    if part_size < smallest:
        with pytest.raises(PlanError, match=f"part_size={part_size} .* {smallest},"):
            plan_parts(size, part_size=part_size, multipart_threshold=threshold, provider=provider)
        check(plan_parts(size, part_size=smallest, provider=provider), size)  # the remedy works
    else:
        plan = plan_parts(size, part_size=part_size, multipart_threshold=threshold, provider=provider)
        check(plan, size)
        assert plan.multipart == (size > part_size and (threshold == "auto" or size > threshold))
        assert not plan.multipart or plan.part_size == part_size


@pytest.mark.parametrize("size", [0, 1, 64 * MiB, 128 * MiB])
def test_what_is_small_goes_as_one_plain_put(size: int) -> None:
    plan = plan_parts(size)
    assert not plan.multipart
    assert list(plan.parts) == ([PartRange(1, 0, size)] if size else [])
    assert list(plan.send_order()) == ([1] if size else [])
    assert "one plain PUT" in plan.reason


def test_one_byte_more_than_the_threshold_makes_it_multipart() -> None:
    assert len(plan_parts(128 * MiB + 1).parts) == 8
    assert [part.length for part in plan_parts(11, part_size=10).parts] == [10, 1]
    assert not plan_parts(10, part_size=10).multipart
    assert plan_parts(11, part_size=4, multipart_threshold=0).multipart
    assert not plan_parts(11, part_size=4, multipart_threshold=11).multipart
    assert not plan_parts(100 * MiB, multipart_threshold=200 * MiB).multipart


def test_part_one_comes_last() -> None:
    assert list(plan_parts(5, part_size=1).send_order()) == [2, 3, 4, 5, 1]


def test_a_large_source_gets_larger_parts() -> None:
    limit = MAX_PARTS * 64 * MiB
    assert plan_parts(limit).part_size == 64 * MiB
    assert plan_parts(limit + 1).part_size == 65 * MiB
    assert "9,999" in plan_parts(limit + 1).reason
    assert plan_parts(5 * TiB).part_size == 525 * MiB
    largest = plan_parts(MAX_SIZE)
    assert (largest.part_size, len(largest.parts)) == (MAX_PART_SIZE, MAX_PARTS)


@pytest.mark.parametrize(
    ("size", "options", "says"),
    [
        (100, {"part_size": 0}, "part_size=0 .*smallest allowed is 1, as a part cannot be empty"),
        (100, {"part_size": -5}, "part_size=-5 .*smallest allowed is 1"),
        (0, {"part_size": 0}, "part_size=0 "),
        (10 * GiB, {"part_size": MiB}, "part_size=1048576 .*smallest allowed is 1073850, as .*at most 9,999 parts"),
        (10 * MiB, {"part_size": MiB, "provider": "aws"}, "part_size=1048576 .*smallest allowed is 5242880, as aws"),
        (100, {"part_size": 5 * GiB + 1}, "part_size=5368709121 is too large: .*5368709120"),
        (100, {"part_size": "64MiB"}, "part_size='64MiB' is not an int"),
        (100, {"part_size": True}, "part_size=True"),
        (100, {"part_size": 1.5}, "part_size=1.5"),
        (100, {"multipart_threshold": -1}, "multipart_threshold=-1"),
        (100, {"multipart_threshold": 5 * GiB + 1}, "multipart_threshold=5368709121"),
        (100, {"multipart_threshold": "big"}, "multipart_threshold='big'"),
        (100, {"max_concurrency": 0}, "max_concurrency=0"),
        (100, {"max_concurrency": "many"}, "max_concurrency='many'"),
        (-1, {}, "size=-1 "),
        (MAX_SIZE + 1, {}, f"size={MAX_SIZE + 1} .*9,999 parts of 5 GiB"),
    ],
)
def test_what_cannot_be_is_refused_with_the_value_and_the_remedy(size: int, options: dict[str, Any], says: str) -> None:
    with pytest.raises(PlanError, match=says):
        plan_parts(size, **options)


def test_a_remote_buckets_minimum_is_not_for_the_last_part() -> None:
    assert [part.length for part in plan_parts(5 * MiB + 1, part_size=5 * MiB, provider="gcp").parts] == [5 * MiB, 1]


def test_a_plan_pickles_and_compares() -> None:
    plan = plan_parts(GiB)
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert plan != plan_parts(GiB + 1)


def test_parts_are_an_immutable_sequence() -> None:
    parts = plan_parts(10, part_size=3).parts
    assert parts[-1] == PartRange(4, 9, 1)
    assert parts[1:3] == (PartRange(2, 3, 3), PartRange(3, 6, 3))
    assert PartRange(2, 3, 3) in parts
    with pytest.raises(IndexError):
        parts[4]
    with pytest.raises(TypeError):
        parts[0] = parts[1]  # type: ignore[index]


def test_ten_thousand_parts_cost_no_memory() -> None:
    tracemalloc.start()
    try:
        plan = plan_parts(MAX_SIZE)
        assert sum(part.length for part in plan.parts) == MAX_SIZE
        assert next(plan.send_order()) == 2
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000
