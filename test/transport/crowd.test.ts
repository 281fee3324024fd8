import { afterEach, describe, expect, it } from 'vitest';
import { State } from '../../src/native/native_log.js';
import { maxStandbys } from '../../src/transport/timing.js';
import { encodePosition } from '../../src/wire/handshake_messages.js';
import { freshDir } from '../helpers/temp.js';
import { payload } from '../native/native.js';
import { PrimaryNode, StandbyNode, until } from './nodes.js';
import { RawStandby } from './raw_standby.js';

const open: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

async function primaryNode(options = {}): Promise<PrimaryNode> {
  const primary = await PrimaryNode.open({ dir: freshDir('a'), ...options });
  open.push(() => primary.close());
  return primary;
}

const large = { segmentBytes: 4 << 20, maxRecordBytes: 256 << 10, ringBytes: 2 << 20 };

function idOf(n: number): string {
  return n.toString(16).padStart(32, '0');
}

/** At the door: it has said who it is. */
async function greeted(primary: PrimaryNode, n: number): Promise<RawStandby> {
  const raw = new RawStandby(primary.port);
  open.push(async () => raw.socket.destroy());
  await raw.greet(idOf(n), `s${n}`);
  return raw;
}

/** Asks to be let in, with an empty log; whether it is. */
async function comesIn(raw: RawStandby): Promise<boolean> {
  const start = { position: 4096, lsn: 0 };
  const commit = { position: 0, lsn: 0 };
  raw.socket.write(encodePosition({ end: start, crc: 0, commit, history: [] }));
  await raw.until(() => raw.accept !== undefined || raw.refusal !== undefined);
  return raw.accept !== undefined;
}

describe('more standbys than there is room for', () => {
  it('are refused by name when they come in, however many stood at the door', async () => {
    const primary = await primaryNode();
    for (let n = 1; n <= 40; n += 1) expect(await comesIn(await greeted(primary, n))).toBe(true);
    const crowd: RawStandby[] = [];
    for (let n = 41; n <= 60; n += 1) crowd.push(await greeted(primary, n));
    const letIn = await Promise.all(crowd.map(comesIn));
    expect(letIn.filter(Boolean)).toHaveLength(maxStandbys - 40);
    expect(primary.hub.status().standbys).toHaveLength(maxStandbys);
    const refused = crowd.find(({ refusal }) => refusal !== undefined);
    expect(refused?.refusal?.code).toBe('WAL_PEER_REFUSED');

    // One of those that are in comes again: it takes its own place.
    expect(await comesIn(await greeted(primary, 7))).toBe(true);
    expect(await comesIn(await greeted(primary, 99))).toBe(false);
    expect(primary.hub.status().standbys).toHaveLength(maxStandbys);
  });

  it('are fed from copies where the engine has no pin left', async () => {
    const primary = await primaryNode(large);
    const standby = await StandbyNode.open(primary.log.native, primary.port, {
      dir: freshDir('b'),
      ringBytes: large.ringBytes,
    });
    open.push(() => standby.close());
    await until(() => primary.hub.status().standbys[0]?.state === 'live');
    const { native } = primary.log;
    const at = native.state[State.CLOSED_POSITION]!;
    const pins = Array.from({ length: 64 }, () => native.pin(at));
    for (let i = 0; i < 4; i += 1) await primary.batch(payload(i, 200 << 10));
    const { position } = primary.log.closed;
    await until(
      () => standby.log.flushed.position === position,
      () => primary.hub.status(),
    );
    for (const pin of pins) native.unpin(pin);
    await until(() => primary.hub.status().standbys[0]?.state === 'live');
    const { lsn } = await primary.batch(payload(4, 200 << 10));
    await until(() => standby.log.flushed.lsn === lsn);
    expect(primary.hub.status().standbys[0]?.state).toBe('live');
  });
});

describe('an error of the engine during the handshake', () => {
  it('ends that connection and nothing else', async () => {
    const primary = await primaryNode();
    const raw = await greeted(primary, 1);
    const value = (): never => {
      throw Object.assign(new Error('the log is closed'), { code: 'WAL_CLOSED' });
    };
    Object.defineProperty(primary.log.native, 'info', { value, configurable: true });
    await expect(comesIn(raw)).rejects.toThrow('closed');
    Reflect.deleteProperty(primary.log.native, 'info');
    expect(primary.hub.status().rejected).toBe(0);
    expect(await comesIn(await greeted(primary, 1))).toBe(true);
  });
});
