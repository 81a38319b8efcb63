// A script's question on standard input, as JSON, and its answer on standard output: what was returned, or what was thrown.
import { json } from "node:stream/consumers";

export async function answer(question) {
  let found;
  try {
    found = await question(await json(process.stdin));
  } catch (error) {
    found = { error: told(error) };
  }
  console.log(JSON.stringify(found));
}

function told(error) {
  const { name, message, status, code, type, param, requestID, statusCode, isRetryable, responseBody } = error;
  return { name, message, status, code, type, param, requestID, statusCode, isRetryable, responseBody };
}
