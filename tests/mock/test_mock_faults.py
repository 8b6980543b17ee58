"""Faults as data: written, read, refused, matched, counted, drawn."""

from __future__ import annotations

import fcntl
import socket
import ssl
import sys
import termios
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from fault_stories import soon
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from talk import Call, Talk, ask

from fastmpu.mock import Cluster
from fastmpu.mock.fault_menu import MENU, Parameter, Value
from fastmpu.mock.faults import Fault, FaultError, parse_fault, parse_faults


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(targets=2, closing_delay=0.05, seed=1) as cluster:
        yield cluster


@pytest.fixture
def talk(cluster: Cluster) -> Iterator[Talk]:
    cluster.truth.clear()
    yield Talk(cluster)
    cluster.faults.clear()


def statuses(talk: Talk, *names: str) -> list[int]:
    return [talk.put(name, b"x").status for name in names]


def test_text_names_match_and_parameters() -> None:
    fault = parse_fault(
        ' lost_response( op=part, part=3,times=1, how=silence, ms=250, name="a, b (c)", where=target:2 )'
    )
    assert (fault.kind, fault.op, fault.part, fault.times, fault.where) == ("lost_response", "part", 3, 1, "target:2")
    assert fault.name == "a, b (c)"
    assert fault.parameters == {"how": "silence", "ms": 250.0}
    assert parse_fault("stall_at(1000, forever)").parameters == {"byte": 1000, "ms": None}
    assert parse_fault("reset_on_accept").times == 1
    assert parse_fault("chain(n=5)").times == 5
    assert parse_fault("429_burst(7)").times == 7
    assert parse_fault("status(op=start)").op == "create"


def test_where_a_fault_happens_if_nobody_says() -> None:
    """Where the op is really dealt with: a part is a target's business, although the proxy redirects it."""
    places = {op: Fault.of("latency", op=op).where for op in ("part", "head", "map", "list", "redirect", "any")}
    assert places == {
        "part": "target",
        "head": "target",
        "map": "proxy",
        "list": "proxy",
        "redirect": "proxy",
        "any": "any",
    }
    assert Fault.of("loop").where == "proxy"
    assert Fault.of("lost_response", where="wire").where == "any"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lose_response", "no fault is called 'lose_response'; there are refuse, syn_drop"),
        ("lost_response(hwo=fin)", "does not know 'hwo'; it takes how, ms, where, op, part, name, nth"),
        ("lost_response(how=lost)", "how is one of reset, fin, silence, not 'lost'"),
        ("lost_response(op=upload)", "op is one of create, part, put, complete, probe, abort"),
        ("lost_response(where=nowhere)", "where is one of any, wire, proxy, target, target:0"),
        ("lost_response(part=three)", "part is a whole number"),
        ("lost_response(nth=0)", "nth is a whole number from 1 on, not '0'"),
        ("lost_response(times=-1)", "times is a whole number from 1 on"),
        ("lost_response(probability=2)", "probability is a number from 0 to 1"),
        ("lost_response(seed=x)", "seed is a whole number"),
        ("late_response(soon)", "ms is milliseconds, 0 or more, or forever"),
        ("late_response(-1)", "ms is milliseconds, 0 or more, or forever"),
        ("late_response(nan)", "ms is milliseconds"),
        ("status(999)", "code is an HTTP status"),
        ("flip_bit(bit=-1)", "bit is a number, 0 or more"),
        ("chain(0)", "n is a number, 1 or more, not '0'"),
        ("trickle(0)", "bytes_per_s is bytes a second, more than 0"),
        ("trickle(inf)", "bytes_per_s is bytes a second, more than 0"),
        ("restart_target(maybe)", "keep_state is true or false"),
        ("reset_on_accept(op=part)", "does not know 'op'"),
        ("late_response(1, 2)", "takes no more than 1 values"),
        ("late_response(ms=1, ms=2)", "ms is given twice"),
        ("late_response(1", "written name(key=value, ...)"),
        ("late_response(a=b=c)", "written name(key=value, ...)"),
        ("", "written name(key=value, ...)"),
        ("late_response() now", "written name(key=value, ...)"),
    ],
)
def test_what_is_not_on_the_menu_is_refused_with_what_is(text: str, said: str) -> None:
    with pytest.raises(FaultError) as caught:
        parse_fault(text)
    assert said in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_a_file_has_a_fault_a_line_and_errors_name_it() -> None:
    text = "# chaos\n\nlost_response(op=part)  # once\n  latency(20, name=a#b)\n"
    assert [fault.kind for fault in parse_faults(text)] == ["lost_response", "latency"]
    assert parse_faults(text)[1].name == "a#b"
    with pytest.raises(FaultError, match="line 2: no fault is called 'lag'"):
        parse_faults("latency\nlag\n")


