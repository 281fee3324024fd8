import { serveStatusPage } from '../observe/status_page.js';
import { aborted, StopSignals } from './stop.js';
import { notice } from './terminal.js';
import { askStatus } from './watch_log.js';

/** `walmirror status --serve`: to this machine, until SIGINT or SIGTERM. */
export async function serveLog(dirs: readonly string[], port: number): Promise<void> {
  const stop = new StopSignals();
  try {
    const page = await serveStatusPage({
      host: '127.0.0.1',
      port,
      hosts: [],
      status: () => askStatus(dirs, stop.signal),
    });
    notice(`the status is at ${page.url}; Ctrl-C ends`);
    await aborted(stop.signal);
    await page.close();
  } finally {
    stop.dispose();
  }
}
