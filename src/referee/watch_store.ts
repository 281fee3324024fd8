import type { GroupView, Sight } from './referee.js';
import { type RefereeStore, type Snapshot, versionOf } from './store.js';

/** How long after a failed look, at most, the next one is. */
const mostRetryMs = 1000;

interface Looked {
  readonly snapshot: Snapshot;
  readonly view: GroupView;
}

/**
 * Looks at the records when the store says that they may have changed, and every `everyMs` whatever
 * it says: what it says may be lost. Ends, without an error, when the signal says so.
 */
export async function* watchStore(
  store: RefereeStore,
  everyMs: number,
  look: () => Promise<Looked>,
  signal: AbortSignal,
): AsyncGenerator<Sight, void, undefined> {
  let last: string | undefined;
  let isAway = false;
  while (!signal.aborted) {
    let sight: Sight | undefined;
    try {
      const { snapshot, view } = await look();
      const shown = fingerprint(snapshot);
      if (shown !== last) sight = { view };
      last = shown;
      isAway = false;
    } catch (error) {
      if (signal.aborted) return;
      const told = `away ${(error as { code?: unknown }).code}`;
      if (told !== last) sight = { away: error as Error };
      last = told;
      isAway = true;
    }
    if (sight !== undefined) yield sight;
    if (signal.aborted) return;
    const waitMs = isAway ? Math.min(everyMs, mostRetryMs) : everyMs;
    await store.changed(waitMs, signal).catch(() => undefined);
  }
}

/**
 * Progress is not news: it changes with each renewal. That nobody holds the group is news again
 * with each change: somebody may have held it in between, for whom a candidate has let go.
 */
function fingerprint(snapshot: Snapshot): string {
  const names = ['leader', 'holder', 'rule', 'pause'] as const;
  const since = snapshot.entries.has('holder') ? '' : `, free at ${snapshot.revision}`;
  return names.map((name) => versionOf(snapshot, name)).join(' ') + since;
}
