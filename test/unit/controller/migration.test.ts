/** Migrations through `controller/core` from request to done, and every way they can end otherwise. */
import { ofproto_v1_3 } from 'node-openflow';
import type { AgentCommand, CopyProgress } from '../../../contracts/agent.ts';
import type { Technique } from '../../../contracts/common.ts';
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import type { MigrateRequest } from '../../../contracts/rest.ts';
import { cookieFor, FEATURE, parseCookie } from '../../../controller/core/cookies.ts';
import { checkCancel, checkRequest } from '../../../controller/core/jobs.ts';
import { PAYLOAD_SHARE } from '../../../controller/core/reserve.ts';
import { journalOf, restoreJobs } from '../../../controller/core/restore.ts';
import { migrationView } from '../../../controller/core/views.ts';
import { applyPolicyPatch, compilePolicy } from '../../../policies/index.ts';
import { arpPacket } from '../../../sim/packet.ts';
import {
  CLIENT_MAC,
  CORE,
  Fabric,
  type FabricOptions,
  GUEST_MAC,
  guest,
  HV1,
  HV2,
  LOCAL,
  STREAM,
  twoHypervisors,
  UPLINK,
} from './fabric.ts';

const LINKS = [`${HV1}:${UPLINK}`, `${CORE}:2`];
const WORKLOAD = 160;
const rates = (mbps = WORKLOAD, sliced = 0) => ({
  [`${HV1}:1`]: { tx: mbps + sliced, sliced },
  [`${CORE}:1`]: { rx: mbps + sliced },
  [`${CORE}:2`]: { tx: sliced, sliced },
});
const progress = (p: Partial<CopyProgress> = {}): CopyProgress => ({
  phase: 'pre-copy',
  elapsedMs: 1000,
  transferredBytes: 50e6,
  remainingBytes: 50e6,
  totalBytes: 256e6,
  passes: 1,
  rateBps: 90e6,
  dirtyBytesPerS: 0,
  ...p,
});

/** Agents that obey: measure, prepare, start. */
function obey(f: Fabric, dirtyBytesPerS = 8_192_000): void {
  f.answer = (_host, c) => {
    if (c.do === 'measureDirtyRate') return { value: { dirtyBytesPerS } };
    if (c.do === 'prepare') return { value: { address: '10.0.0.2', port: 49152, portName: 'tap1' } };
    return { value: {} };
  };
}

function ask(f: Fabric, request: Partial<MigrateRequest> = {}, id = 'm-1'): void {
  const full = { moves: [{ guest: 'g1', destination: 'hv2' }], priority: 'high' as const, ...request };
  f.send({
    kind: 'migrate',
    request: full,
    ids: full.moves.map((_m, i) => (i === 0 ? id : `${id}-${i}`)),
    group: full.moves.length > 1 ? 'g' : null,
  });
}

function running(o: FabricOptions & { priority?: 'high' | 'medium' | 'low' } = {}): Fabric {
  const f = twoHypervisors(o);
  obey(f);
  f.pass(1000, rates());
  f.pass(1000, rates());
  ask(f, { priority: o.priority ?? 'high' });
  f.pass(250, rates());
  return f;
}

const job = (f: Fabric, id = 'm-1') => {
  const j = f.state.jobs.get(id);
  if (!j) throw new Error(`no job ${id}`);
  return j;
};
const sent = (f: Fabric, what: AgentCommand['do']) => f.commands.filter((c) => c.command.do === what);
const say = (
  f: Fabric,
  host: string,
  event: 'preSwitchover' | 'resumed' | 'completed' | 'failed' | 'cancelled' | 'postcopyStarted',
  extra: { progress?: CopyProgress; reason?: string } = {},
) => f.send({ kind: 'agentMessage', host, message: { type: 'event', migration: 'm-1', event, ...extra } });
const ours = (f: Fabric, feature: number) =>
  [...f.switches.values()].flatMap((s) => s.tables.flows()).filter((x) => parseCookie(x.cookie)?.feature === feature);
const toGuest = {
  eth_src: CLIENT_MAC,
  eth_dst: GUEST_MAC,
  eth_type: 0x0800,
  ip_proto: 1,
  ipv4_src: '10.0.0.100',
  ipv4_dst: '10.0.0.9',
};
const where = (f: Fabric) => f.inject(CORE, 3, toGuest).map((o) => o.at);

