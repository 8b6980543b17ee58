"""The cluster as a whole: its map, its targets coming and going, buckets' limits, its figures (protocol 2, 3, 6)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest
from talk import Call, Talk, ask

from fastmpu.mock import Cluster


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(targets=3) as cluster:
        yield cluster


def version(cluster: Cluster) -> int:
    return int(json.loads(ask(cluster.endpoint, "GET", "/v1/daemon?what=smap").body)["version"])


def test_ports_names_and_figures(cluster: Cluster) -> None:
    assert cluster.endpoint.startswith("http://127.0.0.1:")
    assert len({target.id for target in cluster.targets}) == 3
    assert cluster.targets[0].url in repr(cluster.targets[0])
    assert cluster.stored_bytes == 0
    talk = Talk(cluster)
    with Call(cluster.endpoint) as call:
        for _ in range(50):
            call.ask("PUT", talk.path("x"))
        assert cluster.cpu_seconds > 0
    assert "3 targets" in repr(cluster)


def test_cpu_time_is_kept_when_threads_end(cluster: Cluster) -> None:
    spent = 0.0
    for _ in range(20):
        ask(cluster.endpoint, "GET", "/v1/health")
        assert cluster.cpu_seconds >= spent
        spent = cluster.cpu_seconds
    assert spent > 0


def test_bad_arguments_and_misuse() -> None:
    with pytest.raises(ValueError, match="at least one target"):
        Cluster(targets=0)
    with pytest.raises(ValueError, match=r"v5\.0, fixed"):
        Cluster(quirks="v6")  # type: ignore[arg-type]
    cluster = Cluster(targets=1)
    with pytest.raises(RuntimeError, match="not running"):
        _ = cluster.endpoint
    cluster.stop()
    with cluster, pytest.raises(RuntimeError, match="is running"):
        cluster.start()
    assert repr(cluster) == "<Cluster stopped>"


def test_it_can_be_started_again_and_is_empty_then() -> None:
    cluster = Cluster(targets=1)
    for _ in range(2):
        with cluster:
            talk = Talk(cluster)
            assert talk.list() == []
            talk.put("x", b"x")


def test_a_fault_that_switches_a_quirk_outlives_a_restart_and_ends_with_its_removal() -> None:
    cluster = Cluster(targets=1, faults=["newline_location(on=false)"])

    def location() -> str:
        return ask(cluster.endpoint, "PUT", "/v1/objects/b/a%0Ab").headers["location"]

    try:
        for _ in range(2):
            cluster.start()
            cluster.bucket("b")
            assert "/a%0Ab?" in location()
            cluster.stop()
        cluster.start()
        cluster.bucket("b")
        cluster.faults.clear()
        assert "/a b?" in location()
    finally:
        cluster.stop()


def test_the_same_seed_gives_the_same_ids() -> None:
    ids = []
    for _ in range(2):
        with Cluster(targets=2, seed=7) as cluster:
            ids.append([target.id for target in cluster.targets] + [Talk(cluster).upload("x").id])
    assert ids[0] == ids[1]


def test_a_given_port_is_taken() -> None:
    with Cluster(targets=1) as first:
        port = int(first.endpoint.rpartition(":")[2])
    with Cluster(targets=1, port=port) as again:
        assert again.endpoint == first_endpoint(port)


def first_endpoint(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def test_a_restarted_target_has_forgotten_its_uploads_and_kept_its_objects(cluster: Cluster) -> None:
    talk = Talk(cluster)
    talk.put("kept", b"kept")
    upload = talk.upload("kept")
    assert upload.part(1, b"x").status == 200
    with Call(cluster.targets[0].url) as call:
        for target in cluster.targets:
            target.restart()
        assert call.ended()
    assert upload.part(2, b"y").status == 404
    assert upload.complete([1]).status == 404
    assert talk.get("kept").body == b"kept"


def test_checkpoints_survive_a_restart_where_the_bucket_says_so(cluster: Cluster) -> None:
    """Protocol 5.4: a partial list is stored every k parts."""
    talk = Talk(cluster, features="2097152", chunks={"checkpoint_every": 2})
    upload = talk.upload("resumed")
    for number in (1, 2, 3):
        assert upload.part(number, bytes((number,)) * 10).status == 200
    for target in cluster.targets:
        target.restart()
    assert upload.complete([]).message.endswith("requested 0 parts, have 2")
    assert upload.part(3, b"3").status == 200
    assert upload.complete([1, 2, 3]).status == 200
    assert talk.get("resumed").body == b"\1" * 10 + b"\2" * 10 + b"3"


def test_maintenance_moves_names_and_objects_but_no_uploads(cluster: Cluster) -> None:
    talk = Talk(cluster)
    names = [f"o{number}" for number in range(30)]
    for name in names:
        talk.put(name, name.encode())
    upload = talk.upload("o0")
    assert upload.part(1, b"x").status == 200
    owner = next(target for target in cluster.targets if target.url == f"http://{talk.owner('o0')[0]}")
    before = version(cluster)
    owner.maintain()
    assert version(cluster) == before + 1
    assert all(f"http://{talk.owner(name)[0]}" != owner.url for name in names)
    assert [talk.get(name).body for name in names] == [name.encode() for name in names]
    assert talk.list() == sorted(names)
    assert upload.complete([1]).status == 404
    owner.activate()
    assert [talk.get(name).body for name in names] == [name.encode() for name in names]
    assert upload.complete([1]).status == 200


def test_a_target_leaves_and_its_objects_do_not(cluster: Cluster) -> None:
    talk = Talk(cluster)
    upload = talk.upload("parts")
    upload.part(1, b"1" * 10)
    upload.part(2, b"2" * 10)
    upload.complete([1, 2])
    while len(cluster.targets) > 1:
        leaving = cluster.targets[0]
        leaving.remove()
        with pytest.raises(OSError, match="refused"):
            Call(leaving.url)
        assert talk.get("parts").body == b"1" * 10 + b"2" * 10
    cluster.targets[0].maintain()
    assert ask(cluster.endpoint, "PUT", talk.path("parts")).status == 503


def test_the_frontend_limit_counts_each_method_by_itself(cluster: Cluster) -> None:
    limit = {"enabled": True, "interval": "1h", "max_tokens": 10, "burst_size": 3}
    talk = Talk(cluster, rate_limit={"frontend": limit})
    with Call(cluster.endpoint) as call:
        for method in ("PUT", "DELETE", "GET"):
            statuses = [call.ask(method, talk.path("x")).status for _ in range(5)]
            assert statuses == [301 if method == "GET" else 307] * 3 + [429] * 2
        refused = call.ask("PUT", talk.path("x"))
        assert refused.error["tcode"] == "ErrRateLimitFrontend"
        assert "retry-after" not in refused.headers
        assert [call.ask("HEAD", talk.path("x")).status for _ in range(5)] == [307] * 5


def test_bucket_properties_can_be_changed(cluster: Cluster) -> None:
    talk = Talk(cluster)
    message = {"action": "set-bprops", "value": {"checksum": {"type": "md5"}, "versioning": {"enabled": False}}}
    assert talk.bucket("PATCH", message).status == 200
    headers = talk.put("x", b"123456789").headers
    assert headers["ais-checksum-value"] == "25f9e794323b453885f5181f1b624d0b"
    assert "ais-version" not in headers


@pytest.mark.parametrize(
    "props",
    [
        {"nosuch": 1},
        {"checksum": "md5"},
        {"checksum": {"type": 5}},
        {"rate_limit": {"frontend": {"interval": "soon"}}},
        {"rate_limit": {"frontend": {"burst_size": 0}}},
        {"features": "many"},
        [],
    ],
)
def test_properties_that_make_no_sense(cluster: Cluster, props: object) -> None:
    body = json.dumps({"action": "create-bck", "value": props}).encode()
    assert ask(cluster.endpoint, "POST", "/v1/buckets/x", body).status == 400
    assert ask(cluster.endpoint, "HEAD", "/v1/buckets/x").status == 404


@pytest.mark.parametrize(
    ("query", "status", "tcode"),
    [
        ("?provider=aws", 404, "ErrFailedTo"),
        ("?provider=s3", 404, "ErrFailedTo"),
        ("?namespace=ns1", 404, "ErrRemoteBckNotFound"),
        ("?namespace=%23ns1", 404, "ErrBckNotFound"),
        ("?provider=nosuch", 400, "ErrInvalidBackendProvider"),
    ],
)
def test_where_there_are_no_buckets(cluster: Cluster, query: str, status: int, tcode: str | None) -> None:
    reply = ask(cluster.endpoint, "HEAD", "/v1/buckets/b" + query)
    assert (reply.status, reply.error.get("tcode")) == (status, tcode)


def test_a_backend_that_is_not_there_is_named_by_the_proxy_that_looked_for_it(cluster: Cluster) -> None:
    """Protocol 1.1: whatever is asked of a bucket in a cloud that the cluster is not configured for."""
    for method, path in (
        ("PUT", "objects/b/o"),
        ("DELETE", "objects/b/o"),
        ("GET", "buckets/b"),
        ("HEAD", "buckets/b"),
    ):
        reply = ask(cluster.endpoint, method, f"/v1/{path}?provider=gs")
        assert reply.status == 404
        assert reply.message.startswith("p[")
        assert reply.message.endswith(
            "]: failed to lookup bucket gs://b, err: GCP backend is missing in the cluster configuration"
        )


def test_a_foreign_bucket_cannot_be_made(cluster: Cluster) -> None:
    reply = ask(cluster.endpoint, "POST", "/v1/buckets/b?provider=gcp", b'{"action":"create-bck"}')
    assert (reply.status, reply.error["tcode"]) == (501, "ErrRemoteBckNotFound")
    assert reply.message.startswith('gcp bucket "gs://b" does not exist (further details at ')


def test_no_buckets_are_null(cluster: Cluster) -> None:
    assert json.loads(ask(cluster.endpoint, "GET", "/v1/buckets").body) is None


@pytest.mark.parametrize("body", [b"[]", b'"x"', b'{"action":5}', b"[" * 10_000, b"\xff", b'{"value":{}}'])
def test_control_messages_that_make_no_sense(cluster: Cluster, body: bytes) -> None:
    for path in ("/v1/buckets/b", "/v1/objects/b/o"):
        assert ask(cluster.endpoint, "POST", path, body).status == 400


def test_uploads_from_many_threads(cluster: Cluster) -> None:
    talk = Talk(cluster)
    parts = {number: bytes((number,)) * (1000 + number) for number in range(1, 41)}

    def story(name: str) -> None:
        upload = talk.upload(name)
        for number in sorted(parts, key=lambda number: (number * 7) % 41):
            assert upload.part(number, parts[number]).status == 200
        assert upload.complete(list(parts)).status == 200
        bodies.append(talk.get(name).body)

    bodies: list[bytes] = []
    threads = [threading.Thread(target=story, args=(f"o{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bodies == [b"".join(parts.values())] * 8
