import { WalError } from '../api/errors.js';
import type { Log } from '../api/log.js';
import { describeRange } from './damage.js';
import { aborted } from './stop.js';
import { notice, plural } from './terminal.js';

/**
 * Says on stderr what happens to the log, with --verbose; without it, only that somebody has to
 * act.
 */
export function narrate(log: Log, verbose: boolean): void {
  tellDisconnections(log, verbose);
  log.on('role', ({ role, term, reason }) => {
    const why = reason === 'promoted' ? '' : ` (${reason})`;
    if (verbose || reason === 'switchover' || reason === 'demoted') {
      notice(`now ${role}, epoch ${term.epoch}${why}`);
    }
  });
  log.on('degraded', ({ reason }) => {
    notice(`goes on alone, commits wait for its own disk only: ${reason}`);
  });
  log.on('restored', ({ degradedSince }) => {
    notice(`commits wait for standbys again; it went on alone since ${degradedSince}`);
  });
  log.on('rebuild', ({ from, to }) => {
    notice(`LSN ${from} to ${to} were removed: what was made of them has to be made anew`);
  });
  if (!verbose) return;
  tellRefusals(log);
  log.on('standby', ({ name, connected, reason }) => {
    notice(connected ? `standby ${name} connected` : `standby ${name} left: ${reason}`);
  });
  log.on('connected', ({ primary }) => notice(`connected to primary ${primary}`));
  log.on('copyDropped', ({ dir, reason }) => notice(`goes on without ${dir}: ${reason}`));
  log.on('copyRestored', ({ dir }) => notice(`${dir} is in again`));
  log.on('damage', ({ damage }) => {
    for (const range of damage) notice(`damaged: ${describeRange(range)}: ${range.reason}`);
  });
  log.on('repaired', ({ repaired }) => notice(`${plural(repaired, 'damaged range')} repaired`));
  log.on('slowFlush', ({ milliseconds }) => {
    notice(`a flush took ${(milliseconds / 1000).toFixed(1)} s`);
  });
}

/** Who knocks again and again is told of once. */
function tellRefusals(log: Log): void {
  let last = '';
  log.on('refused', ({ address, reason }) => {
    if (reason !== last) notice(`refused ${address}: ${reason}`);
    last = reason;
  });
}

/** Each reason once, and not at every attempt to come back. */
function tellDisconnections(log: Log, verbose: boolean): void {
  let last = '';
  log.on('connected', () => {
    last = '';
  });
  log.on('disconnected', ({ reason, final }) => {
    if (reason !== last && (verbose || final)) notice(`disconnected: ${reason}`);
    last = reason;
  });
}

/**
 * Serves until the signal fires; rejects when the log fails meanwhile, or is fenced: with a referee
 * it comes back as a standby.
 */
export async function untilStopped(log: Log, signal: AbortSignal): Promise<void> {
  const over = new AbortController();
  let failure: WalError | undefined;
  const fail = (error: WalError): void => {
    failure ??= error;
    over.abort();
  };
  log.on('failed', fail);
  log.on('role', ({ role }) => {
    if (role === 'fenced' && log.status().referee === null)
      fail(new WalError('WAL_FENCED', 'a newer primary exists'));
  });
  await aborted(AbortSignal.any([signal, over.signal]));
  if (failure !== undefined) throw failure;
}
