"""What an edit may say: types of bodies, made of the configuration's own keys.

Their types, bounds and meanings are those of `config`, and which keys there are says `edits`. Null takes an edit back.
Owns nothing else.
"""

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, create_model, field_validator

from llamaproxy import edits
from llamaproxy.config import Config
from llamaproxy.modelconfig import ModelConfig
from llamaproxy.values import ModelName, Name


class _Edit(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation not in (bool, bool | None):
            raise ValueError(f"must not be {str(value).lower()}")
        return value


def _fields(kind: type[BaseModel], keys: Iterable[str]) -> dict[str, Any]:
    """Each of these keys, or null."""
    found: dict[str, Any] = {}
    for key in keys:
        field = kind.model_fields[key]
        annotation: Any = field.annotation
        bounded = Annotated[annotation, *field.metadata] if field.metadata else annotation
        found[key] = (bounded | None, Field(None, description=field.description))
    return found


def _section(name: str) -> type[BaseModel]:
    kind = type(getattr(Config(), name))
    return create_model(f"{kind.__name__}Edit", __base__=_Edit, **_fields(kind, edits.SECTIONS[name]))


_SECTIONS: dict[str, Any] = {name: (_section(name), Field({}, validate_default=True)) for name in edits.SECTIONS}

ConfigEdit: type[BaseModel] = create_model("ConfigEdit", __base__=_Edit, **_SECTIONS)
"""Sections with their keys; only what is named is changed."""

ModelEdit: type[BaseModel] = create_model("ModelEdit", __base__=_Edit, **_fields(ModelConfig, edits.MODEL))
"""Settings of one model."""


class _Source(_Edit):
    name: ModelName = Field(description="what clients ask for")
    file: Name | None = Field(None, max_length=1000, description="path of its GGUF file inside catalog.models_dir")
    bundled: bool = Field(False, description="serve the file that comes with the embedded engine instead")


NewModel: type[BaseModel] = create_model("NewModel", __base__=_Source, **_fields(ModelConfig, edits.MODEL))
"""A model to be made; `file` or `bundled` says of what."""
SOURCE = tuple(_Source.model_fields)
"""The keys of a new model that are no settings."""
