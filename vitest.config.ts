import { defineConfig } from 'vitest/config';

const shared = {
  globalSetup: ['test/global/setup.ts'],
  testTimeout: 30_000,
  hookTimeout: 30_000,
  expect: { poll: { timeout: 15_000 } },
};

export default defineConfig({
  test: {
    // Forks: an addon with threads of its own, and tests that change the process (signals,
    // descriptors).
    pool: 'forks',
    maxWorkers: 2,
    projects: [
      {
        test: {
          ...shared,
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: ['test/system/**'],
        },
      },
      {
        // Needs root, strace, a small file system and the like: test/global/requirements.ts.
        test: {
          ...shared,
          name: 'system',
          include: ['test/system/**/*.test.ts'],
          testTimeout: 120_000,
          // Each file keeps the processors busy by itself.
          fileParallelism: false,
        },
      },
    ],
  },
});
