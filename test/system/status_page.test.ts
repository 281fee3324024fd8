import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openLog, small, until } from '../api/helpers.js';
import { missing } from '../global/requirements.js';
import { BrowserPage } from '../helpers/browser.js';

const reason = missing({ programs: ['chromium'] });

/** Where to keep the pictures, for whoever wants to look at them. */
const pictures = process.env.WALMIRROR_SCREENSHOTS;

async function keep(page: BrowserPage, name: string): Promise<void> {
  const png = await page.screenshot();
  expect(png.subarray(1, 4).toString()).toBe('PNG');
  if (pictures === undefined) return;
  mkdirSync(pictures, { recursive: true });
  writeFileSync(join(pictures, `${name}.png`), png);
}

/** A primary with a live standby and one that has gone, and appends until the test is over. */
async function group() {
  const options = { ...small, synchronousStandbys: 'ANY 1 (*)', listen: { port: 0 } };
  const a = await openLog({ ...options, name: 'catalog-1' });
  const { port } = a.status().listening!;
  const b = await openLog({ name: 'catalog-2', follow: { port } });
  const c = await openLog({ name: '<b>odd</b>', follow: { port } }).catch(() => undefined);
  expect(c, 'a name with markup is refused').toBeUndefined();
  const d = await openLog({ name: 'catalog-3', follow: { port } });
  await Promise.all([b.connected(), d.connected()]);
  return { a, b, d };
}

describe.skipIf(reason !== undefined)('the status page in a browser', () => {
  it('shows the group, its lags and charts, light and dark, wide and narrow', async () => {
    const { a, b, d } = await group();
    const { url } = await a.serveStatus();
    const page = await BrowserPage.open('chromium', 1200, 900);
    await page.scheme('light');
    await page.go(url);
    const text = (id: string) => page.evaluate(`document.getElementById('${id}')?.innerText`);
    await expect.poll(() => text('role'), { timeout: 30_000 }).toBe('primary');
    let going = true;
    const appending = (async () => {
      for (let i = 0; going; i++) {
        for (let n = 0; n < 20 + 15 * Math.sin(i / 20); n++) a.append(Buffer.alloc(200));
        await a.commit();
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    })();
    await expect.poll(() => page.evaluate('document.querySelectorAll("canvas").length')).toBe(3);
    await d.close();
    await until(() => a.status().standbys.some(({ state }) => state === 'disconnected'), 'it left');
    const drawn = () => page.evaluate('document.querySelector("#group svg").textContent');
    await expect.poll(drawn, { timeout: 20_000 }).toMatch(/catalog-2.*live, synchronous/s);
    await expect.poll(drawn, { timeout: 20_000 }).toMatch(/catalog-3.*away since/s);
    await expect.poll(() => text('events')).toMatch(/standby catalog-3 left/);
    expect(await text('figures')).toMatch(/remote_flush, ANY 1 \(\*\)/);
    // Some looks, so that the charts have lines.
    const points = 'document.querySelectorAll(".u-legend").length && performance.now() > 12000';
    await expect.poll(() => page.evaluate(points), { timeout: 40_000 }).toBe(true);
    expect(await text('trouble')).toBe('');
    await keep(page, 'primary-light');
    await page.scheme('dark');
    await keep(page, 'primary-dark');
    await page.size(390, 844);
    const wider = 'document.documentElement.scrollWidth > document.documentElement.clientWidth';
    // The picture of the group is drawn anew with the next status, its nodes below each other.
    const width = 'document.querySelector("#group svg").viewBox.baseVal.width';
    await expect.poll(() => page.evaluate(width)).toBeLessThan(400);
    expect(await page.evaluate(wider)).toBe(false);
    await keep(page, 'primary-narrow');
    going = false;
    await appending;
    await page.size(1200, 900);
    const other = await b.serveStatus();
    await page.go(other.url);
    await expect.poll(() => text('role')).toBe('standby');
    expect(await drawn()).toMatch(/catalog-1.*catalog-2/s);
    await keep(page, 'standby-dark');
    expect(page.problems).toEqual([]);
    await b.close();
    await expect.poll(() => text('trouble'), { timeout: 20_000 }).toMatch(/No newer status/);
  });
});
