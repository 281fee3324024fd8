import type { LogCore } from './core.js';
import type { Endpoint } from './options.js';
import { resolveTls } from './security_options.js';

/** The same certificates wherever this log has any: listening, following, and once promoted. */
export function reloadTls(core: LogCore, value: unknown): void {
  const { listen, follow, members, name } = core.options;
  if (listen?.tls === undefined && follow?.tls === undefined) {
    throw new TypeError('reloadTls is for a log that was given tls, with listen or follow');
  }
  const tls = resolveTls(value, 'reloadTls', name);
  core.driver.reloadTls(tls);
  core.members?.reloadTls(tls);
  core.renewedTls = tls;
  const renewed = (endpoint: Endpoint | undefined): Endpoint | undefined =>
    endpoint?.tls === undefined ? endpoint : { ...endpoint, tls };
  core.options = {
    ...core.options,
    listen: renewed(listen),
    follow: renewed(follow),
    members: members.map((each) => (each.tls === undefined ? each : { ...each, tls })),
  };
}
