"""The models in a directory, by the folder rules of llama-server's `--models-dir`.

Owns these rules: a `NAME.gguf` is a model, and so is a folder NAME with one model in it, alone or in shards, and
maybe a projector (`mmproj` anywhere in the file's name) and a draft model (`mtp-`, `dspark-` or `dflash-` before it).
Where llama-server would list what cannot be loaded, or take one file of several as the directory happens to be
sorted, a problem is told instead. Starts nothing, changes nothing, remembers nothing.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from llamaproxy.errors import InvalidModelFile
from llamaproxy.models.gguf import GgufInfo, read
from llamaproxy.values import check_model_name

MOST_ENTRIES = 10_000
"""Of the directory; a tenth of it of every folder."""
_SUFFIX = ".gguf"
_SHARD = re.compile(r"(?P<base>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
_DRAFTS = ("mtp-", "dspark-", "dflash-")

Signature = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class FoundModel:
    """`path` is what the engine is given: the only file, or the first shard.

    `files` are all of the model's: the shards in order, then projector and draft model; `infos` belong to them, and
    `size` is that of all, in bytes. `signature` is equal as long as no file changes: path, size and time of change
    (ns) of each.
    """

    name: str
    path: Path
    files: tuple[Path, ...]
    mmproj: Path | None
    draft: Path | None
    size: int
    infos: tuple[GgufInfo, ...] = field(repr=False)
    signature: Signature = field(repr=False)

    @property
    def info(self) -> GgufInfo:
        return self.infos[0]


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something is no model here; `entry` is its path inside the directory, fit to be shown."""

    entry: str
    reason: str


@dataclass(frozen=True, slots=True)
class Scan:
    """Models in the order of their names."""

    models: tuple[FoundModel, ...] = ()
    problems: tuple[Problem, ...] = ()


class _Unusable(Exception):
    """Says why; the entry at fault is the path."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(reason)
        self.path = path
        self.reason = reason


@dataclass(slots=True)
class _Folder:
    """The files of one directory that may be a model's, sorted."""

    path: Path
    singles: list[str] = field(default_factory=list)
    shards: dict[tuple[str, int], dict[int, str]] = field(default_factory=dict)
    projectors: list[str] = field(default_factory=list)
    drafts: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        if "mmproj" in name:
            self.projectors.append(name)
        elif name.startswith(_DRAFTS):
            self.drafts.append(name)
        elif shard := _SHARD.fullmatch(name):
            self.shards.setdefault((shard["base"], int(shard["count"])), {})[int(shard["number"])] = name
        else:
            self.singles.append(name)


Outcome = FoundModel | _Unusable


def scan(directory: Path, before: Scan | None = None) -> Scan:
    """What the directory holds now. Blocks on the disk: call it in a thread. Never raises.

    Files that are as they were in `before` are not read again.
    """
    known = {model.signature: model for model in before.models} if before else {}
    models: dict[str, FoundModel] = {}
    problems: list[Problem] = []
    for outcome in _outcomes(directory, known):
        if isinstance(outcome, FoundModel) and (other := models.get(outcome.name)):
            outcome = _Unusable(outcome.path, f"the name {outcome.name} is already that of {other.path.name}")
        if isinstance(outcome, FoundModel):
            models[outcome.name] = outcome
        else:
            problems.append(Problem(_shown(directory, outcome.path), outcome.reason))
    return Scan(tuple(models[name] for name in sorted(models)), tuple(problems))


def _outcomes(directory: Path, known: Mapping[Signature, FoundModel]) -> Iterator[Outcome]:
    root, folders, faults = _listed(directory, MOST_ENTRIES)
    yield from faults
    for name in root.singles:
        yield _model(_stem(name), directory, [name], (None, None), known)
    for key in root.shards:
        yield _sharded(None, root, key, (None, None), known)
    for name in (*root.projectors, *root.drafts):
        yield _Unusable(directory / name, "belongs in a folder with its model")
    for name in folders:
        yield from _folder(directory / name, known)


def _listed(directory: Path, most: int) -> tuple[_Folder, list[str], list[_Unusable]]:
    """What may be a model's files, the folders, and what is neither although its name says so."""
    files, folders, faults = _Folder(directory), [], []
    try:
        with os.scandir(directory) as listing:
            entries = list(islice(listing, most + 1))
    except OSError as error:
        return files, [], [_Unusable(directory, f"cannot be listed: {error.strerror}")]
    if len(entries) > most:
        return files, [], [_Unusable(directory, f"has more than {most} entries")]
    for entry in sorted(entries, key=lambda entry: entry.name):
        if _is_folder(entry):
            folders += [] if entry.name.startswith(".") else [entry.name]
        elif entry.name.lower().endswith(_SUFFIX):
            if fault := _fault(entry):
                faults.append(_Unusable(directory / entry.name, fault))
            else:
                files.add(entry.name)
    return files, folders, faults


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _fault(entry: os.DirEntry[str]) -> str | None:
    """Why a file of this name is left alone."""
    try:
        os.stat(entry.path)
        if not entry.is_file():
            return "is not a regular file"
    except OSError as error:
        return f"cannot be reached: {error.strerror}"
    if entry.name.startswith("."):
        return "is hidden"
    if not entry.name.endswith(_SUFFIX):
        return "does not end in .gguf, in small letters"
    return None


