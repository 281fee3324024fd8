import { describe, expect, it } from 'vitest';
import { Log } from '../../src/api/log.js';
import { openLog } from '../../src/api/open.js';
import { CutMeanwhile, SegmentSource } from '../../src/archive/segment_source.js';
import { codeOf } from '../api/helpers.js';
import { freshDir } from '../helpers/temp.js';
import { allocateAligned, gathered, least } from './objects.js';

/** A log of some segments, of which a cut may be pretended. */
async function withSource(use: (source: SegmentSource, cut: () => void) => Promise<void>) {
  const core = await openLog({ dir: freshDir(), ...least });
  const log = Log.over(core);
  let cuts = 0;
  try {
    for (let i = 0; i < 300; i += 1) {
      await log.drain(1000);
      log.append(Buffer.alloc(1000, i));
    }
    await log.commit();
    const source = new SegmentSource({
      ...{ native: core.native, allocateAligned, explain: (error) => core.explain(error) },
      cuts: () => cuts,
    });
    await use(source, () => {
      cuts += 1;
    });
  } finally {
    await log.close();
  }
}

describe('a segment that is read', () => {
  it('is of one history: a cut meanwhile ends the reading', async () => {
    await withSource(async (source, cut) => {
      const pieces = source.bytes(4096, 4096 + least.segmentBytes);
      cut();
      // Before the first piece was asked for: that is of the log as it is now.
      expect((await pieces.next()).done).toBe(false);
      const facts = source.facts(4096);
      cut();
      await expect(facts).rejects.toThrow(CutMeanwhile);
      const others = source.bytes(4096, 4096 + least.segmentBytes);
      const next = others.next();
      cut();
      await expect(next).rejects.toThrow(CutMeanwhile);
    });
  });

  it('is as long as a segment, whatever lies in it', async () => {
    await withSource(async (source) => {
      for (const start of [4096, 4096 + least.segmentBytes]) {
        const { end, firstLsn, lastLsn } = await source.facts(start);
        expect((await gathered(source.bytes(start, end))).length).toBe(least.segmentBytes);
        expect(lastLsn).toBeGreaterThan(firstLsn);
      }
    });
  });

  it('is none where nothing follows it yet', async () => {
    await withSource(async (source) => {
      const start = 4096 + 20 * least.segmentBytes;
      await expect(source.facts(start)).rejects.toThrow(CutMeanwhile);
    });
  });

  it('calls nothing of an engine that is closed', async () => {
    await withSource(async (source) => {
      const pieces = source.bytes(4096, 4096 + least.segmentBytes);
      await source.close();
      expect(await codeOf(() => pieces.next())).toBe('WAL_CLOSED');
      expect(await codeOf(() => source.facts(4096))).toBe('WAL_CLOSED');
    });
  });
});
