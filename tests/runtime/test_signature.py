"""Arguments are checked against the signature before anything is sent, by inspect's rules."""

from __future__ import annotations

import functools
import inspect
import itertools

import pytest

import pyray
from pyray.runtime.signature import NO_LIMIT, ArgumentCheck, parameters_of, yields

FUNCTIONS = [
    lambda: 0,
    lambda a: 0,
    lambda a, b=2: 0,
    lambda a=1, b=2: 0,
    lambda a, *b: 0,
    lambda *a: 0,
    lambda **a: 0,
    lambda a, **b: 0,
    lambda *a, **b: 0,
    lambda a, *, b: 0,
    lambda a, *, b=2: 0,
    lambda *a, b: 0,
    lambda a, /, b: 0,
    lambda a, /, **b: 0,
    lambda a, b=1, /, c=2, *, d=3: 0,
]
CALLS = [
    (args, dict.fromkeys(names))
    for args in [(), (1,), (1, 2), (1, 2, 3)]
    for count in range(3)
    for names in itertools.combinations("abcdx", count)
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: str(inspect.signature(f)))
def test_decides_as_inspect(function):
    check = ArgumentCheck(function, "f")
    for args, kwargs in CALLS:
        try:
            inspect.signature(function).bind(*args, **kwargs)
            fits = True
        except TypeError:
            fits = False
        if fits:
            check(args, kwargs)
        else:
            with pytest.raises(TypeError):
                check(args, kwargs)
        if not kwargs:
            in_range = check.min_args <= len(args) <= check.max_args
            assert not in_range or fits


def test_range_that_needs_no_look():
    for function, least, most in (
        (lambda: 0, 0, 0),
        (lambda a, b=2: 0, 1, 2),
        (lambda a, *b: 0, 1, NO_LIMIT),
        (lambda a, /, b, *, c=1: 0, 2, 2),
    ):
        check = ArgumentCheck(function, "f")
        assert (check.min_args, check.max_args) == (least, most)
    check = ArgumentCheck(lambda a, *, b: 0, "f")
    assert check.min_args > check.max_args  # never by their number alone


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((), {}, "missing a required argument: 'a'"),
        ((1,), {}, "missing a required .*argument: 'd'"),
        ((1, 2, 3), {"d": 4, "e": 5}, "got an unexpected keyword argument 'e'"),
        ((1, 2), {"a": 1, "d": 3}, "multiple values for argument 'a'"),
    ],
)
def test_messages(args, kwargs, text):
    def f(a, b=2, *c, d): ...

    check = ArgumentCheck(f, "module.f")
    with pytest.raises(
        TypeError, match=text + r": the remote function is module.f\(a, b=2, \*c, d\)"
    ):
        check(args, kwargs)


def test_too_many():
    with pytest.raises(TypeError, match="too many positional arguments"):
        ArgumentCheck(lambda a: 0, "f")((1, 2), {})


def test_decorated_function_has_the_signature_of_what_it_wraps():
    def inner(a, b): ...

    @functools.wraps(inner)
    def outer(*args, **kwargs): ...

    with pytest.raises(TypeError, match="missing a required argument: 'b'"):
        ArgumentCheck(outer, "outer")((1,), {})


def test_function_without_a_signature():
    class Compiled:
        __signature__ = "none"

        def __call__(self): ...

    check = ArgumentCheck(Compiled(), "f")
    check((1, 2, 3), {"a": 4})
    assert (check.min_args, check.max_args) == (0, NO_LIMIT)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: str(inspect.signature(f)))
def test_parameters_decide_without_the_function(function):
    parameters = pyray.loads(pyray.dumps(parameters_of(function)))
    check, known = ArgumentCheck(parameters, "f"), ArgumentCheck(function, "f")
    assert (check.min_args, check.max_args) == (known.min_args, known.max_args)
    for args, kwargs in CALLS:
        found = []
        for each in (check, known):
            try:
                each(args, kwargs)
            except TypeError as error:
                found.append(str(error).partition(":")[0])
        assert len(found) != 1 and len(set(found)) <= 1
    bare = str(check.signature).replace("...", "?")
    assert bare.count("?") == sum(
        p.default is not inspect.Parameter.empty
        for p in inspect.signature(function).parameters.values()
    )


def test_without_the_first():
    class A:
        def f(self, a, b=1): ...
        def rest(*args): ...
        def only(self, /, a): ...
        def none(): ...

    for function, least, most in (
        (A.f, 1, 2),
        (A.rest, 0, NO_LIMIT),
        (A.only, 1, 1),
        (A.none, 0, 0),
    ):
        check = ArgumentCheck(parameters_of(function).without_first(), "f")
        assert (check.min_args, check.max_args) == (least, most)


def test_yields():
    def plain(): ...
    def generator():
        yield

    async def coroutine(): ...
    async def both():
        yield

    assert [yields(f) for f in (plain, generator, coroutine, both, len)] == [
        False,
        True,
        False,
        True,
        False,
    ]
