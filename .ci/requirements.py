"""Print what pyproject.toml asks for, one requirement a line.

``requirements.py build`` prints the build requirements and the runtime
dependencies, ``requirements.py test lint`` those of the named extras.  The
Makefile installs from it, so that pyproject.toml stays the only list and
nothing has to be compiled to read it.
"""

import sys
from pathlib import Path

try:
    import tomllib
except ImportError:  # Python 3.10
    from pip._vendor import tomli as tomllib

document = tomllib.loads(Path(__file__).parent.with_name("pyproject.toml").read_text())
project = document["project"]
for name in sys.argv[1:]:
    if name == "build":
        lines = document["build-system"]["requires"] + project["dependencies"]
    else:
        lines = project["optional-dependencies"][name]
    print(*lines, sep="\n")
