"""Exceptions keep their cause, context, notes and the text of their traceback."""

from __future__ import annotations

import sys
import traceback

import pytest

from pyray.serialization.message import dumps, loads


def trip(obj):
    return loads(dumps(obj))


class CustomError(Exception):
    def __init__(self, code, text):
        super().__init__(code, text)
        self.code = code


# -- exceptions ------------------------------------------------------------------------------------


def caught(function):
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def test_plain_exceptions():
    for error in (ValueError("x", 1), KeyError("k"), OSError(2, "no", "file"), StopIteration(3)):
        back = trip(error)
        assert type(back) is type(error) and back.args == error.args and str(back) == str(error)
        assert not hasattr(back, "__traceback_text__")
    back = trip(CustomError(3, "text"))
    assert back.code == 3 and back.args == (3, "text")
    assert trip(UnicodeDecodeError("utf-8", b"x", 0, 1, "bad")).start == 0
    assert trip(ImportError("m", name="n")).name == "n"


def test_cause_context_and_suppression():
    def fail():
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error

    back = trip(caught(fail))
    assert type(back.__cause__) is KeyError and back.__cause__ is back.__context__
    assert back.__suppress_context__

    def hide():
        try:
            raise KeyError("first")
        except KeyError:
            raise ValueError("second") from None

    back = trip(caught(hide))
    assert back.__cause__ is None and type(back.__context__) is KeyError
    assert back.__suppress_context__

    def context_only():
        try:
            raise KeyError("first")
        except KeyError:
            raise ValueError("second")

    back = trip(caught(context_only))
    assert type(back.__context__) is KeyError and not back.__suppress_context__


def test_traceback_text_travels_twice():
    def innermost_function():
        raise ValueError("deep")

    back = trip(caught(innermost_function))
    assert "innermost_function" in back.__traceback_text__
    assert back.__traceback_text__.rstrip().endswith("ValueError: deep")
    again = trip(back)
    assert again.__traceback_text__ == back.__traceback_text__

    def raise_again():
        raise again

    third = trip(caught(raise_again))
    assert third.__traceback_text__.startswith(back.__traceback_text__)
    assert "raise_again" in third.__traceback_text__


def test_exception_chain_that_comes_back_to_its_start():
    a, b = ValueError("a"), KeyError("b")
    a.__cause__, b.__context__ = b, a
    back = trip([a, b])
    assert back[0].__cause__ is back[1] and back[1].__context__ is back[0]
    a.__cause__ = b.__context__ = None


def test_exception_with_attributes_and_cause():
    error = CustomError(1, "x")
    error.extra = error
    error.__cause__ = ValueError()
    back = trip(error)
    assert back.extra is back and type(back.__cause__) is ValueError
    error.extra = None


@pytest.mark.skipif(sys.version_info < (3, 11), reason="notes and groups came with Python 3.11")
def test_notes_and_groups():
    def fail():
        error = ValueError("x")
        error.add_note("a note")
        raise error

    back = trip(caught(fail))
    assert back.__notes__ == ["a note"]
    group = ExceptionGroup("g", [ValueError(1), KeyError(2)])  # noqa: F821
    back = trip(group)
    assert [type(e) for e in back.exceptions] == [ValueError, KeyError]


def test_exception_can_be_printed_after_the_trip():
    back = trip(caught(lambda: 1 / 0))
    assert "ZeroDivisionError" in "".join(traceback.format_exception(back))