@pytest.mark.parametrize(
    "value", [None, [], "x", {}, {"fault": 3}, {"kind": "latency"}, {"fault": "latency", "ms": {}}]
)
def test_json_that_is_no_fault(value: object) -> None:
    with pytest.raises(FaultError):
        Fault.from_json(value)


def values_of(parameter: Parameter) -> st.SearchStrategy[Value]:
    numbers = {
        "count": st.integers(0, 1 << 40),
        "times": st.integers(1, 99),
        "status": st.sampled_from([200, 404, 507]),
        "byte": st.integers(),
    }
    floats = {"ms": st.floats(0, 1e9), "rate": st.floats(1e-3, 1e12), "shift": st.floats(-1e9, 1e9)}
    if parameter.type == "choice":
        return st.sampled_from(parameter.choices)
    if parameter.type == "flag":
        return st.booleans()
    if parameter.type == "text":
        return st.text(min_size=1).filter(lambda text: text != "none")
    return numbers[parameter.type] if parameter.type in numbers else floats[parameter.type]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
@given(data=st.data())
def test_text_and_json_say_the_same_fault(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(list(MENU.values())))
    chosen: dict[str, object] = {one.name: data.draw(values_of(one)) for one in kind.parameters}
    if kind.about == "request":
        chosen["op"] = data.draw(st.sampled_from(["part", "complete", "any"]))
        chosen["name"] = data.draw(st.none() | st.text(min_size=1))
        chosen["probability"] = data.draw(st.none() | st.floats(0, 1))
    if not kind.times_from:
        chosen["times"] = data.draw(st.none() | st.integers(1, 99))
    chosen["nth"] = data.draw(st.integers(1, 9))
    fault = Fault.of(kind.name, **chosen)
    assert Fault.from_json(fault.as_json()) == fault
    assert parse_fault(str(fault)) == fault


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text())
def test_any_text_is_a_fault_or_refused(text: str) -> None:
    for written in (text, f"latency({text})", f"latency(name={text})"):
        try:
            parse_fault(written)
        except FaultError:
            pass


def test_a_fault_happens_from_the_nth_match_on_and_so_many_times(talk: Talk) -> None:
    handle = talk.cluster.faults.add("status", op="put", name="a*", nth=2, times=2, code=503)
    assert statuses(talk, "a1", "b", "a2", "b", "a3", "a4") == [200, 200, 503, 200, 503, 200]
    assert (handle.matched, handle.fired) == (4, 2)
    assert [fired.name for fired in talk.cluster.faults.log][-2:] == ["a2", "a3"]


def test_a_fault_ends_with_its_context_and_may_be_removed_twice(talk: Talk) -> None:
    with talk.cluster.faults.add("status(503, op=put, times=always)") as handle:
        assert statuses(talk, "a", "b") == [503, 503]
        assert list(talk.cluster.faults) == [handle]
    assert statuses(talk, "a") == [200]
    handle.remove()
    assert not talk.cluster.faults.remove(handle.id)


def test_a_fault_of_one_target_leaves_the_others_alone(talk: Talk) -> None:
    names = [f"n{number}" for number in range(20)]
    owners = [talk.owner(name)[0] for name in names]
    for where in ("target:1", talk.cluster.targets[1].id):
        with talk.cluster.faults.add("status", where=where, op="put", times="always", code=503):
            expected = [503 if owner in talk.cluster.targets[1].url else 200 for owner in owners]
            assert statuses(talk, *names) == expected
            assert len(set(expected)) == 2


