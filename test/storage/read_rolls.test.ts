import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { expect, it } from 'vitest';
import { freshDir } from '../helpers/temp.js';

/**
 * In a process of its own: a reader that spins at a segment's end would take the whole run with it.
 */
it('reading goes on from segment to segment, in the ring and on disk', () => {
  const script = `
    import { Log } from ${JSON.stringify(resolve('dist/index.js'))};
    const dir = ${JSON.stringify(freshDir())};
    for (let life = 0; life < 2; life++) {
      const log = await Log.open({ dir, segmentBytes: 65536, maxRecordBytes: 4096 });
      for (let i = 0; i < 100; i++) {
        await log.drain(2000);
        await log.appendAndCommit(Buffer.alloc(2000, i));
      }
      let seen = 0;
      for await (const batch of log.read({ upTo: 'flush', live: false })) seen += batch.count;
      console.log(seen);
      await log.close();
    }`;
  const args = ['--input-type=module', '-e', script];
  const child = spawnSync(process.execPath, args, { timeout: 80_000, killSignal: 'SIGKILL' });
  expect(child.stderr.toString()).toBe('');
  expect(child.stdout.toString()).toBe('100\n200\n');
});
