import { expect, it } from 'vitest';
import { WalError } from '../../src/index.js';
import { memoryReferee } from '../../src/referee/memory_referee.js';
import type { Referee } from '../../src/referee/referee.js';
import { TcpProxy } from '../helpers/proxy.js';
import { isPrimary, RefereedGroup } from './failover_nodes.js';
import { anyOne, textsOf } from './group_nodes.js';
import { openLog, until } from './helpers.js';

const takeoverMs = 20_000;
const timing = { ttlMs: 1500, marginMs: 150, renewEveryMs: 200, callTimeoutMs: 500 };

interface Hooks {
  /** May refuse what is to be written. */
  readonly before?: (writes: object) => void;
  readonly after?: (writes: object) => Promise<void>;
}

/** A referee of `nodes`, with what a test does when something is written there. */
function hooked(nodes: RefereedGroup, name: 'a' | 'b', { before, after }: Hooks): Referee {
  const store = new Proxy(nodes.store, {
    get(target, key) {
      const value: unknown = Reflect.get(target, key, target);
      if (typeof value !== 'function') return value;
      if (key === 'changed') return value.bind(target);
      return async (...args: unknown[]) => {
        if (nodes.cut.has(name)) throw away();
        const writes = key === 'commit' ? (args[1] as object) : {};
        before?.(writes);
        const result: unknown = await value.apply(target, args);
        await after?.(writes);
        return result;
      };
    },
  });
  return memoryReferee({ store, timing });
}

function away(): WalError {
  return new WalError('WAL_REFEREE_AWAY', 'the test has cut it off');
}

/**
 * `b` is granted the group, opens its epoch and stands still before its rule is recorded; `a` is
 * granted the next one, and then `b` goes on, hears of that and is fenced. Both have been fenced by
 * each other, and each of them has all.
 */
it('a group goes on where two have opened an epoch, one after the other, in vain', async () => {
  const nodes = await RefereedGroup.make(2);
  const proxy = await TcpProxy.open(nodes.group.ports.b);
  let isRuleRefused = false;
  let onGrant: (() => Promise<void>) | undefined;
  const after = async (writes: object): Promise<void> => {
    if ('leader' in writes) await onGrant?.();
  };
  const before = (writes: object): void => {
    if (isRuleRefused && 'rule' in writes) throw away();
  };
  const { ports } = nodes.group;
  const a = await openLog({
    ...nodes.group.of('a'),
    ...anyOne,
    members: [{ port: ports.a }, { port: proxy.port }],
    referee: hooked(nodes, 'a', { after }),
    openAlone: true,
  });
  const b = await openLog({
    ...nodes.group.of('b'),
    ...anyOne,
    referee: hooked(nodes, 'b', { before }),
  });
  await b.connected();
  await a.appendAndCommit('one');
  await until(() => a.status().policy?.inForce === true, 'the rule');
  await until(() => b.status().flushLsn === 1, 'b has it');

  isRuleRefused = true;
  proxy.target = 1;
  proxy.cut();
  nodes.cut.add('a');
  await until(() => isPrimary(b), 'b has opened', takeoverMs);
  nodes.cut.add('b');
  nodes.cut.delete('a');
  let isGranted = false;
  onGrant = async () => {
    onGrant = undefined;
    nodes.cut.delete('b');
    proxy.target = ports.b;
    await until(() => b.status().role === 'fenced', 'b hears of it', takeoverMs);
    isGranted = true;
  };
  await until(() => isGranted, 'a is granted the group', takeoverMs);
  isRuleRefused = false;
  await until(() => isPrimary(a) || isPrimary(b), 'one of them leads', takeoverMs);
  const [primary, other] = isPrimary(a) ? [a, b] : [b, a];
  await until(() => other.status().role === 'standby', 'the other one follows', takeoverMs);
  await primary.appendAndCommit('two');
  expect(await textsOf(primary)).toEqual(['one', 'two']);
}, 90_000);
