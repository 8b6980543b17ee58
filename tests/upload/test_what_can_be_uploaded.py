"""`upload()`: whatever the source, the sizes and the options, the object read back equals the source."""

from __future__ import annotations

import array
import json
import mmap
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import crc32c
import numpy
import pytest
import xxhash
from interposer import Interposer

import fastmpu
from fastmpu.errors import ObjectExistsError, UsageError

KIB = 1024
DATA = random.Random(3).randbytes(100 * KIB + 17)


@pytest.fixture(params=["inline", "thread"])
def engine(request: pytest.FixtureRequest) -> str:
    """First without threads, then with them."""
    name: str = request.param
    return name


def crc_of(data: bytes) -> str:
    """By the C library in one pass: fastmpu puts it together from parts."""
    return f"crc32c:{crc32c.crc32c(data):08x}"


def as_path(data: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "source.bin"
    path.write_bytes(data)
    return path


def as_map(data: bytes, tmp_path: Path) -> mmap.mmap:
    with as_path(data, tmp_path).open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


SOURCES: dict[str, Callable[[bytes, Path], Any]] = {
    "path": as_path,
    "str": lambda data, tmp: str(as_path(data, tmp)),
    "bytes": lambda data, tmp: data,
    "bytearray": lambda data, tmp: bytearray(data),
    "memoryview": lambda data, tmp: memoryview(b"...." + data + b"....")[4:-4],
    "array": lambda data, tmp: array.array("B", data),
    "ndarray": lambda data, tmp: numpy.frombuffer(data, dtype=numpy.uint8),
    "mmap": as_map,
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_source(bucket: fastmpu.Bucket, tmp_path: Path, engine: str, kind: str) -> None:
    """Paths and buffers, in parts and whole."""
    source = SOURCES[kind](DATA, tmp_path)
    obj = bucket.object("o")
    receipt = obj.upload(source, part_size="16KiB", engine=engine)
    assert len(receipt.parts) == 7
    assert receipt.checksum == crc_of(DATA)
    assert receipt.verified == "head"
    assert obj.get_reader().read_all() == DATA
    whole = obj.upload(source, engine=engine)
    assert whole.parts == ()
    assert whole.checksum == crc_of(DATA)
    assert obj.get_reader().read_all() == DATA


@pytest.mark.parametrize("dtype", ["float64", ">i4", "datetime64[ns]", "S7", "complex64", "bool", "float16"])
def test_arrays_of_any_type(bucket: fastmpu.Bucket, dtype: str) -> None:
    """An array is its bytes, in C order; types without a buffer are refused with the remedy."""
    data = numpy.zeros((40, 50), dtype=dtype)
    data.view("uint8").reshape(-1)[:] = 7
    obj = bucket.object("o")
    try:
        obj.upload(data, part_size=512)
    except UsageError as error:
        assert "view('uint8')" in str(error)  # noqa: PT017 - not the promise itself, but its one exception
        data = data.view("uint8")
        obj.upload(data, part_size=512)
    assert obj.get_reader().read_all() == data.tobytes()


@pytest.mark.parametrize("part_size", [1000, 1024, 4096])
@pytest.mark.parametrize("extra", [-1, 0, 1])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_sizes_around_a_part(bucket: fastmpu.Bucket, engine: str, part_size: int, extra: int, count: int) -> None:
    """One byte less, exactly, one byte more than a number of parts: no part is empty, none is lost."""
    data = DATA[: part_size * count + extra]
    obj = bucket.object("o")
    receipt = obj.upload(data, part_size=part_size, engine=engine)
    assert obj.get_reader().read_all() == data
    assert receipt.size == len(data)
    if len(data) > part_size:
        assert [part.length for part in receipt.parts][:-1] == [part_size] * (-(-len(data) // part_size) - 1)
        assert 1 <= receipt.parts[-1].length <= part_size
    else:
        assert receipt.parts == ()


def test_the_threshold_decides(obj: fastmpu.Object, tap: Interposer, engine: str) -> None:
    """Up to `multipart_threshold` it is one plain PUT, one byte more goes in parts."""
    at = obj.upload(DATA[:5000], part_size=1000, multipart_threshold=5000, engine=engine)
    assert (at.parts, at.upload_id, at.attempts) == ((), "", 1)
    assert tap.count("create") == 0
    above = obj.upload(DATA[:5001], part_size=1000, multipart_threshold=5000, engine=engine)
    assert len(above.parts) == 6
    assert above.upload_id
    assert (tap.count("create"), tap.count("complete")) == (1, 1)
    assert obj.get_reader().read_all() == DATA[:5001]


@pytest.mark.parametrize("size", [0, 1])
def test_the_smallest_objects(bucket: fastmpu.Bucket, tmp_path: Path, engine: str, size: int) -> None:
    """Empty, and one byte, from a file and from memory; empty goes by plain PUT, for a part cannot be empty."""
    path = as_path(DATA[:size], tmp_path)
    for source in (path, DATA[:size]):
        obj = bucket.object(f"o{type(source).__name__}")
        receipt = obj.upload(source, engine=engine, part_size=1, multipart_threshold=0)
        assert (receipt.size, receipt.checksum) == (size, crc_of(DATA[:size]))
        assert obj.head().size == size
        assert obj.get_reader().read_all() == DATA[:size]


def test_default_settings_with_real_parts(bucket: fastmpu.Bucket, tmp_path: Path) -> None:
    """No knob turned but the part size, a file of some MiB, read by map or by pread: right each time."""
    data = random.Random(9).randbytes((9 << 20) + 5)
    path = as_path(data, tmp_path)
    for read in ("auto", "pread"):
        obj = bucket.object(read)
        receipt = obj.upload(path, part_size="2MiB", read=read)
        assert receipt.checksum == crc_of(data)
        assert receipt.read in ("mmap", "pread")
        assert obj.get_reader().read_all() == data
    assert receipt.read == "pread"


def test_a_map_on_request(bucket: fastmpu.Bucket, tmp_path: Path) -> None:
    """read="mmap" is had or refused with the reason; never silently something else."""
    path = as_path(DATA, tmp_path)
    obj = bucket.object("o")
    try:
        assert obj.upload(path, part_size="16KiB", read="mmap").read == "mmap"
    except UsageError as error:
        assert "read='auto'" in str(error)  # noqa: PT017 - where there are no leases
    else:
        assert obj.get_reader().read_all() == DATA
    with path.open("r+b"):  # a writer: the kernel grants no lease
        with pytest.raises(UsageError, match="read='auto'"):
            obj.upload(path, read="mmap")
        assert obj.upload(path, read="auto", part_size="16KiB").read == "pread"


@pytest.mark.parametrize(
    ("checksum", "verify"),
    [
        (checksum, verify)
        for checksum in ("auto", "crc32c", "xxhash", "none")
        for verify in ("none", "size", "head", "read")
        if (checksum, verify) != ("none", "read")
    ],
)
@pytest.mark.parametrize("part_size", ["16KiB", "1MiB"], ids=["parts", "whole"])
def test_checksums_and_proofs(
    obj: fastmpu.Object, tap: Interposer, engine: str, part_size: str, checksum: str, verify: str
) -> None:
    """The receipt has the sum of the whole and says which proof was reached; requests for it are no more than that."""
    receipt = obj.upload(DATA, part_size=part_size, checksum=checksum, verify=verify, engine=engine)
    xxh = f"xxhash:{xxhash.xxh64_hexdigest(DATA)}"
    whole = part_size == "1MiB"
    assert receipt.checksum == {"none": "", "xxhash": xxh if whole else crc_of(DATA)}.get(checksum, crc_of(DATA))
    reached = "size" if checksum == "none" and verify == "head" else verify
    assert receipt.verified == reached
    assert tap.count("head") == (verify != "none")
    assert tap.count("get") == (reached == "read")
    for part in receipt.parts:
        content = DATA[part.offset : part.offset + part.length]
        sums = {"crc32c": f"{crc32c.crc32c(content):08x}", "xxhash": xxhash.xxh64_hexdigest(content)}
        wanted = {"none": [], "xxhash": ["crc32c", "xxhash"]}.get(checksum, ["crc32c"])
        assert part.checksums == {kind: sums[kind] for kind in wanted}
    assert obj.get_reader().read_all() == DATA


@pytest.mark.parametrize("bucket_type", ["xxhash2", "crc32c", "md5", "sha256", "none"])
@pytest.mark.parametrize("part_size", ["16KiB", "1MiB"], ids=["parts", "whole"])
def test_buckets_of_any_checksum_type(
    client: fastmpu.Client, bucket: fastmpu.Bucket, bucket_type: str, part_size: str
) -> None:
    """Part 1 is never sent first, so the cluster's sum of parts is CRC32C whatever the bucket's type."""
    typed = client.bucket(f"{bucket.name}-{bucket_type}").create(props={"checksum": {"type": bucket_type}})
    try:
        obj = typed.object("o")
        receipt = obj.upload(DATA, part_size=part_size, engine="inline")
        # A bucket of type "none" neither checks a PUT nor tells a sum: what cannot be proved by HEAD is read back.
        assert receipt.verified == ("read" if bucket_type == "none" and not receipt.parts else "head")
        assert obj.get_reader().read_all() == DATA
        if receipt.parts:
            props = obj.head()
            assert f"{props.checksum_type}:{props.checksum_value}" == receipt.checksum == crc_of(DATA)
    finally:
        typed.delete()


def test_part_1_is_never_sent_first(obj: fastmpu.Object, tap: Interposer, engine: str) -> None:
    """It starts when another part was acknowledged; each part goes out once."""
    obj.upload(DATA, part_size="16KiB", engine=engine)
    sent = tap.parts_sent()
    assert sent[0] != 1
    assert sorted(sent, key=lambda number: number or 0) == list(range(1, 8))
    obj.upload(DATA[: 20 * KIB], part_size="16KiB", engine=engine)
    assert tap.parts_sent()[7:] == [2, 1]


def test_bodies_never_go_to_a_proxy(obj: fastmpu.Object, tap: Interposer) -> None:
    """One question for the target per upload, with an empty body; then straight there (design section 4)."""
    proxy = obj.bucket.client.endpoint.origin
    obj.upload(DATA, part_size="16KiB")
    assert tap.count("locate") <= 6  # threads may ask at once; not one per part and never with a body
    obj.upload(DATA)
    assert all(wire.length < 1000 for wire in tap.wires if wire.origin == str(proxy))
    assert all(wire.length == 0 for wire in tap.of("locate"))


def test_mode_create_refuses_what_exists(obj: fastmpu.Object, tap: Interposer) -> None:
    """A FileExistsError, nothing is sent but one HEAD, and the old object stays; a new name is fine."""
    obj.upload(b"old", mode="create")
    before = len(tap.wires)
    with pytest.raises(ObjectExistsError, match='mode="create"') as caught:
        obj.upload(DATA, mode="create", part_size="16KiB")
    assert isinstance(caught.value, FileExistsError)
    assert {wire.kind for wire in tap.wires[before:]} == {"head"}
    assert obj.get_reader().read_all() == b"old"
    obj.upload(b"new", mode="overwrite")
    assert obj.get_reader().read_all() == b"new"


def test_overwriting_leaves_one_object(obj: fastmpu.Object, cluster: fastmpu.mock.Cluster) -> None:
    """Parts over parts, whole over parts, parts over whole: only the last one lies on the targets."""
    for size, part_size in ((50_000, 1000), (60_000, 7000), (10_000, 10_000), (30_000, 900)):
        obj.upload(DATA[:size], part_size=part_size)
        assert obj.get_reader().read_all() == DATA[:size]
        assert cluster.stored_bytes == size


def test_the_same_content_again(bucket: fastmpu.Bucket) -> None:
    """A PUT whose checksum the object has already is skipped by AIStore unchecked; it counts as stored all the same,
    and the receipt is as good (protocol 4.1)."""
    obj = bucket.object("o")
    for _ in range(3):
        receipt = obj.upload(DATA)
        assert receipt.verified == "head"
        assert receipt.checksum == crc_of(DATA)
    assert obj.get_reader().read_all() == DATA


def test_targets_by_uri_and_prefix(client: fastmpu.Client, bucket: fastmpu.Bucket, tmp_path: Path) -> None:
    """An Object, a URI, or a prefix below which a file keeps its name."""
    path = as_path(DATA[:100], tmp_path)
    for uri, name in ((bucket.uri, "source.bin"), (f"{bucket.uri}/a/", "a/source.bin"), (f"{bucket.uri}/x", "x")):
        assert fastmpu.upload(path, uri, client=client).uri == f"{bucket.uri}/{name}"
        assert bucket.object(name).get_reader().read_all() == DATA[:100]
    with pytest.raises(UsageError, match="has no name of its own"):
        fastmpu.upload(DATA, f"{bucket.uri}/a/", client=client)


def test_a_client_of_its_own(endpoint: str, bucket: fastmpu.Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """`endpoint=` or AIS_ENDPOINT is enough."""
    fastmpu.upload(DATA, f"{bucket.uri}/one", endpoint=endpoint)
    monkeypatch.setenv("AIS_ENDPOINT", endpoint)
    fastmpu.upload(DATA, f"{bucket.uri}/two")
    assert [entry.name for entry in bucket.list()] == ["one", "two"]


def test_options_come_from_the_environment(bucket: fastmpu.Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """FASTMPU_<OPTION>; an argument wins, and an empty variable is none."""
    monkeypatch.setenv("FASTMPU_PART_SIZE", "16KiB")
    monkeypatch.setenv("FASTMPU_MAX_CONCURRENCY", "3")
    monkeypatch.setenv("FASTMPU_ENGINE", "inline")
    monkeypatch.setenv("FASTMPU_VERIFY", "")
    receipt = bucket.object("o").upload(DATA)
    assert (receipt.part_size, receipt.max_concurrency, receipt.engine) == (16 * KIB, 3, "inline")
    assert receipt.verified == "head"
    assert bucket.object("o").upload(DATA, part_size="8KiB", engine=None).part_size == 8 * KIB
    monkeypatch.setenv("FASTMPU_MAX_CONCURRENCY", "many")
    with pytest.raises(UsageError, match="FASTMPU_MAX_CONCURRENCY='many'"):
        bucket.object("o").upload(DATA)


def test_a_receipt_for_the_file(bucket: fastmpu.Bucket, tmp_path: Path) -> None:
    """Every field, and the same in one line of JSON with stable names."""
    path = as_path(DATA, tmp_path)
    receipt = bucket.object("o").upload(path, part_size="16KiB", max_concurrency=2)
    assert receipt.uri == f"{bucket.uri}/o"
    assert receipt.source == str(path)
    assert receipt.size == len(DATA)
    assert receipt.upload_id
    assert receipt.part_size == 16 * KIB
    assert receipt.attempts == 7
    assert receipt.max_concurrency == 2
    assert receipt.seconds > 0
    assert receipt.throughput == pytest.approx(len(DATA) / receipt.seconds)
    assert [part.number for part in receipt.parts] == list(range(1, 8))
    assert [part.offset for part in receipt.parts] == [16 * KIB * number for number in range(7)]
    assert all(part.attempts == 1 and part.seconds >= 0 for part in receipt.parts)
    assert f"{bucket.uri}/o" in str(receipt)
    assert "verified by head" in str(receipt)
    line = receipt.to_json()
    assert "\n" not in line
    told = json.loads(line)
    assert told["version"] == 1
    assert set(told) == {*vars(receipt), "throughput", "verdict"}
    assert told["parts"][6]["checksums"] == receipt.parts[6].checksums
    assert "not verified" in str(bucket.object("o").upload(b"x", verify="none"))
