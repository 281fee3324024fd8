import { describe, expect, it, onTestFinished } from 'vitest';
import { EtcdClient } from '../../src/referee/etcd_client.js';
import { type EtcdOptions, resolveEtcd } from '../../src/referee/etcd_options.js';
import { EtcdStore } from '../../src/referee/etcd_store.js';
import { EtcdWatch } from '../../src/referee/etcd_watch.js';
import { type Asked, failure, Gateway, header, type Reply, rawMember } from './etcd_gateway.js';

function storeOf(endpoints: readonly string[], more: Partial<EtcdOptions> = {}): EtcdStore {
  const timing = { callTimeoutMs: 5000, ttlMs: 20_000 };
  const options = resolveEtcd({ endpoints, group: 'g', memory: 'm', timing, ...more });
  const store = new EtcdStore(new EtcdClient(options), options.keys);
  onTestFinished(() => store.close());
  return store;
}

const empty: Reply = [200, { header: header() }];
const away = { code: 'WAL_REFEREE_AWAY' };
const refused = { code: 'WAL_REFEREE_REFUSED' };
const kept = (ttl: string, part = {}): Reply => [
  200,
  { result: { header: header(part), ID: '7', TTL: ttl } },
];

describe('records in etcd', () => {
  it('are asked for and told in base64, numbers as strings, whatever is left out', async () => {
    const value = Buffer.from('{"epoch":1}').toString('base64');
    const key = (name: string) => Buffer.from(`/walmirror/g/${name}`).toString('base64');
    const kvs = [
      { key: key('leader'), value, mod_revision: '9007199254740993' },
      { key: key('holder'), value, mod_revision: 4, lease: '9223372036854775807' },
      { key: key('rule'), value, mod_revision: '3', lease: '0' },
      { key: key('of_a_later_release'), value, mod_revision: '3' },
    ];
    const revision = '9007199254740995';
    const member = await Gateway.open(() => [200, { header: header({ revision }), kvs }]);
    const snapshot = await storeOf([member.url]).read();
    expect(member.asked).toEqual([
      {
        path: '/v3/kv/range',
        question: {
          key: Buffer.from('/walmirror/g/').toString('base64'),
          range_end: Buffer.from('/walmirror/g0').toString('base64'),
        },
        token: undefined,
      },
    ]);
    expect(snapshot).toMatchObject({ origin: '99', revision: 9007199254740995n });
    expect(Object.fromEntries(snapshot.entries)).toEqual({
      leader: { value: '{"epoch":1}', version: '9007199254740993', lease: '' },
      holder: { value: '{"epoch":1}', version: '4', lease: '9223372036854775807' },
      rule: { value: '{"epoch":1}', version: '3', lease: '' },
    });
  });

  it('are written in one transaction; a lease that has ended meanwhile is no error', async () => {
    const member = await Gateway.open(() => [
      200,
      { header: header(), succeeded: true, responses: [{}, {}, { response_range: {} }] },
    ]);
    const store = storeOf([member.url]);
    const expected = { leader: '0', holder: '4' };
    const writes = { leader: { value: 'x', lease: '7' }, pause: null };
    expect(await store.commit(expected, writes)).toMatchObject({ applied: true });
    const { compare, success, failure: otherwise } = member.asked[0]!.question;
    expect(compare).toEqual([
      expect.objectContaining({ target: 'MOD', result: 'EQUAL', mod_revision: '0' }),
      expect.objectContaining({ target: 'MOD', result: 'EQUAL', mod_revision: '4' }),
    ]);
    expect(success).toEqual([
      { request_put: { key: expect.any(String), value: 'eA==', lease: '7' } },
      { request_delete_range: { key: expect.any(String) } },
      { request_range: expect.anything() },
    ]);
    expect(otherwise).toEqual([{ request_range: expect.anything() }]);
    member.reply = ({ path }) =>
      path.endsWith('txn') ? failure(5, 'requested lease not found') : empty;
    expect(await store.commit(expected, writes)).toMatchObject({ applied: false });
    await store.revoke('7');
  });

  it.each<[string, Reply]>([
    ['no revision', [200, { header: { cluster_id: '1' } }]],
    ['no header', [200, {}]],
    [
      'a key without a version',
      [200, { header: header(), kvs: [{ key: btoa('/walmirror/g/rule') }] }],
    ],
  ])('%s: that is no answer of etcd', async (_, reply) => {
    const member = await Gateway.open(() => reply);
    await expect(storeOf([member.url]).read()).rejects.toMatchObject(refused);
  });
});

