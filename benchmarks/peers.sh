#!/bin/sh
# Make the environments of the serializers pyray is compared with, outside the
# repository: peers must not meet each other's or the project's dependencies.
#
#   peers.sh              both environments, unless they stand already
#   peers.sh current      pyfory, ormsgpack, msgspec, of today
#   peers.sh arrow11      pyarrow 11, the last line of releases with pyarrow.serialize
#
# PYRAY_PEERS is the folder (default ~/.cache/pyray-peers), PYTHON the interpreter;
# pyarrow 11 has wheels up to Python 3.11.  PEERS_TORCH, if set, is a requirement
# for the row with a torch state_dict, such as "torch==2.13.0".
set -eu
folder=${PYRAY_PEERS:-$HOME/.cache/pyray-peers}
here=$(cd "$(dirname "$0")" && pwd)

install() { # name, interpreter, requirements...
    name=$1 python=$2
    shift 2
    if [ "$(cat "$folder/$name/.ready" 2>/dev/null)" != "$*" ]; then
        echo "making $folder/$name"
        mkdir -p "$folder"
        "$python" -m venv "$folder/$name"
        "$folder/$name/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
        echo "$*" >"$folder/$name/.ready"
    fi
    if [ -n "${PEERS_TORCH:-}" ]; then
        "$folder/$name/bin/python" -m pip install --quiet --disable-pip-version-check "$PEERS_TORCH"
    fi
}

current() {
    install current "${PYTHON:-python3}" pyfory ormsgpack msgspec cloudpickle numpy pandas
}

arrow11() {
    python=${PYTHON:-python3}
    if ! "$python" -c 'import sys; sys.exit(sys.version_info >= (3, 12))'; then
        python=$("$here/../.ci/find-python" 3.11)
    fi
    # numpy 1 is what pyarrow 11 was compiled for; pandas 2 is the last that takes numpy 1.
    install arrow11 "$python" "pyarrow==11.0.0" "numpy<2" "pandas<3" cloudpickle
}

case ${1:-all} in
current) current ;;
arrow11) arrow11 ;;
all) current; arrow11 ;;
*) sed -n '2,12p' "$0" >&2; exit 2 ;;
esac
