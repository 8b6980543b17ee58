"""The cluster every story runs on: the mock, or the one that `AIS_ENDPOINT` names. And the watch for the canary: a test
whose output, logs, warnings or failure show a piece of the tests' token has failed, whatever it was about.
"""

from __future__ import annotations

import logging
import os
import uuid
import warnings
from collections.abc import Generator, Iterator

import pytest
from canary import leaks

import fastmpu
from fastmpu import mock
from fastmpu._upload import process_pool


def pytest_configure(config: pytest.Config) -> None:
    logging.getLogger("fastmpu").setLevel(logging.DEBUG)  # what is never logged cannot be searched
    config.pluginmanager.register(WarningWatch(config))


class WarningWatch:
    """Warnings reach pytest when their test has been reported: one that shows the token is a failure of its own."""

    def __init__(self, config: pytest.Config):
        self._config = config

    @pytest.hookimpl(tryfirst=True)
    def pytest_warning_recorded(self, warning_message: warnings.WarningMessage, when: str, nodeid: str) -> None:
        if not leaks([("message", f"{warning_message.message} {warning_message.line} {warning_message.source!r}")]):
            return
        # Others show it, and xdist carries it on, after this.
        warning_message.message = UserWarning("not told again: it shows the token")
        warning_message.line = warning_message.source = None
        if when != "runtest":
            pytest.exit(f"the token was shown in: a warning during {when}", returncode=pytest.ExitCode.TESTS_FAILED)
        report = pytest.TestReport(
            nodeid, (nodeid, None, nodeid), {}, "failed", "the token was shown in: a warning", "teardown"
        )
        self._config.hook.pytest_runtest_logreport(report=report)


# Reports repeat the sections of the phases before.
_OTHER_PHASES = {"collect": (), "setup": (), "call": (" setup",), "teardown": (" setup", " call")}


def _search(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Where the tests run, so with and without xdist. What was found is not told again: reports are published."""
    shown = leaks(report.sections)
    found = leaks([("name", report.nodeid), ("failure", report.longreprtext)])
    found += [name for name in shown if not name.endswith(_OTHER_PHASES[report.when or "collect"])]
    report.sections = [(name, text) for name, text in report.sections if name not in shown]
    if found:
        report.outcome = "failed"
        report.longrepr = f"the token was shown in: {', '.join(found)}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _search(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _search(report)
    return report


@pytest.fixture(autouse=True, scope="session")
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Notes of uploads go to a directory of this run's own, also those of child processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def no_head_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploads in stories are short; those with worker processes are about them."""
    monkeypatch.setattr(process_pool, "START_AFTER", 0.0)


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """A proxy's URL. The mock lives as long as the test process; tests keep apart by their buckets."""
    live = os.environ.get("AIS_ENDPOINT")
    if live:
        yield live
        return
    with mock.Cluster(targets=3) as cluster:
        yield cluster.endpoint


@pytest.fixture
def client(endpoint: str) -> Iterator[fastmpu.Client]:
    with fastmpu.Client(endpoint) as client:
        yield client


@pytest.fixture
def bucket(client: fastmpu.Client) -> Iterator[fastmpu.Bucket]:
    """A fresh bucket, gone after the test."""
    bucket = client.bucket(f"test-{uuid.uuid4().hex[:12]}").create()
    yield bucket
    bucket.delete(missing_ok=True)
