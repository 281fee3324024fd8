// Uses the package as a program that installed it would: .ci/run copies this file into an empty
// project.
import { Log } from 'walmirror';

const log = await Log.open({ dir: './smoke-log' });
const lsn = log.append('hello');
const { level } = await log.commit(lsn);
let text = '';
for await (const batch of log.read({ live: false })) {
  for (const record of batch) text += record.data;
}
await log.close();
if (lsn !== 1 || level !== 'local' || text !== 'hello') {
  throw new Error(`unexpected: ${JSON.stringify({ lsn, level, text })}`);
}
console.log('the package works');
