// An HTTP service over the key-value store: PUT answers when the change is durable, and SIGTERM ends
// it as an orchestrator wants it: no new requests, the running ones answered, the log flushed.
//
//   node examples/http-service.mjs DIR [PORT]
//   curl -X PUT --data 42 http://127.0.0.1:8080/answer && curl http://127.0.0.1:8080/answer
import { once } from 'node:events';
import { createServer } from 'node:http';
import { KeyValueStore } from './key-value.mjs';

const MAX_BODY_BYTES = 64 * 1024;
/** Docker kills after 10 s: what has not been answered by then is cut off. */
const STOP_MS = 8000;

async function bodyOf(request) {
  const chunks = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

async function handle(store, request, response) {
  const key = decodeURIComponent(new URL(request.url, 'http://localhost').pathname.slice(1));
  if (request.method === 'GET') {
    const value = store.get(key);
    return value === undefined ? response.writeHead(404).end() : response.end(value);
  }
  if (request.method !== 'PUT') return response.writeHead(405, { allow: 'GET, PUT' }).end();
  const value = await bodyOf(request);
  if (value === undefined) return response.writeHead(413, { connection: 'close' }).end();
  const lsn = await store.set(key, value);
  return response.end(`record ${lsn}\n`);
}

/** Refused: surely not done, try again. Unknown: perhaps done, and a PUT may be repeated. */
function fail(response, error) {
  console.error(error.message);
  if (response.headersSent) return response.destroy();
  const status = error instanceof URIError ? 400 : 503;
  return response.writeHead(status).end(error.outcome ?? '');
}

const [dir, port = '8080'] = process.argv.slice(2);
if (dir === undefined) throw new TypeError('say the directory of the store');
const store = await KeyValueStore.open({ dir });
const server = createServer((request, response) => {
  handle(store, request, response).catch((error) => fail(response, error));
});
server.listen(Number(port), '127.0.0.1');
await once(server, 'listening');
console.log(`serving on port ${server.address().port}`);

for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, stop);

async function stop(signal) {
  console.log(`${signal}: stopping`);
  const cut = setTimeout(() => server.closeAllConnections(), STOP_MS);
  server.close(); // Takes no new connections, and ends those that are idle.
  await once(server, 'close');
  clearTimeout(cut);
  await store.close();
  console.log('stopped');
}