describe('a migration that goes well', () => {
  test('it measures, decides, prepares, and starts only when queues and flows are confirmed', () => {
    const f = twoHypervisors();
    obey(f);
    f.pass(1000, rates());
    f.pass(1000, rates());
    f.holdWrites = true;
    ask(f);
    expect(f.commands.map((c) => c.command.do)).toEqual(['measureDirtyRate', 'prepare']);
    expect(job(f).state).toBe('preparing');
    f.holdWrites = false;
    for (const e of f.held.splice(0)) f.write(e);
    expect(sent(f, 'start')).toHaveLength(1);
    expect(job(f)).toMatchObject({
      state: 'copying',
      links: LINKS,
      strategy: 'parallel',
      contention: 'high',
      enforcement: 'queue',
    });
  });

  test('high gets capacity − floor, paced without its headers and queued on every egress', () => {
    const f = running();
    expect(job(f).sliceBps).toBe(100e6);
    expect(sent(f, 'start')[0]?.command).toMatchObject({
      bandwidthBps: 100e6 * PAYLOAD_SHARE,
      address: '10.0.0.2',
      port: 49152,
    });
    for (const link of LINKS) {
      expect(f.qos.get(link)?.queues).toEqual([
        { id: 0, minBps: 100e6, maxBps: 200e6, priority: 0 },
        { id: 1, minBps: 100e6, maxBps: 200e6, priority: 1 },
      ]);
    }
  });

  test('the stream is marked and queued on its way, other traffic is not', () => {
    const f = running();
    f.inject(HV2, LOCAL, arpPacket({ op: 1, sha: STREAM.eth_dst, spa: '10.0.0.2', tpa: '10.0.0.1' }));
    const [out] = f.inject(HV1, LOCAL, STREAM);
    expect(out).toMatchObject({ at: `${HV2}:${LOCAL}`, packet: { ip_dscp: DEFAULT_POLICY.marks.high }, queue: 1 });
    const [other] = f.inject(HV1, LOCAL, { ...STREAM, tcp_dst: 22 });
    expect(other).toMatchObject({ packet: { ip_dscp: 0 }, queue: 0 });
  });

  test('traffic turns to the destination when the guest is stopped, and the guest may go on only when every switch confirmed', () => {
    const f = running();
    f.inject(CORE, 3, arpPacket({ op: 1, sha: CLIENT_MAC, spa: '10.0.0.100', tpa: '10.0.0.9' }));
    expect(where(f)).toEqual([`${HV1}:2`]);
    f.holdWrites = true;
    say(f, 'hv1', 'preSwitchover');
    expect(job(f).state).toBe('switching');
    expect(sent(f, 'continueSwitchover')).toHaveLength(0);
    const writes = f.held.splice(0);
    for (const e of writes.slice(0, -1)) f.write(e);
    expect(sent(f, 'continueSwitchover')).toHaveLength(0);
    for (const e of writes.slice(-1)) f.write(e);
    expect(sent(f, 'continueSwitchover')).toHaveLength(1);
    expect(where(f)).toEqual([`${HV2}:2`]);
  });

  test.each(['managed', 'normal'] as const)(
    'a straggler at the old edge reaches the guest through the tunnel, unlabelled (%s)',
    (forwarding) => {
      const f = running({ forwarding });
      f.inject(CORE, 3, arpPacket({ op: 1, sha: CLIENT_MAC, spa: '10.0.0.100', tpa: '10.0.0.9' }));
      say(f, 'hv1', 'preSwitchover');
      // As if the core had sent it before it knew: it comes in by the old edge's uplink.
      const out = f.inject(HV1, UPLINK, toGuest);
      expect(out.map((o) => o.at)).toEqual([`${HV2}:2`]);
      expect(out[0]?.packet.vlans ?? []).toEqual([]);
      // And from the old edge's own ports.
      expect(f.inject(HV1, 3, toGuest).map((o) => o.at)).toEqual([`${HV2}:2`]);
    },
  );

  test('whichever switch changes first, nothing for the guest is lost between them', () => {
    const f = running();
    f.inject(CORE, 3, arpPacket({ op: 1, sha: CLIENT_MAC, spa: '10.0.0.100', tpa: '10.0.0.9' }));
    f.holdWrites = true;
    say(f, 'hv1', 'preSwitchover');
    const writes = f.held.splice(0);
    expect(writes.map((w) => w.dpid).sort()).toEqual([HV1, HV2, CORE].sort());
    const core = writes.find((w) => w.dpid === CORE);
    if (core) f.write(core);
    // The core sends to the new edge, which has not changed yet.
    expect(where(f)).toEqual([`${HV2}:2`]);
    for (const w of writes.filter((x) => x.dpid !== CORE)) f.write(w);
    expect(where(f)).toEqual([`${HV2}:2`]);
  });

  test('a new edge on the way to the old one lets its traffic pass until the guest has moved', () => {
    // core – hv2 – hv1: what goes to hv1 goes through hv2.
    const f = new Fabric();
    f.addSwitch(HV1, { [UPLINK]: 'up', 2: 'tap1', 3: 'tap2', [LOCAL]: 'br0' });
    f.addSwitch(HV2, { [UPLINK]: 'up', 2: 'tap1', 3: 'tap2', 4: 'down', [LOCAL]: 'br0' });
    f.addSwitch(CORE, { 2: 'to-hv2', 3: 'client' });
    f.cable(HV2, UPLINK, CORE, 2);
    f.cable(HV1, UPLINK, HV2, 4);
    for (const dpid of [HV1, HV2, CORE]) f.connect(dpid);
    f.pass(2500);
    f.agentUp('hv1', HV1, '10.0.0.1', [guest()]);
    f.agentUp('hv2', HV2, '10.0.0.2', []);
    obey(f);
    f.pass(1000);
    f.pass(1000);
    ask(f);
    f.pass(250);
    f.inject(CORE, 3, arpPacket({ op: 1, sha: CLIENT_MAC, spa: '10.0.0.100', tpa: '10.0.0.9' }));
    expect(job(f).state).toBe('copying');
    expect(where(f)).toEqual([`${HV1}:2`]);
    say(f, 'hv1', 'preSwitchover');
    expect(where(f)).toEqual([`${HV2}:2`]);
  });

  test('after the copy slices go at once, the tunnel when no straggler came for the policy’s time, and nothing is left', () => {
    const f = running();
    say(f, 'hv1', 'preSwitchover');
    say(f, 'hv2', 'resumed');
    say(f, 'hv1', 'completed', {
      progress: progress({
        phase: 'completed',
        elapsedMs: 9000,
        transferredBytes: 130e6,
        remainingBytes: 0,
        downtimeMs: 120,
      }),
    });
    expect(job(f)).toMatchObject({ state: 'draining', totalMs: 9000 });
    expect(sent(f, 'finish').map((c) => c.host)).toEqual(['hv1', 'hv2']);
    expect([...f.qos.values()]).toEqual([null, null]);
    expect(ours(f, FEATURE.stream)).toEqual([]);
    f.pass(1500);
    f.inject(HV1, UPLINK, toGuest);
    f.pass(1000);
    expect(job(f).state).toBe('draining');
    f.send({ kind: 'agentMessage', host: 'hv1', message: { type: 'guests', guests: [] } });
    f.send({ kind: 'agentMessage', host: 'hv2', message: { type: 'guests', guests: [guest()] } });
    f.pass(2500);
    expect(job(f).state).toBe('done');
    expect(job(f).stragglers.packets).toBe(1);
    expect(ours(f, FEATURE.moved)).toEqual([]);
    expect(f.state.topology.locations.get(GUEST_MAC)?.at).toEqual({ dpid: HV2, portNo: 2 });
    expect(where(f)).toEqual([`${HV2}:2`]);
  });

  test('in post-copy the guest resumes first and the copy goes on in its slice', () => {
    const f = running();
    say(f, 'hv1', 'preSwitchover');
    say(f, 'hv2', 'resumed');
    expect(job(f)).toMatchObject({ state: 'copying', resumed: true, phase: 'running' });
    expect(f.qos.get(LINKS[0] as string)).not.toBeNull();
    // An agent that was away tells all over again.
    for (const event of ['preSwitchover', 'postcopyStarted'] as const) say(f, 'hv1', event);
    expect(job(f)).toMatchObject({ state: 'copying', paused: false, phase: 'running' });
    say(f, 'hv1', 'completed');
    expect(job(f).state).toBe('draining');
  });

  test('a pre-copy that does not come to an end goes on as post-copy, once, and says so', () => {
    const f = twoHypervisors();
    obey(f, 0);
    f.pass(1000, rates());
    f.pass(1000, rates());
    ask(f, { priority: 'low' });
    expect(job(f).technique).toBe('pre-copy');
    expect(sent(f, 'prepare')[0]?.command).toMatchObject({ technique: 'pre-copy', mayTurnPostcopy: true });
    expect(sent(f, 'start')[0]?.command).toMatchObject({ technique: 'pre-copy', mayTurnPostcopy: true });
    const report = (passes: number) =>
      f.send({
        kind: 'agentMessage',
        host: 'hv1',
        message: { type: 'progress', migration: 'm-1', progress: progress({ passes }) },
      });
    report(DEFAULT_POLICY.technique.precopyPasses);
    expect(sent(f, 'switchToPostcopy')).toHaveLength(0);
    report(DEFAULT_POLICY.technique.precopyPasses + 1);
    report(DEFAULT_POLICY.technique.precopyPasses + 2);
    expect(sent(f, 'switchToPostcopy')).toHaveLength(1);
    expect(job(f).technique).toBe('hybrid');
    expect(job(f).reasons.at(-1)).toMatchObject({ rule: 'technique.turnedPostcopy' });
  });

  test('… on passes that do not pay, long before the last; and where only a stop ends it, with as much downtime as the rest takes', () => {
    const allowed = applyPolicyPatch(DEFAULT_POLICY, {
      'technique.allowed': '["pre-copy", "stop-and-copy", "post-copy", "hybrid"]',
    });
    const turned = (techniques: Technique[]) => {
      const f = twoHypervisors({ policy: allowed });
      for (const host of ['hv1', 'hv2']) {
        const agent = f.state.agents.get(host);
        if (agent) f.state = { ...f.state, agents: new Map(f.state.agents).set(host, { ...agent, techniques }) };
      }
      obey(f, 0);
      f.pass(1000, rates());
      f.pass(1000, rates());
      ask(f, { priority: 'low' });
      for (let passes = 1; passes <= 8; passes++) {
        const message = {
          type: 'progress' as const,
          migration: 'm-1',
          progress: progress({ passes, remainingBytes: 90e6 }),
        };
        f.send({ kind: 'agentMessage', host: 'hv1', message });
      }
      return f;
    };
    const post = turned(['pre-copy', 'post-copy', 'hybrid']);
    expect(sent(post, 'switchToPostcopy')).toHaveLength(1);
    expect(job(post).reasons.at(-1)?.inputs).toMatchObject({ because: 'technique.unpaidPasses', passes: 4 });
    const stop = turned(['pre-copy', 'stop-and-copy']);
    expect(sent(stop, 'switchToPostcopy')).toHaveLength(0);
    expect(sent(stop, 'setDowntimeLimit')).toHaveLength(1);
    expect(job(stop)).toMatchObject({ technique: 'stop-and-copy', state: 'copying' });
    expect(job(stop).reasons.at(-1)).toMatchObject({ rule: 'technique.turnedStopAndCopy' });
    const limit = sent(stop, 'setDowntimeLimit')[0]?.command as { downtimeLimitMs: number };
    // 90 MB at no more than 200 Mbit/s take at least 3.6 s.
    expect(limit.downtimeLimitMs).toBeGreaterThan(3600);
  });

  test('progress once shown is not taken back by a later pass', () => {
    const f = running();
    const shares = [50e6, 5e6, 40e6, 0].map((remainingBytes) => {
      f.send({
        kind: 'agentMessage',
        host: 'hv1',
        message: { type: 'progress', migration: 'm-1', progress: progress({ remainingBytes }) },
      });
      return migrationView(job(f)).progressShare;
    });
    expect(shares).toEqual([0.5, 50 / 55, 50 / 55, 1]);
  });

  test('every decision left a reason', () => {
    const f = running();
    const rules = job(f).reasons.map((r) => r.rule.split('.')[0]);
    expect([...new Set(rules)].sort()).toEqual(['contention', 'direction', 'reservation', 'strategy', 'technique']);
    expect(job(f).sliceSteps[0]).toMatchObject({ rateBps: 100e6, reason: { bindingLink: expect.any(String) } });
  });
});

