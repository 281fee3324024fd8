import { beforeEach, expect, it } from 'vitest';
import { type RangeHolder, StandbyRanges } from '../../src/transport/standby_ranges.js';

/** A standby that gives 100 bytes at a time, of its own, from these positions. */
class Holder implements RangeHolder {
  readonly holdsTo = 10_000;
  readonly asked: number[] = [];

  constructor(
    readonly name: string,
    readonly gives: ReadonlySet<number>,
    readonly nodeId = name,
  ) {}

  async askRange(from: number): Promise<Uint8Array> {
    this.asked.push(from);
    if (!this.gives.has(from)) throw new Error('it is damaged here too');
    return new Uint8Array(100).fill(this.name.charCodeAt(0));
  }

  rejectRange(): void {
    throw new Error(`${this.name} is to stay`);
  }
}

let holders: Holder[];
let ranges: StandbyRanges;

beforeEach(() => {
  const first = new Holder('a', new Set([4096, 4196, 9000]));
  holders = [first, new Holder('b', new Set([4096]))];
  ranges = new StandbyRanges(() => holders);
});

async function giverOf(from: number, refused: 'no' | 'unfit' | 'wrong'): Promise<string> {
  return String.fromCharCode((await ranges.fetch(from, 50, refused))[0] ?? 0);
}

/** Both pieces come from the first, which turn out to be of no use; the second gives the first. */
async function passOver(): Promise<void> {
  expect(await giverOf(4096, 'no')).toBe('a');
  expect(await giverOf(4196, 'no')).toBe('a');
  expect(await giverOf(4096, 'unfit')).toBe('b');
}

it('a standby whose bytes were of no use is not asked for what follows them either', async () => {
  await passOver();
  const failed = ranges.fetch(4196, 50, 'no');
  await expect(failed).rejects.toMatchObject({
    code: 'WAL_LSN_GONE',
    message: expect.stringMatching(/^b: it is damaged/),
  });
  expect(holders[0]?.asked).toEqual([4096, 4196]);
});

it('nor when it has connected anew', async () => {
  await passOver();
  const again = new Holder('c', new Set([4096, 4196]), 'a');
  holders = [again, holders[1]!];
  await expect(ranges.fetch(4196, 50, 'no')).rejects.toMatchObject({ code: 'WAL_LSN_GONE' });
  expect(again.asked).toEqual([]);
});

it('it is asked again when that is over: begun anew, or given up', async () => {
  await passOver();
  holders.pop();
  expect(await giverOf(4096, 'no')).toBe('a');
  await expect(ranges.fetch(4096, 50, 'unfit')).rejects.toThrow(/cannot be compared/);
  expect(await giverOf(9000, 'no')).toBe('a');
});
