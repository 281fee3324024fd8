import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { request } from 'node:http';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { freshDir } from '../helpers/temp.js';

const root = join(import.meta.dirname, '../..');

interface Service {
  readonly child: ChildProcess;
  readonly url: string;
  readonly output: () => string;
  readonly ended: Promise<unknown[]>;
}

async function serve(dir: string): Promise<Service> {
  const args = ['examples/http-service.mjs', dir, '0'];
  const child = spawn(process.execPath, args, { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(child, 'close');
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  const port = () => /^serving on port (\d+)$/m.exec(output)?.[1];
  await expect.poll(port).toBeDefined();
  return { child, url: `http://127.0.0.1:${port()}`, output: () => output, ended };
}

async function put(service: Service, key: string, body: string): Promise<string> {
  const answer = await fetch(`${service.url}/${key}`, { method: 'PUT', body });
  expect(answer.status).toBe(200);
  return answer.text();
}

it('http-service keeps what it answered through kill -9', async () => {
  const dir = freshDir();
  const first = await serve(dir);
  expect(await put(first, 'answer', '42')).toBe('record 1\n');
  first.child.kill('SIGKILL');
  await first.ended;
  const second = await serve(dir);
  expect(await (await fetch(`${second.url}/answer`)).text()).toBe('42');
  expect((await fetch(`${second.url}/question`)).status).toBe(404);
  expect((await fetch(`${second.url}/answer`, { method: 'DELETE' })).status).toBe(405);
  expect((await fetch(`${second.url}/%`)).status).toBe(400);
});

it('http-service answers what it has begun, and then ends, on SIGTERM', async () => {
  const service = await serve(freshDir());
  const headers = { expect: '100-continue' };
  const slow = request(`${service.url}/slow`, { method: 'PUT', agent: false, headers });
  const answered = once(slow, 'response');
  slow.flushHeaders();
  await once(slow, 'continue'); // The service has begun with it, and waits for its body.
  service.child.kill('SIGTERM');
  await expect.poll(service.output).toContain('SIGTERM: stopping');
  slow.end('begun, and ended');
  const [response] = await answered;
  expect(response.statusCode).toBe(200);
  response.resume();
  expect(await service.ended).toEqual([0, null]);
  expect(service.output()).toMatch(/stopped\n$/);
});
