import { mkdtempSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  decodeSlots,
  encodeSlots,
  readSlots,
  type SlotContent,
  writeSlots,
} from '../../src/api/slot_file.js';
import { SimulatedFiles } from '../../src/testing/simulated_files.js';
import { realFiles } from '../../src/transport/small_files.js';
import { tempDir } from '../global/temp.js';

const logId = 'ab'.repeat(16);

function content(sequence: number, position = 4096): SlotContent {
  const slot = {
    ...{ name: 'b', nodeId: 'cd'.repeat(16), position, lsn: 7, createdAt: 1, lastSeenAt: 2 },
    ...{ awayMs: 3.5, lost: false },
  };
  return { logId, sequence, epoch: 2, slots: [slot], ages: [{ position: 10, ageMs: 1000 }] };
}

describe('the file of the slots', () => {
  it('gives back what was put in', () => {
    expect(decodeSlots(encodeSlots(content(3)))).toEqual(content(3));
  });

  it('is known to be damaged where any bit of it is another', () => {
    const whole = encodeSlots(content(3));
    for (let bit = 0; bit < whole.length * 8; bit += 1) {
      const bytes = Uint8Array.from(whole);
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      expect(decodeSlots(bytes), `bit ${bit}`).toBeUndefined();
    }
  });

  it('is known to be damaged where it ends too early, or goes on', () => {
    const whole = encodeSlots(content(3));
    for (let end = 0; end < whole.length; end += 1) {
      expect(decodeSlots(whole.subarray(0, end)), `${end} bytes`).toBeUndefined();
    }
    expect(decodeSlots(Buffer.concat([whole, Buffer.from('\n')]))).toBeUndefined();
  });

  it('with a good checksum over what cannot be is damaged too', () => {
    const [slot] = content(1).slots;
    const wrong: object[] = [
      { ...slot, position: -1 },
      { ...slot, lsn: 0.5 },
      { ...slot, name: '../x' },
      { ...slot, nodeId: 'x' },
      { ...slot, awayMs: null },
      { ...slot, lost: 0 },
    ];
    for (const each of wrong) {
      const bytes = encodeSlots({ ...content(1), slots: [each as never] });
      expect(decodeSlots(bytes), JSON.stringify(each)).toBeUndefined();
    }
    expect(decodeSlots(encodeSlots({ ...content(1), slots: [slot!, slot!] }))).toBeUndefined();
  });
});

describe('of several copies', () => {
  it('the newest whole one counts, and the others are to be written anew', async () => {
    const files = new SimulatedFiles();
    files.put('/a/slots', encodeSlots(content(4, 8192)));
    files.put('/b/slots', encodeSlots(content(3)));
    const found = await readSlots(files, ['/a', '/b'], logId);
    expect(found).toEqual({ content: content(4, 8192), damaged: [], complete: false });
  });

  it.each(['damaged', 'missing', 'unreadable'])('one that is %s loses nothing', async (how) => {
    const files = new SimulatedFiles();
    files.put('/b/slots', encodeSlots(content(3)));
    if (how === 'damaged') files.put('/a/slots', Buffer.from('walmirror slots 1 '));
    files.before = (_, path) => {
      if (how === 'unreadable' && path === '/a/slots') throw new Error('EIO');
    };
    const found = await readSlots(files, ['/a', '/b'], logId);
    expect(found.content).toEqual(content(3));
    expect(found.complete).toBe(false);
    expect(found.damaged.length).toBe(how === 'missing' ? 0 : 1);
  });

  it('none whole is said, and none at all is no damage', async () => {
    const files = new SimulatedFiles();
    const none = await readSlots(files, ['/a', '/b'], logId);
    expect(none).toEqual({ content: undefined, damaged: [], complete: true });
    files.put('/a/slots', Buffer.from('?'));
    const found = await readSlots(files, ['/a', '/b'], logId);
    expect(found.content).toBeUndefined();
    expect(found.damaged).toEqual(['/a/slots does not verify']);
    const other = encodeSlots({ ...content(1), logId: '00'.repeat(16) });
    files.put('/a/slots', other);
    expect((await readSlots(files, ['/a'], logId)).damaged).toEqual(['/a/slots is of another log']);
  });
});

describe('a store', () => {
  /** Every step of it, by name, and how many there are. */
  const steps = ['write', 'rename', 'flush', 'write', 'rename', 'flush'];

  it.each([true, false])(
    'cut short at any step leaves the old or the new (loss %s)',
    async (loss) => {
      for (let at = 0; at <= steps.length; at += 1) {
        const files = new SimulatedFiles();
        await writeSlots(files, ['/a', '/b'], content(1));
        let step = 0;
        files.before = (name) => {
          if (step === at) throw new Error('it goes off');
          expect(name).toBe(steps[step]);
          step += 1;
        };
        const stored = await writeSlots(files, ['/a', '/b'], content(2, 8192)).then(
          () => true,
          () => false,
        );
        expect(stored).toBe(at === steps.length);
        files.before = () => undefined;
        files.goOff(loss);
        const found = await readSlots(files, ['/a', '/b'], logId);
        expect(found.damaged).toEqual([]);
        const newest = found.content?.sequence;
        if (stored) expect(newest).toBe(2);
        else expect([1, 2]).toContain(newest);
      }
    },
  );

  it('on a real disk replaces the file, and what a crash left, and follows no link', async () => {
    const dir = mkdtempSync(join(tempDir('slots'), 'x'));
    writeFileSync(join(dir, 'precious'), 'keep');
    symlinkSync(join(dir, 'precious'), join(dir, 'slots.new'));
    await writeSlots(realFiles, [dir], content(1));
    await writeSlots(realFiles, [dir], content(2));
    expect((await readSlots(realFiles, [dir], logId)).content?.sequence).toBe(2);
    expect(readFileSync(join(dir, 'precious'), 'utf8')).toBe('keep');
    const linked = mkdtempSync(join(tempDir('slots'), 'y'));
    symlinkSync(join(dir, 'slots'), join(linked, 'slots'));
    const found = await readSlots(realFiles, [linked], logId);
    expect(found.content).toBeUndefined();
    expect(found.damaged.length).toBe(1);
  });
});
