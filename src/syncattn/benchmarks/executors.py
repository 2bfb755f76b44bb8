"""Running cells: in this process, in worker processes, or on a Ray cluster."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, NamedTuple

import torch

__all__ = ["ATTEMPTS", "Outcome", "in_process", "in_workers", "on_ray", "usable_cores"]

ATTEMPTS = 2
"""Times a cell is begun before a worker that dies on it counts as the cell's failure."""
Run = Callable[[Any], Any]


class Outcome(NamedTuple):
    """What came of a cell.

    Attributes:
        cell: The cell.
        result: What `run` returned; None when it failed.
        error: Why it failed; None when it did not.
    """

    cell: Any
    result: Any
    error: BaseException | None


def in_process(run: Run, cells: Sequence[Any], deadline: float | None) -> Iterator[Outcome]:
    """Yields the outcomes of cells run one after the other.

    Args:
        run: From a cell to its result.
        cells: The cells.
        deadline: Value of `time.monotonic` after which no cell is begun; None for none.

    Yields:
        Outcomes, errors among them.
    """
    for cell in cells:
        if deadline is not None and time.monotonic() > deadline:
            return
        try:
            yield Outcome(cell, run(cell), None)
        except Exception as error:
            yield Outcome(cell, None, error)


def in_workers(
    run: Run, cells: Sequence[Any], deadline: float | None, *, workers: int
) -> Iterator[Outcome]:
    """Yields the outcomes of cells run in processes of their own; a process that dies is replaced.

    Args:
        run: From a cell to its result; a function of a module.
        cells: The cells; plain values.
        deadline: See `in_process`.
        workers: Processes at a time.

    Yields:
        Outcomes as they come. The cells of processes that died together are begun `ATTEMPTS` times
        in all.
    """
    waiting = deque(cells)
    while waiting and _in_time(deadline):
        suspects: list[Any] = []
        yield from _together(run, waiting, suspects, deadline, workers)
        # A death takes all processes of a pool along: alone, each is answerable for its own.
        for cell in suspects:
            if not _in_time(deadline):
                return
            yield _alone(run, cell)


def _together(
    run: Run, waiting: deque[Any], suspects: list[Any], deadline: float | None, workers: int
) -> Iterator[Outcome]:
    """Yields outcomes until all is done or a process dies; what was running then is a suspect."""
    running: dict[Future[Any], Any] = {}
    pool = worker_pool(workers)
    try:
        while True:
            while waiting and len(running) < workers and _in_time(deadline):
                running[pool.submit(run, waiting[0])] = waiting[0]
                waiting.popleft()
            if not running:
                return
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                cell, error = running.pop(future), future.exception()
                if isinstance(error, BrokenProcessPool):
                    suspects.append(cell)
                else:
                    yield Outcome(cell, None if error else future.result(), error)
            if suspects:
                suspects += running.values()
                return
    except BrokenProcessPool:
        suspects += running.values()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _alone(run: Run, cell: Any) -> Outcome:
    """Returns the outcome of a cell that was running when a process died."""
    error: BaseException | None = None
    for _ in range(ATTEMPTS - 1):
        with worker_pool(1) as pool:
            future = pool.submit(run, cell)
            error = future.exception()
            if not isinstance(error, BrokenProcessPool):
                return Outcome(cell, None if error else future.result(), error)
    assert error is not None
    return Outcome(cell, None, _died(error))


def on_ray(
    run: Run, cells: Sequence[Any], deadline: float | None, *, address: str, workers: int
) -> Iterator[Outcome]:
    """Yields the outcomes of cells run on a Ray cluster; Ray begins those of a lost worker again.

    Args:
        run: From a cell to its result.
        cells: The cells; plain values.
        deadline: See `in_process`.
        address: Of the cluster, as in `ray.init`; ``"local"`` starts one on this machine.
        workers: Cells at a time, one core each.

    Yields:
        Outcomes as they come, each cell once.

    Raises:
        ModuleNotFoundError: If ray is not installed.
        ConnectionError: If there is no cluster at the address.
    """
    import ray
    from ray.exceptions import RayError

    here = None if address == "local" else address
    started = not ray.is_initialized()
    if started:
        options: dict[str, Any] = {"num_cpus": workers} if here is None else {}
        ray.init(address=here, log_to_driver=False, include_dashboard=False, **options)
    try:
        remote: Any = ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1)(_guarded)
        waiting = deque(cells)
        running: dict[Any, Any] = {}
        while waiting or running:
            while waiting and len(running) < workers and _in_time(deadline):
                cell = waiting.popleft()
                running[remote.remote(run, cell)] = cell
            if not running:
                return
            finished, _ = ray.wait(list(running), num_returns=1)
            for reference in finished:
                cell = running.pop(reference)
                try:
                    result, error = ray.get(reference)
                except RayError as failure:
                    result, error = None, _died(failure)
                yield Outcome(cell, result, error)
    finally:
        if started:
            ray.shutdown()


def _guarded(run: Run, cell: Any) -> tuple[Any, BaseException | None]:
    """Returns the result or the error: Ray would begin a cell that raises again."""
    torch.set_num_threads(1)
    try:
        return run(cell), None
    except Exception as error:
        return None, RuntimeError(f"{type(error).__name__}: {error}")


def worker_pool(workers: int) -> ProcessPoolExecutor:
    """Returns a pool of processes that share the cores.

    Args:
        workers: How many processes.
    """
    # Threads of one process would wait for the other's at every small product.
    threads = max(1, usable_cores() // workers)
    return ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=torch.set_num_threads,
        initargs=(threads,),
    )  # fmt: skip


def usable_cores() -> int:
    """Returns the cores that this process may use; a container or `taskset` may allow fewer."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _in_time(deadline: float | None) -> bool:
    return deadline is None or time.monotonic() <= deadline


def _died(error: BaseException) -> RuntimeError:
    return RuntimeError(
        f"Its worker must live until the end; it died {ATTEMPTS} times ({type(error).__name__}). "
        f"Give it more memory, or fewer workers."
    )
