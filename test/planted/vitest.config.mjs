import { defineConfig } from 'vitest/config';
import { inTypeScript } from './plants.mjs';

const root = new URL('../..', import.meta.url).pathname;
const name = process.env.WALMIRROR_PLANT;
const plant = inTypeScript.find((each) => each.name === name);
if (name !== undefined && plant === undefined) throw new Error(`no bug is called ${name}`);

const isPlanted = (id) => plant !== undefined && id.split('?')[0].endsWith(`/${plant.file}`);

const planting = {
  name: 'planting',
  enforce: 'pre',
  configureVitest(context) {
    context.experimental_defineCacheKeyGenerator(({ id }) =>
      isPlanted(id) ? plant.name : undefined,
    );
  },
  transform(code, id) {
    if (!isPlanted(id)) return undefined;
    if (code.split(plant.find).length !== 2) {
      throw new Error(`${plant.file}: what ${plant.name} replaces is not there once`);
    }
    return { code: code.replace(plant.find, () => plant.replace), map: null };
  },
};

export default defineConfig({
  root,
  plugins: [planting],
  // The simulator takes the package; bugs are put into its source.
  resolve: {
    alias: [
      { find: /^walmirror$/, replacement: `${root}src/index.ts` },
      { find: /^walmirror\/testing$/, replacement: `${root}src/testing/index.ts` },
    ],
  },
  test: {
    pool: 'forks',
    maxWorkers: 1,
    testTimeout: plant === undefined ? 90_000 : 30_000,
    // Each bug is a run of its own, and only one file of it is another.
    experimental: { fsModuleCache: true },
  },
});
