"""CPython's own tests of pickle, on both codecs.

They are taken from the `test` package of the Python that runs, so each version brings its own.
Checks of opcodes in the middle of a test are passed over (`NOT_A_PICKLE`), the rest of that test
is not. What is left out altogether is in LEFT_OUT, with the reason, and must really fail.
"""

from __future__ import annotations

import io
import pickle
import sys
import unittest
from unittest import mock

import pytest

from pyray.serialization import message, reference_decoder, reference_encoder

pickletester = pytest.importorskip("test.pickletester", reason="Python came without its tests")

LITERAL = "compares with the bytes of a pickle"
FRAMES = "takes the frames of a pickle apart"
EXTENSIONS = "extension codes are opcodes; a message has names"
OLD_PROTOCOLS = "expects of protocols below 5 what they cannot do"
PICKLER = "derives from or calls a Pickler or Unpickler, which pyray does not have"
BY_VALUE = "expects an error for what is local; it travels by value, as with cloudpickle"
DESCRIPTORS = "expects an error for staticmethod and classmethod objects; see TestDescriptors"

LEFT_OUT = {
    "test_bad_ext_code": EXTENSIONS,
    "test_bad_init": PICKLER,
    "test_c_methods": DESCRIPTORS,
    "test_callapi": PICKLER,
    "test_compat_pickle": LITERAL,
    "test_complex_newobj": LITERAL,
    "test_complex_newobj_ex": LITERAL,
    "test_evil_pickler_mutating_collection": PICKLER,
    "test_float_format": LITERAL,
    "test_framed_write_sizes_with_delayed_writer": FRAMES,
    "test_framing_many_objects": FRAMES,
    "test_global_ext1": EXTENSIONS,
    "test_global_ext2": EXTENSIONS,
    "test_global_ext4": EXTENSIONS,
    "test_local_lookup_error": BY_VALUE,
    "test_optional_frames": FRAMES,
    "test_pickle_to_2x": LITERAL,
    "test_picklebuffer_error": OLD_PROTOCOLS,
    "test_pickler_bad_file": PICKLER,
    "test_proto": LITERAL,
    "test_py_methods": DESCRIPTORS,
    "test_simple_newobj": LITERAL,
    "test_unpickleable_newobj_class": BY_VALUE,
    "test_unpickleable_newobj_ex_class": BY_VALUE,
    "test_unpickler_bad_file": PICKLER,
}

if sys.version_info >= (3, 11):  # before that all protocols ask the instance
    LEFT_OUT["test_bad_getattr"] = OLD_PROTOCOLS

#: Run with protocol 5 only: each protocol is to do something of its own, and we are protocol 5.
PROTOCOL_5 = {
    "test_builtin_exceptions": "protocols below 3 use the exceptions of Python 2",
    "test_bytearray": "protocols below 5 pickle a call of bytearray",
    "test_nonencodable_global_name_error": "protocols below 3 write names in ASCII",
    "test_nonencodable_module_name_error": "protocols below 3 write names in ASCII",
    "test_reduce_ex_called": "__reduce_ex__ gets the protocol",
    "test_reduce_ex_calls_base": "__reduce_ex__ gets the protocol",
    "test_reduce_ex_overrides_reduce": "__reduce_ex__ gets the protocol",
}


class NotAPickle:
    """What is found out about opcodes where there are none: whatever the test hopes for."""

    def __eq__(self, other):
        return True

    def __ge__(self, other):
        return True

    __hash__ = None


NOT_A_PICKLE = NotAPickle()


class Case(unittest.TestCase):
    """What is done to the tests; the classes of the codecs mix it in."""

    def setUp(self):
        super().setUp()
        all_protocols = range(pickle.HIGHEST_PROTOCOL + 1)
        for name, value in {
            "protocols": all_protocols[5:] if self._testMethodName in PROTOCOL_5 else all_protocols,
            "opcode_in_pickle": lambda *_: NOT_A_PICKLE,
            "count_opcode": lambda *_: NOT_A_PICKLE,
        }.items():
            patch = mock.patch.object(pickletester, name, value)
            patch.start()
            self.addCleanup(patch.stop)

    def check_frame_opcodes(self, pickled):
        pass

    def assertFalse(self, expr, msg=None):
        if expr is not NOT_A_PICKLE:
            super().assertFalse(expr, msg)


class Compiled(Case):
    def dumps(self, arg, proto=None, **kwargs):
        return message.dumps(arg, proto, **kwargs)

    def loads(self, buf, **kwds):
        return message.loads(buf, **kwds)


class Reference(Case):
    def dumps(self, arg, proto=None, fix_imports=True, buffer_callback=None):
        if buffer_callback is not None and proto is not None and proto < 5:
            raise ValueError("as message.dumps")
        return reference_encoder.encode_message(arg, buffer_callback=buffer_callback)

    def loads(self, buf, buffers=None, **kwds):
        return reference_decoder.decode_message(buf, buffers=buffers)


class WholePickle(Compiled, pickletester.AbstractPickleTests):
    __test__ = False


