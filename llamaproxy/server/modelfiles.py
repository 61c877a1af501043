"""Files of models that clients name: which may be served, and which may be deleted.

Owns the law that neither ever concerns a file outside `catalog.models_dir`, whatever links lead there. Blocks on the
disk: call it in a thread.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from llamaproxy.errors import Conflict, InvalidModelFile, InvalidRequest
from llamaproxy.modelconfig import ModelConfig
from llamaproxy.models import gguf
from llamaproxy.models.catalogue import Model
from llamaproxy.models.estimate import files
from llamaproxy.models.pull import is_bare, remove_bare
from llamaproxy.models.scan import Scan
from llamaproxy.server.loaded import Loaded


def chosen(file: str, loaded: Loaded) -> dict[str, str]:
    """Path, and projector where one lies beside it, of a file in the directory. Raises InvalidRequest or Conflict."""
    root = _root(loaded)
    if not file.isprintable() or Path(file).is_absolute() or ".." in Path(file).parts:
        raise _refused("must be a path inside catalog.models_dir, without .. and control characters")
    path = (root / file).absolute()
    if not _is_inside(path, root):
        raise _refused("there is no such file inside catalog.models_dir; links that lead out of it are not followed")
    if not path.is_file() or path.suffix != ".gguf":
        raise _refused("is no GGUF file: its name ends in .gguf")
    _check_model(path)
    mmproj = _projector(path, loaded.found)
    return {"path": str(path), **({"mmproj": mmproj} if mmproj else {})}


def deletable(model: Model, loaded: Loaded, running: Iterable[str]) -> list[Path]:
    """All files of a model, if they are nobody else's. Raises Conflict.

    Models that a scan made of the same files go with them, unless they are among the `running`.
    """
    root = _root(loaded)
    owned = _files(model.config, loaded.found)
    if outside := [path for path in owned if not _is_inside(path, root)]:
        raise Conflict(f"{outside[0].name} does not lie inside catalog.models_dir: it is not deleted")
    for other in _others(model, owned, loaded):
        if other.source == "configured" or other.name in running:
            raise Conflict(f"{other.name} uses the same file: it is not deleted")
    return owned


def delete(paths: Iterable[Path], loaded: Loaded) -> None:
    """Raises Conflict where one cannot be. A folder in which no more is left than a pull's note goes, too."""
    for path in paths:
        try:
            path.unlink(missing_ok=True)
            if path.parent != _root(loaded).absolute():
                _tidy(path.parent)
        except OSError as error:
            raise Conflict(f"{path.name} cannot be deleted: {error.strerror}") from error


def _tidy(folder: Path) -> None:
    """Else the name of a model that was pulled could not be pulled again."""
    if is_bare(folder):
        remove_bare(folder)
    elif not any(folder.iterdir()):
        folder.rmdir()


def _root(loaded: Loaded) -> Path:
    if (directory := loaded.config.catalog.models_dir) is None:
        raise Conflict("catalog.models_dir is not set: there is no directory to take files from")
    return Path(directory)


def _is_inside(path: Path, root: Path) -> bool:
    """Where it really lies. A link that goes in circles is a RuntimeError before Python 3.13."""
    try:
        return path.resolve(strict=True).is_relative_to(root.resolve(strict=True))
    except (OSError, RuntimeError, ValueError):
        return False


def _check_model(path: Path) -> None:
    try:
        info = gguf.read(path)
    except (InvalidModelFile, OSError) as error:
        raise _refused(f"cannot be read: {error}") from error
    if info.kind != "model":
        raise _refused(f"is no model but: {info.kind:.50}")
    if not info.complete:
        raise _refused("is not complete")


def _projector(path: Path, found: Scan) -> str | None:
    twin = next((model for model in found.models if model.path.absolute() == path), None)
    return str(twin.mmproj.absolute()) if twin and twin.mmproj else None


def _files(config: ModelConfig, found: Scan) -> list[Path]:
    """The draft model among them, where a scan has seen one."""
    own = [path.absolute() for path in files(config)]
    twin = next((model for model in found.models if own and model.path.absolute() == own[0]), None)
    return list(dict.fromkeys([*own, *(path.absolute() for path in (twin.files if twin else ()))]))


def _others(model: Model, owned: list[Path], loaded: Loaded) -> Iterator[Model]:
    real = {path.resolve() for path in owned}
    for other in loaded.catalogue.models.values():
        if other.name != model.name and not real.isdisjoint(path.resolve() for path in files(other.config)):
            yield other


def _refused(reason: str) -> InvalidRequest:
    return InvalidRequest(f"file: {reason}", param="file")
