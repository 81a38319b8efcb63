// The clients of the matrix (../matrix): {client, cells, png, schema, result} in, what was told of each cell out.
//
// A cell is {url, key, model, feature, stream, prompt}; what is told of it {text, pieces, thoughts, called, value, counts},
// or {error}. `counts` are prompt, cached, completion and reasoning tokens of the last answer.
import { createAnthropic } from "@ai-sdk/anthropic";
import Anthropic from "@anthropic-ai/sdk";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, isStepCount, jsonSchema, Output, streamText, tool } from "ai";
import OpenAI from "openai";
import { answer } from "./asked.mjs";

const CITY = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
const AT_ONCE = 4;

const CLIENTS = {
  "node-openai": chat,
  "node-anthropic": messages,
  "ai-sdk-compatible": (cell, more) => {
    const settings = { name: "router", includeUsage: true, supportsStructuredOutputs: true };
    const provider = createOpenAICompatible({ ...settings, baseURL: `${cell.url}/v1`, apiKey: cell.key });
    return vercel(cell, more, provider, { router: { reasoningEffort: "low" } });
  },
  "ai-sdk-openai": (cell, more) => {
    const provider = createOpenAI({ baseURL: `${cell.url}/v1`, apiKey: cell.key });
    const reasoning = { reasoningEffort: "low", reasoningSummary: "auto", forceReasoning: true };
    return vercel(cell, more, provider, { openai: reasoning }, { openai: { store: false } });
  },
  "ai-sdk-anthropic": (cell, more) => {
    const provider = createAnthropic({ baseURL: `${cell.url}/v1`, apiKey: cell.key });
    const thinking = { thinking: { type: "enabled", budgetTokens: 1024 } };
    return vercel(cell, more, provider, { anthropic: thinking }, { anthropic: { structuredOutputMode: "outputFormat" } });
  },
};

await answer(async ({ client, cells, ...more }) => {
  const found = new Array(cells.length);
  const left = cells.keys();
  const worker = async () => {
    for (const at of left) found[at] = await CLIENTS[client](cells[at], more).catch(broken);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return found;
});

function broken(error) {
  return { error: `${error.name}: ${error.message} ${error.responseBody ?? ""}` };
}

// --- openai ----------------------------------------------------------------------------------------------------------

async function chat({ url, key, model, feature, stream, prompt }, { png, schema, result }) {
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });
  const image = { type: "image_url", image_url: { url: `data:image/png;base64,${png}` } };
  const content = feature === "vision" ? [{ type: "text", text: prompt }, image] : prompt;
  const body = { model, messages: [{ role: "user", content }] };
  if (feature === "reasoning") body.reasoning_effort = "low";
  if (feature === "structured") {
    body.response_format = { type: "json_schema", json_schema: { name: "City", strict: true, schema } };
  }
  if (stream) Object.assign(body, { stream: true, stream_options: { include_usage: true } });
  const told = { pieces: 0, thoughts: "", called: [] };
  const run = (input) => {
    told.called.push({ name: "weather", input });
    return result;
  };
  const { chat: { completions } } = client;
  const weather = { name: "weather", description: "Tells it.", parameters: CITY, parse: JSON.parse, function: run };
  const runner =
    feature === "tools"
      ? completions.runTools({ ...body, tools: [{ type: "function", function: weather }] })
      : stream
        ? completions.stream(body)
        : null;
  if (runner && stream) {
    runner.on("chunk", ({ choices: [choice] }) => {
      told.pieces += choice?.delta.content ? 1 : 0;
      told.thoughts += choice?.delta.reasoning_content ?? "";
    });
  }
  const completion = runner ? await runner.finalChatCompletion() : await completions.create(body);
  const { message } = completion.choices[0];
  if (!stream) told.thoughts = message.reasoning_content ?? "";
  const value = feature === "structured" ? JSON.parse(message.content) : null;
  const { usage } = completion;
  const [cached, reasoning] = [
    usage.prompt_tokens_details?.cached_tokens ?? 0,
    usage.completion_tokens_details?.reasoning_tokens ?? 0,
  ];
  return { ...told, text: message.content, value, counts: [usage.prompt_tokens, cached, usage.completion_tokens, reasoning] };
}

