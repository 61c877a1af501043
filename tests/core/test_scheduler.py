"""What the scheduler does, as scripts: something happens, and these effects follow."""

import pytest

from llamaproxy.core.breaker import BreakerState
from llamaproxy.core.events import (
    Drain,
    Grant,
    Outcome,
    Reject,
    Resume,
    Start,
    Stop,
    StopReason,
)
from tests.core.script import BREAKER, arrival, mixed, only, ready, refusal, world
from tests.core.world import World, limits, models, remote


class TestStarting:
    def test_first_request_starts_its_model_and_is_granted_when_it_is_ready(self) -> None:
        w = world()
        assert arrival(w, "a", "r") == [Start("a", 1)]
        w.become_ready("a")
        assert w.effects == [Grant("r", "a", 1)]

    def test_any_number_of_waiters_start_one_process(self) -> None:
        w = world(settings={"concurrency": 1000})
        for _ in range(500):
            w.arrive("a")
        assert w.spawns.total() == 1
        w.become_ready("a")
        assert len(w.leases) == 500

    def test_ready_model_is_granted_at_once(self) -> None:
        w = world()
        ready(w, "a")
        assert arrival(w, "a", "r") == [Grant("r", "a", 1)]

    def test_but_not_by_a_gateway_that_goes_down(self) -> None:
        w = world()
        ready(w, "a")
        w.arrive("a")
        w.begin_drain()
        assert refusal(arrival(w, "a", "late"))[0] == "shutting_down"

    def test_concurrency_bounds_the_leases_and_each_end_serves_the_next(self) -> None:
        w = world(settings={"concurrency": 2})
        ready(w, "a")
        first, _, third, fourth = (w.arrive("a") for _ in range(4))
        assert set(w.waiting) == {third, fourth}
        w.release(first)
        assert third in w.leases

    def test_light_requests_do_not_count(self) -> None:
        w = world(settings={"concurrency": 1})
        ready(w, "a")
        w.arrive("a")
        assert arrival(w, "a", "tokenize", light=True) == [Grant("tokenize", "a", 1)]

    def test_replayed_request_goes_before_those_who_came_later(self) -> None:
        w = world(settings={"concurrency": 1})
        ready(w, "a")
        running, later = w.arrive("a"), w.arrive("a")
        w.arrive("a", name="replayed", since=w.now - 5)
        w.release(running)
        assert "replayed" in w.leases
        assert later in w.waiting

    def test_longest_waiting_model_is_started_first(self) -> None:
        w = world("a", "b", "c")
        ready(w, "a")
        busy = w.arrive("a")
        w.arrive("b")
        w.now += 1
        w.arrive("c")
        w.release(busy)
        w.exit("a")
        assert w.phase == {"b": "starting"}

    def test_light_request_does_not_wait_behind_others_nor_for_room_in_the_queue(self) -> None:
        w = world(settings={"concurrency": 1}, queue_size=1)
        ready(w, "a")
        w.arrive("a")
        w.arrive("a")
        assert arrival(w, "a", "tokenize", light=True) == [Grant("tokenize", "a", 1)]

    def test_light_request_starts_its_model_too(self) -> None:
        w = world()
        assert arrival(w, "a", light=True) == [Start("a", 1)]


class TestExclusive:
    def test_suspect_waits_until_it_is_alone_and_nobody_overtakes_it(self) -> None:
        w = world("a")
        ready(w, "a")
        running = w.arrive("a")
        w.arrive("a", name="suspect", exclusive=True)
        later = w.arrive("a")
        assert set(w.waiting) == {"suspect", later}
        w.release(running)
        assert set(w.leases) == {"suspect"}
        assert arrival(w, "a", "light", light=True) == [], "alone means alone"
        w.release("suspect")
        assert set(w.leases) == {later, "light"}

    def test_idle_backend_is_its_own_at_once(self) -> None:
        w = world("a")
        ready(w, "a")
        w.arrive("a", name="suspect", exclusive=True)
        assert set(w.leases) == {"suspect"}

    def test_death_of_its_backend_ends_its_claim(self) -> None:
        w = world("a")
        ready(w, "a")
        w.arrive("a", name="suspect", exclusive=True)
        w.exit("a")
        ready(w, "a")
        assert w.arrive("a") in w.leases

    def test_light_requests_do_not_overtake_a_suspect_either(self) -> None:
        w = world("a")
        ready(w, "a")
        running = w.arrive("a")
        w.arrive("a", name="suspect", exclusive=True)
        assert arrival(w, "a", "light", light=True) == []
        w.release(running)
        assert set(w.leases) == {"suspect"}

    def test_suspect_that_must_wait_needs_room_in_the_queue(self) -> None:
        w = world(queue_size=1)
        ready(w, "a")
        w.arrive("a")
        w.arrive("b")
        w.arrive("a", name="suspect", exclusive=True)
        assert w.ended == {"suspect": "queue_full"}


