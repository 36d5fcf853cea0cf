/* Tasks that are kept, and run again when a result is lost. */
#include "pair.h"

/* -- one task ---------------------------------------------------------------------------------- */

static void test_made_again(void) {
    Pair p = new_pair();
    PrHandle h = submit(&p, SIZE, NULL, 0, 1, 3, NULL);
    run_one(&p, 0);
    EQUAL(p.s.control->n_lineage, 1);
    SOUND(&p.s);
    int64_t number = number_of(&p, h);
    EQUAL(again(&p, h), 0); /* it is there: nothing to do */
    CHECK(idle(&p));
    for (uint32_t i = 0; i < 5; i++) {
        uint64_t before = used_memory(&p.s);
        discard(&p, h);
        CHECK(used_memory(&p.s) <= before - SIZE);
        EQUAL(pr_discard(&p.s, pr_slot(h)), PR_STALE);
        EQUAL(again(&p, h), 0);
        EQUAL(state_of(&p.s, h), PR_OBJECT_PENDING);
        EQUAL(again(&p, h), 0); /* many ask */
        run_one(&p, 0);
        CHECK(idle(&p));
        EQUAL(number_of(&p, h), number);
        SOUND(&p.s);
    }
    EQUAL(p.runs, 6);
    release(&p.s, h);
    end_pair(&p);
}

/* Small results cannot be lost, and tasks that may not be tried again cannot make them again. */
static void test_not_kept(void) {
    Pair p = new_pair();
    PrHandle small = submit(&p, 50, NULL, 0, 1, 3, NULL);
    run_one(&p, 0);
    PrHandle once = submit(&p, SIZE, NULL, 0, 1, 0, NULL);
    run_one(&p, 0);
    PrHandle dropped = submit(&p, SIZE, NULL, 0, 1, 3, NULL);
    release(&p.s, dropped);
    run_one(&p, 0);
    PrHandle made = put(&p.s, SIZE, 1, NULL, 0);
    EQUAL(live_tasks(&p.s) + done_tasks(&p.s), 0);
    EQUAL(pr_discard(&p.s, pr_slot(small)), PR_STALE);
    discard(&p, once);
    EQUAL(refused(&p, once, once), PR_WHY_NO_RETRIES | PR_WHY_FREED);
    discard(&p, made);
    EQUAL(refused(&p, made, made), PR_WHY_PUT | PR_WHY_FREED);
    release(&p.s, small);
    release(&p.s, once);
    release(&p.s, made);
    end_pair(&p);
}

static void test_read_meanwhile(void) {
    Pair p = new_pair();
    PrHandle h = submit(&p, SIZE, NULL, 0, 1, 3, NULL);
    run_one(&p, 0);
    EQUAL(pr_pin(&p.s, pr_slot(h)), 1);
    EQUAL(pr_discard(&p.s, pr_slot(h)), PR_BUSY);
    SOUND(&p.s);
    pr_unpin(&p.s, pr_slot(h));
    discard(&p, h);
    release(&p.s, h); /* the value went first, the lineage with the reference */
    end_pair(&p);
}

static void test_several_results(void) {
    Pair p = new_pair();
    PrHandle h[RETURNS];
    submit(&p, SIZE, NULL, 0, RETURNS, 1, h);
    run_one(&p, 0);
    int64_t first = number_of(&p, h[0]);
    discard(&p, h[1]);
    release(&p.s, h[2]); /* its value goes; it comes again with the other's */
    SOUND(&p.s);
    EQUAL(again(&p, h[1]), 0);
    EQUAL(state_of(&p.s, h[0]), PR_OBJECT_SEALED);
    run_one(&p, 0);
    EQUAL(number_of(&p, h[0]), first);
    EQUAL(number_of(&p, h[1]), first + 1);
    SOUND(&p.s);
    release(&p.s, h[0]);
    SOUND(&p.s);
    EQUAL(p.s.control->n_lineage, 1);
    release(&p.s, h[1]);
    end_pair(&p);
}

