"""What a repository of the Hugging Face hub offers: quantisations, each with its files, and projectors.

Pure. Owns what a name may be: everything here was written by strangers, and some of it becomes names of files. What
cannot be used is told as a problem, and never offered.
"""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llamaproxy import values
from llamaproxy.errors import InvalidRequest, RepositoryNotFound

DEFAULT = "Q4_K_M"
"""What is taken where nobody says, as by llama-server's `-hf`."""
MOST_FILES = 10_000
_MOST_SHARDS = 1000
_LARGEST = 2**53
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_REPOSITORY = re.compile(rf"{_PART}/{_PART}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHARD = re.compile(r"(?P<base>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
_QUANTISATION = re.compile(
    r"(?<![A-Z0-9])(?:UD-)?(?:I?Q\d(?:_[A-Z0-9]+)*|TQ\d_\d|BF16|FP?16|FP?32|MXFP4(?:_MOE)?)(?![A-Z0-9])", re.IGNORECASE
)
_FORBIDDEN = frozenset('<>:"|?*\\')
"""Not to be had in names of files on every platform; `:` opens a second stream of one, `\\` is a slash."""
_LEFT_ALONE = ("imatrix", "mtp-", "dspark-", "dflash-")
_PROJECTORS = ("f16", "bf16", "q8_0")
"""Which is taken, the best first."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """`path` as the hub spells it, `size` in bytes."""

    path: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def identity(self) -> str:
        """Of this content under this name; two files may be alike."""
        return hashlib.sha256(f"{self.sha256} {self.name}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Quantisation:
    """One model: its only file, or all of its shards in order. `base` is what their names have in common."""

    name: str
    base: str
    files: tuple[HubFile, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True)
class Repository:
    """As it is at one commit, the smallest quantisation first; `problems` say what is not offered, and why."""

    name: str
    commit: str
    quantisations: tuple[Quantisation, ...] = ()
    projectors: tuple[HubFile, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def projector(self) -> HubFile | None:
        """The one that is taken where nobody says."""

        def rank(file: HubFile) -> int:
            words = re.split(r"[-.]", file.name.lower())
            return next((at for at, word in enumerate(_PROJECTORS) if word in words), len(_PROJECTORS))

        return min(self.projectors, key=rank, default=None)


@dataclass(frozen=True, slots=True)
class Selection:
    """What is to be downloaded, and the name that the model gets."""

    repository: str
    commit: str
    quantisation: str
    name: str
    files: tuple[HubFile, ...] = field(repr=False)

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def check_repository(name: str) -> str:
    """Raises InvalidRequest."""
    if not _REPOSITORY.fullmatch(name) or ".." in name or "--" in name:
        raise InvalidRequest(
            f"{name!r:.200} is not the name of a repository such as Qwen/Qwen3-0.6B-GGUF", param="repo"
        )
    return name


def check_revision(revision: str) -> str:
    """Raises InvalidRequest."""
    if not _REVISION.fullmatch(revision) or ".." in revision or "//" in revision:
        raise InvalidRequest(f"{revision!r:.200} is not a branch, tag or commit", param="revision")
    return revision


def check_model_name(name: str) -> str:
    """A model's name that can be a folder's as well. Raises InvalidRequest."""
    try:
        values.check_model_name(name)
        if "/" in name or ":" in name or name.endswith("."):
            raise ValueError("a folder has this name, so that / and : and a dot at its end are not possible")
    except ValueError as error:
        raise InvalidRequest(f"name: {error}", param="name") from error
    return name


def read_repository(name: str, document: object) -> Repository:
    """The hub's description of a repository with all its files. Raises ValueError where it is none."""
    if not isinstance(document, dict) or not isinstance(document.get("siblings"), list):
        raise ValueError("it does not describe a repository")
    commit = document.get("sha")
    if not isinstance(commit, str) or not re.fullmatch(r"[0-9a-f]{40,64}", commit):
        raise ValueError("it names no commit")
    problems: list[str] = []
    if len(document["siblings"]) > MOST_FILES:
        problems.append(f"only the first {MOST_FILES} files are looked at")
    files = list(_files(document["siblings"][:MOST_FILES], problems))
    projectors = tuple(file for file in files if "mmproj" in file.name)
    models = [f for f in files if "mmproj" not in f.name and not any(mark in f.name.lower() for mark in _LEFT_ALONE)]
    quantisations = _named(_groups(models, problems))
    return Repository(name, commit, quantisations, projectors, tuple(problems))


def choose(repository: Repository, quantisation: str | None, name: str | None, projector: bool = True) -> Selection:
    """A quantisation by its name, in any case, or that of its file. Raises RepositoryNotFound or InvalidRequest."""
    found = _found(repository, quantisation)
    companions = (repository.projector,) if projector and repository.projector else ()
    return _selection(repository, found, companions, name)


def choose_files(repository: Repository, paths: Sequence[str], name: str | None) -> Selection:
    """The quantisation that these files are, and maybe a projector. Raises RepositoryNotFound or InvalidRequest."""
    wanted = set(paths)
    projectors = tuple(file for file in repository.projectors if file.path in wanted)
    models = wanted - {file.path for file in projectors}
    for quantisation in repository.quantisations:
        if models == {file.path for file in quantisation.files} and len(projectors) < 2:
            return _selection(repository, quantisation, projectors, name)
    known = {file.path for each in repository.quantisations for file in each.files}
    if strange := sorted(models - known):
        raise RepositoryNotFound(f"{repository.name} offers no file {strange[0]!r:.200}", param="files")
    raise InvalidRequest("files: all files of one model are needed, and one projector at most", param="files")


def _selection(
    repository: Repository, found: Quantisation, companions: tuple[HubFile, ...], name: str | None
) -> Selection:
    files = (*found.files, *companions)
    if len({file.name.casefold() for file in files}) < len(files):
        raise InvalidRequest(f"two files of {found.name} have the same name", param="files")
    model = check_model_name(name if name is not None else _model_name(found.base))
    return Selection(repository.name, repository.commit, found.name, model, files)


def _found(repository: Repository, wanted: str | None) -> Quantisation:
    offered = repository.quantisations
    if not offered:
        reason = f": {repository.problems[0]}" if repository.problems else ""
        raise RepositoryNotFound(f"{repository.name} offers no GGUF model{reason}")
    if wanted is None and len(offered) == 1:
        return offered[0]
    name = (wanted or DEFAULT).casefold()
    for quantisation in offered:
        if name in {quantisation.name.casefold(), quantisation.base.casefold(), quantisation.files[0].path.casefold()}:
            return quantisation
    names = ", ".join(each.name for each in offered)
    if wanted is None:
        raise InvalidRequest(f"{repository.name} has no {DEFAULT}; say which of these: {names}", param="quant")
    raise RepositoryNotFound(f"{repository.name} has no {wanted!r:.100}; there are: {names}", param="quant")


def _files(siblings: Iterable[object], problems: list[str]) -> Iterator[HubFile]:
    """GGUF files that can be used."""
    for sibling in siblings:
        path = sibling.get("rfilename") if isinstance(sibling, Mapping) else None
        if not isinstance(sibling, Mapping) or not isinstance(path, str) or not path.lower().endswith(".gguf"):
            continue
        size, sha256 = _size_and_sum(sibling)
        fault = _fault(path)
        if not fault and (size is None or sha256 is None):
            fault = "the hub tells no size or no checksum of it"
        if fault or size is None or sha256 is None:
            problems.append(f"{ascii(path)[1:-1][:200]}: {fault}")
        else:
            yield HubFile(path, size, sha256)


def _size_and_sum(sibling: Mapping[Any, Any]) -> tuple[int | None, str | None]:
    """Of what is kept by its checksum (LFS); nothing of other files."""
    lfs = sibling.get("lfs")
    size, sha256 = (lfs.get("size"), lfs.get("sha256")) if isinstance(lfs, Mapping) else (None, None)
    good_size = type(size) is int and 0 < size <= _LARGEST
    good_sum = isinstance(sha256, str) and _SHA256.fullmatch(sha256)
    return size if good_size else None, sha256 if good_sum else None


def _fault(path: str) -> str | None:
    """Why a path is not one that can be used."""
    parts = path.split("/")
    if not path.isprintable() or not _FORBIDDEN.isdisjoint(path):
        return "its name has characters that names of files do not have everywhere"
    if any(part in ("", ".", "..") or part != part.strip() for part in parts):
        return "it is not a path below the repository"
    if any(len(part.encode()) > 255 - len(".gguf") for part in parts) or len(path) > 1024:
        return "its name is too long"
    if parts[-1].startswith((".", "-")):
        return "its name begins with a dot or a dash"
    if not path.endswith(".gguf"):
        return "its name does not end in .gguf, in small letters"
    return None


Group = tuple[str, tuple[HubFile, ...]]


def _groups(files: Sequence[HubFile], problems: list[str]) -> Iterator[Group]:
    """What belongs together, with the base of its names."""
    shards: dict[tuple[str, str, int], dict[int, HubFile]] = defaultdict(dict)
    for file in files:
        if match := _SHARD.fullmatch(file.name):
            folder = file.path.removesuffix(file.name)
            shards[folder, match["base"], int(match["count"])][int(match["number"])] = file
        else:
            yield file.name.removesuffix(".gguf"), (file,)
    for (folder, base, count), numbered in shards.items():
        if not 0 < count <= _MOST_SHARDS or set(numbered) != set(range(1, count + 1)):
            problems.append(f"{folder}{base}: {len(numbered)} of {count} shards are there")
        else:
            yield base, tuple(numbered[number] for number in range(1, count + 1))


def _named(groups: Iterable[Group]) -> tuple[Quantisation, ...]:
    """By the quantisation that their names tell, as long as that tells one from the others."""
    listed = list(groups)
    labels = [_label(base, files) for base, files in listed]
    counts = Counter(labels)
    names = [label if counts[label] == 1 else base for label, (base, _) in zip(labels, listed, strict=True)]
    paths = Counter(names)
    found = (
        Quantisation(name if paths[name] == 1 else files[0].path, base, files)
        for name, (base, files) in zip(names, listed, strict=True)
    )
    return tuple(sorted(found, key=lambda each: (each.size, each.name)))


def _label(base: str, files: Sequence[HubFile]) -> str:
    told = _QUANTISATION.findall(base) or _QUANTISATION.findall(files[0].path.removesuffix(files[0].name))
    return told[-1].upper() if told else base


def _model_name(base: str) -> str:
    return re.sub(r"[^A-Za-z0-9._+@-]+", "-", base).lstrip("._+@-").rstrip(".")[:128] or "model"
