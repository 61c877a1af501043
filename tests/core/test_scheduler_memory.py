"""The scheduler and memory, as scripts: who fits, who goes for whom, and what a death for want of memory means."""

import pytest

from llamaproxy.core.events import Drain, Reject, Resume, Start, Stop, StopReason
from tests.core.script import arrival, ready, refusal, sized, world


class TestRoom:
    def test_backends_run_together_as_long_as_the_budget_suffices(self) -> None:
        w = sized({"a": 6, "b": 4, "c": 1})
        ready(w, "a")
        w.arrive("a")
        assert arrival(w, "b") == [Start("b", 1)]
        assert arrival(w, "c", "third") == [], "nothing is left, and nobody is idle"

    @pytest.mark.parametrize("phase", ["starting", "draining", "stopping"])
    def test_whoever_has_a_process_counts(self, phase: str) -> None:
        w = sized({"a": 6, "b": 5})
        if phase == "starting":
            w.arrive("a")
        else:
            ready(w, "a")
            running = w.arrive("a")
            w.request_stop("a")
            if phase == "stopping":
                w.release(running)
        assert w.phase == {"a": phase}
        assert arrival(w, "b") == []
        w.exit("a")
        assert Start("b", 1) in w.effects or phase == "starting"

    def test_as_many_idle_ones_go_as_it_takes(self) -> None:
        w = sized({"a": 3, "b": 3, "c": 3, "d": 7})
        ready(w, "a", "b", "c")
        goes = [Stop(name, 1, StopReason.EVICTED, "d") for name in "ab"]
        assert arrival(w, "d") == goes
        w.exit("a")
        assert w.effects == [], "not before all have gone"
        w.exit("b")
        assert w.effects == [Start("d", 1)]

    def test_one_whose_leaving_turns_out_not_to_matter_stays(self) -> None:
        w = sized({"small": 1, "large": 8, "new": 8})
        ready(w, "small", "large")
        assert arrival(w, "new") == [Stop("large", 1, StopReason.EVICTED, "new")]

    def test_nobody_goes_where_that_would_not_be_enough(self) -> None:
        w = sized({"idle": 3, "busy": 3, "new": 8})
        ready(w, "idle", "busy")
        w.arrive("busy")
        assert arrival(w, "new") == []

    def test_each_device_has_a_budget_of_its_own(self) -> None:
        w = sized({"a": (1, 5, 0), "b": (1, 0, 4), "c": (1, 2, 0)}, vram_budgets=(6, 4))
        ready(w, "a", "b")
        w.arrive("b")
        assert arrival(w, "c") == [Stop("a", 1, StopReason.EVICTED, "c")], "the one on its device"

    def test_model_of_unknown_size_takes_a_place_only(self) -> None:
        w = world("known", "unknown", models_max=2, memory_budget=10)
        w.weigh("known", 10)
        ready(w, "known")
        assert arrival(w, "unknown") == [Start("unknown", 1)]

    def test_who_needs_nothing_of_what_is_overdrawn_is_not_kept_out(self) -> None:
        w = sized({"a": (1, 4), "b": (1, 2), "cpu": (1, 0)}, vram_budgets=(6,))
        ready(w, "a", "b")
        w.arrive("a")
        w.arrive("b")
        w.weigh("b", 1, 5, measured=True)
        assert arrival(w, "cpu") == [Start("cpu", 1)]


