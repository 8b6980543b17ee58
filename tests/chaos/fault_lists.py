"""The faults of the chaos matrix, one a line in the mock's text form without `op`. A `!` in front: has to be survived.

Times are around the client's: 0.3 s for an answer, 0.06 s of fence (`bench.fault_cases.SHORT`).
"""

from __future__ import annotations

import re
from typing import Final

BAD_HEADERS: Final = (
    *("both_lengths", "two_lengths", "negative_length", "huge_length", "text_length", "space_before_colon"),
    *("folding", "bare_lf", "no_colon", "nul", "bad_version", "bad_status"),
)

# What happens to a body on its way, and to its answer: for parts and for plain PUTs.
BODY = """
! reset_at(byte=0)
! reset_at(byte=30000)
! reset_at(byte=end)
! fin_at(byte=30000)
! fin_at(byte=end)
! stall_at(byte=0, ms=100)
! stall_at(byte=30000, ms=forever)
! stall_at(byte=end, ms=700)
  trickle(bytes_per_s=300000, times=1)
  window_zero(byte=1000, ms=100)
  bandwidth(bps=1000000, times=1)
! latency(ms=40, jitter=40)
! latency(ms=700, times=1)
! early_status(code=500, byte=1000, how=close)
  early_status(code=507, byte=1000, how=rst)
  early_status(code=400, byte=0, how=close)
! flip_bit(byte=70)
  flip_bit(byte=70, times=always)
! drop_byte(byte=70)
! dup_chunk(byte=1000, size=64)
! lost_response(how=reset)
! lost_response(how=fin)
! lost_response(how=silence)
  lost_response(how=reset, times=always)
! late_response(ms=100)
! late_response(ms=700)
! status(code=500)
! status(code=503, times=2)
  status(code=503, times=always)
! status(code=429, retry_after=0)
  status(code=401)
  status(code=404, tcode=ErrBckNotFound)
  status(code=400)
  200_with_error_body(processed=true)
  200_with_error_body(processed=false)
  truncated_body(how=fin)
  truncated_body(how=reset)
  extra_bytes
  gzip_body
  huge_headers
! 1xx(n=2, code=103)
! 1xx(n=1, code=100)
! close_idle(ms=20)
! close_without_notice(how=fin)
  close_without_notice(how=reset)
! half_dead(byte=30000, who=client, how=rst, ms=600)
! half_dead(byte=end, who=client, how=fin, ms=600)
! half_dead(byte=30000, who=target, ms=600)
! gateway_502(byte=30000, ms=600)
! gateway_502(byte=end, ms=600)
! gateway_504(byte=end, ms=600)
! refuse(ms=5)
  refuse(ms=forever)
  syn_drop(ms=100)
! restart_target(keep_state=false, when=before)
! restart_target(keep_state=true, when=after)
  kill_target(ms=50, when=after)
  kill_target(ms=forever)
  move_owner(ms=forever)
  move_owner(ms=100, when=after)
  cleanup_now
! 429_burst(n=2)
  oos_507
! clock_skew
"""

# About connections: they know no op.
CONNECTIONS = """
! reset_on_accept(where=target)
! reset_on_accept(where=proxy)
  reset_on_accept(where=any, times=always)
! accept_no_read(where=target, ms=100)
  accept_no_read(where=target, ms=forever)
! tls_close_mid_handshake(where=target)
  refuse(where=proxy, ms=forever)
  syn_drop(where=target, ms=100)
"""

# Of nodes that are known to be good: one connection, or all of them, show a certificate that is none to trust.
CERTIFICATES = """
  tls_bad_cert(where=target, kind=expired)
  tls_bad_cert(where=target, kind=not_yet_valid, nth=2)
  tls_bad_cert(where=target, kind=wrong_host, nth=3)
  tls_bad_cert(where=target, kind=wrong_ca, times=always)
  tls_bad_cert(where=target, kind=self_signed)
  tls_bad_cert(where=proxy, kind=expired, nth=2)
"""

