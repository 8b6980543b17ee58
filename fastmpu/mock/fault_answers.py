"""What faults do to answers: errors, lost and late ones, broken ones, and redirects that lead astray."""

from __future__ import annotations

import gzip
import time
from dataclasses import replace

from fastmpu.mock.answers import Answer, Refusal, refusal_answer
from fastmpu.mock.fault_effects import REQUEST_EFFECTS, Effect, Scene, end_by_fin, end_by_reset
from fastmpu.mock.replies import Reply

__all__ = ["EFFECTS"]

_REDIRECTS = (301, 302, 303, 307, 308)


# -- response side


class LostResponse(Effect):
    def withhold(self) -> bool:
        how, wire = self.shot.value("how"), self.scene.wire
        if how == "reset":
            end_by_reset(wire)
        elif how == "fin":
            end_by_fin(wire)
            wire.wait_for_peer_to_close()
        else:
            self.wait()
        return True


class LateResponse(Effect):
    def withhold(self) -> bool:
        self.wait()
        return False


class Status(Effect):
    def before(self) -> Answer | None:
        if self.shot.value("when") == "before":
            raise self._refusal()
        return None

    def revise(self, answer: Answer) -> Answer:
        return answer if self.shot.value("when") == "before" else _as_answer(self._refusal(), self.scene)

    def _refusal(self) -> Refusal:
        code, retry_after = self.shot.number("code"), self.shot.value("retry_after")
        headers = [] if retry_after is None else [("Retry-After", str(retry_after))]
        message = str(self.shot.value("message") or f"fault: status({code})")
        return Refusal(code, message, str(self.shot.value("tcode") or ""), headers)


class ErrorInside200(Effect):
    def before(self) -> Answer | None:
        return None if self.shot.value("processed") else self._answer()

    def revise(self, answer: Answer) -> Answer:
        return self._answer()

    def _answer(self) -> Answer:
        answer = _as_answer(Refusal(500, "fault: 200_with_error_body", "ErrFailedTo"), self.scene)
        answer.status = 200
        return answer


class TruncatedBody(Effect):
    def dress(self, reply: Reply) -> None:
        if not reply.body:
            reply.set_header("Content-Length", "10")
        byte = self.shot.value("byte")
        place = len(reply.body) // 2 if byte is None else int(str(byte))
        reply.cut = max(0, place if place >= 0 else len(reply.body) + place)
        self.scene.ending = "rst" if self.shot.value("how") == "reset" else "close"


class BadHeaders(Effect):
    def dress(self, reply: Reply) -> None:
        kind = str(self.shot.value("kind"))
        length = reply.header("Content-Length") or "0"
        if kind in _BAD_LENGTHS:
            reply.set_header("Content-Length", _BAD_LENGTHS[kind])
        elif kind == "both_lengths":
            reply.headers += [("Transfer-Encoding", "chunked")]
        elif kind == "two_lengths":
            reply.headers += [("Content-Length", str(int(length) + 1))]
        else:
            reply.change_head.append(lambda head: _spoil(head, kind))
        self.scene.ending = "close"


