"""What AIStore v5.0 does that loses data or misleads clients, each as a switch (protocol 0).

The default is the real thing. `fixed` is what a repaired server would do: a client that is right on both is right.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BY_FAULT", "PROFILES", "Quirks"]


@dataclass
class Quirks:
    """True is AIStore v5.0. A running cluster has one of its own, which faults may change (`BY_FAULT`)."""

    attempts_share_a_file: bool = True
    """H1, H2, H4: attempts of a part write one file, and replacing or failing removes it, whoever wrote it."""
    racing_completes_destroy: bool = True
    """H5: of two completes at once the late one removes the object."""
    failed_complete_drops_old_object: bool = True
    """H6: a complete that cannot find part 1 takes a former object made of parts with it."""
    any_target_accepts: bool = True
    """H10: a target takes writes of objects that it does not own."""
    raw_location: bool = True
    """Protocol 1.2: the path in a redirect is not escaped, and a line break in it becomes a space."""
    part_number_out_of_range_is_500: bool = True
    """Protocol 5.2: 500 for part numbers below 1 and above 9999; 400 would be right."""
    checksum_by_arrival: bool = True
    """Protocol 5.3: the bucket's type if parts came strictly in order, else CRC-32C. Repaired, it is always CRC-32C."""
    disk_paths_show: bool = True
    """Protocol 1.6, 4.5, 10: names that meet on one disk clash or coincide, and lists follow directories."""


BY_FAULT = {
    "dup_part_unlinks": "attempts_share_a_file",
    "late_attempt_unlinks": "attempts_share_a_file",
    "failed_complete_drops_previous": "failed_complete_drops_old_object",
    "stale_put_misplaces": "any_target_accepts",
    "newline_location": "raw_location",
    "500_for_part_number": "part_number_out_of_range_is_500",
    "inorder_checksum": "checksum_by_arrival",
}
"""The quirks that the fault menu switches while a cluster runs."""

PROFILES = {"v5.0": Quirks(), "fixed": Quirks(*[False] * len(Quirks.__dataclass_fields__))}
