"""The scheduler and new configurations, as scripts: who is replaced, who is forgotten, and who notices nothing."""

import pytest

from llamaproxy.core.breaker import BreakerState
from llamaproxy.core.events import Drain, Grant, Outcome, Start, Stop, StopReason
from llamaproxy.modelconfig import ModelConfig
from tests.core.script import arrival, put, ready, remove, world
from tests.core.world import World


class TestAdding:
    def test_model_that_was_added_works(self) -> None:
        w = world("a")
        put(w, "new")
        assert arrival(w, "new") == [Start("new", 1)]

    def test_nothing_follows_where_nothing_has_changed(self) -> None:
        w = world(models_max=2)
        ready(w, "a")
        w.arrive("a")
        w.arrive("b")
        w.reconfigure()
        assert w.effects == []


class TestRemoving:
    def test_running_requests_end_and_the_process_goes_and_is_forgotten(self) -> None:
        w = world()
        ready(w, "a")
        running = w.arrive("a")
        remove(w, "a")
        assert w.effects == [Drain("a", 1, StopReason.RELOADED)]
        w.release(running)
        assert w.effects == [Stop("a", 1, StopReason.RELOADED)]
        w.exit("a")
        assert set(w.scheduler.backends) == {"b"}

    def test_estimate_that_comes_then_is_nothing_to_a_later_model_of_its_name(self) -> None:
        w = world(models_max=2, memory_budget=10)
        ready(w, "a")
        running = w.arrive("a")
        remove(w, "a")
        w.weigh("a", 8)
        put(w, "a")
        w.release(running)
        w.exit("a")
        w.weigh("b", 5)
        w.request_start("a")
        w.request_start("b")
        assert w.phase == {"a": "starting", "b": "starting"}

    def test_who_waits_hears_that_it_is_not_there_any_more(self) -> None:
        w = world(settings={"concurrency": 1})
        ready(w, "a")
        w.arrive("a")
        waiting = w.arrive("a")
        remove(w, "a")
        assert w.ended == {waiting: "model_not_found"}
        assert w.arrive("a", name="late") and w.ended["late"] == "model_not_found"

    def test_model_without_a_process_is_forgotten_at_once(self) -> None:
        w = world()
        remove(w, "b")
        assert set(w.scheduler.backends) == {"a"}

    def test_load_is_stopped(self) -> None:
        w = world()
        w.arrive("a")
        remove(w, "a")
        assert w.effects[1:] == [Stop("a", 1, StopReason.RELOADED)]

    def test_wish_to_start_it_goes_with_it(self) -> None:
        w = world()
        w.arrive("a")
        w.request_start("b")
        remove(w, "b")
        w.become_ready("a")
        assert w.phase == {"a": "ready"}

    def test_person_cannot_start_or_stop_what_is_no_more(self) -> None:
        w = world()
        ready(w, "a")
        running = w.arrive("a")
        remove(w, "a")
        remove(w, "b")
        for name in "ab":
            w.request_start(name)
            w.request_stop(name)
            assert w.effects == []
        w.release(running)
        w.exit("a")
        assert w.effects == []

    def test_old_news_of_it_change_nothing(self) -> None:
        w = world()
        ready(w, "a")
        remove(w, "a")
        w.exit("a")
        for news_of_being_ready in (False, True):
            w.hear_old_news("a", news_of_being_ready)
            assert w.effects == []
        w.weigh("a", 5, measured=True)
        assert set(w.scheduler.backends) == {"b"}

    def test_old_news_are_none_of_its_namesake(self) -> None:
        w = world()
        ready(w, "a")
        remove(w, "a")
        w.exit("a")
        put(w, "a")
        w.arrive("a")
        assert w.effects == [Start("a", 2)], "the number of a spawn is never given twice"

    def test_lease_that_outlives_it_may_end_however_it_likes(self) -> None:
        w = world()
        ready(w, "a")
        running = w.arrive("a")
        remove(w, "a")
        w.exit("a")
        w.release(running, Outcome.FAILURE)
        assert w.effects == []
        assert w.scheduler.in_flight == 0