static void test_references_inside(void) {
    Pair p = new_pair();
    PrHandle inner = put(&p.s, SIZE, 4, NULL, 0), other = put(&p.s, SIZE, 5, NULL, 0);
    PrHandle h = submit(&p, SIZE, NULL, 0, 1, 3, NULL);
    run_one(&p, inner);
    discard(&p, h);
    release(&p.s, inner); /* only the value held it */
    EQUAL(live_objects(&p.s), 2);
    EQUAL(again(&p, h), 0);
    run_one(&p, other);
    release(&p.s, other);
    SOUND(&p.s);
    EQUAL(pr_refs_in(&p.s, &p.s.objects[pr_slot(h)])[0], other);
    release(&p.s, h);
    end_pair(&p);
}

static void test_fails_this_time(void) {
    Pair p = new_pair();
    uint32_t task;
    PrHandle h[2];
    submit(&p, SIZE, NULL, 0, 2, 1, h);
    run_one(&p, 0);
    discard(&p, h[0]);
    EQUAL(again(&p, h[0]), 0);
    EQUAL(pr_next_task(&p.w, &task, soon()), 0);
    pr_fail_task(&p.w, task, 77,
                 "it failed, for a reason that takes some words to be told, and more");
    EQUAL(state_of(&p.s, h[0]), PR_OBJECT_FAILED);
    EQUAL(pr_message_of(&p.s, &p.s.objects[pr_slot(h[0])])[0], 77);
    EQUAL(state_of(&p.s, h[1]), PR_OBJECT_SEALED);
    SOUND(&p.s);
    EQUAL(p.s.control->n_lineage, 0);
    discard(&p, h[1]);
    EQUAL(refused(&p, h[1], h[1]), PR_WHY_FAILED | PR_WHY_FREED);
    release(&p.s, h[0]);
    release(&p.s, h[1]);
    end_pair(&p);
}

static void test_cancelled_this_time(void) {
    Pair p = new_pair();
    uint32_t worker;
    PrHandle h = submit(&p, SIZE, NULL, 0, 1, 1, NULL);
    run_one(&p, 0);
    discard(&p, h);
    EQUAL(again(&p, h), 0);
    EQUAL(pr_cancel(&p.s, h, &worker), 0);
    EQUAL(state_of(&p.s, h), PR_OBJECT_FAILED);
    CHECK(idle(&p));
    SOUND(&p.s);
    release(&p.s, h);
    end_pair(&p);
}

/* -- many -------------------------------------------------------------------------------------- */

/* Each made from the one before, of which only the last is held. */
static PrHandle make_chain(Pair *p, uint32_t n) {
    PrHandle last = submit(p, SIZE, NULL, 0, 1, 3, NULL);
    run_one(p, 0);
    for (uint32_t i = 1; i < n; i++) {
        PrHandle next = submit(p, SIZE, &last, 1, 1, 3, NULL);
        run_one(p, 0);
        release(&p->s, last);
        last = next;
    }
    return last;
}

static void test_chain(void) {
    Pair p = new_pair();
    PrHandle last = make_chain(&p, 20);
    SOUND(&p.s);
    EQUAL(p.s.control->n_lineage, 20);
    CHECK(used_memory(&p.s) < 2 * SIZE + 1000); /* the values between are not kept */
    int64_t number = number_of(&p, last);
    discard(&p, last);
    EQUAL(again(&p, last), 0);
    for (int i = 0; i < 20; i++) run_one(&p, 0);
    CHECK(idle(&p));
    EQUAL(number_of(&p, last), number);
    SOUND(&p.s);
    CHECK(used_memory(&p.s) < 2 * SIZE + 1000);
    release(&p.s, last);
    end_pair(&p);
}