class TestMakingRoom:
    def test_idle_model_goes_for_one_that_is_wanted(self) -> None:
        w = world()
        ready(w, "a")
        assert arrival(w, "b", "r") == [Stop("a", 1, StopReason.EVICTED, "b")]
        w.exit("a")
        assert w.effects == [Start("b", 1)], "only when it has gone"

    def test_one_whose_last_lease_ended_longest_ago_goes_first(self) -> None:
        w = world("a", "b", "c", models_max=2)
        ready(w, "a", "b")
        w.release(w.arrive("a"))
        w.now += 1
        assert only(arrival(w, "c")) == Stop("b", 1, StopReason.EVICTED, "c")

    def test_lower_priority_goes_before_older(self) -> None:
        w = mixed({"a": {"priority": 1}, "b": {"priority": 0}, "c": {}}, models_max=2)
        ready(w, "a", "b")
        assert only(arrival(w, "c")) == Stop("b", 1, StopReason.EVICTED, "c")

    def test_busy_model_stays_while_another_is_idle(self) -> None:
        w = world("a", "b", "c", models_max=2)
        ready(w, "a", "b")
        w.arrive("a")
        assert only(arrival(w, "c")) == Stop("b", 1, StopReason.EVICTED, "c")

    def test_loading_model_is_nobodys_victim(self) -> None:
        w = world()
        w.arrive("a")
        assert arrival(w, "b") == []

    def test_pinned_model_is_nobodys_victim(self) -> None:
        w = mixed({"a": {"pinned": True}, "b": {}, "c": {}}, models_max=2)
        ready(w, "a", "b")
        assert only(arrival(w, "c")) == Stop("b", 1, StopReason.EVICTED, "c")

    def test_where_pins_hold_every_place_the_request_is_told_at_once(self) -> None:
        w = mixed({"a": {"pinned": True}, "b": {}})
        ready(w, "a")
        assert refusal(arrival(w, "b"))[0] == "model_unavailable"

    def test_idle_model_rests_a_moment_before_it_goes(self) -> None:
        w = world(linger=None)
        w.request_start("a")
        w.now += 0.5
        w.become_ready("a")
        w.release(w.arrive("a"))
        assert arrival(w, "b") == []
        assert w.scheduler.wake_at == pytest.approx(w.now + 0.05), "a tenth of its load time"
        w.sleep_until_woken()
        assert w.phase["a"] == "stopping"

    def test_its_clients_next_request_within_that_moment_is_served(self) -> None:
        w = world(linger=0.1)
        ready(w, "a")
        w.release(w.arrive("a"))
        w.arrive("b")
        w.now += 0.01
        assert arrival(w, "a", "next") == [Grant("next", "a", 1)]

    def test_place_promised_to_one_waiter_is_not_made_twice(self) -> None:
        w = world("a", "b", "c", "d", models_max=2)
        ready(w, "a", "b")
        w.arrive("c")
        assert w.phase == {"a": "stopping", "b": "ready"}
        w.arrive("c")
        assert w.phase["b"] == "ready"
        w.arrive("d")
        assert w.phase["b"] == "stopping"

    def test_idle_model_goes_although_a_busy_one_is_draining_for_the_place(self) -> None:
        w = world("a", "b", "c", models_max=2, max_wait=1)
        ready(w, "a", "b")
        w.arrive("a")
        short = w.arrive("b")
        w.arrive("c")
        w.wait(1)
        assert w.phase["a"] == "draining"
        w.release(short)
        assert w.effects == [Stop("b", 1, StopReason.EVICTED, "c"), Resume("a", 1)]

    def test_model_whose_time_is_over_goes_instead_of_another(self) -> None:
        w = mixed({"a": {"priority": 1, "ttl": 60}, "b": {}, "c": {}}, models_max=2)
        ready(w, "a", "b")
        w.now += 60
        assert only(arrival(w, "c")) == Stop("a", 1, StopReason.TTL)

    def test_only_the_pinned_ones_that_stay_wall_a_model_in(self) -> None:
        w = mixed({"a": {"pinned": True}, "b": {}})
        ready(w, "a")
        w.request_stop("a")
        assert arrival(w, "b") == []
        w.exit("a")
        assert w.effects == [Start("b", 1)]


