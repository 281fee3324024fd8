import { CallSignal } from '../referee/call_signal.js';
import { compareTerms } from '../replication/history.js';
import type { Standing } from '../replication/standing.js';
import { type AskMemberOptions, fence, handOver, survey } from '../transport/ask_member.js';
import { showEndpoint } from '../transport/endpoint.js';
import { type Environment, pause, type Timer } from '../transport/environment.js';
import type { TlsOptions } from '../transport/security.js';
import type { Handover, Taken } from '../wire/handover_messages.js';
import type { MemberGrant, MemberRequest, MemberStanding } from '../wire/member_messages.js';
import { WalError } from './errors.js';
import type { Endpoint, ResolvedOptions } from './options.js';
import type { MemberStatus } from './status.js';

/** A member that has answered. */
export interface MemberAnswer {
  readonly endpoint: Endpoint;
  readonly standing: MemberStanding;
}

/** One that has not, or not as it should. */
export interface MemberSilence {
  readonly endpoint: Endpoint;
  readonly reason: string;
}

export interface MemberSurvey {
  /** Of other nodes, one each. */
  readonly answers: readonly MemberAnswer[];
  readonly silent: readonly MemberSilence[];
}

export interface SurveyOptions {
  readonly signal?: AbortSignal | undefined;
  /** From when on the others are waited for only a moment longer. */
  readonly enough?: ((answers: readonly MemberAnswer[]) => boolean) | undefined;
}

/** How long a member is waited for, and how long one more is, when enough have answered. */
const askMs = 2000;
const graceMs = 100;
/** Storing an epoch takes as long as the disk of the member takes. */
const fenceMs = 10_000;
/** So much longer for one more, who may know of more. */
const fenceGraceMs = 500;

/** A survey of this age is told in the status; an older one is asked for anew. */
const freshMs = 1000;
const maxNames = 128;

export interface MembersOptions {
  readonly endpoints: readonly Endpoint[];
  /** Of this node. */
  readonly name: string;
  /** undefined: it has no log yet. */
  readonly sender: MemberRequest['sender'];
  /** Nobody is asked any more. */
  readonly closing: AbortSignal;
  readonly environment: Environment;
  /** What a survey has found, for whoever watches. */
  readonly onSurvey?: (survey: MemberSurvey) => void;
}

/** The other nodes of the group, as far as their addresses are known here. */
export class Members {
  readonly #options: MembersOptions;
  #endpoints: readonly Endpoint[];
  #last: MemberSurvey = { answers: [], silent: [] };
  #lastAt = Number.NEGATIVE_INFINITY;
  #refreshing: Promise<void> | undefined;
  #heardEpoch = 0;
  /** Under whose address this node itself has answered. */
  #own = '';
  /** Names by node id, of those that have answered once. */
  readonly #names = new Map<string, string>();

  constructor(options: MembersOptions) {
    this.#options = options;
    this.#endpoints = options.endpoints;
  }

  /** One of the others, as far as that is known. */
  get first(): Endpoint {
    return this.#endpoints.find((each) => showEndpoint(each) !== this.#own) ?? this.#endpoints[0]!;
  }

  /** The highest epoch that anybody has told of. */
  get heardEpoch(): number {
    return this.#heardEpoch;
  }

