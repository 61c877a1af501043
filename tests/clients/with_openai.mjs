// openai for Node. Says what tests/clients/check.py says.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

// The package lives in this client's own environment, not beside this file.
const require = createRequire(pathToFileURL(`${process.env.CLIENTS_ENVIRONMENT}/`));
const OpenAI = require("openai");
const { CLIENTS_URL: url, CLIENTS_MODEL: model, CLIENTS_VECTORS: vectors, CLIENTS_KEY: apiKey } = process.env;
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "Say hello." }];
const weather = { type: "object", properties: { city: { type: "string", enum: ["Paris", "Rome"] } }, required: ["city"] };

const assert = (condition, what) => {
  if (!condition) throw new Error(what);
};

const raised = async (expected, action) => {
  try {
    await action();
  } catch (error) {
    if (error instanceof expected) return error;
    throw error;
  }
  throw new Error(`${expected.name} was not raised`);
};

const checks = {
  async models() {
    const names = [];
    for await (const one of client.models.list()) names.push(one.id);
    assert(names.includes(model), names);
    assert((await client.models.retrieve(model)).id === model, "retrieve");
    return "list, retrieve";
  },
  async chat() {
    const answer = await client.chat.completions.create({ model, messages, max_tokens: 8 });
    assert(answer.choices[0].message.content && answer.usage.completion_tokens <= 8, JSON.stringify(answer));
    const response = await client.responses.create({ model, input: "Say hello.", max_output_tokens: 16 });
    assert(response.output_text, JSON.stringify(response));
    return "chat, responses";
  },
  async stream() {
    let pieces = 0;
    for await (const chunk of await client.chat.completions.create({ model, messages, max_tokens: 8, stream: true }))
      pieces += chunk.choices[0]?.delta.content ? 1 : 0;
    assert(pieces > 1, pieces);
    return "chat";
  },
  async tools() {
    const tools = [{ type: "function", function: { name: "weather", parameters: weather } }];
    const asked = { model, messages, max_tokens: 8, tools, tool_choice: "required" };
    const calls = (await client.chat.completions.create(asked)).choices[0].message.tool_calls ?? [];
    assert(calls.every((call) => call.function.name === "weather"), JSON.stringify(calls));
    return calls.length ? "called" : "accepted, not called";
  },
  async embeddings() {
    const { data } = await client.embeddings.create({ model: vectors, input: ["one", "two"] });
    assert(data.length === 2 && data[1].embedding.some((value) => value !== 0), "no vectors");
    return `${data[0].embedding.length} dimensions`;
  },
  async errors() {
    const missing = { model: "no-such-model", messages };
    const error = await raised(OpenAI.NotFoundError, () => client.chat.completions.create(missing));
    assert(error.code === "model_not_found", error.code);
    const stranger = new OpenAI({ baseURL: `${url}/v1`, apiKey: "sk-wrong", maxRetries: 0 });
    await raised(OpenAI.AuthenticationError, () => stranger.models.list());
    return "NotFoundError, AuthenticationError";
  },
  async cancel() {
    const stream = await client.chat.completions.create({ model, messages, max_tokens: 2000, stream: true });
    for await (const _ of stream) break; // leaving the loop aborts the request
    const headers = { Authorization: `Bearer ${apiKey}` };
    for (const end = Date.now() + 30_000; Date.now() < end; await new Promise((done) => setTimeout(done, 100))) {
      const { requests } = await (await fetch(`${url}/api/requests?limit=1`, { headers })).json();
      if (requests[0].state === "in_flight") continue;
      assert(requests[0].state === "client_abort", requests[0].state);
      return `after ${requests[0].completion_tokens} tokens`;
    }
    throw new Error("the gateway goes on with it");
  },
};

const tell = (line) => console.log(JSON.stringify(line));
const own = `${process.env.CLIENTS_ENVIRONMENT}/node_modules/openai/package.json`;
tell({ version: JSON.parse(readFileSync(own)).version });
for (const [check, run] of Object.entries(checks)) {
  try {
    tell({ check, result: "yes", remark: await run() });
  } catch (error) {
    console.error(error);
    tell({ check, result: "NO", remark: `${error.name}: ${error.message}`.slice(0, 300) });
  }
}