describe('a renewal', () => {
  /** Answers of reads, then of keep-alives; the last of each stays. */
  async function renewing(reads: Reply[], keeps: Reply[]) {
    const next = (replies: Reply[]) => (replies.length > 1 ? replies.shift()! : replies[0]!);
    const member = await Gateway.open(({ path }) =>
      path.endsWith('keepalive') ? next(keeps) : next(reads),
    );
    const timing = { callTimeoutMs: 2000 };
    return { member, store: storeOf([member.url], { timing: { ...timing, ttlMs: 6000 } }) };
  }
  const read = (part = {}): Reply => [200, { header: header(part) }];

  it('counts between two reads of one term, at the member that renewed', async () => {
    const { member, store } = await renewing([read()], [kept('5')]);
    expect(await store.renew('7')).toMatchObject({ ttlMs: 5000 });
    expect(member.paths).toEqual(['range', 'keepalive', 'range']);
    expect(await store.renew('7')).toMatchObject({ ttlMs: 5000 });
    expect(member.paths.slice(3)).toEqual(['keepalive', 'range']);
  });

  it('is none where the lease has ended', async () => {
    const { store } = await renewing([read()], [[200, { result: { header: header(), ID: '7' } }]]);
    expect(await store.renew('7')).toBeUndefined();
  });

  it('ends in the time of one question, whatever hangs; then it was none', async () => {
    const { member, store } = await renewing([read(), 'hang'], [kept('5')]);
    const began = performance.now();
    await expect(store.renew('7')).rejects.toMatchObject({
      ...away,
      message: expect.stringMatching(/did not renew the lease: no answer within 2000 ms/),
    });
    expect(performance.now() - began).toBeGreaterThanOrEqual(1900);
    expect(member.paths).toEqual(['range', 'keepalive', 'range']);
  });

  it('is asked for again where the term was another afterwards', async () => {
    const { member, store } = await renewing([read(), read({ term: '3' })], [kept('5')]);
    expect(await store.renew('7')).toMatchObject({ ttlMs: 5000 });
    expect(member.paths.filter((path) => path === 'keepalive').length).toBe(2);
  });

  it('is not believed while terms change, or where another member renewed', async () => {
    let term = 2;
    const rising = await Gateway.open(({ path }) => {
      term += 1;
      return path.endsWith('keepalive') ? kept('5') : read({ term: `${term}` });
    });
    await expect(storeOf([rising.url]).renew('7')).rejects.toMatchObject(away);
    const { store } = await renewing([read()], [kept('5', { member: '12' })]);
    await expect(store.renew('7')).rejects.toMatchObject({
      ...away,
      message: expect.stringContaining('did not confirm'),
      hint: expect.stringContaining('load balancer'),
    });
  });
});