# What happens to small requests: create, complete, head, probe, abort.
ANSWERS = """
  reset_at(byte=0)
  fin_at(byte=0)
  lost_response(how=reset)
  lost_response(how=fin)
  lost_response(how=silence)
  lost_response(how=reset, times=always)
! late_response(ms=100)
  late_response(ms=700)
  status(code=500)
  status(code=503, times=2)
  status(code=400, times=always)
  status(code=500, when=after)
  status(code=404, tcode=ErrNotFound)
  status(code=429)
  200_with_error_body(processed=true)
  200_with_error_body(processed=false)
  truncated_body(how=fin)
  truncated_body(how=reset)
  extra_bytes
  gzip_body
  huge_headers
! 1xx(n=2, code=103)
  close_without_notice(how=fin)
  gateway_502(byte=end, ms=300)
  restart_target(keep_state=false, when=before)
  restart_target(keep_state=true, when=after)
  kill_target(ms=forever, when=after)
  move_owner(ms=forever, when=before)
  cleanup_now
  stall_at(byte=0, ms=forever)
"""

# At the proxy. `redirect` is any of a client's requests there, `map` its question for the members.
PROXY = """
  status(code=500, where=proxy, op=redirect)
  status(code=503, where=proxy, op=redirect, times=3)
  lost_response(how=reset, where=proxy, op=redirect)
  lost_response(how=silence, where=proxy, op=redirect, nth=2)
  late_response(ms=700, where=proxy, op=redirect)
  proxy_down(op=redirect, ms=50, nth=2)
  proxy_down(op=redirect, ms=forever, nth=3)
  election(op=redirect, ms=50)
  election(op=redirect, ms=forever, nth=2)
  loop(op=part)
  loop(op=complete)
  chain(op=part, n=3)
  chain(op=create, n=1)
  to_stranger(op=part)
  to_stranger(op=complete)
  to_stranger(op=create)
  downgrade(op=part)
  downgrade(op=complete)
  stale_owner(op=create)
  stale_owner(op=part)
  stale_owner(op=complete)
  stale_owner(op=head)
  stale_owner(op=put)
! raw_name(op=part)
  no_location(op=part)
  no_location(op=complete)
  301_on_put(op=part, code=301)
  301_on_put(op=put, code=302)
  expired_signature(op=part)
  expired_signature(op=complete)
  status(code=500, op=map)
  lost_response(how=reset, op=map)
  lost_response(how=silence, op=map)
  200_with_error_body(op=map)
  truncated_body(how=fin, op=map)
  huge_headers(op=map)
"""

# For pairs: what may happen to a part, and what may happen besides, most of it to the steps that follow.
FIRST: Final = (
    "reset_at(op=part, part=3, byte=30000)",
    "fin_at(op=part, part=3, byte=end)",
    "stall_at(op=part, part=3, byte=30000, ms=forever)",
    "lost_response(op=part, part=3, how=reset)",
    "late_response(op=part, part=3, ms=700)",
    "half_dead(op=part, part=3, byte=end, who=client, how=fin, ms=600)",
    "gateway_502(op=part, part=3, byte=30000, ms=600)",
    "status(op=part, part=3, code=503, times=2)",
    "early_status(op=part, part=3, code=500, byte=1000, how=close)",
    "flip_bit(op=part, part=3, byte=70)",
    "restart_target(op=part, part=3, keep_state=false)",
    "status(op=part, part=3, code=400)",
)
SECOND: Final = (
    "lost_response(op=part, part=5, how=fin)",
    "half_dead(op=part, part=2, byte=30000, who=client, how=rst, ms=600)",
    "stall_at(op=part, part=3, byte=1000, ms=200, nth=2)",
    "status(op=probe, code=500)",
    "lost_response(op=probe, how=silence)",
    "lost_response(op=complete, how=reset)",
    "late_response(op=complete, ms=700)",
    "status(op=complete, code=500, when=after)",
    "lost_response(op=abort, how=fin)",
    "status(op=head, code=503, times=2)",
    "kill_target(op=complete, ms=200)",
    "reset_on_accept(where=target, nth=2, times=2)",
)


def faults(text: str, **settings: object) -> list[tuple[str, bool]]:
    """Each line as a fault with `settings` added, and whether it has to be survived."""
    found = []
    for line in text.strip().splitlines():
        kind, inside = re.fullmatch(r"!?\s*(\w+)(?:\((.*)\))?", line.strip()).groups()  # type: ignore[union-attr]
        items = [inside] if inside else []
        items += [f"{key}={value}" for key, value in settings.items()]
        found.append((f"{kind}({', '.join(items)})", line.startswith("!")))
    return found


def bad_headers(**settings: object) -> list[tuple[str, bool]]:
    return faults("\n".join(f"  bad_headers(kind={kind})" for kind in BAD_HEADERS), **settings)