/* Two from one, and one from these and the first. */
static void test_diamond(void) {
    Pair p = new_pair();
    PrHandle top = submit(&p, SIZE, NULL, 0, 1, 3, NULL);
    run_one(&p, 0);
    PrHandle sides[3] = {submit(&p, SIZE, &top, 1, 1, 3, NULL),
                         submit(&p, SIZE, &top, 1, 1, 3, NULL), top};
    run_one(&p, 0);
    run_one(&p, 0);
    PrHandle h = submit(&p, SIZE, sides, 3, 1, 3, NULL);
    run_one(&p, 0);
    for (int i = 0; i < 3; i++) release(&p.s, sides[i]);
    SOUND(&p.s);
    EQUAL(p.s.control->n_lineage, 4);
    int64_t number = number_of(&p, h);
    discard(&p, h);
    EQUAL(again(&p, h), 0);
    for (int i = 0; i < 4; i++) run_one(&p, 0);
    CHECK(idle(&p));
    EQUAL(number_of(&p, h), number);
    release(&p.s, h);
    end_pair(&p);
}

/* A task is over before the one that made what it needed. */
static void test_over_early(void) {
    Pair p = new_pair();
    PrSession other = join_session(&p.s, PR_WORKER);
    uint32_t first, second;
    two_cpus(&p);
    PrHandle parent = submit(&p, SIZE, NULL, 0, 1, 3, NULL);
    PrHandle child = submit(&p, SIZE, &parent, 1, 1, 3, NULL);
    EQUAL(pr_next_task(&p.w, &first, soon()), 0);
    seal_result(&p.w, pr_slot(parent), SIZE, 1, 0);
    EQUAL(again(&p, parent), 0);
    EQUAL(pr_discard(&p.s, pr_slot(parent)), 0);
    EQUAL(again(&p, parent), PR_BUSY); /* its task is about to be over */
    EQUAL(pr_next_task(&other, &second, soon()), 0);
    seal_result(&other, pr_slot(child), SIZE, 2, 0);
    pr_finish(&other, second);
    SOUND(&p.s);
    EQUAL(p.s.control->n_early, 1);
    pr_finish(&p.w, first);
    SOUND(&p.s);
    EQUAL(p.s.control->n_early, 0);
    EQUAL(p.s.control->lineage_bytes, 2 * PR_LINEAGE_TASK);
    release(&p.s, parent);
    SOUND(&p.s);
    CHECK(used_memory(&p.s) < 2 * SIZE);
    release(&p.s, child);
    leave_session(&other);
    end_pair(&p);
}

/* What was put is held for those who would need it; what is held, and lost, is to blame. */
static void test_arguments(void) {
    Pair p = new_pair();
    PrHandle made = put(&p.s, SIZE, 1, NULL, 0);
    PrHandle h = submit(&p, SIZE, &made, 1, 1, 3, NULL);
    run_one(&p, 0);
    release(&p.s, made);
    SOUND(&p.s);
    EQUAL(p.s.control->lineage_bytes, PR_LINEAGE_TASK + SIZE);
    discard(&p, h);
    EQUAL(again(&p, h), 0);
    run_one(&p, 0);
    pr_hold(&p.s, pr_slot(made));
    discard(&p, made);
    discard(&p, h);
    EQUAL(refused(&p, h, made), PR_WHY_PUT | PR_WHY_FREED);
    release(&p.s, made);
    release(&p.s, h);
    end_pair(&p);
}

