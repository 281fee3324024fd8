import { WalError } from '../api/errors.js';
import type { Log } from '../api/log.js';

/** Of a call that only a primary answers. */
export function isStandby(error: unknown): boolean {
  return error instanceof WalError && error.code === 'WAL_IS_STANDBY';
}

/** Resolves when it is the primary, or the signal fires. */
export function untilPrimary(log: Log, stop: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (stop.aborted || log.status().role === 'primary') return resolve();
    const done = (): void => {
      stop.removeEventListener('abort', done);
      log.off('role', onRole);
      resolve();
    };
    const onRole = ({ role }: { readonly role: string }): void => {
      if (role === 'primary') done();
    };
    stop.addEventListener('abort', done, { once: true });
    log.on('role', onRole);
  });
}
