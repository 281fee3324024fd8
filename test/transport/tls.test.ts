import { createPrivateKey } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { type ConnectionOptions, connect as tlsConnect } from 'node:tls';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { parseStandbys } from '../../src/replication/policy.js';
import { fetchIdentity } from '../../src/transport/fetch_identity.js';
import { fetchRange } from '../../src/transport/fetch_range.js';
import type { TlsOptions } from '../../src/transport/security.js';
import { encodeStandbyHello } from '../../src/wire/handshake_messages.js';
import { Authority, tlsOf } from '../helpers/certificates.js';
import { freshDir } from '../helpers/temp.js';
import { payload } from '../native/native.js';
import { PrimaryNode, quick, StandbyNode, until } from './nodes.js';

const policy = { synchronousCommit: 'remote_flush', standbys: parseStandbys('ANY 1 (*)') } as const;
const past = { from: '20200101000000Z', to: '20200102000000Z' };
const future = { from: '20900101000000Z', to: '20900102000000Z' };

let authority: Authority;
let stranger: Authority;
let a: TlsOptions;
let b: TlsOptions;
const open: (() => unknown)[] = [];

beforeAll(() => {
  authority = new Authority();
  stranger = new Authority('another ca');
  a = tlsOf(authority, 'a', ['b']);
  b = tlsOf(authority, 'b', ['a']);
});

afterAll(() => {
  authority.remove();
  stranger.remove();
});

afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

async function primaryNode(tls: TlsOptions = a, options = {}, timing = quick) {
  const hub = { policy, timing };
  const primary = await PrimaryNode.open({ dir: freshDir('a'), ...options }, hub, { tls });
  open.push(() => primary.close());
  return primary;
}

async function standbyNode(primary: PrimaryNode, tls: TlsOptions | undefined = b, options = {}) {
  const dir = freshDir('b');
  const { native } = primary.log;
  const standby = await StandbyNode.open(native, primary.port, { dir, ...options }, { tls });
  open.push(() => standby.close());
  return standby;
}

/** The same certificate authority, with another certificate for this node. */
function withCertificate(tls: TlsOptions, wanted: Parameters<Authority['issue']>[0]): TlsOptions {
  return { ...tls, ...authority.issue(wanted) };
}

describe('a session over TLS', () => {
  it('carries the log, and what does not fit into the memory of the standby waits', async () => {
    const large = { segmentBytes: 4 << 20, maxRecordBytes: 128 << 10, ringBytes: 256 << 10 };
    const primary = await primaryNode(a, { ...large, ringBytes: 4 << 20 });
    const standby = await standbyNode(primary, b, large);
    await standby.follower.connected();
    for (let i = 0; i < 12; i += 1) await primary.batch(payload(i, 100 << 10));
    await until(
      () => primary.hub.commit.lsn === 12,
      () => [standby.end, standby.heard, primary.heard],
    );
    expect(standby.heard).toEqual(['connected to a']);
    expect(primary.heard).toEqual(['b came']);
  });

  it('tells a new standby who the primary is, and gives a repair what it asks for', async () => {
    const primary = await primaryNode();
    await primary.batch('one');
    await primary.log.settled();
    const where = { host: 'localhost', port: primary.port, plaintext: false, timing: quick };
    const identity = await fetchIdentity({ ...where, name: 'b', tls: b });
    const { logId, salt } = primary.log.native.info();
    expect(identity).toMatchObject({ logId, salt, name: 'a' });
    const bytes = await fetchRange({ ...where, tls: b, logId, salt, from: 4096 });
    expect(bytes.length).toBeGreaterThan(0);
    expect(primary.refused).toEqual([]);
  });

  it('may ask for a secret as well, which both prove', async () => {
    const secret = new Uint8Array(32).fill(7);
    const primary = await PrimaryNode.open({ dir: freshDir('a') }, { policy }, { tls: a, secret });
    open.push(() => primary.close());
    const refused = await standbyNode(primary);
    await until(() => refused.heard.length > 0);
    expect(refused.heard[0]).toMatch(/the peer proves no secret/);
    await refused.follower.stop();
    const { native } = primary.log;
    const dir = freshDir('c');
    const standby = await StandbyNode.open(native, primary.port, { dir }, { tls: b, secret });
    open.push(() => standby.close());
    await standby.follower.connected();
  });

  it('takes a chain, and a key that a passphrase opens', async () => {
    const primary = await primaryNode();
    const { between, issued } = indirect();
    const passphrase = 'open';
    const cipher = { cipher: 'aes-256-cbc', passphrase } as const;
    const pem = { type: 'pkcs8', format: 'pem', ...cipher } as const;
    const key = createPrivateKey(issued.key).export(pem).toString();
    expect(key).toMatch(/BEGIN ENCRYPTED/);
    const tls = { ...b, key, passphrase, cert: issued.cert + between.cert };
    const standby = await standbyNode(primary, tls);
    await standby.follower.connected();
    expect(primary.refused).toEqual([]);
  });

  it('needs no leave for plaintext off loopback', async () => {
    const primary = await primaryNode();
    const away = { host: '192.0.2.1', port: 1, plaintext: false };
    const follow = { ...away, name: 'b', signal: AbortSignal.timeout(1) };
    await expect(fetchIdentity({ ...follow, tls: b })).rejects.toThrow(/aborted/);
    await expect(fetchIdentity({ ...follow, secret: new Uint8Array(32) })).rejects.toMatchObject({
      code: 'WAL_PLAINTEXT',
    });
    await primary.close();
    open.pop();
    expect(() => primary.hub.reloadTls(b)).not.toThrow();
  });
});

