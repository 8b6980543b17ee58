"""AIStore's notebook on multipart uploads, step by step, with fastmpu's names."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy
import pytest

import fastmpu
from fastmpu.errors import ObjectNotFoundError, UploadStateError, UsageError

PARTS = [random.Random(number).randbytes(size) for number, size in enumerate((5000, 7001, 1), 1)]
WHOLE = b"".join(PARTS)


@pytest.fixture
def target(bucket: fastmpu.Bucket) -> fastmpu.Object:
    return bucket.object("notebook/object.bin")


def test_serial_parts(target: fastmpu.Object) -> None:
    """The first example: create, parts one by one, complete, read back."""
    mpu = target.multipart_upload()
    assert mpu.upload_id is None
    assert mpu.create() is mpu
    assert mpu.upload_id
    for number, content in enumerate(PARTS, 1):
        assert mpu.add_part(number).put_content(content).status_code == 200
    assert mpu.parts == [1, 2, 3]
    assert mpu.complete().status_code == 200
    assert target.get_reader().read_all() == WHOLE
    assert target.head().size == len(WHOLE)


def test_parallel_parts_in_any_order(target: fastmpu.Object) -> None:
    """The second example: parts from a thread pool, out of order; the object is in order all the same."""
    mpu = target.multipart_upload().create()
    contents = {number: random.Random(number).randbytes(3000 + number) for number in range(1, 41)}
    numbers = list(contents)
    random.Random(7).shuffle(numbers)
    with ThreadPoolExecutor(max_workers=8) as pool:
        answers = list(pool.map(lambda number: mpu.add_part(number).put_content(contents[number]), numbers))
    assert {answer.status_code for answer in answers} == {200}
    assert sorted(mpu.parts) == sorted(contents)
    assert mpu.complete().status_code == 200
    assert target.get_reader().read_all() == b"".join(contents[number] for number in sorted(contents))


def test_parts_are_listed_as_acknowledged(target: fastmpu.Object) -> None:
    """`parts` has the order in which the cluster acknowledged them, and is a copy."""
    mpu = target.multipart_upload().create()
    for number in (3, 1, 2):
        mpu.add_part(number).put_content(PARTS[number - 1])
    assert mpu.parts == [3, 1, 2]
    mpu.parts.clear()
    assert mpu.parts == [3, 1, 2]
    mpu.complete()
    assert target.get_reader().read_all() == WHOLE


def test_abort(target: fastmpu.Object) -> None:
    """The third example: after abort there is no object, and the upload cannot go on."""
    mpu = target.multipart_upload().create()
    mpu.add_part(1).put_content(PARTS[0])
    answer = mpu.abort()
    assert answer is not None
    assert answer.status_code == 200
    assert not target.exists()
    with pytest.raises(UploadStateError, match="aborted"):
        mpu.add_part(2)
    with pytest.raises(UploadStateError, match="aborted"):
        mpu.complete()


def test_abort_twice_is_fine(target: fastmpu.Object) -> None:
    """abort is idempotent, also before create."""
    mpu = target.multipart_upload().create()
    mpu.abort()
    assert mpu.abort() is None
    assert target.multipart_upload().abort() is None


def test_abort_after_complete_is_refused(target: fastmpu.Object) -> None:
    """A finished object is deleted, not aborted; it stays."""
    mpu = target.multipart_upload().create()
    mpu.add_part(1).put_content(b"x")
    mpu.complete()
    with pytest.raises(UploadStateError, match="delete the object"):
        mpu.abort()
    assert target.get_reader().read_all() == b"x"


def test_context_manager_aborts_on_an_exception(target: fastmpu.Object) -> None:
    """A `with` block that raises never completes: the upload is gone, and the caller's own exception comes out."""
    mpu = target.multipart_upload()

    def block() -> None:
        with mpu as entered:
            assert entered is mpu
            mpu.add_part(1).put_content(PARTS[0])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        block()
    assert mpu.upload_id
    assert not target.exists()
    with pytest.raises(UploadStateError, match="aborted"):
        mpu.add_part(2)


def test_context_manager_completes_nothing_by_itself(target: fastmpu.Object) -> None:
    """Leaving the block in peace neither completes nor aborts: the upload goes on."""
    with target.multipart_upload() as mpu:
        mpu.add_part(1).put_content(PARTS[0])
    assert not target.exists()
    assert mpu.complete().status_code == 200
    with target.multipart_upload().create() as created:
        created.add_part(1).put_content(b"again")
        created.complete()
    assert target.get_reader().read_all() == b"again"


def test_an_exception_after_complete_keeps_the_object(target: fastmpu.Object) -> None:
    """Once completed there is nothing to abort."""

    def block() -> None:
        with target.multipart_upload() as mpu:
            mpu.add_part(1).put_content(b"kept")
            mpu.complete()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        block()
    assert target.get_reader().read_all() == b"kept"


