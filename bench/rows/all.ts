import type { Benchmark } from '../harness/benchmark.js';
import { hasEtcd } from '../harness/etcd.js';
import { bulkBenchmarks } from './bulk.js';
import { catchUpBenchmark } from './catch_up.js';
import { commitBenchmarks } from './commit.js';
import { failoverBenchmark } from './failover.js';
import { memoryBenchmark } from './memory.js';
import { microBenchmarks } from './micro.js';
import { recoverBenchmark } from './recover.js';
import { rejoinBenchmark } from './rejoin.js';
import { seedBenchmark } from './seed.js';
import { switchoverBenchmarks } from './switchover.js';

export function ownBenchmarks(): Benchmark[] {
  return [
    ...microBenchmarks(),
    ...commitBenchmarks(),
    ...bulkBenchmarks(),
    catchUpBenchmark(),
    recoverBenchmark(),
    rejoinBenchmark(),
    seedBenchmark(),
    ...switchoverBenchmarks(),
    ...(hasEtcd() ? [failoverBenchmark()] : []),
    memoryBenchmark(),
  ];
}
