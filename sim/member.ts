import { type Log, type LogStatus, type OpenOptions, type Rebuild, WalError } from 'walmirror';
import type { Machine, Random } from 'walmirror/testing';
import type { Oracle } from './oracle.js';
import { isStable, name as nameOf, type Plan, restAt } from './plan.js';

export const dir = '/log';
const port = 7401;

export const endpoint = (host: string) => ({ host, port, plaintext: true as const });

/** What a member tells the group. */
export interface MemberHost {
  readonly plan: Plan;
  readonly oracle: Oracle;
  /** A record was acknowledged, by a log that is open on this member. */
  acknowledged(member: Member, commit: Commit): void;
  /** It is the primary, of a new term. */
  leads(member: Member): void;
  /** What this member is opened with now, beside what all are. */
  optionsOf(member: Member): Partial<OpenOptions>;
  opened(member: Member): void;
  /** The last record that a member may trim to. */
  trimmable(member: Member): number;
  /** A member showed this record, the newest so far. */
  shown(member: Member, lsn: number): void;
  /** Its log ended, or could not be opened. */
  ended(member: Member, error: unknown): void;
  fail(error: unknown): void;
}

export interface Commit {
  readonly payload: string;
  readonly lsn: number;
  /** What it was acknowledged at. */
  readonly level: string;
  /** Whether the caller named a level of its own. */
  readonly isOwnLevel: boolean;
  /** Of the term in which it was appended. */
  readonly epoch: number;
}

/**
 * A node as somebody would run one: a log on a machine, an applier, and clients that append while
 * it is the primary. It is a process: what is left of one that ended is heard by nobody.
 */
export class Member {
  readonly name: string;
  readonly index: number;
  readonly machine: Machine;
  log: Log | undefined;
  /** Grows with every process. */
  life = 0;
  isStarting = false;
  role: LogStatus['role'] = 'standby';
  /** Of the last term that it has led. */
  epoch = 0;
  /** The last record that it has taken in that, since it began to lead. */
  lastLsn = 0;
  /** An answer to what it asked about its tail, for its next opening. */
  rejoin: OpenOptions['rejoin'] | undefined;
  /** What the application has applied, by LSN: it outlives restarts. */
  applied: string[] = [''];
  #firstLsn = 1;
  readonly #host: MemberHost;
  readonly #random: Random;
  #clientsStopped = false;
  #number = 0;
  #opening: { readonly giveUp: AbortController; readonly opening: Promise<void> } | undefined;
  #applier: { readonly done: Promise<void>; stop(): Promise<void> } | undefined;

  constructor(host: MemberHost, machine: Machine, index: number, random: Random) {
    this.#host = host;
    this.name = machine.name;
    this.index = index;
    this.machine = machine;
    this.#random = random;
  }

  /** It follows another standby, and is no member. */
  get isBetween(): boolean {
    const { cascade, nodes } = this.#host.plan;
    return cascade && this.index === nodes - 1;
  }

  get isRunning(): boolean {
    return this.machine.isOn && this.log !== undefined;
  }

  get hasLog(): boolean {
    try {
      return this.machine.disk.list(dir).length > 0;
    } catch {
      return false;
    }
  }

  /** It says so of itself: it may not know better yet. */
  get isPrimary(): boolean {
    return this.isRunning && this.role === 'primary';
  }

