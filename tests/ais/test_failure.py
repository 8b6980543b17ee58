"""What a failed request means: every combination of facts, and every error of the tree, has its class."""

from __future__ import annotations

import inspect
import itertools

import pytest

from fastmpu import errors
from fastmpu.ais.failure import PASSING_STATUS, Answer, Facts, Failure, classify, facts_of
from fastmpu.errors import (
    CertificateError,
    ChecksumRefusedError,
    ClusterError,
    ConnectFailedError,
    FastMPUError,
    NotAIStoreError,
    RedirectRefusedError,
    ResponseTimeoutError,
    TransportError,
    UnavailableError,
    UploadNotFoundError,
)

STATUSES = range(100, 600)
TABLE = [Facts(*row) for row in itertools.product((False, True), (False, True), Answer, (0, *STATUSES))]
MAY_BE_SENT_AGAIN = {Failure.NEVER_PROCESSED, Failure.PASSING}


def may_have_stored(facts: Facts) -> bool:
    """Told anew, not as the classifier tells it: only AIStore's own error, or not a byte sent, excludes it."""
    return facts.answer is Answer.STRANGE or (facts.answer is Answer.NONE and facts.sent)


def test_every_row_has_one_class() -> None:
    """Total: 12,024 rows, no exception, and each class is somebody's."""
    assert len(TABLE) == 2 * 2 * len(Answer) * 501
    assert {classify(facts) for facts in TABLE} == set(Failure)


def test_what_may_be_stored_is_never_sent_again() -> None:
    """The rule all else rests on (H1, H2), over the whole table: doubt is UNKNOWN, and UNKNOWN is nothing but doubt."""
    for facts in TABLE:
        assert (classify(facts) is Failure.UNKNOWN) == may_have_stored(facts), facts


def test_a_gateways_answer_proves_nothing() -> None:
    """Whatever its status, also for a request of which we think that nothing was sent."""
    for facts in TABLE:
        if facts.answer is Answer.STRANGE:
            assert classify(facts) is Failure.UNKNOWN


def test_a_certificate_that_is_not_trusted_is_final() -> None:
    """It would be the same the next time, and nothing was processed: neither a retry nor doubt."""
    for facts in TABLE:
        if facts.answer is Answer.UNTRUSTED:
            assert classify(facts) is Failure.FATAL


def test_aistores_own_answers() -> None:
    """Some statuses pass, the others are final; a refused checksum has stored nothing, whatever its status."""
    for facts in TABLE:
        if facts.answer is Answer.STATUS:
            passing = facts.status in {409, 429, 500, 502, 503, 504}
            assert classify(facts) is (Failure.PASSING if passing else Failure.FATAL)
        if facts.answer is Answer.BAD_CHECKSUM:
            assert classify(facts) is Failure.PASSING
    assert {409, 429, 500, 502, 503, 504} == PASSING_STATUS


def test_a_lost_upload_is_lost_only_to_its_own_steps() -> None:
    """The same 404 for a request without an upload id is a plain refusal."""
    for facts in TABLE:
        if facts.answer is Answer.UPLOAD_NOT_FOUND:
            assert classify(facts) is (Failure.UPLOAD_LOST if facts.of_upload else Failure.FATAL)


def cluster_error(kind: type[ClusterError], status: int, tcode: str = "", node: str = "t[x]") -> ClusterError:
    return kind("no", status=status, tcode=tcode, node=node)


@pytest.mark.parametrize("sent", [False, True])
@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (ConnectFailedError("refused"), Failure.NEVER_PROCESSED),
        (CertificateError("expired"), Failure.FATAL),
        (TransportError("reset", sent=False), Failure.NEVER_PROCESSED),
        (TransportError("reset", sent=True), Failure.UNKNOWN),
        (ResponseTimeoutError("silence", sent=True), Failure.UNKNOWN),
        (ResponseTimeoutError("nothing taken", sent=False), Failure.NEVER_PROCESSED),
        (NotAIStoreError("a web page"), Failure.UNKNOWN),
        (RedirectRefusedError("302"), Failure.UNKNOWN),
        (cluster_error(UnavailableError, 502, node=""), Failure.UNKNOWN),
        (cluster_error(ClusterError, 400, "ErrBadCksum", node=""), Failure.UNKNOWN),
        (cluster_error(UploadNotFoundError, 404, "ErrNotFound", node=""), Failure.UNKNOWN),
        (cluster_error(UnavailableError, 503), Failure.PASSING),
        (cluster_error(ChecksumRefusedError, 400, "ErrBadCksum"), Failure.PASSING),
        (cluster_error(ClusterError, 400), Failure.FATAL),
        (cluster_error(ClusterError, 507), Failure.FATAL),
        (cluster_error(UploadNotFoundError, 404, "ErrNotFound"), Failure.UPLOAD_LOST),
    ],
    ids=lambda value: value.name if isinstance(value, Failure) else type(value).__name__,
)
def test_errors_as_facts(error: FastMPUError, failure: Failure, sent: bool) -> None:
    """An error that knows whether a byte was sent is believed; only a `node` makes an answer AIStore's."""
    assert classify(facts_of(error, of_upload=True, sent=sent)) is failure


def test_every_error_of_the_tree_has_facts() -> None:
    """Total here, too: also those that nobody thought of are doubt, never a reason to send again."""
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, FastMPUError)]
    assert len(kinds) > 25
    for kind in kinds:
        error = kind.__new__(kind)
        error.__dict__.update(sent=True, node="", status=500, tcode="")
        assert classify(facts_of(error, of_upload=True, sent=True)) not in MAY_BE_SENT_AGAIN, kind