/** The standby does not come in, and nothing is committed; what each side says of it. */
async function refusedBy(primary: PrimaryNode, tls: TlsOptions | undefined) {
  const standby = await standbyNode(primary, tls);
  await primary.batch('one');
  await until(() => standby.heard.length > 0);
  expect(standby.heard).not.toContain('connected to a');
  await until(() => primary.hub.reached('local') === 1);
  return { standby, said: standby.heard[0] };
}

/** An authority that `authority` has signed, and a certificate of node b by it. */
function indirect(extension = 'basicConstraints=critical,CA:TRUE') {
  const between = authority.issue({ commonName: 'between', extension });
  return { between, issued: authority.issue({ dns: ['b'], by: between }) };
}

describe('a standby whose certificate is wrong', () => {
  it.each<[string, () => TlsOptions, RegExp, RegExp]>([
    ['has expired', () => withCertificate(b, { dns: ['b'], ...past }), /CERT_HAS_EXPIRED/, /./],
    ['is not yet valid', () => withCertificate(b, { dns: ['b'], ...future }), /NOT_YET/, /./],
    [
      'is of another authority',
      () => ({ ...b, ...stranger.issue({ dns: ['b'] }) }),
      /UNABLE_TO_VERIFY|ISSUER/,
      /./,
    ],
    [
      'is of another authority of the same name',
      () => {
        const twin = new Authority();
        open.push(() => twin.remove());
        return { ...b, ...twin.issue({ dns: ['b'] }) };
      },
      /UNABLE_TO|ISSUER|SIGNATURE/,
      /./,
    ],
    [
      'is for a node that is not allowed',
      () => withCertificate(b, { dns: ['c'] }),
      /\(DNS:c\) names no node of `allow`/,
      /refused by the peer: the certificate of the peer \(DNS:c\) names no node/,
    ],
    [
      'has the name as the common name beside another DNS name',
      () => withCertificate(b, { commonName: 'b', dns: ['c'] }),
      /\(DNS:c\) names no node of `allow`/,
      /./,
    ],
    [
      'is for any host of a domain',
      () => withCertificate(b, { dns: ['*', 'b.example', '*.b'] }),
      /names no node of `allow`/,
      /./,
    ],
    [
      'has the name in capitals',
      () => withCertificate(b, { dns: ['B'] }),
      /names no node of `allow`/,
      /./,
    ],
    [
      'is for servers only',
      () => withCertificate(b, { dns: ['b'], extension: 'extendedKeyUsage=serverAuth' }),
      /PURPOSE/,
      /./,
    ],
    [
      'comes without the one between it and the ca',
      () => ({ ...b, ...indirect().issued }),
      /UNABLE_TO|ISSUER/,
      /./,
    ],
    [
      'was signed by a node',
      () => {
        const { between, issued } = indirect('subjectAltName=DNS:between');
        return { ...b, ...issued, cert: issued.cert + between.cert };
      },
      /INVALID_(CA|PURPOSE)/,
      /./,
    ],
  ])('since it %s, is told so and moves nothing', async (_, make, here, there) => {
    const primary = await primaryNode();
    const { said } = await refusedBy(primary, make());
    await until(() => primary.refused.length > 0);
    expect(primary.refused[0]).toMatch(here);
    expect(said).toMatch(there);
    expect(primary.hub.commit.lsn).toBe(0);
    expect(primary.hub.status().standbys).toEqual([]);
  });

  it('since it made it itself, likewise', async () => {
    const primary = await primaryNode();
    const own = new Authority('b');
    open.push(() => own.remove());
    await refusedBy(primary, {
      ...b,
      ...own.issue({ dns: ['b'] }),
      ca: [authority.cert, own.cert],
    });
    await until(() => primary.refused.length > 0);
    expect(primary.refused[0]).toMatch(/certificate: /);
    expect(primary.hub.commit.lsn).toBe(0);
  });

  it('may not say that it is another node, allowed or not', async () => {
    const primary = await primaryNode({ ...a, allow: ['b', 'c'] });
    const c = { ...b, ...authority.issue({ dns: ['c'] }) };
    const { said } = await refusedBy(primary, c);
    expect(said).toMatch(
      /refused by the peer: the peer says it is b; its certificate is for DNS:c/,
    );
    const both = { ...b, ...authority.issue({ dns: ['b', 'd'] }) };
    const log = { name: 'd', dir: freshDir('d') };
    const d = await StandbyNode.open(primary.log.native, primary.port, log, { tls: both });
    open.push(() => d.close());
    await until(() => d.heard.length > 0);
    expect(d.heard[0]).toMatch(/`allow` does not name d/);
    expect(primary.hub.commit.lsn).toBe(0);
  });

  it('but a common name is one, where there is no DNS name', async () => {
    const primary = await primaryNode();
    const standby = await standbyNode(primary, withCertificate(b, { commonName: 'b' }));
    await standby.follower.connected();
  });
});