def test_the_old_object_is_served_until_complete(target: fastmpu.Object) -> None:
    """No reader ever sees half of a new object."""
    target.put(b"old")
    mpu = target.multipart_upload().create()
    mpu.add_part(1).put_content(b"new")
    assert target.get_reader().read_all() == b"old"
    mpu.complete()
    assert target.get_reader().read_all() == b"new"


@pytest.mark.parametrize(
    "data",
    [
        bytearray(b"some bytes"),
        memoryview(b"..some bytes..")[2:-2],
        numpy.arange(1000, dtype=numpy.float64).reshape(10, 100),
        numpy.arange(12, dtype=">u4"),
    ],
    ids=["bytearray", "memoryview", "ndarray", "big-endian ndarray"],
)
def test_content_is_any_contiguous_buffer(target: fastmpu.Object, data: Any) -> None:
    """Its bytes as they lie in memory are the part."""
    mpu = target.multipart_upload().create()
    mpu.add_part(1).put_content(data)
    mpu.complete()
    assert target.get_reader().read_all() == memoryview(data).tobytes()


@pytest.mark.parametrize("number", [0, -1, 10_000, 1.0, "1", None, True])
def test_a_part_number_is_an_int_up_to_9999(target: fastmpu.Object, number: object) -> None:
    """Anything else is a ValueError that names the value and the bounds."""
    mpu = target.multipart_upload().create()
    with pytest.raises(ValueError, match=r"1 to 9,999") as caught:
        mpu.add_part(number)  # type: ignore[arg-type]  # that is the point
    assert repr(number) in str(caught.value)
    mpu.add_part(9_999)
    mpu.abort()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "1 byte"),
        ("text", "encode"),
        (42, "not a buffer"),
        (numpy.asfortranarray(numpy.ones((3, 4))), "ascontiguousarray"),
    ],
    ids=["empty", "text", "int", "Fortran order"],
)
def test_content_that_cannot_be_a_part(target: fastmpu.Object, data: object, says: str) -> None:
    """Refused with the remedy; the part number stays free."""
    mpu = target.multipart_upload().create()
    with pytest.raises(UsageError, match=says):
        mpu.add_part(1).put_content(data)
    mpu.add_part(1).put_content(b"good")
    mpu.complete()
    assert target.get_reader().read_all() == b"good"


def test_complete_without_parts_or_with_a_gap(target: fastmpu.Object) -> None:
    """Parts are 1..n; an error names what is missing, and the upload goes on."""
    mpu = target.multipart_upload().create()
    with pytest.raises(UploadStateError):
        mpu.complete()
    mpu.add_part(3).put_content(PARTS[2])
    with pytest.raises(UploadStateError, match="1, 2 are missing"):
        mpu.complete()
    mpu.add_part(1).put_content(PARTS[0])
    mpu.add_part(2).put_content(PARTS[1])
    mpu.complete()
    assert target.get_reader().read_all() == WHOLE


def test_steps_out_of_order(target: fastmpu.Object) -> None:
    """Each step needs its state, and says which one it found; the errors carry id and name."""
    mpu = target.multipart_upload()
    for step in (lambda: mpu.add_part(1), mpu.complete):
        with pytest.raises(UploadStateError, match="not created yet"):
            step()
    mpu.create()
    with pytest.raises(UploadStateError) as caught:
        mpu.create()
    assert caught.value.upload_id == mpu.upload_id
    assert caught.value.object_name == target.uri
    mpu.abort()


def test_two_uploads_of_one_object_do_not_meet(target: fastmpu.Object) -> None:
    """The last complete wins."""
    one, two = target.multipart_upload().create(), target.multipart_upload().create()
    assert one.upload_id != two.upload_id
    one.add_part(1).put_content(b"one")
    two.add_part(1).put_content(b"two")
    two.complete()
    one.complete()
    assert target.get_reader().read_all() == b"one"


def test_reprs_say_where_it_stands(target: fastmpu.Object) -> None:
    mpu = target.multipart_upload()
    assert "not created" in repr(mpu)
    mpu.create()
    writer = mpu.add_part(1)
    writer.put_content(b"x")
    assert target.uri in repr(mpu)
    assert str(mpu.upload_id) in repr(mpu)
    assert "1 parts acknowledged" in repr(mpu)
    assert "PartWriter 1" in repr(writer)
    mpu.abort()
    assert "aborted" in repr(mpu)


def test_an_aborted_upload_has_no_object(client: fastmpu.Client, target: fastmpu.Object) -> None:
    """Uploads that are not complete are not listed, nor found."""
    mpu = target.multipart_upload().create()
    mpu.add_part(1).put_content(b"x")
    assert list(target.bucket.list()) == []
    with pytest.raises(ObjectNotFoundError):
        target.get_reader().read_all()
    mpu.abort()
