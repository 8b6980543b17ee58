"""Placement by highest random weight: the vectors of protocol 6, and the proxy's word."""

from __future__ import annotations

import json

import pytest
from talk import Talk, ask

from fastmpu.mock import Cluster
from fastmpu.mock.placement import digest, owner, weight

DIGESTS = {"bkqt8081": 11805402251748948944, "igxt8082": 18324253618881752388, "zHTt8083": 14255485437131942274}
VECTORS = [
    ("ais/@#/proto-a/o1", 1851755673271632210, "zHTt8083"),
    ("ais/@#/proto-a/a/b/c.bin", 17111255905915180763, "igxt8082"),
    ("ais/@#/proto-a/uni-é漢字", 3691329392661148754, "zHTt8083"),
    ("ais/@#/proto-a/sp ace+%&.tar", 4226561852759687772, "zHTt8083"),
    ("ais/@#ns1/proto-ns/shard-000001.tar", 11755221973797378030, "bkqt8081"),
]


def test_weights_and_digests() -> None:
    assert weight(0) == 1905207664160064169
    assert weight(4573842) == 5026071747115404967
    assert {id_: digest(id_) for id_ in DIGESTS} == DIGESTS
    assert digest("VLmNovaS") == 10339719868447186963


@pytest.mark.parametrize(("uname", "value", "winner"), VECTORS)
def test_owner(uname: str, value: int, winner: str) -> None:
    assert digest(uname) == value
    assert owner(DIGESTS.items(), value) == winner


@pytest.mark.parametrize("namespace", ["", "#ns1"])
def test_the_proxy_sends_everybody_to_the_owner_by_the_map(namespace: str) -> None:
    with Cluster(targets=4) as cluster:
        talk = Talk(cluster, namespace=namespace)
        tmap = json.loads(ask(cluster.endpoint, "GET", "/v1/daemon?what=smap").body)["tmap"]
        digests = [(id_, node["id_digest"]) for id_, node in tmap.items()]
        for number in range(20):
            uname = f"ais/@{namespace or '#'}/{talk.name}/shard-{number}.tar"
            public = tmap[owner(digests, digest(uname))]["public_net"]
            assert talk.owner(f"shard-{number}.tar")[0] == f"{public['node_ip_addr']}:{public['daemon_port']}"
