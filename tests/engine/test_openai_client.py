"""What users do: the openai package, pointed at the gateway, with a real model behind it."""

import asyncio

import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam

from tests.gateway import Client, chat_body

HELLO: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "Say hello."}]


async def test_chat_completion(sdk: openai.AsyncOpenAI) -> None:
    answer = await sdk.chat.completions.create(model="alpha", messages=HELLO, max_tokens=12, temperature=0)
    assert answer.choices[0].message.content
    assert answer.usage
    assert 0 < answer.usage.completion_tokens <= 12
    again = await sdk.chat.completions.create(model="gpt-4o-mini", messages=HELLO, max_tokens=12, temperature=0)
    assert again.choices[0].message.content == answer.choices[0].message.content, "an alias is the same model"


async def test_chat_stream_comes_in_pieces_and_ends(sdk: openai.AsyncOpenAI) -> None:
    stream = await sdk.chat.completions.create(
        model="alpha", messages=HELLO, max_tokens=12, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    pieces, usage = [], None
    async for chunk in stream:
        pieces += [choice.delta.content for choice in chunk.choices if choice.delta.content]
        usage = chunk.usage or usage
    assert len(pieces) > 1
    assert usage
    assert usage.completion_tokens <= 12


async def test_completions_and_responses(sdk: openai.AsyncOpenAI) -> None:
    completion = await sdk.completions.create(model="alpha", prompt="Once upon a time", max_tokens=8)
    assert completion.choices[0].text
    response = await sdk.responses.create(model="alpha", input="Say hello.", max_output_tokens=16)
    assert response.output_text


async def test_embeddings_as_the_model_allows(sdk: openai.AsyncOpenAI) -> None:
    vectors = await sdk.embeddings.create(model="vectors", input=["one", "two"])
    assert [len(item.embedding) for item in vectors.data] == [576, 576]
    with pytest.raises(openai.InternalServerError) as refused:
        await sdk.embeddings.create(model="alpha", input="one")
    assert refused.value.status_code == 501


async def test_errors_are_the_ones_the_package_knows(sdk: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        await sdk.chat.completions.create(model="alpa", messages=HELLO)
    assert missing.value.code == "model_not_found"
    assert "alpha" in missing.value.message
    with pytest.raises(openai.BadRequestError) as too_long:
        await sdk.completions.create(model="alpha", prompt="one two three " * 1000, max_tokens=4)
    assert "context size" in too_long.value.message, "the engine's own errors pass as they are"


async def test_models_are_listed_without_loading_any(sdk: openai.AsyncOpenAI, client: Client) -> None:
    listed = [model async for model in sdk.models.list()]
    assert [model.id for model in listed] == ["alpha", "beta", "vectors", "junk", "odd", "gone"]
    assert (await sdk.models.retrieve("alpha")).id == "alpha"
    assert not client.gateway.children()


async def test_two_models_that_do_not_fit_take_turns(sdk: openai.AsyncOpenAI, client: Client) -> None:
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, len(client.gateway.children()))
            await asyncio.sleep(0.005)

    watching = asyncio.create_task(watch())  # noqa: TID251 - a test has no use for tasks.spawn
    for model in ("alpha", "beta", "alpha", "beta"):
        answer = await sdk.chat.completions.create(model=model, messages=HELLO, max_tokens=4)
        assert answer.model == model
    watching.cancel()
    assert most == 1


async def test_herd_of_first_requests_starts_one_process(client: Client) -> None:
    body = {"model": "alpha", "content": "one two three"}

    async def ask() -> int:
        async with client.post("/tokenize", body) as response:
            return response.status

    assert set(await asyncio.gather(*(ask() for _ in range(200)))) == {200}
    assert (await client.model("alpha"))["starts"] == 1
    assert len(client.gateway.children()) == 1


async def test_own_routes_of_the_engine(client: Client) -> None:
    async with client.post("/tokenize", {"model": "alpha", "content": "one two"}) as response:
        tokens = (await response.json())["tokens"]
    async with client.post("/detokenize", {"model": "alpha", "tokens": tokens}) as response:
        assert (await response.json())["content"] == "one two"
    async with client.post("/completion?model=alpha", {"prompt": "Once", "n_predict": 4}) as response:
        assert (await response.json())["timings"]["predicted_n"] == 4
    assert len(await client.get("/slots?model=alpha")) == 2
    assert (await client.get("/props?model=alpha"))["total_slots"] == 2
    assert (await client.get("/upstream/alpha/health"))["status"] == "ok"
    async with client.session.get(client.gateway.url + "/upstream/alpha/metrics") as response:
        assert "llamacpp:prompt_tokens_total" in await response.text()


async def test_anthropic_messages_and_token_counts(client: Client) -> None:
    body = {**chat_body("alpha"), "max_tokens": 8}
    async with client.post("/v1/messages", body) as response:
        answer = await response.json()
        assert answer["type"] == "message"
    async with client.post("/v1/messages/count_tokens", body) as response:
        assert (await response.json())["input_tokens"] == answer["usage"]["input_tokens"]
    async with client.post("/v1/messages", {**body, "model": "nobody"}) as response:
        assert (await response.json())["type"] == "error"


async def test_client_that_leaves_a_stream_frees_its_slot(client: Client) -> None:
    async with client.stream("alpha", max_tokens=1500) as response:
        await response.content.readline()
    for _ in range(100):
        if not any(slot["is_processing"] for slot in await client.get("/slots?model=alpha")):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the slot is still busy")


async def test_bad_model_files_are_told_and_disturb_nobody(client: Client) -> None:
    assert (await client.chat("alpha", max_tokens=1))[0] == 200
    pid = (await client.model("alpha"))["pid"]
    status, body = await client.chat("junk")
    assert (status, body["error"]["code"]) == (503, "model_start_failed")
    assert "ends too early" in body["error"]["message"]
    status, body = await client.chat("gone")
    assert (status, body["error"]["code"]) == (503, "model_start_failed")
    assert "gone.gguf does not exist" in body["error"]["message"]
    assert (await client.model("alpha"))["pid"] == pid, "nobody is evicted for a file that is no model"


async def test_model_that_only_the_engine_can_refuse_is_told_in_its_words(client: Client) -> None:
    status, body = await client.chat("odd")
    assert (status, body["error"]["code"]) == (503, "model_start_failed")
    assert "failed to load model" in body["error"]["detail"]
    assert (await client.chat("alpha", max_tokens=1))[0] == 200