/* References inside of the arguments: what can be made again is not held because of them. */
static void test_references_in_arguments(void) {
    Pair p = new_pair();
    PrHandle inner[3] = {submit(&p, SIZE, NULL, 0, 1, 3, NULL), put(&p.s, SIZE, 1, NULL, 0)};
    run_one(&p, 0);
    inner[2] = inner[0];
    PrHandle arguments = put(&p.s, 100, 2, inner, 3);
    PrHandle h = submit_with(&p, SIZE, arguments, NULL, 0, 1, 3, NULL);
    release(&p.s, arguments);
    run_one(&p, 0);
    SOUND(&p.s);
    EQUAL(p.s.control->lineage_bytes, 2 * PR_LINEAGE_TASK + 100 + SIZE);
    release(&p.s, inner[0]);
    release(&p.s, inner[1]);
    SOUND(&p.s);
    CHECK(used_memory(&p.s) < 2 * SIZE + 2000); /* what was put, and the result */
    EQUAL(p.s.control->n_lineage, 2);
    pr_recover(&p.s, 0, 0, "");
    SOUND(&p.s);
    int64_t number = number_of(&p, h);
    for (int i = 0; i < 3; i++) {
        discard(&p, h);
        EQUAL(again(&p, h), 0);
        if (i == 2) pr_recover(&p.s, 0, 0, "");
        SOUND(&p.s);
        run_one(&p, 0);
        run_one(&p, 0);
        CHECK(idle(&p));
        EQUAL(number_of(&p, h), number);
        SOUND(&p.s);
        CHECK(used_memory(&p.s) < 2 * SIZE + 2000);
    }
    release(&p.s, h);
    end_pair(&p);
}

static void test_limit(void) {
    Pair p = new_pair();
    PrHandle h[100], parent;
    p.s.control->max_lineage_bytes = 50 * PR_LINEAGE_TASK;
    for (int i = 0; i < 100; i++) {
        h[i] = submit(&p, SIZE, NULL, 0, 1, 3, NULL);
        run_one(&p, 0);
        if (i == 10) discard(&p, h[10]); /* its value is only here */
    }
    SOUND(&p.s);
    EQUAL(p.s.control->n_lineage, 50);
    EQUAL(p.s.control->n_lineage_dropped, 50);
    discard(&p, h[0]);
    EQUAL(refused(&p, h[0], h[0]), PR_WHY_DROPPED | PR_WHY_FREED);
    EQUAL(again(&p, h[10]), 0);
    run_one(&p, 0);
    for (int i = 0; i < 100; i++) release(&p.s, h[i]);
    EQUAL(p.s.control->n_lineage, 0);
    /* What it was made from is forgotten, as that was longer ago. */
    parent = submit(&p, SIZE, NULL, 0, 1, 3, NULL);
    run_one(&p, 0);
    PrHandle child = submit(&p, SIZE, &parent, 1, 1, 3, NULL);
    run_one(&p, 0);
    release(&p.s, parent);
    p.s.control->max_lineage_bytes = 2 * PR_LINEAGE_TASK;
    PrHandle other = submit(&p, SIZE, NULL, 0, 1, 3, NULL);
    run_one(&p, 0);
    EQUAL(p.s.control->n_lineage, 2);
    discard(&p, child);
    EQUAL(refused(&p, child, parent), PR_WHY_GONE);
    release(&p.s, child);
    release(&p.s, other);
    end_pair(&p);
}

/* -- eviction, files --------------------------------------------------------------------------- */

