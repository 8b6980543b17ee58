"""Uploads that only the cluster knows of: listed and aborted for those who ask, and for nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest

import fastmpu
from fastmpu import mock
from fastmpu._transport import BufferBody
from fastmpu.errors import ResumeError, UsageError

from .test_resume import stopped


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "source.bin"
    path.write_bytes(bytes(12 * 65_536))
    return path


def test_ours_and_others(obj: fastmpu.Object, cluster: mock.Cluster, path: Path, notes: Path) -> None:
    """The list has everybody's; which are in the journal is told."""
    stopped(obj, path, notes)
    (ours,) = fastmpu.unfinished_uploads(journal=str(notes))
    others = obj.bucket.object("another").multipart_upload().create().upload_id
    found = {
        each.upload_id: each
        for each in fastmpu.cluster_uploads("ais://bucket", endpoint=cluster.endpoint, journal=str(notes))
    }
    assert set(found) == {ours.upload_id, others}
    assert found[ours.upload_id].known
    assert found[ours.upload_id].uri == ours.uri == obj.uri
    assert not found[str(others)].known
    assert abs(found[ours.upload_id].created - ours.created) < 10
    assert not any(
        each.known for each in fastmpu.cluster_uploads("ais://bucket", endpoint=cluster.endpoint, journal="off")
    )
    assert [each.upload_id for each in fastmpu.unfinished_uploads(journal=str(notes))] == [ours.upload_id]
    assert cluster.truth.attempts(op="get") == []  # nothing like a list of parts (protocol H9)


def test_aborted_by_whoever_names_the_bucket(obj: fastmpu.Object, cluster: mock.Cluster, notes: Path) -> None:
    mpu = obj.multipart_upload().create()
    mpu.put_part(1, BufferBody(memoryview(b"some bytes")))
    assert mpu.upload_id is not None
    with pytest.raises(ResumeError, match="uploads ls"):
        fastmpu.abort_upload(mpu.upload_id, endpoint=cluster.endpoint, journal=str(notes))
    assert cluster.stored_bytes
    assert fastmpu.abort_cluster_upload(mpu.upload_id, "ais://bucket", endpoint=cluster.endpoint) is True
    assert cluster.stored_bytes == 0
    with pytest.raises(ResumeError, match="--cluster ais://bucket"):
        fastmpu.abort_cluster_upload(mpu.upload_id, "ais://bucket", endpoint=cluster.endpoint)
    with pytest.raises(UsageError, match="names an object"):
        fastmpu.abort_cluster_upload(mpu.upload_id, "ais://bucket/object", endpoint=cluster.endpoint)
