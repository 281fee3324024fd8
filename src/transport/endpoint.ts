import { isIPv6, type Socket } from 'node:net';

export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

/** HOST:PORT, an IPv6 address in brackets. */
export function showEndpoint({ host, port }: Endpoint): string {
  return host.includes(':') && !host.startsWith('[') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Without the brackets that an IPv6 address may have been written in. */
export function bareHost(host: string): string {
  return host.replace(/^\[(.*)\]$/, '$1');
}

/** Where the other end of a connection is. */
export function peerAddress({ remoteAddress, remotePort }: Socket): string {
  return showEndpoint({ host: remoteAddress ?? '', port: remotePort ?? 0 });
}

/**
 * Whom an address belongs to, as far as it tells: of IPv6 the first 64 bits, since whoever has one
 * such address has all of its network; an IPv4 address that is written as one of IPv6 is itself.
 */
export function networkOf(address: string): string {
  const bare = address.replace(/%.*$/, '').toLowerCase();
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/.exec(bare);
  if (mapped !== null) return mapped[1]!;
  if (!isIPv6(bare)) return bare;
  const [head = '', tail] = bare.split('::');
  const front = head === '' ? [] : head.split(':');
  const back = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - front.length - back.length);
  const groups = [...front, ...new Array<string>(zeros).fill('0'), ...back];
  return `${groups.slice(0, 4).join(':')}::/64`;
}