static void test_eviction(void) {
    Pair p = new_pair();
    PrSession spiller = join_session(&p.s, PR_SPILLER);
    pr_begin_spilling(&spiller);
    PrHandle made = put(&p.s, SIZE, 1, NULL, 0), chosen[8];
    PrHandle h = submit(&p, SIZE, NULL, 0, 1, 3, NULL);
    run_one(&p, 0);
    uint64_t clean, dirty;
    pr_spillable(&spiller, &clean, &dirty);
    EQUAL(clean, pr_block_size(SIZE, 0));
    EQUAL(dirty, pr_block_size(SIZE, 0));
    uint32_t n = pr_choose(&spiller, 0, UINT64_MAX, chosen, 8);
    EQUAL(n, 1);
    EQUAL(chosen[0], h);
    EQUAL(pr_evict(&spiller, pr_slot(h)), 0);
    EQUAL(pr_evict(&spiller, pr_slot(h)), PR_STALE);
    EQUAL(pr_evict(&spiller, pr_slot(made)), PR_STALE);
    release_all(&spiller, chosen, n);
    SOUND(&p.s);
    CHECK(pr_is_gone(&p.s.objects[pr_slot(h)]));
    EQUAL(again(&p, h), 0);
    run_one(&p, 0);
    /* Not if what it was made from could not be had again. */
    PrHandle child = submit(&p, SIZE, &h, 1, 1, 3, NULL);
    run_one(&p, 0);
    discard(&p, made);
    PrHandle grandchild = submit(&p, SIZE, &made, 1, 1, 3, NULL);
    run_one(&p, 0);
    EQUAL(pr_evict(&spiller, pr_slot(grandchild)), PR_STALE);
    EQUAL(pr_evict(&spiller, pr_slot(child)), 0);
    SOUND(&p.s);
    EQUAL(again(&p, child), 0);
    run_one(&p, 0);
    release(&p.s, made);
    release(&p.s, h);
    release(&p.s, child);
    release(&p.s, grandchild);
    leave_session(&spiller);
    end_pair(&p);
}

/* A copy in a file, which is lost; and one that is just read. */
static void test_lost_file(void) {
    Pair p = new_pair();
    PrSession spiller = join_session(&p.s, PR_SPILLER);
    pr_begin_spilling(&spiller);
    p.s.control->evicts = 0;
    PrHandle inner = put(&p.s, 20, 1, NULL, 0), chosen[8];
    PrHandle h = submit(&p, SIZE, NULL, 0, 1, 3, NULL);
    run_one(&p, inner);
    uint32_t n = pr_choose(&spiller, 1, UINT64_MAX, chosen, 8);
    EQUAL(n, 1);
    EQUAL(pr_discard(&p.s, pr_slot(h)), PR_BUSY); /* it is being written */
    write_copies(&spiller, chosen, n);
    EQUAL(pr_evict(&spiller, pr_slot(h)), 0);
    SOUND(&p.s);
    EQUAL(again(&p, h), 0); /* there is a copy: it is not made again */
    EQUAL(state_of(&p.s, h), PR_OBJECT_SEALED);
    uint8_t *data;
    EQUAL(pr_make_incoming(&spiller, pr_slot(h), &data), 0);
    pr_lose_copy(&p.s, pr_slot(h));
    EQUAL(again(&p, h), PR_BUSY);
    EQUAL(pr_discard(&p.s, pr_slot(h)), PR_STALE);
    pr_give_up(&spiller, pr_slot(h));
    EQUAL(pr_make_incoming(&spiller, pr_slot(h), &data), PR_STALE);
    EQUAL(again(&p, h), 0);
    EQUAL(state_of(&p.s, h), PR_OBJECT_PENDING);
    run_one(&p, inner);
    SOUND(&p.s);
    release_all(&spiller, chosen, n);
    remove_files(&spiller);
    release(&p.s, inner);
    release(&p.s, h);
    leave_session(&spiller);
    end_pair(&p);
}

/* Another result is wanted while this one is read from a file that somebody finds to be bad. */
static void test_read_while_made_again(void) {
    Pair p = new_pair();
    PrSession spiller = join_session(&p.s, PR_SPILLER);
    PrHandle h[2], chosen[8];
    uint8_t *data;
    pr_begin_spilling(&spiller);
    p.s.control->evicts = 0;
    submit(&p, SIZE, NULL, 0, 2, 3, h);
    run_one(&p, 0);
    int64_t first = number_of(&p, h[0]);
    uint32_t n = pr_choose(&spiller, 1, UINT64_MAX, chosen, 8);
    EQUAL(n, 2);
    write_copies(&spiller, chosen, n);
    for (int i = 0; i < 2; i++) EQUAL(pr_evict(&spiller, pr_slot(h[i])), 0);
    EQUAL(pr_make_incoming(&spiller, pr_slot(h[1]), &data), 0);
    for (int i = 0; i < 2; i++) pr_lose_copy(&p.s, pr_slot(h[i]));
    EQUAL(again(&p, h[0]), 0);
    SOUND(&p.s);
    write_value(data, SIZE, (uint64_t)first + 1);
    pr_arrive(&spiller, pr_slot(h[1]));
    SOUND(&p.s);
    run_one(&p, 0);
    for (int i = 0; i < 2; i++) EQUAL(number_of(&p, h[i]), first + i);
    release_all(&spiller, chosen, n);
    SOUND(&p.s);
    for (int i = 0; i < 2; i++) release(&p.s, h[i]);
    remove_files(&spiller);
    leave_session(&spiller);
    end_pair(&p);
}

