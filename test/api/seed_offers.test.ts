import { type AddressInfo, createServer } from 'node:net';
import { expect, it, onTestFinished } from 'vitest';
import type { LogCore } from '../../src/api/core.js';
import { Seeding } from '../../src/api/seeding.js';
import { processDisk } from '../../src/api/snapshot_disk.js';
import { SnapshotShelf } from '../../src/api/snapshot_shelf.js';
import { firstPosition } from '../../src/replication/history.js';
import { encodeSeedOffer } from '../../src/wire/seed_messages.js';
import { freshDir } from '../helpers/temp.js';
import { walError } from './helpers.js';

const opener = 'a'.repeat(32);
const history = [{ epoch: 1, opener, incarnation: 1, position: firstPosition, lsn: 0 }];

/** What a peer of this term offers to a node that knows epoch 5. */
async function offeredBy(epoch: number): Promise<unknown> {
  const term = { epoch, opener, incarnation: 1 };
  const offer = encodeSeedOffer({
    ...{ term, history, crc: 1, fileBytes: 400, from: 0 },
    start: { position: 65_536 + firstPosition, lsn: 10 },
    snapshot: { lsn: 12, term: history[0]!, takenAt: 1 },
  });
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => socket.end(offer));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  const dir = freshDir();
  await processDisk.prepare(dir);
  const ids = { logId: 'b'.repeat(32), salt: 'c'.repeat(16), nodeId: 'd'.repeat(32) };
  const core = {
    info: { ...ids, segmentBytes: 65_536 },
    options: { name: 'b', dir },
    native: {
      state: Float64Array.from({ length: 32 }, () => firstPosition),
      info: () => ({ history: [], term: { epoch: 5, opener, incarnation: 1 } }),
    },
  } as unknown as LogCore;
  const seeding = new Seeding(core, new SnapshotShelf(dir, processDisk));
  const { port } = server.address() as AddressInfo;
  const target = { host: '127.0.0.1', port };
  return walError(() => seeding.fetch(target, new AbortController().signal));
}

it('takes nothing of a peer that has been replaced as the primary', async () => {
  expect(await offeredBy(4)).toMatchObject({ code: 'WAL_FENCED' });
  // What comes of one that was not is asked for on: here nothing more does.
  expect(await offeredBy(5)).toMatchObject({ code: 'WAL_IO' });
});
