import { Writable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { State } from '../../src/native/native_log.js';
import { processEnvironment } from '../../src/transport/environment.js';
import { giveSeed, type SeedGiverHost } from '../../src/transport/seed_giver.js';
import { until } from '../api/helpers.js';

const term = { epoch: 1, opener: '0'.repeat(32), incarnation: 1 };
const logId = 'a'.repeat(32);
const salt = 'b'.repeat(16);
const ask = {
  ...{ minVersion: 6, maxVersion: 6, logId, salt, nodeId: 'c'.repeat(32), name: 'c' },
  ...{ end: { position: 4096, lsn: 0 }, have: undefined },
};

/** A primary with one snapshot, that is opened and read when it is let through. */
function giver(onOpen: () => void, reading: Promise<void>) {
  const claims = new Set<number>();
  const held: number[] = [];
  const native = {
    state: { [State.CLOSED_POSITION]: 1_000_000 },
    retain: () => {
      claims.add(claims.size);
      return claims.size - 1;
    },
    release: (claim: number) => claims.delete(claim),
    info: () => ({
      segmentBytes: 65536,
      start: { position: 65536 + 4096, lsn: 10 },
      history: [{ ...term, position: 4096, lsn: 0 }],
    }),
    placeAt: async (position: number) => ({ position, lsn: 20, crc: 7 }),
  };
  const seeds = {
    bytesPerSecond: 0,
    open: async () => {
      onOpen();
      return {
        ...{ id: { lsn: 25, term, takenAt: 1 }, fileBytes: 100, position: 2 * 65536 + 5000 },
        read: async (buffer: Uint8Array) => {
          await reading;
          return buffer.length;
        },
        close: async () => undefined,
      };
    },
  };
  const host = {
    ...{ native, seeds, environment: processEnvironment, identity: { logId, salt } },
    holdForSeed: (_: string, position: number) => held.push(position),
    term: { epoch: 1, opener: 'e'.repeat(32), incarnation: 1 },
  } as unknown as SeedGiverHost;
  return { host, claims, held };
}

function sink() {
  return new Writable({ write: (_chunk, _encoding, done) => done() }) as never;
}

describe('a primary that gives a snapshot', () => {
  it('keeps its log from where that is read on, and no more, however long it takes', async () => {
    let letThrough = (): void => undefined;
    const reading = new Promise<void>((resolve) => {
      letThrough = resolve;
    });
    const { host, claims, held } = giver(() => expect(claims.size).toBe(1), reading);
    const giving = giveSeed(host, ask, sink(), 1000);
    await until(() => held.length > 0, 'it is offered');
    expect(held).toEqual([2 * 65536 + 4096]);
    expect(claims.size).toBe(0);
    letThrough();
    await giving;
    expect(claims.size).toBe(0);
  });

  it('keeps nothing for one that has gone meanwhile', async () => {
    const socket = sink() as unknown as Writable;
    const { host, claims, held } = giver(() => socket.end(), Promise.resolve());
    await giveSeed(host, ask, socket as never, 1000);
    expect(held).toEqual([]);
    expect(claims.size).toBe(0);
  });
});
