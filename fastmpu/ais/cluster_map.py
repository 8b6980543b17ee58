"""The cluster map: who belongs to the cluster. Redirects are followed, and tokens sent, to members only."""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import NotAIStoreError
from . import placement

_NO_OWNER = 4 | 8  # flags of nodes in maintenance, or being decommissioned (protocol 6)


class Origin(NamedTuple):
    """Where a node listens."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """The origin of a URL; ValueError if it has none."""
        parts = urllib.parse.urlsplit(url)
        scheme = parts.scheme.lower()
        if scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no http:// or https:// URL with a host")
        return cls(scheme, parts.hostname.lower(), parts.port or (443 if scheme == "https" else 80))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


@dataclass(frozen=True)
class ClusterMap:
    """One version of the map. `uuid` names the cluster; `members` are all public and internal addresses of its
    nodes.
    """

    uuid: str
    version: int
    proxies: tuple[str, ...]
    targets: tuple[str, ...]
    members: frozenset[Origin]
    owners: tuple[tuple[int, frozenset[Origin]], ...]
    """Of each target that may own objects: its digest, and where it listens."""

    def owner(self, name_digest: int) -> frozenset[Origin]:
        """Where the owner of that name listens (`placement.name_digest`); empty if no target may own anything."""
        return placement.owner(self.owners, name_digest) if self.owners else frozenset()

    @property
    def ports(self) -> frozenset[int]:
        """On which its nodes listen."""
        return frozenset(member.port for member in self.members)

    @classmethod
    def parse(cls, value: Any, endpoint: str) -> ClusterMap:
        """From the JSON of `GET /v1/daemon?what=smap` (protocol 6); NotAIStoreError, which names `endpoint`, if it is
        something else.
        """
        try:
            targets = {name: _listens(node) for name, node in value["tmap"].items()}
            owners = tuple(
                (int(node["id_digest"]), targets[name])
                for name, node in value["tmap"].items()
                if not int(node.get("flags") or 0) & _NO_OWNER and node.get("id_digest")
            )
            return cls(
                str(value["uuid"]),
                int(value["version"]),
                tuple(value["pmap"]),
                tuple(targets),
                frozenset().union(*targets.values(), *map(_listens, value["pmap"].values())),
                owners,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise NotAIStoreError(f"what {endpoint} gives is no cluster map of AIStore's: {error!r}") from error


def _listens(node: Any) -> frozenset[Origin]:
    interfaces = [node.get(key) for key in ("public_net", "intra_data_net", "intra_control_net")]
    interfaces += node.get("pub_extra") or []
    return frozenset(Origin.of(one["direct_url"]) for one in interfaces if one and one.get("direct_url"))
