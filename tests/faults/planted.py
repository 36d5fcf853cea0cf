"""Whether the test of the recovery finds what is wrong: `make test-faults`.

Arguments are names of faults; without any, all are planted. Each is a line of the core that is
taken out, or changed, in a copy; csrc/tests/test_recover.c, or another, has to fail with it, and
pass with nothing changed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "faults"
DEATHS, SECONDS = "6000", 120
SEEDS = "123"  # threads take turns as they like: what one run misses another finds

#: What it is called, the file, what stands there, what instead, and the test if it is another.
FAULTS = (
    ("nothing", "recover.c", "", ""),
    ("nothing of actors", "actor.c", "", "", "actors"),
    ("nothing of their end", "actor.c", "", "", "actor_ends"),
    (
        "items of streams are not counted",
        "recover.c",
        "n++) {\n        count(r, slot);",
        "n++) {",
    ),
    (
        "a blocked worker's CPU is counted",
        "recover.c",
        "if (need.kind == PR_CPU && atomic_load(&p->blocked)) continue;",
        "",
    ),
    (
        "references of the dead stay",
        "recover.c",
        "atomic_store_explicit(&pr_refs_of(s, i)[w], 0, memory_order_relaxed);",
        "",
    ),
    (
        "spare references stay",
        "recover.c",
        "pr_forget_spares(&r->s->processes[i]);",
        "",
    ),
    (
        "spare references stay, to be seen at once",
        "recover.c",
        "pr_forget_spares(&r->s->processes[i]);",
        "",
        "spares",
    ),
    (
        "spare references outlive the last one",
        "object.c",
        "if (pr_has_spares(s)) pr_return_spares_of(s, slot);",
        "",
        "spares",
    ),
    (
        "spare references of one who waits",
        "actor.c",
        "pr_return_spares(s);",
        "",
        "spares",
    ),
    ("names hold nothing", "recover.c", "if (handle) count(r, handle);", ""),
    (
        "the world goes on during a recovery",
        "process.c",
        "if (!atomic_load(&c->stopping)) return;",
        "return;",
    ),
    (
        "a block is freed after a rebuild has done so",
        "object.c",
        "if (pr_epoch(s) == epoch) pr_arena_free",
        "pr_arena_free",
    ),
    (
        "a task is queued after a rebuild has done so",
        "schedule.c",
        "if (pr_epoch(s) == epoch) {\n        if (q->head",
        "if (1) {\n        if (q->head",
    ),
    ("tasks of the dead stay", "recover.c", "if (!run) break_task(r, i);", ""),
    (
        "room that the dead had made stays",
        "recover.c",
        "if (!is_being_written(s, &s->tasks[atomic_load(&o->owner)])) o->place = o->n_refs = 0;",
        "",
    ),
    (
        "room for a failure that a process is writing goes",
        "recover.c",
        "return pr_state(word) == PR_TASK_CANCELLED && is_live(s, pr_canceller(word));",
        "return 0;",
        "actor_ends",
    ),
    ("locks of the dead stay", "recover.c", "atomic_store(&locks[i]->word, 0);", ";"),
    (
        "objects that the dead gave back stay",
        "recover.c",
        "case PR_OBJECT_DYING:\n            if (!owned)",
        "case PR_OBJECT_DYING:\n            if (0)",
    ),
    ("nobody is told of a recovery", "recover.c", "    tell_all(s);\n", "", "wait"),
    (
        "the dead spin on",
        "recover.c",
        "if (spinner && !is_live(s, spinner - 1)) atomic_store(&c->spinners[k], 0);",
        "",
    ),
    # Tasks whose worker was killed on purpose.
    ("nothing of spare references", "spares.c", "", "", "spares"),
    ("nothing of who is killed", "recover.c", "", "", "killed"),
    (
        "what is put off is tried again by a recovery",
        "recover.c",
        "missing = (t->flags & PR_TASK_PUT_OFF) != 0;",
        "missing = 0;",
        "killed",
    ),
    (
        "a retry for lack of memory is counted",
        "recover.c",
        "t->retries_left > 0 && retry == PR_RETRY_COUNTED",
        "t->retries_left > 0",
        "killed",
    ),
    (
        "what shall fail is tried again",
        "recover.c",
        "t->retries_left && retry != PR_RETRY_NEVER",
        "t->retries_left",
        "killed",
    ),
    (
        "what was cancelled while it was put off stays",
        "task.c",
        "int there = state == PR_TASK_WAITING ||",
        "int there = state == PR_TASK_WAITING || 0 &&",
        "killed",
    ),
    ("nothing of who looks", "recover.c", "", "", "holders"),
    (
        "views of the dead stay",
        "recover.c",
        "atomic_store_explicit(&pr_pins_of(s, i)[w], 0, memory_order_relaxed);",
        "",
        "holders",
    ),
    # Actors.
    (
        "an actor that is about to end is found",
        "object.c",
        "uint32_t n = atomic_load(refs);",
        "uint32_t n = atomic_load(refs);\n    if (!n) n = atomic_fetch_add(refs, 1) + 1;",
        "actors",
    ),
    (
        "no call follows another",
        "actor.c",
        "if (!follow(s, earlier, task)) there += PR_FOLLOWS;",
        "there += PR_FOLLOWS;",
        "actors",
    ),
    (
        "followers are not let go",
        "actor.c",
        "return follower == PR_RELEASED ? 0 : (uint32_t)follower;",
        "return 0;",
        "actors",
    ),
    (
        "a cancelled call holds back those behind it",
        "actor.c",
        "if (atomic_load(&t->missing) & PR_FOLLOWS) return;",
        "return;",
        "actors",
    ),
    (
        "a cancelled call passes nothing on",
        "actor.c",
        "return cancelled ? take_follower(s, call) : 0;",
        "return 0;",
        "actors",
    ),
    (
        "an idle actor is not told of a call",
        "actor.c",
        "atomic_load(&a->idle) && atomic_exchange(&a->idle, 0)",
        "0",
        "actors",
    ),
    (
        "what was taken is run though it comes again",
        "actor.c",
        "tail;\n    if (s->calls && s->calls_epoch != pr_epoch(s)) s->calls = 0;",
        "tail;",
        "actors",
    ),
    (
        "after a recovery no call follows another",
        "recover.c",
        "            atomic_fetch_add(&t->missing, PR_FOLLOWS);\n",
        "",
        "actors",
    ),
    (
        "after a recovery a process follows the one that had its slot before",
        "recover.c",
        "before->caller == t->caller",
        "before->owner == t->owner",
        "actor_ends",
    ),
    (
        "what was taken and not begun does not fail",
        "actor.c",
        "while (atomic_load(&a->worker) == s->index && s->calls &&",
        "while (0 && s->calls &&",
        "actor_ends",
    ),
    (
        "nobody is told of calls of the dead",
        "actor.c",
        "PR_ACTOR_DEAD) {\n        pr_call_node(s);",
        "PR_ACTOR_DEAD) {",
        "actor_ends",
    ),
    (
        "calls that wait for an actor that is dead go on waiting",
        "actor.c",
        "if (pending && fail_waiting(s))",
        "if (0)",
        "actor_ends",
    ),
    (
        "a call that was ended while it waited is counted",
        "actor.c",
        "    atomic_fetch_or(&t->flags, PR_TASK_OVER);\n    pr_call_over(s, t->actor);\n",
        "",
        "actor_ends",
    ),
    (
        "a kill hits the next actor in the slot",
        "actor.c",
        "if (!pr_same(word, actor) || pr_state(word)",
        "if (pr_state(word)",
        "jobs",
    ),
    (
        "who was killed comes again",
        "recover.c",
        " && !pr_is_killed(r->s, t)",
        "",
        "actor_ends",
    ),
    (
        "the object of an actor that lives goes",
        "recover_actors.c",
        "return pr_actor_state(a) == PR_ACTOR_DEAD && !pr_pending_calls(a);",
        "return 1;",
        "actor_ends",
    ),
    (
        "calls are not counted",
        "recover.c",
        "if ((t->flags & (PR_TASK_CALL | PR_TASK_OVER)) == PR_TASK_CALL)",
        "if (0)",
    ),
    (
        "an actor does not hold its death",
        "recover_actors.c",
        "if (a->death) count(r, a->death);",
        "",
    ),
    (
        "locks of actors' queues stay",
        "recover.c",
        "atomic_store(&s->actors[i].queue.lock.word, 0);",
        ";",
    ),
    (
        "what was wanted stays so",
        "lineage.c",
        "    pr_copy_of(o)->wanted--;\n    PrTask *t",
        "    PrTask *t",
        "lineage",
    ),
    (
        "values that nobody holds stay",
        "lineage.c",
        "if (!pr_is_gone(o)) pr_take_value(s, o, blocks);",
        ";",
        "lineage",
    ),
    (
        "a value that is wanted elsewhere is forgotten",
        "lineage.c",
        "if (!is_needed_now(s, &s->tasks[task])) {",
        "{",
        "lineage",
    ),
    (
        "a block is given back while it is read",
        "spill.c",
        "return atomic_load(&c->pins) || atomic_load(&c->writing) ? PR_BUSY : 0;",
        "return 0;",
        "lineage",
    ),
    (
        "a recovery forgets what is wanted",
        "recover_lineage.c",
        "if (pr_is_done(t)) want_all(s, t, 1);",
        ";",
        "lineage",
    ),
    (
        "what was to be made again is not",
        "recover_lineage.c",
        "make_pending(r->s, t);",
        ";",
        "lineage",
    ),
    (
        "lineage of the dead stays",
        "recover_lineage.c",
        "if (!r->claimed[i]) abandon(s, i);",
        ";",
        "lineage",
    ),
    (
        "what was not decided when a worker died never is",
        "recover_lineage.c",
        "if (pr_maker(o) || undecided)",
        "if (pr_maker(o))",
        "lineage",
    ),
    (
        "tasks whose workers died at their end are forgotten",
        "recover.c",
        "if (!pr_keep_orphan(r->s, t)) pr_free_task(t);",
        "pr_free_task(t);",
        "lineage",
    ),
    (
        "the end of a stream is among its items",
        "lineage.c",
        "if (word & PR_STREAM || !(word & PR_BLOCK)",
        "if (!(word & PR_BLOCK)",
        "lineage_items",
    ),
)


def build(folder: Path, test: str) -> Path:
    program = folder / f"test_{test}"
    sources = [folder / f"csrc/tests/test_{test}.c", *(folder / "csrc").glob("*.c")]
    flags = "-std=c11 -D_GNU_SOURCE -O1 -g -pthread -w -DPYRAY_DEBUG=1"
    if test == "recover":
        flags += " -DPYRAY_CRASH_POINTS"
    compiler = [os.environ.get("CC", "cc"), *flags.split(), f"-I{folder / 'csrc'}"]
    subprocess.run([*compiler, *map(str, sources), "-lm", "-o", str(program)], check=True)
    return program


def plant(folder: Path, file: str, there: str, instead: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "csrc", folder / "csrc")
    path = folder / "csrc" / file
    text = path.read_text()
    if there not in text:
        sys.exit(f"{file} has no such line any more: {there!r}")
    path.write_text(text.replace(there, instead, 1))


def passes(program: Path) -> tuple[bool, str]:
    """Whether the test passes with all seeds, and the last thing that it said."""
    for seed in SEEDS:
        passed, said = passes_with(program, seed)
        if not passed:
            break
    return passed, said


def passes_with(program: Path, seed: str) -> tuple[bool, str]:
    env = {**os.environ, "PYRAY_SOON": "8000"}  # what hangs does so for 8 s
    try:
        done = subprocess.run(
            [str(program), DEATHS, seed], capture_output=True, text=True, timeout=SECONDS, env=env
        )
    except subprocess.TimeoutExpired:
        return False, "it hangs"
    said = (done.stdout + done.stderr).strip().splitlines()
    ended = f"signal {-done.returncode}" if done.returncode < 0 else f"status {done.returncode}"
    return done.returncode == 0, said[-1].split("/")[-1] if said else ended


def main() -> None:
    missed = []
    for name, file, there, instead, *test in FAULTS:
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        plant(BUILD, file, there, instead)
        program = build(BUILD, *test or ["recover"])
        began = time.monotonic()
        passed, said = passes(program)
        took = time.monotonic() - began
        print(f"{name}: {'passes' if passed else 'found'} in {took:.0f} s: {said}", flush=True)
        if passed != name.startswith("nothing"):
            missed.append(name)
    sys.exit(f"not as it should be: {', '.join(missed)}" if missed else 0)


if __name__ == "__main__":
    main()
