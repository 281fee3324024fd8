import * as check from '../api/validate.js';

/** Times of a lease, in milliseconds. */
export interface RefereeTiming {
  /** A lease that is not renewed ends so long after its last renewal. */
  readonly ttlMs: number;
  /**
   * So much before that its holder stops to acknowledge: for clocks that do not run alike, and for
   * the time between the check and what the caller does with the answer.
   */
  readonly marginMs: number;
  /** From one renewal to the next, from sending to sending. */
  readonly renewEveryMs: number;
  /** One call of the referee, with all the attempts that it takes, is given up after so long. */
  readonly callTimeoutMs: number;
}

/**
 * Of etcd, whose leases are counted in whole seconds, and which needs about two to elect another
 * leader of its own: a lease lives through that.
 */
export const etcdTiming: RefereeTiming = {
  ttlMs: 5000,
  marginMs: 500,
  renewEveryMs: 1000,
  callTimeoutMs: 1000,
};

/** Of a file on the same machine. */
export const fileTiming: RefereeTiming = {
  ttlMs: 2000,
  marginMs: 200,
  renewEveryMs: 400,
  callTimeoutMs: 400,
};

/** etcd keeps no lease shorter than one and a half of its election timeouts (1 s), rounded up. */
const leastEtcdTtlMs = 2000;
/** How much faster one clock may run than the other, as a part of the time to live. */
const clockDrift = 0.01;
const leastMarginMs = 20;
/** etcd looks for leases that have ended so often. */
export const etcdExpiryMs = 500;

export const timingKeys = ['ttlMs', 'marginMs', 'renewEveryMs', 'callTimeoutMs'] as const;

/** Throws TypeError and RangeError. What is not given is as in `defaults`. */
export function resolveTiming(
  value: unknown,
  what: string,
  defaults: RefereeTiming,
  kind: 'etcd' | 'file',
): RefereeTiming {
  const raw = check.optionsObject(value, what, timingKeys);
  const read = (key: (typeof timingKeys)[number]): number =>
    raw[key] === undefined ? defaults[key] : check.integer(raw[key], `${what}.${key}`, 1, 600_000);
  const timing: RefereeTiming = {
    ttlMs: read('ttlMs'),
    marginMs: read('marginMs'),
    renewEveryMs: read('renewEveryMs'),
    callTimeoutMs: read('callTimeoutMs'),
  };
  if (kind === 'etcd' && (timing.ttlMs % 1000 !== 0 || timing.ttlMs < leastEtcdTtlMs)) {
    throw new RangeError(
      `${what}.ttlMs takes whole seconds, ${leastEtcdTtlMs} or more, since etcd counts leases in ` +
        `them; got ${timing.ttlMs}`,
    );
  }
  const fault = timingFault(timing);
  if (fault !== undefined) throw new RangeError(`${what}: ${fault}`);
  return timing;
}

/**
 * Why a holder with these times might lose a lease that nobody took away, or keep one that has
 * ended; undefined if neither.
 */
export function timingFault(timing: RefereeTiming): string | undefined {
  const { ttlMs, marginMs, renewEveryMs, callTimeoutMs } = timing;
  const drift = Math.max(leastMarginMs, Math.ceil(ttlMs * clockDrift));
  if (marginMs < drift) {
    return (
      `marginMs is ${marginMs} and has to be ${drift} or more: a hundredth of ttlMs for clocks ` +
      `that do not run alike, and ${leastMarginMs} at least`
    );
  }
  // One call that is sent, is not answered and takes its whole time; the next is in time yet.
  const needed = renewEveryMs + 2 * callTimeoutMs + marginMs;
  if (ttlMs >= needed) return undefined;
  return (
    `ttlMs is ${ttlMs} and has to be ${needed} or more, renewEveryMs + 2 * callTimeoutMs + ` +
    'marginMs, so that one renewal may fail'
  );
}

/** From the loss of a primary to the lease that another takes. */
export interface TakeoverTime {
  readonly leastMs: number;
  readonly mostMs: number;
}

/**
 * With a referee that answers, and whose own leader stays. `noticeMs`: how late it may notice that
 * a lease has ended. The last renewal was sent up to `renewEveryMs` and a call before the loss; to
 * look, to be given a lease and to take the group with it are three questions.
 */
export function takeoverTime(timing: RefereeTiming, noticeMs: number): TakeoverTime {
  const { ttlMs, renewEveryMs, callTimeoutMs } = timing;
  return {
    leastMs: ttlMs - renewEveryMs - callTimeoutMs,
    mostMs: ttlMs + noticeMs + 3 * callTimeoutMs,
  };
}
