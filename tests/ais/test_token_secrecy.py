"""A token goes to members of the cluster, and is seen nowhere else."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
from collections.abc import Iterator

import pytest
from canary import CANARY
from interposer import Interposer, lose_answer, refuse, unreachable
from stranger import WEB_PAGE, stranger

import fastmpu
from fastmpu import mock
from fastmpu.errors import UsageError


@pytest.fixture
def guarded(cluster: mock.Cluster, tap: Interposer) -> Iterator[fastmpu.Client]:
    timeouts = fastmpu.Timeouts(fence=0.01)  # also paces the looks at a complete without an answer
    with fastmpu.Client(cluster.endpoint, transport=tap, token=CANARY, timeouts=timeouts) as client:
        yield client


def test_members_get_the_token(guarded: fastmpu.Client, tap: Interposer) -> None:
    """Every request carries it, as a bearer token, in no other place."""
    obj = guarded.bucket("b").create().object("o")
    obj.upload(b"x" * 5000, part_size=1000)
    obj.get_reader().read_all()
    assert {wire.authorization for wire in tap.wires} == {f"Bearer {CANARY}"}
    assert all(CANARY not in wire.path + json.dumps(wire.query) for wire in tap.wires)
    members = {str(origin) for origin in guarded.cluster_map().members}
    assert {wire.origin for wire in tap.wires} <= members


def test_the_environment_has_it(cluster: mock.Cluster, tap: Interposer, monkeypatch: pytest.MonkeyPatch) -> None:
    """AIS_AUTHN_TOKEN and AIS_ENDPOINT are honoured; an argument wins."""
    monkeypatch.setenv("AIS_AUTHN_TOKEN", f"from-the-environment-{CANARY}")
    monkeypatch.setenv("AIS_ENDPOINT", cluster.endpoint)
    with fastmpu.Client(transport=tap) as client:
        client.cluster_map()
        assert tap.wires[-1].authorization == f"Bearer from-the-environment-{CANARY}"
        assert tap.wires[-1].origin == cluster.endpoint
    given = Interposer()
    with fastmpu.Client("http://127.0.0.1:1", token=CANARY, transport=given) as client:
        given.on("any", unreachable)
        with pytest.raises(fastmpu.errors.ConnectFailedError):
            client.cluster_map()
        assert given.wires[-1].authorization == f"Bearer {CANARY}"


def test_without_a_token_nothing_is_sent(tapped: fastmpu.Client, tap: Interposer) -> None:
    tapped.cluster_map()
    assert tap.wires[-1].authorization is None


def everything_shown(error: BaseException) -> str:
    seen = []
    at: BaseException | None = error
    while at is not None:
        seen += [repr(at), str(at), repr(at.args), repr(vars(at)), *getattr(at, "__notes__", ())]
        if isinstance(at, fastmpu.FastMPUError):
            seen.append(repr(pickle.dumps(at)))
        at = at.__cause__ or at.__context__
    return "\n".join([*seen, *traceback.format_exception(error)])


@pytest.mark.parametrize("kind", ["map", "create", "locate", "part", "complete", "abort", "head"])
@pytest.mark.parametrize("fault", ["reset", "refused", "403"])
def test_no_error_and_no_log_shows_the_token(
    guarded: fastmpu.Client, tap: Interposer, caplog: pytest.LogCaptureFixture, kind: str, fault: str
) -> None:
    """Whatever fails: not in messages, causes, notes, pickles, tracebacks, nor in any logger's DEBUG lines."""
    caplog.set_level(logging.DEBUG)
    action = {"reset": lose_answer, "refused": unreachable, "403": refuse(403, message="no")}[fault]
    tap.on(kind, action)

    def story() -> None:
        obj = guarded.bucket("b").create(exist_ok=True).object("o")
        obj.upload(b"x" * 5000, part_size=1000, retry=fastmpu.RetryPolicy(attempts=1))

    if kind == "abort" or (fault, kind) == ("reset", "part"):
        story()  # nothing fails, so there is no abort; and parts that were stored are found by the gap probe
    else:
        with pytest.raises(fastmpu.FastMPUError) as caught:
            story()
        assert CANARY not in everything_shown(caught.value)
    assert CANARY not in caplog.text
    assert CANARY not in repr((guarded, guarded.endpoint, guarded.bucket("b"), guarded.bucket("b").object("o")))


def test_a_stranger_that_answers_is_not_quoted_with_it(caplog: pytest.LogCaptureFixture) -> None:
    """An endpoint that is no AIStore sees the token, since it was named as the endpoint; errors and logs do not."""
    caplog.set_level(logging.DEBUG)
    with (
        stranger(200, WEB_PAGE, Content_Type="text/html") as server,
        fastmpu.Client(server.url, token=CANARY) as client,
        pytest.raises(fastmpu.errors.NotAIStoreError) as caught,
    ):
        client.bucket("b").head()
    assert CANARY not in everything_shown(caught.value)
    assert CANARY not in caplog.text


def test_a_secret_keeps_itself() -> None:
    """repr, str, format and f-strings show asterisks; pickle and copies by pickle raise."""
    secret = fastmpu.Secret(CANARY)
    assert secret.reveal() == CANARY
    for text in (repr(secret), str(secret), f"{secret}", f"{secret!r:>5}", f"{[secret]}", f"{secret:>10}"):
        assert CANARY not in text
        assert "***" in text
    for journey in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            journey(secret)


def test_a_client_with_a_token_does_not_pickle(cluster: mock.Cluster) -> None:
    with fastmpu.Client(cluster.endpoint, token=CANARY) as client:
        assert CANARY not in repr(client)
        with pytest.raises(TypeError):
            pickle.dumps(client)


@pytest.mark.parametrize("token", ["with space", "line\r\nX-Injected: yes", "tab\t", "nul\0", "ümlaut"])
def test_a_token_that_would_break_the_header(token: str) -> None:
    """Refused before it is used, and not shown in the refusal."""
    with pytest.raises(UsageError) as caught:
        fastmpu.Client("http://127.0.0.1:1", token=token)
    assert token not in everything_shown(caught.value)


def test_proxies_of_the_environment_are_not_used(
    guarded: fastmpu.Client, cluster: mock.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP_PROXY would see everything: no request arrives there (reliability F4)."""
    with stranger(200) as trap:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, trap.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with fastmpu.Client(cluster.endpoint, token=CANARY) as client:
            client.bucket("proxied").create().object("o").upload(b"x" * 3000, part_size=1000)
        assert trap.requests == []
