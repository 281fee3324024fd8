import type { Benchmark } from '../harness/benchmark.js';

export function ownBenchmarks(): Benchmark[] {
  return [];
}
