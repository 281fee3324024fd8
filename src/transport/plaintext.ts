import { BlockList, isIP } from 'node:net';
import { WalError } from '../api/errors.js';
import { bareHost, type Endpoint } from './endpoint.js';
import type { Environment } from './environment.js';
import type { Security } from './security.js';

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

/** Of an IP address or `localhost`. */
export function isLoopback(address: string): boolean {
  const family = isIP(address);
  if (family === 0) return address.toLowerCase() === 'localhost';
  return loopback.check(address, family === 6 ? 'ipv6' : 'ipv4');
}

/** A secret keeps strangers out, and encrypts nothing: it makes no difference here. */
function mayLeave({ plaintext, tls }: Security): boolean {
  return plaintext || tls !== undefined;
}

function refuse(what: string, host: string): WalError {
  return new WalError('WAL_PLAINTEXT', `${what} ${host} is off loopback, and nothing is encrypted`);
}

/** The address to listen on, looked up first: a name says nothing about where it leads. */
export async function listenAddress(
  { host, ...security }: Endpoint & Security,
  environment: Environment,
): Promise<string> {
  const bare = bareHost(host);
  const address = isIP(bare) === 0 ? await environment.lookup(bare) : bare;
  if (!mayLeave(security) && !isLoopback(address)) throw refuse('listening on', host);
  return address;
}

/** Following goes by the host as written: `localhost` or a loopback address. */
export function checkFollowHost(host: string, security: Security): void {
  if (!mayLeave(security) && !isLoopback(bareHost(host))) throw refuse('following', host);
}
