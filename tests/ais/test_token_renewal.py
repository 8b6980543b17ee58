"""A token by function: asked when it is needed, and again when the cluster refuses what it gave."""

from __future__ import annotations

import json
import threading
import warnings
from pathlib import Path

import pytest
from canary import CANARY
from interposer import Interposer, answer, refuse

import fastmpu
from fastmpu import mock
from fastmpu.ais.credentials import LooseTokenFileWarning
from fastmpu.errors import AuthError, UsageError


class Office:
    """Issues tokens; each new one replaces the last on the cluster."""

    def __init__(self, tokens: mock.Tokens):
        self._tokens = tokens
        self._lock = threading.Lock()
        self.issued: list[str] = []

    def __call__(self) -> str:
        with self._lock:
            token = f"{len(self.issued)}-{CANARY}"
            self.issued.append(token)
        self._tokens.add(token)
        return token

    def revoke_last(self) -> None:
        self._tokens.revoke(self.issued[-1])


@pytest.fixture
def tokens() -> mock.Tokens:
    return mock.Tokens()


@pytest.fixture
def office(tokens: mock.Tokens) -> Office:
    return Office(tokens)


@pytest.fixture
def closed(tokens: mock.Tokens) -> mock.Cluster:
    """A cluster that asks for tokens."""
    return mock.Cluster(targets=2, tokens=tokens)


def test_it_is_asked_before_the_first_request_and_not_again(closed: mock.Cluster, office: Office) -> None:
    with closed, fastmpu.Client(closed.endpoint, token=office) as client:
        assert office.issued == []
        assert "token" in repr(client)
        client.bucket("b").create().object("o").upload(b"x" * 5000, part_size=1000)
        assert len(office.issued) == 1


@pytest.mark.parametrize("kind", ["map", "bucket", "create", "locate", "complete", "head", "abort"])
def test_a_revoked_token_is_renewed_at_each_step(closed: mock.Cluster, office: Office, kind: str) -> None:
    """The refused request is sent once more, with the new token, and the upload goes on."""
    tap = Interposer()
    with closed, fastmpu.Client(closed.endpoint, token=office, transport=tap) as client:
        obj = client.bucket("b").create().object("o")
        revoked: list[bool] = []

        def step_on(request: object, forward: object) -> object:
            if not revoked:
                revoked.append(True)
                office.revoke_last()
            return forward(request)  # type: ignore[operator]

        tap.on(kind, step_on, direct=False)  # type: ignore[arg-type]
        if kind == "map":
            client.cluster_map()
        elif kind == "bucket":
            client.bucket("b").head()
        elif kind == "abort":
            obj.multipart_upload().create().abort()
        else:
            assert obj.upload(b"x" * 5000, part_size=1000).attempts == 5
            assert obj.get_reader().read_all() == b"x" * 5000
        assert len(office.issued) == 2
    assert tap.wires[-1].authorization == f"Bearer 1-{CANARY}"


