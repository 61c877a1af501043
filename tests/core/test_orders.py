"""What people order of models and of the gateway, as scripts. For new configurations see `test_scheduler_reload`."""

from llamaproxy.core.events import Grant, Outcome, Resume, Start, Stop, StopReason
from tests.core.script import arrival, only, ready, refusal, world


class TestStart:
    """Of a model that nobody has asked a question."""

    def test_start_by_request_is_made_once(self) -> None:
        w = world()
        w.request_start("a")
        assert w.effects == [Start("a", 1)]
        for _ in range(2):
            w.request_start("a")
            assert w.effects == []
            if w.phase == {"a": "starting"}:
                w.become_ready("a")

    def test_start_by_request_makes_room_and_waits_its_turn(self) -> None:
        w = world()
        ready(w, "a")
        w.request_start("b")
        assert w.effects == [Stop("a", 1, StopReason.EVICTED, "b")]
        w.exit("a")
        assert w.effects == [Start("b", 1)]

    def test_start_requested_while_it_drains_is_answered_by_its_staying(self) -> None:
        w = world(max_wait=1)
        ready(w, "a")
        running = w.arrive("a")
        impatient = w.arrive("b")
        w.wait(1)
        w.request_start("a")
        w.leave(impatient)
        assert w.effects == [Resume("a", 1)]
        w.release(running)
        w.now += 1
        w.arrive("b")
        w.exit("a")
        assert w.effects == [Start("b", 1)], "nobody has asked for a since"

    def test_start_requested_while_it_stops_is_done_after_that(self) -> None:
        w = world()
        ready(w, "a")
        w.request_stop("a")
        w.request_start("a")
        w.exit("a")
        assert w.effects == [Start("a", 2)]

    def test_models_are_preloaded_in_order(self) -> None:
        w = world("a", "b", "c")
        for name in "cab":
            w.request_start(name)
        w.become_ready("c")
        assert only(w.effects) == Stop("c", 1, StopReason.EVICTED, "a")


class TestStop:
    def test_stop_waits_for_what_is_in_flight_and_rejects_what_is_queued(self) -> None:
        w = world(settings={"concurrency": 1})
        ready(w, "a")
        running, queued = w.arrive("a"), w.arrive("a")
        w.request_stop("a")
        assert w.ended[queued] == "model_unavailable"
        assert w.phase == {"a": "draining"}
        w.release(running)
        assert w.phase == {"a": "stopping"}

    def test_stop_ends_a_load_at_once(self) -> None:
        w = world()
        w.arrive("a")
        w.request_stop("a")
        assert w.phase == {"a": "stopping"}

    def test_stop_that_was_asked_for_is_not_called_off(self) -> None:
        w = world(max_wait=1)
        ready(w, "a")
        w.arrive("a")
        w.request_stop("a")
        w.leave(w.arrive("b"))
        assert w.phase == {"a": "draining"}

    def test_stop_of_a_model_that_is_gone_or_going_is_done_already(self) -> None:
        w = world(max_wait=0)
        for _ in range(2):
            w.request_stop("a")
            assert w.effects == []
        ready(w, "a")
        running = w.arrive("a")
        w.arrive("b")
        w.release(running)
        assert w.phase == {"a": "stopping"}
        w.request_stop("a")
        assert w.effects == []

    def test_stop_takes_back_a_wish_to_start(self) -> None:
        w = world()
        w.arrive("a")
        w.request_start("b")
        w.request_stop("b")
        w.become_ready("a")
        assert w.phase == {"a": "ready"}


class TestRestart:
    def test_restart_lets_requests_end_and_keeps_the_queue_for_the_new_process(self) -> None:
        w = world(settings={"concurrency": 1})
        ready(w, "a")
        running, queued = w.arrive("a"), w.arrive("a")
        w.request_restart("a")
        assert w.phase == {"a": "draining"}
        w.release(running)
        w.exit("a")
        assert w.effects == [Start("a", 2)]
        w.become_ready("a")
        assert w.effects == [Grant(queued, "a", 2)]

    def test_restart_comes_back_although_nobody_waits(self) -> None:
        w = world()
        ready(w, "a")
        w.request_restart("a")
        assert w.effects == [Stop("a", 1, StopReason.REQUESTED)]
        w.exit("a")
        assert w.effects == [Start("a", 2)]

    def test_restart_of_what_does_not_run_is_a_start(self) -> None:
        w = world()
        w.request_restart("a")
        assert w.effects == [Start("a", 1)]

    def test_restart_of_what_loads_begins_anew(self) -> None:
        w = world()
        waiting = w.arrive("a")
        w.request_restart("a")
        w.exit("a")
        assert w.effects == [Start("a", 2)]
        w.become_ready("a")
        assert w.effects == [Grant(waiting, "a", 2)]

    def test_nobody_is_restarted_at_the_end(self) -> None:
        w = world()
        ready(w, "a")
        w.begin_drain()
        w.request_restart("a")
        assert w.effects == []


class TestReset:
    def test_breaker_that_is_reset_lets_the_next_request_start_it(self) -> None:
        w = world()
        for _ in range(3):
            w.arrive("a")
            w.exit("a")
        assert refusal(arrival(w, "a"))[0] == "model_unavailable"
        w.reset_breaker("a")
        assert arrival(w, "a", "next") == [Start("a", 4)]


class TestGoingDown:
    def test_gateway_going_down_admits_nobody_and_lets_the_rest_end(self) -> None:
        w = world(settings={"concurrency": 1})
        ready(w, "a")
        running, queued = w.arrive("a"), w.arrive("a")
        w.begin_drain()
        assert refusal(arrival(w, "a"))[0] == "shutting_down"
        w.release(running)
        assert queued in w.leases
        w.arrive("b")
        w.shut_down()
        assert w.effects == [Stop("a", 1, StopReason.SHUTDOWN)]

    def test_gateway_going_down_starts_what_is_waited_for_and_nothing_else(self) -> None:
        w = world("a", "b", "c")
        ready(w, "a")
        running = w.arrive("a")
        w.arrive("b")
        w.begin_drain()
        w.request_start("c")
        assert w.effects == []
        w.release(running)
        w.exit("a")
        assert w.effects == [Start("b", 1)]

    def test_shutdown_rejects_who_still_waits(self) -> None:
        w = world()
        request = w.arrive("a")
        w.shut_down()
        assert w.ended[request] == "shutting_down"
        assert w.phase == {"a": "stopping"}
        w.exit("a")
        assert not w.phase, "nothing is started any more"

    def test_shutdown_stops_what_is_busy_or_loading_and_what_ends_late_is_heard(self) -> None:
        w = world("a", "b", "c", models_max=3)
        ready(w, "a")
        running = w.arrive("a")
        w.arrive("b")
        w.request_stop("b")
        w.arrive("c")
        w.shut_down()
        assert [effect for effect in w.effects if isinstance(effect, Stop)] == [
            Stop("a", 1, StopReason.SHUTDOWN),
            Stop("c", 1, StopReason.SHUTDOWN),
        ]
        w.shut_down()
        assert w.effects == []
        w.exit("a")
        w.release(running, Outcome.FAILURE)
        assert w.scheduler.wake_at is None
