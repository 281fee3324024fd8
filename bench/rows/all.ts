import type { Benchmark } from '../harness/benchmark.js';
import { bulkBenchmarks } from './bulk.js';
import { catchUpBenchmark } from './catch_up.js';
import { commitBenchmarks } from './commit.js';
import { memoryBenchmark } from './memory.js';
import { microBenchmarks } from './micro.js';
import { recoverBenchmark } from './recover.js';

export function ownBenchmarks(): Benchmark[] {
  return [
    ...microBenchmarks(),
    ...commitBenchmarks(),
    ...bulkBenchmarks(),
    catchUpBenchmark(),
    recoverBenchmark(),
    memoryBenchmark(),
  ];
}