  reloadTls(tls: TlsOptions): void {
    this.#endpoints = this.#endpoints.map((each) =>
      each.tls === undefined ? each : { ...each, tls },
    );
  }

  /** How a node is called in messages. */
  nameOf(nodeId: string): string {
    return this.#names.get(nodeId) ?? nodeId.slice(0, 8);
  }

  /** Asks all at once. It stores nothing anywhere. Rejects with the signal's reason alone. */
  async survey({ signal, enough }: SurveyOptions = {}): Promise<MemberSurvey> {
    const late = new AbortController();
    const call = new CallSignal([this.#options.closing, signal, late.signal]);
    const answers: MemberAnswer[] = [];
    const silent: MemberSilence[] = [];
    const { environment } = this.#options;
    let grace: Timer | undefined;
    await Promise.all(
      this.#endpoints.map(async (endpoint) => {
        try {
          const standing = await survey({ ...this.#asking(endpoint, askMs), signal: call.signal });
          this.#heardEpoch = Math.max(this.#heardEpoch, standing.term.epoch);
          if (!this.#isNews(standing, endpoint, answers)) return;
          answers.push({ endpoint, standing });
          if (enough?.(answers) === true)
            grace ??= environment.setTimeout(() => late.abort(), graceMs);
        } catch (error) {
          const reason = late.signal.aborted ? 'no answer yet' : messageOf(error);
          silent.push({ endpoint, reason });
        }
      }),
    );
    environment.clearTimer(grace);
    call.done();
    signal?.throwIfAborted();
    return { answers, silent };
  }

  /**
   * Fences those that have answered, all at once. `enough`: from when on the others are waited for
   * only a moment longer: the disk of one may hang.
   */
  async fence(
    answers: readonly MemberAnswer[],
    epoch: number,
    signal: AbortSignal | undefined,
    enough: (granted: readonly FencedMember[]) => boolean,
  ): Promise<{ granted: readonly FencedMember[]; refused: readonly MemberSilence[] }> {
    const { closing, environment } = this.#options;
    const late = new AbortController();
    const call = new CallSignal([closing, signal, late.signal]);
    const granted: FencedMember[] = [];
    const refused: MemberSilence[] = [];
    let grace: Timer | undefined;
    await Promise.all(
      answers.map(async (answer) => {
        const { endpoint, standing } = answer;
        try {
          const options = { ...this.#asking(endpoint, fenceMs), signal: call.signal };
          const grant = await fence(options, epoch);
          if (grant.nodeId !== standing.nodeId) throw new WalError('WAL_IO', 'another node by now');
          granted.push({ answer, grant });
          if (enough(granted)) grace ??= environment.setTimeout(() => late.abort(), fenceGraceMs);
        } catch (error) {
          const reason = late.signal.aborted ? 'no answer yet' : messageOf(error);
          refused.push({ endpoint, reason });
        }
      }),
    );
    environment.clearTimer(grace);
    call.done();
    signal?.throwIfAborted();
    return { granted, refused };
  }

  /** Hands the log over to one that has answered: resolves when it is the primary. */
  async handOver(
    { endpoint, standing }: MemberAnswer,
    what: Pick<Handover, 'term' | 'epoch' | 'end' | 'crc'>,
    deadlineMs: number,
    signal: AbortSignal,
  ): Promise<Taken> {
    const { logId, salt, nodeId } = standing;
    const options = { ...this.#asking(endpoint, deadlineMs), signal };
    return handOver(options, { logId, salt, ...what }, nodeId);
  }

  /**
   * Where the primary is, of a term that is not below `known`; undefined: nobody says that it is.
   */
  async findPrimary(known: Standing['term']): Promise<Endpoint | undefined> {
    const { answers } = await this.survey({
      enough: (all) => primaryAmong(all, known) !== undefined,
    });
    return primaryAmong(answers, known)?.endpoint;
  }

  /** Asks until that is enough, for so long at most. Default: until somebody answers. */
  async surveyUntil(
    milliseconds: number,
    signal: AbortSignal | undefined,
    isEnough = ({ answers }: MemberSurvey): boolean => answers.length > 0,
  ): Promise<MemberSurvey> {
    const { environment } = this.#options;
    const end = environment.now() + milliseconds;
    for (;;) {
      const found = await this.survey({ signal });
      if (isEnough(found) || environment.now() >= end) return found;
      await pause(environment, 200, signal);
      signal?.throwIfAborted();
    }
  }

  /** Asks all of them, unless that was done a moment ago; one at a time. Rejects never. */
  refresh(): Promise<void> {
    const { environment } = this.#options;
    if (environment.now() - this.#lastAt < freshMs) return Promise.resolve();
    this.#refreshing ??= this.survey()
      .then((found) => {
        this.#last = found;
        this.#lastAt = environment.now();
        this.#options.onSurvey?.(found);
      })
      .catch(() => undefined)
      .finally(() => {
        this.#refreshing = undefined;
      });
    return this.#refreshing;
  }

  /** As they answered lately, in the order in which they were given; this node itself left out. */
  status(): MemberStatus[] {
    const age = this.#options.environment.now() - this.#lastAt;
    const askedMs = Number.isFinite(age) ? age : null;
    return this.#endpoints.flatMap((endpoint) => {
      const address = showEndpoint(endpoint);
      if (address === this.#own) return [];
      const isHere = (each: { readonly endpoint: Endpoint }): boolean => each.endpoint === endpoint;
      const standing = this.#last.answers.find(isHere)?.standing;
      const reason = this.#last.silent.find(isHere)?.reason ?? 'not asked yet';
      return [{ address, ...standingStatus(standing), reason: standing ? null : reason, askedMs }];
    });
  }

  #asking(endpoint: Endpoint, deadlineMs: number): AskMemberOptions {
    const { name, sender, environment } = this.#options;
    return { ...endpoint, name, sender, deadlineMs, environment };
  }

  /** One that was wiped has another id: the oldest is forgotten first. */
  #noteName(nodeId: string, name: string): void {
    this.#names.delete(nodeId);
    this.#names.set(nodeId, name);
    if (this.#names.size <= maxNames) return;
    for (const id of this.#names.keys()) {
      this.#names.delete(id);
      return;
    }
  }

  /** Neither this node nor one that has answered under another address. */
  #isNews(
    { nodeId, name }: Standing,
    endpoint: Endpoint,
    before: readonly MemberAnswer[],
  ): boolean {
    if (nodeId === this.#options.sender?.nodeId) {
      this.#own = showEndpoint(endpoint);
      return false;
    }
    this.#noteName(nodeId, name);
    return !before.some(({ standing }) => standing.nodeId === nodeId);
  }
}

/** How the node at this address stands. */
export function askStanding(
  endpoint: Endpoint,
  own: Pick<MembersOptions, 'name' | 'sender' | 'environment'>,
  signal: AbortSignal | undefined,
): Promise<MemberStanding> {
  return survey({ ...endpoint, ...own, deadlineMs: askMs, signal });
}

/** undefined: nobody is known. */
export function newMembers(
  { members: endpoints, name }: Pick<ResolvedOptions, 'members' | 'name'>,
  sender: MemberRequest['sender'],
  closing: AbortSignal,
  environment: Environment,
  onSurvey?: MembersOptions['onSurvey'],
): Members | undefined {
  if (endpoints.length === 0) return undefined;
  const common = { endpoints, name, sender, closing, environment };
  return new Members({ ...common, ...(onSurvey ? { onSurvey } : {}) });
}

export interface FencedMember {
  readonly answer: MemberAnswer;
  readonly grant: MemberGrant;
}

function standingStatus(standing: Standing | undefined) {
  if (standing === undefined) {
    return {
      ...{ name: null, nodeId: null, role: null, epoch: null, lsn: null, commitLsn: null },
      ...{ primary: null, connected: null },
    };
  }
  const { name, nodeId, role, term, end, commit, primary, connected } = standing;
  const isPrimary = role === 'primary';
  return {
    ...{ name, nodeId, role, epoch: term.epoch, lsn: end.lsn, commitLsn: commit.lsn },
    ...{ primary: isPrimary ? name : primary, connected: isPrimary || connected },
  };
}

/** The one of the highest term. */
export function primaryAmong(
  answers: readonly MemberAnswer[],
  known: Standing['term'],
): MemberAnswer | undefined {
  let found: MemberAnswer | undefined;
  for (const each of answers) {
    const { role, term } = each.standing;
    if (role !== 'primary' || term.epoch < known.epoch) continue;
    const isNewer = found === undefined || compareTerms(term, found.standing.term) === 'newer';
    if (isNewer) found = each;
  }
  return found;
}

export function describeSilent(silent: readonly MemberSilence[]): string {
  return silent
    .map(({ endpoint, reason }) => {
      const address = showEndpoint(endpoint);
      return reason.startsWith(address) ? reason : `${address}: ${reason}`;
    })
    .join('; ');
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