describe('a primary whose certificate is wrong', () => {
  it.each<[string, () => TlsOptions, RegExp]>([
    ['has expired', () => withCertificate(a, { dns: ['a'], ...past }), /certificate has expired/],
    ['is not yet valid', () => withCertificate(a, { dns: ['a'], ...future }), /not yet valid/],
    ['is of another authority', () => ({ ...a, ...stranger.issue({ dns: ['a'] }) }), /TLS: unable/],
    [
      'is for a node that is not allowed',
      () => withCertificate(a, { dns: ['c'] }),
      /the certificate of the peer \(DNS:c\) names no node of `allow`/,
    ],
    [
      'is for another allowed node than it says it is',
      () => withCertificate(a, { dns: ['x'] }),
      /the peer says it is a; its certificate is for DNS:x/,
    ],
  ])('since it %s, is not followed', async (_, make, text) => {
    const primary = await primaryNode(make());
    const standby = await standbyNode(primary, { ...b, allow: ['a', 'x'] });
    await until(() => standby.heard.length > 0);
    expect(standby.heard[0]).toMatch(text);
    expect(standby.follower.status().connected).toBe(false);
    expect(standby.end.lsn).toBe(0);
    const { port } = primary;
    const asked = { host: '127.0.0.1', port, plaintext: false, name: 'b', timing: quick };
    await expect(
      fetchIdentity({ ...asked, tls: { ...b, allow: ['a', 'x'] } }),
    ).rejects.toMatchObject({ code: 'WAL_AUTH_FAILED', message: expect.stringMatching(text) });
  });
});

