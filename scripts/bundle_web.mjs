// Puts the status page, with what it needs of uPlot, where the package serves it from: dist/web.
import { copyFileSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const from = join(root, 'src/web');
const to = join(root, 'dist/web');
const uplot = dirname(createRequire(import.meta.url).resolve('uplot/package.json'));

rmSync(to, { recursive: true, force: true });
mkdirSync(to, { recursive: true });
for (const name of readdirSync(from)) copyFileSync(join(from, name), join(to, name));
copyFileSync(join(uplot, 'dist/uPlot.iife.min.js'), join(to, 'uplot.js'));
copyFileSync(join(uplot, 'dist/uPlot.min.css'), join(to, 'uplot.css'));
copyFileSync(join(uplot, 'LICENSE'), join(to, 'uplot.LICENSE'));
