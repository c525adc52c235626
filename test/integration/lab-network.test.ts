/**
 * The lab's network for real: namespaces, Open vSwitch and cables. Checks that the cables hold their rate, that a queue at a
 * switch port takes effect in spite of them, that nothing appears in the root namespace, and that everything goes away.
 */
import { readFileSync } from 'node:fs';
import { hostLeftovers, switchLeftovers } from '../../sim/lab/leftovers.ts';
import { Workload } from '../../sim/lab/measure.ts';
import { ADDRESS, buildNetwork, describeLab, type Lab, ofctl, removeLab, vsctl } from '../../sim/lab/network.ts';
import { whyNoLab } from '../../sim/lab/requirements.ts';
import { runScenario } from '../../sim/lab/run.ts';
import { attempt, preciseNow, run, runIn, sleep } from '../../sim/lab/shell.ts';
import { startTicks } from '../../sim/lab/state.ts';
import { gate } from './gate.ts';

jest.setTimeout(600_000);

/** Namespaces and processes of other tests on the machine have other prefixes. */
const prefix = `lt${process.pid}`;
const { reason, real, named } = gate(whyNoLab());

afterAll(async () => {
  if (reason === undefined) await removeLab({ prefix });
});

/** Those that begin with `fw` are of other tests, which may run beside this one; the lab's own do not. */
const rootInterfaces = async () =>
  (await run('ip', ['-o', 'link']))
    .split('\n')
    .map((l) => l.split(':')[1]?.trim() ?? '')
    .filter((name) => !name.startsWith('fw'))
    .sort();
/** Bytes that wait in the cable from hv1 to the core, mean of several looks. */
const waitingInWire = async (lab: Lab) => {
  let sum = 0;
  for (let i = 0; i < 20; i++) {
    const shown = await runIn(lab.ns('wire'), 'tc', ['-s', 'qdisc', 'show', 'dev', 'hv1-b', 'root']);
    const [, amount, unit] = /backlog (\d+)(K?)b/.exec(shown) ?? [];
    sum += Number(amount) * (unit === 'K' ? 1024 : 1);
    await sleep(50);
  }
  return sum / 20;
};
const reaches = async (lab: Lab, from: 'wl' | 'hv1' | 'hv2', to: string) =>
  (await attempt('ip', ['netns', 'exec', lab.ns(from), 'ping', '-c', '1', '-W', '3', to])).ok;

/** Half of the lab's own: less than a slow machine can switch, so that it is the cables that limit. */
const CAPACITY = 100e6;

real(named('stands, carries what it should at the rate it should, and goes away whole'), async () => {
  const before = await rootInterfaces();
  const lab = await buildNetwork({ prefix, capacityBps: CAPACITY });
  expect(await rootInterfaces()).toEqual(before);
  expect(await reaches(lab, 'wl', ADDRESS.data.client)).toBe(true);
  expect(await reaches(lab, 'hv1', ADDRESS.data.hv2)).toBe(true);
  expect(await reaches(lab, 'hv2', ADDRESS.data.wl)).toBe(true);
  expect((await ofctl(lab.switches.hv1, 'show')).toLowerCase()).toContain(`dpid:${lab.switches.hv1.dpid}`);

  // Offered more than the cable carries: it is the cable that limits, and packets wait before it.
  const greedy = await Workload.start(lab, 2 * CAPACITY);
  const fromMs = preciseNow() + 500;
  await sleep(4000);
  const alone = greedy.mbps(fromMs, fromMs + 3000);
  const waitingWithoutQueue = await waitingInWire(lab);
  for (const mbps of alone) expect(mbps * 1e6).toBeLessThan(1.025 * CAPACITY);
  expect(Math.max(...alone) * 1e6).toBeGreaterThan(0.6 * CAPACITY);

  // The same with a queue of the cable's rate at the switch port: now packets wait there.
  await vsctl(lab.switches.hv1, [
    ...['set', 'port', 'uplink', 'qos=@q', '--', '--id=@q', 'create', 'qos', 'type=linux-htb'],
    ...[`other-config:max-rate=${CAPACITY}`, 'queues:0=@a', '--'],
    ...['--id=@a', 'create', 'queue', `other-config:min-rate=${CAPACITY}`, `other-config:max-rate=${CAPACITY}`],
  ]);
  await sleep(1000);
  const waitingWithQueue = await waitingInWire(lab);
  expect(waitingWithoutQueue).toBeGreaterThan(20_000);
  expect(waitingWithQueue).toBeLessThan(waitingWithoutQueue / 2);
  await greedy.pause();

  expect(await switchLeftovers(lab, { forwardingIsFine: false })).toHaveLength(2);
  await lab.state.cleanUp();
  expect(await hostLeftovers(lab)).toEqual([]);
  expect(await rootInterfaces()).toEqual(before);
});

