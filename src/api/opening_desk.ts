import { State } from '../native/native_log.js';
import { isRuleCurrent } from '../replication/candidacy.js';
import type { FenceGrant, Standing } from '../replication/standing.js';
import type { MemberDesk } from '../transport/member_desk.js';
import { RefusingOwner } from '../transport/refusing_owner.js';
import { StandbyLinks } from '../transport/standby_links.js';
import { withDefaults } from '../transport/timing.js';
import type { LogCore } from './core.js';
import { WalError } from './errors.js';
import { openDoor } from './open_door.js';

/**
 * Answers the members while this log asks them what role it may have: two that were primaries, and
 * are started together, hear of each other so. It grants nobody anything yet.
 */
class OpeningDesk implements MemberDesk {
  readonly #core: LogCore;

  constructor(core: LogCore) {
    this.#core = core;
  }

  standing(): Standing {
    const { native, options } = this.#core;
    const info = native.info();
    const { nodeId, term, history, commit, rule, primaryName } = info;
    const { state } = native;
    return {
      ...{ nodeId, name: options.name, role: 'fenced', term, commit, rule },
      isRuleCurrent: isRuleCurrent(info),
      last: history.at(-1),
      end: { position: state[State.CLOSED_POSITION] ?? 0, lsn: state[State.CLOSED_LSN] ?? 0 },
      ...{ primary: primaryName, primaryAddress: '', connected: false, isCandidate: false },
      hasReferee: options.referee !== undefined,
    };
  }

  fence(): Promise<FenceGrant> {
    return Promise.reject(this.refusal());
  }

  takeOver(): Promise<never> {
    return Promise.reject(this.refusal());
  }

  refusal(): WalError {
    return new WalError('WAL_PEER_REFUSED', `${this.#core.options.name} is being opened`);
  }
}

/** Opens the door. Nobody is fed; the function that this gives ends it. */
export async function answerWhileOpening(core: LogCore): Promise<() => Promise<void>> {
  const { options, native, info, environment, events } = core;
  if (options.listen === undefined) return async () => undefined;
  await openDoor(core, options.listen);
  const { door } = core;
  if (door === undefined) return async () => undefined;
  const desk = new OpeningDesk(core);
  const owner = new RefusingOwner({
    refusal: () => desk.refusal(),
    term: () => native.info().term,
    commitPlace: () => info.commit,
    onRefused: (address, reason) => events.emit('refused', { address, reason }),
  });
  const links = new StandbyLinks({
    ...{ native, door, desk, owner, environment, ring: undefined, timing: withDefaults() },
    identity: { ...info, name: options.name },
    allocateAligned: (bytes) => environment.binding().allocateAligned(bytes),
  });
  door.keptBy(links);
  return () => links.close('the log has its role');
}