class TestFairness:
    def test_busy_model_keeps_serving_until_somebody_waited_too_long(self) -> None:
        w = world(max_wait=15, min_residency=5)
        ready(w, "a")
        running = w.arrive("a")
        cold = w.arrive("b")
        w.now += 14
        assert arrival(w, "a", "more") == [Grant("more", "a", 1)]
        w.wait(1)
        assert w.phase["a"] == "draining"
        queued = w.arrive("a")
        assert queued in w.waiting, "a draining model takes nobody on"
        w.release(running)
        w.release("more")
        assert w.phase["a"] == "stopping"
        w.exit("a")
        w.become_ready("b")
        assert cold in w.leases

    def test_alarm_is_set_for_that_moment(self) -> None:
        w = world(max_wait=15)
        ready(w, "a")
        w.arrive("a")
        w.arrive("b")
        assert w.scheduler.wake_at == w.now + 15

    def test_model_is_resident_for_a_while_before_it_is_drained(self) -> None:
        w = world(max_wait=1, min_residency=5)
        w.arrive("a")
        w.become_ready("a")
        w.arrive("b")
        w.wait(1)
        assert w.phase["a"] == "ready"
        assert w.scheduler.wake_at == 105
        w.wait(4)
        assert w.phase["a"] == "draining"

    def test_drain_is_called_off_when_nobody_wants_the_place_any_more(self) -> None:
        w = world(max_wait=1)
        ready(w, "a")
        w.arrive("a")
        impatient = w.arrive("b")
        w.wait(1)
        back = w.arrive("a")
        assert w.phase["a"] == "draining"
        w.leave(impatient)
        assert w.phase["a"] == "ready"
        assert back in w.leases

    def test_resume_is_an_effect(self) -> None:
        w = world(max_wait=1, queue_timeout=5)
        ready(w, "a")
        w.arrive("a")
        w.arrive("b", patience=2)
        w.wait(1)
        w.wait(1)
        assert [type(effect) for effect in w.effects] == [Reject, Resume]

    def test_who_gave_way_does_not_take_the_place_back(self) -> None:
        w = world(settings={"concurrency": 1}, max_wait=15)
        ready(w, "a")
        running = w.arrive("a")
        before = w.arrive("a")
        w.now += 1
        w.arrive("b")
        w.wait(15)
        w.release(running)
        w.exit("a")
        assert w.effects == [Start("b", 1)], "although somebody has waited for a for longer"
        assert before in w.waiting

    def test_wait_of_who_gave_way_counts_from_then(self) -> None:
        w = world(settings={"concurrency": 1}, max_wait=15, min_residency=0)
        ready(w, "a")
        running, _ = w.arrive("a"), w.arrive("a")
        w.arrive("b")
        w.wait(15)
        w.release(running)
        w.exit("a")
        w.become_ready("b")
        assert w.scheduler.wake_at == w.now + 15
        w.wait(15)
        assert w.effects == [Drain("b", 1, StopReason.FAIRNESS, "a")]

    def test_pinned_model_is_not_drained_for_anybody(self) -> None:
        w = mixed({"a": {"pinned": True}, "b": {}, "c": {}}, models_max=2, max_wait=1)
        ready(w, "a", "b")
        w.arrive("a")
        w.arrive("b")
        w.arrive("c")
        w.wait(1)
        assert w.phase == {"a": "ready", "b": "draining"}

    def test_clock_may_begin_at_nought(self) -> None:
        w = world(max_wait=15, min_residency=0)
        w.now = 0
        w.arrive("a")
        w.become_ready("a")
        w.arrive("b")
        w.wait(15)
        assert w.phase == {"a": "draining"}