describe('who does not do TLS as it has to be done', () => {
  it('speaks plaintext, and is told', async () => {
    const primary = await primaryNode();
    const { native } = primary.log;
    const standby = await StandbyNode.open(native, primary.port, { dir: freshDir('b') });
    open.push(() => standby.close());
    await until(() => standby.heard.length > 0 && primary.refused.length > 0);
    expect(standby.heard[0]).toMatch(
      /closed the connection before it answered: it may have no room, or expect TLS/,
    );
    expect(primary.refused[0]).toMatch(/^TLS: /);
  });

  it('follows with TLS a primary that has none, and both tell', async () => {
    const primary = await PrimaryNode.open({ dir: freshDir('a') }, { policy });
    open.push(() => primary.close());
    const standby = await standbyNode(primary);
    await until(() => standby.heard.length > 0 && primary.refused.length > 0);
    expect(standby.heard[0]).toMatch(/TLS: /);
    expect(primary.refused[0]).toMatch(/the peer speaks TLS, and this node was given none/);
  });

  it.each<[string, () => ConnectionOptions, RegExp]>([
    ['shows no certificate', () => ({ key: undefined, cert: undefined }), /did not return a cert/],
    [
      'speaks TLS 1.2 at most',
      () => ({ minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' }),
      /unsupported protocol|version/,
    ],
  ])('%s: gets nothing', async (_, wrong, text) => {
    const primary = await primaryNode();
    const { allow: __, ...material } = b;
    const checkServerIdentity = (): undefined => undefined;
    const right = { ...(material as ConnectionOptions), checkServerIdentity };
    const options = { ...right, ...wrong() };
    const socket = tlsConnect({ port: primary.port, host: '127.0.0.1', ...options });
    open.push(() => socket.destroy());
    let received = 0;
    socket.on('data', (chunk) => {
      received += chunk.length;
    });
    const ended = new Promise((resolve) => socket.on('close', resolve));
    socket.on('error', () => undefined);
    const hello = { minVersion: 1, maxVersion: 2, name: 'b', sender: undefined };
    socket.write(encodeStandbyHello(hello));
    await ended;
    expect(received).toBe(0);
    await until(() => primary.refused.length > 0);
    expect(primary.refused[0]).toMatch(text);
    expect(primary.hub.status().connections.connections).toBe(0);
  });

  it('begins and does not go on, drips, or says nothing after it: is shown the door', async () => {
    const primary = await primaryNode(a, {}, { ...quick, handshake: 300 });
    const silent = connect({ port: primary.port, host: '127.0.0.1' });
    const dripping = connect({ port: primary.port, host: '127.0.0.1' });
    const { allow: _, ...material } = b;
    const options = { ...(material as ConnectionOptions), checkServerIdentity: () => undefined };
    const through = tlsConnect({ port: primary.port, host: '127.0.0.1', ...options });
    const all: Socket[] = [silent, dripping, through];
    open.push(() => {
      for (const socket of all) socket.destroy();
    });
    // The head of a ClientHello of 512 bytes.
    dripping.write(Buffer.from([22, 3, 1, 2, 0, 1]));
    const drip = setInterval(() => dripping.write(Buffer.from([0])), 20);
    for (const socket of all) {
      socket.on('error', () => undefined);
      socket.resume();
    }
    await once(through, 'secureConnect');
    await until(() => all.every((socket) => socket.closed)).finally(() => clearInterval(drip));
    await until(() => primary.hub.status().connections.connections === 0);
    expect(primary.hub.status().connections.halfOpen).toBe(0);
    const late = primary.refused.filter((line) => line.includes('handshake took too long'));
    expect(late).toHaveLength(3);
  });
});

describe('one certificate that is shown with two node ids', () => {
  const both = { synchronousCommit: 'remote_flush', standbys: parseStandbys('ANY 2 (*)') } as const;

  it.each([
    ['under one name', 'b', 'b went: another node of the name b has connected'],
    ['under two of its names', 'c', 'b went: another node with the certificate of b has connected'],
  ])('%s counts once: the newer connection ends the older one', async (_, name, said) => {
    const hub = { policy: both, timing: quick };
    const tls = { ...a, allow: ['b', 'c'] };
    const primary = await PrimaryNode.open({ dir: freshDir('a') }, hub, { tls });
    open.push(() => primary.close());
    const { lsn } = await primary.batch('one');
    const shared = withCertificate(b, { dns: ['b', 'c'] });
    const first = await standbyNode(primary, shared);
    await first.follower.connected();
    const second = await standbyNode(primary, shared, { name });
    await until(
      () => first.end.lsn === lsn && second.end.lsn === lsn && primary.heard.length >= 6,
      () => primary.heard,
    );
    expect(primary.heard).toContain(`${said}, with another node id`);
    expect(primary.hub.status().standbys.length).toBeLessThan(2);
    expect(primary.hub.reached('remote_flush')).toBe(0);
    expect(primary.hub.commit.lsn).toBe(0);
  });
});

describe('other certificates without a restart', () => {
  it('count for the next connection, and that which is there stays', async () => {
    const primary = await primaryNode();
    const standby = await standbyNode(primary);
    await standby.follower.connected();
    const another = new Authority('the next ca');
    open.push(() => another.remove());
    primary.hub.reloadTls(tlsOf(another, 'a', ['b']));
    standby.follower.reloadTls(tlsOf(another, 'b', ['a']));
    await primary.batch('one');
    await until(() => primary.hub.commit.lsn === 1);
    expect(standby.heard).toHaveLength(1);
    const where = { host: '127.0.0.1', port: primary.port, plaintext: false, timing: quick };
    const asked = { ...where, name: 'b' };
    await expect(fetchIdentity({ ...asked, tls: b })).rejects.toMatchObject({
      code: 'WAL_AUTH_FAILED',
    });
    await fetchIdentity({ ...asked, tls: tlsOf(another, 'b', ['a']) });
  });

  it('that cannot be used change nothing', async () => {
    const primary = await primaryNode();
    expect(() => primary.hub.reloadTls({ ...a, cert: b.cert })).toThrow(/mismatch/);
    const standby = await standbyNode(primary);
    await standby.follower.connected();
  });

  it('end a connection that was being made when they came', async () => {
    const primary = await primaryNode();
    const standby = await standbyNode(primary);
    standby.follower.reloadTls({ ...b, allow: ['c'] });
    await until(() => standby.heard.some((line) => /`allow` does not name|not one of/.test(line)));
    expect(standby.follower.status().connected).toBe(false);
  });

  it('end the session of a peer that is not allowed any more, from either side', async () => {
    const primary = await primaryNode();
    const standby = await standbyNode(primary);
    await standby.follower.connected();
    primary.hub.reloadTls({ ...a, allow: ['c'] });
    await until(() => primary.hub.status().standbys.length === 0);
    expect(primary.heard).toContain('b went: `allow` does not name it any more');
    primary.hub.reloadTls({ ...a, allow: '*' });
    await standby.follower.connected();
    standby.follower.reloadTls({ ...b, allow: ['c'] });
    await until(() => standby.heard.length === 4);
    expect(standby.heard.at(-1)).toMatch(/`allow` does not name/);
  });
});

describe('a list of what was revoked', () => {
  let ca: Authority;
  let listens: TlsOptions;
  let dials: TlsOptions;

  beforeAll(() => {
    ca = new Authority('a ca that revokes');
    listens = tlsOf(ca, 'a');
    dials = tlsOf(ca, 'b');
  });
  afterAll(() => ca.remove());

  function ask(primary: PrimaryNode, tls: TlsOptions) {
    const where = { host: '127.0.0.1', port: primary.port, plaintext: false, timing: quick };
    return fetchIdentity({ ...where, name: 'b', tls });
  }

  it('keeps a certificate out at either end, from when it is given', async () => {
    const before = ca.crl();
    const primary = await primaryNode({ ...listens, crl: before });
    await ask(primary, { ...dials, crl: before });

    ca.revoke({ key: '', cert: String(dials.cert) });
    const revoked = ca.crl();
    await ask(primary, dials);
    primary.hub.reloadTls({ ...listens, crl: [revoked] });
    const standby = await standbyNode(primary, dials);
    await until(() => primary.refused.length > 0 && standby.heard.length > 0);
    expect(primary.refused[0]).toMatch(/its certificate: CERT_REVOKED/);
    expect(standby.heard[0]).toMatch(/it may not accept the certificate of this node/);
    await ask(primary, tlsOf(ca, 'b'));

    ca.revoke({ key: '', cert: String(listens.cert) });
    await expect(ask(primary, { ...tlsOf(ca, 'b'), crl: ca.crl() })).rejects.toMatchObject({
      code: 'WAL_AUTH_FAILED',
      message: expect.stringMatching(/certificate revoked/),
    });
  });

  it('that has run out lets nobody in, and says so', async () => {
    const primary = await primaryNode(a);
    const stale = authority.crl('20200102000000Z');
    await expect(ask(primary, { ...b, crl: stale })).rejects.toMatchObject({
      code: 'WAL_AUTH_FAILED',
      message: expect.stringMatching(/CRL has expired/),
    });
  });

  it('that is none changes nothing', async () => {
    const primary = await primaryNode(a);
    expect(() => primary.hub.reloadTls({ ...a, crl: 'nonsense' })).toThrow(/CRL/);
    await ask(primary, b);
  });
});
