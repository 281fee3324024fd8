import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** The files that take longest, longest first: begun last, one of them would keep one core alone. */
const longest = [
  'test/core/core.test.ts',
  'test/bench/quick.test.ts',
  'test/storage/kill.test.ts',
  'test/transport/rejoin.test.ts',
  'test/cli/usage.test.ts',
  'test/cli/replicated.test.ts',
  'test/cli/local.test.ts',
  'test/transport/hostile.test.ts',
  'test/transport/reconnect.test.ts',
  'test/demo/demo.test.ts',
];

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const others = (await super.sort(files)).filter((file) => rank(file) === longest.length);
    const first = files.filter((file) => rank(file) < longest.length);
    return [...first.sort((a, b) => rank(a) - rank(b)), ...others];
  }
}

function rank({ moduleId }: TestSpecification): number {
  const place = longest.findIndex((name) => moduleId.endsWith(`/${name}`));
  return place < 0 ? longest.length : place;
}

const shared = {
  globalSetup: ['test/global/setup.ts'],
  // A limit for what hangs: there are machines a third as fast as others.
  testTimeout: 90_000,
  hookTimeout: 90_000,
  expect: { poll: { timeout: 45_000 } },
};

export default defineConfig({
  test: {
    // Forks: an addon with threads of its own, and tests that change the process (signals,
    // descriptors).
    pool: 'forks',
    // One more than processors: tests wait for the disk and for each other a fifth of the time.
    maxWorkers: 3,
    sequence: { sequencer: LongestFirst },
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
          testTimeout: 240_000,
          // Each file keeps the processors busy by itself.
          fileParallelism: false,
        },
      },
    ],
  },
});