class WholePickleOnReference(Reference, pickletester.AbstractPickleTests):
    __test__ = False


class WholeModule(pickletester.AbstractPickleModuleTests, unittest.TestCase):
    __test__ = False
    dump = staticmethod(message.dump)
    dumps = staticmethod(message.dumps)
    load = staticmethod(message.load)
    loads = staticmethod(message.loads)


WHOLE = [WholePickle, WholePickleOnReference, WholeModule]

if hasattr(pickletester, "AbstractPicklingErrorTests"):  # Python 3.13; part of the others before

    class WholeErrors(Compiled, pickletester.AbstractPicklingErrorTests):
        __test__ = False
        pickler = None

    class WholeErrorsOnReference(Reference, pickletester.AbstractPicklingErrorTests):
        __test__ = False
        pickler = None

    WHOLE += [WholeErrors, WholeErrorsOnReference]


def without_left_out(whole):
    """The class with the tests of LEFT_OUT taken away, for pytest to collect."""
    tests = dict.fromkeys(LEFT_OUT.keys() & set(dir(whole)))
    return type(whole.__name__.replace("Whole", "Test"), (whole,), {**tests, "__test__": True})


for whole in WHOLE:
    collected = without_left_out(whole)
    globals()[collected.__name__] = collected
del whole, collected


def run(case, name):
    """The result of one test, run on its own."""
    result = unittest.TestResult()
    case(name).run(result)
    return result


@pytest.mark.parametrize("name", sorted(LEFT_OUT))
def test_what_is_left_out_fails(name):
    """Else it need not be left out. Some tests are not there in every version of Python."""
    cases = [case for case in WHOLE if hasattr(case, name)]
    if not cases:
        pytest.skip("not a test of this Python")
    results = [run(case, name) for case in cases]
    assert all(not result.wasSuccessful() or result.skipped for result in results)


@pytest.mark.parametrize("case", [WholePickle, WholePickleOnReference])
class TestDescriptors:
    @pytest.mark.parametrize("name", ["test_py_methods", "test_c_methods"])
    def test_only_the_errors_for_descriptors_are_missing(self, case, name):
        result = run(case, name)
        assert not result.errors and not result.skipped
        # All parts of the test beside are sound; it checks each descriptor with each protocol.
        missing = [test.params["descr"] for test, _ in result.failures]
        assert missing and all(isinstance(d, (staticmethod, classmethod)) for d in missing)
        assert len(missing) == len(set(map(id, missing))) * (pickle.HIGHEST_PROTOCOL + 1)


@pytest.mark.parametrize("case", [WholePickle, WholePickleOnReference])
class TestRestOfLeftOut:
    """What the tests of LEFT_OUT check beside the bytes of a pickle."""

    @pytest.mark.parametrize("cls", ["SimpleNewObj", "ComplexNewObj", "ComplexNewObjEx"])
    def test_new_obj(self, case, cls):
        case = case("test_newobj_generic")
        cls = getattr(pickletester, cls)
        x = cls.__new__(cls, 0xFACE)  # __init__ would raise
        x.abc = 666
        case.assert_is_copy(x, case.loads(case.dumps(x)))

    def test_many_objects(self, case):
        case = case("test_newobj_generic")
        numbers = list(range(10**5))
        assert case.loads(case.dumps(numbers)) == numbers

    def test_extension_codes_change_nothing(self, case):
        case = case("test_newobj_generic")
        x = pickletester.MyList([1, 2, 3])
        x.foo = 42
        before = case.dumps(x)
        saver = pickletester.ExtensionSaver(0xABCD)
        try:
            pickletester.copyreg.add_extension(pickletester.__name__, "MyList", 0xABCD)
            assert case.dumps(x) == before
            case.assert_is_copy(x, case.loads(before))
        finally:
            saver.restore()

    @pytest.mark.skipif(sys.version_info < (3, 11), reason="test_bad_getattr is run")
    def test_endless_getattr(self, case):
        """With protocols from 2 on, pickle does not ask the instance for what the class lacks."""
        case = case("test_newobj_generic")
        assert type(case.loads(case.dumps(pickletester.BadGetattr()))) is pickletester.BadGetattr

    def test_compat_pickle(self, case):
        case = case("test_newobj_generic")
        for value in (range(1, 7), Exception(), pickletester.collections.UserList([1])):
            assert type(case.loads(case.dumps(value))) is type(value)


def test_bad_files():
    """The rest of test_pickler_bad_file and test_unpickler_bad_file."""
    with pytest.raises(TypeError, match="write"):
        message.dump([1], object())
    with pytest.raises((TypeError, AttributeError), match="read"):
        message.load(object())

    class Broken(io.BytesIO):
        def write(self, _):
            raise OSError("no")

        def read(self, *_):
            raise OSError("no")

    for obj in ([1], 1, b"x" * 5000):
        with pytest.raises(OSError, match="no"):
            message.dump(obj, Broken())
    with pytest.raises(OSError, match="no"):
        message.load(Broken(b"\x10"))
