import { createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseStandbys } from '../../src/replication/policy.js';
import { fetchIdentity } from '../../src/transport/fetch_identity.js';
import { fetchRange } from '../../src/transport/fetch_range.js';
import { Gate } from '../../src/transport/gate.js';
import { SecretProver } from '../../src/transport/secret_prover.js';
import {
  authChallengeBytes,
  authProofBytes,
  authStartBytes,
  encodeAuthChallenge,
} from '../../src/wire/auth_messages.js';
import { encodeRefusal, encodeStandbyHello } from '../../src/wire/handshake_messages.js';
import { MessageType } from '../../src/wire/message_type.js';
import { freshDir } from '../helpers/temp.js';
import { PrimaryNode, quick, StandbyNode, until } from './nodes.js';
import { RawStandby } from './raw_standby.js';

const policy = { synchronousCommit: 'remote_flush', standbys: parseStandbys('ANY 1 (*)') } as const;
const secret = Buffer.from('a secret of some 32 random bytes');
const another = Buffer.from('a secret of some 32 random byteS');
const logId = 'ab'.repeat(16);
const none = { certificate: undefined, id: new Uint8Array() };

function gateOf(key: Uint8Array | undefined = secret, id = logId, channel = none): Gate {
  return new Gate({ secret: key }, channel, id);
}

/** Both halves at one table: `meddle` sees each message on its way. */
function shake(
  gate: Gate,
  { key = secret, log = logId as string | undefined, channel = none.id } = {},
  meddle: (message: Buffer, index: number) => Buffer = (message) => message,
) {
  const sent: Buffer[] = [];
  let proved = false;
  const pass = (message: Uint8Array): Buffer => {
    const meddled = meddle(Buffer.from(message), sent.length);
    sent.push(meddled);
    return meddled;
  };
  const prover = new SecretProver(key, channel, log, (message) => {
    const bytes = pass(message);
    const answer = pass(gate.take(bytes[4]!, bytes, 0, bytes.length));
    proved = prover.take(answer, answer.length);
  });
  prover.start();
  gate.requireOpen();
  return { sent, proved };
}

describe('two that know one secret', () => {
  it('prove it to each other, in four messages of fewer than 100 bytes', () => {
    const { sent, proved } = shake(gateOf());
    expect(proved).toBe(true);
    expect(sent.map((message) => message.length)).toEqual([
      authStartBytes,
      authChallengeBytes,
      authProofBytes,
      authProofBytes,
    ]);
    expect(authStartBytes + authProofBytes).toBeLessThan(100);
  });

  it('do so where the one that dials has no log yet', () => {
    expect(shake(gateOf(), { log: undefined }).proved).toBe(true);
  });

  it('never send the secret, or a proof twice', () => {
    const all = [shake(gateOf()), shake(gateOf())].map(({ sent }) => sent.slice(2));
    const proofs = all.flat().map((message) => message.toString('hex'));
    expect(new Set(proofs).size).toBe(4);
    expect(proofs.some((proof) => proof.includes(secret.toString('hex')))).toBe(false);
  });
});