describe('several members', () => {
  it('are asked in turn: what hangs, refuses or has no leader is passed over', async () => {
    const good = await Gateway.open(() => empty);
    const gone = await Gateway.open(() => 'hang');
    const cut = await Gateway.open(() => 'cut');
    const leaderless = await Gateway.open(() => [503, failure(14, 'etcdserver: no leader')[1]]);
    const proxy = await Gateway.open(() => [502, '<html>']);
    const urls = [gone, cut, leaderless, proxy, good].map(({ url }) => url);
    const store = storeOf(urls);
    await store.read();
    // The next question goes where there was an answer.
    await store.read();
    expect([gone, cut, leaderless, proxy].map(({ asked }) => asked.length)).toEqual([1, 1, 1, 1]);
    expect(good.asked.length).toBe(2);
  });

  it('that all hang end the call in its time, and are named', async () => {
    const hanging = await Promise.all([1, 2, 3].map(() => Gateway.open(() => 'hang')));
    const urls = hanging.map(({ url }) => url);
    const store = storeOf(urls, { timing: { callTimeoutMs: 3000, ttlMs: 12_000 } });
    const began = performance.now();
    const message = new RegExp(urls.map((url) => `${url}: no answer within \\d+ ms`).join('; '));
    await expect(store.read()).rejects.toMatchObject({
      ...away,
      message: expect.stringMatching(message),
    });
    // In the time of one call; the rest is the machine's.
    expect(performance.now() - began).toBeGreaterThanOrEqual(2900);
    expect(hanging.map(({ asked }) => asked.length)).toEqual([1, 1, 1]);
  });

  it('are given half of the time that is left, each: who is but slow answers', async () => {
    const hanging = await Promise.all([1, 2, 3, 4].map(() => Gateway.open(() => 'hang')));
    const store = storeOf(
      hanging.map(({ url }) => url),
      { timing: {} },
    );
    const { message } = (await store.read().catch((error: Error) => error)) as Error;
    const [first] = [...message.matchAll(/within (\d+) ms/g)].map((match) => Number(match[1]));
    // Of 1000 ms; a fourth would be 250.
    expect(first).toBeGreaterThan(400);
  });

  const junk: [string, Reply][] = [
    ['has no header', [200, {}]],
    ['does not know the path', [404, '404 page not found\n']],
    ['does not know the path, in JSON', failure(5, 'Not Found')],
    ['is a proxy that forbids', [403, '<html>']],
    ['leads elsewhere', [307, '']],
    ['does not implement it', failure(12, 'unimplemented')],
    ['is corrupt', failure(15, 'etcdserver: corrupt cluster')],
  ];
  it.each(junk)('of which one %s: the others are asked', async (_, reply) => {
    const bad = await Gateway.open(() => reply);
    const good = await Gateway.open(() => empty);
    const store = storeOf([bad.url, good.url]);
    await store.read();
    await store.read();
    expect([bad.asked.length, good.asked.length]).toEqual([1, 2]);
  });

  it('that are none of etcd refuse, if all say so; no error of etcd itself comes out', async () => {
    const bad = await Gateway.open(() => failure(5, 'Not Found'));
    const message = expect.stringMatching(/found nothing: Not Found: is it etcd 3\.4 or later\?/);
    await expect(storeOf([bad.url]).read()).rejects.toMatchObject({ ...refused, message });
    const grant = storeOf([bad.url]).grant(20_000);
    await expect(grant).rejects.toMatchObject({ ...refused, message });
  });

  it('of which one may have done it, and the next refuses: it may have been done', async () => {
    const cut = await Gateway.open(() => 'cut');
    const strict = await Gateway.open(() => failure(7, 'etcdserver: permission denied'));
    const commit = storeOf([cut.url, strict.url]).commit({}, { pause: null });
    await expect(commit).rejects.toMatchObject({
      ...away,
      message: expect.stringContaining('permission denied'),
    });
  });

  it('that change the protocol unasked end the call', async () => {
    const upgrade = 'Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n';
    const bad = await rawMember(`HTTP/1.1 101 Switching Protocols\r\n${upgrade}`);
    await expect(storeOf([bad]).read()).rejects.toMatchObject({
      ...away,
      message: expect.stringContaining('the connection ended without an answer'),
    });
    const good = await Gateway.open(() => empty);
    await storeOf([bad, good.url]).read();
  });

  it('are not asked again what one of them refuses', async () => {
    const one = await Gateway.open(() => failure(7, 'etcdserver: permission denied'));
    const two = await Gateway.open(() => empty);
    await expect(storeOf([one.url, two.url]).read()).rejects.toMatchObject({
      ...refused,
      message: `etcd refuses: ${one.url}: etcdserver: permission denied`,
    });
    expect(two.asked.length).toBe(0);
  });

  it('that keep no connection are asked on another one', async () => {
    const member = await Gateway.open(() => empty);
    const store = storeOf([member.url]);
    for (let i = 0; i < 20; i += 1) {
      await store.read();
      member.forget();
    }
    expect(member.asked.length).toBe(20);
  });

  it('end a call at once when its signal, or close, says so', async () => {
    const member = await Gateway.open(() => 'hang');
    const store = storeOf([member.url]);
    const stop = new AbortController();
    const reason = new Error('enough');
    const read = expect(store.read(stop.signal)).rejects.toBe(reason);
    await expect.poll(() => member.asked.length).toBe(1);
    stop.abort(reason);
    await read;
    const closed = expect(store.read()).rejects.toMatchObject(away);
    await expect.poll(() => member.asked.length).toBe(2);
    store.close();
    await closed;
  });
});

