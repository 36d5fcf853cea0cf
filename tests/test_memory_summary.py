"""The text of `pyray memory`, of references that the tests make up."""

import pytest

from pyray.memory_summary import memory_summary, store_summary

STATS = {"used": 100 << 20, "capacity": 400 << 20, "objects": 7}


def reference(name, size, kind="LOCAL_REFERENCE", pid=11, **given):
    return {
        "object_id": name,
        "object_size": size,
        "task_status": "FINISHED",
        "attempt_number": 1,
        "reference_type": kind,
        "call_site": "disabled",
        "type": "DRIVER",
        "pid": pid,
        "ip": "127.0.0.1",
        "state": "SEALED",
        "held_by": f"reference of the driver {pid}",
        **given,
    }


REFERENCES = [
    reference("aa", 3_000_000, pid=13, call_site="(put object) a.py:f:1"),
    reference("bb", 1000, "USED_BY_PENDING_TASK", pid=12, type="WORKER"),
    reference("aa", 3_000_000, "CAPTURED_IN_OBJECT", pid=0, type="", held_by="inside of bb"),
    reference("cc", 0, pid=14, task_status="NIL", state="RESERVED"),
    reference("dd", 20, "PINNED_IN_MEMORY"),
    reference("ee", 30, "ACTOR_HANDLE"),
]


def test_the_whole():
    assert memory_summary(REFERENCES[1:2], STATS) == (
        "Grouping by node address...        Sorting by object size...        Display all entries"
        " per group...\n"
        "\n"
        "\n"
        "--- Summary for node address: 127.0.0.1 ---\n"
        "Mem Used by Objects  Local References  Pinned    Used by task  Captured in Objects  Actor"
        " Handles\n"
        "1000 B               0, (0 B)          0, (0 B)  1, (1000 B)   0, (0 B)             0,"
        " (0 B)\n"
        "\n"
        "--- Object references for node address: 127.0.0.1 ---\n"
        "IP Address  PID  Type    Call Site  Status    Attempt  Size    Reference Type       "
        " Object Ref  Held By\n"
        "127.0.0.1   12   Worker  disabled   FINISHED  1        1000 B  USED_BY_PENDING_TASK  bb   "
        "       reference of the driver 12\n"
        "\n"
        "To record callsite information for each ObjectRef created, set env variable"
        " PYRAY_record_ref_creation_sites=1\n"
        "\n"
        "--- Aggregate object store stats across all nodes ---\n"
        "Plasma memory usage 100 MiB, 7 objects, 25.0% full"
    )


def rows(**given):
    text = memory_summary(REFERENCES, STATS, aligned=False, **given)
    return [line.split(" | ") for line in text.splitlines() if line.startswith("127.0.0.1 | ")]


def test_an_object_counts_once_and_a_reference_for_its_kind():
    text = memory_summary(REFERENCES, STATS, aligned=False)
    assert (
        "\n3001050 B | 2, (3000000 B) | 1, (20 B) | 1, (1000 B) | 1, (3000000 B) | 1, (30 B)\n"
        in text
    )


def test_what_is_not_known():
    (row,) = (row for row in rows() if row[8] == "cc")
    assert row[4] == "-" and row[6] == "?"
    (row,) = (row for row in rows() if row[9] == "inside of bb")
    assert row[1:3] == ["-", "-"]


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("OBJECT_SIZE", ["cc", "dd", "ee", "bb", "aa", "aa"]),
        ("PID", ["aa", "dd", "ee", "bb", "aa", "cc"]),
        ("REFERENCE_TYPE", ["ee", "aa", "aa", "cc", "dd", "bb"]),
    ],
)
def test_sorted(by, names):
    assert [row[8] for row in rows(sort_by=by)] == names


def test_grouped_by_what_has_made_them():
    text = memory_summary(REFERENCES, STATS, group_by="STACK_TRACE")
    assert "--- Summary for stack trace: disabled ---" in text
    assert "--- Summary for stack trace: (put object) a.py:f:1 ---" in text
    assert "To record callsite" not in text


def test_some_of_each_group():
    assert [row[8] for row in rows(num_entries=2)] == ["cc", "dd"]
    assert len(rows(num_entries=1, group_by="STACK_TRACE")) == 2


@pytest.mark.parametrize(("units", "size"), [("KB", "3000 KB"), ("MB", "3 MB"), ("GB", "0.003 GB")])
def test_units(units, size):
    assert rows(units=units)[-1][6] == size


def test_no_references():
    text = memory_summary([], STATS)
    assert text.endswith(store_summary(STATS)) and "---" not in text.partition("--- Agg")[0]
