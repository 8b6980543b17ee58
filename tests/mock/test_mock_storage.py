"""Where bytes lie: memory with a limit, a directory that outlives the mock, a sink."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from talk import Talk, ask

from fastmpu.mock import Cluster
from fastmpu.mock.catalogue import Catalogue

MIB = 1 << 20
RESUME: dict[str, Any] = {"features": "2097152", "chunks": {"checkpoint_every": 2}}


def same(talk: Talk, cluster: Cluster) -> Talk:
    """The same bucket, on the cluster that came after."""
    talk.cluster = cluster
    return talk


# -- memory


def test_memory_has_a_bound() -> None:
    with Cluster(targets=3, memory_limit=3 * MIB) as cluster:
        talk = Talk(cluster)
        assert talk.put("a", bytes(2 * MIB)).status == 200
        refused = talk.put("b", bytes(2 * MIB))
        assert refused.status == 507
        assert refused.message.startswith("out of space: used 2097152 of 3145728 bytes")
        upload = talk.upload("c")
        assert upload.part(1, bytes(MIB)).status == 200
        assert upload.part(2, b"x").status == 507
        assert talk.get("a").body == bytes(2 * MIB)
        assert talk.send("DELETE", "a").status == 200
        assert upload.part(2, b"x").status == 200
        assert upload.abort().status == 200
        for _ in range(5):  # what is overwritten gives its room back
            assert talk.put("d", bytes(MIB + 1)).status == 200
            assert talk.send("DELETE", "d").status == 200
        assert talk.put("e", bytes(3 * MIB)).status == 200


# -- a directory


def test_a_cluster_comes_back_from_its_directory(tmp_path: Path) -> None:
    data = bytes(range(256)) * 3000
    with Cluster(targets=3, directory=tmp_path) as cluster:
        talk, spaced = Talk(cluster, checksum={"type": "md5"}), Talk(cluster, namespace="#ns")
        talk.put("plain/ä \udcff", b"old")
        talk.put("plain/ä \udcff", b"new")
        talk.put("gone", b"x")
        talk.send("DELETE", "gone")
        spaced.put("o", b"in ns")
        upload = talk.upload("parts")
        for number in (2, 1, 3):
            assert upload.part(number, data[: number * 1000]).status == 200
        assert upload.complete([1, 2, 3]).status == 200
        assert talk.send("PATCH", "plain/ä \udcff", b'{"action":"","value":{"color":"blue"}}').status == 200
        before = [dict(talk.head(name).headers) for name in ("plain/ä \udcff", "parts")]
        ids = [target.id for target in cluster.targets]
        uuid = json.loads(ask(cluster.endpoint, "GET", "/v1/daemon?what=smap").body)["uuid"]
    with Cluster(targets=3, directory=tmp_path) as cluster:
        same(talk, cluster), same(spaced, cluster)
        assert [target.id for target in cluster.targets] == ids
        assert json.loads(ask(cluster.endpoint, "GET", "/v1/daemon?what=smap").body)["uuid"] == uuid
        after = [dict(talk.head(name).headers) for name in ("plain/ä \udcff", "parts")]
        for old, new in zip(before, after, strict=True):
            assert {**old, "date": ""} == {**new, "date": ""}
        assert after[0]["ais-version"] == "2"
        assert talk.get("parts").body == data[:1000] + data[:2000] + data[:3000]
        assert talk.get("plain/ä \udcff").body == b"new"
        assert spaced.get("o").body == b"in ns"
        assert talk.get("gone").status == 404
        assert upload.part(4, b"x").status == 404
        talk.put("plain/ä \udcff", b"third")
        assert talk.head("plain/ä \udcff").headers["ais-version"] == "3"
        assert talk.bucket("DELETE", {"action": "destroy-bck"}).status == 200
    with Cluster(targets=3, directory=tmp_path) as cluster:
        assert same(talk, cluster).bucket("GET", {"action": "list", "value": {}}).status == 404
        assert same(spaced, cluster).list() == ["o"]


def test_unfinished_uploads_are_lost_but_for_checkpoints(tmp_path: Path) -> None:
    with Cluster(targets=1, directory=tmp_path) as cluster:
        plain, resuming = Talk(cluster), Talk(cluster, **RESUME)
        lost, kept, over = plain.upload("o"), resuming.upload("o"), resuming.upload("over")
        for number in (1, 2, 3):
            assert lost.part(number, b"x").status == 200
            assert kept.part(number, str(number).encode()).status == 200
            assert over.part(number, b"x").status == 200
        assert over.abort().status == 200
    with Cluster(targets=1, directory=tmp_path) as cluster:
        same(plain, cluster), same(resuming, cluster)
        assert lost.complete([1, 2, 3]).status == 404
        assert over.complete([1, 2]).status == 404
        assert "requested 0 parts, have 2" in kept.complete([]).message
        assert kept.part(3, b"3").status == 200
        assert kept.complete([1, 2, 3]).status == 200
        assert resuming.get("o").body == b"123"
        numbered = [path for path in tmp_path.rglob("*") if path.name.isdecimal()]
        assert len(numbered) == 3  # what the lost uploads had left is swept away


def test_a_hole_stays_a_hole(tmp_path: Path) -> None:
    with Cluster(targets=1, directory=tmp_path) as cluster:
        talk = Talk(cluster)
        upload = talk.upload("o")
        for number in (1, 2, 2):
            assert upload.part(number, b"0123456789").status == 200
        assert upload.complete([1, 2]).status == 200
        assert not talk.get("o").whole
    with Cluster(targets=1, directory=tmp_path) as cluster:
        broken = same(talk, cluster).get("o")
        assert (broken.status, broken.whole, broken.body) == (200, False, b"0123456789")
        with pytest.raises(LookupError):
            cluster.bucket(talk.name).read("o")


def test_more_targets_take_over_what_is_theirs(tmp_path: Path) -> None:
    names = [f"o{number}" for number in range(30)]
    with Cluster(targets=2, directory=tmp_path) as cluster:
        talk = Talk(cluster)
        for name in names:
            talk.put(name, name.encode())
        cluster.targets[0].remove()
    with Cluster(targets=4, directory=tmp_path) as cluster:
        assert same(talk, cluster).list() == sorted(names)
        assert all(talk.get(name).body == name.encode() for name in names)
    for _ in range(2):
        with pytest.raises(ValueError, match="4 targets, not 2"):
            Cluster(targets=2, directory=tmp_path).start()
    with Cluster(targets=4, directory=tmp_path) as cluster:
        assert all(same(talk, cluster).get(name).body == name.encode() for name in names)


def test_one_directory_one_cluster(tmp_path: Path) -> None:
    with Cluster(targets=1, directory=tmp_path), pytest.raises(BlockingIOError, match="in use by another"):
        Cluster(targets=1, directory=tmp_path).start()
    with Cluster(targets=1, directory=tmp_path):
        pass


def test_a_killed_mock_has_kept_what_it_answered_for(tmp_path: Path) -> None:
    code = (
        "import sys, time; from fastmpu.mock import Cluster\n"
        "cluster = Cluster(targets=2, directory=sys.argv[1]).start()\n"
        "print(cluster.endpoint, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        endpoint = process.stdout.readline().strip()

        class There:
            pass

        there = There()
        there.endpoint = endpoint  # type: ignore[attr-defined]
        talk = Talk(there)  # type: ignore[arg-type]
        for number in range(20):
            assert talk.put(f"o{number}", bytes(number)).status == 200
        process.kill()
    with Cluster(targets=2, directory=tmp_path) as cluster:
        assert all(same(talk, cluster).get(f"o{number}").body == bytes(number) for number in range(20))


def test_a_torn_catalogue_is_believed_up_to_the_tear(tmp_path: Path) -> None:
    path = tmp_path / "book.jsonl"
    book = Catalogue(path)
    for number in range(5):
        book.put("key", number)
        book.put(f"other {number}", {"a": [number]})
    book.put("other 0", None)
    book.put("never there", None)
    book.close()
    book.put("after", 1)
    whole = path.read_bytes()
    seen = set()
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        again = Catalogue(path)
        seen.add(json.dumps(again.records, sort_keys=True))
        again.close()
    assert len(seen) == 1 + 11
    path.write_bytes(whole + b'["key", 7')
    again = Catalogue(path)
    assert again.records["key"] == 4
    again.close()


def test_a_catalogue_on_a_full_disk_refuses_the_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Cluster(targets=1, directory=tmp_path) as cluster:
        talk = Talk(cluster)
        talk.put("o", b"old")
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            assert talk.put("o", b"new").status == 507
        assert talk.get("o").body == b"old"


# -- a sink


def test_a_sink_counts_and_hashes_and_keeps_nothing() -> None:
    data = bytes(range(256)) * 4000
    with Cluster(targets=1) as keeping, Cluster(targets=1, sink=True) as sink:
        heads = []
        for cluster in (keeping, sink):
            talk = Talk(cluster)
            talk.put("plain", data)
            upload = talk.upload("parts")
            assert [upload.part(number, data).status for number in (2, 1)] == [200, 200]
            assert upload.complete([1, 2]).status == 200
            heads.append([talk.head(name).headers for name in ("plain", "parts")])
            assert talk.list() == ["parts", "plain"]
            assert cluster.stored_bytes == 3 * len(data)
        for kept, sunk in zip(*heads, strict=True):
            for field in ("content-length", "ais-checksum-type", "ais-checksum-value"):
                assert kept[field] == sunk[field]
        for extent in ("", "0-0", "5-"):
            reply = talk.get("parts", extent)
            assert reply.status == 501
            assert "sink" in reply.message
        assert talk.put("plain", data).status == 200
        assert talk.send("DELETE", "plain").status == 200


def test_one_place_for_bytes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="choose one"):
        Cluster(sink=True, directory=tmp_path)
    with pytest.raises(ValueError, match="choose one"):
        Cluster(sink=True, memory_limit=1)
    with pytest.raises(ValueError, match="in bytes"):
        Cluster(memory_limit=-1)
