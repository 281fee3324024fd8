import type { LogCore } from './core.js';
import { isNodeName, nodeNameRule } from './node_name.js';
import { PrimaryDriver } from './primary_driver.js';
import type { SlotStatus } from './slots.js';
import * as check from './validate.js';

/** `Log.createSlot`. */
export async function createSlot(core: LogCore, name: unknown): Promise<SlotStatus> {
  const slot = slotName(name);
  const { retention, driver, keepAlive } = requirePrimary(core);
  const standbys = driver instanceof PrimaryDriver ? driver.standbys : [];
  const connected = standbys.find((each) => each.name === slot);
  try {
    return await keepAlive.during(retention.slots.create(slot, connected));
  } finally {
    // Also what failed may be on a disk, and has to be put right.
    retention.changed();
  }
}

/** `Log.dropSlot`. */
export async function dropSlot(core: LogCore, name: unknown): Promise<boolean> {
  const slot = slotName(name);
  const { retention, keepAlive } = requirePrimary(core);
  try {
    return await keepAlive.during(retention.slots.drop(slot));
  } finally {
    retention.changed();
  }
}

function slotName(name: unknown): string {
  const text = check.string(name, 'the name of a slot');
  if (isNodeName(text)) return text;
  throw new RangeError(
    `a slot has the name of a standby: ${nodeNameRule}; got ${check.shown(name)}`,
  );
}

/** Standbys have the slots of their primary. */
function requirePrimary(core: LogCore): LogCore {
  core.requireOpen();
  if (core.driver.commits === undefined) throw core.driver.refusal();
  return core;
}