/* -- recovery ---------------------------------------------------------------------------------- */

static void test_recovery(void) {
    Pair p = new_pair();
    PrHandle last = make_chain(&p, 5), h[2], many[6];
    for (int i = 0; i < 6; i++) {
        many[i] = submit(&p, SIZE, i ? &many[i - 1] : NULL, i != 0, 1, 3, NULL);
        run_one(&p, 0);
    }
    submit(&p, SIZE, many, 6, 2, 3, h);
    run_one(&p, 0);
    for (int i = 0; i < 6; i++) release(&p.s, many[i]);
    uint64_t bytes = p.s.control->lineage_bytes;
    pr_recover(&p.s, 0, 0, "");
    SOUND(&p.s);
    EQUAL(p.s.control->n_lineage, 12);
    EQUAL(p.s.control->lineage_bytes, bytes);
    discard(&p, last);
    discard(&p, h[1]);
    EQUAL(again(&p, last), 0);
    EQUAL(again(&p, h[1]), 0);
    pr_recover(&p.s, 0, 0, "");
    SOUND(&p.s);
    for (int i = 0; i < 12; i++) run_one(&p, 0);
    CHECK(idle(&p));
    CHECK(number_of(&p, last) > 0 && number_of(&p, h[1]) > 0);
    release(&p.s, h[0]);
    release(&p.s, h[1]);
    pr_recover(&p.s, 0, 0, "");
    SOUND(&p.s);
    EQUAL(p.s.control->n_lineage, 5);
    release(&p.s, last);
    end_pair(&p);
}

/* The only one that held a result dies. */
static void test_holder_dies(void) {
    Pair p = new_pair();
    PrHandle last = make_chain(&p, 5);
    PrSession other = join_session(&p.s, PR_CLIENT);
    pr_hold(&other, pr_slot(last));
    release(&p.s, last);
    SOUND(&p.s);
    EQUAL(p.s.control->n_lineage, 5);
    kill_worker(&p, &other);
    EQUAL(live_objects(&p.s), 0);
    end_pair(&p);
}

/* Who has it made again dies when its task is WAITING, and the result not PENDING yet. */
static void test_dies_while_it_asks(void) {
    Pair p = new_pair();
    PrHandle parent = submit(&p, SIZE, NULL, 0, 1, 3, NULL);
    run_one(&p, 0);
    PrHandle h = submit(&p, SIZE, &parent, 1, 1, 3, NULL);
    run_one(&p, 0);
    release(&p.s, parent);
    discard(&p, h);
    pr_set_task_state(&p.s.tasks[atomic_load(&p.s.objects[pr_slot(h)].owner)], PR_TASK_WAITING);
    pr_recover(&p.s, 0, 0, "");
    SOUND(&p.s);
    EQUAL(state_of(&p.s, h), PR_OBJECT_PENDING);
    run_one(&p, 0); /* it finds that what it needs is gone, and asks for that */
    CHECK(number_of(&p, h) > 0);
    release(&p.s, h);
    end_pair(&p);
}

