import { type StatusPage, serveStatusPage } from '../observe/status_page.js';
import type { LogCore } from './core.js';
import { WalError } from './errors.js';
import { logStatus } from './log_status.js';
import { isLoopback } from './options.js';
import * as check from './validate.js';

/** Options of `serveStatus`. */
export interface ServeStatusOptions {
  /** Default '127.0.0.1'. */
  readonly host?: string;
  /** TCP port; 0, the default, takes any: the page that is returned says which. */
  readonly port?: number;
  /**
   * The page is neither encrypted nor does it ask who looks: off loopback that has to be said by
   * name. Default false.
   */
  readonly plaintext?: boolean;
  /** Further names under which browsers may ask for it, that of a proxy say. Default: none. */
  readonly hosts?: readonly string[];
}

/** Serves the status page of a log until that is closed. */
export async function serveStatus(core: LogCore, options: unknown): Promise<StatusPage> {
  const raw = check.optionsObject(options, 'serveStatus', ['host', 'port', 'plaintext', 'hosts']);
  const host = raw.host === undefined ? '127.0.0.1' : check.string(raw.host, 'host');
  const port = raw.port === undefined ? 0 : check.integer(raw.port, 'port', 0, 65535);
  const plaintext = raw.plaintext === undefined ? false : check.boolean(raw.plaintext, 'plaintext');
  const hosts = raw.hosts === undefined ? [] : namesOf(raw.hosts);
  if (!plaintext && !isLoopback(host)) {
    const text = `host ${check.shown(host)} is not loopback, and the page is not encrypted`;
    throw new WalError('WAL_PLAINTEXT', text, {
      hint: 'Pass plaintext: true on a network that you trust.',
    });
  }
  const status = async () => logStatus(core);
  const page = await serveStatusPage({ host, port, hosts, status });
  // It may have been closed while the port was opened.
  if (core.state !== 'open') await page.close();
  core.pages.add(page);
  return {
    ...page,
    close: () => {
      core.pages.delete(page);
      return page.close();
    },
  };
}

function namesOf(value: unknown): string[] {
  if (!Array.isArray(value)) {
    throw new TypeError(`hosts takes an array of host names, got ${check.shown(value)}`);
  }
  return value.map((name) => check.string(name, 'hosts'));
}