class TestRefusal:
    def test_model_larger_than_the_budget_is_refused_and_nobody_goes_for_it(self) -> None:
        w = sized({"a": 3, "huge": 11})
        ready(w, "a")
        assert refusal(arrival(w, "huge"))[0] == "model_out_of_memory"
        assert w.phase == {"a": "ready"}

    def test_device_may_be_what_is_too_small(self) -> None:
        w = sized({"huge": (1, 7)}, vram_budgets=(6,))
        assert refusal(arrival(w, "huge"))[0] == "model_out_of_memory"

    def test_model_that_pins_leave_no_room_for_is_refused(self) -> None:
        w = sized({"pin": 4, "a": 3, "b": 7}, pinned="pin")
        ready(w, "pin", "a")
        assert refusal(arrival(w, "b"))[0] == "model_unavailable"
        assert w.phase == {"pin": "ready", "a": "ready"}

    def test_those_who_wait_already_hear_it_when_the_estimate_comes(self) -> None:
        w = sized({"a": 3, "b": 3}, models_max=1)
        ready(w, "a")
        w.arrive("a")
        waiting = w.arrive("b")
        w.weigh("b", 11)
        assert w.ended == {waiting: "model_out_of_memory"}

    def test_those_who_wait_already_hear_it_when_a_pinned_model_takes_the_room(self) -> None:
        w = sized({"a": 6, "b": 8, "pin": 4}, pinned="pin", max_wait=100)
        ready(w, "a")
        w.arrive("a")
        waiting = w.arrive("b")
        w.request_start("pin")
        assert w.phase == {"a": "ready", "pin": "starting"}
        assert w.ended == {waiting: "model_unavailable"}

    def test_room_that_was_kept_for_one_who_is_refused_goes_to_the_next_at_once(self) -> None:
        w = sized({"a": 6, "large": 8, "small": 4}, max_wait=1, min_residency=50)
        ready(w, "a")
        w.arrive("a")
        w.arrive("large")
        w.wait(1)
        assert arrival(w, "small") == [], "what is left is kept"
        w.weigh("large", 11)
        assert [type(effect) for effect in w.effects] == [Reject, Start]

    def test_wish_for_a_model_that_cannot_be_is_dropped(self) -> None:
        w = sized({"a": 3, "huge": 11})
        w.request_start("huge")
        w.weigh("huge", 5)
        assert w.phase == {}


class TestTurns:
    def test_enough_busy_ones_are_drained_for_one_who_has_waited_too_long(self) -> None:
        w = sized({"a": 3, "b": 3, "c": 3, "large": 6}, max_wait=15)
        ready(w, "a", "b", "c")
        running = {name: w.arrive(name) for name in "abc"}
        w.arrive("large")
        w.wait(15)
        assert w.effects == [Drain(name, 1, StopReason.FAIRNESS, "large") for name in "ab"]
        for name in "ab":
            w.release(running[name])
            w.exit(name)
        assert w.effects == [Start("large", 1)]

    def test_idle_one_may_be_part_of_what_makes_the_room(self) -> None:
        w = sized({"busy": 5, "idle": 5, "large": 10}, max_wait=15)
        ready(w, "busy", "idle")
        w.arrive("busy")
        assert arrival(w, "large") == [], "an idle one alone would go in vain"
        w.wait(15)
        assert w.effects == [
            Stop("idle", 1, StopReason.FAIRNESS, "large"),
            Drain("busy", 1, StopReason.FAIRNESS, "large"),
        ]

    def test_small_models_use_what_is_left_over_until_the_large_one_is_overdue(self) -> None:
        w = sized({"a": 6, "large": 8, "small": 2, "other": 2}, max_wait=15, min_residency=100)
        ready(w, "a")
        w.arrive("a")
        w.arrive("large")
        assert arrival(w, "small", "early") == [Start("small", 1)]
        w.wait(15)
        assert arrival(w, "other") == [], "nobody new, or there would always be somebody new"

    def test_who_needs_nothing_of_what_is_kept_may_start_beside_it(self) -> None:
        w = sized({"a": (1, 4), "large": (1, 6), "cpu": (3, 0)}, vram_budgets=(6,), max_wait=15, min_residency=100)
        ready(w, "a")
        w.arrive("a")
        w.arrive("large")
        w.wait(15)
        assert arrival(w, "cpu") == [Start("cpu", 1)]

    def test_drains_are_called_off_one_by_one_as_they_turn_out_not_to_be_needed(self) -> None:
        w = sized({"a": 4, "b": 4, "large": 8}, max_wait=15)
        ready(w, "a", "b")
        w.arrive("a")
        w.arrive("b")
        w.arrive("large")
        w.wait(15)
        assert w.phase == {"a": "draining", "b": "draining"}
        w.weigh("large", 6)
        assert w.effects == [Resume("a", 1)]

    def test_drain_is_called_off_where_one_that_begins_with_it_makes_room_for_both(self) -> None:
        w = sized({"small": 2, "large": 8, "first": 1, "second": 3}, max_wait=15)
        ready(w, "small", "large")
        for name in ("small", "large", "first", "second"):
            w.arrive(name)
        w.wait(15)
        assert w.effects[-1] == Resume("small", 1), "at once, and not when something else happens"
        assert w.phase == {"small": "ready", "large": "draining"}

    def test_drain_that_makes_room_for_a_shy_one_is_not_called_off(self) -> None:
        """There is memory enough for both, and it is not what matters."""
        w = sized({"a": 1, "shy": 1}, max_wait=15)
        ready(w, "a")
        running = w.arrive("a")
        w.arrive("shy")
        w.starve("shy")
        w.wait(15)
        assert w.phase == {"a": "draining"}
        w.wait(1)
        assert w.effects == []
        w.release(running)
        w.exit("a")
        assert w.effects == [Start("shy", 2)]

    def test_drain_of_a_shy_one_is_called_off_whoever_has_come_beside_it(self) -> None:
        """What it cannot bear at its start it bears when it runs."""
        w = sized({"shy": 1, "a": 1, "large": 9}, max_wait=15)
        w.arrive("shy")
        w.starve("shy")
        for name in ("shy", "a"):
            w.arrive(name)
            w.become_ready(name)
            w.now += 10
        impatient = w.arrive("large")
        w.wait(15)
        assert w.phase == {"shy": "draining", "a": "ready"}
        w.leave(impatient)
        assert w.effects == [Resume("shy", 2)]