/* Another worker takes a task, seals its results, and dies before it says that the task is over. */
static void seal_and_die(Pair *p, const PrHandle *h, uint32_t n) {
    uint32_t task;
    PrSession other = join_session(&p->s, PR_WORKER);
    EQUAL(pr_next_task(&other, &task, soon()), 0);
    for (uint32_t i = 0; i < n; i++)
        if (state_of(&p->s, h[i]) == PR_OBJECT_PENDING)
            seal_result(&other, pr_slot(h[i]), SIZE, i + 1, 0);
    kill_worker(p, &other);
}

static void test_worker_dies_at_the_end(void) {
    Pair p = new_pair();
    two_cpus(&p);
    PrHandle parent = submit(&p, SIZE, NULL, 0, 1, 3, NULL);
    run_one(&p, 0);
    PrHandle h[RETURNS];
    submit(&p, SIZE, &parent, 1, RETURNS, 3, h);
    for (int times = 0; times < 3; times++) { /* the first time, and when they are made again */
        seal_and_die(&p, h, RETURNS);
        EQUAL(done_tasks(&p.s), 2);
        for (uint32_t i = 0; i < RETURNS; i++) EQUAL(number_of(&p, h[i]), i + 1);
        discard(&p, h[times]);
        EQUAL(again(&p, h[times]), 0);
    }
    run_one(&p, 0);
    release(&p.s, parent); /* wanted from now on, as by any task that is over */
    EQUAL(pr_pin(&p.s, pr_slot(parent)), PR_AWAY);
    for (uint32_t i = 0; i < RETURNS; i++) release(&p.s, h[i]);
    end_pair(&p);
}

/* Not all that such a task has made can be made again. */
static void test_worker_dies_at_the_end_of_what_is_not_kept(void) {
    Pair p = new_pair();
    two_cpus(&p);
    PrHandle h = submit(&p, SIZE, NULL, 0, 1, 0, NULL);
    seal_and_die(&p, &h, 1);
    discard(&p, h);
    EQUAL(refused(&p, h, h), PR_WHY_NO_RETRIES | PR_WHY_FREED);
    release(&p.s, h);
    h = submit(&p, SIZE, NULL, 0, 1, 3, NULL);
    release(&p.s, h); /* nobody wants it */
    seal_and_die(&p, &h, 1);
    EQUAL(live_tasks(&p.s) + done_tasks(&p.s), 0);
    end_pair(&p);
}

/* It dies when the task is about to go, and its result is not said to be made for good. */
static void test_worker_dies_while_it_buries(void) {
    Pair p = new_pair();
    two_cpus(&p);
    uint32_t task;
    PrHandle h = submit(&p, SIZE, NULL, 0, 1, 0, NULL);
    PrSession other = join_session(&p.s, PR_WORKER);
    EQUAL(pr_next_task(&other, &task, soon()), 0);
    seal_result(&other, pr_slot(h), SIZE, 1, 0);
    pr_set_task_state(&p.s.tasks[task], PR_TASK_DYING);
    kill_worker(&p, &other);
    discard(&p, h);
    EQUAL(refused(&p, h, h), PR_WHY_FAILED | PR_WHY_FREED);
    release(&p.s, h);
    end_pair(&p);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    RUN(test_made_again);
    RUN(test_not_kept);
    RUN(test_read_meanwhile);
    RUN(test_several_results);
    RUN(test_references_inside);
    RUN(test_fails_this_time);
    RUN(test_cancelled_this_time);
    RUN(test_chain);
    RUN(test_diamond);
    RUN(test_over_early);
    RUN(test_arguments);
    RUN(test_references_in_arguments);
    RUN(test_limit);
    RUN(test_eviction);
    RUN(test_lost_file);
    RUN(test_read_while_made_again);
    RUN(test_recovery);
    RUN(test_holder_dies);
    RUN(test_dies_while_it_asks);
    RUN(test_worker_dies_at_the_end);
    RUN(test_worker_dies_at_the_end_of_what_is_not_kept);
    RUN(test_worker_dies_while_it_buries);
    puts("ok");
    return 0;
}
