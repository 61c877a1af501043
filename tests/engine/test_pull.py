"""A model of three shards that is pulled over a bad line answers a request."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import gguf
import pytest
from aiohttp import web

from tests.gateway import Client, GatewayProcess, Table
from tests.models.fakehub import REPOSITORY, FakeHub, broken


def split(model: Path, folder: Path, count: int) -> list[Path]:
    """As llama-gguf-split does it: all keys in the first shard, the tensors in all of them."""
    reader = gguf.GGUFReader(model)
    tensors = reader.tensors
    size = -(-len(tensors) // count)
    paths = []
    for number in range(count):
        path = folder / f"{model.stem}-{number + 1:05}-of-{count:05}.gguf"
        _write(path, reader, tensors[number * size : (number + 1) * size], number, count)
        paths.append(path)
    return paths


def _write(path: Path, reader: gguf.GGUFReader, tensors: Sequence[Any], number: int, count: int) -> None:
    writer = gguf.GGUFWriter(path, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items() if not number else ():
        if not name.startswith("GGUF.") and name != "general.architecture":
            inner = field.types[1] if len(field.types) > 1 else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    writer.add_uint16("split.no", number)
    writer.add_uint16("split.count", count)
    writer.add_int32("split.tensors.count", len(reader.tensors))
    for tensor in tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.timeout(300)
async def test_three_shards_over_a_line_that_breaks_twice(binary: str, model_file: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    shards = await asyncio.to_thread(split, model_file, made, 3)
    fake = FakeHub({f"Q4/{path.name}": path.read_bytes() for path in shards})
    breaks = {shards[0].name, shards[2].name}

    async def storage(path: str, request: web.Request) -> web.StreamResponse | None:
        name, content = path.rpartition("/")[2], fake.files[path]
        if name in breaks:
            breaks.remove(name)
            return await broken(request, content, 0, len(content) // 2, len(content))
        return None

    fake.storage = storage
    models = tmp_path / "models"
    models.mkdir()
    config: dict[str, Table] = {
        "engine": {"binary": binary, "args": ["--threads", "1", "--ctx-size", "512"]},
        "catalog": {"models_dir": str(models), "downloads": True},
    }
    async with fake.running():
        gateway = GatewayProcess(tmp_path, config, {"HF_ENDPOINT": fake.endpoint, "HF_HOME": str(tmp_path / "none")})
        async with gateway.running(), aiohttp.ClientSession() as session:
            client = Client(gateway, session)
            async with client.post("/api/deploy", {"repo": REPOSITORY, "name": "pulled"}) as response:
                assert response.status == 202, await response.text()
            async with session.get(gateway.url + "/api/deploy/stream") as events:
                assert b'"state":"done"' in (await events.read()).split(b"\n\n")[-3]
            status, answer = await client.chat("pulled", max_tokens=4)
            assert (status, answer["usage"]["completion_tokens"]) == (200, 4), gateway.log
    assert breaks == set()
    spans = sorted(int(span.removeprefix("bytes=").split("-")[0]) for span in fake.ranges())
    assert len(spans) == 5
    assert spans[:3] == [0, 0, 0]
    assert all(spans[3:])
