import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { onTestFinished } from 'vitest';
import { tempDir } from '../global/temp.js';

interface Message {
  readonly id?: number;
  readonly method?: string;
  readonly params?: Record<string, unknown>;
  readonly result?: Record<string, unknown>;
  readonly error?: { readonly message: string };
}

/** One page of a headless Chromium, driven by its debugging protocol over two pipes. */
export class BrowserPage {
  readonly #child: ChildProcess;
  readonly #answers = new Map<number, (message: Message) => void>();
  #last = 0;
  #session = '';
  /** What went wrong in the page: exceptions, refused loads, violations of its policy. */
  readonly problems: string[] = [];

  private constructor(program: string) {
    const args = ['--headless=new', '--no-sandbox', '--hide-scrollbars', '--remote-debugging-pipe'];
    const quiet = ['--no-first-run', '--disable-background-networking', '--disable-extensions'];
    const profile = `--user-data-dir=${tempDir('browser')}`;
    this.#child = spawn(program, [...args, ...quiet, profile], {
      stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
    });
    let rest = '';
    const output = this.#child.stdio[4] as Readable;
    output.setEncoding('utf8').on('data', (chunk: string) => {
      const parts = (rest + chunk).split('\0');
      rest = parts.pop() ?? '';
      for (const part of parts) this.#heard(JSON.parse(part) as Message);
    });
    (this.#child.stdio[3] as Writable).on('error', () => undefined);
  }

  static async open(program: string, width: number, height: number): Promise<BrowserPage> {
    const page = new BrowserPage(program);
    onTestFinished(() => page.#end());
    const { targetId } = await page.#call('Target.createTarget', { url: 'about:blank' });
    const attach = { targetId, flatten: true };
    page.#session = String((await page.#call('Target.attachToTarget', attach)).sessionId);
    for (const domain of ['Page', 'Runtime', 'Log']) await page.#call(`${domain}.enable`);
    const metrics = { width, height, deviceScaleFactor: 1, mobile: false };
    await page.#call('Emulation.setDeviceMetricsOverride', metrics);
    return page;
  }

  async scheme(value: 'light' | 'dark'): Promise<void> {
    const features = [{ name: 'prefers-color-scheme', value }];
    await this.#call('Emulation.setEmulatedMedia', { features });
  }

  async size(width: number, height: number): Promise<void> {
    const metrics = { width, height, deviceScaleFactor: 1, mobile: false };
    await this.#call('Emulation.setDeviceMetricsOverride', metrics);
  }

  async go(url: string): Promise<void> {
    await this.#call('Page.navigate', { url });
  }

  async evaluate(expression: string): Promise<unknown> {
    const options = { expression, returnByValue: true, awaitPromise: true };
    const { result } = await this.#call('Runtime.evaluate', options);
    return (result as { value?: unknown }).value;
  }

  /** A PNG of the whole page. */
  async screenshot(): Promise<Buffer> {
    const options = { format: 'png', captureBeyondViewport: true };
    const { data } = await this.#call('Page.captureScreenshot', options);
    return Buffer.from(String(data), 'base64');
  }

  #call(method: string, params: Record<string, unknown> = {}): Promise<Record<string, unknown>> {
    this.#last += 1;
    const id = this.#last;
    const session = this.#session === '' ? {} : { sessionId: this.#session };
    const text = JSON.stringify({ id, method, params, ...session });
    return new Promise((resolve, reject) => {
      this.#answers.set(id, ({ result = {}, error }) => {
        if (error === undefined) resolve(result);
        else reject(new Error(`${method}: ${error.message}`));
      });
      (this.#child.stdio[3] as Writable).write(`${text}\0`);
    });
  }

  #heard(message: Message): void {
    if (message.id !== undefined) {
      this.#answers.get(message.id)?.(message);
      this.#answers.delete(message.id);
    } else if (message.method === 'Runtime.exceptionThrown') {
      this.problems.push(JSON.stringify(message.params));
    } else if (message.method === 'Log.entryAdded') {
      const { entry } = message.params as { entry: { level: string; text: string } };
      if (entry.level === 'error') this.problems.push(entry.text);
    }
  }

  async #end(): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const ended = once(this.#child, 'exit');
    // Its processes end with it; killed, it would leave them to notice.
    this.#session = '';
    this.#call('Browser.close').catch(() => undefined);
    const late = setTimeout(() => this.#child.kill('SIGKILL'), 5000);
    await ended;
    clearTimeout(late);
  }
}