describe('a proof', () => {
  it.each([
    ['under another secret', { key: another }],
    ['over another connection', { channel: new Uint8Array(32) }],
  ])('%s opens nothing', (_, other) => {
    const gate = gateOf();
    expect(() => shake(gate, other)).toThrow(/the secret of the peer is another one/);
    expect(() => gate.requireOpen()).toThrow(/proves no secret/);
  });

  it('is not made for the node of another log', () => {
    const sent: number[] = [];
    const meddle = (message: Buffer): Buffer => {
      sent.push(message[4]!);
      return message;
    };
    const gate = gateOf(secret, 'cd'.repeat(16));
    expect(() => shake(gate, {}, meddle)).toThrow(/another log/);
    expect(sent).not.toContain(MessageType.AUTH_PROOF);
  });

  it.each([
    ['an error of the connection without TLS', none.id, 'WAL_PEER_INVALID'],
    ['final under TLS, where its certificate was verified', new Uint8Array(32), 'WAL_NOT_A_LOG'],
  ])('for another log is %s', (_, channel, code) => {
    const gate = gateOf(secret, 'cd'.repeat(16), { certificate: undefined, id: channel });
    expect(() => shake(gate, { channel })).toThrow(expect.objectContaining({ code }));
  });

  it('that was heard before is good for no other challenge', () => {
    const { sent } = shake(gateOf());
    const gate = gateOf();
    const [start, , proof] = sent;
    gate.take(start![4]!, start!, 0, start!.length);
    expect(() => gate.take(proof![4]!, proof!, 0, proof!.length)).toThrow(/another one/);
    expect(() => gate.requireOpen()).toThrow(/proves no secret/);
  });

  it('that is given back to whoever made it is none', () => {
    const made: Buffer[] = [];
    const prover = new SecretProver(secret, none.id, logId, (message) => {
      made.push(Buffer.from(message));
    });
    prover.start();
    // Its own nonce comes back as the challenge, and then its own proof.
    const challenge = Buffer.alloc(authChallengeBytes);
    challenge.writeUInt32LE(authChallengeBytes - 4, 0);
    challenge[4] = MessageType.AUTH_CHALLENGE;
    made[0]!.copy(challenge, 5, 11, 43);
    challenge.write(logId, 37, 'hex');
    expect(prover.take(challenge, challenge.length)).toBe(false);
    expect(() => prover.take(made[1]!, made[1]!.length)).toThrow(/does not know the secret/);
  });

  it('without a challenge, or twice, opens nothing', () => {
    const { sent } = shake(gateOf());
    const [, , proof, answer] = sent;
    for (const message of [proof!, answer!]) {
      const gate = gateOf();
      expect(() => gate.take(message[4]!, message, 0, message.length)).toThrow(/another one/);
      expect(() => gate.requireOpen()).toThrow(/proves no secret/);
    }
  });

  it.each([
    ['the nonce', 0],
    ['the challenge', 1],
    ['the proof of the one that dials', 2],
    ['the proof of the one that listens', 3],
  ])('with any byte changed in %s is none', (_, which) => {
    const { sent } = shake(gateOf());
    // The length and type of what the gate is given were checked before, by the frame reader.
    for (let at = which % 2 === 0 ? 5 : 0; at < sent[which]!.length; at += 1) {
      const gate = gateOf();
      const meddle = (message: Buffer, index: number): Buffer => {
        if (index === which) message[at]! ^= 0x40;
        return message;
      };
      expect(() => shake(gate, {}, meddle), `byte ${at}`).toThrow();
      if (which < 3) expect(() => gate.requireOpen(), `byte ${at}`).toThrow();
    }
  });
});

