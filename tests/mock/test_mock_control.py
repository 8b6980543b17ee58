"""The control port, as a test in another language would use it: HTTP and JSON, nothing of Python's."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator

import pytest
from talk import Call, Talk, ask

from fastmpu.mock import Cluster
from fastmpu.mock.fault_menu import MENU


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(targets=2, closing_delay=0.05, control_port=0) as cluster:
        yield cluster


@pytest.fixture
def talk(cluster: Cluster) -> Iterator[Talk]:
    yield Talk(cluster)
    cluster.faults.clear()


def control(talk: Talk, method: str, path: str, body: str = "") -> tuple[int, object]:
    reply = ask(talk.cluster.control, method, path, body.encode())
    return reply.status, json.loads(reply.body)


def lines(talk: Talk, path: str) -> list[dict[str, object]]:
    reply = ask(talk.cluster.control, "GET", path)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/x-ndjson")
    return [json.loads(line) for line in reply.body.splitlines()]


def test_what_there_is(talk: Talk) -> None:
    status, overview = control(talk, "GET", "/")
    assert status == 200
    assert isinstance(overview, dict)
    assert overview["endpoint"] == talk.cluster.endpoint
    assert [target["url"] for target in overview["targets"]] == [target.url for target in talk.cluster.targets]
    assert any("POST /faults" in line for line in overview["requests"])
    _, menu = control(talk, "GET", "/menu")
    assert isinstance(menu, list)
    assert [entry["fault"] for entry in menu] == list(MENU)


def test_faults_come_as_json_or_text_and_go(talk: Talk) -> None:
    status, added = control(talk, "POST", "/faults", '{"fault": "status", "op": "put", "code": 503}')
    assert status == 200
    assert isinstance(added, list)
    assert added[0]["times"] == 1
    assert talk.put("x", b"1").status == 503
    assert talk.put("x", b"1").status == 200
    status, added = control(talk, "POST", "/faults", "latency(1)\n# nothing\nstatus(op=head)\n")
    assert isinstance(added, list)
    assert [fault["fault"] for fault in added] == ["latency", "status"]
    _, listed = control(talk, "GET", "/faults")
    assert isinstance(listed, list)
    assert [(fault["fault"], fault["fired"]) for fault in listed] == [("status", 1), ("latency", 0), ("status", 0)]
    assert control(talk, "DELETE", f"/faults/{added[0]['id']}") == (200, {})
    assert control(talk, "DELETE", f"/faults/{added[0]['id']}")[0] == 404
    assert len(talk.cluster.faults) == 2
    assert control(talk, "DELETE", "/faults") == (200, {})
    assert len(talk.cluster.faults) == 0
    assert lines(talk, "/faults/log")[-1]["kind"] == "status"


def test_all_faults_of_a_list_are_checked_before_one_is_added(talk: Talk) -> None:
    status, answer = control(talk, "POST", "/faults", '[{"fault": "status"}, {"fault": "stattus"}]')
    assert status == 400
    assert isinstance(answer, dict)
    assert "no fault is called 'stattus'; there are refuse" in answer["error"]
    assert len(talk.cluster.faults) == 0


@pytest.mark.parametrize(
    "body", ["", "{", "[]", "[3]", '{"fault": 3}', "status(", "\x00\xff", '{"fault":"status","x":1}']
)
def test_bodies_that_are_no_faults(talk: Talk, body: str) -> None:
    status, answer = control(talk, "POST", "/faults", body)
    assert status == 400
    assert isinstance(answer, dict)
    assert answer["error"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nothing"),
        ("POST", "/truth"),
        ("DELETE", "/faults/x"),
        ("POST", "/targets/9/restart"),
        ("POST", "/targets/0/explode"),
        ("POST", "/targets/0/_node"),
        ("GET", "/truth/quiet?seconds=soon"),
        ("GET", "/truth?prat=3"),
        ("GET", "/truth?part=x"),
    ],
)
def test_requests_that_cannot_be_done(talk: Talk, method: str, path: str) -> None:
    status, answer = control(talk, method, path)
    assert status in (400, 404)
    assert isinstance(answer, dict)
    assert answer["error"]


def test_the_truth_log(talk: Talk) -> None:
    assert control(talk, "DELETE", "/truth") == (200, {})
    upload = talk.upload("a b")
    for _ in range(2):
        assert upload.part(3, b"x").status == 200
    assert control(talk, "GET", "/truth/quiet?seconds=1") == (200, {"quiet": True})
    query = urllib.parse.urlencode({"part": 3, "upload_id": upload.id, "name": "a b"})
    assert [record["outcome"] for record in lines(talk, f"/truth?{query}")] == ["stored", "unlinked-by-repeat"]
    _, violations = control(talk, "GET", "/truth/violations")
    assert isinstance(violations, list)
    assert "stored twice" in violations[0]
    with upload.part_in_flight(4, 10):
        assert control(talk, "GET", "/truth/quiet?seconds=0") == (200, {"quiet": False})


def test_targets_restart_and_go(talk: Talk) -> None:
    upload = talk.upload("x")
    number = next(at for at, one in enumerate(talk.cluster.targets) if one.url == f"http://{talk.owner('x')[0]}")
    assert control(talk, "POST", f"/targets/{number}/restart?keep_uploads=true") == (200, {})
    assert upload.part(1, b"x").status == 200
    assert control(talk, "POST", f"/targets/{talk.cluster.targets[number].id}/restart") == (200, {})
    assert upload.part(1, b"x").status == 404
    assert control(talk, "POST", f"/targets/{number}/kill") == (200, {})
    with pytest.raises(ConnectionRefusedError):
        talk.put("x", b"x")
    assert control(talk, "POST", f"/targets/{number}/restart") == (200, {})
    assert talk.put("x", b"x").status == 200
    before = talk.owner("x")
    assert control(talk, "POST", f"/targets/{number}/maintain") == (200, {})
    assert talk.owner("x")[0] != before[0]
    assert control(talk, "POST", f"/targets/{number}/activate") == (200, {})


def test_bodies_without_a_length_or_with_too_much_of_it(talk: Talk) -> None:
    for header in ({"Content-Length": "99999999"}, {"Transfer-Encoding": "chunked"}, {"Content-Length": "-1"}):
        with Call(talk.cluster.control) as call:
            call.head("POST", "/faults", None, header)
            assert call.reply().status == 400
            assert call.ended()


def test_no_control_port_unless_asked_for() -> None:
    with Cluster(targets=1) as cluster, pytest.raises(RuntimeError, match=r"Cluster\(control_port=0\)"):
        _ = cluster.control
    with Cluster(targets=1, control_port=0) as cluster:
        url = cluster.control
        assert ask(url, "GET", "/").status == 200
    with pytest.raises(ConnectionRefusedError):
        Call(url)