describe('users', () => {
  const credentials = { username: 'me', password: 'secret' };
  /** Takes a token once it was given; `tokens` are good one after the other. */
  async function guarded(isGood: (token: string | undefined) => boolean) {
    let given = 0;
    return await Gateway.open(({ path, token }: Asked) => {
      if (path.endsWith('authenticate')) {
        given += 1;
        return [200, { header: header(), token: `token-${given}` }];
      }
      return isGood(token) ? empty : failure(16, 'etcdserver: invalid auth token');
    });
  }

  it('log in before the first question, and anew when the token has ended', async () => {
    let good = 'token-1';
    const member = await guarded((token) => token === good);
    const store = storeOf([member.url], credentials);
    await store.read();
    await store.read();
    expect(member.paths).toEqual(['authenticate', 'range', 'range']);
    expect(member.asked[0]?.question).toEqual({ name: 'me', password: 'secret' });
    good = 'token-2';
    await store.read();
    expect(member.paths.slice(3)).toEqual(['range', 'authenticate', 'range']);
  });

  it('do not log in for ever', async () => {
    const member = await guarded(() => false);
    await expect(storeOf([member.url], credentials).read()).rejects.toMatchObject(refused);
    expect(member.paths).toEqual(['authenticate', 'range', 'authenticate', 'range']);
  });

  it('do not keep a token that cannot be sent', async () => {
    let token = 'a\r\nb';
    const member = await Gateway.open(({ path }) =>
      path.endsWith('authenticate') ? [200, { header: header(), token }] : empty,
    );
    const store = storeOf([member.url], credentials);
    await expect(store.read()).rejects.toMatchObject(away);
    token = 'good';
    await store.read();
    expect(member.asked.at(-1)?.token).toBe('good');
  });

  it('may have a token instead', async () => {
    const member = await Gateway.open(() => empty);
    await storeOf([member.url], { token: 'a.jwt' }).read();
    expect(member.asked[0]?.token).toBe('a.jwt');
  });
});

describe('the watch', () => {
  it('is a hint, and where there is none the time is waited for', async () => {
    const line = `${JSON.stringify({ result: { header: header(), created: true } })}\n`;
    const member = await Gateway.open(() => [200, line]);
    const store = storeOf([member.url]);
    await store.changed(60_000);
    expect(member.asked[0]).toMatchObject({ path: '/v3/watch' });
    // A stream that has ended, and is closed as it is let go of, is no error.
    await store.changed(60_000, AbortSignal.abort());
    store.close();
  });

  it('that ends is opened again, but not at once', async () => {
    const member = await Gateway.open(() => [200, '\n']);
    const store = storeOf([member.url]);
    // Before the first, since it may be heard of late.
    const began = performance.now();
    while (member.asked.length < 2) await store.changed(1);
    expect(performance.now() - began).toBeGreaterThan(900);
    while (member.asked.length < 3) await store.changed(1);
    expect(performance.now() - began).toBeGreaterThan(1800);
  });

  it('that never is silent makes no looks without a pause', async () => {
    const member = await Gateway.open(() => 'drip');
    const store = storeOf([member.url]);
    await store.changed(60_000);
    const began = performance.now();
    for (let i = 0; i < 10; i += 1) await store.changed(60_000);
    expect(performance.now() - began).toBeGreaterThan(150);
  });

  it('ends when nobody asks for it any more, and is opened anew', async () => {
    const member = await Gateway.open(() => 'drip');
    const options = resolveEtcd({ endpoints: [member.url], group: 'g', memory: 'm' });
    const watch = new EtcdWatch(new EtcdClient(options), {}, 50);
    onTestFinished(() => watch.close());
    await watch.changed(60_000);
    expect(member.dripping).toBe(1);
    await expect.poll(() => member.dripping).toBe(0);
    await expect.poll(() => watch.changed(100).then(() => member.asked.length)).toBe(2);
  });
});

