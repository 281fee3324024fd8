import { randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { type ConnectionOptions, connect as tlsConnect } from 'node:tls';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { parseStandbys } from '../../src/replication/policy.js';
import { fetchIdentity } from '../../src/transport/fetch_identity.js';
import type { TlsOptions } from '../../src/transport/security.js';
import { defaultLimits } from '../../src/transport/timing.js';
import { encodeAuthProof, encodeAuthStart } from '../../src/wire/auth_messages.js';
import { encodeStandbyHello } from '../../src/wire/handshake_messages.js';
import { Authority, tlsOf } from '../helpers/certificates.js';
import { TcpProxy } from '../helpers/proxy.js';
import { freshDir } from '../helpers/temp.js';
import { PrimaryNode, quick, StandbyNode, until } from './nodes.js';

const policy = { synchronousCommit: 'remote_flush', standbys: parseStandbys('ANY 1 (*)') } as const;
const secret = randomBytes(32);
const hello = encodeStandbyHello({ minVersion: 1, maxVersion: 2, name: 'b', sender: undefined });

let authority: Authority;
let a: TlsOptions;
let b: TlsOptions;
let c: ConnectionOptions;
const open: (() => unknown)[] = [];

beforeAll(() => {
  authority = new Authority();
  a = tlsOf(authority, 'a', ['b']);
  b = tlsOf(authority, 'b', ['a']);
  c = { ...authority.issue({ dns: ['c'] }), ca: authority.cert };
});

afterAll(() => authority.remove());

afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

describe('a thousand hostile connections', () => {
  it('keep within the caps, move nothing, and do not hold up the standby that is in', async () => {
    const dir = freshDir('a');
    const primary = await PrimaryNode.open({ dir }, { policy }, { tls: a, secret });
    open.push(() => primary.close());
    const { native } = primary.log;
    const security = { tls: b, secret };
    const standby = await StandbyNode.open(native, primary.port, { dir: freshDir('b') }, security);
    open.push(() => standby.close());
    await standby.follower.connected();
    const { hub, port } = primary;
    const memory = process.memoryUsage().rss;
    const sockets = new Set<Socket>();
    open.push(() => {
      for (const socket of sockets) socket.destroy();
    });
    const at = { port, host: '127.0.0.1' };
    const { allow: _, ...material } = b;
    const known = { ...(material as ConnectionOptions), checkServerIdentity: () => undefined };
    /** Of each ten two get as far as a handshake of TLS, which is what costs something. */
    const kinds: readonly (() => Socket)[] = [
      () => connect(at),
      () => connect(at).end(randomBytes(900)),
      () => connect(at).end(hello),
      () => connect(at).end(Buffer.from([22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3])),
      () => connect(at).end(Buffer.concat([Buffer.from([22, 3, 3, 64, 0]), randomBytes(5000)])),
      () => connect(at).end(encodeAuthStart(new Uint8Array(32))),
      () => connect(at).end(Buffer.alloc(70_000, 22)),
      () => connect(at).destroy(),
      () => tlsConnect({ ...at, ...known, ...c }).end(hello),
      () =>
        tlsConnect({ ...at, ...known }).end(
          Buffer.concat([encodeAuthStart(new Uint8Array(32)), encodeAuthProof(randomBytes(32))]),
        ),
    ];
    let most = 0;
    let lsn = 0;
    for (let round = 0; round < 20; round += 1) {
      for (let i = 0; i < 50; i += 1) {
        const socket = kinds[i % kinds.length]!();
        sockets.add(socket);
        socket.on('error', () => undefined);
        socket.resume();
        socket.on('close', () => sockets.delete(socket));
      }
      lsn = (await primary.batch(`round ${round}`)).lsn;
      await until(
        () => {
          most = Math.max(most, hub.status().connections.halfOpen);
          return hub.commit.lsn === lsn;
        },
        () => hub.status(),
      );
      for (const socket of sockets) if (round % 4 === 3) socket.destroy();
    }
    expect(most).toBeLessThanOrEqual(defaultLimits.halfOpen);
    expect(hub.status().standbys.map(({ name }) => name)).toEqual(['b']);
    for (const socket of sockets) socket.destroy();
    await until(() => hub.status().connections.halfOpen === 0);
    expect(hub.status().connections.connections).toBe(1);
    expect(primary.heard).toEqual(['b came']);
    expect(primary.refused.length).toBeGreaterThan(100);
    expect(process.memoryUsage().rss - memory).toBeLessThan(96 * 1024 * 1024);
  });
});

/** Of the places in a handshake: each of them, or some. */
const everything = process.env.WALMIRROR_EXHAUSTIVE === '1';
const step = everything ? 1 : 61;
const most = everything ? 30 * 60_000 : undefined;

describe('a TLS handshake that is meddled with on its way', () => {
  it(
    'is refused wherever a byte of it is changed or missing; nothing comes of it',
    async () => {
      const primary = await PrimaryNode.open({ dir: freshDir('a') }, { policy }, { tls: a });
      open.push(() => primary.close());
      const proxy = await TcpProxy.open(primary.port);
      open.push(() => proxy.close());
      const ask = () =>
        fetchIdentity({
          host: '127.0.0.1',
          port: proxy.port,
          plaintext: false,
          name: 'b',
          tls: b,
          timing: { ...quick, handshake: 400 },
          // One attempt: whatever it is that is wrong.
          onFailed: (error) => {
            throw error;
          },
        });
      await ask();
      const lanes = [proxy.toPrimary, proxy.toStandby];
      for (const lane of lanes) {
        for (let at = 3; at < 900; at += step) {
          lane.cutAfter = at;
          await expect(ask(), `cut at ${at}`).rejects.toThrow();
          lane.cutAfter = Number.POSITIVE_INFINITY;
          lane.flipAt = at;
          await expect(ask(), `flipped at ${at}`).rejects.toThrow();
          lane.flipAt = Number.POSITIVE_INFINITY;
        }
      }
      await ask();
      expect(primary.hub.status()).toMatchObject({ standbys: [], commit: { lsn: 0 } });
    },
    most,
  );
});
