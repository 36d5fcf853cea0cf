"""The Arrow IPC stream read by JavaScript: tests/js/message.mjs rebuilds values and tensors."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from arrow_samples import EXAMPLE, NATIVE, SHARED_LIST, TENSORS, Point

pytest.importorskip("pyarrow")

from pyray.serialization.arrow import to_arrow_ipc  # noqa: E402
from pyray.serialization.message import encode_message  # noqa: E402

JS = Path(__file__).parents[1] / "js"
NODE = shutil.which("node")

pytestmark = pytest.mark.skipif(NODE is None, reason="Node is not installed")


@pytest.fixture(scope="module", autouse=True)
def node_modules():
    """`make test` installs them; whoever runs pytest alone gets them here."""
    if not (JS / "node_modules").exists():
        npm = shutil.which("npm") or pytest.skip("npm is not installed")
        done = subprocess.run(
            [npm, "ci", "--silent", "--no-audit", "--no-fund"], cwd=JS, capture_output=True
        )
        if done.returncode:
            pytest.skip(f"npm ci failed: {done.stderr.decode()[-300:]}")


def read_in_javascript(objects, folder):
    """What the reader prints for each object."""
    files = []
    for i, obj in enumerate(objects):
        files.append(str(folder / f"{i}.arrows"))
        to_arrow_ipc(encode_message(obj), files[-1])
    done = subprocess.run(
        [NODE, JS / "read_message.mjs", *files], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


# -- the same description, made of Python's objects -------------------------------------------

TYPED_ARRAYS = {
    "f8": "Float64Array", "f4": "Float32Array", "i8": "BigInt64Array", "i4": "Int32Array",
    "i2": "Int16Array", "u1": "Uint8Array", "b1": "Uint8Array", "c16": "Float64Array",
    "M8[ns]": "BigInt64Array",
}  # fmt: skip


def bits(number):
    return struct.pack(">d", number).hex()


class Description:
    """As read_message.mjs describes JavaScript's: tagged, with ids for what can be shared."""

    def __init__(self):
        self.ids = {}
        self.count = 0

    def all(self, values):
        return [self.describe(value) for value in values]

    def describe(self, value):
        if value is None or isinstance(value, (bool, str)):
            return value
        if isinstance(value, int):
            safe = abs(value) < 2**53
            return {"number": bits(value)} if safe else {"bigint": str(value)}
        if isinstance(value, float):
            return {"number": bits(value)}
        if isinstance(value, complex):
            return {"complex": [bits(value.real), bits(value.imag)]}
        if isinstance(value, type):
            return {"global": f"{value.__module__}.{value.__qualname__}"}
        # () and b"" have no identity in a message: each is a new one to JavaScript.
        can_be_shared = type(value) not in (tuple, bytes) or len(value) > 0
        if can_be_shared and id(value) in self.ids:
            return {"ref": self.ids[id(value)]}
        made = self.count
        self.count += 1
        if can_be_shared:
            self.ids[id(value)] = made
        return {**self.contents(value), "id": made}

    def contents(self, value):
        kind = type(value).__name__
        if isinstance(value, np.ndarray):
            return {"tensor": self.tensor(value)}
        if isinstance(value, (bytes, bytearray)):
            return {kind: value.hex()}
        if isinstance(value, dict):
            return {"dict": [self.all(item) for item in value.items()]}
        if isinstance(value, Point):
            return {"instance": self.all([Point, vars(value)])}
        return {kind: self.all(value)}

    def tensor(self, value):
        dtype = value.dtype.str
        order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
        type_ = TYPED_ARRAYS.get(dtype[1:]) if dtype[0] != ">" else None
        data = value.tobytes(order)
        stored = np.frombuffer(data, value.dtype if type_ else np.uint8)
        if stored.dtype.kind == "c":
            stored = stored.view(np.float64)
        if stored.dtype.kind in "bM":
            stored = stored.view("u1" if stored.dtype.kind == "b" else "i8")
        values = [str(int(x)) if x == int(x) else repr(float(x)) for x in stored.tolist()]
        return {
            "dtype": dtype,
            "shape": list(value.shape),
            "order": order,
            "type": type_ or "Uint8Array",
            "values": values,
        }


# -- tests -----------------------------------------------------------------------------------


def check(objects, folder):
    found = read_in_javascript(objects.values(), folder)
    assert len(found) == len(objects)
    for (name, obj), description in zip(objects.items(), found):
        assert description == Description().describe(obj), name


def test_example_of_the_design(tmp_path):
    [found] = read_in_javascript([EXAMPLE], tmp_path)
    assert found == {
        "list": [
            {"tuple": [{"number": bits(1)}, {"number": bits(2)}], "id": 1},
            "hello",
            {"number": bits(3)},
            {"number": bits(4)},
            {
                "tensor": {
                    "dtype": "<f8",
                    "shape": [2],
                    "order": "C",
                    "type": "Float64Array",
                    "values": ["5", "6"],
                },
                "id": 2,
            },
        ],
        "id": 0,
    }


def test_native_values(tmp_path):
    check(NATIVE, tmp_path)


def test_tensors(tmp_path):
    tensors = {name: value for name, value in TENSORS.items() if name != "float16"}
    check(tensors, tmp_path)
    check({"all in one": [{"name": name, "data": t} for name, t in tensors.items()]}, tmp_path)


def test_shared_objects_are_one_object(tmp_path):
    cycle = ["cycle"]
    cycle.append({"back": cycle})
    itself = ([],)
    itself[0].append(itself)
    array = np.arange(3)
    check(
        {
            "shared list": [SHARED_LIST, (SHARED_LIST,), {"x": SHARED_LIST}],
            "cycle": cycle,
            "tuple in itself": itself,
            "shared array": [array, array, [array]],
            "shared dict": [{"a": 1}] * 3,
        },
        tmp_path,
    )


def test_instances(tmp_path):
    shared = Point("p", None)
    check({"instance": Point(1, [2]), "instances": [Point(0, shared), shared]}, tmp_path)


def test_what_is_no_message_is_refused(tmp_path):
    import pyarrow as pa

    path = tmp_path / "other.arrows"
    with pa.ipc.new_stream(str(path), pa.schema({"x": pa.int8()})) as writer:
        writer.write_batch(pa.record_batch({"x": pa.array([1], pa.int8())}))
    done = subprocess.run([NODE, JS / "read_message.mjs", path], capture_output=True, text=True)
    assert done.returncode != 0 and "version" in done.stderr


def test_the_example_of_the_documentation(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "arrow.md").read_text()
    [code] = re.findall(r"^```js\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    people = [{"id": 1, "name": "Ada"}, {"id": 2, "name": "Grace"}]
    path = tmp_path / "message.arrows"
    to_arrow_ipc(encode_message([people, np.array([5.0, 6.0])]), str(path))
    done = subprocess.run(
        [NODE, "--input-type=module", "-e", code.replace("message.arrows", str(path))],
        cwd=JS,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == [
        "1 Ada",
        "2 Grace",
        "Float64Array(2) [ 5, 6 ] [ 2 ]",
    ], done.stderr