describe('re-adjustment', () => {
  test('a medium slice follows the workload within two periods, both ways', () => {
    const f = running({ priority: 'medium' });
    expect(job(f).sliceBps).toBe(60e6);
    for (let i = 0; i < 3; i++) f.pass(1000, rates(140, 60));
    expect(job(f).sliceBps).toBe(60e6);
    for (let i = 0; i < 2; i++) f.pass(1000, rates(60, 60));
    expect(job(f).sliceBps).toBe(100e6);
    expect(sent(f, 'setBandwidth').at(-1)?.command).toMatchObject({ bandwidthBps: 90e6 });
    // The workload wants 160 again: first it fills the 100 it is left, then the 140.
    f.pass(1000, rates(100, 100));
    expect(job(f).sliceBps).toBe(60e6);
    f.pass(1000, rates(140, 60));
    expect(job(f).sliceBps).toBe(60e6);
  });

  test('a low slice leaves the workload what it sent and room to grow', () => {
    const f = running({ priority: 'low' });
    expect(job(f).sliceBps).toBeLessThanOrEqual(40e6);
    expect(job(f).sliceBps).toBeGreaterThan(25e6);
  });

  test('a policy edit changes the slice of a running migration', () => {
    const f = running();
    const doc = { ...DEFAULT_POLICY, reservation: { ...DEFAULT_POLICY.reservation, high: 'capacity - ceiling' } };
    f.send({
      kind: 'policyChanged',
      policy: compilePolicy(doc),
      status: { state: 'accepted', revision: 2, reason: '', atMs: 0 },
    });
    expect(job(f).sliceBps).toBe(60e6);
  });

  test('without fresh counters the workload is taken to want everything', () => {
    const f = running({ priority: 'low' });
    f.nowMs += 10_000;
    f.send({ kind: 'tick' });
    expect(job(f).sliceBps).toBe(DEFAULT_POLICY.reservation.minSliceBps);
  });

  test('where a switch has no queues, a meter above the pace guards the stream', () => {
    const f = running({ queues: false });
    expect(job(f).enforcement).toBe('meter');
    const meters = f.switches.get(HV1)?.tables.meters() ?? [];
    expect(meters.map((m) => m.bands[0]?.rateKbps)).toEqual([125_000]);
    expect(f.switches.get(CORE)?.tables.meters()).toEqual([]);
    say(f, 'hv1', 'failed', { reason: 'destination closed the stream' });
    expect(f.switches.get(HV1)?.tables.meters()).toEqual([]);
  });
});

