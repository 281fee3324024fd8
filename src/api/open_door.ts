import { Door } from '../transport/door.js';
import { withDefaults } from '../transport/timing.js';
import type { LogCore } from './core.js';
import type { Endpoint } from './options.js';

/**
 * From now on this node listens there, and its role decides who is let in: nobody, until it has
 * one. Rejects with WAL_IO where the port is taken, with WAL_PLAINTEXT.
 */
export async function openDoor(core: LogCore, listen: Endpoint): Promise<void> {
  core.door = await newDoor(core, listen);
}

/** The same, and it is not this node's yet. */
export async function newDoor(core: LogCore, listen: Endpoint): Promise<Door> {
  const { environment } = core;
  const { logId } = core.info;
  const door = new Door({ logId, timing: withDefaults(), environment });
  await door.listen(listen);
  return door;
}