// --- anthropic -------------------------------------------------------------------------------------------------------

async function messages({ url, key, model, feature, stream, prompt }, { png, schema, result }) {
  const client = new Anthropic({ baseURL: url, apiKey: key, maxRetries: 0 });
  const content = [{ type: "text", text: prompt }];
  if (feature === "vision") {
    content.push({ type: "image", source: { type: "base64", media_type: "image/png", data: png } });
  }
  const body = { model, max_tokens: 4096, messages: [{ role: "user", content }], stream };
  if (feature === "reasoning") body.thinking = { type: "enabled", budget_tokens: 1024 };
  if (feature === "structured") body.output_config = { format: { type: "json_schema", schema } };
  const told = { pieces: 0, called: [] };
  const run = (input) => {
    told.called.push({ name: "weather", input });
    return result;
  };
  let message;
  if (feature === "tools") {
    const weather = { name: "weather", description: "Tells it.", input_schema: CITY, run, parse: (input) => input };
    message = await client.beta.messages.toolRunner({ ...body, tools: [weather] }).runUntilDone();
  } else if (stream) {
    const events = client.messages.stream(body);
    events.on("text", () => (told.pieces += 1));
    message = await events.finalMessage();
  } else {
    message = await client.messages.create(body);
  }
  const said = (type) => message.content.filter((block) => block.type === type).map((block) => block[type]).join("");
  const { usage } = message;
  const cached = usage.cache_read_input_tokens ?? 0;
  const prompted = usage.input_tokens + cached + (usage.cache_creation_input_tokens ?? 0);
  const counts = [prompted, cached, usage.output_tokens, usage.output_tokens_details?.thinking_tokens ?? 0];
  const value = feature === "structured" ? JSON.parse(said("text")) : null;
  return { ...told, text: said("text"), thoughts: said("thinking"), value, counts };
}

// --- Vercel's AI SDK -------------------------------------------------------------------------------------------------

async function vercel(cell, { png, schema, result }, provider, reasoning, always = {}) {
  const { model, feature, stream, prompt } = cell;
  const content = [{ type: "text", text: prompt }];
  if (feature === "vision") content.push({ type: "file", data: png, mediaType: "image/png" });
  const called = [];
  const execute = (input) => {
    called.push({ name: "weather", input });
    return result;
  };
  const call = {
    model: provider(model),
    messages: [{ role: "user", content }],
    maxRetries: 0,
    stopWhen: isStepCount(3),
    providerOptions: feature === "reasoning" ? merged(always, reasoning) : always,
  };
  if (feature === "tools") {
    call.tools = { weather: tool({ description: "Tells it.", inputSchema: jsonSchema(CITY), execute }) };
  }
  if (feature === "structured") call.output = Output.object({ schema: jsonSchema(schema), name: "City" });
  let pieces = 0;
  const errors = [];
  const done = stream ? streamText({ ...call, onError: ({ error }) => errors.push(error) }) : await generateText(call);
  if (stream) for await (const _ of done.textStream) pieces += 1;
  if (errors.length) throw errors[0];
  const usage = (await done.finalStep)?.usage ?? (await done.usage);
  const [cached, thought] = [usage.inputTokenDetails?.cacheReadTokens, usage.outputTokenDetails?.reasoningTokens];
  return {
    text: await done.text,
    pieces,
    thoughts: (await done.reasoningText) ?? "",
    called,
    value: feature === "structured" ? await done.output : null,
    counts: [usage.inputTokens, cached ?? 0, usage.outputTokens, thought ?? 0],
  };
}

function merged(always, more) {
  const names = new Set([...Object.keys(always), ...Object.keys(more)]);
  return Object.fromEntries([...names].map((name) => [name, { ...always[name], ...more[name] }]));
}
