"""What must not matter does not: part size, concurrency, engine and faults leave the same object (section 4.12)."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interposer import Interposer, answer, gateway_error, lose_answer, refuse, unreachable

import fastmpu
from fastmpu import mock
from fastmpu.ais import Object

AT_ONCE = fastmpu.RetryPolicy(attempts=3, base=0.0)
FAULTS = {
    "refused": refuse(500),
    "too many": refuse(429),
    "unreachable": unreachable,
    "answer lost": lose_answer,
    "gateway": gateway_error,
    "upload lost": answer(504),
}


@pytest.fixture(scope="module")
def tap() -> Iterator[Interposer]:
    tap = Interposer()
    yield tap
    tap.close()


@pytest.fixture(scope="module")
def bucket(cluster: mock.Cluster, tap: Interposer) -> Iterator[fastmpu.Bucket]:
    with fastmpu.Client(cluster.endpoint, transport=tap, timeouts=fastmpu.Timeouts(fence=0.05)) as client:
        yield client.bucket("bucket")


def state(obj: Object) -> tuple[bytes, int, str, str]:
    """What a reader can see of it."""
    props = obj.head()
    return obj.get_reader().read_all(), props.size, props.checksum_type, props.checksum_value


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    size=st.integers(2, 4_000),
    seed=st.integers(0, 2**32),
    runs=st.lists(
        st.tuples(
            st.integers(2, 30),  # parts, about
            st.integers(1, 16),
            st.sampled_from(["inline", "thread"]),
            st.lists(st.tuples(st.sampled_from(sorted(FAULTS)), st.integers(1, 8)), max_size=3),
        ),
        min_size=2,
        max_size=3,
    ),
)
def test_the_object_is_the_same(
    bucket: fastmpu.Bucket,
    tap: Interposer,
    size: int,
    seed: int,
    runs: list[tuple[int, int, str, list[tuple[str, int]]]],
) -> None:
    """Each of several ways to upload the same bytes: same content, same size, same checksum type and value."""
    data = random.Random(seed).randbytes(size)
    seen = set()
    checksums = set()
    for count, concurrency, engine, faults in runs:
        tap._rules.clear()
        # A second doubt would be a second restart; three are given up, which is another story.
        for at, (fault, part) in enumerate(faults):
            if at == 0 or fault in ("refused", "too many", "unreachable"):
                tap.on("part", FAULTS[fault], part=part, times=1)
        obj = bucket.object(f"same-{seed}")
        receipt = obj.upload(
            data,
            part_size=max(1, min(size - 1, -(-size // count))),
            multipart_threshold=1,
            max_concurrency=concurrency,
            engine=engine,
            retry=AT_ONCE,
        )
        assert receipt.verified == "head"
        seen.add(state(obj))
        checksums.add(receipt.checksum)
    obj.delete()
    assert [content for content, *_ in seen] == [data]
    assert len(checksums) == 1
