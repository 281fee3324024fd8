import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, describe } from 'vitest';
import { fileReferee } from '../../src/referee/index.js';
import { makeTempDir } from '../global/temp.js';
import {
  switchoversWith,
  switchoverTestMs,
  switchoverTiming as timing,
} from './refereed_switchover.js';

describe('a switchover with a referee over a file', { timeout: switchoverTestMs }, () => {
  const base = makeTempDir('referees');
  let groups = 0;
  afterAll(async () => {
    // A call that was begun before a log was closed would make its directory again.
    await sleep(timing.callTimeoutMs);
    rmSync(base, { recursive: true });
  });

  switchoversWith(async () => {
    groups += 1;
    const directory = join(base, `group${groups}`);
    return (name) => fileReferee({ directory, timing, memory: join(base, `${name}${groups}`) });
  });
});
