"""inspect_serializability names the innermost culprits and the way to each."""

from __future__ import annotations

import io
import threading

import pytest

from pyray.serialization.inspect import FailureTuple, inspect_serializability

# By value, because a function of this module would travel by name and never fail.
PROGRAM = """
import threading
lock = threading.Lock()
fine = [1, 2]
def test():
    print(lock, fine)
def nested():
    return lambda: lock
"""


@pytest.fixture
def made():
    namespace = {"__name__": "made_at_run_time"}
    exec(PROGRAM, namespace)
    return namespace


def check(obj, **options):
    out = io.StringIO()
    serializable, culprits = inspect_serializability(obj, print_file=out, **options)
    return serializable, culprits, out.getvalue()


def only(culprits):
    (culprit,) = culprits
    return culprit


def test_what_can_be_serialized():
    serializable, culprits, report = check([1, "a"], name="items")
    assert serializable is True and culprits == set()
    assert "Checking Serializability of [1, 'a']" in report
    assert "FAIL" not in report


def test_global_lock_of_a_function(made):
    serializable, culprits, report = check(made["test"])
    assert serializable is False
    culprit = only(culprits)
    assert (culprit.obj, culprit.name, culprit.parent) == (made["lock"], "lock", made["test"])
    assert culprit.path == "test -> global 'lock'"
    lines = report.splitlines()
    assert set(lines[0]) == {"="} and lines[0] == lines[2] == lines[-1]
    assert lines[1].startswith("Checking Serializability of <function test")
    assert lines[3].startswith("!!! FAIL serialization: ")
    assert "Detected 2 global variables. Checking serializability..." in lines
    assert any(line.startswith("    Serializing 'lock' <unlocked _thread.lock") for line in lines)
    assert any(line.startswith("    !!! FAIL serialization: ") for line in lines)
    assert f"\t{culprit}" in lines
    assert repr(culprit).startswith("FailTuple(lock [obj=<unlocked _thread.lock object")
    assert "parent=<function test at" in repr(culprit)
    assert "was found to be non-serializable" in report
    assert "register_serializer" in report


def test_global_used_by_a_function_inside(made):
    assert only(check(made["nested"])[1]).name == "lock"


def test_closure_variable():
    lock = threading.Lock()
    other = 5

    def function():
        return lock, other

    culprit = only(check(function)[1])
    assert culprit.name == "lock" and culprit.parent is function
    assert culprit.path == "function -> nonlocal 'lock'"


def test_defaults_and_attributes_of_a_function():
    def function(a, b=threading.Lock(), *, c=threading.Lock()):
        pass

    function.tag = threading.Lock()
    assert {c.name for c in check(function)[1]} == {"default 0", "c", "tag"}


class Holder:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


def test_attributes_and_items_all_the_way_down():
    lock = threading.Lock()
    config = {"workers": [0, Holder(inner=lock)]}
    culprit = only(check(config, name="config", depth=5)[1])
    assert culprit.obj is lock and culprit.name == "inner"
    assert culprit.parent is config["workers"][1]
    assert culprit.path == "config['workers'][1].inner"


def test_slots():
    class Slotted:
        __slots__ = ("a",)

    slotted = Slotted()
    slotted.a = threading.Lock()
    culprit = only(check(slotted)[1])
    assert culprit.name == "a" and culprit.parent is slotted


def test_depth_limits_the_search():
    lock = threading.Lock()
    value = [[[[lock]]]]
    assert only(check(value, depth=0)[1]).obj is value
    assert only(check(value, depth=1)[1]).obj is value[0]
    assert only(check(value, depth=4)[1]).obj is lock


def test_several_culprits():
    locks = [threading.Lock(), threading.Lock()]
    culprits = check({"a": locks[0], "b": [locks[1]], "c": 1})[1]
    assert {id(c.obj) for c in culprits} == {id(lock) for lock in locks}


def test_the_object_itself():
    lock = threading.Lock()
    serializable, culprits, _ = check(lock, name="guard")
    assert not serializable
    assert only(culprits).obj is lock and only(culprits).name == "guard"
    assert only(culprits).parent is None


def test_class_and_bound_method():
    class Service:
        lock = threading.Lock()

        def run(self):
            return self.lock

    assert only(check(Service)[1]).name == "lock"
    assert only(check(Service().run, depth=4)[1]).name == "lock"


def test_left_out_by_getstate_is_no_culprit():
    class Careful:
        def __init__(self):
            self.lock = threading.Lock()
            self.other = threading.Lock()

        def __getstate__(self):
            return {"other": self.other}

    assert only(check(Careful())[1]).name == "other"


def test_arguments_of_a_reduction():
    import functools

    lock = threading.Lock()
    assert only(check(functools.partial(print, lock), depth=4)[1]).obj is lock


def test_recursion_ends():
    items: list = [threading.Lock()]
    items.append(items)
    holder = Holder(items=items)
    holder.me = holder
    assert only(check(holder)[1]).obj is items[0]


def test_objects_that_cannot_even_be_printed():
    class Rude:
        def __repr__(self):
            raise RuntimeError("no")

        def __reduce__(self):
            raise TypeError("no pickling")

    serializable, culprits, report = check([Rude()])
    assert not serializable and type(only(culprits).obj) is Rude
    assert "no pickling" in report


def test_keys_of_a_dict():
    class Key:
        def __reduce__(self):
            raise TypeError("no")

    key = Key()
    assert only(check({key: 1})[1]).obj is key


def test_prints_to_standard_output_by_default(capsys):
    inspect_serializability(1)
    assert "Checking Serializability of 1" in capsys.readouterr().out


def test_failure_tuples_compare_by_what_they_are_about():
    obj, parent = [1], [2]
    assert FailureTuple(obj, "n", parent) == FailureTuple(obj, "n", parent)
    assert FailureTuple(obj, "n", parent) != FailureTuple([1], "n", parent)
    assert len({FailureTuple(obj, "n", parent), FailureTuple(obj, "n", parent)}) == 1
    assert list(FailureTuple(obj, "n", parent)) == [obj, "n", parent]


def test_also_at_pyray_util():
    from pyray import util

    assert util.inspect_serializability is inspect_serializability