class TestQueue:
    def test_full_queue_refuses_with_an_estimate(self) -> None:
        w = world(settings={"concurrency": 1}, queue_size=2)
        ready(w, "a")
        first = w.arrive("a")
        w.now += 4
        w.release(first)
        for _ in range(3):
            w.arrive("a")
        assert refusal(arrival(w, "a")) == ("queue_full", 3 * 4), "three turns of four seconds"

    def test_models_own_bound(self) -> None:
        w = mixed({"a": {"queue_size": 1}, "b": {}})
        w.arrive("a")
        assert refusal(arrival(w, "a"))[0] == "queue_full"

    def test_waiting_too_long_is_told(self) -> None:
        w = world()
        request = w.arrive("a", patience=5)
        assert w.scheduler.wake_at == w.now + 5
        w.wait(5)
        assert w.ended[request] == "queue_timeout"

    def test_client_that_leaves_starts_nothing(self) -> None:
        w = world()
        ready(w, "a")
        busy = w.arrive("a")
        w.leave(w.arrive("b"))
        w.release(busy)
        assert w.phase == {"a": "ready"}

    def test_unknown_model_is_told(self) -> None:
        world().arrive_for_nothing()

    def test_estimate_is_not_flattered_by_light_requests(self) -> None:
        w = world(settings={"concurrency": 1}, queue_size=1)
        ready(w, "a")
        first = w.arrive("a")
        w.now += 4
        w.release(first)
        for _ in range(20):
            w.release(w.arrive("a", light=True))
        w.arrive("a")
        w.arrive("a")
        assert refusal(arrival(w, "a")) == ("queue_full", 8)

    def test_bound_is_for_all_models_together(self) -> None:
        w = world("a", "b", "c", queue_size=2)
        w.arrive("a")
        w.arrive("b")
        assert refusal(arrival(w, "c"))[0] == "queue_full"

    def test_each_waits_for_its_own_deadline(self) -> None:
        w = world()
        patient, impatient = w.arrive("a", patience=9), w.arrive("a", patience=5)
        w.wait(5)
        assert w.ended == {impatient: "queue_timeout"}
        assert w.scheduler.wake_at == w.now + 4
        w.wait(4)
        assert w.ended[patient] == "queue_timeout"
        assert w.scheduler.wake_at is None

    def test_client_that_leaves_while_its_model_loads_lets_it_load(self) -> None:
        w = world()
        w.leave(w.arrive("a"))
        assert w.phase == {"a": "starting"}
        w.become_ready("a")
        assert w.effects == []