describe('over sockets', () => {
  let primary: PrimaryNode;
  const open: (() => unknown)[] = [];

  beforeEach(async () => {
    primary = await PrimaryNode.open({ dir: freshDir('a') }, { policy }, { secret });
    open.push(() => primary.close());
  });

  afterEach(async () => {
    for (const close of open.splice(0).reverse()) await close();
  });

  async function standbyWith(security: object, port = primary.port): Promise<StandbyNode> {
    const dir = freshDir('b');
    const standby = await StandbyNode.open(primary.log.native, port, { dir }, security);
    open.push(() => standby.close());
    return standby;
  }

  /** A listener by hand. */
  async function listener(onConnection: (socket: Socket) => void): Promise<number> {
    const sockets: Socket[] = [];
    const server: Server = createServer((socket) => {
      sockets.push(socket);
      socket.on('error', () => undefined);
      onConnection(socket);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    open.push(() => {
      server.close();
      for (const socket of sockets) socket.destroy();
    });
    return (server.address() as { port: number }).port;
  }

  it('a standby comes in, a new one learns the log, and a repair is served', async () => {
    const standby = await standbyWith({ secret });
    await standby.follower.connected();
    await primary.batch('one');
    await until(() => primary.hub.commit.lsn === 1);
    const where = { host: '127.0.0.1', port: primary.port, plaintext: false, timing: quick };
    const identity = await fetchIdentity({ ...where, name: 'c', secret });
    const { logId, salt } = identity;
    const bytes = await fetchRange({ ...where, secret, logId, salt, from: 4096 });
    expect(bytes.length).toBeGreaterThan(0);
    await expect(fetchRange({ ...where, logId, salt, from: 4096 })).rejects.toThrow(
      /the peer proves no secret/,
    );
  });

  it.each([
    ['another secret', { secret: another }, /the secret of the peer is another one/],
    ['none', {}, /the peer proves no secret, and this node was given one/],
  ])('a standby with %s is refused, and told so', async (_, security, text) => {
    const standby = await standbyWith(security);
    await primary.batch('one');
    await until(() => standby.heard.length > 0 && primary.hub.reached('local') === 1);
    expect(standby.heard[0]).toMatch(text);
    expect(primary.refused[0]).toMatch(text);
    expect(primary.hub.commit.lsn).toBe(0);
  });

  it('a primary without one refuses a standby that proves one', async () => {
    const open_ = await PrimaryNode.open({ dir: freshDir('o') });
    open.push(() => open_.close());
    const standby = await standbyWith({ secret }, open_.port);
    await until(() => standby.heard.length > 0);
    expect(standby.heard[0]).toMatch(/the peer proves a secret, and this node was given none/);
  });

  it('whoever listens and does not know the secret is not followed, nor believed', async () => {
    let heard = 0;
    const refusal = { code: 'WAL_COMMITTED_LOST', message: 'stop', term: undefined };
    const port = await listener((socket) => {
      socket.on('data', (chunk) => {
        heard += chunk.length;
        socket.end(encodeRefusal(refusal));
      });
    });
    const standby = await standbyWith({ secret }, port);
    await until(() => standby.heard.length > 1);
    expect(standby.heard[0]).toMatch(/refused by the peer: WAL_COMMITTED_LOST: stop/);
    expect(standby.heard.some((line) => line.startsWith('failed'))).toBe(false);
    expect(heard).toBeGreaterThan(0);
    expect(heard % authStartBytes).toBe(0);
  });

  it('whoever says, unproved, that it has another log ends no wait for the right one', async () => {
    const challenge = { nonce: new Uint8Array(32), logId: 'cd'.repeat(16) };
    const port = await listener((socket) => {
      socket.on('data', () => void socket.write(encodeAuthChallenge(challenge)));
    });
    const standby = await standbyWith({ secret }, port);
    let ended: unknown;
    standby.follower.connected().catch((error: unknown) => {
      ended = error;
    });
    await until(() => standby.heard.length > 2);
    expect(standby.heard[0]).toMatch(/the peer says that it has another log$/);
    expect(ended).toBeUndefined();
  });

  it('a stranger is told nothing of the log', async () => {
    const raw = new RawStandby(primary.port);
    open.push(() => raw.socket.destroy());
    const hello = { minVersion: 1, maxVersion: 2, name: 'x', sender: undefined };
    raw.socket.write(encodeStandbyHello(hello));
    await raw.closed;
    expect(raw.hello).toBeUndefined();
    expect(raw.refusal).toMatchObject({ code: 'WAL_AUTH_FAILED', term: undefined });
  });

  /** What a standby that knows the secret says, as far as one byte is changed or cut off. */
  async function attempt(change: (message: Buffer, sent: number) => Buffer): Promise<RawStandby> {
    const raw = new RawStandby(primary.port);
    open.push(() => raw.socket.destroy());
    let sent = 0;
    const prover = new SecretProver(secret, none.id, undefined, (message) => {
      raw.socket.write(change(Buffer.from(message), sent));
      sent += message.length;
    });
    raw.onAuth = (bytes) => void prover.take(bytes, bytes.length);
    prover.start();
    return raw;
  }

  it('a stream that is mangled anywhere in the proof ends there', async () => {
    const total = authStartBytes + authProofBytes;
    for (let at = 0; at < total; at += 1) {
      const raw = await attempt((message, sent) => {
        if (at >= sent && at < sent + message.length) message[at - sent]! ^= 0x10;
        return message;
      });
      // A length that grew waits for more; the end of the stream is the end of that.
      raw.socket.end();
      await raw.closed;
      expect(raw.proved, `byte ${at}`).toBe(false);
    }
    await until(() => primary.hub.status().connections.connections === 0);
    expect(primary.hub.status()).toMatchObject({ standbys: [], commit: { lsn: 0 } });
  });

  it('a stream that is cut anywhere in the proof leaves nothing behind', async () => {
    const total = authStartBytes + authProofBytes;
    for (let at = 0; at < total; at += 1) {
      const raw = await attempt((message, sent) => message.subarray(0, Math.max(0, at - sent)));
      raw.socket.end();
      await raw.closed;
      expect(raw.proved, `byte ${at}`).toBe(false);
    }
    await until(() => primary.hub.status().connections.connections === 0);
    const { logId: id } = await fetchIdentity({
      host: '127.0.0.1',
      port: primary.port,
      plaintext: false,
      name: 'b',
      secret,
      timing: quick,
    });
    expect(id).toBe(primary.log.native.info().logId);
  });
});
