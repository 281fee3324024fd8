import { type Outcome, WalError } from './errors.js';

/** The one error that a failed log rejects with, made of whatever went wrong. */
export function fatal(error: unknown): WalError {
  const known = WalError.from(error);
  if (known instanceof WalError) return asUnknown(known);
  const text = error instanceof Error ? error.message : String(error);
  return new WalError('WAL_FAILED', `the log has failed: ${text}`, {
    cause: error,
    outcome: 'unknown',
  });
}

/** The same error, which says what became of the record. */
export function withOutcome(error: WalError, outcome: Outcome): WalError {
  return new WalError(error.code, error.message, {
    hint: error.hint,
    lsn: error.lsn,
    file: error.file,
    offset: error.offset,
    outcome,
    cause: error.cause,
  });
}

/** The same error of an append: it was surely not taken, unless the engine says otherwise. */
export function asRefused(error: WalError): WalError {
  return error.outcome === undefined ? withOutcome(error, 'refused') : error;
}

/** Whether memory ran out in the engine, and nothing has changed: it may be tried again. */
export function isNoMemory(error: unknown): boolean {
  const known = WalError.from(error);
  return known instanceof WalError && known.code === 'WAL_NO_MEMORY';
}

/** The same error, of a wait: the record that it was for may be in the log. */
export function asUnknown(error: WalError): WalError {
  return error.outcome === 'unknown' ? error : withOutcome(error, 'unknown');
}

/** What an append to a failed log throws: it was surely not taken. */
export function refusedByFailure(failure: WalError): WalError {
  return new WalError('WAL_FAILED', `the log has failed: ${failure.message}`, {
    cause: failure,
    outcome: 'refused',
  });
}

export function closedError(): WalError {
  return new WalError('WAL_CLOSED', 'the log is closed', { outcome: 'refused' });
}

/** What waits end with that a `close` cuts short. */
export function cutShortByClose(): WalError {
  return new WalError('WAL_CLOSED', 'the log was closed while this was waited for', {
    outcome: 'unknown',
  });
}
