"""How such a job is tested: `pytest docs/examples`. No cluster, no credentials, no network."""

from __future__ import annotations

import io
import tarfile

import pytest
from aistore.sdk.errors import AISError
from etl_job import pack_upper

from fastmpu.mock import BucketView, Cluster


@pytest.mark.usefixtures("ais_environment")  # sets AIS_ENDPOINT
def test_it_packs_what_is_there(ais_bucket: BucketView) -> None:
    for name, data in (("in/a.txt", b"one"), ("in/b.txt", b"two"), ("other.txt", b"three")):
        ais_bucket.put(name, data)
    assert pack_upper(ais_bucket.name, "in/", "out.tar") == 2
    with tarfile.open(fileobj=io.BytesIO(ais_bucket.read("out.tar"))) as tar:
        assert tar.getnames() == ["a.txt", "b.txt"]
        assert [tar.extractfile(name).read() for name in tar.getnames()] == [b"ONE", b"TWO"]  # type: ignore[union-attr]


@pytest.mark.usefixtures("ais_environment")
def test_it_stores_nothing_for_nothing(ais_bucket: BucketView) -> None:
    assert pack_upper(ais_bucket.name, "in/", "out.tar") == 0
    assert "out.tar" not in ais_bucket


@pytest.mark.ais_cluster(targets=1, memory_limit=1000)
@pytest.mark.usefixtures("ais_environment")
def test_it_says_so_when_the_cluster_is_full(ais_bucket: BucketView) -> None:
    ais_bucket.put("in/a.txt", b"one")
    with pytest.raises(AISError, match="out of space"):
        pack_upper(ais_bucket.name, "in/", "out.tar")  # a tar has 10 KiB at least


@pytest.mark.ais_cluster(targets=2)
@pytest.mark.usefixtures("ais_environment")
def test_it_works_while_a_target_leaves(ais_cluster: Cluster, ais_bucket: BucketView) -> None:
    for number in range(10):
        ais_bucket.put(f"in/{number}", b"x")
    ais_cluster.targets[0].remove()
    assert pack_upper(ais_bucket.name, "in/", "out.tar") == 10
