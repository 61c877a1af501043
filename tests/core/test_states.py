"""The table of transitions."""

import itertools

import pytest

from llamaproxy.core.states import BackendState, IllegalTransition, is_live, transition

S = BackendState
LEGAL = {
    (S.STOPPED, S.STARTING),
    (S.STARTING, S.READY),
    (S.STARTING, S.STOPPING),
    (S.STARTING, S.STOPPED),
    (S.READY, S.DRAINING),
    (S.READY, S.STOPPING),
    (S.READY, S.STOPPED),
    (S.DRAINING, S.READY),
    (S.DRAINING, S.STOPPING),
    (S.DRAINING, S.STOPPED),
    (S.STOPPING, S.STOPPED),
}


@pytest.mark.parametrize(("current", "target"), sorted(itertools.product(S, S)))
def test_exactly_the_legal_moves_are_allowed(current: BackendState, target: BackendState) -> None:
    if (current, target) in LEGAL:
        assert transition(current, target) is target
    else:
        with pytest.raises(IllegalTransition, match=f"{current} -> {target}"):
            transition(current, target)


def test_everything_but_stopped_has_a_process() -> None:
    assert [state for state in S if not is_live(state)] == [S.STOPPED]
