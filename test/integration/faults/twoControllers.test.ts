/**
 * Two controllers. The one in charge is killed with -9 while a copy runs: the other, which followed its journal, ends the
 * migration and goes on; the first comes back as standby. Then two that lose each other: at each switch one has its way, agents
 * obey one, and when they see each other again the older follows. No packet of the workload is lost, and nothing is left over.
 */

import { gate } from '../gate.ts';
import { whyNoOvs } from '../privateOvs.ts';
import { allEnd, carriesAll, isCleanAndRight, lostNone, migrations } from './checks.ts';
import { BRIDGES, CONTROL, type ControllerProcess, FaultNet, waitFor } from './faultNet.ts';

const { real, named } = gate(whyNoOvs());
jest.setTimeout(600_000);

let net: FaultNet | undefined;
let watched: ReturnType<typeof watchMasters> | undefined;
afterEach(async () => {
  watched?.stop();
  watched = undefined;
  await net?.stop();
  net = undefined;
});

const addressOf = (httpPort: number) => `http://${CONTROL.controllers}:${httpPort}`;
const pairOf = async (c: ControllerProcess) => (await c.client.status()).pair;
const stands = async (c: ControllerProcess, role: 'primary' | 'standby', term: string) => {
  let pair: Awaited<ReturnType<typeof pairOf>>;
  await waitFor(`controller ${c.name} to be ${role} in term ${term}`, async () => {
    pair = await pairOf(c);
    return (pair?.role === role && pair.term === term) || undefined;
  }).catch((error) => Promise.reject(new Error(`${error}; it is ${pair?.role} in term ${pair?.term}`)));
};

/** Roles of the two controllers at each switch, as the switches have them. */
const rolesAtSwitches = (net: FaultNet): string[] =>
  net.ovs
    .vsctl('--columns=role', '--format=csv', '--no-headings', 'list', 'controller')
    .split('\n')
    .map((role) => role.trim())
    .sort();

real(named('the standby ends the migration of the primary that was killed, and keeps the switches'), async () => {
  net = await FaultNet.start('2c', {
    guests: ['g1', 'g2'],
    controllers: ['one', 'two'],
    policy: { finish: { silenceMs: 2000 } },
  });
  const one = await net.controller('one', { openflow: { port: 6653, role: 'primary', peer: addressOf(8654) } });
  const two = await net.controller('two', { openflow: { port: 6654, role: 'standby', peer: addressOf(8653) } });
  await net.agents();
  await net.workload();
  const since = await carriesAll(net, one);
  await stands(two, 'standby', '1');
  await waitFor(
    'every switch to have a master and a slave',
    () => rolesAtSwitches(net as FaultNet).join() === 'master,master,master,slave,slave,slave' || undefined,
  );

  await net.order({ order: 'cap', guest: 'g1', bps: 1000 });
  const move = (guest: string) => ({ moves: [{ guest, destination: 'hv2' }], technique: 'pre-copy' as const });
  await expect(two.client.migrate(move('g1'))).rejects.toMatchObject({
    code: 'STANDBY',
    message: expect.stringContaining(addressOf(8653)),
  });
  await one.client.migrate(move('g1'));
  // The standby knows from the journal what the one in charge does.
  await waitFor('the copy to run', async () => (await migrations(two))[0]?.state === 'copying' || undefined);
  const [moving] = await migrations(two);

  await one.kill9();
  await stands(two, 'primary', '2');
  await two.seesAll();
  await net.order({ order: 'cap', guest: 'g1' });
  expect((await allEnd(two)).map((m) => [m.id, m.guest, m.state, m.note])).toEqual([[moving?.id, 'g1', 'done', null]]);
  const atDestination = async (guest: string) =>
    (await net?.report())?.hosts.find((h) => h.host === 'hv2')?.guests.find((g) => g.name === guest)?.state;
  expect(await atDestination('g1')).toBe('running');
  await isCleanAndRight(net, ['g1', 'g2']);
  await lostNone(net, since);

  // The old primary asks who is in charge, and follows.
  await one.start();
  await stands(one, 'standby', '2');
  await expect(one.client.migrate(move('g2'))).rejects.toMatchObject({ code: 'STANDBY' });
  await two.client.migrate(move('g2'));
  expect((await allEnd(two)).map((m) => m.state)).toEqual(['done', 'done']);
  expect(await atDestination('g2')).toBe('running');
  await waitFor('the standby to know of the end', async () =>
    (await migrations(one)).every((m) => m.state === 'done') && (await migrations(one)).length === 2 ? true : undefined,
  );
  await isCleanAndRight(net, ['g1', 'g2']);
  await lostNone(net, since);
  expect(await pairOf(two)).toMatchObject({ role: 'primary', term: '2' });
  expect([one.events('controller.fenced'), two.events('controller.fenced')]).toEqual([[], []]);
});

