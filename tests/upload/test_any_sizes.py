"""Whatever the sizes: hypothesis looks for the one that is wrong."""

from __future__ import annotations

import random
import uuid

import crc32c
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastmpu

SETTINGS = settings(
    max_examples=60,
    deadline=None,  # a timing is no promise of these tests
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # one bucket for all
)


@SETTINGS
@given(
    size=st.integers(0, 40_000),
    part_size=st.integers(997, 9_000),
    threshold=st.integers(0, 20_000),
    concurrency=st.integers(1, 6),
    engine=st.sampled_from(["inline", "thread"]),
    checksum=st.sampled_from(["auto", "xxhash"]),
)
def test_what_is_stored_is_what_was_given(
    bucket: fastmpu.Bucket, size: int, part_size: int, threshold: int, concurrency: int, engine: str, checksum: str
) -> None:
    """Stored bytes = source bytes; the receipt's parts cover them without gap or overlap; the cluster's checksum of
    two parts or more is CRC32C, and the receipt's."""
    data = random.Random(size).randbytes(size)
    target = bucket.object(uuid.uuid4().hex)
    receipt = target.upload(
        data,
        part_size=part_size,
        multipart_threshold=threshold,
        max_concurrency=concurrency,
        engine=engine,
        checksum=checksum,
    )
    assert target.get_reader().read_all() == data
    assert receipt.size == size
    assert receipt.verified == "head"
    props = target.head()
    assert props.size == size
    if receipt.parts:
        at = 0
        for number, part in enumerate(receipt.parts, 1):
            assert (part.number, part.offset) == (number, at)
            assert part.length >= 1
            at += part.length
        assert at == size
        assert len(receipt.parts) >= 2
        assert props.checksum_type == "crc32c"
        assert f"crc32c:{props.checksum_value}" == receipt.checksum == f"crc32c:{crc32c.crc32c(data):08x}"
    else:
        assert size <= max(threshold, part_size)
    target.delete()
