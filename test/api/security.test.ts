import { networkInterfaces } from 'node:os';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Log, type OpenOptions, type TlsOptions } from '../../src/index.js';
import { Authority, tlsOf } from '../helpers/certificates.js';
import { freshDir } from '../helpers/temp.js';
import { codeOf, openLog, texts, until } from './helpers.js';

let authority: Authority;
let a: TlsOptions;
let b: TlsOptions;
const secret = 'nobody can guess these thirty-two';

beforeAll(() => {
  authority = new Authority();
  a = tlsOf(authority, 'a', ['b']);
  b = tlsOf(authority, 'b', ['a']);
});
afterAll(() => authority.remove());

const hasIpv6 = networkInterfaces().lo?.some(({ address }) => address === '::1') === true;
const small = { segmentBytes: 256 * 1024, maxRecordBytes: 64 * 1024 } as const;

async function pair(listen: object, follow: object) {
  const of = { synchronousStandbys: 'ANY 1 (*)', ...small };
  const primary = await openLog({ name: 'a', ...of, listen: { port: 0, ...listen } });
  const port = primary.status().listening!.port;
  const standby = await openLog({ name: 'b', follow: { port, ...follow } });
  return { primary, standby, port };
}

describe('tls and secret', () => {
  it('together carry commits; other certificates are taken while the log is open', async () => {
    const bytes = { ...b, key: Buffer.from(b.key), cert: new Uint8Array(Buffer.from(b.cert)) };
    const { primary, standby } = await pair({ tls: a, secret }, { tls: bytes, secret });
    expect((await primary.appendAndCommit('one')).standbys).toEqual(['b']);
    expect(primary.status().standbys).toMatchObject([{ security: 'tls+secret' }]);
    expect(standby.status().upstream).toMatchObject({ security: 'tls+secret', connected: true });
    const next = new Authority('the next ca');
    await primary.reloadTls(tlsOf(next, 'a', ['b']));
    await standby.reloadTls(tlsOf(next, 'b', ['a']));
    await expect(standby.reloadTls(a)).rejects.toThrow(
      /reloadTls.cert is for DNS:a, and not for this node, whose name is b/,
    );
    const good = tlsOf(next, 'b', ['a']);
    for (const ca of ['', 'x', [], good.key, cut(good.ca), good.ca + cut(good.ca)]) {
      await expect(standby.reloadTls({ ...good, ca })).rejects.toThrow(/^reloadTls\.ca/);
    }
    await expect(standby.reloadTls({ ...good, allow: ['*'] })).rejects.toThrow(RangeError);
    next.remove();
    await primary.appendAndCommit('two');
    expect(await texts(primary)).toEqual(['one', 'two']);
    expect(primary.status().standbys).toMatchObject([{ state: 'live' }]);
  });

  it.each([
    ['none', () => ({ listen: {}, follow: {} })],
    ['secret', () => ({ listen: { secret }, follow: { secret } })],
    ['tls', () => ({ listen: { tls: a }, follow: { tls: b } })],
  ])('are told by the status: %s', async (security, of) => {
    const { listen, follow } = of();
    const { primary, standby } = await pair(listen, follow);
    await primary.appendAndCommit('one');
    expect(primary.status().standbys).toMatchObject([{ security }]);
    expect(standby.status().upstream).toMatchObject({ security });
    await standby.close();
    await until(() => primary.status().standbys[0]?.state === 'disconnected', 'it has gone');
    expect(primary.status().standbys).toMatchObject([{ security }]);
  });

  it('that are replaced in the middle of a promotion count once it listens', async () => {
    const next = new Authority('the next ca');
    const { primary, standby } = await pair({ tls: a }, { tls: b });
    await primary.appendAndCommit('one');
    await primary.close();
    const promoted = standby.promote({ primaryStopped: true, listen: { port: 0, tls: b } });
    await standby.reloadTls(tlsOf(next, 'b', ['c']));
    await promoted;
    const { port } = standby.status().listening!;
    const refused = codeOf(() => openLog({ name: 'a', follow: { port, tls: a } }));
    const third = await openLog({ name: 'c', follow: { port, tls: tlsOf(next, 'c', ['b']) } });
    next.remove();
    await third.waitFor(1);
    expect(await refused).toBe('WAL_AUTH_FAILED');
  });

  it('that a standby listens with once promoted can be replaced as well', async () => {
    const next = new Authority('the next ca');
    const { primary, standby, port } = await pair({ tls: a }, { tls: b });
    await primary.appendAndCommit('one');
    await primary.close();
    const listen = { port: 0, tls: b };
    await standby.promote({ primaryStopped: true, listen });
    await standby.reloadTls(tlsOf(next, 'b', ['c']));
    const { port: at } = standby.status().listening!;
    expect(at).not.toBe(port);
    const refused: string[] = [];
    standby.on('refused', ({ reason }) => refused.push(reason));
    const follow = { port: at, tls: tlsOf(next, 'c', ['b']) };
    const third = await openLog({ name: 'c', follow });
    next.remove();
    await third.waitFor(1);
    expect(await codeOf(() => openLog({ name: 'b', follow: { port: at, tls: b } }))).toBe(
      'WAL_AUTH_FAILED',
    );
    await until(() => refused.length > 0, 'the refusal is told');
  });

  it('reloadTls is for a log that has TLS', async () => {
    const log = await openLog({ listen: { port: 0, secret } });
    await expect(log.reloadTls(a)).rejects.toThrow(/for a log that was given tls/);
  });

  it.skipIf(!hasIpv6)('follow a primary at an IPv6 address, in brackets or not', async () => {
    const primary = await openLog({
      name: 'a',
      ...small,
      listen: { host: '::1', port: 0, secret },
    });
    const { host, port } = primary.status().listening!;
    expect(host).toBe('::1');
    for (const name of ['::1', '[::1]']) {
      const standby = await openLog({ name: 'b', follow: { host: name, port, secret } });
      await standby.connected();
      expect(standby.status().upstream?.address).toBe(`[::1]:${port}`);
      expect(primary.status().standbys[0]?.address).toMatch(/^\[::1\]:\d+$/);
      await standby.close();
    }
  });
});

