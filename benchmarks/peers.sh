#!/bin/sh
# Make the environments of what pyray is compared with, outside the repository:
# peers must not meet each other's or the project's dependencies.
#
#   peers.sh              all environments, unless they stand already
#   peers.sh current      serializers of today: pyfory, ormsgpack, msgspec
#   peers.sh arrow11      pyarrow 11, the last line of releases with pyarrow.serialize
#   peers.sh ray          Ray 2.60
#   peers.sh runtimes     loky, joblib, dask.distributed, and the pools of the stdlib
#
# PYRAY_PEERS is the folder (default ~/.cache/pyray-peers), PYTHON the interpreter;
# pyarrow 11 has wheels up to Python 3.11.  PEERS_TORCH, if set, is a requirement
# for the serializers' row with a torch state_dict, such as "torch==2.13.0".
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
        "$folder/$name/bin/python" -m pip install --quiet --disable-pip-version-check "$@" || return
        echo "$*" >"$folder/$name/.ready"
    fi
}

torch() { # name
    if [ -n "${PEERS_TORCH:-}" ]; then
        "$folder/$1/bin/python" -m pip install --quiet --disable-pip-version-check "$PEERS_TORCH"
    fi
}

current() {
    install current "${PYTHON:-python3}" pyfory ormsgpack msgspec cloudpickle numpy pandas
    torch current
}

arrow11() {
    python=${PYTHON:-python3}
    if ! "$python" -c 'import sys; sys.exit(sys.version_info >= (3, 12))'; then
        python=$("$here/../.ci/find-python" 3.11)
    fi
    # numpy 1 is what pyarrow 11 was compiled for; pandas 2 is the last that takes numpy 1.
    install arrow11 "$python" "pyarrow==11.0.0" "numpy<2" "pandas<3" cloudpickle
    torch arrow11
}

ray() {
    install ray "${PYTHON:-python3}" "ray[default]==2.60.*" numpy || {
        echo "Ray 2.60 cannot be had; what pip knows of:" >&2
        "$folder/ray/bin/python" -m pip index versions ray >&2 || true
        return 1
    }
}

runtimes() {
    install runtimes "${PYTHON:-python3}" loky joblib "dask[distributed]" numpy cloudpickle
}

case ${1:-all} in
current) current ;;
arrow11) arrow11 ;;
ray) ray ;;
runtimes) runtimes ;;
all) current; arrow11; ray; runtimes ;;
*) sed -n '2,14p' "$0" >&2; exit 2 ;;
esac
