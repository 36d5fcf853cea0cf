"""Build of the C core and the Cython modules; the metadata is in pyproject.toml.

``csrc/*.c`` becomes one static library, every ``pyray/**/*.pyx`` an extension of
its dotted name linked with it.  Two environment variables choose the flavour:

* ``PYRAY_DEBUG=1``: -O1, invariant checks compiled in (``PYRAY_DEBUG`` in C),
  bounds and None checks on in Cython;
* ``PYRAY_SANITIZE=address,undefined``: adds the sanitizers of that name.

``PYRAY_ONLY="_encoder _arrow"`` builds just the modules of these last names, for use
while another does not compile.

A build is incremental: an object is compiled when its source or any header is
newer, and everything is compiled when the flavour has changed.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_clib import build_clib
from setuptools.command.build_ext import build_ext

# Sources are named relative to this file, as setuptools demands of an sdist.
os.chdir(Path(__file__).resolve().parent)

DEBUG = os.environ.get("PYRAY_DEBUG", "") not in ("", "0")
SANITIZE = os.environ.get("PYRAY_SANITIZE", "")
FLAVOUR = f"debug={int(DEBUG)} sanitize={SANITIZE} cflags={os.environ.get('CFLAGS', '')}"

COMMON_FLAGS = ["-fPIC", "-fvisibility=hidden", "-pthread"]
LINK_FLAGS = ["-pthread"]
if DEBUG:
    # -UNDEBUG comes after the -DNDEBUG that Python's own flags carry.
    COMMON_FLAGS += ["-O1", "-g", "-UNDEBUG", "-DPYRAY_DEBUG=1", "-fno-omit-frame-pointer"]
else:
    COMMON_FLAGS += ["-O2"]
if SANITIZE:
    COMMON_FLAGS += [f"-fsanitize={SANITIZE}", "-g", "-fno-omit-frame-pointer"]
    LINK_FLAGS += [f"-fsanitize={SANITIZE}"]

C_FLAGS = [*COMMON_FLAGS, "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra"]
# Cython's output is not ours to keep free of warnings.
CYTHON_FLAGS = [*COMMON_FLAGS, "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wno-unused-function"]

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "nonecheck": DEBUG,
    "initializedcheck": DEBUG,
    "wraparound": False,
    "cdivision": True,
    "binding": True,
    "embedsignature": True,
}

LIBRARY = "pyraycore"
GENERATED = "build/cython"
NUMPY_IMPORT = re.compile(r"^\s*(?:cimport\s+numpy|from\s+numpy\b.*\bcimport)\b", re.MULTILINE)


def c_sources() -> list[str]:
    """The C core, without its tests."""
    return sorted(str(p) for p in Path("csrc").glob("*.c"))


def headers() -> list[str]:
    """Whatever a compiled module may include or cimport."""
    found = [
        p
        for pattern in ("csrc/*.h", "pyray/**/*.h", "pyray/**/*.pxd")
        for p in Path().glob(pattern)
    ]
    return sorted(map(str, found))


def uses_numpy(pyx: Path) -> bool:
    texts = (p.read_text() for p in (pyx, pyx.with_suffix(".pxd")) if p.exists())
    return any(NUMPY_IMPORT.search(text) for text in texts)


def extension(pyx: Path) -> Extension:
    """The extension module of one .pyx file."""
    # Modules cimport from those of the serializer.
    include_dirs = ["csrc", str(pyx.parent), "pyray/serialization"]
    macros = []
    if uses_numpy(pyx):
        import numpy

        include_dirs.append(numpy.get_include())
        macros.append(("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION"))
    return Extension(
        ".".join(pyx.with_suffix("").parts),
        sources=[str(pyx)],
        depends=headers(),
        include_dirs=include_dirs,
        define_macros=macros,
        extra_compile_args=CYTHON_FLAGS,
        extra_link_args=LINK_FLAGS,
    )


def stale(target: str, inputs: list[str]) -> bool:
    """Whether a file is missing or older than any of its inputs."""
    if not os.path.exists(target):
        return True
    made = os.path.getmtime(target)
    return any(os.path.getmtime(name) > made for name in inputs if os.path.exists(name))


class FlavourMark:
    """Notes in a build folder with which flags it was filled.

    The note is taken away while a build runs, so that one that failed half-way
    is made anew, with whichever flags.
    """

    def __init__(self, folder: str, part: str):
        self.path = Path(folder, f"{part}.flavour")
        self.changed = not self.path.exists() or self.path.read_text() != FLAVOUR

    def __enter__(self) -> FlavourMark:
        if self.changed:
            self.path.unlink(missing_ok=True)
        return self

    def __exit__(self, error_type, *_) -> None:
        if error_type is None and self.changed:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(FLAVOUR)


class BuildLibrary(build_clib):
    """build_clib that compiles only what has changed."""

    def build_libraries(self, libraries):
        with FlavourMark(self.build_temp, "library") as mark:
            self.build_stale(libraries, force=mark.changed or self.force)

    def build_stale(self, libraries, force):
        for name, info in libraries:
            objects = []
            for source in info["sources"]:
                target = self.compiler.object_filenames([source], output_dir=self.build_temp)[0]
                if force or stale(target, [source, "setup.py", *info["depends"]]):
                    self.compiler.compile(
                        [source],
                        output_dir=self.build_temp,
                        include_dirs=info["include_dirs"],
                        extra_postargs=info["cflags"],
                    )
                objects.append(target)
            archive = self.compiler.library_filename(name, output_dir=self.build_clib)
            if force or stale(archive, objects):
                # ar only adds and replaces: what was removed from csrc/ would stay.
                Path(archive).unlink(missing_ok=True)
                self.compiler.create_static_lib(objects, name, output_dir=self.build_clib)


class BuildExtensions(build_ext):
    """build_ext that makes the C library first and runs Cython only to build.

    An sdist asks for the sources of a finalized build_ext: it finds the .pyx files,
    never the generated C.
    """

    def run(self):
        self.run_command("build_clib")
        super().run()

    def build_extensions(self):
        with FlavourMark(self.build_temp, "extensions") as mark:
            self.build_stale(force=mark.changed or self.force)

    def build_stale(self, force):
        from Cython.Build import cythonize

        built = cythonize(
            self.extensions,
            # One a Python, as the numpy that is cimported may be another.
            build_dir=f"{GENERATED}-{sys.implementation.cache_tag}" + ("-debug" if DEBUG else ""),
            compiler_directives=DIRECTIVES,
            force=force,
            show_all_warnings=False,
            quiet=True,
        )
        archives = []
        library = self.get_finalized_command("build_clib")
        if self.distribution.has_c_libraries():
            archives = [self.compiler.library_filename(LIBRARY, output_dir=library.build_clib)]
        for ext, generated in zip(self.extensions, built, strict=True):
            ext.sources = generated.sources
            # A change in the library must link the module again ...
            ext.depends = [*ext.depends, *archives, "setup.py"]
        self.force = force

        # ... but compile it only if a header changed with it.
        compile_always = self.compiler.compile

        def compile_stale(sources, output_dir=None, depends=None, **options):
            objects = self.compiler.object_filenames(sources, output_dir=output_dir or "")
            inputs = [name for name in depends or () if name not in archives]
            if not force and not any(
                stale(target, [source, *inputs])
                for source, target in zip(sources, objects, strict=True)
            ):
                return objects
            return compile_always(sources, output_dir=output_dir, depends=depends, **options)

        self.compiler.compile = compile_stale
        # link() would look at the objects alone and miss a new archive.
        self.compiler.force = True
        super().build_extensions()


def libraries() -> list:
    if not c_sources():
        return []
    info = {
        "sources": c_sources(),
        "depends": sorted(map(str, Path("csrc").glob("*.h"))),
        "include_dirs": ["csrc"],
        "cflags": C_FLAGS,
    }
    return [(LIBRARY, info)]


def modules() -> list[Path]:
    found = sorted(Path("pyray").rglob("*.pyx"))
    only = os.environ.get("PYRAY_ONLY", "").split()
    return [pyx for pyx in found if not only or pyx.stem in only]


setup(
    libraries=libraries(),
    ext_modules=[extension(pyx) for pyx in modules()],
    cmdclass={"build_clib": BuildLibrary, "build_ext": BuildExtensions},
)
