/**
 * A controller killed with -9 while migrations are in every state, and started again with its journal: each migration goes on
 * or ends with a reason, nothing of it is left over at switches, databases and agents, and the workload loses no packet.
 */
import type { MigrationView } from '../../../contracts/feed.ts';
import { gate } from '../gate.ts';
import { whyNoOvs } from '../privateOvs.ts';
import { allEnd, brief, carriesAll, isCleanAndRight, lostNone, migrations } from './checks.ts';
import { BRIDGES, type ControllerProcess, FaultNet, pause, waitFor } from './faultNet.ts';

const { real, named } = gate(whyNoOvs());
jest.setTimeout(600_000);

let net: FaultNet | undefined;
afterEach(async () => {
  await net?.stop();
  net = undefined;
});

const STATES = ['queued', 'admitted', 'preparing', 'copying', 'switching', 'draining'] as const;

/** One that drains goes on doing so until it is let go. */
const DRAINING = { finish: { silenceMs: 500_000, maxDrainMs: 500_000 } };

/** Brings one migration into each state and keeps it there. */
async function oneInEachState(net: FaultNet, c: ControllerProcess): Promise<void> {
  await net.order({ order: 'hold', guest: 'admitted', do: 'measureDirtyRate' });
  await net.order({ order: 'hold', guest: 'preparing', do: 'prepare' });
  await net.order({ order: 'hold', guest: 'switching', do: 'continueSwitchover' });
  await net.order({ order: 'cap', guest: 'copying', bps: 1000 });
  const ask = (guest: string, strategy: 'parallel' | 'serial') =>
    c.client.migrate({ moves: [{ guest, destination: 'hv2' }], technique: 'pre-copy', strategy });
  for (const guest of STATES.slice(1)) await ask(guest, 'parallel');
  await ask('queued', 'serial');
  let views: MigrationView[] = [];
  await waitFor('a migration in every state', async () => {
    views = await migrations(c);
    return views.every((m) => m.state === m.guest) || undefined;
  }).catch((error) => Promise.reject(new Error(`${error}: ${brief(views)}`)));
}

/** What switches hold, once it has been the same for a while: what was on its way when it was looked at has arrived. */
async function heldFlows(net: FaultNet): Promise<Record<string, string[]>> {
  let before = '';
  return waitFor('flows to stay the same', async () => {
    const now = Object.fromEntries(BRIDGES.map((b) => [b, net.flows(b)]));
    const isSame = JSON.stringify(now) === before;
    before = JSON.stringify(now);
    if (!isSame) await pause(500);
    return isSame ? now : undefined;
  });
}

async function letGo(net: FaultNet): Promise<void> {
  await net.order({ order: 'release', guest: 'admitted', do: 'measureDirtyRate' });
  await net.order({ order: 'release', guest: 'preparing', do: 'prepare' });
  await net.order({ order: 'release', guest: 'switching', do: 'continueSwitchover' });
  await net.order({ order: 'cap', guest: 'copying' });
}

real(named('a migration in every state: all go on after the restart and are done'), async () => {
  net = await FaultNet.start('k9', { guests: [...STATES], policy: DRAINING });
  const c = await net.controller();
  await net.agents();
  await net.workload();
  const since = await carriesAll(net, c);
  await oneInEachState(net, c);
  const held = await heldFlows(net);

  await c.kill9();
  await waitFor('the switches to miss it', () => net?.isLeft() || undefined);
  // Switches in `secure` mode go on with what they have.
  expect(Object.fromEntries(BRIDGES.map((b) => [b, net?.flows(b)]))).toEqual(held);
  await c.start();
  await c.hasAgents();
  await letGo(net);
  await c.client.patchPolicy({ 'finish.silenceMs': 1000 });
  await c.seesAll();

  expect((await allEnd(c)).map((m) => [m.guest, m.state, m.note])).toEqual(
    expect.arrayContaining(STATES.map((guest) => [guest, 'done', null])),
  );
  await isCleanAndRight(net, STATES);
  await lostNone(net, since);
});

real(
  named('a migration in every state, which go on or not while the controller is dead: all end, nothing is left'),
  async () => {
    net = await FaultNet.start('k9b', { guests: [...STATES], policy: DRAINING });
    const c = await net.controller();
    await net.agents();
    await net.workload();
    const since = await carriesAll(net, c);
    await oneInEachState(net, c);

    await c.kill9();
    await letGo(net);
    // Long enough for a copy that reaches its switch-over alone to go on without the controller.
    await waitFor('the copies to end without the controller', async () => {
      const source = (await net?.report())?.hosts.find((h) => h.host === 'hv1');
      return source?.migrations.every((m) => m.phase === 'completed') || undefined;
    });
    // A machine that lost power in mid-write leaves the beginning of a line, and a bad disk leaves garbage.
    c.tearJournal();
    await c.start();
    await c.client.patchPolicy({ 'finish.silenceMs': 1000 });
    await c.seesAll();

    const ends = await allEnd(c);
    expect(Object.fromEntries(ends.map((m) => [m.guest, [m.state, m.note]]))).toEqual(
      Object.fromEntries(STATES.map((guest) => [guest, ['done', null]])),
    );
    expect(c.events('journal.damaged')).toHaveLength(2);
    await isCleanAndRight(net, STATES);
    await lostNone(net, since);
  },
);

real(
  named('a migration that waits for its first counters when the controller dies runs after the restart'),
  async () => {
    // Counters so seldom that none are known when the request comes, however long it takes until it can come.
    net = await FaultNet.start('k9r', { guests: ['g1'], policy: { reservation: { periodMs: 60_000 } } });
    const c = await net.controller();
    await net.agents();
    await waitFor('links', async () => ((await c.client.status()).topology.links.length === 4 ? true : undefined));
    await c.hasAgents();
    await c.client.migrate({ moves: [{ guest: 'g1', destination: 'hv2' }], technique: 'pre-copy' });
    expect((await migrations(c)).map((m) => m.state)).toEqual(['requested']);
    await c.kill9();
    await c.start();
    await c.client.patchPolicy({ 'reservation.periodMs': 1000 });
    expect((await allEnd(c)).map((m) => m.state)).toEqual(['done']);
    await isCleanAndRight(net, ['g1']);
  },
);