describe('groups', () => {
  const moves = [1, 2, 3, 4].map((n) => ({ guest: `g${n}`, destination: 'hv2' }));
  const four = (priority: 'low' | 'high', mbps: number) => {
    const f = twoHypervisors();
    obey(f);
    f.agentUp(
      'hv1',
      HV1,
      '10.0.0.1',
      moves.map((m, i) => guest(m.guest, `52:54:00:00:00:1${i}`, `tap${i + 1}`)),
    );
    f.pass(1000, rates(mbps));
    f.pass(1000, rates(mbps));
    ask(f, { moves, priority });
    f.pass(250, rates(mbps));
    return f;
  };
  const states = (f: Fabric) => [...f.state.jobs.values()].map((j) => j.state);

  test('low priority under high contention: one after the other, each waiting one says behind what', () => {
    const f = four('low', 170);
    expect(states(f)).toEqual(['copying', 'queued', 'queued', 'queued']);
    expect(job(f, 'm-1-1').note).toMatch(/m-1/);
    say(f, 'hv1', 'preSwitchover');
    say(f, 'hv2', 'resumed');
    say(f, 'hv1', 'completed');
    f.pass(1000, rates(170));
    expect(states(f)).toEqual(['draining', 'copying', 'queued', 'queued']);
  });

  test('a migration that waits unchanged is not published again and again', () => {
    const f = four('low', 170);
    const before = f.effects.length;
    f.pass(1000, rates(170));
    const told = f.effects
      .slice(before)
      .flatMap((e) => (e.kind === 'publish' && e.topic === 'migrations' ? e.data.migrations : []));
    expect(told.filter((m) => m.state === 'queued')).toEqual([]);
  });

  test('high priority: together, sharing the reservation', () => {
    const f = four('high', 170);
    expect(states(f)).toEqual(['copying', 'copying', 'copying', 'copying']);
    const sum = [...f.state.jobs.values()].reduce((a, j) => a + j.sliceBps, 0);
    expect(sum).toBeCloseTo(100e6, -1);
  });

  test('low priority with low contention: together', () => {
    expect(states(four('low', 40))).toEqual(['copying', 'copying', 'copying', 'copying']);
  });
});

