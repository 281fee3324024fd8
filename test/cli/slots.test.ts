import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { tempDir } from '../global/temp.js';
import { listeningAddress, Running, statusWhen, succeed, walmirror } from './helpers.js';

describe('walmirror slots', () => {
  it('creates, lists and drops the slots of a running primary', async () => {
    const dir = tempDir('cli');
    const [a, b] = [join(dir, 'a'), join(dir, 'b')];
    const primary = new Running(['primary', '--dir', a, '--listen', '127.0.0.1:0', '--stay']);
    primary.child.stdin.end('one\n');
    await expect.poll(() => primary.stdout).toMatch(/committed up to LSN 1/);
    expect(await succeed(['slots', '--dir', a, 'list'])).toBe('no slots\n');
    const created = await succeed(['slots', '--dir', a, 'create', 'b']);
    expect(created).toMatch(/^NAME +STATE +FLUSHED +HELD +LAST SEEN\nb +away +LSN 0 .* never\n$/);
    const standby = new Running(['standby', '--dir', b, '--follow', await listeningAddress(a)]);
    await statusWhen(a, ({ slots }) => slots[0]?.state === 'active' && slots[0].flushLsn === 1);
    const [slot] = JSON.parse(await succeed(['slots', '--dir', a, 'list', '--json']));
    expect(slot).toMatchObject({ name: 'b', state: 'active', flushLsn: 1, awayMs: 0 });
    const onStandby = await walmirror(['slots', '--dir', b, 'create', 'c']);
    expect(onStandby.code).toBe(1);
    expect(onStandby.stderr).toMatch(/this log is a standby of .*\nhint: .*primary/);
    const shown = await succeed(['status', '--dir', a]);
    expect(shown).toMatch(/^slot b +active, flushed up to LSN 1, 0 B kept$/m);
    await standby.stop();
    await statusWhen(a, ({ slots }) => slots[0]?.state === 'away');
    expect(await succeed(['slots', '--dir', a, 'drop', 'b'])).toBe('slot b is dropped\n');
    expect(await succeed(['slots', '--dir', a, 'drop', 'b', '--json'])).toBe(
      '{"name":"b","dropped":false}\n',
    );
    await primary.stop();
  });

  it('says so where nobody runs', async () => {
    const { code, stderr } = await walmirror(['slots', '--dir', tempDir('cli'), 'list']);
    expect(code).toBe(1);
    expect(stderr).toMatch(/no process has .* open\nhint: Ask the primary while it runs/);
  });
});
