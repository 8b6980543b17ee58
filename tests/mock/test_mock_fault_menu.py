"""Every fault of the menu once, on real sockets: what its victim sees, and what the truth log says."""

from __future__ import annotations

import time
from collections.abc import Iterator

import fault_stories_answers  # noqa: F401 - tells its stories by being imported
import pytest
from fault_stories import STORIES
from talk import Talk

from fastmpu.mock import Cluster
from fastmpu.mock.fault_menu import MENU


@pytest.fixture
def talk() -> Iterator[Talk]:
    with Cluster(targets=2, closing_delay=0.05, seed=1) as cluster:
        yield Talk(cluster)
        begun = time.monotonic()
    assert time.monotonic() - begun < 1.0, "stop waits for a fault"


ELSEWHERE = {"tls_bad_cert"}  # needs HTTPS: test_mock_tls.py


@pytest.mark.parametrize("name", [name for name in MENU if name not in ELSEWHERE])
def test_each_fault_of_the_menu_happens_and_is_seen(talk: Talk, name: str) -> None:
    STORIES[name](talk)
    assert [fired.kind for fired in talk.cluster.faults.log] != []
    assert {fired.kind for fired in talk.cluster.faults.log} == {name}


def test_no_fault_is_without_a_story() -> None:
    assert set(STORIES) | ELSEWHERE == set(MENU)