  start(): void {
    if (!this.machine.isOn) this.machine.goOn();
    this.life += 1;
    this.isStarting = true;
    this.log = undefined;
    const { life } = this;
    const giveUp = new AbortController();
    const opening = this.#open(life, giveUp.signal).catch((error: unknown) => {
      if (life !== this.life) return;
      this.isStarting = false;
      this.#host.ended(this, error);
    });
    this.#opening = { giveUp, opening };
  }

  /** The first record that its log has kept. */
  get firstLsn(): number {
    if (this.#host.plan.slots) this.#firstLsn = Math.max(this.#firstLsn, this.#firstOnDisk());
    return this.#firstLsn;
  }

  /** A log that lets go by itself says so nowhere: by the names of its segments. */
  #firstOnDisk(): number {
    const files = this.machine.disk.list(dir).filter((file) => file.endsWith('.wal'));
    const firsts = files.map((file) => Number.parseInt(file.slice(0, 16), 16));
    return firsts.length === 0 ? 1 : Math.min(...firsts);
  }

  set firstLsn(lsn: number) {
    this.#firstLsn = lsn;
  }

  /** The process ends, in order, also one that is only opening its log; or its machine does. */
  async stop(): Promise<void> {
    const { log, machine } = this;
    const opening = this.#opening;
    this.lost();
    if (!machine.isOn) return;
    let unheard = (): void => undefined;
    const gone = new Promise<void>((resolve) => {
      unheard = machine.atEnd(resolve);
    });
    opening?.giveUp.abort();
    await Promise.race([opening?.opening, gone]);
    await Promise.race([log?.close().catch(() => undefined), gone]);
    unheard();
  }

  /** The process is gone. */
  lost(): void {
    this.life += 1;
    this.log = undefined;
    this.isStarting = false;
    this.#opening = undefined;
    this.#applier = undefined;
  }

  #policy() {
    const { level, quorum, grammar, whenMissing, syncTimeout } = this.#host.plan;
    if (quorum === 0) return { synchronousCommit: level } as const;
    return {
      synchronousCommit: level,
      synchronousStandbys: `${grammar} ${quorum} (*)`,
      ...(whenMissing === 'block' ? { whenMissing } : { whenMissing, syncTimeout }),
    } as const;
  }

  async #open(life: number, signal: AbortSignal): Promise<void> {
    const { plan } = this.#host;
    const { machine, name, isBetween } = this;
    const members = Array.from({ length: plan.nodes }, (_, i) => endpoint(nameOf(i)));
    const group = isBetween ? { follow: endpoint(nameOf(1)) } : { members };
    const log = await machine.open({
      dir,
      signal,
      name,
      ringBytes: plan.ringBytes,
      sharedMemory: plan.sharedMemory,
      scrub: false,
      listen: endpoint(name),
      segmentBytes: plan.segmentBytes,
      maxRecordBytes: plan.maxRecordBytes,
      padded: plan.padded,
      ...this.#policy(),
      ...group,
      ...(plan.slots ? { retention: { records: plan.keepRecords } } : {}),
      rejoin: this.rejoin ?? plan.rejoin,
      onRebuild: (rebuild) => this.#rebuild(life, rebuild),
      ...(isBetween ? {} : this.#host.optionsOf(this)),
    });
    if (life !== this.life) {
      // A process that was told to stop while it started.
      if (machine.isOn) await log.close().catch(() => undefined);
      return;
    }
    this.isStarting = false;
    this.rejoin = undefined;
    this.log = log;
    const { role, term } = log.status();
    this.role = role;
    log.on('failed', (error) => {
      if (life === this.life) this.#host.ended(this, error);
    });
    log.on('role', ({ role, term }) => {
      if (life !== this.life) return;
      this.role = role;
      if (role === 'primary') this.#leads(life, log, term.epoch);
    });
    this.#host.opened(this);
    this.#apply(life, log);
    if (role === 'primary') this.#leads(life, log, term.epoch);
  }

  #leads(life: number, log: Log, epoch: number): void {
    this.epoch = epoch;
    this.lastLsn = 0;
    this.#host.leads(this);
    if (this.#host.plan.slots) this.#createSlots(log);
    const { clients } = this.#host.plan;
    for (let i = 0; i < clients; i++) {
      this.#client(life, log, epoch, i).catch((error: unknown) => this.#host.fail(error));
    }
  }

  /** Whoever cannot, since it leads no more, leaves it to the next. */
  #createSlots(log: Log): void {
    for (let i = 0; i < this.#host.plan.nodes; i++) {
      log.createSlot(nameOf(i)).catch((error: unknown) => {
        if (!(error instanceof WalError)) this.#host.fail(error);
      });
    }
  }

  /** The application goes back to before what is not in the log any more. */
  async #rebuild(life: number, { from }: Rebuild): Promise<void> {
    if (life !== this.life) return;
    const { plan, oracle } = this.#host;
    try {
      oracle.removed(this.name, this.applied, from, isStable(plan));
    } catch (error) {
      this.#host.fail(error);
    }
    if (this.#random.chance(0.3)) await this.machine.sleep(this.#random.between(0, 200));
    if (life !== this.life) return;
    const applier = this.#applier;
    if (this.applied.length <= from || applier === undefined) {
      this.applied.length = Math.min(this.applied.length, from);
      return;
    }
    await applier.stop();
    if (life !== this.life) return;
    this.applied.length = Math.min(this.applied.length, from);
    if (this.log !== undefined) this.#apply(life, this.log);
  }

  /** All from the beginning each time: what it had before has to be the same. */
  #apply(life: number, log: Log): void {
    const { plan, oracle } = this.#host;
    const first = log.status().firstLsn;
    let last = first - 1;
    this.firstLsn = first;
    const applier = log.apply({ from: first }, async (batch) => {
      if (life !== this.life) return;
      if (plan.slowApplier) await this.machine.sleep(this.#random.between(0, 20));
      if (life !== this.life) return;
      try {
        for (const record of batch) {
          if (record.lsn !== last + 1) throw new Error(`LSN ${record.lsn} after ${last}`);
          last = record.lsn;
          const payload = payloadOf(record.data);
          oracle.saw(this.name, record.lsn, payload, isStable(plan));
          oracle.applies(this.name, this.applied, record.lsn, payload);
        }
        this.#host.shown(this, last);
        const trims = plan.keepRecords > 0 && !plan.slots;
        if (trims && last - this.firstLsn > plan.keepRecords) {
          const wanted = last - Math.floor(plan.keepRecords / 2);
          await log.trim(Math.max(1, Math.min(wanted, this.#host.trimmable(this))));
          if (life === this.life) this.firstLsn = log.status().firstLsn;
        }
      } catch (error) {
        if (life === this.life && !(error instanceof WalError)) this.#host.fail(error);
      }
    });
    this.#applier = applier;
    applier.done.catch((error: unknown) => {
      if (life !== this.life || log !== this.log) return;
      // The log has failed, and says so; or what was shown is gone, which `onRebuild` hears.
      if (error instanceof WalError) return;
      this.#host.fail(error);
    });
  }

  async #client(life: number, log: Log, epoch: number, client: number): Promise<void> {
    const { plan, oracle } = this.#host;
    const random = this.#random.fork();
    const isOver = (): boolean =>
      life !== this.life || this.#clientsStopped || epoch !== this.epoch;
    for (;;) {
      const rest = restAt(this.machine.now, plan);
      await this.machine.sleep(rest + random.between(0, 2 * plan.thinkMs));
      if (isOver()) return;
      const count = random.chance(0.1) ? random.integer(2, 20) : 1;
      for (let i = 0; i < count; i++) {
        const payload = `${this.name}${life}.${client}.${this.#number++}`;
        const data = padded(payload, random.integer(0, plan.maxRecordBytes - 32));
        let lsn: number;
        try {
          lsn = log.append(data);
          this.lastLsn = lsn;
          oracle.appendedAs(payload, lsn, epoch, this.name);
        } catch (error) {
          if (!(error instanceof WalError)) throw error;
          oracle.refused(payload);
          if (isNotPrimary(error)) return;
          if (error.code === 'WAL_SWITCHING') {
            await settled(log.drain(data.length));
            break;
          }
          if (error.code !== 'WAL_RING_FULL' && error.code !== 'WAL_NO_SPACE') throw error;
          const drained = await settled(log.drain(data.length));
          if (isOver() || !drained) break;
          continue;
        }
        this.#commit(life, log, { payload, lsn, epoch }, random);
      }
    }
  }

  stopClients(): void {
    this.#clientsStopped = true;
  }

  /** One record, committed as the log's policy says: for the liveness phase. */
  async appendOne(): Promise<number> {
    const { log, life, epoch } = this;
    if (log === undefined) throw new Error('it is not open');
    const payload = `${this.name}${life}.last.${this.#number++}`;
    const lsn = log.append(padded(payload, 0));
    this.lastLsn = lsn;
    this.#host.oracle.appendedAs(payload, lsn, epoch, this.name);
    const { level } = await log.commit(lsn);
    this.#host.acknowledged(this, { payload, lsn, level, isOwnLevel: false, epoch });
    return lsn;
  }

  #commit(
    life: number,
    log: Log,
    { payload, lsn, epoch }: Pick<Commit, 'payload' | 'lsn' | 'epoch'>,
    random: Random,
  ): void {
    const { plan, oracle } = this.#host;
    const levels =
      plan.quorum === 0 || plan.level === 'remote_write'
        ? ([undefined, 'local', 'off'] as const)
        : ([undefined, undefined, 'local', 'remote_flush', 'off'] as const);
    const asked = random.chance(plan.ownLevels) ? random.pick(levels) : undefined;
    const signal = random.chance(0.05) ? new AbortController() : undefined;
    if (signal !== undefined) this.machine.after(random.between(0, 50), () => signal.abort());
    const wait = log.commit(lsn, {
      ...(asked === undefined ? {} : { level: asked }),
      ...(signal === undefined ? {} : { signal: signal.signal }),
    });
    wait.then(
      ({ level }) => {
        if (life !== this.life) return;
        try {
          const isOwnLevel = asked !== undefined;
          this.#host.acknowledged(this, { payload, lsn, level, isOwnLevel, epoch });
        } catch (error) {
          this.#host.fail(error);
        }
      },
      () => {
        if (life !== this.life) return;
        try {
          oracle.settled(payload, 'unknown', false, epoch);
        } catch (error) {
          this.#host.fail(error);
        }
      },
    );
  }
}

function isNotPrimary({ code }: WalError): boolean {
  return ['WAL_FENCED', 'WAL_FAILED', 'WAL_IS_STANDBY', 'WAL_SPLIT', 'WAL_CLOSED'].includes(code);
}

function padded(payload: string, bytes: number): Buffer {
  return Buffer.from(`${payload}|${'.'.repeat(bytes)}`);
}

export function payloadOf(data: Uint8Array): string {
  const end = data.indexOf(124);
  return Buffer.from(data.buffer, data.byteOffset, Math.max(0, end)).toString('latin1');
}

function settled(promise: Promise<unknown>): Promise<boolean> {
  return promise.then(
    () => true,
    () => false,
  );
}
