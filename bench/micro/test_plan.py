"""Cutting an object into parts, and going through them."""

from __future__ import annotations

from collections.abc import Callable

from fastmpu import plan_parts
from fastmpu._sizes import GiB, MiB

Benchmark = Callable[..., object]


def test_plan_a_terabyte(benchmark: Benchmark) -> None:
    """Parts are computed when asked for, so this does not grow with their number."""
    benchmark(plan_parts, 1024 * GiB)


def test_all_parts_in_the_order_of_sending(benchmark: Benchmark) -> None:
    plan = plan_parts(9_000 * 64 * MiB)
    assert len(plan.parts) == 9_000
    benchmark(lambda: [plan.parts[number - 1] for number in plan.send_order()])
