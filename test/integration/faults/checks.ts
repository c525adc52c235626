/** What the tests of faults ask in the end: all migrations over, nothing left of them, and no packet of the workload lost. */
import type { MigrationView } from '../../../contracts/feed.ts';
import { BRIDGES, type ControllerProcess, type FaultNet, guestMac, pause, waitFor } from './faultNet.ts';

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
    60_000,
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
  await pause(600);
  return started;
}

/** Every packet of the workload since the `since`th came back. */
export async function lostNone(net: FaultNet, since: number): Promise<void> {
  const { lost, lostSince } = await net.carried(since);
  expect({ lostSince, of: lost }).toMatchObject({ lostSince: [] });
}