describe('what can go wrong', () => {
  test('a destination that cannot prepare: failed with its reason, nothing left', () => {
    const f = twoHypervisors();
    f.answer = (_h, c) => (c.do === 'prepare' ? { error: 'port 49152 is in use' } : { value: { dirtyBytesPerS: 0 } });
    f.pass(1000, rates());
    f.pass(1000, rates());
    ask(f);
    f.pass(250, rates());
    expect(job(f)).toMatchObject({ state: 'failed', note: expect.stringContaining('port 49152 is in use') });
    expect(f.state.shares.size).toBe(0);
    expect([...f.qos.values()].filter((q) => q !== null)).toEqual([]);
  });

  test('a copy that fails before the guest moved: traffic stays, destination is abandoned', () => {
    const f = running();
    f.inject(CORE, 3, arpPacket({ op: 1, sha: CLIENT_MAC, spa: '10.0.0.100', tpa: '10.0.0.9' }));
    say(f, 'hv1', 'preSwitchover');
    say(f, 'hv1', 'failed', { reason: 'broken pipe' });
    expect(job(f)).toMatchObject({ state: 'failed', note: 'hv1: broken pipe' });
    expect(sent(f, 'abandon')).toHaveLength(1);
    expect(where(f)).toEqual([`${HV1}:2`]);
    expect(ours(f, FEATURE.moved)).toEqual([]);
  });

  test('cancel stops a copy, is refused after the switch-over', () => {
    const f = running();
    f.send({ kind: 'cancel', id: 'm-1' });
    expect(sent(f, 'cancel')).toHaveLength(1);
    say(f, 'hv1', 'cancelled');
    expect(job(f).state).toBe('cancelled');
    expect(() => checkCancel(f.state, 'm-1')).toThrow(/has ended/);
    const g = running();
    say(g, 'hv1', 'preSwitchover');
    expect(() => checkCancel(g.state, 'm-1')).toThrow(/already switching/);
  });

  test.each([
    [{ guest: 'nobody', destination: 'hv2' }, /no agent reports a guest named nobody; known guests: g1/],
    [{ guest: 'g1', destination: 'hv9' }, /no agent runs for host hv9; known hosts: hv1, hv2/],
    [{ guest: 'g1', destination: 'hv1' }, /already runs on hv1/],
  ])('a request that cannot be: %j', (move, message) => {
    const f = twoHypervisors();
    expect(() => checkRequest(f.state, { moves: [move], priority: 'low' })).toThrow(message);
  });

  test('a guest that two hosts report, as it moves, is named once', () => {
    const f = twoHypervisors();
    const guests = [{ ...guest(), state: 'incoming' as const }];
    f.send({ kind: 'agentMessage', host: 'hv2', message: { type: 'guests', guests } });
    const moves = [{ guest: 'nobody', destination: 'hv2' }];
    expect(() => checkRequest(f.state, { moves, priority: 'low' })).toThrow(/known guests: g1$/);
  });

  test('a guest is not moved twice at a time', () => {
    const f = running();
    expect(() => checkRequest(f.state, { moves: [{ guest: 'g1', destination: 'hv2' }], priority: 'low' })).toThrow(
      /already being migrated/,
    );
  });

  test('a technique that cannot be done fails the migration with its reason', () => {
    const f = twoHypervisors();
    obey(f);
    f.state = {
      ...f.state,
      agents: new Map([...f.state.agents].map(([h, a]) => [h, { ...a, techniques: ['pre-copy'] as const }])),
    };
    f.pass(1000, rates());
    ask(f, { technique: 'post-copy' });
    f.pass(5000, rates());
    expect(job(f)).toMatchObject({ state: 'failed', note: expect.stringMatching(/post-copy/) });
  });

  test('where the floor is the whole link it waits, and says so', () => {
    const sla = { default: { floor: '100 %', ceiling: '100 %' }, links: {} };
    const f = twoHypervisors({ policy: { ...DEFAULT_POLICY, sla } });
    obey(f);
    f.pass(1000, rates());
    f.pass(1000, rates());
    ask(f);
    expect(job(f).state).toBe('queued');
    expect(sent(f, 'prepare')).toHaveLength(0);
  });

  /** From now on a switch refuses new flows of the given feature; everything else of a batch it takes. The answer ends it. */
  function refuse(f: Fabric, dpid: string, feature: number): () => void {
    const tables = f.switches.get(dpid)?.tables;
    if (!tables) throw new Error(`no switch ${dpid}`);
    const apply = tables.apply.bind(tables);
    tables.apply = (mod, nowMs) => {
      const isAdd = mod.cls === 'OFPFlowMod' && mod.command === ofproto_v1_3.OFPFC_ADD;
      if (isAdd && parseCookie(mod.cookie)?.feature === feature) return [{ type: 5, code: 1 }];
      return apply(mod, nowMs);
    };
    return () => {
      tables.apply = apply;
    };
  }

  test('a switch that refuses the stream’s flows fails the migration, and what it did take of the batch is removed', () => {
    const f = twoHypervisors();
    obey(f);
    f.pass(1000, rates());
    f.pass(1000, rates());
    const allow = refuse(f, CORE, FEATURE.stream);
    ask(f);
    expect(job(f)).toMatchObject({
      state: 'failed',
      note: expect.stringMatching(new RegExp(`switch ${CORE} refused .* its flow table is full .*: remove .* limit`)),
    });
    expect(sent(f, 'start')).toHaveLength(0);
    f.pass(100);
    for (const feature of [FEATURE.stream, FEATURE.answer, FEATURE.moved]) expect(ours(f, feature)).toEqual([]);
    // nobody wants any more what was refused: the next migration asks for the same flows, and does not wait for the last one's
    allow();
    ask(f, {}, 'm-2');
    f.pass(250);
    expect(job(f, 'm-2').state).toBe('copying');
  });

  test('a full table is tried ever less often, and at once fills up when there is room', () => {
    const f = new Fabric();
    f.addSwitch(CORE, { 1: 'client' });
    const allow = refuse(f, CORE, FEATURE.forwarding);
    f.connect(CORE);
    for (let s = 0; s < 400; s++) f.pass(1000);
    const waits = f.effects.flatMap((e) =>
      e.kind === 'log' && e.event === 'switch.refused' ? [e.fields.againInMs] : [],
    );
    expect(waits).toEqual([10_000, 20_000, 40_000, 80_000, 160_000, 160_000]);
    expect(ours(f, FEATURE.forwarding)).toEqual([]);
    allow();
    for (let s = 0; s < 160; s++) f.pass(1000);
    expect(ours(f, FEATURE.forwarding).length).toBeGreaterThan(0);
    expect(f.state.switches.get(CORE)).toMatchObject({ refusedWhy: '', tableFullTimes: 0 });
  });

  test('a stopped guest does not wait for a switch that refuses its new place, and nothing calls that confirmed', () => {
    const f = running();
    refuse(f, HV1, FEATURE.moved);
    say(f, 'hv1', 'preSwitchover');
    expect(sent(f, 'continueSwitchover')).toHaveLength(1);
    expect(job(f).reasons.map((r) => r.rule)).toContain('reroute.unconfirmed');
    expect(job(f).reasons.map((r) => r.rule)).not.toContain('reroute.confirmed');
  });

  test('an agent speaks only for its own migrations', () => {
    const f = running();
    f.agentUp('hv3', '0000000000000003', '10.0.0.3');
    say(f, 'hv3', 'completed');
    say(f, 'hv2', 'completed');
    expect(job(f).state).toBe('copying');
  });

  test('late and repeated events change nothing', () => {
    const f = running();
    say(f, 'hv1', 'preSwitchover');
    say(f, 'hv2', 'resumed');
    say(f, 'hv1', 'completed');
    const before = job(f);
    say(f, 'hv2', 'resumed');
    say(f, 'hv1', 'completed');
    say(f, 'hv1', 'preSwitchover');
    expect(job(f)).toEqual(before);
  });

  test('no path: it waits and says why, and starts when there is one', () => {
    const f = twoHypervisors();
    obey(f);
    f.state = { ...f.state, topology: f.state.topology.withoutLink(`${CORE}:2`) };
    const cable = f.cables.get(`${CORE}:2`);
    f.cables.delete(`${CORE}:2`);
    f.pass(1000, rates());
    ask(f);
    f.pass(1000, rates());
    expect(job(f)).toMatchObject({ state: 'queued', note: expect.stringMatching(/no path is known from hv1 to hv2/) });
    if (cable) f.cables.set(`${CORE}:2`, cable);
    f.pass(2500, rates());
    f.pass(1000, rates());
    f.pass(1000, rates());
    expect(job(f).state).toBe('copying');
  });

  test('the controller dies and returns: the journal and the agents bring the migration back', () => {
    const f = running();
    const entries = JSON.parse(JSON.stringify(journalOf(f.state, f.nowMs)));
    const g = twoHypervisors();
    obey(g);
    g.state = restoreJobs(g.state, entries);
    g.agentUp(
      'hv2',
      HV2,
      '10.0.0.2',
      [guest('g1', GUEST_MAC, 'tap1')].map((x) => ({ ...x, state: 'incoming' as const })),
      [{ migration: 'm-1', guest: 'g1', role: 'destination' }],
    );
    g.agentUp(
      'hv1',
      HV1,
      '10.0.0.1',
      [guest()],
      [{ migration: 'm-1', guest: 'g1', role: 'source', progress: progress() }],
    );
    g.pass(1000, rates(100, 90));
    g.pass(1000, rates(100, 90));
    expect(job(g)).toMatchObject({ state: 'copying', progress: { transferredBytes: 50e6 } });
    expect(sent(g, 'setBandwidth').length).toBeGreaterThan(0);
    expect(ours(g, FEATURE.stream)).toHaveLength(3);
    say(g, 'hv1', 'preSwitchover');
    expect(sent(g, 'continueSwitchover')).toHaveLength(1);
    say(g, 'hv1', 'completed');
    g.pass(3000);
    expect(job(g).state).toBe('done');
    expect(ours(g, FEATURE.stream)).toEqual([]);
  });

  test('an agent that comes back without the copy: failed, so that it can be asked again', () => {
    const f = running();
    f.send({ kind: 'agentDown', host: 'hv1' });
    expect(job(f).state).toBe('copying');
    f.agentUp('hv1', HV1, '10.0.0.1', [guest()]);
    expect(job(f)).toMatchObject({ state: 'failed', note: expect.stringMatching(/knows nothing of this migration/) });
  });
});

test('cookies name feature and migration, and only ours parse', () => {
  expect(parseCookie(cookieFor(FEATURE.stream, 77))).toEqual({ feature: FEATURE.stream, objectId: 77 });
  expect(parseCookie(0x1234n)).toBeUndefined();
});

test('a switch that was restarted during a copy gets its queues and filters again', () => {
  const f = running();
  const link = `${CORE}:2`;
  const before = f.effects.length;
  f.disconnect(CORE);
  f.connect(CORE);
  const again = f.effects.slice(before).filter((e) => e.kind === 'qos' && e.link === link);
  expect(again).toMatchObject([{ isFresh: true, qos: { maxBps: 200e6 }, filters: [{ dscp: 10, queue: 1 }] }]);
});

test('a low slice goes by the most its workload sent lately, so that a moment of less does not become a habit', () => {
  const f = running({ priority: 'low' });
  const slice = job(f).sliceBps;
  f.pass(1000, rates(120, slice / 1e6));
  expect(job(f).sliceBps).toBe(slice);
});