def _folder(path: Path, known: Mapping[Signature, FoundModel]) -> Iterator[Outcome]:
    """The one model of a folder, which has the folder's name."""
    files, _, faults = _listed(path, MOST_ENTRIES // 10)
    yield from faults
    companions = next(iter(files.projectors), None), next(iter(files.drafts), None)
    models = [*(files.shards or files.singles)]
    if len(models) > 1:
        names = ", ".join(key if isinstance(key, str) else key[0] for key in models)
        yield _Unusable(path, f"holds several models, and no name for each: {names:.200}")
    elif files.shards:
        yield _sharded(path.name, files, next(iter(files.shards)), companions, known)
    elif files.singles:
        yield _model(path.name, path, files.singles, companions, known)
    elif not faults:
        yield _Unusable(path, "holds no model; folders within it are not searched")
    unused = [*files.projectors[1:], *files.drafts[1:], *(files.singles if files.shards else [])]
    yield from (_Unusable(path / name, "is not used: another file of its kind is") for name in unused)


def _sharded(
    name: str | None,
    files: _Folder,
    key: tuple[str, int],
    companions: Sequence[str | None],
    known: Mapping[Signature, FoundModel],
) -> Outcome:
    shards, count = files.shards[key], key[1]
    missing = next((number for number in range(1, count + 1) if number not in shards), None)
    if missing or len(shards) != count or not count:
        first = files.path / shards[min(shards)]
        return _Unusable(first, f"shard {missing} of {count} is missing" if missing else "its shards are miscounted")
    names = [shards[number] for number in range(1, count + 1)]
    return _model(name or _stem(names[0]), files.path, names, companions, known)


def _stem(name: str) -> str:
    return name.replace(_SUFFIX, "")


def _model(
    name: str,
    folder: Path,
    names: Sequence[str],
    companions: Sequence[str | None],
    known: Mapping[Signature, FoundModel],
) -> Outcome:
    """The model in files of these names, the first shard first; `companions` are its projector and its draft model."""
    mmproj, draft = (folder / companion if companion else None for companion in companions)
    files = [folder / file for file in names]
    everything = [*files, *(path for path in (mmproj, draft) if path)]
    try:
        _check_names(name, everything)
        signature = _signature(everything)
        if model := known.get(signature):
            return model
        infos = [_whole(path) for path in everything]
        _check_shards(files, infos)
    except ValueError as error:
        return _Unusable(files[0], f"cannot be offered under its name: {error}")
    except _Unusable as fault:
        return fault
    size = sum(info.file_size for info in infos)
    return FoundModel(name, files[0], tuple(everything), mmproj, draft, size, tuple(infos), signature)


def _check_names(name: str, files: Sequence[Path]) -> None:
    check_model_name(name)
    for path in files:
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise ValueError("it is not UTF-8") from None


def _signature(files: Sequence[Path]) -> Signature:
    return tuple((str(path), *_size_and_time(path)) for path in files)


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise _Unusable(path, f"cannot be reached: {error.strerror}") from error
    return status.st_size, status.st_mtime_ns


def _whole(path: Path) -> GgufInfo:
    try:
        info = read(path)
    except InvalidModelFile as error:
        raise _Unusable(path, error.message) from error
    if not info.complete:
        raise _Unusable(path, f"is incomplete: {info.file_size} of {info.data_end} bytes are there")
    return info


def _check_shards(files: Sequence[Path], infos: Sequence[GgufInfo]) -> None:
    """Raises _Unusable where the first of `infos` is not a model, or the shards are not its shards."""
    model = infos[0]
    if model.kind != "model" or model.architecture in ("", "clip"):
        raise _Unusable(files[0], f"is no language model but: {model.kind} {model.architecture}".rstrip()[:200])
    for number, (path, info) in enumerate(zip(files, infos, strict=False)):
        if (info.split_no, info.split_count) != (number, len(files)):
            raise _Unusable(path, f"says that it is shard {info.split_no + 1} of {info.split_count}")
    if not any(info.parameters for info in infos[: len(files)]):
        raise _Unusable(files[0], "has no tensors")


def _shown(directory: Path, path: Path) -> str:
    text = str(path.relative_to(directory))
    return text if text.isprintable() else ascii(text)[1:-1]
