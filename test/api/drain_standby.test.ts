import { expect, it } from 'vitest';
import { RawStandby } from '../transport/raw_standby.js';
import { openLog } from './helpers.js';

it('drain resolves though a standby talks and reads nothing', async () => {
  const log = await openLog({
    listen: { host: '127.0.0.1', port: 0 },
    segmentBytes: 32 << 20,
    maxRecordBytes: 256 << 10,
    ringBytes: 4 << 20,
  });
  const raw = await RawStandby.admitted(log.status().listening!.port, 'e'.repeat(32), 'mute');
  raw.ack({});
  const talk = setInterval(() => raw.ack({}), 50);
  try {
    while (log.status().standbys[0]?.state !== 'live') await new Promise(setImmediate);
    raw.socket.pause();
    let bytes = 0;
    // More than the system takes for a peer that reads nothing, and than the memory holds.
    for (let i = 0; i < 100; i += 1) {
      await log.drain(256 << 10);
      bytes += 256 << 10;
      log.append(Buffer.alloc(256 << 10, i));
    }
    await log.drain();
    // What it promises for this turn: the next record is taken.
    bytes += 256 << 10;
    log.append(Buffer.alloc(256 << 10));
    expect((await log.commit()).lsn).toBe(bytes / (256 << 10));
  } finally {
    clearInterval(talk);
    raw.socket.destroy();
  }
});
