"""Build the fuzzers and run them: `make fuzz`, or `run.py --help`.

Begins with the seeds and the corpus of earlier runs, and stops at the first finding. What was run
is noted in build/fuzz/runs.tsv; `--pack` minimizes what was found worth keeping into corpus.zip.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import instrument

PACKED = instrument.HERE / "corpus.zip"
TARGETS = ("parser", "decoder")
LONGEST = 1536  # of inputs that are made; some seeds are longer, and cut
INTERRUPTED = 72


def folder(target: str) -> Path:
    path = instrument.BUILD / "corpus" / target
    path.mkdir(parents=True, exist_ok=True)
    return path


def prepare() -> None:
    """Compile; bring seeds and the packed corpus to where the fuzzers look for them."""
    instrument.copy_sources()
    instrument.build_modules(sys.executable)
    instrument.build_parser()
    instrument.build_decoder()
    seeds = folder("decoder")
    # By the working tree's own build: the other one needs the fuzzer around it.
    instrument.run(sys.executable, instrument.HERE / "seeds.py", seeds)
    if PACKED.exists():
        with zipfile.ZipFile(PACKED) as packed:
            packed.extractall(seeds)
    for seed in seeds.iterdir():
        shutil.copy(seed, folder("parser") / seed.name)


def command(target: str, *options: str) -> list[str]:
    return [
        "nice", "-n", "10", str(instrument.BUILD / f"fuzz_{target}"), f"-max_len={LONGEST}",
        "-timeout=20", "-rss_limit_mb=4096", "-malloc_limit_mb=256", "-entropic=0",
        f"-artifact_prefix={instrument.BUILD}/finding-{target}-", *options,
    ]  # fmt: skip


def fuzz(target: str, inputs: int, seconds: int) -> bool:
    """One run, noted; whether it ended without a finding."""
    options = [f"-runs={inputs}", "-print_final_stats=1", str(folder(target))]
    if seconds:
        options.append(f"-max_total_time={seconds}")
    log = instrument.BUILD / f"{target}.log"
    start = time.monotonic()
    with log.open("wb") as out:
        status = subprocess.run(
            command(target, *options), env=instrument.environment(), stdout=out, stderr=out
        ).returncode
    text = log.read_text(errors="replace")
    counted = re.findall(r"number_of_executed_units: (\d+)", text)
    coverage = re.findall(r"cov: (\d+) ft: (\d+)", text)
    fields = [time.strftime("%Y-%m-%d %H:%M"), target, counted[-1] if counted else "0",
              f"{time.monotonic() - start:.0f}", *(coverage[-1] if coverage else ("0", "0")),
              {0: "ok", INTERRUPTED: "interrupted"}.get(status, "finding")]  # fmt: skip
    with (instrument.BUILD / "runs.tsv").open("a") as notes:
        print(*fields, sep="\t", file=notes)
    print(*fields)
    if status not in (0, INTERRUPTED):
        wanted = re.compile(r"FINDING|ERROR|runtime error|SUMMARY|written to|^\s+#\d")
        print(*filter(wanted.search, text.splitlines()), sep="\n", file=sys.stderr)
    return status == 0


def pack() -> None:
    """Minimize both corpora, by what the decoder reaches, into corpus.zip; keep all findings."""
    least, found = (instrument.BUILD / "corpus" / name for name in ("least", "found"))
    for path in least, found:
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
    for target in TARGETS:  # copied: a run that goes on replaces its files
        for path in folder(target).iterdir():
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(path, (least if path.name.startswith("finding-") else found))
    instrument.run(
        *command("decoder", "-merge=1", str(least), str(found)), env=instrument.environment()
    )
    with zipfile.ZipFile(PACKED, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for path in sorted(least.iterdir()):
            # The same bytes whenever it is packed.
            packed.writestr(zipfile.ZipInfo(path.name), path.read_bytes(), zipfile.ZIP_DEFLATED)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="for each target; -1: no end")
    parser.add_argument("--seconds", type=int, default=0, help="for each target; 0: no limit")
    parser.add_argument("--target", choices=TARGETS, action="append")
    parser.add_argument("--no-build", action="store_true")
    parser.add_argument("--pack", action="store_true", help="afterwards, write corpus.zip")
    options = parser.parse_args()
    if shutil.which(instrument.CLANG) is None:
        sys.exit("make fuzz needs clang with libFuzzer: apt-get install clang libclang-rt-14-dev")
    if not options.no_build:
        prepare()
    fine = all(
        fuzz(target, options.inputs, options.seconds) for target in options.target or TARGETS
    )
    if options.pack:
        pack()
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
