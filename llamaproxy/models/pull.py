"""A whole model from the hub into the directory of models: all of it is there, or nothing that anybody sees.

Owns the layout: everything is gathered in the folder of `staging`, which no scan looks into, and the finished folder is
put into its place by one rename. Beside the model lies `.llamaproxy.json`, which says where it came from.
"""

import asyncio
import json
import os
import shutil
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llamaproxy.errors import Conflict, GatewayError, HubError
from llamaproxy.models.download import Download, Rules, check_disk, in_thread
from llamaproxy.models.hub import Hub
from llamaproxy.models.repository import HubFile, Selection
from llamaproxy.models.scan import scan
from llamaproxy.models.staging import STAGING, locked, sweep

ORIGIN = ".llamaproxy.json"
STREAMS = 3
"""Files of one model that are fetched at once."""
_LARGEST_ORIGIN = 1024**2
_WINDOW = 10.0
"""Seconds over which the speed is told."""


@dataclass(slots=True)
class Progress:
    """Bytes of each file that are here, by its name, and of all that are wanted."""

    total: int
    files: dict[str, int] = field(default_factory=dict)
    _marks: deque[tuple[float, int]] = field(default_factory=deque)

    @property
    def done(self) -> int:
        return sum(self.files.values())

    def note(self, name: str, size: int, now: float) -> None:
        """`now` is in seconds of a clock that does not go back."""
        self.files[name] = size
        self._marks.append((now, self.done))
        while len(self._marks) > 2 and self._marks[1][0] < now - _WINDOW:
            self._marks.popleft()

    def speed(self) -> float | None:
        """Bytes a second, of late."""
        if len(self._marks) < 2 or (seconds := self._marks[-1][0] - self._marks[0][0]) <= 0:
            return None
        return max(0.0, (self._marks[-1][1] - self._marks[0][1]) / seconds)


class Pull:
    """One model; `changed` is called whenever the progress is another."""

    def __init__(
        self,
        hub: Hub,
        selection: Selection,
        directory: Path,
        rules: Rules | None = None,
        streams: asyncio.Semaphore | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._hub = hub
        self.selection = selection
        self.progress = Progress(selection.size)
        self.place = directory / selection.name
        self._directory = directory
        self._staging = directory / STAGING / selection.name
        self._whole = self._staging / selection.name
        self._rules = rules or Rules()
        self._streams = streams or asyncio.Semaphore(STREAMS)
        self._changed = changed

    async def run(self) -> Path:
        """The model's folder. What there is of it stays where this is cancelled or fails.

        Raises Conflict where its place is taken or somebody pulls it now, DiskFull, HubError and its kind.
        """
        if await in_thread(self.is_there):
            self._tell_all()
            return self.place
        with locked(self._staging):
            await in_thread(sweep, self._directory)
            missing = await in_thread(self._prepare)
            await self._fetch(missing)
            await in_thread(self._put_in_place)
        return self.place

    def is_there(self) -> bool:
        """Whether exactly this is in its place. Raises Conflict where something else is. Blocks on the disk."""
        try:
            return self._is_there()
        except OSError as error:
            raise GatewayError(f"{self._directory} cannot be read: {error.strerror}") from error

    def _is_there(self) -> bool:
        if self.place.with_name(f"{self.place.name}.gguf").exists():
            raise Conflict(f"{self.place.name}.gguf is in the directory of models; give the model another name")
        if not self.place.exists() or is_bare(self.place):
            return False
        if _origin(self.place) == self._wanted() and all((self.place / file.name).is_file() for file in self._files):
            return True
        raise Conflict(f"there is another model in {self.place}; give this one another name, or remove that")

    @property
    def _files(self) -> tuple[HubFile, ...]:
        return self.selection.files

    def _wanted(self) -> dict[str, str]:
        return {file.name: file.sha256 for file in self._files}

    def _prepare(self) -> list[HubFile]:
        """Files that are still to be fetched; what is of no use any more is removed. Raises DiskFull."""
        try:
            self._whole.mkdir(parents=True, exist_ok=True)
            known, wanted = _origin(self._whole), self._wanted()
            useful = {f"{file.identity}.{kind}" for file in self._files for kind in ("part", "etag")}
            for entry in [*self._whole.iterdir(), *self._staging.iterdir()]:
                kept = entry.name in useful if entry.parent == self._staging else wanted.get(entry.name)
                if entry != self._whole and not (kept and (kept is True or kept == known.get(entry.name))):
                    _remove(entry)
            _write_origin(self._whole, self.selection)
            missing = [file for file in self._files if not (self._whole / file.name).exists()]
            here = sum(_size(self._staging / f"{file.identity}.part") for file in missing)
            check_disk(self._staging, sum(file.size for file in missing) - here, self._rules.margin)
        except OSError as error:
            raise GatewayError(f"{self._directory} cannot be written: {error.strerror}") from error
        for file in self._files:
            self.progress.files[file.name] = 0 if file in missing else file.size
        return missing

    async def _fetch(self, files: list[HubFile]) -> None:
        """Raises what the first that fails does; the others are stopped then."""
        try:
            async with asyncio.TaskGroup() as group:
                for file in files:
                    group.create_task(self._fetch_one(file), name=f"pull {file.name}")
        except BaseExceptionGroup as errors:  # one of them tells enough, and only that one has a status
            raise errors.exceptions[0] from errors

    async def _fetch_one(self, file: HubFile) -> None:
        def told(size: int) -> None:
            self.progress.note(file.name, size, time.monotonic())
            self._changed()

        async with self._streams:
            download = Download(self._hub, self.selection, file, self._rules, told)
            await download.run(self._staging, self._whole / file.name)

    def _put_in_place(self) -> None:
        """Raises HubError where no model has come of it, which stays for whoever wants to look."""
        found = scan(self._staging)
        if not any(model.name == self.selection.name for model in found.models):
            reason = found.problems[0].reason if found.problems else "it is not offered"
            raise HubError(f"what was downloaded is no model that could be served: {reason}; it is in {self._whole}")
        try:
            if is_bare(self.place):
                remove_bare(self.place)
            os.rename(self._whole, self.place)
            shutil.rmtree(self._staging, ignore_errors=True)
        except OSError as error:
            raise Conflict(f"{self.place} cannot be put in its place: {error.strerror}") from error

    def _tell_all(self) -> None:
        self.progress.files = {file.name: file.size for file in self._files}
        self._changed()


def is_bare(folder: Path) -> bool:
    """Whether nothing is left of a model but where it came from. Blocks on the disk."""
    try:
        return not folder.is_symlink() and [entry.name for entry in folder.iterdir()] == [ORIGIN]
    except OSError:
        return False  # no folder, or one that nobody may look into


def remove_bare(folder: Path) -> None:
    """Raises OSError."""
    (folder / ORIGIN).unlink()
    folder.rmdir()


def _origin(folder: Path) -> dict[str, str]:
    """Checksums by name, as they were written down; nothing where that cannot be read."""
    try:
        with (folder / ORIGIN).open("rb") as file:
            document: Any = json.loads(file.read(_LARGEST_ORIGIN))
        files = document["files"]
        return {str(name): str(files[name]) for name in files}
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return {}


def _write_origin(folder: Path, selection: Selection) -> None:
    files = {file.name: file.sha256 for file in selection.files}
    source = {"repository": selection.repository, "commit": selection.commit, "quantisation": selection.quantisation}
    draft = folder / f"{ORIGIN}.new"
    draft.write_text(json.dumps({"version": 1, **source, "files": files}, indent=2), "utf-8")
    os.replace(draft, folder / ORIGIN)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