class TestFailure:
    def fail_to_start(self, w: World, times: int) -> None:
        for _ in range(times):
            w.arrive("a")
            w.exit("a")

    def test_failed_start_is_told_to_everyone_who_waited(self) -> None:
        w = world()
        waiters = [w.arrive("a") for _ in range(3)]
        w.exit("a")
        assert {w.ended[request] for request in waiters} == {"model_start_failed"}

    def test_each_gets_an_error_of_its_own(self) -> None:
        w = world()
        w.arrive("a")
        w.arrive("a")
        w.exit("a")
        first, second = w.effects
        assert isinstance(first, Reject) and isinstance(second, Reject)
        assert first.error is not second.error

    def test_killed_start_is_tried_again_for_the_same_waiters(self) -> None:
        w = world()
        request = w.arrive("a")
        w.exit("a", retry=True)
        assert w.phase == {"a": "starting"} and request in w.waiting
        w.become_ready("a")
        assert request in w.leases

    def test_third_failed_start_isolates_the_model(self) -> None:
        w = world()
        self.fail_to_start(w, 3)
        assert refusal(arrival(w, "a")) == ("model_unavailable", 10)

    def test_kills_without_end_isolate_it_too(self) -> None:
        w = world()
        request = w.arrive("a")
        for _ in range(3):
            w.exit("a", retry=True)
        assert w.ended[request] == "model_start_failed" and not w.phase

    def test_nobody_is_evicted_for_an_isolated_model(self) -> None:
        w = world()
        self.fail_to_start(w, 3)
        w.request_start("b")
        w.become_ready("b")
        assert refusal(arrival(w, "a"))[0] == "model_unavailable"
        assert w.phase == {"b": "ready"}

    def test_after_a_while_one_request_may_try(self) -> None:
        w = world()
        self.fail_to_start(w, 3)
        w.now += 10
        probe = w.arrive("a")
        assert w.phase == {"a": "starting"}
        assert refusal(arrival(w, "a", "second"))[0] == "model_unavailable"
        w.become_ready("a")
        w.answer(probe)
        assert arrival(w, "a", "third") == [Grant("third", "a", 4)]

    def test_failed_probe_doubles_the_time(self) -> None:
        w = world()
        self.fail_to_start(w, 3)
        w.now += 10
        self.fail_to_start(w, 1)
        assert refusal(arrival(w, "a")) == ("model_unavailable", 20)

    def test_probe_that_leaves_makes_way_for_another(self) -> None:
        w = world()
        self.fail_to_start(w, 3)
        w.now += 10
        w.leave(w.arrive("a"))
        assert w.arrive("a") in w.waiting

    def test_probe_that_waits_too_long_makes_way_for_another(self) -> None:
        w = world()
        self.fail_to_start(w, 3)
        ready(w, "b")
        w.arrive("b")
        w.arrive("a", patience=5)
        w.wait(5)
        assert w.arrive("a") in w.waiting

    def test_probe_that_finds_no_place_in_the_queue_makes_way_for_another(self) -> None:
        w = world(settings={"concurrency": 1}, queue_size=1)
        self.fail_to_start(w, 3)
        ready(w, "b")
        w.arrive("b")
        queued = w.arrive("b")
        assert refusal(arrival(w, "a"))[0] == "queue_full"
        w.leave(queued)
        assert w.arrive("a") in w.waiting

    def test_probe_that_ends_without_a_verdict_makes_way_for_another(self) -> None:
        w = world()
        self.fail_to_start(w, 3)
        w.now += 10
        probe = w.arrive("a")
        w.become_ready("a")
        assert refusal(arrival(w, "a"))[0] == "model_unavailable"
        w.release(probe, Outcome.NEUTRAL)
        assert arrival(w, "a", "second") == [Grant("second", "a", 4)]

    def test_good_start_between_failed_ones_begins_the_count_anew(self) -> None:
        w = world()
        self.fail_to_start(w, 2)
        request = w.arrive("a")
        w.become_ready("a")
        w.release(request, Outcome.NEUTRAL)
        w.request_stop("a")
        w.exit("a")
        self.fail_to_start(w, 1)
        assert w.arrive("a") in w.waiting

    def test_person_closes_the_breaker(self) -> None:
        w = world()
        self.fail_to_start(w, 3)
        w.request_start("a")
        assert w.effects == [Start("a", 4)]

    def test_process_that_fails_every_request_is_replaced(self) -> None:
        w = world()
        ready(w, "a")
        for _ in range(2):
            w.release(w.arrive("a"), Outcome.FAILURE)
        assert w.phase == {"a": "stopping"}
        assert refusal(arrival(w, "a"))[0] == "model_unavailable"

    def test_aborts_are_no_failures_and_success_resets_the_count(self) -> None:
        w = world()
        ready(w, "a")
        for outcome in (Outcome.FAILURE, Outcome.SUCCESS, Outcome.FAILURE, Outcome.NEUTRAL):
            w.release(w.arrive("a"), outcome)
        assert w.phase == {"a": "ready"}

    def test_crash_starts_a_new_process_for_the_queue(self) -> None:
        w = world(settings={"concurrency": 1})
        ready(w, "a")
        running, queued = w.arrive("a"), w.arrive("a")
        w.exit("a")
        assert w.phase == {"a": "starting"}
        w.become_ready("a")
        assert queued in w.leases
        w.release(running, Outcome.FAILURE)
        assert w.scheduler.backends["a"].breaker.reason == "a is gone", "the death is counted, its victims are not"

    def test_crash_when_nobody_is_there_starts_nothing(self) -> None:
        w = world()
        ready(w, "a")
        w.exit("a")
        assert not w.phase

    def test_old_news_change_nothing(self) -> None:
        w = world()
        ready(w, "a")
        w.exit("a")
        ready(w, "a")
        for news_of_being_ready in (False, True):
            w.hear_old_news("a", news_of_being_ready)
            assert w.effects == []
        assert w.phase == {"a": "ready"}

    def test_failure_while_it_drains_for_room_makes_it_go_for_good(self) -> None:
        w = world(settings={"concurrency": 3}, max_wait=1)
        ready(w, "a")
        first, second, third = (w.arrive("a") for _ in range(3))
        impatient = w.arrive("b")
        w.wait(1)
        w.release(first, Outcome.FAILURE)
        w.release(second, Outcome.FAILURE)
        w.leave(impatient)
        assert w.phase == {"a": "draining"}, "nobody wants its place, and yet"
        w.release(third)
        assert w.effects == [Stop("a", 1, StopReason.UNHEALTHY)]

    def condemned(self) -> tuple[World, str, str]:
        """A process that is being replaced, a request still on it, and the probe that waits for the next."""
        w = world()
        ready(w, "a")
        left, *failing = (w.arrive("a") for _ in range(3))
        for request in failing:
            w.release(request, Outcome.FAILURE)
        assert w.phase == {"a": "draining"}
        w.now += 10
        probe = w.arrive("a")
        assert probe in w.waiting
        return w, left, probe

    @pytest.mark.parametrize("outcome", Outcome)
    def test_last_request_of_a_condemned_process_is_no_verdict_on_the_next(self, outcome: Outcome) -> None:
        w, left, probe = self.condemned()
        w.answer(left)
        assert refusal(arrival(w, "a"))[0] == "model_unavailable"
        w.release(left, outcome)
        assert w.scheduler.backends["a"].breaker.state(w.now) is BreakerState.HALF_OPEN
        assert probe in w.waiting
        w.exit("a")
        assert w.effects == [Start("a", 2)]

    def test_death_of_a_condemned_process_is_no_verdict_on_the_next(self) -> None:
        w, left, probe = self.condemned()
        w.exit("a")
        assert w.effects == [Start("a", 2)]
        w.become_ready("a")
        w.release(probe)
        w.release(left, Outcome.FAILURE)
        assert w.scheduler.backends["a"].breaker.state(w.now) is BreakerState.CLOSED

    def test_condemned_process_stays_condemned_when_it_is_asked_to_stop(self) -> None:
        w, left, probe = self.condemned()
        w.request_stop("a")
        assert w.ended[probe] == "model_unavailable"
        w.release(left)
        assert w.effects == [Stop("a", 1, StopReason.UNHEALTHY)]

    def test_probe_may_wait_for_its_grant_as_long_as_it_likes(self) -> None:
        w = world()
        self.fail_to_start(w, 3)
        ready(w, "b")
        busy = w.arrive("b")
        probe = w.arrive("a")
        w.now += 14
        assert refusal(arrival(w, "a"))[0] == "model_unavailable"
        assert w.phase == {"b": "ready"}
        w.release(busy)
        w.exit("b")
        w.now += 500
        w.become_ready("a")
        assert probe in w.leases

    def test_probe_that_never_ends_costs_its_process(self) -> None:
        w = world()
        self.fail_to_start(w, 3)
        w.now += 10
        probe = w.arrive("a")
        w.become_ready("a")
        w.now += 40
        rejection, drain = arrival(w, "a", "second")
        assert refusal([rejection]) == ("model_unavailable", 20)
        assert drain == Drain("a", 4, StopReason.UNHEALTHY)
        w.answer(probe)
        w.release(probe)
        assert w.phase == {"a": "stopping"}
        assert refusal(arrival(w, "a", "third"))[0] == "model_unavailable"

    def test_answer_of_a_process_that_has_died_since_does_not_undo_the_count(self) -> None:
        w = world()
        ready(w, "a")
        w.release(w.arrive("a"), Outcome.FAILURE)
        answered = w.arrive("a")
        w.exit("a")
        w.answer(answered)
        assert w.scheduler.backends["a"].breaker.state(w.now) is BreakerState.OPEN

    def test_crash_while_it_drains_makes_the_room(self) -> None:
        w = world(max_wait=1)
        ready(w, "a")
        w.arrive("a")
        w.arrive("b")
        w.wait(1)
        w.exit("a")
        assert w.effects == [Start("b", 1)]

    def test_crash_while_it_stops_is_its_end(self) -> None:
        w = world()
        ready(w, "a")
        w.arrive("b")
        w.exit("a")
        assert w.effects == [Start("b", 1)]
        assert not w.scheduler.backends["a"].breaker.reason, "it is no failure"

    def test_isolated_model_rejects_its_queue(self) -> None:
        w = world(settings={"concurrency": 2})
        ready(w, "a")
        first, second, queued = (w.arrive("a") for _ in range(3))
        w.release(first, Outcome.FAILURE)
        assert queued in w.leases
        late = w.arrive("a")
        w.release(second, Outcome.FAILURE)
        assert w.ended[late] == "model_unavailable"
        assert w.phase == {"a": "draining"}


