"""The scheduler and settings that no process knows of, as scripts: they apply at once, and no process notices."""

from llamaproxy.config import BreakerConfig
from llamaproxy.core.events import Drain, Grant, Reject, Resume, Start, Stop, StopReason
from tests.core.script import arrival, put, ready, world
from tests.core.world import limits


class TestModels:
    def test_shorter_time_to_live_sets_the_alarm(self) -> None:
        w = world()
        ready(w, "a")
        put(w, "a", ttl=60)
        assert w.effects == []
        assert w.scheduler.wake_at == w.processes["a"].idle_since + 60

    def test_time_to_live_that_is_over_already_is_over_now(self) -> None:
        w = world()
        ready(w, "a")
        put(w, "a", ttl=5)
        assert w.effects == [Stop("a", 1, StopReason.TTL)]

    def test_more_concurrency_serves_who_waits(self) -> None:
        w = world(settings={"concurrency": 1})
        ready(w, "a")
        w.arrive("a")
        waiting = w.arrive("a")
        put(w, "a", concurrency=2)
        assert w.effects == [Grant(waiting, "a", 1)]

    def test_less_concurrency_lets_run_what_runs(self) -> None:
        w = world(settings={"concurrency": 3})
        ready(w, "a")
        first, *_ = (w.arrive("a") for _ in range(3))
        put(w, "a", concurrency=1)
        w.release(first)
        assert arrival(w, "a") == []

    def test_pin_protects_at_once(self) -> None:
        w = world()
        ready(w, "a")
        put(w, "a", pinned=True)
        w.arrive("b", name="refused")
        assert w.ended == {"refused": "model_unavailable"}

    def test_pin_calls_off_a_drain_and_who_it_was_for_is_told(self) -> None:
        w = world(max_wait=1)
        ready(w, "a")
        w.arrive("a")
        waiting = w.arrive("b")
        w.wait(1)
        back = w.arrive("a")
        put(w, "a", pinned=True)
        assert w.effects[:2] == [Resume("a", 1), Grant(back, "a", 1)]
        assert w.ended == {waiting: "model_unavailable"}

    def test_priority_decides_from_now_on(self) -> None:
        w = world("a", "b", "c", models_max=2)
        ready(w, "a", "b")
        put(w, "b", priority=-1)
        assert arrival(w, "c") == [Stop("b", 1, StopReason.EVICTED, "c")]

    def test_models_own_queue_may_be_bounded(self) -> None:
        w = world()
        w.arrive("a")
        put(w, "a", queue_size=1)
        w.arrive("a", name="refused")
        assert w.ended == {"refused": "queue_full"}


class TestLimits:
    def test_more_places_start_who_waits(self) -> None:
        w = world()
        w.arrive("a")
        w.arrive("b")
        w.reconfigure(limits=limits(models_max=2))
        assert w.effects == [Start("b", 1)]

    def test_fewer_places_make_idle_ones_go(self) -> None:
        w = world("a", "b", "c", models_max=3)
        ready(w, "a", "b", "c")
        running = w.arrive("c")
        w.reconfigure(limits=limits(models_max=1))
        assert w.effects == [Stop(name, 1, StopReason.OVER_LIMIT) for name in "ab"]
        assert running in w.leases

    def test_smaller_budget_makes_idle_ones_go_and_refuses_who_does_not_fit(self) -> None:
        w = world(models_max=5, memory_budget=10)
        w.weigh("a", 6)
        w.weigh("b", 8)
        ready(w, "a")
        w.arrive("a")
        waiting = w.arrive("b")
        w.reconfigure(limits=limits(models_max=5, memory_budget=7))
        assert w.ended == {waiting: "model_out_of_memory"}
        assert w.phase == {"a": "ready"}

    def test_what_has_run_fits_alone_under_a_smaller_budget_and_is_not_forgotten_under_a_larger(self) -> None:
        w = world(models_max=5, memory_budget=10)
        w.weigh("b", 2)
        ready(w, "a")
        w.weigh("a", 9, measured=True)
        w.reconfigure(limits=limits(models_max=5, memory_budget=5))
        w.exit("a")
        assert arrival(w, "a", "r") == [Start("a", 2)]
        w.reconfigure(limits=limits(models_max=5, memory_budget=10))
        assert arrival(w, "b") == []

    def test_first_budget_counts_what_is_there_already(self) -> None:
        w = world(models_max=5)
        w.weigh("a", 6)
        w.weigh("b", 6)
        ready(w, "a", "b")
        w.reconfigure(limits=limits(models_max=5, memory_budget=10))
        assert w.effects == [Stop("a", 1, StopReason.OVER_LIMIT)]

    def test_shorter_queue_refuses_newcomers_only(self) -> None:
        w = world()
        kept = [w.arrive("a") for _ in range(3)]
        w.reconfigure(limits=limits(queue_size=1))
        assert set(w.waiting) == set(kept)
        w.arrive("a", name="refused")
        assert w.ended == {"refused": "queue_full"}

    def test_shorter_patience_drains_now(self) -> None:
        w = world(max_wait=100)
        ready(w, "a")
        w.arrive("a")
        w.arrive("b")
        w.now += 10
        w.reconfigure(limits=limits(max_wait=5))
        assert w.effects == [Drain("a", 1, StopReason.FAIRNESS, "b")]

    def test_breaker_rules_are_for_all_at_once(self) -> None:
        w = world()
        w.arrive("a")
        w.reconfigure(breaker=BreakerConfig(start_failures=1, open=33))
        w.exit("a")
        w.arrive("a")
        (effect,) = w.effects
        assert isinstance(effect, Reject)
        assert (effect.error.code, effect.error.retry_after) == ("model_unavailable", 33)
