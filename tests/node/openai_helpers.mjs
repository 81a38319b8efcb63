// What OpenAI's SDK for Node builds on a stream: {url, key, body, tools} in; the final completion and what was told, out.
//
// A tool is {name, parameters, result}; with tools, the SDK's own runner calls them until the model has answered.
import OpenAI from "openai";
import { answer } from "./asked.mjs";

await answer(async ({ url, key, body, tools = [] }) => {
  const client = new OpenAI({ baseURL: url, apiKey: key });
  const called = [];
  const runner = tools.length
    ? client.chat.completions.runTools({ ...body, stream: true, tools: tools.map((tool) => runnable(tool, called)) })
    : client.chat.completions.stream(body);
  let text = "";
  runner.on("content", (delta) => (text += delta));
  const completion = await runner.finalChatCompletion();
  return { completion, text, called, usage: await runner.totalUsage() };
});

function runnable({ name, parameters, result }, called) {
  const run = (input) => {
    called.push({ name, input });
    return result;
  };
  return { type: "function", function: { name, parameters, description: name, parse: JSON.parse, function: run } };
}
