import { type Log, WalError } from 'walmirror';

/**
 * The LSN, or undefined where the log has no room now: memory, or a segment that is still prepared.
 */
export function tryAppend(log: Pick<Log, 'append'>, record: Uint8Array): number | undefined {
  try {
    return log.append(record);
  } catch (error) {
    if (error instanceof WalError && error.code === 'WAL_RING_FULL') return undefined;
    throw error;
  }
}

/** The wait that belongs to it. */
export async function untilRoom(log: Pick<Log, 'drain'>, bytes: number): Promise<void> {
  await log.drain(bytes);
  await nextTurn();
}

export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