def test_parts_are_told_apart(talk: Talk) -> None:
    upload = talk.upload("x")
    talk.cluster.faults.add("status", op="part", part=2)
    assert [upload.part(number, b"x").status for number in (1, 2, 3, 2)] == [200, 500, 200, 200]


def test_a_probe_is_no_complete(talk: Talk) -> None:
    upload = talk.upload("x")
    assert upload.part(1, b"x").status == 200
    talk.cluster.faults.add("status(503, op=complete)")
    assert upload.complete([]).message.endswith("requested 0 parts, have 1")
    assert upload.complete([1]).status == 503
    with talk.cluster.faults.add("status(503, op=probe)"):
        assert upload.complete([]).status == 503
        assert upload.complete([1]).status == 200
    assert [record.op for record in talk.cluster.truth.attempts(upload_id=upload.id)] == [
        "part",
        "probe",
        "complete",
        "probe",
        "complete",
    ]


def test_several_faults_at_once(talk: Talk) -> None:
    body = bytes(5000)
    talk.cluster.faults.add("flip_bit(10, op=put)")
    talk.cluster.faults.add("flip_bit(-1, op=put, bit=7)")
    talk.cluster.faults.add("drop_byte(20, op=put)")
    talk.cluster.faults.add("late_response(20, op=put)")
    talk.cluster.faults.add("1xx(op=put)")
    to, marker = talk.owner("x")
    assert ask(to, "PUT", talk.path("x", marker), body).status == 103
    assert talk.cluster.truth.attempts(op="put")[-1].faults == (
        "flip_bit",
        "flip_bit",
        "drop_byte",
        "late_response",
        "1xx",
    )
    stored = talk.get("x").body
    assert (len(stored), stored[10], stored[4998], stored[4999]) == (5000, 1, 128, 0)


def run_of(seed: int, workers: int) -> dict[str, int]:
    with Cluster(targets=2, seed=3) as cluster:
        talk = Talk(cluster)
        talk.name = "same"
        talk.create()
        cluster.faults.add("status", op="put", probability=0.3, seed=seed, code=503)
        names = [f"n{number}" for number in range(60)]
        with ThreadPoolExecutor(workers) as pool:
            return dict(zip(names, pool.map(lambda name: talk.put(name, b"x").status, names), strict=True))


def test_one_seed_one_story_whatever_the_threads_do() -> None:
    alone = run_of(seed=7, workers=1)
    assert run_of(seed=7, workers=8) == alone
    assert run_of(seed=8, workers=1) != alone
    assert 8 <= list(alone.values()).count(503) <= 30


def test_faults_from_the_start_and_those_about_nodes_happen_then() -> None:
    with Cluster(targets=1, faults=["refuse(where=proxy)", "status(op=put)"]) as cluster:
        assert [handle.fault.kind for handle in cluster.faults] == ["refuse", "status"]
        with pytest.raises(ConnectionRefusedError):
            ask(cluster.endpoint, "GET", "/v1/health")
        cluster.faults.clear()
        assert ask(cluster.endpoint, "GET", "/v1/health").status == 200
    with pytest.raises(FaultError, match="no fault is called"):
        Cluster(faults=["nonsense"])


def test_stop_wakes_whatever_faults_keep_waiting(talk: Talk) -> None:
    """The fixture of the menu's test measures the same for each fault; here they wait together."""
    with Cluster(targets=2) as cluster:
        own = Talk(cluster)
        cluster.faults.add(
            "stall_at(0, forever, op=put)",
        )
        cluster.faults.add("lost_response(silence, op=delete)")
        cluster.faults.add("latency(forever, op=head)")
        threads = [threading.Thread(target=quietly, args=(own, method)) for method in ("PUT", "DELETE", "HEAD")]
        for thread in threads:
            thread.start()
        assert soon(lambda: len(cluster.faults.log) == 3)
        cluster.faults.add("proxy_down(60000)")
        begun = time.monotonic()
    assert time.monotonic() - begun < 1.0
    for thread in threads:
        thread.join(1.0)
        assert not thread.is_alive()
    assert not [thread for thread in threading.enumerate() if thread.name == "mock-fault"]