const cut = (pem: unknown): string => String(pem).slice(0, -60);
const spoilt = (pem: unknown): string => `${String(pem).replace(/^MII/m, 'AAA')}${pem}`;

describe('options that cannot be', () => {
  const listen = (security: object): Partial<OpenOptions> =>
    ({ name: 'a', listen: { port: 0, ...security } }) as Partial<OpenOptions>;

  it.each<[string, () => object, RegExp]>([
    ['TLS and plaintext', () => ({ tls: a, plaintext: true }), /tls or plaintext: true.*both/],
    ['TLS that is no object', () => ({ tls: true }), /listen.tls takes \{ key, cert, ca, allow \}/],
    ['an unknown name', () => ({ tls: { ...a, pfx: 'x' } }), /no option "pfx"/],
    ['no key', () => ({ tls: { ...a, key: undefined } }), /listen.tls.key takes PEM/],
    ['a ca that is none', () => ({ tls: { ...a, ca: [1] } }), /listen.tls.ca takes PEM/],
    ['a ca without a word', () => ({ tls: { ...a, ca: '' } }), /listen.tls.ca holds no certif/],
    ['a ca that is prose', () => ({ tls: { ...a, ca: ['x'] } }), /listen.tls.ca holds no certif/],
    ['a ca of none', () => ({ tls: { ...a, ca: [] } }), /listen.tls.ca takes PEM.* is empty/],
    ['a key as the ca', () => ({ tls: { ...a, ca: a.key } }), /listen.tls.ca holds no certificate/],
    ['one ca of two', () => ({ tls: { ...a, ca: [a.ca, 'x'] } }), /listen.tls.ca holds no certif/],
    ['a ca cut short', () => ({ tls: { ...a, ca: cut(a.ca) } }), /1 of 1 .* it is cut short/],
    ['a second one', () => ({ tls: { ...a, ca: a.ca + cut(a.ca) } }), /2 of 2 .* it is cut short/],
    ['bytes of it', () => ({ tls: { ...a, ca: Buffer.from(cut(a.ca)) } }), /it is cut short/],
    [
      'a spoilt ca',
      () => ({ tls: { ...a, ca: spoilt(a.ca) } }),
      /certificate 1 of 2 cannot be read/,
    ],
    ['a crl of none', () => ({ tls: { ...a, crl: [] } }), /listen.tls.crl takes PEM.* is empty/],
    ['all in an array', () => ({ tls: { ...a, allow: ['*'] } }), /tls.allow takes '\*' alone/],
    [
      'no name',
      () => ({ tls: { ...a, allow: ['b', 'b.*'] } }),
      /tls.allow has "b.\*", and no node/,
    ],
    ['nobody', () => ({ tls: { ...a, allow: [] } }), /listen.tls.allow takes the n/],
    ['the key of another', () => ({ tls: { ...a, key: b.key } }), /cannot be used: .*mismatch/],
    ['nonsense for a key', () => ({ tls: { ...a, key: 'hush-hush' } }), /cannot be used: /],
    ['the certificate of another', () => ({ tls: b }), /cert is for DNS:b, and not for this node/],
    ['a short secret', () => ({ secret: 'hush-hush' }), /listen.secret takes 16 to 1024.* got 9$/],
    ['a secret of another type', () => ({ secret: 123456 }), /secret takes a string or bytes$/],
  ])('refuses %s, and repeats nothing that is secret', async (_, security, message) => {
    const opened = Log.open({ dir: freshDir(), ...listen(security()) });
    await expect(opened).rejects.toThrow(message);
    await expect(opened).rejects.not.toThrow(/hush|123456/);
  });

  it('a secret alone does not make plaintext leave this machine', async () => {
    const off = { host: '10.0.0.1', port: 7401, secret };
    expect(await codeOf(() => Log.open({ dir: freshDir(), follow: off }))).toBe('WAL_PLAINTEXT');
    expect(await codeOf(() => Log.open({ dir: freshDir(), listen: off }))).toBe('WAL_PLAINTEXT');
  });
});
