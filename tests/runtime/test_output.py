"""Lines from pieces, marks, folding, prefixes: no processes, no clock."""

import pytest

from pyray.runtime.output import (
    LONGEST_LINE,
    Folding,
    Format,
    LineSplitter,
    Source,
    line_text,
    pattern_of,
)
from pyray.runtime.standard_streams import mark

A, B, C = Source("f", 1), Source("f", 2), Source("g", 3)


def split(*pieces: bytes, finish: bool = False):
    """Runs of all pieces, one after another, with runs of one name joined."""
    splitter = LineSplitter()
    runs = [run for piece in pieces for run in splitter.feed(piece)]
    if finish:
        runs += splitter.finish()
    joined: list[tuple[str, list[bytes]]] = []
    for name, lines in runs:
        if joined and joined[-1][0] == name:
            joined[-1][1].extend(lines)
        else:
            joined.append((name, list(lines)))
    return joined


def marked(name: str, text: bytes) -> bytes:
    return mark(name).encode() + text


class TestLineSplitter:
    def test_lines_are_given_when_they_have_an_end(self):
        splitter = LineSplitter()
        assert splitter.feed(b"one\ntw") == [("", [b"one"])]
        assert splitter.feed(b"o") == []
        assert splitter.feed(b"\n\nthree\n") == [("", [b"two", b"", b"three"])]
        assert splitter.finish() == []

    def test_finish_gives_the_line_without_end(self):
        assert split(b"a\nb", finish=True) == [("", [b"a", b"b"])]

    def test_a_mark_names_what_follows(self):
        data = marked("f", b"x\ny\n") + marked("g", b"z\n")
        assert split(data) == [("f", [b"x", b"y"]), ("g", [b"z"])]

    def test_a_mark_ends_an_unfinished_line(self):
        assert split(marked("f", b"half") + marked("g", b"whole\n")) == [
            ("f", [b"half"]),
            ("g", [b"whole"]),
        ]

    def test_an_empty_line_after_a_mark_is_a_line(self):
        assert split(marked("f", b"\n")) == [("f", [b""])]

    def test_a_mark_alone_is_no_line(self):
        assert split(marked("f", b""), finish=True) == []
        assert split(marked("f", b"") + marked("g", b"x\n")) == [("g", [b"x"])]

    def test_a_mark_that_was_cut_off_is_dropped(self):
        assert split(b"x\n" + mark("f").encode()[:-2], finish=True) == [("", [b"x"])]
        assert split(b"half" + mark("f").encode()[:-2], finish=True) == [("", [b"half"])]

    def test_any_division_gives_the_same(self):
        data = b"plain\n" + marked("f", b"one\ntwo\n\n") + marked("g", "häl".encode())
        data += marked("h.<locals>.i", b"three\nfour")
        whole = split(data, finish=True)
        assert whole[0] == ("", [b"plain"])
        for size in (1, 2, 3, 5, 7, 11):
            pieces = [data[i : i + size] for i in range(0, len(data), size)]
            assert split(*pieces, finish=True) == whole, size

    def test_a_very_long_line_is_shown_in_parts(self):
        splitter = LineSplitter()
        runs = splitter.feed(b"x" * LONGEST_LINE)
        assert [len(line) for _, lines in runs for line in lines] == [LONGEST_LINE]
        assert splitter.feed(b"y\n") == [("", [b"y"])]

    def test_a_mark_holds_no_end_of_its_own(self):
        assert split(marked("a\x1eb\nc", b"x\n")) == [("a b c", [b"x"])]

    def test_text_that_is_not_utf8_or_ends_in_a_carriage_return(self):
        assert line_text(b"a\xffb\r") == "a�b"


