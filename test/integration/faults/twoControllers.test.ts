/**
 * Two controllers, of which the one in charge is killed with -9 while a copy runs: the other, which followed its journal, ends the
 * migration and goes on; the first comes back as standby. No packet of the workload is lost, and nothing is left over.
 */

import { gate } from '../gate.ts';
import { whyNoOvs } from '../privateOvs.ts';
import { allEnd, carriesAll, isCleanAndRight, lostNone, migrations } from './checks.ts';
import { CONTROL, type ControllerProcess, FaultNet, waitFor } from './faultNet.ts';

const { real, named } = gate(whyNoOvs());
jest.setTimeout(180_000);

let net: FaultNet | undefined;
afterEach(async () => {
  await net?.stop();
  net = undefined;
});

const addressOf = (httpPort: number) => `http://${CONTROL.controllers}:${httpPort}`;
const pairOf = async (c: ControllerProcess) => (await c.client.status()).pair;
const stands = (c: ControllerProcess, role: 'primary' | 'standby', term: string) =>
  waitFor(`controller ${c.name} to be ${role} in term ${term}`, async () => {
    const pair = await pairOf(c);
    return (pair?.role === role && pair.term === term) || undefined;
  });

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

real(named('a primary that stood still is refused by its switches, steps down and follows'), async () => {
  net = await FaultNet.start('2s', { controllers: ['one', 'two'] });
  const one = await net.controller('one', { openflow: { port: 6653, role: 'primary', peer: addressOf(8654) } });
  const two = await net.controller('two', { openflow: { port: 6654, role: 'standby', peer: addressOf(8653) } });
  await net.workload();
  await net.agents();
  const since = await carriesAll(net, one);
  await stands(two, 'standby', '1');
  one.freeze();
  await stands(two, 'primary', '2');
  one.resume();
  // It wakes up in the belief that it is in charge.
  await stands(one, 'standby', '2');
  await two.seesAll();
  await waitFor(
    'every switch to have one master',
    () => rolesAtSwitches(net as FaultNet).join() === 'master,master,master,slave,slave,slave' || undefined,
  );
  expect(await pairOf(two)).toMatchObject({ role: 'primary', term: '2' });
  expect(one.events('controller.stepsDown')).toHaveLength(1);
  await lostNone(net, since);
});
