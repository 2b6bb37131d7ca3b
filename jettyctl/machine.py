"""What this machine, and the limits that are set for this process, let a run use."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import threading

SPARE_DESCRIPTORS = 34  # for the interpreter, the journal, locks and the like, when all slots are taken
MOST_IN_FLIGHT = 256
MEMORY_OF_REQUEST = 16 << 20  # bytes of address space: a chunk, two stacks, and what its object needs
STACK = 1 << 20  # bytes, of a thread where address space is limited
M_ARENA_MAX = -8  # mallopt's name for the number of arenas
MOST_WORKERS = 4  # other processes for small files; the network, or the store, is the limit before more are
FREED = 31 << 20  # bytes
OBJECTS = 50_000  # between two looks for garbage


def look_for_garbage_seldom() -> None:
    """What is made in a start stays: looking for garbage among it, every 700 objects, takes a tenth of a short run."""
    gc.set_threshold(OBJECTS)


def fit_into_memory() -> None:
    """Where the address space is limited, each thread would take 8 MiB for its stack and 64 for an arena of the allocator:
    they get less of the one and share the other. Threads that run already keep theirs.
    """
    if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
        return
    threading.stack_size(STACK)
    with contextlib.suppress(OSError, AttributeError):  # another system, another allocator
        import ctypes

        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def reuse_freed_blocks() -> None:
    """Let the allocator reuse what is read in large slices: glibc returns blocks above a threshold to the kernel, which zeroes
    them for the next one. Freeing a block raises the threshold to its size; 32 MiB is the most.
    """
    with contextlib.suppress(MemoryError):
        bytes(FREED)


def requests_in_flight() -> int:
    """How many there may be."""
    return min(_descriptors_for_requests(), _memory_for_requests())


def workers() -> int:
    """How many other processes may be started: one core is this one's. None where the address space is limited."""
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, min(cores - 1, MOST_WORKERS))


def _memory_for_requests() -> int:
    """How many requests may be in flight where the address space is limited, and with it the stacks of threads."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY:
        return MOST_IN_FLIGHT
    fit_into_memory()
    return max(1, min(MOST_IN_FLIGHT, (soft - _address_space()) // MEMORY_OF_REQUEST))


def _address_space() -> int:
    """What is in use of it, in bytes; 0 where the system does not tell."""
    with contextlib.suppress(OSError), open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()
    return 0


def _descriptors_for_requests() -> int:
    """How many requests may be in flight: each needs a socket, and sometimes a file. The soft limit is raised if it can be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MOST_IN_FLIGHT + SPARE_DESCRIPTORS
    if soft < wanted and soft != resource.RLIM_INFINITY:
        raised = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    if soft == resource.RLIM_INFINITY:
        return MOST_IN_FLIGHT
    return max(1, min(MOST_IN_FLIGHT, (soft - SPARE_DESCRIPTORS) // 2))
