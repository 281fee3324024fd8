import {
  chmodSync,
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readSecurity } from '../../src/cli/security.js';
import { tempDir } from '../global/temp.js';
import { Authority } from '../helpers/certificates.js';
import { listeningAddress, Running, statusWhen, succeed, walmirror } from './helpers.js';

let authority: Authority;
beforeAll(() => {
  authority = new Authority();
});
afterAll(() => authority.remove());

/** The options of a node of this name, and its files. */
function tlsFiles(dir: string, name: string, allow: string, by = authority): string[] {
  const { key, cert } = by.issue({ dns: [name] });
  const files = { key: join(dir, `${name}.key`), cert: join(dir, `${name}.pem`) };
  const ca = join(dir, 'ca.pem');
  writeFileSync(files.key, key, { mode: 0o600 });
  writeFileSync(files.cert, cert);
  writeFileSync(ca, by.cert, { mode: 0o644 });
  const paths = ['--tls-cert', files.cert, '--tls-key', files.key, '--tls-ca', ca];
  return [...paths, '--tls-allow', allow];
}

function written(file: string): string {
  return existsSync(file) ? readFileSync(file, 'utf8') : '';
}

async function startPair(dir: string, ofA: readonly string[], ofB: readonly string[]) {
  const [a, b, output] = [join(dir, 'a'), join(dir, 'b'), join(dir, 'b.txt')];
  const listen = ['--listen', '127.0.0.1:0', '--standbys', 'ANY 1 (*)', '--stay', '--verbose'];
  const primary = new Running(['primary', '--dir', a, ...listen, ...ofA]);
  const address = await listeningAddress(a);
  const follow = ['--follow', address, '--output', output, '--verbose'];
  const standby = new Running(['standby', '--dir', b, ...follow, ...ofB]);
  return { a, b, output, primary, standby, address };
}