class TestMeasuring:
    def test_measurement_goes_before_every_estimate(self) -> None:
        w = sized({"a": 9, "b": 5})
        ready(w, "a")
        w.arrive("a")
        w.weigh("a", 4, measured=True)
        w.weigh("a", 9)
        assert arrival(w, "b") == [Start("b", 1)]

    def test_largest_measurement_counts(self) -> None:
        w = sized({"a": 1, "b": 5})
        ready(w, "a")
        w.arrive("a")
        for size in (4, 6, 5):
            w.weigh("a", size, measured=True)
        assert arrival(w, "b") == []

    def test_process_that_loads_takes_no_less_than_its_estimate(self) -> None:
        w = sized({"a": 8, "b": 5})
        w.arrive("a")
        w.weigh("a", 1, measured=True)
        assert arrival(w, "b") == []
        w.become_ready("a")
        w.weigh("a", 5, measured=True)
        assert w.effects == [Start("b", 1)], "and what it takes when it is ready is the truth"

    def test_what_has_run_may_run_again_alone_however_large_it_was(self) -> None:
        w = sized({"a": 9, "b": 1})
        ready(w, "a")
        w.weigh("a", 25, measured=True)
        assert w.phase == {"a": "ready"}
        w.request_stop("a")
        w.exit("a")
        ready(w, "b")
        assert arrival(w, "a") == [Stop("b", 1, StopReason.EVICTED, "a")]

    def test_growth_beyond_the_budget_makes_idle_ones_go_least_important_first(self) -> None:
        w = sized({"a": 3, "b": 3, "busy": 3})
        ready(w, "a", "b", "busy")
        w.arrive("busy")
        w.weigh("busy", 5, measured=True)
        assert w.effects == [Stop("a", 1, StopReason.OVER_LIMIT)]

    def test_growth_spares_those_who_take_nothing_of_what_has_become_scarce(self) -> None:
        w = sized({"cpu": (1, 0), "gpu": (1, 3), "busy": (1, 3)}, vram_budgets=(6,))
        ready(w, "cpu", "gpu", "busy")
        w.arrive("busy")
        w.weigh("busy", 1, 5, measured=True)
        assert w.effects == [Stop("gpu", 1, StopReason.OVER_LIMIT)]

    def test_pinned_and_busy_ones_stay_whatever_they_take(self) -> None:
        w = sized({"pin": 5, "busy": 5}, pinned="pin")
        ready(w, "pin", "busy")
        running = w.arrive("busy")
        w.weigh("busy", 7, measured=True)
        assert w.effects == []
        w.release(running)
        assert w.effects == [Stop("busy", 1, StopReason.OVER_LIMIT)]

    def test_one_that_rests_goes_when_its_linger_is_over(self) -> None:
        w = sized({"a": 5, "b": 5}, linger=2)
        ready(w, "a", "b")
        running = w.arrive("b")
        w.release(w.arrive("a"))
        w.weigh("b", 7, measured=True)
        assert w.effects == []
        assert w.scheduler.wake_at == w.now + 2
        w.wait(2)
        assert w.effects == [Stop("a", 1, StopReason.OVER_LIMIT)]
        assert running in w.leases

    def test_news_of_a_model_that_is_not_there_change_nothing(self) -> None:
        w = sized({"a": 5})
        w.weigh("nobody", 7)
        assert w.effects == []