class TestLeaving:
    def test_idle_model_goes_after_its_time_to_live(self) -> None:
        w = world(settings={"ttl": 60})
        ready(w, "a")
        request = w.arrive("a")
        w.now += 100
        w.release(request)
        assert w.scheduler.wake_at == w.now + 60
        w.wait(60)
        assert w.phase == {"a": "stopping"}

    def test_alarm_of_one_model_is_not_taken_for_that_of_another(self) -> None:
        w = mixed({"a": {"ttl": 3600}, "b": {"ttl": 10}}, models_max=2)
        ready(w, "a")
        w.release(w.arrive("a"))
        ready(w, "b")
        request = w.arrive("b")
        w.wait(20)
        w.release(request)
        assert w.scheduler.wake_at == w.now + 10
        w.wait(10)
        assert w.phase == {"a": "ready", "b": "stopping"}

    def test_model_in_use_or_asked_for_lives_beyond_its_time(self) -> None:
        w = world(settings={"ttl": 60})
        ready(w, "a")
        request = w.arrive("a")
        w.wait(1000)
        assert w.phase == {"a": "ready"}
        w.release(request)
        w.wait(59)
        assert w.phase == {"a": "ready"}


class TestKilledFromOutside:
    """SIGKILL is no evidence against a model."""

    def test_deaths_of_a_running_process_do_not_count(self) -> None:
        w = world("a")
        for _ in range(5 * BREAKER.request_failures):
            ready(w, "a")
            w.exit("a", retry=True, blameless=True)
        assert w.scheduler.backends["a"].breaker.state(w.now) is BreakerState.CLOSED

    def test_deaths_while_it_loads_do_not_count_and_it_is_started_again_for_those_who_wait(self) -> None:
        w = world("a")
        w.arrive("a", name="r")
        for spawn in range(1, 5 * BREAKER.start_failures):
            w.exit("a", retry=True, blameless=True)
            assert w.effects == [Start("a", spawn + 1)]
        w.become_ready("a")
        assert w.effects[0] == Grant("r", "a", w.spawns["a"])


