// Uses the package as a program that installed it would: .ci/run copies this file into an empty
// project.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Log } from 'walmirror';
import { exportMetrics } from 'walmirror/prometheus';
import { MemoryStore, memoryReferee } from 'walmirror/referee';

const log = await Log.open({ dir: './smoke-log' });
const lsn = log.append('hello');
const { level } = await log.commit(lsn);
let text = '';
for await (const batch of log.read({ live: false })) {
  for (const record of batch) text += record.data;
}
// What a registry of prom-client is asked for, and what the schema in the package promises.
const metrics = new Map();
const registry = {
  registerMetric: (metric) => void metrics.set(metric.name, metric),
  getSingleMetric: (name) => metrics.get(name),
  removeSingleMetric: (name) => void metrics.delete(name),
};
exportMetrics(log, { registry });
if (metrics.size === 0) throw new Error('no metrics');
const schemaFile = createRequire(import.meta.url).resolve('walmirror/status.schema.json');
const { required } = JSON.parse(readFileSync(schemaFile, 'utf8')).$defs.log;
const missing = required.filter((name) => !(name in log.status()));
if (required.length === 0 || missing.length > 0) throw new Error(`no ${missing} in the status`);
await log.close();

// With a referee it is the primary, and says who granted that.
const referee = memoryReferee({ store: new MemoryStore() });
const refereed = await Log.open({ dir: './smoke-refereed', name: 'smoke', referee });
await refereed.appendAndCommit('granted');
const { lease } = refereed.status().referee;
await refereed.close();
if (lease !== 'held') throw new Error(`the lease is ${lease}`);

if (lsn !== 1 || level !== 'local' || text !== 'hello') {
  throw new Error(`unexpected: ${JSON.stringify({ lsn, level, text })}`);
}

// What this takes of Node is not the same in all versions.
const dir = mkdtempSync(join(tmpdir(), 'walmirror-smoke-'));
try {
  // A log in a thread of its own, whose file has to be in the package, and one more that attaches.
  const threaded = await Log.open({ dir: join(dir, 'threads'), replicationThread: 'worker' });
  const attached = await Log.attach(threaded.handle);
  const lsns = [threaded.append('from here'), attached.append('and here')];
  const reached = await attached.commit();
  await attached.close();
  const texts = [];
  for await (const { data } of threaded.createReadStream({ live: false })) texts.push(`${data}`);
  await threaded.close();
  if (`${lsns}` !== '1,2' || reached.lsn !== 2 || `${texts}` !== 'from here,and here') {
    throw new Error(`unexpected: ${JSON.stringify({ lsns, reached, texts })}`);
  }

  // Two nodes over TLS, and a stranger.
  const [keyFile, certFile] = [join(dir, 'key'), join(dir, 'cert')];
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
  const names = ['-subj', '/CN=smoke', '-addext', 'subjectAltName=DNS:a,DNS:b,DNS:c'];
  const out = ['-keyout', keyFile, '-out', certFile];
  execFileSync('openssl', ['req', '-x509', ...kind, ...names, ...out], { stdio: 'pipe' });
  const [key, cert] = [readFileSync(keyFile), readFileSync(certFile)];
  const tls = { key, cert, ca: cert, allow: ['a', 'b'] };
  const secret = 'thirty-two bytes, or a few more of them';
  const listen = { port: 0, tls, secret };
  const group = { synchronousStandbys: 'ANY 1 (*)', segmentBytes: 262144, maxRecordBytes: 65536 };
  const a = await Log.open({ dir: join(dir, 'a'), listen, ...group });
  const refused = new Promise((resolve) => a.on('refused', ({ reason }) => resolve(reason)));
  const { port } = a.status().listening;
  const b = await Log.open({ dir: join(dir, 'b'), follow: { port, tls, secret } });
  for (let i = 0; i < 50; i++) {
    await a.drain(60_008);
    a.append(Buffer.alloc(60_000, i));
  }
  const { standbys } = await a.commit();
  const stranger = await Log.open({ dir: join(dir, 'c'), follow: { port, tls, secret } }).catch(
    (error) => error.code,
  );
  const found = { standbys, stranger, reason: await refused };
  await b.close();
  await a.close();
  const isAsExpected = `${standbys}` === 'b' && stranger === 'WAL_AUTH_FAILED';
  if (!isAsExpected) throw new Error(`unexpected: ${JSON.stringify(found)}`);
} finally {
  rmSync(dir, { recursive: true, force: true });
}
console.log('the package works');
