"""The part store of one target, with its losses (protocol 5.1). `Uploads` holds the model.

Threads: any. The tables change under the store's lock. An attempt belongs to the thread that receives it; the hash that
runs through the parts in order has a lock of its own, because `complete` reads it while a part may be coming in.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastmpu.mock.answers import Refusal, quoted
from fastmpu.mock.blobs import NO_ROOM, Writer, out_of_space
from fastmpu.mock.checksums import Checksum, Crc32c, Hasher, combine_all, new_hasher
from fastmpu.mock.cluster_map import new_id
from fastmpu.mock.names import Bck
from fastmpu.mock.store import Object, PartFile, PartKey, PartRef, Store

__all__ = ["Attempt", "Upload", "Uploads"]

MAX_PART_NUMBER = 9999
_ID_LIMITS = (8, 128)
_BAD_ID_CHARACTER = re.compile(r"[^\x21-\x7e]|[/\\]")


class RunningHash:
    """The bucket's hash over parts that arrive strictly one after the other; anything else ends it (protocol 5.3).

    The bytes of a part that is still coming in are already in it: an upload completed at that moment gets a checksum of
    more than its content. AIStore does so.
    """

    def __init__(self, type_: str) -> None:
        self._type = type_
        self._hasher: Hasher | None = None if type_ == "none" else new_hasher(type_)
        self._next = 1
        self._busy = False
        self._lock = threading.Lock()

    def start(self, number: int) -> bool:
        """An attempt starts. True if its bytes are to be hashed."""
        with self._lock:
            if self._busy or number != self._next:
                self._hasher = None
            self._next, self._busy = number + 1, True
            return self._hasher is not None

    def end(self, *, stored: bool) -> None:
        with self._lock:
            self._busy = False
            if not stored:
                self._hasher = None

    def update(self, data: memoryview, /) -> None:
        with self._lock:
            if self._hasher is not None:
                self._hasher.update(data)

    def checksum(self) -> Checksum | None:
        """The checksum of all bytes so far; None if parts came in any other way."""
        with self._lock:
            return Checksum(self._type, self._hasher.hexdigest()) if self._hasher is not None else None


@dataclass
class Upload:
    """An unfinished upload: who it is for, and the list of its recorded parts."""

    id: str
    bck: Bck
    name: str
    hash: RunningHash
    checkpoint_every: int
    shares_files: bool  # of attempts: the quirk as it was when the upload began
    parts: dict[int, tuple[int, int]] = field(default_factory=dict)  # number -> size, crc
    blanks: int = 0  # list entries that a failed complete has wiped
    checkpoint: dict[int, tuple[int, int]] = field(default_factory=dict)  # what a restart leaves (protocol 5.4)
    completing: threading.Lock = field(default_factory=threading.Lock)
    completed_as: tuple[Bck, str] | None = None
    created: float = field(default_factory=time.time)
    aborted: bool = False

    @property
    def manifest(self) -> str:
        """How messages name the list of parts."""
        return f"chunk-manifest[{self.bck}/{self.name}, id={self.id}]"

    def as_checkpoint(self) -> dict[str, Any]:
        return {"bck": self.bck, "name": self.name, "every": self.checkpoint_every, "parts": self.checkpoint}

    def key(self, number: int) -> PartKey:
        return PartKey(self.bck, self.name, self.id, number)


@dataclass
class Attempt:
    """One PUT of one part, from its head to its answer."""

    upload: Upload
    number: int
    file: PartFile
    hashed: bool
    crc: Crc32c = field(default_factory=Crc32c)

    @property
    def key(self) -> PartKey:
        return self.upload.key(self.number)

    def writer(self) -> Writer:
        return self.file.blob.writer()


class Uploads:
    """The unfinished uploads of one target.

    A part's file is named by (bucket, object, upload, number): all attempts of a part share it.

    1. `begin` creates or truncates the file.
    2. `fail` unlinks the file - also one that another attempt has written meanwhile (H2, H4).
    3. `succeed` records the part. If its number is recorded already, the entry is replaced and the *entry's* file is
       unlinked, which is the file just written (H1) or, for part 1 after `complete`, the object itself (H4).
    4. `complete` checks the list, moves the file of part 1 to the object's place and believes in the others. If that
       file is missing, all files go, and those of a former object made of parts with them (H6).
    5. `abort` unlinks the files of recorded parts. An attempt in flight ends as it would, and leaves its file behind.

    With `attempts_share_a_file` off, every attempt has a file of its own, which `succeed` links and `fail` forgets: the
    last attempt that succeeds counts, and one that ends after `complete` or `abort` is refused.
    """

    def __init__(self, store: Store, label: str, generator: random.Random) -> None:
        self._store = store
        self._label = label
        self._generator = generator
        self._quirks = store.quirks
        self._uploads: dict[str, Upload] = {}

    def create(self, bck: Bck, name: str, checksum_type: str, checkpoint_every: int) -> str:
        with self._store.lock:
            id_ = new_id(self._generator, 10)
            type_ = checksum_type if self._quirks.checksum_by_arrival else "none"
            self._uploads[id_] = self._new(id_, bck, name, type_, checkpoint_every)
        return id_

    def begin(self, bck: Bck, name: str, upload_id: str, number: int, size: int) -> Attempt:
        """An attempt starts; refused if the upload, the number or the size (-1: unknown) will not do."""
        upload = self._find(bck, name, upload_id)
        if (upload.bck, upload.name) != (bck, name):
            ours, theirs = (
                f"mp[{self._store.mountpath(*owned)}]" for owned in ((upload.bck, upload.name), (bck, name))
            )
            raise Refusal(500, f"{upload.manifest}: object mismatch: {ours} vs ({bck}/{name}, {theirs})")
        out_of_range = 500 if self._quirks.part_number_out_of_range_is_500 else 400
        if number < 1:
            raise Refusal(out_of_range, f"{upload.manifest}: invalid chunk number ({number})")
        if number > MAX_PART_NUMBER:
            message = f"{upload.manifest}: chunk number ({number}) exceeds the maximum allowed ({MAX_PART_NUMBER})"
            raise Refusal(out_of_range, message)
        hashed = upload.hash.start(number)
        try:
            if size < 1:
                raise Refusal(400, f"{bck}/{name}: put-part invalid size ({size})")
            file = PartFile(self._store.blobs.create(size))
        except Refusal:
            self._lose(upload, number)
            raise
        except NO_ROOM as error:
            self._lose(upload, number)
            raise out_of_space(error) from error
        attempt = Attempt(upload, number, file, hashed)
        if upload.shares_files:
            self._store.link_part(attempt.key, file)
        return attempt

    def succeed(self, attempt: Attempt) -> str:
        """All bytes of the attempt are there. What became of them, in the words of `truth.Record`."""
        upload, number = attempt.upload, attempt.number
        upload.hash.end(stored=True)
        attempt.file.whole = True
        outcome = "stored"
        with self._store.lock:
            over = upload.completed_as is not None or upload.aborted
            if upload.shares_files:
                if over:
                    outcome = "orphaned"
                elif not self._store.holds_part(attempt.key, attempt.file):
                    outcome = "lost"
                if number in upload.parts:
                    self._unlink_recorded(upload, number)
                    outcome = "unlinked-late" if over else "unlinked-by-repeat"
            elif over:
                raise _unknown(upload.bck, upload.name, upload.id)
            else:
                self._store.link_part(attempt.key, attempt.file)
            upload.parts[number] = (attempt.file.blob.size, attempt.crc.value)
            if upload.checkpoint_every and len(upload.parts) % upload.checkpoint_every == 0:
                upload.checkpoint = dict(upload.parts)
                self._store.keep_checkpoint(upload.id, upload.as_checkpoint())
        return outcome

    def fail(self, attempt: Attempt) -> bool:
        """The attempt ended before its bytes were there, or they were wrong. True if it took others' bytes along."""
        attempt.file.blob.unlink()
        with self._store.lock:
            recorded = attempt.upload.shares_files and attempt.number in attempt.upload.parts
            self._lose(attempt.upload, attempt.number)
        return recorded

    def complete(self, bck: Bck, name: str, upload_id: str, numbers: list[int] | None) -> None:
        """Make the object `name` of the recorded parts. The name need not be the one the upload was created for."""
        upload = self._find(bck, name, upload_id)
        with upload.completing:
            if upload.completed_as and self._quirks.racing_completes_destroy:
                self._store.remove(bck, name)
                raise Refusal(500, f"{upload.manifest}: already completed")
            if upload.completed_as or upload.aborted:
                raise _unknown(bck, name, upload_id)
            with self._store.lock:
                _check_numbers(upload, numbers)
                self._publish(upload, bck, name)
                upload.completed_as = (bck, name)
                self._store.keep_checkpoint(upload_id, None)
                del self._uploads[upload_id]

    def abort(self, bck: Bck, name: str, upload_id: str) -> None:
        """Forget an upload. Its id alone counts; `name` only stands in the message."""
        upload = self._uploads.get(upload_id)
        if upload is None:
            _check_id(upload_id)
            path = f"{self._store.mountpath(bck, name)}/{bck.directory}/%ut/{name}.{upload_id}"
            message = f"failed to load partial chunk-manifest[{bck}/{name}, id={upload_id}]: open {path}"
            raise Refusal(404, f"{message}: no such file or directory", "wrapError")
        with upload.completing, self._store.lock:
            upload.aborted = True
            for number in upload.parts:
                self._store.unlink_part(upload.key(number))
            self._uploads.pop(upload_id, None)
            self._store.keep_checkpoint(upload_id, None)

    def restart(self) -> None:
        """The target's memory is gone; of an upload with checkpoints the last one is left. Files stay on disk."""
        with self._store.lock:
            for upload in list(self._uploads.values()):
                del self._uploads[upload.id]
                if upload.checkpoint:
                    again = self._new(upload.id, upload.bck, upload.name, "none", upload.checkpoint_every)
                    again.parts, again.checkpoint = dict(upload.checkpoint), upload.checkpoint
                    self._uploads[upload.id] = again

    def clean_up(self) -> None:
        """What the cleanup of AIStore does to uploads that take too long: the files go, the list stays (5.4)."""
        with self._store.lock:
            for upload in self._uploads.values():
                for number in upload.parts:
                    self._store.unlink_part(upload.key(number))

    def restore(self, checkpoint: Mapping[str, Any]) -> None:
        """An upload's checkpoint that a restart of the mock has found (see `Records.restore`)."""
        id_ = checkpoint["id"]
        again = self._new(id_, checkpoint["bck"], checkpoint["name"], "none", checkpoint["every"])
        again.parts, again.checkpoint = dict(checkpoint["parts"]), dict(checkpoint["parts"])
        self._uploads[id_] = again

    def all(self, bck: Bck) -> list[Upload]:
        """A bucket's unfinished uploads."""
        with self._store.lock:
            return [upload for upload in self._uploads.values() if upload.bck == bck]

    def _new(self, id_: str, bck: Bck, name: str, checksum_type: str, checkpoint_every: int) -> Upload:
        shares_files = self._quirks.attempts_share_a_file
        return Upload(id_, bck, name, RunningHash(checksum_type), checkpoint_every, shares_files)

    def _find(self, bck: Bck, name: str, upload_id: str) -> Upload:
        upload = self._uploads.get(upload_id)
        if upload is None:
            raise _unknown(bck, name, upload_id)
        return upload

    def _lose(self, upload: Upload, number: int) -> None:
        upload.hash.end(stored=False)
        if upload.shares_files:
            self._store.unlink_part(upload.key(number))

    def _unlink_recorded(self, upload: Upload, number: int) -> None:
        if number == 1 and upload.completed_as:
            self._store.remove(*upload.completed_as)
        else:
            self._store.unlink_part(upload.key(number))

    def _publish(self, upload: Upload, bck: Bck, name: str) -> None:
        ordered = sorted(upload.parts.items())
        first = self._store.take_part(upload.key(1))
        try:
            if first is None:
                raise self._part_1_is_missing(upload, bck, name)
            size = sum(size for _, (size, _) in ordered)
            checksum = upload.hash.checksum() or combine_all((crc, size) for _, (size, crc) in ordered)
            parts = tuple(PartRef(upload.key(number), size) for number, (size, _) in ordered)
            self._store.publish(Object(bck, name, size, checksum, first.blob, parts))
        except Refusal:
            if first is not None:
                first.blob.unlink()
            for number in upload.parts:
                self._store.unlink_part(upload.key(number))
            upload.blanks, upload.parts = upload.blanks + len(upload.parts), {}
            if self._quirks.failed_complete_drops_old_object:
                self._store.lose_parts_of(bck, name)
            raise

    def _part_1_is_missing(self, upload: Upload, bck: Bck, name: str) -> Refusal:
        source = f"{self._store.mountpath(upload.bck, upload.name)}/{bck.directory}/%ch/{upload.key(1).file_name}"
        target = f"{self._store.mountpath(bck, name)}/{bck.directory}/%ob/{name}"
        reason = f"rename {source} {target}: no such file or directory"
        return Refusal(404, f"{self._label}: failed to finalize {bck}/{name}, err: {reason}", "ErrFailedTo")


