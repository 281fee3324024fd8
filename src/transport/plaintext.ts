import { lookup } from 'node:dns/promises';
import { BlockList, isIP } from 'node:net';
import { WalError } from '../api/errors.js';

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

function isLoopback(address: string): boolean {
  const family = isIP(address);
  if (family === 0) return address.toLowerCase() === 'localhost';
  return loopback.check(address, family === 6 ? 'ipv6' : 'ipv4');
}

function refuse(what: string, host: string): WalError {
  return new WalError('WAL_PLAINTEXT', `${what} ${host} is off loopback, and nothing is encrypted`);
}

/** The address to listen on, looked up first: a name says nothing about where it leads. */
export async function listenAddress(host: string, plaintext: boolean): Promise<string> {
  const address = isIP(host) === 0 ? (await lookup(host)).address : host;
  if (!plaintext && !isLoopback(address)) throw refuse('listening on', host);
  return address;
}

/** Following goes by the host as written: `localhost` or a loopback address. */
export function checkFollowHost(host: string, plaintext: boolean): void {
  if (!plaintext && !isLoopback(host)) throw refuse('following', host);
}
