// The same as smoke.mjs by `require`: the package has no top-level await.
const { Log, WalError } = require('walmirror');

async function main() {
  const log = await Log.open({ dir: './smoke-log-required' });
  const { lsn, level } = await log.appendAndCommit('hello');
  await log.close();
  if (typeof WalError !== 'function' || level !== 'local') throw new Error(`${lsn}, ${level}`);
  console.log('the package works by require');
}

main();