def _unknown(bck: Bck, name: str, upload_id: str) -> Refusal:
    return Refusal(404, f"o[{bck.name}/{name}(-)]: {upload_id} does not exist", "ErrNotFound")


def _check_numbers(upload: Upload, requested: list[int] | None) -> None:
    """The recorded list must be 1..C, and the requested one the same in any order (H8: what an empty one tells)."""
    recorded = [0] * upload.blanks + sorted(upload.parts)
    if not recorded:
        raise Refusal(400, "no chunks")
    for at, number in enumerate(recorded):
        if number != at + 1:
            raise Refusal(400, f"chunk at ({at}) has invalid number {number} (count={len(recorded)})")
    if requested is None:
        raise Refusal(400, "nil parts list")
    if len(requested) != len(recorded):
        message = f"partial completion is not allowed: requested {len(requested)} parts, have {len(recorded)}"
        raise Refusal(400, message)
    for at, number in enumerate(sorted(requested)):
        if number != at + 1:
            raise Refusal(400, f"parts must be exactly 1..{len(recorded)}: got {number} at position {at}")


def _check_id(upload_id: str) -> None:
    shortest, longest = _ID_LIMITS
    if len(upload_id) < shortest:
        raise Refusal(400, f"chunk-manifest ID {quoted(upload_id)} is too short (expecting >= {shortest} chars)")
    if len(upload_id) > longest:
        raise Refusal(400, f"chunk-manifest ID {quoted(upload_id)} is too long (expecting <= {longest} chars)")
    if bad := _BAD_ID_CHARACTER.search(upload_id):
        raise Refusal(
            400,
            f"chunk-manifest ID {quoted(upload_id)} contains invalid character at position {bad.start()} "
            "(expecting printable ASCII with no space and no slashes)",
        )