class TestReplacing:
    def test_running_requests_end_and_the_queue_is_served_by_the_new_process(self) -> None:
        w = world(settings={"concurrency": 1})
        ready(w, "a")
        running, waiting = w.arrive("a"), w.arrive("a")
        put(w, "a", ctx_size=4096, concurrency=1)
        assert w.effects == [Drain("a", 1, StopReason.RELOADED)]
        late = w.arrive("a")
        w.release(running)
        w.exit("a")
        assert w.effects == [Start("a", 2)]
        w.become_ready("a")
        assert waiting in w.leases and late in w.waiting

    def test_same_settings_over_other_files_are_another_model(self) -> None:
        w = world()
        ready(w, "a")
        w.reconfigure(replaced=frozenset(("a", "nobody")))
        assert w.effects == [Stop("a", 1, StopReason.RELOADED)]

    def test_load_begins_anew_for_those_who_wait(self) -> None:
        w = world()
        request = w.arrive("a")
        put(w, "a", ctx_size=4096)
        assert w.effects == [Stop("a", 1, StopReason.RELOADED)]
        w.exit("a")
        assert w.effects == [Start("a", 2)]
        w.become_ready("a")
        assert w.effects == [Grant(request, "a", 2)]

    def test_load_for_nobody_but_a_person_begins_anew_too(self) -> None:
        w = world()
        w.request_start("a")
        put(w, "a", ctx_size=4096)
        w.exit("a")
        assert w.effects == [Start("a", 2)]

    def test_idle_one_goes_and_comes_back_when_it_is_asked_for(self) -> None:
        w = world()
        ready(w, "a")
        put(w, "a", ctx_size=4096)
        w.exit("a")
        assert w.effects == []
        assert arrival(w, "a") == [Start("a", 2)]

    def test_preloaded_one_comes_back_by_itself(self) -> None:
        w = world()
        ready(w, "a")
        put(w, "a", ctx_size=4096, preload=True)
        w.exit("a")
        assert w.effects == [Start("a", 2)]

    @pytest.mark.parametrize("leaving", ["evicted", "stopped", "never there"])
    def test_preloaded_one_that_was_leaving_or_gone_does_not(self, leaving: str) -> None:
        w = world()
        if leaving != "never there":
            ready(w, "a")
        if leaving == "evicted":
            w.arrive("b")
        elif leaving == "stopped":
            w.request_stop("a")
        put(w, "a", ctx_size=4096, preload=True)
        if leaving != "never there":
            w.exit("a")
        assert Start("a", 2) not in w.effects
        assert w.phase.get("a") is None

    def test_gateway_that_goes_down_brings_nothing_back(self) -> None:
        w = world()
        ready(w, "a")
        w.begin_drain()
        put(w, "a", ctx_size=4096, preload=True)
        w.exit("a")
        assert w.effects == []

    def test_model_that_was_removed_and_is_back_is_another_one(self) -> None:
        w = world()
        ready(w, "a")
        running = w.arrive("a")
        config = w.models["a"]
        remove(w, "a")
        w.reconfigure({**w.models, "a": config})
        waiting = w.arrive("a")
        assert w.effects == [], "the process of before serves nobody new"
        w.release(running)
        w.exit("a")
        w.become_ready("a")
        assert waiting in w.leases

    def test_drain_to_make_room_is_a_drain_for_good_now(self) -> None:
        w = world(max_wait=1)
        ready(w, "a")
        w.arrive("a")
        impatient = w.arrive("b")
        w.wait(1)
        put(w, "a", ctx_size=4096)
        w.leave(impatient)
        assert w.effects == []
        assert w.phase == {"a": "draining"}

    def test_second_change_under_a_drain_changes_nothing_about_it(self) -> None:
        w = world()
        ready(w, "a")
        running = w.arrive("a")
        for size in (4096, 8192):
            put(w, "a", ctx_size=size)
        assert w.effects == []
        w.request_stop("a")
        w.release(running)
        assert w.effects == [Stop("a", 1, StopReason.RELOADED)]


class TestForgetting:
    """What was learned of a model is not held against the one that takes its name."""

    def breaker(self, w: World) -> BreakerState:
        return w.scheduler.backends["a"].breaker.state(w.now)

    def test_open_breaker_is_closed(self) -> None:
        w = world()
        for _ in range(3):
            w.arrive("a")
            w.exit("a")
        assert self.breaker(w) is BreakerState.OPEN
        put(w, "a", ctx_size=4096)
        assert arrival(w, "a") == [Start("a", 4)]

    def old_process(self) -> tuple[World, list[str], str]:
        """One that was replaced under four requests, while a fifth waits for the next."""
        w = world()
        ready(w, "a")
        running = [w.arrive("a") for _ in range(4)]
        put(w, "a", ctx_size=4096)
        return w, running, w.arrive("a")

    def test_failures_on_the_old_process_are_its_own(self) -> None:
        w, running, waiting = self.old_process()
        for request in running:
            w.release(request, Outcome.FAILURE)
        assert self.breaker(w) is BreakerState.CLOSED
        assert waiting in w.waiting

    def test_death_of_the_old_process_is_its_own(self) -> None:
        w, _, waiting = self.old_process()
        w.exit("a")
        assert w.effects == [Start("a", 2)]
        backend = w.scheduler.backends["a"]
        assert (backend.breaker.reason, backend.last_words) == ("", None)
        assert waiting in w.waiting

    def test_pace_of_the_old_process_is_its_own(self) -> None:
        w, running, _ = self.old_process()
        w.now += 100
        w.release(running[0])
        backend = w.scheduler.backends["a"]
        assert (backend.load_seconds, backend.service_seconds) == (None, None)

    def test_old_process_takes_what_it_takes_until_it_is_gone(self) -> None:
        w = world(models_max=5, memory_budget=10)
        w.weigh("a", 8)
        w.weigh("b", 4)
        ready(w, "a")
        w.arrive("a")
        put(w, "a", ctx_size=4096)
        w.weigh("a", 1)
        assert arrival(w, "b") == [], "the estimate is of the next process"
        w.weigh("a", 5, measured=True)
        assert w.effects == [], "and so far it took 8"
        w.exit("a")
        assert w.effects == [Start("b", 1)]

    def test_measurement_of_the_old_process_says_nothing_of_the_new(self) -> None:
        w = world(models_max=5, memory_budget=10)
        w.weigh("b", 4)
        ready(w, "a")
        running = w.arrive("a")
        put(w, "a", ctx_size=4096)
        w.weigh("a", 9, measured=True)
        w.release(running)
        w.exit("a")
        w.weigh("a", 6)
        w.arrive("a")
        assert arrival(w, "b") == [Start("b", 1)]

    def test_company_it_could_not_bear_is_forgotten(self) -> None:
        w = world(models_max=2)
        ready(w, "a")
        w.arrive("a")
        w.arrive("b")
        w.starve("b")
        assert w.phase == {"a": "ready"}
        put(w, "b", ctx_size=4096)
        assert w.effects == [Start("b", 2)]
        w.starve("b")
        assert w.waiting_for("b"), "and it dies of it for the first time"


def test_models_without_any_left() -> None:
    w = world()
    ready(w, "a")
    w.reconfigure({})
    w.exit("a")
    assert not w.scheduler.backends
    w.reconfigure({"a": ModelConfig(path="/a.gguf")})
    assert arrival(w, "a") == [Start("a", 2)]