def test_many_threads_renew_once(closed: mock.Cluster, office: Office) -> None:
    """Sixteen are refused at once: one asks, and all go on with what it was given."""
    with closed, fastmpu.Client(closed.endpoint, token=office) as client:
        bucket = client.bucket("b").create()
        bucket.object("o").put(b"x")
        ready = threading.Barrier(16)
        failed: list[Exception] = []

        def ask() -> None:
            ready.wait()
            try:
                for _ in range(5):
                    bucket.object("o").head()
            except fastmpu.FastMPUError as error:
                failed.append(error)

        for _ in range(3):
            office.revoke_last()
            threads = [threading.Thread(target=ask) for _ in range(16)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert failed == []
        assert len(office.issued) == 4


def test_a_part_that_a_target_refuses(cluster: mock.Cluster, tap: Interposer) -> None:
    """An answered refusal: the part is sent again under the new token, and stored once."""
    given = iter([f"first-{CANARY}", f"second-{CANARY}"])
    with fastmpu.Client(cluster.endpoint, token=lambda: next(given), transport=tap) as client:
        obj = client.bucket("b").create().object("o")
        tap.on("part", refuse(401, message="token expired"), part=3, times=1)
        obj.upload(b"abcd" * 1250, part_size=1000)
        assert tap.parts_sent().count(3) == 2
        assert tap.of("part")[-1].authorization == f"Bearer second-{CANARY}"
        assert obj.get_reader().read_all() == b"abcd" * 1250


def test_the_same_token_again_is_not_tried(cluster: mock.Cluster, tap: Interposer) -> None:
    """What was refused is not sent once more in the hope of better luck."""
    with fastmpu.Client(cluster.endpoint, token=lambda: CANARY, transport=tap) as client:
        tap.on("any", refuse(401, message="token expired", node="p[x]"))
        with pytest.raises(AuthError, match="token expired"):
            client.cluster_map()
    assert len(tap.wires) == 1


def test_a_second_refusal_is_final(cluster: mock.Cluster, tap: Interposer) -> None:
    numbers = iter(range(100))
    with fastmpu.Client(cluster.endpoint, token=lambda: f"{next(numbers)}-{CANARY}", transport=tap) as client:
        tap.on("any", refuse(401, message="token expired", node="p[x]"))
        with pytest.raises(AuthError):
            client.cluster_map()
    assert len(tap.wires) == 2


def test_a_refusal_of_somebody_else_renews_nothing(cluster: mock.Cluster, tap: Interposer) -> None:
    """A gateway's 401 proves nothing about what is behind it: no second try."""
    with fastmpu.Client(cluster.endpoint, token=lambda: CANARY, transport=tap) as client:
        tap.on("any", answer(401, b"Unauthorized"))
        with pytest.raises(fastmpu.FastMPUError):
            client.bucket("b").create()
    assert len(tap.wires) == 1


def test_what_the_function_raises_is_seen(cluster: mock.Cluster, tap: Interposer) -> None:
    """As it is, and nothing is sent."""

    def broken() -> str:
        raise LookupError("the vault is sealed")

    with (
        fastmpu.Client(cluster.endpoint, token=broken, transport=tap) as client,
        tap.silence(),
        pytest.raises(LookupError, match="sealed"),
    ):
        client.cluster_map()


@pytest.mark.parametrize("given", ["", "two words", "line\r\nbreak", None, 7, b"bytes"])
def test_a_function_that_returns_no_token(cluster: mock.Cluster, tap: Interposer, given: object) -> None:
    with (
        fastmpu.Client(cluster.endpoint, token=lambda: given, transport=tap) as client,  # type: ignore[arg-type, return-value]
        tap.silence(),
        pytest.raises(UsageError, match="not shown"),
    ):
        client.cluster_map()


def test_a_function_that_uses_its_own_client(cluster: mock.Cluster) -> None:
    """An error, not a deadlock."""
    clients: list[fastmpu.Client] = []

    def ask_the_cluster() -> str:
        return str(clients[0].cluster_map().uuid)

    with fastmpu.Client(cluster.endpoint, token=ask_the_cluster) as client:
        clients.append(client)
        with pytest.raises(UsageError, match="the very client"):
            client.cluster_map()


def test_a_token_file_is_read_again(
    closed: mock.Cluster, tokens: mock.Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AIS_AUTHN_TOKEN_FILE: the token alone, or AIStore's JSON; whoever replaces the file need not restart anybody."""
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text(f"from-a-file-{CANARY}\n")
    tokens.add(f"from-a-file-{CANARY}")
    monkeypatch.delenv("AIS_AUTHN_TOKEN", raising=False)
    monkeypatch.setenv("AIS_AUTHN_TOKEN_FILE", str(file))
    with closed, fastmpu.Client(closed.endpoint) as client:
        client.cluster_map()
        tokens.revoke(f"from-a-file-{CANARY}")
        tokens.add(f"newer-{CANARY}")
        file.write_text(json.dumps({"token": f"newer-{CANARY}"}))
        client.cluster_map()
    monkeypatch.setenv("AIS_AUTHN_TOKEN", f"wins-over-files-{CANARY}")
    with fastmpu.Client("http://127.0.0.1:1") as client:
        assert client.endpoint._credentials.current().reveal() == f"wins-over-files-{CANARY}"  # type: ignore[union-attr]


@pytest.mark.parametrize("content", [None, "", "two words", "{", '{"token": 3}', "\0", "{}", "x" * 20_000])
def test_a_token_file_that_will_not_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None) -> None:
    """Known when the client is made; the file is named, what is in it is not."""
    file = tmp_path / "token"
    if content is not None:
        file.touch(0o600)
        file.write_text(content)
    monkeypatch.delenv("AIS_AUTHN_TOKEN", raising=False)
    monkeypatch.setenv("AIS_AUTHN_TOKEN_FILE", str(file))
    with pytest.raises(UsageError, match=r"AIS_AUTHN_TOKEN_FILE=.*token'"):
        fastmpu.Client("http://127.0.0.1:1")


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700, 0o640, 0o604, 0o620, 0o644, 0o666])
def test_a_token_file_that_others_may_read(
    closed: mock.Cluster, tokens: mock.Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    """One warning, where the client is made, which names the file and its mode; not again when it is read again."""
    file = tmp_path / "token"
    file.write_text(f"from-a-file-{CANARY}")
    file.chmod(mode)
    tokens.add(f"from-a-file-{CANARY}")
    monkeypatch.delenv("AIS_AUTHN_TOKEN", raising=False)
    monkeypatch.setenv("AIS_AUTHN_TOKEN_FILE", str(file))
    with closed, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with fastmpu.Client(closed.endpoint) as client:
            client.cluster_map()
            tokens.revoke(f"from-a-file-{CANARY}")
            with pytest.raises(AuthError):
                client.cluster_map()
    loose = mode & 0o066 != 0
    assert [(each.category, each.filename) for each in told] == [(LooseTokenFileWarning, __file__)] * loose
    if loose:
        assert f"{str(file)!r} has mode 0{mode:o}: " in str(told[0].message)
