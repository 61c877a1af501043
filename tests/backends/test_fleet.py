"""llamaproxy.backends.fleet: lives from their launch to the end of all, whoever decides about them."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable

import pytest

from llamaproxy.backends.fleet import Fleet
from llamaproxy.backends.orphans import RunDirectory
from llamaproxy.backends.spawn import Spawn
from llamaproxy.core.events import BackendExited, BackendReady, StopReason
from llamaproxy.core.footprint import Footprint
from llamaproxy.errors import EngineMissing, ModelStartFailed
from llamaproxy.tasks import spawn
from tests.backends.processes import PATIENCE, until, within
from tests.backends.puppets import Puppet, turn

MIB = 1024**2


class Yard:
    """A fleet of puppets, and what it has told."""

    def __init__(self, run: RunDirectory) -> None:
        self.puppets: list[Puppet] = []
        self.reports: list[BackendReady | BackendExited] = []
        self.weights: list[tuple[str, Footprint]] = []
        self.launch: Callable[[str, int], Spawn] = lambda model, number: Puppet(model, number, run)
        self.then: Callable[[], None] = lambda: None
        self.fleet = Fleet(self._launch, self._report, lambda *weight: self.weights.append(weight))

    def _launch(self, model: str, number: int) -> Spawn:
        life = self.launch(model, number)
        assert isinstance(life, Puppet)
        self.puppets.append(life)
        return life

    def _report(self, event: BackendReady | BackendExited) -> None:
        self.reports.append(event)
        self.then()

    async def start(self, model: str = "a", number: int = 1) -> Puppet:
        self.fleet.start(model, number)
        await within(PATIENCE, self.puppets[-1].begun.wait())
        return self.puppets[-1]

    async def ended(self, model: str) -> None:
        await until(lambda: model not in self.fleet.lives)


@pytest.fixture
async def yard(run_directory: RunDirectory) -> AsyncIterator[Yard]:
    made = Yard(run_directory)
    yield made
    made.fleet.kill()
    await within(PATIENCE, made.fleet.ended())
    await turn()


async def test_what_is_started_is_there_until_its_end_and_both_are_reported(yard: Yard) -> None:
    puppet = await yard.start("a", 7)
    assert yard.fleet.lives == {"a": puppet}
    puppet.ready()
    puppet.die("it broke")
    await yard.ended("a")
    ready, exited = yard.reports
    assert ready == BackendReady("a", 7)
    assert isinstance(exited, BackendExited)
    assert (exited.model, exited.spawn, str(exited.error)) == ("a", 7, "it broke")


async def test_when_its_end_is_reported_its_place_is_free_for_the_next(yard: Yard) -> None:
    first = await yard.start("a", 1)
    yard.then = lambda: yard.fleet.start("a", 2)
    first.die()
    await until(lambda: len(yard.puppets) == 2)
    yard.then = lambda: None
    assert yard.fleet.lives == {"a": yard.puppets[1]}


class TestLaunchThatFails:
    async def test_its_reason_is_that_of_an_end_which_is_reported_afterwards(self, yard: Yard) -> None:
        def launch(model: str, number: int) -> Spawn:
            raise EngineMissing("install it")

        yard.launch = launch
        yard.fleet.start("a", 3)
        assert (yard.reports, yard.fleet.lives) == ([], {})
        await turn()
        [exited] = yard.reports
        assert isinstance(exited, BackendExited)
        assert (exited.model, exited.spawn, str(exited.error)) == ("a", 3, "install it")

    async def test_a_bug_is_no_excuse_for_saying_nothing(self, yard: Yard, caplog: pytest.LogCaptureFixture) -> None:
        def launch(model: str, number: int) -> Spawn:
            raise LookupError("a bug")

        yard.launch = launch
        yard.fleet.start("a", 3)
        await turn()
        [exited] = yard.reports
        assert isinstance(exited, BackendExited)
        assert isinstance(exited.error, ModelStartFailed)
        assert (exited.spawn, str(exited.error)) == (3, "a: a bug")
        assert "a: cannot be prepared" in caplog.text


class TestWeight:
    async def test_it_is_told_of_a_process_that_is_ready(self, yard: Yard) -> None:
        puppet = await yard.start()
        puppet.process = os.getpid()
        await turn()
        assert yard.weights == []
        puppet.ready()
        await until(lambda: yard.weights)
        [(model, footprint)] = yard.weights
        assert model == "a"
        assert footprint.ram > MIB

    async def test_what_has_no_process_here_has_none(self, yard: Yard) -> None:
        puppet = await yard.start()
        before = asyncio.all_tasks()
        puppet.ready()
        assert asyncio.all_tasks() == before


class TestTheEnd:
    async def test_one_is_stopped_and_no_other(self, yard: Yard) -> None:
        one, other = await yard.start("a"), await yard.start("b")
        yard.fleet.stop("a", StopReason.REQUESTED)
        await yard.ended("a")
        assert (one.asked, other.asked, list(yard.fleet.lives)) == (["stop"], [], ["b"])

    async def test_what_is_gone_is_not_stopped(self, yard: Yard) -> None:
        puppet = await yard.start("a")
        puppet.die()
        await yard.ended("a")
        yard.fleet.stop("a", StopReason.REQUESTED)
        await turn()
        assert puppet.asked == []

    async def test_killing_is_for_all(self, yard: Yard) -> None:
        puppets = [await yard.start(model) for model in "ab"]
        for puppet in puppets:
            puppet.stubborn = True
        yard.fleet.kill()
        await within(PATIENCE, yard.fleet.ended())
        assert [puppet.asked for puppet in puppets] == [["kill"], ["kill"]]

    async def test_every_one_is_waited_for(self, yard: Yard) -> None:
        puppets = [await yard.start(model) for model in "abc"]
        ending = spawn(yard.fleet.ended(), name="ended")
        for puppet in puppets:
            await turn()
            assert not ending.done()
            puppet.die()
        await within(PATIENCE, ending)

    async def test_where_nothing_runs_there_is_nothing_to_wait_for(self, yard: Yard) -> None:
        await within(PATIENCE, yard.fleet.ended())

    async def test_a_process_that_nothing_ends_is_left_behind_and_told(
        self, yard: Yard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        puppet = await yard.start()
        puppet.process = 12
        monkeypatch.setattr(Spawn, "longest_stop", 0.05)
        await within(PATIENCE, yard.fleet.ended())
        assert "a: process 12 does not end" in caplog.text
        assert puppet.asked == []