describe('the options of etcd', () => {
  it('that cannot be are refused, and no secret is told', () => {
    const good = { endpoints: ['http://127.0.0.1:1'], group: 'g', memory: 'm' };
    const secure = { endpoints: ['https://10.0.0.1:1'] };
    const bad: [object, RegExp][] = [
      [{ endpoints: 'http://a:1' }, /endpoints takes an array of URLs/],
      [{ endpoints: [] }, /takes 1 to 16 URLs, got 0/],
      [{ endpoints: ['127.0.0.1:1'] }, /takes URLs (like|of scheme)/],
      [{ endpoints: ['http://u:p@127.0.0.1:1'] }, /of scheme, host and port alone/],
      [{ endpoints: ['http://127.0.0.1:1/v3'] }, /of scheme, host and port alone/],
      [{ endpoints: ['http://127.0.0.1:1', 'http://127.0.0.1:1/'] }, /names one twice/],
      [{ endpoints: ['http://10.0.0.1:1'] }, /10\.0\.0\.1:1 is off loopback, and not encrypted/],
      [{ endpoints: ['http://etcd:1'] }, /etcd:1 is off loopback/],
      [{ group: 'a/b' }, /group takes 1 to 100 letters/],
      [{ prefix: 'x' }, /prefix takes a path like/],
      [{ prefix: '/x/' }, /prefix takes a path like/],
      [{ username: 'hush' }, /takes username and password together/],
      [{ username: 'a', password: 'hush', token: 'hush' }, /got both/],
      [{ token: 'hush hush' }, /token takes 1 to 8192 printable characters/],
      [{ token: 4242 }, /token takes 1 to 8192 printable characters/],
      [{ endpoints: 'https://root:hush@10.0.0.1:1' }, /endpoints takes an array of URLs/],
      [{ endpoints: [4242] }, /endpoints takes URLs, got number/],
      [{ ...secure, tls: { passphrase: 4242 } }, /passphrase takes a string/],
      [{ ...secure, tls: { cert: 'x', key: 4242 } }, /key takes PEM/],
      [{ ...secure, tls: { cert: 'x', key: ['hush'] } }, /key takes PEM/],
      [{ ...secure, tls: { ca: [4242] } }, /ca takes PEM/],
      [{ tls: {} }, /takes https URLs with tls/],
      [{ ...secure, tls: { cert: 'hush' } }, /takes cert and key together/],
      [{ ...secure, tls: { ca: 'hush' } }, /these ca, cert and key cannot be used/],
      [{ ...secure, tls: { pfx: 'hush' } }, /knows no option "pfx"/],
      [{ memory: '' }, /memory takes the path of a file/],
    ];
    for (const [part, message] of bad) {
      const resolve = () => resolveEtcd({ ...good, ...part } as EtcdOptions);
      expect(resolve).toThrow(message);
      expect(resolve).not.toThrow(/hush|4242/);
    }
    const { keys } = resolveEtcd({ ...good, endpoints: ['http://[::1]:1', 'http://localhost:2'] });
    expect(keys).toBe('/walmirror/g/');
    const off = { ...good, endpoints: ['http://10.0.0.1:1'], plaintext: true };
    expect(resolveEtcd(off).endpoints).toEqual(['http://10.0.0.1:1']);
  });
});