/** Switches with more than one master, as seen until `stop`. */
function watchMasters(net: FaultNet): { stop(): string[] } {
  const ofBridge = BRIDGES.map((b) => ({ bridge: b, ids: net.ovs.vsctl('get', 'bridge', b, 'controller') }));
  const seen = new Set<string>();
  const look = () => {
    const rows = net.ovs
      .vsctl('--columns=_uuid,role', '--format=csv', '--no-headings', 'list', 'controller')
      .split('\n');
    for (const { bridge, ids } of ofBridge) {
      const masters = rows.filter((r) => r.endsWith('master') && ids.includes(r.split(',')[0] as string));
      if (masters.length > 1) seen.add(bridge);
    }
  };
  const timer = setInterval(look, 250);
  return {
    stop() {
      clearInterval(timer);
      return [...seen];
    },
  };
}

real(
  named('two controllers that lose each other: one leads, the other follows again; so does one that stood still'),
  async () => {
    net = await FaultNet.start('2s', {
      guests: ['g1'],
      controllers: ['one', 'two'],
      policy: { finish: { silenceMs: 2000 } },
    });
    const ways = [await net.passage(9001, 8653), await net.passage(9002, 8654)];
    const split = (state: 'cut' | 'mended') => {
      for (const way of ways) way(state);
    };
    const one = await net.controller('one', { openflow: { port: 6653, role: 'primary', peer: addressOf(9002) } });
    const two = await net.controller('two', { openflow: { port: 6654, role: 'standby', peer: addressOf(9001) } });
    await net.workload();
    await net.agents();
    const since = await carriesAll(net, one);
    await stands(two, 'standby', '1');
    const isLed = (c: ControllerProcess) =>
      waitFor(`agents to be at controller ${c.name}`, async () => {
        const { agents } = (await c.client.status()).topology;
        return agents.filter((a) => a.connected).length === 2 || undefined;
      });
    const hasOneMaster = () =>
      waitFor(
        'every switch to have one master',
        () => rolesAtSwitches(net as FaultNet).join() === 'master,master,master,slave,slave,slave' || undefined,
      );
    await hasOneMaster();

    // Both reach all switches and agents, and not each other, while a copy runs; the policy was edited at the one in charge.
    await one.client.patchPolicy({ 'finish.silenceMs': 1500 });
    await net.order({ order: 'cap', guest: 'g1', bps: 1000 });
    await one.client.migrate({ moves: [{ guest: 'g1', destination: 'hv2' }], technique: 'pre-copy' });
    await waitFor('the copy to run', async () => (await migrations(two))[0]?.state === 'copying' || undefined);
    const masters = watchMasters(net);
    watched = masters;
    split('cut');
    await stands(two, 'primary', '2');
    // The old one hears of it from the switches, and the agents turn to the new one.
    await stands(one, 'standby', '1');
    await isLed(two);
    await two.seesAll();
    expect((await two.client.policy()).policy.finish.silenceMs).toBe(1500);
    await net.order({ order: 'cap', guest: 'g1' });
    expect((await allEnd(two)).map((m) => [m.guest, m.state, m.note])).toEqual([['g1', 'done', null]]);
    await isCleanAndRight(net, ['g1']);
    split('mended');
    await stands(one, 'standby', '2');
    await waitFor(
      'the old one to know of the end',
      async () => (await migrations(one))[0]?.state === 'done' || undefined,
    );
    await hasOneMaster();
    expect(masters.stop()).toEqual([]);
    expect(one.events('controller.fenced')).toHaveLength(1);
    // The copy was started once, and nobody gave it up.
    expect(net.agentEvents('command-failed')).toEqual([]);

    // Now the one in charge has no switch any more, only its agents, which nobody but they themselves can turn.
    split('cut');
    net.reachOnly('one');
    await stands(one, 'primary', '3');
    await isLed(one);
    expect(net.agentEvents('controller-superseded').map((e) => e.term)).toEqual(expect.arrayContaining(['3', '3']));
    expect(await pairOf(two)).toMatchObject({ role: 'primary', term: '2' });
    await expect(two.client.migrate({ moves: [{ guest: 'g1', destination: 'hv1' }] })).rejects.toMatchObject({
      code: 'HOST_AWAY',
    });
    await one.client.migrate({ moves: [{ guest: 'g1', destination: 'hv1' }] });
    expect((await allEnd(one)).map((m) => m.state)).toEqual(['done', 'done']);
    split('mended');
    await stands(two, 'standby', '3');
    net.reachOnly('one', 'two');
    await hasOneMaster();

    // And one that stood still wakes up in the belief that it is in charge.
    one.freeze();
    await stands(two, 'primary', '4');
    one.resume();
    await stands(one, 'standby', '4');
    await two.seesAll();
    await hasOneMaster();
    expect(await pairOf(two)).toMatchObject({ role: 'primary', term: '4' });
    expect(one.events('controller.stepsDown')).toHaveLength(2);
    await isCleanAndRight(net, ['g1']);
    await lostNone(net, since);
  },
);