real(named('leftovers are found by asking the switches'), async () => {
  const lab = await buildNetwork({ prefix });
  const { core } = lab.switches;
  expect(await switchLeftovers(lab, { forwardingIsFine: false })).toEqual([]);
  await ofctl(core, 'add-flow', ['cookie=0xfa1c010200000000,table=2,priority=5,actions=drop']);
  await ofctl(core, 'add-flow', ['cookie=0xfa1c010400000007,table=0,priority=5,tcp,actions=drop']);
  await ofctl(core, 'add-flow', ['cookie=0x7,table=0,priority=6,udp,actions=drop']);
  await ofctl(core, 'add-meter', ['meter=3,kbps,burst,bands=type=drop,rate=1000,burst_size=100']);
  await vsctl(core, [
    'add-port',
    core.bridge,
    'vx0',
    '--',
    'set',
    'interface',
    'vx0',
    'type=vxlan',
    'options:remote_ip=1.2.3.4',
  ]);
  const all = await switchLeftovers(lab, { forwardingIsFine: false });
  expect(all.map((t) => t.replace(/^br-core: (\S+ \S+).*$/, '$1')).sort()).toEqual([
    'flow cookie=0xfa1c010200000000,',
    'flow cookie=0xfa1c010400000007,',
    'meter 3',
    'tunnel port',
  ]);
  expect(await switchLeftovers(lab, { forwardingIsFine: true })).toHaveLength(3);
  await lab.state.cleanUp();
});

real(named('what a crashed lab left is removed by the next, and by down'), async () => {
  const crashed = await buildNetwork({ prefix });
  const pid = Number(readFileSync(`${crashed.switches.hv2.runDir}/ovs-vswitchd.pid`, 'utf8'));
  // Nothing but the state file is handed on, as after a crash.
  const next = await buildNetwork({ prefix });
  expect(startTicks(pid)).toBeUndefined();
  expect(await reaches(next, 'wl', ADDRESS.data.client)).toBe(true);
  const removed = await removeLab({ prefix });
  expect(removed.filter((r) => r.startsWith('namespace '))).toHaveLength(7);
  expect(removed.filter((r) => r.startsWith('process '))).toHaveLength(6);
  expect(await hostLeftovers(describeLab({ prefix }))).toEqual([]);
  expect(await removeLab({ prefix })).toEqual([]);
});

real(named('a scenario that is interrupted cleans up before it says so'), async () => {
  const abort = new AbortController();
  const said: string[] = [];
  const out = (text: string) => {
    said.push(text);
    if (text.startsWith('unmanaged')) setTimeout(() => abort.abort(), 1500);
  };
  const running = runScenario('contention', { json: true, out, keep: false, signal: abort.signal, lab: { prefix } });
  await expect(running).rejects.toMatchObject({ code: 'lab.interrupted' });
  expect(said.some((t) => t.startsWith('unmanaged'))).toBe(true);
  expect(await hostLeftovers(describeLab({ prefix }))).toEqual([]);
});
