/**
 * `node:cluster`: one process owns the log, since a directory has one owner; the workers serve HTTP
 * and send it what they would append. A request is answered when its record is committed.
 * `node examples/cluster.mjs [WORKERS] [REQUESTS]` serves that many requests and ends.
 */
import cluster from 'node:cluster';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Log } from 'walmirror';

/** In the primary of the cluster: appends what workers send, and answers each with its LSN. */
function serveAppends(log) {
  cluster.on('message', (worker, { id, data }) => {
    append(log, data).then(
      (lsn) => answer(worker, { id, lsn }),
      ({ code, message, outcome }) => answer(worker, { id, error: { code, message, outcome } }),
    );
  });
}

async function append(log, data) {
  while (log.needsDrain) await log.drain();
  const lsn = log.append(data);
  await log.commit(lsn);
  return lsn;
}

/** A worker that has gone is told nothing: its record is in the log all the same. */
function answer(worker, message) {
  if (worker.isConnected()) worker.send(message, () => undefined);
}

/** In a worker: a function that appends by way of the owner. */
function remoteAppend() {
  const waiting = new Map();
  let nextId = 1;
  process.on('message', ({ id, lsn, error }) => {
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (error === undefined) resolve(lsn);
    else reject(Object.assign(new Error(error.message), error));
  });
  process.on('disconnect', () => {
    // It may be in the log or not.
    const gone = Object.assign(new Error('the owner of the log has gone'), { outcome: 'unknown' });
    for (const { reject } of waiting.values()) reject(gone);
  });
  return (data) =>
    new Promise((resolve, reject) => {
      const id = nextId++;
      waiting.set(id, { resolve, reject });
      process.send({ id, data });
    });
}

async function own(workers, requests) {
  const dir = mkdtempSync(join(tmpdir(), 'walmirror-cluster-'));
  const log = await Log.open({ dir: join(dir, 'log') });
  serveAppends(log);
  const ports = await Promise.all(
    Array.from({ length: workers }, () => {
      cluster.fork();
      return new Promise((resolve) => cluster.once('listening', (_, { port }) => resolve(port)));
    }),
  );
  const lsns = await Promise.all(
    Array.from({ length: requests }, async (_, i) => {
      const body = `request ${i}`;
      const url = `http://127.0.0.1:${ports[i % ports.length]}/`;
      return Number(await (await fetch(url, { method: 'POST', body })).text());
    }),
  );
  await new Promise((resolve) => cluster.disconnect(resolve));
  let found = 0;
  for await (const batch of log.read({ live: false })) found += [...batch].length;
  console.log(
    `${requests} requests to ${workers} workers: ${new Set(lsns).size} LSNs, ${found} records`,
  );
  await log.close();
  rmSync(dir, { recursive: true });
}

function serve() {
  const append = remoteAppend();
  const server = createServer((request, response) => {
    const chunks = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => {
      append(Buffer.concat(chunks).toString()).then(
        (lsn) => response.end(`${lsn}`),
        ({ message }) => response.writeHead(503).end(message),
      );
    });
  });
  server.listen({ host: '127.0.0.1', port: 0 });
}

if (cluster.isPrimary) await own(Number(process.argv[2] ?? 2), Number(process.argv[3] ?? 200));
else serve();