def quietly(talk: Talk, method: str) -> None:
    try:
        talk.send(method, "x", b"x" if method == "PUT" else b"")
    except (OSError, AssertionError):
        pass  # the connection ends, or the proxy is down


def test_without_faults_nothing_is_counted(talk: Talk) -> None:
    before = len(talk.cluster.faults.log)
    assert statuses(talk, "a") == [200]
    assert len(talk.cluster.faults.log) == before


def test_a_target_that_is_not_there_is_refused_at_once(talk: Talk) -> None:
    with pytest.raises(FaultError, match="there is no target '7'; there are 0, 1"):
        talk.cluster.faults.add("restart_target", target=7, op="part")
    assert len(talk.cluster.faults) == 0


def test_a_part_may_set_off_what_happens_to_another_node(talk: Talk) -> None:
    upload = talk.upload("x")
    number = next(at for at, one in enumerate(talk.cluster.targets) if one.url != f"http://{talk.owner('x')[0]}")
    with talk.cluster.faults.add("kill_target", op="part", part=2, target=f"target:{number}", when="after"):
        assert upload.part(1, b"x").status == 200
        assert not refused(talk.cluster.targets[number].url)
        assert upload.part(2, b"x").status == 200
        assert soon(lambda: refused(talk.cluster.targets[number].url))
    assert not refused(talk.cluster.targets[number].url)
    assert upload.complete([1, 2]).status == 200


def refused(url: str) -> bool:
    try:
        Call(url).socket.close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    "fault", ["stall_at(7, 1)", "stall_at(end, 1)", "stall_at(-1, 1)", "trickle(1e9)", "flip_bit(0)", "dup_chunk(2, 3)"]
)
def test_bodies_of_all_kinds_come_through(talk: Talk, fault: str, *, chunked: bool) -> None:
    """In small pieces, with a length or in chunks, and however long they are."""
    for size in (0, 1, 7, 8, 300_000):
        body = bytes(size)
        with talk.cluster.faults.add(f"{fault[:-1]}, op=put, times=always)"):
            to, marker = talk.owner("x")
            with Call(to) as call:
                call.head("PUT", talk.path("x", marker), None if chunked else size, CHUNKED if chunked else None)
                for at in range(0, size, 100_000):
                    piece = body[at : at + 100_000]
                    call.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                call.send(b"0\r\n\r\n" if chunked else b"")
                assert call.reply().status == 200
                assert call.ask("HEAD", talk.path("x")).status == 200, "nothing is left over on the connection"
        stored = talk.get("x").body
        assert len(stored) == size + (min(3, max(0, size - 2)) if chunked and fault.startswith("dup") else 0)
        assert stored.count(1) == (1 if size and fault.startswith("flip") else 0)


CHUNKED = {"Transfer-Encoding": "chunked"}


@pytest.mark.parametrize(
    "fault", ["fin_at(10)", "half_dead()", "half_dead(who=target)", "gateway_502()", "reset_at(10)"]
)
def test_a_fault_in_a_body_that_nobody_reads_does_not_happen(talk: Talk, fault: str) -> None:
    """It is counted all the same: whether a handler will read on, nobody knows when the head comes."""
    talk.cluster.faults.add(f"{fault[:-1]}{', ' if fault[-2] != '(' else ''}op=part, byte=900000)".replace("10, ", ""))
    upload = talk.upload("x")
    with Call(talk.owner("x")[0]) as call:
        call.head("PUT", talk.path("x", f"&uploadId={upload.id}nope&partNumber=1&pid=p&utm=1"), 1_000_000)
        assert call.reply().status == 404


