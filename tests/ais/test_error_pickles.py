"""Errors go home from worker processes whole: they pickle, copy, and keep what they know."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

import fastmpu
from fastmpu import errors

SERVER = {"status": 418, "tcode": "ErrTea", "message": "the server's words", "node": "t[abc]"}
UPLOAD = {"upload_id": "U123456789", "object_name": "ais://b/o"}
PART = {"part_number": 7, "attempts": 3, "status": 500, **UPLOAD}


def instances() -> list[errors.FastMPUError]:
    made: list[errors.FastMPUError] = []
    for name in errors.__all__:
        kind: Any = getattr(errors, name)
        if issubclass(kind, errors.ClusterError):
            made.append(kind("summary", **SERVER))
        elif issubclass(kind, errors.PartError):
            made.append(kind("summary", **PART))
        elif issubclass(kind, errors.IntegrityError):
            made.append(kind("summary", expected="5 bytes", found="4 bytes", **UPLOAD))
        elif issubclass(kind, errors.UploadError):
            made.append(kind("summary", **UPLOAD))
        elif issubclass(kind, errors.ConnectFailedError):
            made.append(kind("summary"))
        elif issubclass(kind, errors.TransportError):
            made.append(kind("summary", sent=True))
        elif issubclass(kind, errors.SourceError):
            made.append(kind(2, "cannot open 'x': No such file"))
        else:
            made.append(kind("summary"))
    return made


@pytest.mark.parametrize("error", instances(), ids=lambda error: type(error).__name__)
def test_every_error_survives_the_journey(error: errors.FastMPUError) -> None:
    """Class, text, attributes, errno and notes are the same on the other side."""
    if hasattr(error, "add_note"):
        error.add_note("a note")
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(other) is type(error)
        assert str(other) == str(error)
        assert other.args == error.args
        assert vars(other) == vars(error)
        assert getattr(other, "errno", None) == getattr(error, "errno", None)
        assert isinstance(other, fastmpu.FastMPUError)


def test_errors_of_real_stories_survive_as_well(bucket: fastmpu.Bucket) -> None:
    """Not only those that a test has made."""
    steps = (
        lambda: bucket.object("missing").head(),
        lambda: bucket.object("a/../b"),
        lambda: fastmpu.upload("/no/such/file", "ais://b/o", client=bucket.client),
        lambda: bucket.create(),
    )
    for step in steps:
        with pytest.raises(fastmpu.FastMPUError) as caught:
            step()
        other = pickle.loads(pickle.dumps(caught.value))
        assert (type(other), str(other), vars(other)) == (type(caught.value), str(caught.value), vars(caught.value))


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("UsageError", ValueError),
        ("PlanError", ValueError),
        ("InvalidNameError", ValueError),
        ("SourceError", OSError),
        ("SourceChangedError", OSError),
        ("TransportError", ConnectionError),
        ("ResponseTimeoutError", TimeoutError),
        ("BucketNotFoundError", LookupError),
        ("UploadNotFoundError", LookupError),
        ("ObjectNotFoundError", FileNotFoundError),
        ("BucketExistsError", FileExistsError),
        ("ObjectExistsError", FileExistsError),
        ("AuthError", PermissionError),
    ],
)
def test_built_ins_are_mixed_in_where_callers_catch_them(name: str, builtin: type[Exception]) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, builtin)
    assert issubclass(kind, fastmpu.FastMPUError)