class TestElsewhere:
    """A server elsewhere is watched, not run: it costs nothing here."""

    def world(self) -> World:
        return World(models("a", pinned=True) | remote("r"), limits(models_max=1), BREAKER)

    def test_it_is_looked_for_at_once_whatever_holds_the_places(self) -> None:
        w = self.world()
        ready(w, "a")
        assert arrival(w, "r", "r1") == [Start("r", 1)]
        w.become_ready("r")
        assert w.effects == [Grant("r1", "r", 1)]
        assert w.phase == {"a": "ready", "r": "ready"}

    def test_it_is_never_asked_to_leave_for_anybody(self) -> None:
        w = World(models("a", "b") | remote("r"), limits(models_max=1), BREAKER)
        ready(w, "r", "a")
        assert arrival(w, "b") == [Stop("a", 1, StopReason.EVICTED, "b")]
        w.wait_alert(1000)
        assert w.phase["r"] == "ready"

    def test_one_that_is_lost_is_looked_for_again_by_the_next_request(self) -> None:
        w = self.world()
        ready(w, "r")
        w.exit("r")
        assert arrival(w, "r") == [Start("r", 2)]

    def test_one_that_is_not_there_is_isolated_like_any_other(self) -> None:
        w = self.world()
        for _ in range(3):
            w.arrive("r")
            w.exit("r")
        assert refusal(arrival(w, "r")) == ("model_unavailable", 10)

    def test_one_that_fails_its_requests_is_looked_at_anew(self) -> None:
        w = self.world()
        ready(w, "r")
        for _ in range(BREAKER.request_failures):
            w.release(w.arrive("r"), Outcome.FAILURE)
        assert w.phase["r"] == "stopping"
        w.exit("r")
        w.wait(10)
        assert arrival(w, "r") == [Start("r", 2)]


def test_drain_and_stop_name_whom_the_room_is_for() -> None:
    w = world(max_wait=0)
    ready(w, "a")
    running = w.arrive("a")
    assert arrival(w, "b") == [Drain("a", 1, StopReason.FAIRNESS, "b")]
    w.release(running)
    assert w.effects == [Stop("a", 1, StopReason.FAIRNESS, "b")]


def test_lease_of_a_client_that_left_is_given_back() -> None:
    w = world()
    ready(w, "a")
    w.release(w.arrive("a"), Outcome.NEUTRAL)
    assert w.scheduler.in_flight == 0


def test_news_of_requests_that_are_over_change_nothing() -> None:
    w = world()
    w.leave("nobody")
    assert w.effects == []
    w.answer("nobody")
    assert w.effects == []
