"""Where an upload's parts go: one redirect for all of them, or as many as the cluster insists on.

A plain redirect serves any number of parts (protocol 1.3). A signed one holds for one body length (protocol 1.5), so
each length has its own: two in all, as a rule. Should a cluster refuse even those, each part asks for itself.

Used by the threads that send parts. No lock: fields are replaced whole, and two threads that ask at once do no harm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .messages import Message

if TYPE_CHECKING:
    from .endpoint import Endpoint, Node


class PartNodes:
    """The nodes of one upload id. `message` is always the part's own."""

    def __init__(self, endpoint: Endpoint):
        self._endpoint = endpoint
        self._shared: Node | None = None
        self._by_length: dict[int, Node] = {}
        self._each = False

    @property
    def shared(self) -> Node | None:
        """The one for every part, if it is known."""
        return self._shared

    def node(self, message: Message, length: int = 0) -> Node:
        """Where a part of `length` bytes goes; 0 only asks for the target."""
        if self._each and length:
            return self._endpoint.locate(message, length, signed=True)
        return self._shared or self._by_length.get(length) or self._keep(self._endpoint.locate(message, length), length)

    def another(self, message: Message, length: int, refused: Node) -> Node | None:
        """After AIStore's 401 to a part that went to `refused`: where it may go instead. None: nowhere, for the part
        asked for itself already, or the cluster does not sign, so that it was refused for another reason."""
        if self._each:
            return None
        self._each = refused.signed
        self._shared, self._by_length = None, {}
        node = self._keep(self._endpoint.locate(message, length, signed=True), length)
        return node if node.signed else None

    def _keep(self, node: Node, length: int) -> Node:
        if not node.signed:
            self._shared = node
        elif not self._each:
            self._by_length[length] = node
        return node
