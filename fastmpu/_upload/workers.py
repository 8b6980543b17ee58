"""Who sends parts: the standard library's executors, and one that needs no thread.

Threads: "fastmpu_0" and up, at most `max_concurrency`, owned by the executor and gone when it is shut down.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


class InlineExecutor(Executor):
    """Does the work inside `submit`, in the caller's thread: the order is the order of submission."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - kept in the future, as every executor does
            future.set_exception(error)
        return future


def executor(engine: str, max_concurrency: int) -> Executor:
    """The executor behind an engine's name; whoever calls shuts it down."""
    if engine == "inline":
        return InlineExecutor()
    return ThreadPoolExecutor(max_workers=max_concurrency, thread_name_prefix="fastmpu")
