"""Fixtures for other people's tests: `pytest_plugins = ["fastmpu.mock.pytest"]` in a `conftest.py`.

    @pytest.mark.ais_cluster(targets=2, quirks="fixed")   # options of `Cluster`; without the mark: its defaults
    def test_my_job(ais_bucket, ais_environment):
        run_my_job(source="...", target=ais_bucket.uri)   # finds the cluster by AIS_ENDPOINT
        assert ais_bucket.read("shard-0.tar") == ...

Every test has a cluster of its own, which starts within milliseconds and is gone after it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest

from fastmpu.mock.cluster import Cluster
from fastmpu.mock.inside import BucketView

__all__ = ["ais_bucket", "ais_cluster", "ais_environment"]

MARK = "ais_cluster"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{MARK}(**options): options of the mock AIStore cluster that the test runs on")


@pytest.fixture
def ais_cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A running mock cluster. The mark `ais_cluster` gives its options; of two marks the closer one counts."""
    marks = list(request.node.iter_markers(MARK))
    options = {key: value for mark in reversed(marks) for key, value in mark.kwargs.items()}
    known = list(inspect.signature(Cluster).parameters)
    wrong = [repr(value) for mark in marks for value in mark.args] + [key for key in options if key not in known]
    if wrong:
        raise pytest.UsageError(f"{MARK} takes {', '.join(f'{key}=' for key in known)}, not {', '.join(wrong)}")
    with Cluster(**options) as cluster:
        yield cluster


@pytest.fixture
def ais_bucket(ais_cluster: Cluster) -> BucketView:
    """An empty bucket, seen from within: put objects in and look at what came, without a client."""
    return ais_cluster.bucket("bucket")


@pytest.fixture
def ais_environment(ais_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Sets AIS_ENDPOINT for the test, and AIS_CLIENT_CA and AIS_AUTHN_TOKEN where the cluster wants them."""
    environment = ais_cluster.environment
    for name in ("AIS_CLIENT_CA", "AIS_AUTHN_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return environment
