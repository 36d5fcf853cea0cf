"""Build of the fuzzers: the modules with clang's sanitizers and coverage, in a copy of the sources.

The copy keeps the working tree's own modules as they are. Needs clang with libFuzzer (Debian:
`apt-get install clang libclang-rt-14-dev`) and a Python with a shared libpython.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "fuzz"
COPY = BUILD / "tree"
CLANG = os.environ.get("FUZZ_CLANG", "clang")

# Comparisons are not traced: it takes a tenth of the time, and the mutator knows what matters.
COVERAGE = ["-fno-sanitize-coverage=trace-cmp,indirect-calls"]
COMMON = "-g -O2 -fno-omit-frame-pointer -D_GNU_SOURCE -UNDEBUG -DPYRAY_DEBUG=1".split()
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]


def run(*command: str | Path, **options) -> None:
    subprocess.run(list(map(str, command)), check=True, **options)


def copy_sources() -> None:
    """Bring the copy up to date; files that did not change keep their time, so builds are short."""
    kept = {".py", ".pyx", ".pxd", ".pxi", ".pyi", ".h", ".c", ".toml", ".md", ".typed"}
    names = ["setup.py", "pyproject.toml", "README.md", "LICENSE"]
    sources = [ROOT / name for name in names]
    for folder in ("pyray", "csrc"):
        sources += [path for path in (ROOT / folder).rglob("*") if path.suffix in kept]
    for source in sources:
        target = COPY / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() or target.stat().st_mtime != source.stat().st_mtime:
            shutil.copy2(source, target)


def build_modules(python: str) -> None:
    # Cython adds 0 to NULL all over.
    sanitizers = [*SANITIZERS, "-fno-sanitize=pointer-overflow", "-fsanitize=fuzzer-no-link"]
    sanitizers += COVERAGE
    flags = [*COMMON, *sanitizers, "-Wno-everything"]
    environment = {
        **os.environ,
        "CC": CLANG,
        "LDSHARED": f"{CLANG} -shared -fsanitize=address,undefined",
        "CFLAGS": " ".join(flags),
        "PYRAY_DEBUG": "1",
    }
    run(python, "setup.py", "-q", "build_ext", "--inplace", cwd=COPY, env=environment)


def compile_plain(*sources: Path) -> list[Path]:
    """Objects without sanitizers and coverage: what belongs to the fuzzers themselves."""
    objects = []
    include = ["-I", COPY / "csrc", "-I", sysconfig.get_path("include")]
    for source in sources:
        objects.append(BUILD / f"{source.stem}.o")
        run(CLANG, "-g", "-O2", "-std=c11", "-D_GNU_SOURCE", *include, "-c", source, "-o",
            objects[-1])  # fmt: skip
    return objects


def build_parser() -> Path:
    target = BUILD / "fuzz_parser"
    core = sorted((COPY / "csrc").glob("*.c"))
    mutator = compile_plain(HERE / "mutate.c", HERE / "tree.c")
    run(
        CLANG, *COMMON, "-std=c11", "-fsanitize=fuzzer", *COVERAGE, *SANITIZERS,
        "-I", COPY / "csrc", HERE / "fuzz_parser.c", *mutator, *core, "-lm", "-o", target,
    )  # fmt: skip
    return target


def build_decoder() -> Path:
    """Only the modules, which it loads, are instrumented."""
    target = BUILD / "fuzz_decoder"
    lib = sysconfig.get_config_var("LIBDIR")
    version = sysconfig.get_config_var("LDVERSION")
    objects = compile_plain(
        HERE / "fuzz_decoder.c", HERE / "mutate.c", HERE / "tree.c", COPY / "csrc" / "message.c"
    )
    run(
        CLANG, "-fsanitize=fuzzer,address,undefined", *objects, "-rdynamic", f"-L{lib}",
        f"-Wl,-rpath,{lib}", f"-lpython{version}", "-lm", "-o", target,
    )  # fmt: skip
    return target


def environment() -> dict[str, str]:
    """For the fuzzers: where the modules and the targets are, what the sanitizers shall do."""
    paths = [COPY, HERE, sysconfig.get_path("purelib")]
    asan = {
        "detect_leaks": 0,  # fuzz_decoder counts itself: CPython keeps much to its end
        "quarantine_size_mb": 2,  # more than most runs take; less than the cache
        "thread_local_quarantine_size_kb": 128,
        "malloc_context_size": 1,
        "allocator_may_return_null": 1,
        "detect_odr_violation": 0,  # each module holds the C core
    }
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "ASAN_OPTIONS": ":".join(f"{name}={value}" for name, value in asan.items()),
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "OPENBLAS_NUM_THREADS": "1",
    }