describe('from the command line', () => {
  it('nodes replicate over TLS, take new certificates on SIGHUP, and serve a repair', async () => {
    const dir = tempDir('tls');
    const crl = join(dir, 'crl.pem');
    writeFileSync(crl, authority.crl(), { mode: 0o644 });
    const ofA = [...tlsFiles(dir, 'a', 'b'), '--tls-crl', crl];
    const ofB = [...tlsFiles(dir, 'b', 'a'), '--tls-crl', crl];
    const { a, b, output, primary, standby, address } = await startPair(dir, ofA, ofB);
    primary.child.stdin.write('one\n');
    await expect.poll(() => written(output)).toBe('one\n');

    const next = new Authority('the next ca');
    tlsFiles(dir, 'b', 'a', next);
    tlsFiles(dir, 'a', 'b', next);
    writeFileSync(crl, next.crl());
    for (const node of [primary, standby]) {
      node.child.kill('SIGHUP');
      await expect.poll(() => node.stderr).toMatch(/the certificates were read again/);
    }
    next.remove();
    // Its connection has to be made anew: with the certificates of the next authority.
    await standby.stop();
    const [segment] = readdirSync(b).filter((name) => name.endsWith('.wal'));
    const damaged = openSync(join(b, segment!), 'r+');
    writeSync(damaged, 'X', 4300);
    closeSync(damaged);
    const repair = ['repair', '--dir', b, '--from', address];
    const refused = await walmirror(repair);
    expect(refused.stdout).toMatch(/not repaired: .*may have no room, or expect TLS/);
    expect(await succeed([...repair, ...ofB])).toMatch(/1 range repaired/);
    const again = ['--follow', address, '--output', output, '--from', '2'];
    new Running(['standby', '--dir', b, ...again, ...ofB]);
    primary.child.stdin.write('two\n');
    await expect.poll(() => written(output)).toBe('one\ntwo\n');

    writeFileSync(join(dir, 'a.pem'), 'nonsense');
    primary.child.kill('SIGHUP');
    await expect.poll(() => primary.stderr).toMatch(/the certificates stay as they are: /);
    tlsFiles(dir, 'a', 'b');
    writeFileSync(join(dir, 'ca.pem'), authority.cert.slice(0, -60));
    writeFileSync(crl, authority.crl());
    primary.child.kill('SIGHUP');
    await expect.poll(() => primary.stderr).toMatch(/stay as they are: --tls-ca: .* cut short/);
    await statusWhen(a, ({ standbys }) => standbys.length === 1);
    expect(await succeed(['status', '--dir', a])).toMatch(/^standby +b at [\d.:]+ \(TLS\), /m);
    expect(await succeed(['status', '--dir', b])).toMatch(/^primary +a at [\d.:]+ \(TLS\), conn/m);

    const copy = join(dir, 'c');
    const follow = ['--follow', address, '--output', join(dir, 'c.txt')];
    const stranger = new Running(['standby', '--dir', copy, '--name', 'c', ...follow]);
    const { code, stderr } = await stranger.stopWhen(/expect TLS/);
    expect({ code, stderr }).toMatchObject({ code: 0 });
    expect(primary.stderr).toMatch(/refused 127\.0\.0\.1:\d+: TLS: /);
  });

  it('nodes that share a secret replicate, and one that has another is told', async () => {
    const dir = tempDir('secret');
    const [right, wrong] = [join(dir, 'secret'), join(dir, 'wrong')];
    writeFileSync(right, `${'5'.repeat(64)}\n`, { mode: 0o600 });
    writeFileSync(wrong, `${'6'.repeat(64)}\n`, { mode: 0o600 });
    const security = ['--secret-file', right];
    const { output, primary, address } = await startPair(dir, security, security);
    primary.child.stdin.write('one\n');
    await expect.poll(() => written(output)).toBe('one\n');
    const follow = ['--follow', address, '--secret-file', wrong];
    const refused = await walmirror(['standby', '--dir', join(dir, 'c'), ...follow]);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/the secret of the peer is another one\nhint: /);
    await expect.poll(() => primary.stderr).toMatch(/refused .*: the secret of the peer/);
  });

  it('refuses files that are missing, that others can read, or that do not fit', async () => {
    const dir = tempDir('tls');
    const ofA = tlsFiles(dir, 'a', 'b');
    const [cert, key, ca] = [1, 3, 5].map((i) => ofA[i]!);
    const tls = { tlsCert: cert!, tlsKey: key!, tlsCa: ca!, tlsAllow: ['b'] };
    const { tlsCa: _, tlsAllow: __, ...part } = tls;
    expect(() => readSecurity(part)).toThrow(/TLS needs --tls-ca and --tls-allow too/);
    expect(() => readSecurity({ ...tls, tlsCa: `${ca}x` })).toThrow(/--tls-ca: cannot read it/);
    const short = join(dir, 'short');
    writeFileSync(short, 'short\n', { mode: 0o600 });
    expect(readSecurity({ secretFile: short }).secret).toEqual(Buffer.from('short'));
    for (const mode of [0o640, 0o604]) {
      chmodSync(short, mode);
      const text =
        /--secret-file: .*: others than its owner can read it \(mode 06[04][04]\): chmod/;
      expect(() => readSecurity({ secretFile: short })).toThrow(text);
    }
    chmodSync(short, 0o600);
    chmodSync(key!, 0o644);
    expect(() => readSecurity(tls)).toThrow(/--tls-key: .*: others than its owner can read it/);
    chmodSync(key!, 0o600);
    expect(readSecurity(tls).tls?.allow).toEqual(['b']);
    expect(readSecurity({ ...tls, tlsAllow: ['b', '*'] }).tls?.allow).toBe('*');
    const crl = join(dir, 'crl.pem');
    writeFileSync(crl, authority.crl(), { mode: 0o644 });
    expect(String(readSecurity({ ...tls, tlsCrl: crl }).tls?.crl)).toMatch(/BEGIN X509 CRL/);
    expect(() => readSecurity({ tlsCrl: crl })).toThrow(/TLS needs --tls-cert and --tls-key and/);
    for (const [option, path] of [
      ['--tls-ca', ca!],
      ['--tls-crl', crl],
    ] as const) {
      chmodSync(path, 0o666);
      const text = `${option}: ${path}: others than its owner can write it (mode 0666)`;
      expect(() => readSecurity({ ...tls, tlsCrl: crl })).toThrow(text);
      chmodSync(path, 0o644);
    }
    writeFileSync(cert!, 'nonsense');

    const start = ['primary', '--dir', join(dir, 'a'), '--listen', '127.0.0.1:0'];
    const says = async (args: readonly string[]): Promise<string> => {
      const { code, stderr } = await walmirror([...start, ...args]);
      expect(code).toBe(2);
      return stderr;
    };
    expect(await says(ofA)).toMatch(/TLS: these key, cert, ca and crl cannot be used: /);
    expect(await says(['--secret-file', short])).toMatch(/--secret-file: takes 16 to 1024.* got 5/);
    tlsFiles(dir, 'a', 'b');
    for (const garbage of ['', 'nonsense', readFileSync(key!)]) {
      writeFileSync(ca!, garbage);
      expect(await says(ofA)).toMatch(/error: --tls-ca holds no certificate in PEM/);
    }
    expect(await says([...tlsFiles(dir, 'a', 'b.*')])).toMatch(/--tls-allow has "b\.\*", and no/);
    const ofX = tlsFiles(dir, 'x', 'b');
    expect(await says([...ofX, '--plaintext'])).toMatch(/the --tls options or --plaintext/);
    expect(await says(ofX)).toMatch(/--tls-cert is for DNS:x, and not for this node, whose name/);
  });
});
