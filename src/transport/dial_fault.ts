import { WalError } from '../api/errors.js';
import { tlsReason } from './tls.js';

/** Why a connection to `where` ended, or did not come about, in words. */
export function dialFault(where: string, failure: Error | undefined, isTls: boolean): WalError {
  if (failure instanceof WalError) {
    const { code, message, hint } = failure;
    return new WalError(code, `${where}: ${message}`, { hint, cause: failure });
  }
  // A write that crossed the end of the connection fails; the end is the news.
  if (failure === undefined || codeOf(failure) === 'EPIPE') {
    return new WalError('WAL_IO', `${where}: the primary closed the connection`, {
      cause: failure,
    });
  }
  if (isTls && isOfTls(failure)) {
    return new WalError('WAL_AUTH_FAILED', `${where}: TLS: ${tlsReason(failure)}`, {
      cause: failure,
    });
  }
  return new WalError('WAL_IO', `${where}: ${reasonOf(failure)}`, { cause: failure });
}

/**
 * The same where the peer went away without a word. Under TLS this side is through before the peer
 * has looked at its certificate; without, TLS is what the peer may have waited for.
 */
export function endedEarly(where: string, failure: Error | undefined, isTls: boolean): WalError {
  if (failure !== undefined && isOfTls(failure)) return dialFault(where, failure, isTls);
  const why = isTls
    ? 'it may not accept the certificate of this node, and tells why on its own side'
    : 'it may have no room, or expect TLS';
  const text = `the peer closed the connection before it answered: ${why}`;
  return new WalError('WAL_IO', `${where}: ${text}`, { cause: failure });
}

/** Where a host has several addresses, one reason for each. */
function reasonOf(failure: Error): string {
  if (!(failure instanceof AggregateError)) return failure.message;
  return failure.errors.map((each: Error) => each.message).join('; ');
}

/** Neither of the system nor of the network. */
function isOfTls(failure: Error): boolean {
  if (failure instanceof WalError) return true;
  if (failure instanceof AggregateError || 'syscall' in failure) return false;
  return codeOf(failure) !== 'ECONNRESET';
}

function codeOf(failure: Error): unknown {
  return (failure as { readonly code?: unknown }).code;
}
