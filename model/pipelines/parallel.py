"""Several batches at once, one thread each.

These networks are small: split over a CPU's cores, each layer spends more time waiting for the others
than computing, and beside any other load it all but stops (measured: 2.5 s a frame on four threads
against 0.14 s on one). Whole batches side by side need not wait. NumPy's BLAS is told the same: its idle threads spin,
which cost a moved photograph 6 ms of CPU time a frame for products of two columns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Final, TypeVar

import cv2
import torch
from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")


_AROUND_A_GPU: Final = 4


def num_workers(device: torch.device) -> int:
    """How many batches are under way.

    While one is on a GPU, the CPU prepares others: it has most of the work there. Python lets one thread at a time
    count, so more of them than a few bring nothing.
    """
    threads = torch.get_num_threads()
    return threads if device.type == "cpu" else min(threads, _AROUND_A_GPU)


@contextmanager
def one_thread() -> Iterator[None]:
    """Make torch and NumPy compute on the calling thread alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _blas().limit(limits=1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


@cache
def _blas() -> ThreadpoolController:
    """The process' BLAS libraries; looking for them takes milliseconds."""
    return ThreadpoolController()


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """`map` in order, with `workers` calls under way; memory is bounded by twice that many results.

    Args:
        function: Must be safe to call from several threads.
        items: Its arguments.
        workers: 1 = call it here, when a result is asked for.
    """
    with _blas().limit(limits=1, user_api="blas"):
        if workers <= 1:
            yield from map(function, items)
        else:
            yield from _map_in_pool(function, items, workers)


def _map_in_pool(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    pending: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(
        workers, thread_name_prefix="render", initializer=torch.set_num_threads, initargs=(1,)
    )
    threads, opencv_threads = torch.get_num_threads(), cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        cv2.setNumThreads(opencv_threads)
        torch.set_num_threads(threads)  # the pool's threads have set the default for new ones
