import { once } from 'node:events';
import { type IncomingHttpHeaders, request } from 'node:http';
import { connect } from 'node:net';
import { describe, expect, it, onTestFinished } from 'vitest';
import { serveStatusPage } from '../../src/observe/status_page.js';
import { codeOf, openLog, small } from '../api/helpers.js';
import { Running, walmirror } from '../cli/helpers.js';
import { expectStatus } from '../helpers/status_schema.js';

interface Got {
  readonly code: number | undefined;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** With a Host of our own, which `fetch` does not allow. */
function get(port: number, path: string, options: { host?: string; method?: string } = {}) {
  const { host = `127.0.0.1:${port}`, method = 'GET' } = options;
  return new Promise<Got>((resolve, reject) => {
    const asked = request({ port, host: '127.0.0.1', path, method, headers: { host } });
    asked.on('error', reject);
    asked.on('response', (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('end', () => {
        const body = Buffer.concat(chunks).toString();
        resolve({ code: response.statusCode, headers: response.headers, body });
      });
    });
    asked.end();
  });
}

async function serve(
  status: Parameters<typeof serveStatusPage>[0]['status'],
  hosts: string[] = [],
) {
  const page = await serveStatusPage({ host: '127.0.0.1', port: 0, hosts, status });
  onTestFinished(() => page.close());
  return page;
}

describe('the status page', () => {
  it('serves itself, all that it refers to, and the status', async () => {
    const log = await openLog(small);
    const page = await log.serveStatus();
    onTestFinished(() => page.close());
    const { port } = page;
    expect(page.url).toBe(`http://127.0.0.1:${port}/`);
    const index = await get(port, '/');
    expect(index.code).toBe(200);
    const links = [...index.body.matchAll(/(?:src|href)="([^":]+)"/g)].map(([, path]) => path);
    expect(links.length).toBe(4);
    const imports = (await get(port, '/page.js')).body.matchAll(/from '\.(\/\w+\.js)'/g);
    for (const path of [...links.map((each) => `/${each}`), ...[...imports].map(([, at]) => at!)]) {
      const { code, headers } = await get(port, path);
      expect(code, path).toBe(200);
      expect(headers['content-type'], path).toMatch(/^text\/(css|javascript)/);
    }
    const { code, body } = await get(port, '/status.json?x');
    expect(code).toBe(200);
    expectStatus(JSON.parse(body));
  });

  it('lets nothing in from elsewhere, and nobody frame it', async () => {
    const { port } = await serve(async () => undefined);
    for (const path of ['/', '/page.js', '/status.json', '/nothing']) {
      const { headers } = await get(port, path);
      const policy = String(headers['content-security-policy']);
      expect(policy).toMatch(/default-src 'none'.*frame-ancestors 'none'/);
      expect(policy).not.toMatch(/unsafe|https?:|\*/);
      expect(headers['x-content-type-options']).toBe('nosniff');
      expect(headers['cache-control']).toBe('no-store');
      expect(headers['access-control-allow-origin']).toBeUndefined();
    }
  });

  it('turns away who was led here under a foreign name', async () => {
    const { port } = await serve(async () => undefined, ['status.example']);
    for (const host of [
      'evil.example',
      `evil.example:${port}`,
      '127.0.0.1.evil.example',
      'x@localhost',
    ]) {
      expect((await get(port, '/status.json', { host })).code, host).not.toBe(503);
      expect((await get(port, '/', { host })).code, host).toBe(421);
    }
    for (const host of ['localhost', `LOCALHOST:${port}`, '[::1]:80', 'status.example']) {
      expect((await get(port, '/', { host })).code, host).toBe(200);
    }
  });

  it('is only for reading, and serves no other file', async () => {
    const { port } = await serve(async () => undefined);
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS']) {
      const { code, headers } = await get(port, '/', { method });
      expect(code).toBe(405);
      expect(headers.allow).toBe('GET, HEAD');
    }
    const head = await get(port, '/', { method: 'HEAD' });
    expect(head).toMatchObject({ code: 200, body: '' });
    for (const path of [
      '/../package.json',
      '/%2e%2e/package.json',
      '/constructor',
      '/page.css/',
      '//',
    ]) {
      expect((await get(port, path)).code, path).toBe(404);
    }
  });

  it('says why there is no status', async () => {
    const none = await serve(async () => undefined);
    const { code, body } = await get(none.port, '/status.json');
    expect([code, JSON.parse(body)]).toEqual([503, { error: 'no process has the log open' }]);
    const broken = await serve(async () => {
      throw new Error('it does not answer');
    });
    const failed = await get(broken.port, '/status.json');
    expect([failed.code, JSON.parse(failed.body)]).toEqual([503, { error: 'it does not answer' }]);
  });

  it('asks the log once for all who look at a time', async () => {
    let asked = 0;
    const log = await openLog(small);
    const { port } = await serve(async () => {
      asked += 1;
      return log.status();
    });
    await Promise.all(Array.from({ length: 20 }, () => get(port, '/status.json')));
    expect(asked).toBeLessThan(20);
    const before = asked;
    await expect
      .poll(async () => {
        await get(port, '/status.json');
        return asked;
      })
      .toBeGreaterThan(before);
  });

  it('takes so many connections and no more, and ends them with the log', async () => {
    const log = await openLog(small);
    const { port } = await log.serveStatus();
    let refused = 0;
    const sockets = await Promise.all(
      Array.from({ length: 50 }, async () => {
        const socket = connect({ port, host: '127.0.0.1' });
        socket.on('error', () => undefined);
        socket.on('close', () => {
          refused += 1;
        });
        await Promise.race([once(socket, 'connect'), once(socket, 'close')]);
        return socket;
      }),
    );
    await expect.poll(() => refused).toBe(50 - 32);
    await log.close();
    await expect.poll(() => refused).toBe(50);
    for (const socket of sockets) socket.destroy();
  });

  it('refuses a port that is taken, and to be seen from elsewhere unless told to', async () => {
    const log = await openLog(small);
    const { port } = await log.serveStatus();
    await expect(log.serveStatus({ port })).rejects.toMatchObject({
      code: 'WAL_IO',
      message: expect.stringContaining(`127.0.0.1:${port}`),
      hint: 'Choose another port; 0 takes any.',
    });
    expect(await codeOf(() => log.serveStatus({ host: '0.0.0.0' }))).toBe('WAL_PLAINTEXT');
    const open = await log.serveStatus({ host: '0.0.0.0', plaintext: true });
    expect((await get(open.port, '/')).code).toBe(200);
    await expect(log.serveStatus({ port: -1 })).rejects.toThrow(RangeError);
    await expect(log.serveStatus({ hosts: 'x' as never })).rejects.toThrow(/array of host names/);
    await log.close();
    expect(await codeOf(() => log.serveStatus())).toBe('WAL_CLOSED');
  });
});

describe('walmirror status --serve', () => {
  it('serves until Ctrl-C, through a log that is closed meanwhile', async () => {
    const log = await openLog({ ...small, name: 'n' });
    const serving = new Running(['status', '--dir', log.dir, '--serve', '0']);
    await expect.poll(() => serving.stderr).toMatch(/the status is at http:\/\/127\.0\.0\.1:\d+\//);
    const port = Number(/127\.0\.0\.1:(\d+)/.exec(serving.stderr)?.[1]);
    const { body } = await get(port, '/status.json');
    expect(JSON.parse(body)).toMatchObject({ name: 'n', state: 'open' });
    await log.close();
    await expect.poll(async () => (await get(port, '/status.json')).code).toBe(503);
    const { code, stdout } = await serving.stop('SIGINT');
    expect({ code, stdout }).toEqual({ code: 0, stdout: '' });
  });

  it.each([[['--serve', '0', '--watch'], /--serve goes without --json and --watch/]])(
    'refuses %j',
    async (args, message) => {
      const { code, stderr } = await walmirror(['status', '--dir', '.', ...args]);
      expect(code).toBe(2);
      expect(stderr).toMatch(message);
    },
  );
});
