import { WalError } from '../../src/index.js';
import { MemoryStore as PlainStore } from '../../src/referee/memory_store.js';
import type { RecordName } from '../../src/referee/records.js';
import type { Expected, Write } from '../../src/referee/store.js';

/** A store in memory, on a clock of the test, which fails when it is told to. */
export class MemoryStore extends PlainStore {
  /** What the next calls come to: nothing is done; or it is done, and the answer is lost. */
  readonly faults: ('refused' | 'lost' | undefined)[] = [];
  /** Called once, before the next commit: another node comes in between. */
  beforeCommit: (() => Promise<void>) | undefined;
  /** Called while a question is on its way, and again while its answer is. */
  onWay: () => void = () => undefined;
  calls = 0;

  override async commit(expected: Expected, writes: Partial<Record<RecordName, Write>>) {
    const between = this.beforeCommit;
    this.beforeCommit = undefined;
    await between?.();
    return await super.commit(expected, writes);
  }

  override changed(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve));
  }

  protected override async ask<Result>(body: () => Result): Promise<Result> {
    this.calls += 1;
    const fault = this.faults.shift();
    this.onWay();
    if (fault === 'refused') throw new WalError('WAL_REFEREE_AWAY', 'as the test wants it');
    const result = await super.ask(body);
    this.onWay();
    if (fault === 'lost') throw new WalError('WAL_REFEREE_AWAY', 'the answer is lost');
    return result;
  }
}
