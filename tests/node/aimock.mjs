// The protocol mock on a free loopback port: prints its URL, and serves until its standard input ends.
//
// Its journal tells a request as it understood it, in OpenAI's words whatever the dialect. What really came is told here
// as well: GET /__received lists it, DELETE /__received forgets it.
import { createServer } from "@copilotkit/aimock";

const RECEIVED = "/__received";
let received = [];

const { server, url } = await createServer([], { port: 0, host: "127.0.0.1", logLevel: "silent", chunkSize: 5 });
const [serve] = server.listeners("request");
server.removeAllListeners("request");
server.on("request", (request, response) => {
  if (request.url === RECEIVED) {
    if (request.method === "DELETE") received = [];
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify(received));
    return;
  }
  if (!request.url.startsWith("/__aimock/")) note(request);
  serve(request, response);
});

function note(request) {
  const parts = [];
  const { method, url: path, rawHeaders } = request;
  received.push({ toJSON: () => ({ method, path, rawHeaders, body: Buffer.concat(parts).toString("base64") }) });
  const push = request.push;
  request.push = function (part, encoding) {
    if (part !== null) parts.push(Buffer.from(part, encoding));
    return push.call(this, part, encoding);
  };
}

console.log(url);
process.stdin.on("end", () => process.exit()).resume();
