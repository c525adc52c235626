/** What the tests of faults ask in the end: all migrations over, nothing left of them, and no packet of the workload lost. */
import type { MigrationView } from '../../../contracts/feed.ts';
import type { StreamReport } from '../../children/orders.ts';
import { BRIDGES, type ControllerProcess, type FaultNet, guestMac, waitFor } from './faultNet.ts';

export const migrations = async (c: ControllerProcess): Promise<MigrationView[]> =>
  (await c.client.status()).migrations;
export const brief = (views: MigrationView[]) =>
  views.map((m) => `${m.guest} is ${m.state} (${m.note ?? ''})`).join('; ');

export async function allEnd(c: ControllerProcess): Promise<MigrationView[]> {
  let views: MigrationView[] = [];
  return waitFor(
    'all migrations to end',
    async () => {
      views = await migrations(c);
      return views.every((m) => ['done', 'failed', 'cancelled'].includes(m.state)) ? views : undefined;
    },
    120_000,
  ).catch((error) => Promise.reject(new Error(`${error}: ${brief(views)}`)));
}

/** Nothing of migrations is left anywhere, and every switch leads to each guest where its agent says it runs. */
export async function isCleanAndRight(net: FaultNet, guests: readonly string[]): Promise<void> {
  let left: string[] = [];
  await waitFor('leftovers to go', async () => {
    left = await net.leftovers();
    return left.length === 0 || undefined;
  }).catch((error) => Promise.reject(new Error(`${error}: ${left.join('\n')}`)));
  const { hosts } = await net.report();
  for (const [i, guest] of guests.entries()) {
    const at = hosts.filter((h) => h.guests.some((g) => g.name === guest)).map((h) => h.host);
    expect(at).toHaveLength(1);
    for (const bridge of BRIDGES) await net.leadsTo(bridge, guestMac(i), guest, at[0] as 'hv1' | 'hv2');
  }
}

export async function carriesAll(net: FaultNet, c: ControllerProcess): Promise<number> {
  await c.seesAll();
  const started = (await net.carried()).sent;
  await waitFor('the workload to be carried', async () => (await net.carried()).sent > started + 100 || undefined);
  return started;
}

type Ask = (since?: number, until?: number) => Promise<StreamReport>;

/**
 * Every packet of a stream that was sent from the `since`th on until now comes back, on a busy machine somewhat later: one that
 * was lost never does. Answers the number of the next.
 */
export async function allComeBack(carried: Ask, since: number): Promise<number> {
  const { sent } = await carried();
  let missing: number[] = [];
  await waitFor('the echoes', async () => {
    missing = (await carried(since, sent)).missing;
    return missing.length === 0 || undefined;
  }).catch(() => expect({ missing, of: sent - since }).toMatchObject({ missing: [] }));
  expect(missing).toEqual([]);
  return sent;
}

/** No packet of the workload has been lost since the `since`th. */
export async function lostNone(net: FaultNet, since: number): Promise<void> {
  await allComeBack((from, until) => net.carried(from, until), since);
}
