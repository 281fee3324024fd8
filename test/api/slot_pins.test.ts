import { describe, expect, it } from 'vitest';
import { AgeMarks } from '../../src/api/age_marks.js';
import { readSlots, slotPath } from '../../src/api/slot_file.js';
import { type SlotChange, Slots } from '../../src/api/slots.js';
import { type NativeLog, State } from '../../src/native/native_log.js';
import { SimulatedFiles } from '../../src/testing/simulated_files.js';

const logId = 'ab'.repeat(16);
const nodeId = 'cd'.repeat(16);
const segmentBytes = 1000;

/** What a log with one standby, `b`, has to do with its slots; the engine is claims and numbers. */
class Pins {
  readonly files: SimulatedFiles;
  readonly claims = new Map<number, number>();
  readonly state = new Float64Array(State.LENGTH);
  readonly changes: SlotChange[] = [];
  readonly faults: (string | null)[] = [];
  slots!: Slots;
  nowMs = 0;
  wallMs = 1e12;
  isPrimary = true;
  isSlow = false;
  history: { epoch: number; position: number; lsn: number }[] = [];
  dirs = ['/a'];
  #claims = 0;

  private constructor(files: SimulatedFiles) {
    this.files = files;
  }

  static async open(
    files = new SimulatedFiles(),
    limits: { maxSlotBytes?: number; maxSlotAge?: number; dirs?: string[] } = {},
  ): Promise<Pins> {
    const pins = new Pins(files);
    pins.dirs = limits.dirs ?? pins.dirs;
    const native = {
      state: pins.state,
      info: () => ({ segmentBytes, history: pins.history }),
      retain: (position: number) => {
        pins.#claims += 1;
        pins.claims.set(pins.#claims, Math.max(position, pins.state[State.START_POSITION]!));
        return pins.#claims;
      },
      moveRetain: (claim: number, position: number) => void pins.claims.set(claim, position),
      release: (claim: number) => void pins.claims.delete(claim),
    } as unknown as NativeLog;
    const found = await readSlots(files, pins.dirs, logId);
    pins.slots = new Slots(
      {
        ...{ native, files, logId, nodeId: 'ef'.repeat(16), name: 'a', dirs: () => pins.dirs },
        maxSlotBytes: limits.maxSlotBytes ?? Number.POSITIVE_INFINITY,
        maxSlotAge: limits.maxSlotAge ?? Number.POSITIVE_INFINITY,
        ages: undefined,
        now: () => pins.nowMs,
        wallClock: () => pins.wallMs,
        // So that a disk that hangs is late.
        within: (work, _, text) =>
          pins.isSlow
            ? Promise.race([
                work,
                new Promise<never>((_, reject) => setTimeout(reject, 50, new Error(text))),
              ])
            : work,
        isPrimary: () => pins.isPrimary,
        changed: (change) => pins.changes.push(change),
        fault: (text) => pins.faults.push(text),
      },
      found,
    );
    return pins;
  }

  /** The log ends there, flushed. */
  grow(position: number): void {
    for (const field of [State.CLOSED_POSITION, State.FLUSH_POSITION]) this.state[field] = position;
    this.state[State.FLUSH_LSN] = position / 10;
  }

  flushed(position: number): void {
    this.slots.moved('b', nodeId, { position, lsn: position / 10 });
  }

  /** What the engine lets nobody take away. */
  get keeps(): number {
    return Math.min(Number.POSITIVE_INFINITY, ...this.claims.values());
  }

  async withStandby(): Promise<this> {
    await this.slots.create('b', undefined);
    this.slots.came('b', nodeId, { position: 0, lsn: 0 });
    await this.slots.tick();
    return this;
  }

  /** Time passes, in looks a second apart. */
  async wait(seconds: number): Promise<void> {
    for (let i = 0; i < seconds; i += 1) {
      this.nowMs += 1000;
      await this.slots.tick();
    }
  }

  changed(): string[] {
    return this.changes.map(({ change }) => change);
  }
}

/** The file as a new process finds it. */
async function pinOf(files: SimulatedFiles, dirs = ['/a']): Promise<number | undefined> {
  const { content } = await readSlots(files, dirs, logId);
  return content?.slots.find(({ name }) => name === 'b')?.position;
}

describe('a pin', () => {
  it('stays where it is stored until it is stored further on, a segment at least', async () => {
    const pins = await (await Pins.open()).withStandby();
    pins.grow(5000);
    pins.flushed(900);
    await pins.slots.tick();
    expect(pins.keeps).toBe(0);
    pins.flushed(3200);
    expect(pins.keeps).toBe(0);
    await pins.slots.tick();
    expect(pins.keeps).toBe(3200);
    expect(await pinOf(pins.files)).toBe(3200);
  });

  it.each([true, false])('after a crash at any step is not behind the log (%s)', async (loss) => {
    // What was let go of is below the claims that the engine had: B24.
    let stepsSeen = 0;
    for (let at = 0; ; at += 1) {
      const dirs = ['/a', '/m'];
      const files = new SimulatedFiles();
      const pins = await (await Pins.open(files, { dirs })).withStandby();
      pins.grow(9000);
      pins.flushed(7500);
      let step = 0;
      let kept = pins.keeps;
      files.before = () => {
        kept = pins.keeps;
        if (step === at) return new Promise(() => undefined);
        step += 1;
        return undefined;
      };
      const done = await Promise.race([
        pins.slots.tick().then(() => true),
        new Promise((resolve) => setTimeout(resolve, 5, false)),
      ]);
      if (done === true) kept = pins.keeps;
      files.before = () => undefined;
      files.goOff(loss);
      const again = await Pins.open(files, { dirs });
      expect(again.keeps, `step ${at}`).toBeGreaterThanOrEqual(kept);
      expect(again.keeps).toBeLessThanOrEqual(7500);
      stepsSeen = step;
      if (done === true) break;
    }
    expect(stepsSeen).toBe(6);
  });

  it('does not move where the store fails, says so once, and moves when it works', async () => {
    const pins = await (await Pins.open()).withStandby();
    pins.grow(9000);
    pins.flushed(7500);
    pins.files.before = (step) => {
      if (step === 'flush') throw new Error('EIO');
    };
    await pins.wait(3);
    expect(pins.keeps).toBe(0);
    expect(pins.faults).toEqual(['the slots cannot be stored: EIO']);
    expect(pins.slots.fault).toMatch(/EIO/);
    pins.files.before = () => undefined;
    await pins.wait(1);
    expect(pins.keeps).toBe(7500);
    expect(pins.faults.at(-1)).toBeNull();
  });

  it('goes back at once, and no further on than this log has flushed itself', async () => {
    const pins = await (await Pins.open()).withStandby();
    pins.grow(9000);
    pins.flushed(12_000);
    await pins.slots.tick();
    expect(pins.keeps).toBe(9000);
    pins.slots.came('b', 'aa'.repeat(16), { position: 2000, lsn: 200 });
    expect(pins.keeps).toBe(2000);
    pins.slots.cut({ position: 1500, lsn: 150 });
    expect(pins.keeps).toBe(1500);
    await pins.slots.tick();
    expect(await pinOf(pins.files)).toBe(1500);
  });

  it('is not moved by who comes, before that one says what it has flushed', async () => {
    const pins = await (await Pins.open()).withStandby();
    pins.grow(9000);
    pins.slots.came('b', nodeId, { position: 8000, lsn: 800 });
    await pins.slots.tick();
    expect(pins.keeps).toBe(0);
  });

  it('of another node than uses the slot now is nothing', async () => {
    const pins = await (await Pins.open()).withStandby();
    pins.grow(9000);
    pins.slots.moved('b', 'aa'.repeat(16), { position: 8000, lsn: 800 });
    expect(pins.slots.away('b', 'aa'.repeat(16))).toBe(false);
    await pins.slots.tick();
    expect(pins.keeps).toBe(0);
  });
});

describe('a slot', () => {
  it('that could not be stored is none, and one that is to go stays', async () => {
    const pins = await Pins.open();
    pins.files.before = (step) => {
      if (step === 'rename') throw new Error('ENOSPC');
    };
    await expect(pins.slots.create('b', undefined)).rejects.toMatchObject({ code: 'WAL_IO' });
    expect(pins.slots.status()).toEqual([]);
    expect(pins.claims.size).toBe(0);
    pins.files.before = () => undefined;
    await pins.slots.create('b', undefined);
    pins.files.before = () => {
      throw new Error('EIO');
    };
    await expect(pins.slots.drop('b')).rejects.toMatchObject({ code: 'WAL_IO' });
    expect(pins.slots.status().map(({ name }) => name)).toEqual(['b']);
    expect(pins.claims.size).toBe(1);
    pins.files.before = () => undefined;
    expect(await pins.slots.drop('b')).toBe(true);
    expect(await pins.slots.drop('b')).toBe(false);
    expect(pins.claims.size).toBe(0);
    expect(await pinOf(pins.files)).toBeUndefined();
  });

  it('is made once, by several at once, and 64 are all', async () => {
    const pins = await Pins.open();
    await Promise.all([pins.slots.create('b', undefined), pins.slots.create('b', undefined)]);
    expect(pins.changed()).toEqual(['created']);
    for (let i = 1; i < 64; i += 1) await pins.slots.create(`s${i}`, undefined);
    await expect(pins.slots.create('more', undefined)).rejects.toThrow(/at most 64 slots/);
  });

  it('of this node itself holds nothing here, and goes with its own log', async () => {
    const pins = await Pins.open();
    await pins.slots.create('a', undefined);
    pins.grow(5000);
    await pins.slots.tick();
    expect(pins.claims.size).toBe(0);
    expect(pins.slots.toTell).toMatchObject([{ name: 'a', position: 5000, isActive: true }]);
  });

  it('is lost past its bytes: warned of, stored, and only then let go of', async () => {
    const pins = await Pins.open(new SimulatedFiles(), { maxSlotBytes: 10_000 });
    await pins.withStandby();
    pins.grow(20_000);
    await pins.slots.tick();
    expect(pins.changed()).toEqual(['created', 'active']);
    pins.slots.away('b', nodeId);
    pins.flushed(14_900);
    await pins.slots.tick();
    expect(pins.changed().slice(2)).toEqual(['away', 'warning']);
    pins.grow(23_000);
    await pins.slots.tick();
    await pins.slots.tick();
    expect(pins.changed().slice(4)).toEqual(['warning']);
    pins.grow(24_901);
    pins.files.before = (step) => {
      if (step === 'flush') throw new Error('EIO');
    };
    await pins.slots.tick();
    expect(pins.keeps).toBe(14_900);
    expect(pins.changed()).not.toContain('lost');
    pins.files.before = () => undefined;
    await pins.slots.tick();
    expect(pins.claims.size).toBe(0);
    expect(pins.changed().at(-1)).toBe('lost');
    expect(pins.slots.status()).toMatchObject([{ state: 'lost', heldBytes: 0, flushLsn: 1490 }]);
    const again = await Pins.open(pins.files, { maxSlotBytes: 10_000 });
    expect(again.slots.status()).toMatchObject([{ state: 'lost' }]);
    expect(again.claims.size).toBe(0);
  });

  it('that was lost is one again where its standby comes and finds its log', async () => {
    const pins = await Pins.open(new SimulatedFiles(), { maxSlotBytes: 1000 });
    await pins.withStandby();
    pins.slots.away('b', nodeId);
    pins.grow(3000);
    await pins.slots.tick();
    expect(pins.claims.size).toBe(0);
    pins.state[State.START_POSITION] = 1000;
    pins.slots.came('b', nodeId, { position: 1200, lsn: 120 });
    expect(pins.keeps).toBe(1000);
    expect(pins.slots.status()).toMatchObject([{ state: 'active', heldBytes: 2000 }]);
    await pins.slots.tick();
    expect((await Pins.open(pins.files)).slots.status()).toMatchObject([{ state: 'away' }]);
  });

  it('grows old by time that has passed here, whatever the wall clock says', async () => {
    const limits = { maxSlotAge: 100_000 };
    const pins = await Pins.open(new SimulatedFiles(), limits);
    await pins.withStandby();
    pins.slots.away('b', nodeId);
    pins.wallMs += 1e12;
    await pins.wait(60);
    expect(pins.slots.status()).toMatchObject([{ state: 'away', awayMs: 60_000 }]);
    // A process that was stopped has not seen whether anybody came.
    pins.nowMs += 3_600_000;
    await pins.slots.tick();
    expect(pins.slots.status()).toMatchObject([{ state: 'away', awayMs: 70_000 }]);
    const again = await Pins.open(pins.files, limits);
    const [stored] = again.slots.status();
    expect(stored!.awayMs).toBeGreaterThan(65_000);
    again.wallMs = 0;
    await again.wait(36);
    expect(again.slots.status()).toMatchObject([{ state: 'lost' }]);
  });
});

describe('what is stored', () => {
  it('in no copy that verifies: all is kept, said, and not written over', async () => {
    const files = new SimulatedFiles();
    files.put(slotPath('/a'), Buffer.from('rubbish'));
    const pins = await Pins.open(files);
    expect(pins.keeps).toBe(0);
    expect(pins.slots.fault).toMatch(/\/a\/slots does not verify/);
    await expect(pins.slots.create('b', undefined)).rejects.toMatchObject({
      code: 'WAL_CORRUPT',
      file: '/a/slots',
    });
    await pins.wait(3);
    expect(Buffer.from(files.get('/a/slots')!).toString()).toBe('rubbish');
  });

  it('is written anew where one copy of several is damaged, or a directory is new', async () => {
    const dirs = ['/a', '/m'];
    const files = new SimulatedFiles();
    await (await Pins.open(files, { dirs })).withStandby();
    files.put('/a/slots', Buffer.from('rubbish'));
    const pins = await Pins.open(files, { dirs });
    expect(pins.slots.fault).toBeNull();
    await pins.slots.tick();
    expect(await pinOf(files)).toBe(0);
    pins.dirs = ['/a', '/m', '/n'];
    await pins.slots.tick();
    expect(await pinOf(files, ['/n'])).toBe(0);
  });
});

describe('a standby that is told of slots', () => {
  const told = {
    ...{ name: 'c', nodeId, position: 4000, lsn: 400, createdAt: 1, lastSeenAt: null },
    ...{ awayMs: 5, lost: false, isActive: true },
  };

  it('keeps the log for them at once, and lets go when that is stored', async () => {
    const pins = await Pins.open();
    pins.isPrimary = false;
    pins.grow(9000);
    pins.files.before = () => new Promise(() => undefined);
    pins.slots.told([told, { ...told, name: 'a', nodeId: 'ef'.repeat(16), position: 0 }]);
    expect(pins.keeps).toBe(4000);
    const stuck = await Pins.open();
    stuck.isPrimary = false;
    stuck.slots.told([told]);
    await until(async () => (await readSlots(stuck.files, ['/a'], logId)).content?.sequence === 1);
    stuck.files.before = () => {
      throw new Error('EIO');
    };
    stuck.slots.told([{ ...told, position: 8000 }]);
    await stuck.slots.tick();
    expect(stuck.keeps).toBe(4000);
    stuck.slots.told([{ ...told, lost: true }]);
    await stuck.slots.tick();
    expect(stuck.keeps).toBe(4000);
    stuck.slots.told([]);
    await stuck.slots.tick();
    expect(stuck.keeps).toBe(4000);
    stuck.files.before = () => undefined;
    await stuck.slots.tick();
    expect(stuck.claims.size).toBe(0);
  });

  it('has them when it is the primary, no further on than its own term began', async () => {
    const pins = await Pins.open();
    pins.isPrimary = false;
    pins.grow(3500);
    pins.slots.told([told]);
    await pins.slots.tick();
    pins.isPrimary = true;
    pins.history = [{ epoch: 1, position: 3500, lsn: 350 }];
    pins.slots.leads();
    expect(pins.keeps).toBe(3500);
    expect(pins.slots.status()).toMatchObject([{ name: 'c', state: 'away', flushLsn: 350 }]);
  });

  it('has them no further on than where it left the history that they are of', async () => {
    const files = new SimulatedFiles();
    const pins = await Pins.open(files);
    pins.isPrimary = false;
    pins.history = [{ epoch: 1, position: 100, lsn: 0 }];
    pins.grow(3500);
    pins.slots.told([told]);
    await until(async () => pins.slots.toTell?.length === 1);
    // Promoted by hand while no process had it open, and then opened.
    const again = await Pins.open(files);
    again.history = [
      { epoch: 1, position: 100, lsn: 0 },
      { epoch: 2, position: 3500, lsn: 350 },
      { epoch: 2, position: 4500, lsn: 350 },
    ];
    again.slots.leads();
    expect(again.keeps).toBe(3500);
  });

  it('knows its slots again where its own file was damaged', async () => {
    const files = new SimulatedFiles();
    files.put('/a/slots', Buffer.from('rubbish'));
    const pins = await Pins.open(files);
    pins.isPrimary = false;
    pins.slots.told([told]);
    await until(async () => pins.keeps === 4000);
    expect(pins.slots.fault).toBeNull();
  });
});

describe('slots that are not as they should be', () => {
  const told = {
    ...{ name: 'c', nodeId, position: 4000, lsn: 400, createdAt: 1, lastSeenAt: null },
    ...{ awayMs: 0, lost: false, isActive: false },
  };

  it('are not told where they are not known: a standby keeps what it has', async () => {
    const files = new SimulatedFiles();
    files.put(slotPath('/a'), Buffer.from('rubbish'));
    const primary = await Pins.open(files);
    expect(primary.slots.toTell).toBeUndefined();
  });

  it('of a standby with the name of its primary hold the log for it', async () => {
    const pins = await Pins.open();
    pins.grow(9000);
    await pins.slots.create('a', { nodeId, flush: { position: 2000, lsn: 200 } });
    await pins.slots.tick();
    expect(pins.keeps).toBe(2000);
    expect(pins.slots.away('a', nodeId)).toBe(true);
    expect(pins.slots.status()).toMatchObject([{ name: 'a', state: 'away', flushLsn: 200 }]);
    expect(pins.keeps).toBe(2000);
  });

  it('come to their age in a process that never runs for long', async () => {
    const files = new SimulatedFiles();
    const hour = 3_600_000;
    for (let run = 0; run < 10; run += 1) {
      const pins = await Pins.open(files, { maxSlotAge: 7 * 24 * hour });
      if (run === 0) await pins.slots.create('b', undefined);
      for (let s = 0; s < 360; s += 1) {
        pins.nowMs += 10_000;
        await pins.slots.tick();
      }
      await pins.slots.close();
    }
    const last = await Pins.open(files);
    expect(last.slots.status()[0]?.awayMs).toBe(10 * hour);
  });

  it('are written again where a drop was refused while another store was due', async () => {
    const files = new SimulatedFiles();
    const pins = await Pins.open(files);
    await pins.slots.create('b', undefined);
    let fails = true;
    files.before = (step) => {
      if (!fails || step !== 'flush') return;
      fails = false;
      throw new Error('EIO');
    };
    const dropped = pins.slots.drop('b');
    dropped.catch(() => undefined);
    await Promise.resolve();
    const ticked = pins.slots.tick();
    await expect(dropped).rejects.toMatchObject({ code: 'WAL_IO' });
    await ticked;
    await pins.slots.tick();
    const names = async () =>
      (await readSlots(files, ['/a'], logId)).content?.slots.map(({ name }) => name);
    expect(pins.slots.status().map(({ name }) => name)).toEqual(['b']);
    expect(await names()).toEqual(['b']);
  });

  it('are kept for as they are told last, stored or not', async () => {
    const pins = await Pins.open();
    pins.isPrimary = false;
    pins.grow(9000);
    pins.files.before = () => new Promise(() => undefined);
    pins.slots.told([told]);
    pins.slots.told([{ ...told, position: 2000 }]);
    expect(pins.keeps).toBe(2000);
    const other = await Pins.open();
    other.isPrimary = false;
    other.files.before = () => new Promise(() => undefined);
    other.slots.told([{ ...told, lost: true }]);
    other.slots.told([told]);
    expect(other.keeps).toBe(4000);
  });

  it('that go back are stored at once, before a crash forgets it', async () => {
    const files = new SimulatedFiles();
    const pins = await Pins.open(files);
    pins.grow(20_000);
    await pins.slots.create('b', undefined);
    pins.slots.came('b', nodeId, { position: 9000, lsn: 900 });
    pins.slots.moved('b', nodeId, { position: 9000, lsn: 900 });
    await pins.slots.tick();
    pins.slots.came('b', nodeId, { position: 2000, lsn: 200 });
    const stored = async () => (await readSlots(files, ['/a'], logId)).content?.slots[0]?.position;
    await until(async () => (await stored()) === 2000);
  });

  it('go to a directory that was out meanwhile', async () => {
    const files = new SimulatedFiles();
    const pins = await Pins.open(files, { dirs: ['/a', '/m'] });
    await pins.slots.create('b', undefined);
    files.put(slotPath('/m'), undefined);
    pins.state[State.COPY_NEWS] = 2;
    await pins.slots.tick();
    expect((await readSlots(files, ['/m'], logId)).content?.slots.length).toBe(1);
  });

  it('on a disk that hangs are told, and stored on the others', async () => {
    const files = new SimulatedFiles();
    const pins = await Pins.open(files, { dirs: ['/a', '/m'] });
    pins.isSlow = true;
    await pins.slots.create('b', undefined).catch(() => undefined);
    files.before = (_, path) => (path.startsWith('/m') ? new Promise(() => undefined) : undefined);
    await expect(pins.slots.create('c', undefined)).rejects.toMatchObject({ code: 'WAL_IO' });
    await expect(pins.slots.create('c', undefined)).rejects.toThrow('has not ended');
    pins.dirs = ['/a'];
    await pins.slots.create('c', undefined);
    expect((await readSlots(files, ['/a'], logId)).content?.slots.length).toBe(2);
  });
});

describe('the age of the log', () => {
  it('is that of what was committed so long ago, over restarts', () => {
    const marks = new AgeMarks(32_000, [], 0);
    for (let t = 0; t <= 60; t += 1) marks.note(1000 + t * 10, t * 1000);
    expect(marks.old(60_000)).toBe(1280);
    const again = new AgeMarks(32_000, marks.take(60_000), 1e9);
    expect(again.old(1e9)).toBe(1280);
    expect(again.old(1e9 + 5000)).toBe(1330);
    again.cut(1300);
    expect(again.old(1e9 + 60_000)).toBe(1300);
  });

  it('of what nobody has looked at before is nothing', () => {
    const marks = new AgeMarks(32_000, [], 0);
    marks.note(5000, 0);
    expect(marks.old(31_999)).toBe(0);
    expect(marks.old(32_000)).toBe(5000);
  });

  it('takes few marks, however long it runs', () => {
    const marks = new AgeMarks(1000, [], 0);
    for (let t = 0; t < 100_000; t += 1) marks.note(t, t);
    expect(marks.take(100_000).length).toBeLessThan(64);
  });
});

async function until(met: () => Promise<boolean>): Promise<void> {
  for (let i = 0; i < 1000; i += 1) {
    if (await met()) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
  throw new Error('never happened');
}
