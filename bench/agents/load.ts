import { setTimeout as sleep } from 'node:timers/promises';
import { type Log, WalError } from 'walmirror';
import type { RecordSource } from '../harness/records.js';

/** Appends and commits through changes of role, as long as this log is the primary. */
export class Load {
  #committed = 0;
  #over = false;
  readonly #done: Promise<unknown>;

  constructor(log: Log, source: RecordSource, committers: number) {
    const all = Array.from({ length: committers }, () => this.#run(log, source));
    this.#done = Promise.all(all);
  }

  /** Commits that were acknowledged so far. */
  get committed(): number {
    return this.#committed;
  }

  /** Resolves when so many more commits were acknowledged. */
  async committedMore(count: number): Promise<void> {
    const target = this.#committed + count;
    while (this.#committed < target) await sleep(1);
  }

  async end(): Promise<void> {
    this.#over = true;
    await this.#done;
  }

  async #run(log: Log, source: RecordSource): Promise<void> {
    while (!this.#over) {
      try {
        const { role, appendLsn } = log.status();
        if (role !== 'primary') {
          await sleep(1);
          continue;
        }
        // A record follows from its number, whoever appends it.
        const lsn = log.append(source.at(appendLsn + 1));
        await log.commit(lsn);
        this.#committed += 1;
      } catch (error) {
        if (!(error instanceof WalError)) throw error;
        if (error.code === 'WAL_SWITCHING') await log.drain().catch(() => undefined);
        else if (error.code !== 'WAL_IS_STANDBY') throw error;
      }
    }
  }
}
