"""What NVIDIA's own Python SDK, plain and unpatched, does to data on AIStore v5.0 when an answer gets lost.

Not a test of ours: it documents the hazard that fastmpu exists for. The SDK's retry sends the part again, each call
is answered with 200, HEAD shows the full size and even the right checksum, and the object cannot be read. Its waits
between retries are made short through its public `RetryConfig`; what it retries is its default.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import crc32c
import pytest
import tenacity
import urllib3
from aistore.sdk import Client
from aistore.sdk.retry_config import NETWORK_RETRY_EXCEPTIONS, RetryConfig

from fastmpu.mock import Cluster

PARTS = [bytes([number]) * 70_000 for number in (1, 2, 3)]


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with Cluster(targets=2, closing_delay=0.05, quirks=request.param) as cluster:
        yield cluster


@pytest.fixture
def bucket(cluster: Cluster) -> Iterator[Any]:
    default = RetryConfig.default().http_retry
    quick = RetryConfig(
        http_retry=urllib3.Retry(
            total=default.total, backoff_factor=0, status_forcelist=default.status_forcelist, connect=0, read=0
        ),
        network_retry=tenacity.Retrying(
            wait=tenacity.wait_fixed(0.05),
            stop=tenacity.stop_after_attempt(7),
            retry=tenacity.retry_if_exception_type(NETWORK_RETRY_EXCEPTIONS),
            reraise=True,
        ),
    )
    client = Client(cluster.endpoint, timeout=(3, 5), retry_config=quick)
    yield client.bucket("hazard").create()
    client._request_client.session_manager.session.close()


def upload(bucket: Any) -> tuple[Any, list[int]]:
    """An object of three parts, and the statuses of all that it took."""
    obj = bucket.object("shard.tar")
    multipart = obj.multipart_upload().create()
    statuses = [multipart.add_part(number).put_content(part).status_code for number, part in enumerate(PARTS, 1)]
    return obj, [*statuses, multipart.complete().status_code]


@pytest.mark.parametrize("cluster", ["v5.0"], indirect=True)
@pytest.mark.parametrize("fault", ["lost_response(reset, op=part, part=2)", "lost_response(fin, op=part, part=2)"])
def test_a_lost_answer_costs_a_part_and_every_status_is_200(cluster: Cluster, bucket: Any, fault: str) -> None:
    cluster.faults.add(fault)
    obj, statuses = upload(bucket)
    assert statuses == [200, 200, 200, 200]
    assert obj.props.size == sum(map(len, PARTS))
    assert obj.props.checksum_type == "crc32c"
    assert int(obj.props.checksum_value, 16) == crc32c.crc32c(b"".join(PARTS))
    with pytest.raises(Exception, match=r"IncompleteRead|broken|ended prematurely"):
        obj.get_reader().read_all()
    assert [record.outcome for record in cluster.truth.attempts(part=2)] == ["stored", "unlinked-by-repeat"]
    assert any("part 2" in sentence and "stored twice" in sentence for sentence in cluster.truth.violations())


@pytest.mark.parametrize("cluster", ["v5.0"], indirect=True)
def test_so_does_a_gateway_that_loses_patience(cluster: Cluster, bucket: Any) -> None:
    """The 504 is sent again at once; then the first attempt, which nobody waits for any more, ends well."""
    with cluster.faults.add("gateway_504(op=part, part=2, ms=forever)"):
        obj, statuses = upload(bucket)
        assert statuses == [200, 200, 200, 200]
        assert obj.get_reader().read_all() == b"".join(PARTS), "a full read, right after, sees nothing wrong"
    assert cluster.truth.wait_until_quiet()
    with pytest.raises(Exception, match=r"IncompleteRead|broken|ended prematurely"):
        obj.get_reader().read_all()
    assert [record.outcome for record in cluster.truth.attempts(part=2)] == ["unlinked-late", "stored"]


@pytest.mark.parametrize("cluster", ["fixed"], indirect=True)
def test_a_repaired_server_would_forgive_it(cluster: Cluster, bucket: Any) -> None:
    cluster.faults.add("lost_response(op=part, part=2)")
    obj, statuses = upload(bucket)
    assert statuses == [200, 200, 200, 200]
    assert obj.get_reader().read_all() == b"".join(PARTS)
