import { State, type Term } from '../native/native_log.js';
import { isRuleCurrent } from '../replication/candidacy.js';
import { fenceTerm, mayFence } from '../replication/fence.js';
import { showTerm } from '../replication/history.js';
import type { FenceGrant, Standing } from '../replication/standing.js';
import type { Candidate, MemberDesk } from '../transport/member_desk.js';
import type { Handover, Taken } from '../wire/handover_messages.js';
import type { LogCore } from './core.js';
import type { Driver } from './driver.js';
import { WalError } from './errors.js';

/** Answers the members of the group, whatever the role of this log is at the time. */
export class Desk implements MemberDesk {
  readonly #core: LogCore;
  #busy: Promise<unknown> = Promise.resolve();

  constructor(core: LogCore) {
    this.#core = core;
  }

  /** One after the other: what stores a fence, and what takes a role. */
  exclusively<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#busy.then(work, work);
    this.#busy = result.catch(() => undefined);
    return result;
  }

  standing(): Standing {
    const { native, driver, options } = this.#core;
    const info = native.info();
    const { told, primary, address, connected, isCandidate } = driver.upstream();
    const last = info.history.at(-1);
    return {
      nodeId: info.nodeId,
      name: options.name,
      role: driver.role,
      term: info.term,
      last: last === undefined ? undefined : termOf(last),
      end: {
        position: native.state[State.CLOSED_POSITION] ?? 0,
        lsn: native.state[State.CLOSED_LSN] ?? 0,
      },
      commit: told,
      rule: info.rule,
      isRuleCurrent: isRuleCurrent(info),
      primary,
      primaryAddress: address,
      connected,
      isCandidate,
      hasReferee: options.referee !== undefined,
    };
  }

  fence({ nodeId, name, epoch }: Candidate, isThere: () => boolean): Promise<FenceGrant> {
    const core = this.#core;
    return this.exclusively(async () => {
      core.requireOpen();
      if (!isThere()) throw new WalError('WAL_PEER_REFUSED', `${name} has gone`);
      const { term, nodeId: own } = core.native.info();
      if (nodeId === own) throw new WalError('WAL_PEER_REFUSED', 'this node cannot fence itself');
      if (!mayFence(term, epoch, nodeId)) {
        throw new WalError('WAL_FENCED', `${core.options.name} knows term ${showTerm(term)}`);
      }
      await core.driver.fence(fenceTerm(epoch, nodeId), name);
      core.news.tell('warn', 'fence', `fenced for ${name}, epoch ${epoch}`, { epoch });
      return this.#grant(term);
    });
  }

  /** The same for this node itself, which wants to open the epoch. */
  fenceOwn(standby: Pick<Driver, 'fence'>, epoch: number): Promise<FenceGrant> {
    const { native, options } = this.#core;
    return this.exclusively(async () => {
      const { term, nodeId } = native.info();
      await standby.fence(fenceTerm(epoch, nodeId), options.name);
      return this.#grant(term);
    });
  }

  async takeOver(handover: Handover): Promise<Omit<Taken, 'version'>> {
    const { takeOver } = this.#core;
    if (takeOver !== undefined) return takeOver(handover);
    throw new WalError('WAL_PEER_REFUSED', 'this node is being opened');
  }

  #grant(before: Term): FenceGrant {
    const { native, driver, options } = this.#core;
    const info = native.info();
    const { nodeId, term, history, rule } = info;
    const { state } = native;
    return {
      nodeId,
      name: options.name,
      ...{ term, before, rule, isRuleCurrent: isRuleCurrent(info), history },
      end: { position: state[State.FLUSH_POSITION] ?? 0, lsn: state[State.FLUSH_LSN] ?? 0 },
      crc: state[State.LAST_CRC] ?? 0,
      commit: driver.upstream().told,
    };
  }
}

function termOf({ epoch, opener, incarnation }: Standing['term']): Standing['term'] {
  return { epoch, opener, incarnation };
}
