import type { LogCore } from './core.js';
import { FencedDriver } from './fenced_driver.js';
import { openDoor } from './open_door.js';
import type { Endpoint } from './options.js';
import { standForGroup } from './stand_for_group.js';
import { StandbyDriver } from './standby_driver.js';
import type { Promotable } from './win_epoch.js';

/** As a standby, or an old primary that comes back; with a referee as a candidate too. */
export async function follow(core: LogCore, endpoint: Endpoint): Promise<void> {
  await core.rebuild.find();
  const { listen } = core.options;
  if (listen !== undefined && core.door === undefined) await openDoor(core, listen);
  begin(core, endpoint);
}

/**
 * With a referee the group goes on by itself: a primary that was fenced comes back as a standby.
 * With a referee or not, what stopped for a promotion that has failed goes on.
 */
export async function followAgain(core: LogCore): Promise<void> {
  const { options, members, driver } = core;
  if (!(driver instanceof FencedDriver || driver instanceof StandbyDriver)) return;
  if (core.state !== 'open' || core.failure !== undefined || driver.promoting) return;
  const isStandby = driver instanceof StandbyDriver;
  // It follows as before, and is the same candidate, which waits before it asks again.
  if (isStandby && !driver.hasStopped) return;
  const last = isStandby ? driver.endpoint : options.follow;
  const endpoint = members?.first ?? last;
  if (options.referee === undefined || endpoint === undefined) {
    if (!driver.hasStopped) return;
    if (!isStandby) driver.open();
    if (endpoint === undefined || !isStandby) return;
  }
  try {
    await followFromNow(core, driver, endpoint, 'stand down');
  } catch (error) {
    if (core.state === 'open' && core.failure === undefined) throw error;
  }
}

/**
 * On a log that is open: what it did in its role is over, and it follows. An old primary is judged
 * as one is that opens with `follow`. `stand down`: a term that it stored to be the primary of, and
 * is not, is given up. Throws where the log is closed or has failed meanwhile.
 */
export async function followFromNow(
  core: LogCore,
  driver: Promotable,
  endpoint: Endpoint,
  how: 'follow' | 'stand down' = 'follow',
): Promise<void> {
  driver.promoting = true;
  const followed = core.keepAlive.during(change(core, driver, endpoint, how));
  core.roleChange = followed.catch(() => undefined);
  await followed;
}

async function change(
  core: LogCore,
  driver: Promotable,
  endpoint: Endpoint,
  how: 'follow' | 'stand down',
): Promise<void> {
  // A fence that is granted meanwhile is stored before this, or asked of who follows then.
  await core.desk.exclusively(async () => {
    // Nothing refers to the log's memory after that, and no cut is under way.
    await driver.stop();
    core.requireOpen();
    const { role, term } = core.native.info();
    // A promotion that failed after its term was stored: it may be in the log, or not.
    if (role === 'primary' && how === 'stand down') {
      await core.native.storeRole('fenced', term, '', '');
      core.requireOpen();
    }
    begin(core, endpoint);
  });
}

function begin(core: LogCore, endpoint: Endpoint): void {
  const driver = new StandbyDriver(core, endpoint);
  core.driver = driver;
  driver.start();
  standForGroup(core, driver);
}
