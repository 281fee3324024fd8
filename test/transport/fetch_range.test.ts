import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { WalError } from '../../src/api/errors.js';
import { fetchRange } from '../../src/transport/fetch_range.js';
import { encodeFetch, fetchBytes } from '../../src/wire/range_messages.js';
import { freshDir } from '../helpers/temp.js';
import { binding, payload } from '../native/native.js';
import { PrimaryNode, quick } from './nodes.js';

const FIRST = 4096;
let primary: PrimaryNode;
let dir: string;
let end = 0;

beforeEach(async () => {
  dir = freshDir('a');
  primary = await PrimaryNode.open({ dir, maxRecordBytes: 30_000 });
  for (let i = 0; i < 120; i += 1) await primary.batch(payload(i, 1000 + (i % 9) * 3000));
  end = (await primary.log.settled()).position;
});

afterEach(async () => {
  await primary.close();
});

function fetchFrom(from: number, over: object = {}): Promise<Uint8Array> {
  const { logId, salt } = primary.log.native.info();
  const log = { logId, salt, plaintext: false, timing: quick };
  return fetchRange({ host: '127.0.0.1', port: primary.port, from, ...log, ...over });
}

async function refusal(from: number, over: object = {}): Promise<WalError> {
  const error = await fetchFrom(from, over).catch((raised: unknown) => raised);
  if (error instanceof WalError) return error;
  throw new Error('it was not refused');
}

describe('a range of the log', () => {
  it('comes as it lies on the disk, from any batch on to the end', async () => {
    const { native } = primary.log;
    const buffer = binding.allocateAligned(1024 * 1024);
    let at = FIRST;
    while (at < end) {
      const bytes = await fetchFrom(at);
      const { offset, length, next } = await native.readInto(buffer, at, end);
      expect(bytes.length).toBe(length);
      expect(Buffer.compare(bytes, buffer.subarray(offset, offset + length))).toBe(0);
      at = next;
    }
    expect(at).toBe(end);
  });

  it('is refused where no batch begins, past the end, and of another log', async () => {
    expect(await refusal(FIRST + 8)).toMatchObject({ code: 'WAL_CORRUPT' });
    expect(await refusal(end)).toMatchObject({ code: 'WAL_LSN_GONE' });
    expect(await refusal(end + 1_000_000)).toMatchObject({ code: 'WAL_LSN_GONE' });
    expect(await refusal(FIRST, { salt: '0'.repeat(16) })).toMatchObject({
      code: 'WAL_NOT_A_LOG',
      message: 'refused by the peer: the peer has another log',
    });
    expect(await refusal(0)).toBeInstanceOf(WalError);
  });

  it('is refused where it is damaged, and nothing of it leaves', async () => {
    const path = join(dir, readdirSync(dir).find((name) => name.endsWith('.wal')) ?? '');
    const content = readFileSync(path);
    const start = Number(content.readBigUInt64LE(40)) + FIRST;
    content[FIRST + 150] = (content[FIRST + 150] ?? 0) ^ 1;
    writeFileSync(path, content);
    expect(await refusal(start)).toMatchObject({
      code: 'WAL_CORRUPT',
      message: `refused by the peer: the peer has no batch that verifies at position ${start}`,
    });
  });

  it('is refused where it was trimmed', async () => {
    const { native } = primary.log;
    native.setCommit(end, primary.log.flushed.lsn);
    await native.trim(end);
    expect(await refusal(FIRST)).toMatchObject({ code: 'WAL_LSN_GONE' });
  });

  it('leaves no claim, no connection and no descriptor behind', async () => {
    const one = () => fetchFrom(FIRST).catch(() => undefined);
    await Promise.all(Array.from({ length: 40 }, one));
    await expect.poll(() => primary.hub.status().connections.connections).toBe(0);
    expect(primary.hub.status().connections.halfOpen).toBe(0);
    expect((await fetchFrom(FIRST)).length).toBeGreaterThan(0);
  });

  it('keeps its place while it is served, whoever else comes', async () => {
    await primary.close();
    primary = await PrimaryNode.open({ dir: freshDir('b') }, { listenLimits: { halfOpen: 1 } });
    await primary.batch('one');
    await primary.log.settled();
    const { native } = primary.log;
    const readInto = native.readInto.bind(native);
    let read = (): void => undefined;
    const reads = new Promise<void>((begun) => {
      const value: typeof native.readInto = async (...args) => {
        begun();
        await new Promise<void>((go) => {
          read = go;
        });
        return readInto(...args);
      };
      Object.defineProperty(native, 'readInto', { value });
    });
    const fetched = fetchFrom(FIRST);
    await reads;
    const others = Array.from({ length: 3 }, () => connect(primary.port, '127.0.0.1'));
    for (const socket of others) socket.on('error', () => undefined);
    await expect.poll(() => primary.hub.status().connections.turnedAway).toBe(2);
    read();
    expect((await fetched).length).toBeGreaterThan(0);
    for (const socket of others) socket.destroy();
  });

  it('can be cancelled, and ends with an error where nobody listens', async () => {
    const controller = new AbortController();
    const cancelled = fetchFrom(FIRST, { signal: controller.signal });
    controller.abort(new Error('enough'));
    await expect(cancelled).rejects.toThrow('enough');
    expect(await refusal(FIRST, { port: 1 })).toMatchObject({ code: 'WAL_IO' });
    await expect(fetchFrom(FIRST, { host: '192.0.2.1' })).rejects.toMatchObject({
      code: 'WAL_PLAINTEXT',
    });
  });

  it('costs a peer that says anything else its connection', async () => {
    const { logId, salt } = primary.log.native.info();
    const fetch = encodeFetch({ minVersion: 1, maxVersion: 1, logId, salt, from: FIRST });
    expect(fetch.length).toBe(fetchBytes);
    for (const spoiled of [4, 5, 9, 11]) {
      const bytes = Buffer.from(fetch);
      bytes[spoiled] = 0xee;
      const socket = connect(primary.port, '127.0.0.1');
      socket.write(bytes);
      socket.resume().on('error', () => undefined);
      await new Promise((resolve) => socket.on('close', resolve));
    }
    expect((await fetchFrom(FIRST)).length).toBeGreaterThan(0);
  });
});
