import { execFileSync } from 'node:child_process';

function ip(...args: readonly string[]): void {
  execFileSync('ip', args, { stdio: 'pipe' });
}

/** Whom nobody is: what is sent there is lost without a sign. */
const nowhere = '02:00:00:00:00:99';
let networks = 0;

/** A network namespace with an address of its own. */
export interface Host {
  readonly name: string;
  /** Before a command, so that it runs there. */
  readonly exec: readonly string[];
  readonly address: string;
}

/**
 * Hosts on one wire, of which this machine, `home`, is another. Each direction between two of them
 * can be cut: what is sent is lost then, as on a switch that hangs.
 */
export class Hosts {
  readonly home: string;
  readonly hosts: readonly Host[];
  readonly #bridge: string;

  constructor(names: readonly string[]) {
    networks += 1;
    const tag = `w${process.pid}${String.fromCharCode(96 + (networks % 26))}`;
    const subnet = `10.${100 + (process.pid % 100)}.${networks % 250}`;
    this.#bridge = `${tag}b`;
    this.home = `${subnet}.254`;
    this.hosts = names.map((name, i) => {
      const namespace = `${tag}-${name}`;
      return {
        name: namespace,
        exec: ['ip', 'netns', 'exec', namespace],
        address: `${subnet}.${i + 1}`,
      };
    });
    ip('link', 'add', 'name', this.#bridge, 'type', 'bridge');
    ip('address', 'add', `${this.home}/24`, 'dev', this.#bridge);
    ip('link', 'set', this.#bridge, 'up');
    for (const [i, { name, address }] of this.hosts.entries()) {
      const outer = `${tag}${i}`;
      ip('netns', 'add', name);
      ip('link', 'add', outer, 'type', 'veth', 'peer', 'name', 'wire', 'netns', name);
      ip('link', 'set', outer, 'master', this.#bridge, 'up');
      ip('-n', name, 'address', 'add', `${address}/24`, 'dev', 'wire');
      ip('-n', name, 'link', 'set', 'wire', 'up');
      ip('-n', name, 'link', 'set', 'lo', 'up');
    }
  }

  /** From `one` to `other`, host or home; the other direction stays. */
  cut(one: string, other: string): void {
    const to = ['lladdr', nowhere, ...this.#device(one), 'nud', 'permanent'];
    ip(...this.#at(one), 'neigh', 'replace', other, ...to);
  }

  mend(one: string, other: string): void {
    try {
      ip(...this.#at(one), 'neigh', 'del', other, ...this.#device(one));
    } catch {
      // It was not cut.
    }
  }

  close(): void {
    for (const { name } of this.hosts) ip('netns', 'delete', name);
    ip('link', 'delete', this.#bridge);
  }

  #at(address: string): string[] {
    const host = this.hosts.find((each) => each.address === address);
    return host === undefined ? [] : ['-n', host.name];
  }

  #device(address: string): string[] {
    return ['dev', address === this.home ? this.#bridge : 'wire'];
  }
}
