import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** Collects garbage until this is gone. False: something refers to it still. */
export async function isCollected(ref: WeakRef<object>): Promise<boolean> {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const end = performance.now() + 10_000;
  while (performance.now() < end) {
    // What was asked for stays until the turn is over in which it was.
    await sleep(10);
    collect();
    if (ref.deref() === undefined) return true;
  }
  return false;
}
