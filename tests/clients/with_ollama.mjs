// ollama for Node, at the port for it. Says what tests/clients/check.py says.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

// The package lives in this client's own environment, not beside this file.
const require = createRequire(pathToFileURL(`${process.env.CLIENTS_ENVIRONMENT}/`));
const { Ollama } = require("ollama");
const { CLIENTS_URL: url, CLIENTS_OLLAMA: host, CLIENTS_MODEL: model, CLIENTS_VECTORS: vectors, CLIENTS_KEY: key } = process.env;
const client = (key) => new Ollama({ host, headers: { Authorization: `Bearer ${key}` } });
const ours = client(key);
const messages = [{ role: "user", content: "Say hello." }];
const options = { num_predict: 8 };
const weather = { type: "object", properties: { city: { type: "string", enum: ["Paris", "Rome"] } }, required: ["city"] };

const assert = (condition, what) => {
  if (!condition) throw new Error(what);
};

const refused = async (status, action) => {
  try {
    await action();
  } catch (error) {
    if (error.status_code === status) return error;
    throw error;
  }
  throw new Error(`${status} was not raised`);
};

const checks = {
  async models() {
    const { models } = await ours.list();
    assert(models.map((one) => one.name).includes(model), JSON.stringify(models));
    const { capabilities } = await ours.show({ model });
    await ours.ps();
    return `list, show, ps; ${capabilities.join(", ")}`;
  },
  async chat() {
    const answer = await ours.chat({ model, messages, options });
    assert(answer.message.content && answer.eval_count <= 8, JSON.stringify(answer));
    const { response } = await ours.generate({ model, prompt: "Say hello.", options });
    assert(response, "generate");
    return "chat, generate";
  },
  async stream() {
    let pieces = 0;
    let last;
    for await (const part of await ours.chat({ model, messages, options, stream: true })) {
      pieces += part.message.content ? 1 : 0;
      last = part;
    }
    assert(pieces > 1 && last.done, pieces);
    return "chat";
  },
  async tools() {
    const tools = [{ type: "function", function: { name: "weather", parameters: weather } }];
    const calls = (await ours.chat({ model, messages, options, tools })).message.tool_calls ?? [];
    assert(calls.every((call) => call.function.name === "weather"), JSON.stringify(calls));
    const shaped = await ours.chat({ model, messages, options: { num_predict: 40 }, format: weather });
    assert(["Paris", "Rome"].includes(JSON.parse(shaped.message.content).city), shaped.message.content);
    return `${calls.length ? "called" : "accepted, not called"}; format`;
  },
  async embeddings() {
    const { embeddings } = await ours.embed({ model: vectors, input: ["one", "two"] });
    assert(embeddings.length === 2 && embeddings[1].some((value) => value !== 0), "no vectors");
    return `${embeddings[0].length} dimensions`;
  },
  async errors() {
    await refused(404, () => ours.chat({ model: "no-such-model", messages }));
    await refused(401, () => client("sk-wrong").list());
    return "ResponseError with 404, 401";
  },
  async cancel() {
    const stream = await ours.chat({ model, messages, options: { num_predict: 2000 }, stream: true });
    for await (const _ of stream) {
      stream.abort();
      break;
    }
    const headers = { Authorization: `Bearer ${key}` };
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
const own = `${process.env.CLIENTS_ENVIRONMENT}/node_modules/ollama/package.json`;
tell({ version: JSON.parse(readFileSync(own)).version });
for (const [check, run] of Object.entries(checks)) {
  try {
    tell({ check, result: "yes", remark: await run() });
  } catch (error) {
    console.error(error);
    tell({ check, result: "NO", remark: `${error.name}: ${error.message}`.slice(0, 300) });
  }
}
