import { type NativeLog, State } from '../native/native_log.js';
import { cutText } from '../wire/handshake_messages.js';
import type { LogCore } from './core.js';

/** What the record has room for. */
const maxBytes = 1024;

/** In the log, behind the opening and before anything else of the term (SAFETY.md 3.4). */
export async function recordForce(core: LogCore, why: string): Promise<void> {
  const { native } = core;
  await markForced(native, why, (met) =>
    core.moved.until(() => {
      core.requireReadable();
      return met();
    }),
  );
  core.news.tell('warn', 'promote', `the promotion was forced: ${why}`, { why });
}

/** Resolves when it is flushed. `until`: asks again whenever the engine has moved. */
export async function markForced(
  native: NativeLog,
  why: string,
  until: (met: () => boolean) => Promise<void>,
): Promise<void> {
  const text = cutText(why, maxBytes);
  await until(() => native.markForced(text));
  const end = native.state[State.CLOSED_POSITION] ?? 0;
  await until(() => (native.state[State.FLUSH_POSITION] ?? 0) >= end);
}