class ExtraBytes(Effect):
    def dress(self, reply: Reply) -> None:
        reply.after += (b"surplus " * (self.shot.number("n") // 8 + 1))[: self.shot.number("n")]


class GzipBody(Effect):
    def dress(self, reply: Reply) -> None:
        reply.body = gzip.compress(reply.body, mtime=0)
        reply.set_header("Content-Encoding", "gzip")
        reply.set_header("Content-Length", str(len(reply.body)))


class HugeHeaders(Effect):
    def dress(self, reply: Reply) -> None:
        line = 8000
        size = self.shot.number("size")
        reply.headers += [(f"X-Padding-{at // line}", "x" * min(line, size - at)) for at in range(0, size, line)]


class Interim(Effect):
    def dress(self, reply: Reply) -> None:
        code = str(self.shot.value("code"))
        phrase = {"100": "Continue", "102": "Processing", "103": "Early Hints"}[code]
        reply.before += f"HTTP/1.1 {code} {phrase}\r\n\r\n".encode() * self.shot.number("n")


class CloseIdle(Effect):
    def dress(self, reply: Reply) -> None:
        seconds = self.shot.seconds()
        if seconds is not None:
            self.scene.wire.timings = replace(self.scene.wire.timings, idle=seconds)


class CloseWithoutNotice(Effect):
    def dress(self, reply: Reply) -> None:
        self.scene.ending = "rst" if self.shot.value("how") == "reset" else "close"


class ClockSkew(Effect):
    def dress(self, reply: Reply) -> None:
        reply.shift += float(str(self.shot.value("ms"))) / 1000


# -- redirects


class RedirectEffect(Effect):
    """Changes what leads away; answers of other kinds are left alone."""

    def revise(self, answer: Answer) -> Answer:
        if answer.status in _REDIRECTS:
            headers = dict(answer.headers)
            authority, slash, rest = headers.get("Location", "").partition("://")[2].partition("/")
            scheme = headers.get("Location", "").partition("://")[0]
            self.change(answer, scheme, authority, slash + rest)
        return answer

    def change(self, answer: Answer, scheme: str, authority: str, rest: str) -> None:
        """Each kind of fault has its own: this class is none by itself."""
        raise NotImplementedError

    def lead_to(self, answer: Answer, url: str | None) -> None:
        answer.headers = [item for item in answer.headers if item[0] != "Location"]
        if url is not None:
            answer.headers.append(("Location", url))


class Loop(RedirectEffect):
    def change(self, answer: Answer, scheme: str, authority: str, rest: str) -> None:
        self.lead_to(answer, self.scene.nodes()[0].url + rest)


class ToStranger(RedirectEffect):
    def change(self, answer: Answer, scheme: str, authority: str, rest: str) -> None:
        self.lead_to(answer, str(self.shot.value("url")).rstrip("/") + rest)


class Downgrade(RedirectEffect):
    def change(self, answer: Answer, scheme: str, authority: str, rest: str) -> None:
        self.lead_to(answer, f"http://{authority}{rest}")


class StaleOwner(RedirectEffect):
    def change(self, answer: Answer, scheme: str, authority: str, rest: str) -> None:
        others = [node for node in self.scene.nodes()[1] if node.authority != authority]
        if others:
            self.lead_to(answer, self.shot.generator.choice(others).url + rest)


class RawName(RedirectEffect):
    def change(self, answer: Answer, scheme: str, authority: str, rest: str) -> None:
        self.lead_to(answer, f"{scheme}://{authority}{self.scene.request.path}?{rest.partition('?')[2]}")


class NoLocation(RedirectEffect):
    def change(self, answer: Answer, scheme: str, authority: str, rest: str) -> None:
        self.lead_to(answer, None)


class OtherStatus(RedirectEffect):
    def change(self, answer: Answer, scheme: str, authority: str, rest: str) -> None:
        answer.status = self.shot.number("code")


class ExpiredSignature(Effect):
    def before(self) -> Answer | None:
        raise Refusal(401, "node signature verification failed")


# -- cluster


class Election(Effect):
    """The clock starts with the first request that it meets."""

    def before(self) -> Answer | None:
        since, seconds = self.shot.handle.first_fired, self.shot.seconds()
        over = since is not None and seconds is not None and time.monotonic() - since > seconds
        return None if over else Answer(503)


class Burst(Effect):
    def before(self) -> Answer | None:
        raise Refusal(429, "Too Many Requests", "ErrRateLimitFrontend")


class OutOfSpace(Effect):
    def before(self) -> Answer | None:
        raise Refusal(507, "out of space: fault", "ErrCapExceeded")


_BAD_LENGTHS = {"negative_length": "-1", "huge_length": "9" * 30, "text_length": "ten"}


def _spoil(head: bytes, kind: str) -> bytes:
    """A head with one thing wrong in it."""
    line, _, rest = head.partition(b"\r\n")
    return {
        "space_before_colon": line + b"\r\nX-Fault : space\r\n" + rest,
        "folding": line + b"\r\nX-Fault: one\r\n two\r\n" + rest,
        "bare_lf": head.replace(b"\r\n", b"\n"),
        "no_colon": line + b"\r\nX-Fault\r\n" + rest,
        "nul": line + b"\r\nX-Fault: a\0b\r\n" + rest,
        "bad_version": b"HTTP/7.0" + line[8:] + b"\r\n" + rest,
        "bad_status": line[:9] + b"2OO OK\r\n" + rest,
    }[kind]


def _as_answer(refusal: Refusal, scene: Scene) -> Answer:
    request = scene.request
    return refusal_answer(refusal, method=request.method, path=request.path, peer=scene.wire.peer, node=scene.node)


EFFECTS: dict[str, type[Effect]] = {
    **REQUEST_EFFECTS,
    "lost_response": LostResponse,
    "late_response": LateResponse,
    "status": Status,
    "200_with_error_body": ErrorInside200,
    "truncated_body": TruncatedBody,
    "bad_headers": BadHeaders,
    "extra_bytes": ExtraBytes,
    "gzip_body": GzipBody,
    "huge_headers": HugeHeaders,
    "1xx": Interim,
    "close_idle": CloseIdle,
    "close_without_notice": CloseWithoutNotice,
    "loop": Loop,
    "chain": Loop,
    "to_stranger": ToStranger,
    "downgrade": Downgrade,
    "stale_owner": StaleOwner,
    "raw_name": RawName,
    "no_location": NoLocation,
    "301_on_put": OtherStatus,
    "expired_signature": ExpiredSignature,
    "election": Election,
    "429_burst": Burst,
    "oos_507": OutOfSpace,
    "clock_skew": ClockSkew,
}
"""The deed of every fault about a request or, on a request, about a node."""
