"""Running cells: in this process, in worker processes, or on a Ray cluster."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from threading import RLock, Thread
from typing import Any, NamedTuple

import torch
from tqdm.std import tqdm

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


def in_process(run: Run, cells: Sequence[Any], deadline: float | None) -> Generator[Outcome]:
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
) -> Generator[Outcome]:
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
) -> Generator[Outcome]:
    """Yields outcomes until all is done or a process dies; what was running then is a suspect."""
    running: dict[Future[Any], Any] = {}
    with _pool(workers) as pool:
        try:
            while True:
                while waiting and len(running) < workers and _in_time(deadline):
                    running[_begun(pool, run, waiting[0])] = waiting[0]
                    waiting.popleft()
                if not running:
                    return
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    cell = running.pop(future)
                    if isinstance(future.exception(), BrokenProcessPool):
                        suspects.append(cell)
                    else:
                        yield _outcome(cell, future)
                if suspects:
                    suspects += running.values()
                    return
        except BrokenProcessPool:
            suspects += running.values()
        except (KeyboardInterrupt, SystemExit):
            # What a stop came between is finished nevertheless, and is kept.
            for future in [future for future in running if future.done()]:
                if not isinstance(future.exception(), BrokenProcessPool):
                    yield _outcome(running[future], future)
            raise


def _alone(run: Run, cell: Any) -> Outcome:
    """Returns the outcome of a cell that was running when a process died."""
    error: BaseException | None = None
    for _ in range(ATTEMPTS - 1):
        with _pool(1) as pool:
            future = _begun(pool, run, cell)
            error = future.exception()
            if not isinstance(error, BrokenProcessPool):
                return _outcome(cell, future)
    assert error is not None
    return Outcome(cell, None, _died(error))


def _outcome(cell: Any, future: Future[Any]) -> Outcome:
    error = future.exception()
    return Outcome(cell, None if error else future.result(), error)


def _begun(pool: ProcessPoolExecutor, run: Run, cell: Any) -> Future[Any]:
    """Begins a cell; a process that this starts never hears of Ctrl+C, for its parent ends it."""
    if not hasattr(signal, "pthread_sigmask"):
        return pool.submit(run, cell)
    from multiprocessing import resource_tracker

    # The tracker may unblock the signal when it starts, so it starts first.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(run, cell)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _pool(workers: int) -> Generator[ProcessPoolExecutor]:
    """Gives a pool of processes that are ended at once where something stops their parent."""
    pool = worker_pool(workers)
    try:
        yield pool
    except BaseException:
        # A shutdown waits for what they do, and forgets them.
        processes = list((pool._processes or {}).values())
        for process in processes:
            process.kill()
        for process in processes:
            process.join()
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def on_ray(
    run: Run, cells: Sequence[Any], deadline: float | None, *, address: str, workers: int
) -> Generator[Outcome]:
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
        workers, mp_context=get_context("spawn"), initializer=_prepare, initargs=(threads,)
    )


def _prepare(threads: int) -> None:
    """Makes a worker use so many threads, leave Ctrl+C to its parent, and die with it."""
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The lock that it makes itself is a semaphore, which a process that is killed leaves behind.
    tqdm.set_lock(RLock())
    Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


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
