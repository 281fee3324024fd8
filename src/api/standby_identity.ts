import type { Environment } from '../transport/environment.js';
import { fetchIdentity } from '../transport/fetch_identity.js';
import type { Endpoint, ResolvedOptions } from './options.js';

/** What a standby's directory has to be created with: its primary's. */
export interface StandbyIdentity {
  readonly logId: string;
  readonly salt: string;
  readonly segmentBytes: number;
  readonly padded: boolean;
  readonly maxRecordBytes: number;
}

/** Asks the primary, as often as it takes, until the signal ends it. */
export async function learnIdentity(
  options: ResolvedOptions,
  endpoint: Endpoint,
  environment: Environment,
): Promise<StandbyIdentity> {
  const { signal, name, onWaiting } = options;
  return await fetchIdentity({ ...endpoint, name, signal, environment, onFailed: onWaiting });
}
