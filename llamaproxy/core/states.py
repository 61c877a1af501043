"""The life of a backend as a table.

Every rule about which state may follow which stands here; an illegal move raises, because it is a bug
of the scheduler and never a fault of the world.
"""

from enum import StrEnum


class BackendState(StrEnum):
    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"


READY, STOPPED = BackendState.READY, BackendState.STOPPED
"""For those who ask with every request: a member is found ten times as fast by a name of its own."""

_TRANSITIONS: dict[BackendState, frozenset[BackendState]] = {
    BackendState.STOPPED: frozenset({BackendState.STARTING}),
    BackendState.STARTING: frozenset({BackendState.READY, BackendState.STOPPING, BackendState.STOPPED}),
    BackendState.READY: frozenset({BackendState.DRAINING, BackendState.STOPPING, BackendState.STOPPED}),
    BackendState.DRAINING: frozenset({BackendState.READY, BackendState.STOPPING, BackendState.STOPPED}),
    BackendState.STOPPING: frozenset({BackendState.STOPPED}),
}


class IllegalTransition(RuntimeError):
    """The scheduler asked for a move that the table does not have."""


def transition(current: BackendState, target: BackendState) -> BackendState:
    """Return `target` if it may follow `current`, else raise IllegalTransition."""
    if target not in _TRANSITIONS[current]:
        raise IllegalTransition(f"{current} -> {target}")
    return target


def is_live(state: BackendState) -> bool:
    """Whether a backend in this state has, or may have, a process and so counts towards `models_max`."""
    return state is not BackendState.STOPPED
