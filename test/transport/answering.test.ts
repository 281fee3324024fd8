import { connect, type Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { fenceTerm } from '../../src/replication/fence.js';
import type { FenceGrant } from '../../src/replication/standing.js';
import { fence } from '../../src/transport/ask_member.js';
import type { MemberDesk } from '../../src/transport/member_desk.js';
import { encodeMemberRequest } from '../../src/wire/member_messages.js';
import { freshDir } from '../helpers/temp.js';
import { identityOf, PrimaryNode, quick, until } from './nodes.js';
import { RawStandby } from './raw_standby.js';

const ended: (() => unknown)[] = [];

afterEach(async () => {
  for (const end of ended.splice(0).reverse()) await end();
});

const candidate = 'd'.repeat(32);
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Fences when it is let go on. */
class SlowDesk implements MemberDesk {
  node: PrimaryNode | undefined;
  isThere: (() => boolean) | undefined;
  goOn: () => void = () => undefined;

  standing(): never {
    throw new Error('nobody asks for it');
  }

  async fence(
    { nodeId, epoch }: { readonly nodeId: string; readonly epoch: number },
    isThere: () => boolean,
  ): Promise<FenceGrant> {
    this.isThere = isThere;
    await new Promise<void>((resolve) => {
      this.goOn = resolve;
    });
    const { native, flushed } = this.node!.log;
    const { nodeId: own, name, term, history } = native.info();
    return {
      ...{ nodeId: own, name, term: fenceTerm(epoch, nodeId), before: term, rule: null, history },
      ...{ isRuleCurrent: false, end: flushed, crc: 0, commit: flushed },
    };
  }

  takeOver(): Promise<never> {
    return Promise.reject(new Error('nobody hands over'));
  }
}

async function slowPrimary(timing: object = {}): Promise<{ node: PrimaryNode; desk: SlowDesk }> {
  const desk = new SlowDesk();
  const options = { timing: { ...quick, ...timing }, desk };
  const node = await PrimaryNode.open({ dir: freshDir('a') }, options);
  desk.node = node;
  ended.push(() => node.close());
  return { node, desk };
}

function ask({ log, port }: PrimaryNode, signal?: AbortSignal): Promise<string> {
  const { logId, salt } = identityOf(log.native);
  const sender = { logId, salt, nodeId: candidate };
  const at = { host: '127.0.0.1', port, plaintext: false, name: 'd', sender, deadlineMs: 20_000 };
  return fence({ ...at, signal }, 2).then(
    ({ term }) => `granted ${term.epoch}`,
    (error: Error) => error.message,
  );
}

/** Asks for the same, and never ends its connection. */
async function askAndStay({ log, port }: PrimaryNode): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true });
  ended.push(() => socket.destroy());
  socket.on('error', () => undefined);
  const { logId, salt } = identityOf(log.native);
  const sender = { logId, salt, nodeId: candidate };
  socket.write(encodeMemberRequest({ minVersion: 1, maxVersion: 9, name: 'd', sender, epoch: 2 }));
  return socket;
}

describe('a member that asks for a fence', () => {
  it('waits for longer than a handshake may take', async () => {
    const { node, desk } = await slowPrimary({ handshake: 200 });
    const answer = ask(node);
    await until(() => desk.isThere !== undefined);
    await pause(600);
    expect(desk.isThere!()).toBe(true);
    desk.goOn();
    expect(await answer).toBe('granted 2');
  });

  it('is told apart from one that has gone', async () => {
    const { node, desk } = await slowPrimary();
    const call = new AbortController();
    const answer = ask(node, call.signal);
    await until(() => desk.isThere !== undefined);
    call.abort(new Error('not now'));
    expect(await answer).toBe('not now');
    await until(() => !desk.isThere!());
    desk.goOn();
  });

  it('is answered though another one ends the role of the primary', async () => {
    const { node, desk } = await slowPrimary();
    const answer = ask(node);
    await until(() => desk.isThere !== undefined);
    const standby = await RawStandby.admitted(node.port, 'e'.repeat(32), 'x');
    const newer = await RawStandby.ofTerm(node.port, 2);
    await until(() => node.heard.includes('fenced by epoch 2'));
    await standby.closed;
    expect(desk.isThere!()).toBe(true);
    desk.goOn();
    expect(await answer).toBe('granted 2');
    newer.socket.destroy();
  });

  it('is waited for only so long', async () => {
    const { node, desk } = await slowPrimary({ answer: 300 });
    const answer = ask(node);
    await until(() => desk.isThere !== undefined);
    expect(await answer).not.toContain('granted');
    await until(() => node.hub.status().connections.connections === 0);
    desk.goOn();
  });

  it('and stays, answered, holds up no close and no place', async () => {
    const { node, desk } = await slowPrimary();
    const socket = await askAndStay(node);
    await until(() => desk.isThere !== undefined);
    const answered = new Promise((resolve) => socket.once('data', resolve));
    // The role has ended by the time of the answer.
    const closed = node.hub.close();
    await pause(50);
    desk.goOn();
    await answered;
    const late = pause(5 * quick.close!).then(() => 'never');
    expect(await Promise.race([closed.then(() => 'closed'), late])).toBe('closed');
  });
});
