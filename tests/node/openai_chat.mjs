// OpenAI's SDK for Node, as a user makes it: {url, key, body} in; a completion, or the chunks of a stream, out.
import OpenAI from "openai";
import { answer } from "./asked.mjs";

await answer(async ({ url, key, body, settings }) => {
  const client = new OpenAI({ baseURL: url, apiKey: key, ...settings });
  const { data, request_id } = await client.chat.completions.create(body).withResponse();
  if (!body.stream) return { completion: data, request_id };
  const chunks = [];
  try {
    for await (const chunk of data) chunks.push(chunk);
  } catch ({ name, message, code, error }) {
    return { chunks, request_id, error: { name, message, code, body: error } };
  }
  return { chunks, request_id };
});
