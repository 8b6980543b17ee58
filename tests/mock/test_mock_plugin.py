"""The pytest plugin and the page's examples, run as a stranger's project would run them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastmpu.mock import Cluster

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
CONFTEST = 'pytest_plugins = ["fastmpu.mock.pytest"]\n'
TESTS = """
import os, urllib.request
import pytest

def test_default(ais_cluster, ais_bucket):
    assert len(ais_cluster.targets) == 3
    assert "AIS_ENDPOINT" not in os.environ
    assert ais_bucket.names() == []

@pytest.mark.ais_cluster(targets=2, tokens=["secret"], tls="self-made")
class TestMarked:
    def test_of_the_class(self, ais_cluster, ais_environment):
        assert len(ais_cluster.targets) == 2
        assert os.environ["AIS_ENDPOINT"].startswith("https://")
        assert os.environ["AIS_AUTHN_TOKEN"] == "secret"
        assert open(os.environ["AIS_CLIENT_CA"]).read()

    @pytest.mark.ais_cluster(targets=1)
    def test_the_closer_one(self, ais_cluster):
        assert len(ais_cluster.targets) == 1 and ais_cluster.endpoint.startswith("https://")

def test_nothing_is_left(ais_bucket, ais_environment):
    assert "AIS_AUTHN_TOKEN" not in os.environ
    assert ais_bucket.names() == []
    assert urllib.request.urlopen(os.environ["AIS_ENDPOINT"] + "/v1/health").status == 200

@pytest.mark.ais_cluster(2, tragets=2)
def test_wrong(ais_cluster):
    pass
"""


def run(directory: Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("AIS_", "PYTEST_"))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--strict-markers"]
    return subprocess.run([*command, "."], cwd=directory, env=environment, capture_output=True, text=True, check=False)


def test_fixtures_and_marks(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(TESTS)
    done = run(tmp_path)
    assert "4 passed, 1 error" in done.stdout, done.stdout
    assert "ais_cluster takes targets=" in done.stdout
    assert "not 2, tragets" in done.stdout


def test_the_examples_of_the_page() -> None:
    done = run(EXAMPLES)
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout


def test_a_bucket_from_within() -> None:
    cluster = Cluster(targets=2)
    with pytest.raises(RuntimeError, match="not running"):
        cluster.bucket("b")
    with cluster:
        bucket = cluster.bucket("b")
        assert repr(bucket) == "<BucketView ais://b>"
        bucket.put("large", bytes(2_000_000))
        bucket.put("empty", b"")
        assert list(cluster.bucket("b")) == ["empty", "large"]
        assert "large" in bucket
        assert bucket.size("large") == 2_000_000
        checksum = bucket.checksum("empty")
        assert checksum
        assert checksum == ("xxhash2", "ef46db3751d8e999")
        assert bucket.read("large") == bytes(2_000_000)
        bucket.remove("large")
        for act in (bucket.read, bucket.size, bucket.checksum, bucket.remove):
            with pytest.raises(KeyError, match="does not exist"):
                act("large")
