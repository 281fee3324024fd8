import { checkSeed } from './check.js';
import type { Task } from './pool.js';

// One seed after the other, as the pool sends them; the process ends with the pool's end of the
// channel.
process.on('message', ({ seed, how }: Task) => {
  void checkSeed(seed, how).then((checked) => process.send?.(checked));
});
process.on('disconnect', () => process.exit());
