// Vercel's AI SDK, as a user makes it: {provider, url, key, model, prompt, stream, tools, settings} in; what it made of the
// answer out.
//
// `provider` is "openai-compatible" (POST {url}/chat/completions), "openai" (POST {url}/responses), or "anthropic"
// (POST {url}/messages). A tool is {name, parameters, result}; it is called, and the model asked again, up to three times.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, isStepCount, jsonSchema, streamText, tool } from "ai";
import { answer } from "./asked.mjs";

const PROVIDERS = {
  "openai-compatible": ({ url, key }) =>
    createOpenAICompatible({ name: "router", baseURL: url, apiKey: key, includeUsage: true }),
  openai: ({ url, key }) => createOpenAI({ baseURL: url, apiKey: key }),
  anthropic: ({ url, key }) => createAnthropic({ baseURL: url, apiKey: key }),
};

await answer(async (asked) => {
  const called = [];
  const call = {
    model: PROVIDERS[asked.provider](asked)(asked.model),
    prompt: asked.prompt,
    tools: Object.fromEntries((asked.tools ?? []).map((each) => [each.name, runnable(each, called)])),
    stopWhen: isStepCount(3),
    ...asked.settings,
  };
  return { ...(await told(await (asked.stream ? streamed(call) : generateText(call)))), called };
});

async function streamed(call) {
  const errors = [];
  const result = streamText({ ...call, onError: ({ error }) => errors.push(error) });
  await result.consumeStream();
  if (errors.length) throw errors[0];
  return result;
}

async function told(result) {
  const steps = (await result.steps).map((step) => step.finishReason);
  const [text, reasoning] = [await result.text, await result.reasoningText];
  return { text, reasoning, finishReason: await result.finishReason, usage: await result.usage, steps };
}

function runnable({ name, parameters, result }, called) {
  const execute = (input) => {
    called.push({ name, input });
    return result;
  };
  return tool({ description: name, inputSchema: jsonSchema(parameters), execute });
}
