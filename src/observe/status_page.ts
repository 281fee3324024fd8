import { readFileSync } from 'node:fs';
import {
  createServer,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { WalError } from '../api/errors.js';
import type { LogStatus } from '../api/status.js';

export interface StatusPageOptions {
  readonly host: string;
  /** 0: any. */
  readonly port: number;
  /** Names under which browsers may ask for the page, beside `host` and those of loopback. */
  readonly hosts: readonly string[];
  /** undefined: no process has the log open. */
  readonly status: () => Promise<LogStatus | undefined>;
}

/** A status page that is being served. */
export interface StatusPage {
  readonly url: string;
  readonly host: string;
  readonly port: number;
  /** Ends all connections. Idempotent. */
  close(): Promise<void>;
}

const MAX_CONNECTIONS = 32;
const TIMEOUT_MS = 5_000;
/** However many look, the log is asked this often at most. */
const FRESH_MS = 200;

/** From the root of the package: of its sources the page needs no build step but a copy. */
const web = fileURLToPath(new URL('../../dist/web/', import.meta.url));
const files: Readonly<Record<string, readonly [string, string]>> = {
  '/': ['index.html', 'text/html; charset=utf-8'],
  '/page.js': ['page.js', 'text/javascript; charset=utf-8'],
  '/group.js': ['group.js', 'text/javascript; charset=utf-8'],
  '/charts.js': ['charts.js', 'text/javascript; charset=utf-8'],
  '/page.css': ['page.css', 'text/css; charset=utf-8'],
  '/uplot.js': ['uplot.js', 'text/javascript; charset=utf-8'],
  '/uplot.css': ['uplot.css', 'text/css; charset=utf-8'],
  '/uplot.LICENSE': ['uplot.LICENSE', 'text/plain; charset=utf-8'],
};

/** Everything comes from here; nobody may frame it, and it sends nothing anywhere. */
const headers: OutgoingHttpHeaders = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'cross-origin-resource-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'cache-control': 'no-store',
};

/**
 * Serves the page and the status behind it, read-only. A browser that was led here under a foreign
 * name (DNS rebinding) is turned away by its Host header. Never keeps the process alive.
 */
export async function serveStatusPage(options: StatusPageOptions): Promise<StatusPage> {
  const names = allowedNames(options);
  const latest = new Latest(options.status);
  const server = createServer(
    { headersTimeout: TIMEOUT_MS, requestTimeout: TIMEOUT_MS, connectionsCheckingInterval: 1_000 },
    (request, response) => void answer(request, response, names, latest),
  );
  server.maxConnections = MAX_CONNECTIONS;
  server.maxRequestsPerSocket = 10_000;
  server.keepAliveTimeout = TIMEOUT_MS;
  // Also who asks and does not read what is answered.
  server.timeout = 2 * TIMEOUT_MS;
  await listen(server, options);
  server.unref();
  server.on('connection', (socket) => socket.unref());
  server.on('error', () => undefined);
  const { port } = server.address() as AddressInfo;
  const { host } = options;
  const shown = host.includes(':') ? `[${host}]` : host;
  let closing: Promise<void> | undefined;
  return {
    url: `http://${shown}:${port}/`,
    host,
    port,
    close: () => {
      closing ??= new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      });
      return closing;
    },
  };
}

function allowedNames({ host, hosts }: StatusPageOptions): ReadonlySet<string> {
  const names = [host, ...hosts, 'localhost', '127.0.0.1', '::1'];
  return new Set(names.map((name) => name.toLowerCase().replace(/^\[|\]$/g, '')));
}

function listen(server: Server, { host, port }: StatusPageOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (error: NodeJS.ErrnoException): void => {
      reject(
        new WalError('WAL_IO', `cannot serve the status at ${host}:${port}: ${error.message}`, {
          hint: error.code === 'EADDRINUSE' ? 'Choose another port; 0 takes any.' : undefined,
          cause: error,
        }),
      );
    };
    server.once('error', failed);
    server.listen({ host, port, exclusive: true }, () => {
      server.removeListener('error', failed);
      resolve();
    });
  });
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  names: ReadonlySet<string>,
  latest: Latest,
): Promise<void> {
  const { method, url = '/' } = request;
  // Nothing is read of a body: the connection of who sends one ends.
  if (method !== 'GET' && method !== 'HEAD') {
    send(response, 405, text('only GET'), { allow: 'GET, HEAD', connection: 'close' });
    return;
  }
  if (!names.has(hostName(request.headers.host ?? ''))) {
    send(response, 421, text('this page is not served under that name'));
    return;
  }
  const path = url.split('?', 1)[0] ?? '/';
  if (path === '/status.json') {
    send(response, ...(await statusAnswer(latest)));
    return;
  }
  const file = Object.hasOwn(files, path) ? files[path] : undefined;
  if (file === undefined) send(response, 404, text('there is nothing here'));
  else send(response, ...fileAnswer(...file));
}

/** Without its port, in lower case. */
function hostName(host: string): string {
  return host
    .toLowerCase()
    .replace(/:\d+$/, '')
    .replace(/^\[|\]$/g, '');
}

interface Body {
  readonly type: string;
  readonly bytes: Buffer;
}

function text(message: string): Body {
  return { type: 'text/plain; charset=utf-8', bytes: Buffer.from(`${message}\n`) };
}

function json(value: unknown): Body {
  return { type: 'application/json', bytes: Buffer.from(JSON.stringify(value)) };
}

/** Read once: however often one is asked for, the memory is the same. */
const read = new Map<string, Buffer>();

function fileAnswer(name: string, type: string): readonly [number, Body] {
  try {
    const bytes = read.get(name) ?? readFileSync(`${web}${name}`);
    read.set(name, bytes);
    return [200, { type, bytes }];
  } catch {
    return [500, text('the page is missing from this installation')];
  }
}

async function statusAnswer(latest: Latest): Promise<readonly [number, Body]> {
  try {
    const status = await latest.get();
    if (status !== undefined) return [200, json(status)];
    return [503, json({ error: 'no process has the log open' })];
  } catch (error) {
    return [503, json({ error: error instanceof Error ? error.message : String(error) })];
  }
}

function send(response: ServerResponse, code: number, body: Body, more: OutgoingHttpHeaders = {}) {
  const { type, bytes } = body;
  const all = { ...headers, ...more, 'content-type': type, 'content-length': bytes.length };
  response.writeHead(code, all);
  response.end(response.req.method === 'HEAD' ? undefined : bytes);
}

/** The status of a moment ago, for all who ask in that moment. */
class Latest {
  readonly #ask: StatusPageOptions['status'];
  #answer: Promise<LogStatus | undefined> | undefined;

  constructor(ask: StatusPageOptions['status']) {
    this.#ask = ask;
  }

  get(): Promise<LogStatus | undefined> {
    if (this.#answer === undefined) {
      const answer = this.#ask();
      this.#answer = answer;
      const forget = (): void => {
        setTimeout(() => {
          this.#answer = undefined;
        }, FRESH_MS).unref();
      };
      answer.then(forget, forget);
    }
    return this.#answer;
  }
}