def test_a_body_that_the_handler_does_not_want_ends_by_an_early_answer_too(talk: Talk) -> None:
    talk.cluster.faults.add("early_status(507, 10, op=part)")
    upload = talk.upload("x")
    reply = talk.send("PUT", "x", bytes(1000), f"&uploadId={upload.id}nope&partNumber=1")
    assert (reply.status, reply.headers["connection"]) == (404, "close")


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        ("lost_response(reset, op=put)", "OSError"),
        ("lost_response(fin, op=put)", "OSError"),
        ("reset_at(100, op=put)", "OSError"),
        ("half_dead(op=put, ms=10)", "OSError"),
        ("gateway_504(op=put, ms=10)", "504"),
        ("early_status(507, 100, op=put)", "507"),
        ("window_zero(100, ms=10, op=put)", "200"),
        ("bandwidth(1e6, op=put)", "200"),
        ("1xx(op=put)", "103"),
    ],
)
def test_socket_faults_are_real_under_tls(secure: tuple[Cluster, ssl.SSLContext], fault: str, seen: str) -> None:
    cluster, context = secure
    place = cluster.bucket("b")
    assert place is not None
    target = "/v1/objects/b/x?provider=ais"
    location = ask(cluster.endpoint, "PUT", target, context=context).headers["location"]
    authority, _, path = location.removeprefix("https://").partition("/")
    with cluster.faults.add(fault):
        try:
            reply = ask(f"https://{authority}", "PUT", f"/{path}", bytes(1000), context=context)
            assert str(reply.status) == seen
        except OSError:
            assert seen == "OSError"
    assert cluster.truth.wait_until_quiet()
    assert ask(f"https://{authority}", "PUT", f"/{path}", bytes(1000), context=context).status == 200


@pytest.fixture(scope="module")
def secure() -> Iterator[tuple[Cluster, ssl.SSLContext]]:
    with Cluster(targets=1, tls="self-made", closing_delay=0.05) as cluster:
        yield cluster, ssl.create_default_context(cafile=str(cluster.ca_file))


def test_a_node_that_comes_back_early_comes_back_once(talk: Talk) -> None:
    for fault in ("proxy_down(60000)", "refuse(60000, where=proxy)"):
        with talk.cluster.faults.add(fault):
            assert refused(talk.cluster.endpoint)
        assert ask(talk.cluster.endpoint, "GET", "/v1/health").status == 200
    assert soon(lambda: not [thread for thread in threading.enumerate() if thread.name == "mock-fault"])


@pytest.mark.parametrize("fault", ["cleanup_now", "proxy_down(60000)", "kill_target(60000)"])
def test_a_cluster_ends_while_a_fault_begins(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """The fault's thread is there and has not started, or has not come to its deed: `stop` neither fails nor waits."""
    begun, start = threading.Event(), threading.Thread.start

    def slowly(thread: threading.Thread) -> None:
        if thread.name == "mock-fault":
            begun.set()
            time.sleep(0.05)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", slowly)
    with Cluster(targets=2) as cluster, ThreadPoolExecutor(1) as pool:
        adding = pool.submit(cluster.faults.add, fault)
        assert begun.wait(5)
        cluster.stop()
        adding.result(5)
    assert not [thread for thread in threading.enumerate() if thread.name == "mock-fault"]


def left_with_the_sender(talk: Talk) -> int:
    """How many of 256 KiB are still with the sender, when all of it has been sent and nothing is read."""
    with Call(talk.owner("x")[0]) as call:
        call.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        marker = talk.owner("x")[1]
        call.head("PUT", talk.path("x", marker), 1 << 18)
        call.send(bytes(1 << 18))
        time.sleep(0.1)
        return int.from_bytes(fcntl.ioctl(call.socket, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel for its send queue")
def test_a_slow_reader_takes_little_even_at_first(talk: Talk) -> None:
    """A client that watches its send queue sees that nothing moves; the plain stall swallows what fits."""
    with talk.cluster.faults.add("trickle(10, op=put)"):
        assert left_with_the_sender(talk) > (1 << 18) - (1 << 14)
    with talk.cluster.faults.add("window_zero(0, forever, op=put)"):
        assert left_with_the_sender(talk) > (1 << 18) - (1 << 14)
