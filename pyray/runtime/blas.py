"""How many threads a linear algebra library uses that is loaded already.

Imports nothing else of pyray. OpenBLAS, which numpy brings, reads OMP_NUM_THREADS when it is
loaded; the node loads it with one thread, since it must stay alone, and its workers say here what
they want. A library that is not known keeps its own number.
"""

from __future__ import annotations

#: What builds of OpenBLAS call it: numpy's own, 64-bit and 32-bit, and the system's.
SETTERS = (
    "scipy_openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "openblas_set_num_threads",
)


def set_threads(count: int) -> bool:
    """Have every OpenBLAS that is loaded use so many threads; whether there was one."""
    paths = _loaded("openblas")
    if not paths:
        return False
    import ctypes

    found = False
    for path in paths:
        try:
            library = ctypes.CDLL(path)
        except OSError:
            continue  # its file was replaced since
        for name in SETTERS:
            setter = getattr(library, name, None)
            if setter is not None:
                setter(ctypes.c_int(count))
                found = True
                break
    return found


def _loaded(part: str) -> list[str]:
    """Paths of the libraries of this process whose file name holds this."""
    try:
        with open("/proc/self/maps") as maps:
            paths = {line.split(maxsplit=5)[5].strip() for line in maps if part in line}
    except (OSError, IndexError):
        return []
    return sorted(path for path in paths if part in path.rpartition("/")[2])
