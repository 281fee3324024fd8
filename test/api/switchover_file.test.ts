import { join } from 'node:path';
import { describe } from 'vitest';
import { fileReferee } from '../../src/referee/index.js';
import { freshDir } from '../helpers/temp.js';
import {
  switchoversWith,
  switchoverTestMs,
  switchoverTiming as timing,
} from './refereed_switchover.js';

describe('a switchover with a referee over a file', { timeout: switchoverTestMs }, () => {
  switchoversWith(async () => {
    const directory = freshDir('referee');
    const memories = freshDir('memories');
    return (name) => fileReferee({ directory, timing, memory: join(memories, name) });
  });
});