class TestFolding:
    def test_lines_of_one_worker_are_never_folded(self):
        folding = Folding()
        assert folding.add(A, ["x", "x", "x"], 0.0) == [(A, "x", 1)] * 3
        assert folding.flush() == []

    def test_lines_of_others_are_held_back_and_counted(self):
        folding = Folding()
        assert folding.add(A, ["hello 1"], 0.0) == [(A, "hello 1", 1)]
        assert folding.add(B, ["hello 2"], 1.0) == []
        assert folding.add(C, ["hello 3"], 2.0) == []
        assert folding.deadline() == 5.0
        assert folding.expire(4.9) == []
        assert folding.expire(5.0) == [(C, "hello 3", 2)]

    def test_a_single_one_is_shown_as_it_is_and_ends_the_pattern(self):
        folding = Folding()
        folding.add(A, ["hello"], 0.0)
        folding.add(B, ["hello"], 1.0)
        assert folding.expire(6.0) == [(B, "hello", 1)]
        assert folding.add(C, ["hello"], 7.0) == [(C, "hello", 1)]

    def test_a_folded_pattern_goes_on_in_the_next_window(self):
        folding = Folding()
        folding.add(A, ["hello"], 0.0)
        folding.add(B, ["hello"] * 2, 1.0)
        assert folding.expire(5.0) == [(B, "hello", 2)]
        assert folding.add(B, ["hello"], 6.0) == []
        assert folding.deadline() == 10.0
        assert folding.expire(10.0) == [(B, "hello", 1)]
        assert folding.deadline() is None

    def test_what_has_expired_comes_before_new_lines(self):
        folding = Folding()
        folding.add(A, ["hello"], 0.0)
        folding.add(B, ["hello"] * 2, 1.0)
        assert folding.add(C, ["other"], 9.0) == [(B, "hello", 2), (C, "other", 1)]

    def test_numbers_alone_are_never_folded(self):
        folding = Folding()
        assert folding.add(A, ["1", ""], 0.0) == [(A, "1", 1), (A, "", 1)]
        assert folding.add(B, ["2", "", "0x1f 3.5"], 0.0) == [
            (B, "2", 1),
            (B, "", 1),
            (B, "0x1f 3.5", 1),
        ]

    def test_the_lines_of_a_worker_are_shown_in_their_order(self):
        folding = Folding()
        folding.add(A, ["step 1"], 0.0)
        assert folding.add(B, ["step 2"], 0.1) == []
        assert folding.add(B, ["done"], 0.2) == [(B, "step 2", 1), (B, "done", 1)]

    def test_a_plain_repetition_stays_folded_when_its_worker_goes_on(self):
        folding = Folding()
        folding.add(A, ["loading"], 0.0)
        assert folding.add(B, ["loading", "7"], 0.1) == [(B, "7", 1)]
        assert folding.flush() == [(B, "loading", 1)]

    def test_flush_shows_all_and_forgets(self):
        folding = Folding()
        folding.add(A, ["x", "y"], 0.0)
        folding.add(B, ["x", "y", "y"], 0.0)
        assert folding.flush() == [(B, "x", 1), (B, "y", 2)]
        assert folding.flush() == []
        assert folding.add(B, ["x"], 0.0) == [(B, "x", 1)]

    def test_allow_and_skip(self):
        folding = Folding(allow="^keep", skip="^drop")
        assert folding.add(A, ["keep", "drop", "z"], 0.0) == [(A, "keep", 1), (A, "z", 1)]
        assert folding.add(B, ["keep", "drop", "z"], 0.0) == [(B, "keep", 1)]

    def test_switched_off(self):
        folding = Folding(enabled=False)
        folding.add(A, ["x"], 0.0)
        assert folding.add(B, ["x"], 0.0) == [(B, "x", 1)]

    @pytest.mark.parametrize("prefix", ["PYRAY", "RAY"])
    def test_from_environment(self, monkeypatch, prefix):
        for other in ("PYRAY", "RAY"):
            for name in ("DEDUP_LOGS", "DEDUP_LOGS_AGG_WINDOW_S"):
                monkeypatch.delenv(f"{other}_{name}", raising=False)
        assert Folding.from_environment().enabled
        monkeypatch.setenv(f"{prefix}_DEDUP_LOGS", "0")
        monkeypatch.setenv(f"{prefix}_DEDUP_LOGS_AGG_WINDOW_S", "2.5")
        folding = Folding.from_environment()
        assert not folding.enabled and folding.window == 2.5
        monkeypatch.setenv(f"{prefix}_DEDUP_LOGS_AGG_WINDOW_S", "soon")
        with pytest.raises(ValueError, match=f"^{prefix}_DEDUP_LOGS_AGG_WINDOW_S='soon' in"):
            Folding.from_environment()

    def test_patterns(self):
        assert pattern_of("step 12 of worker-3: loss 0x1f ok") == "step of loss ok"
        assert pattern_of("  a   b ") == "a b"


class TestFormat:
    def test_prefix(self):
        plain = Format()
        assert plain.line(A, "text", 1, coloured=False) == "(f pid=1) text"
        assert plain.line(Source("", 7), "", 1, coloured=False) == "(pid=7) "
        assert plain.line(A, "text", 1, coloured=True) == "\x1b[36m(f pid=1)\x1b[0m text"

    def test_colours_by_process(self):
        lines = {Format(by_process=True).line(s, "", 1, coloured=True)[:5] for s in (A, B, C)}
        assert len(lines) == 3

    def test_the_first_folded_line_says_how_to_see_each(self):
        plain = Format()
        first = plain.line(A, "x", 3, coloured=False)
        assert first.startswith("(f pid=1) x [repeated 3x across cluster] (")
        assert "PYRAY_DEDUP_LOGS=0" in first
        assert plain.line(A, "x", 2, coloured=False) == "(f pid=1) x [repeated 2x across cluster]"

    def test_text_ends_each_line(self):
        assert Format().text([(A, "x", 1), (B, "y", 1)], False) == "(f pid=1) x\n(f pid=2) y\n"
