/**
 * `controller/core` under any order of events: whatever comes late, twice or not at all, floors are kept, nothing throws,
 * and when all jobs have ended nothing of them is left in switches or queues.
 */
import fc from 'fast-check';
import { isFinal, PRIORITIES } from '../../contracts/common.ts';
import { FEATURE, parseCookie } from '../../controller/core/cookies.ts';
import { PAYLOAD_SHARE } from '../../controller/core/reserve.ts';
import { CORE, type Fabric, guest, HV1, HV2, twoHypervisors } from '../unit/controller/fabric.ts';

const GUESTS = ['g1', 'g2', 'g3'];
const AGENT_EVENTS = [
  'stream',
  'preSwitchover',
  'postcopyStarted',
  'resumed',
  'completed',
  'failed',
  'cancelled',
  'disksPulled',
] as const;

const PULLED = { storage: 'on-demand' as const, pullBps: 80e6 };

/** Weighted so that most runs get migrations well under way before something goes wrong. */
const action = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('migrate' as const),
      guest: fc.constantFrom(...GUESTS),
      priority: fc.constantFrom(...PRIORITIES),
      options: fc.constantFrom(undefined, { storage: 'on-demand' as const }, PULLED),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('pull' as const),
      nth: fc.nat(2),
      mbps: fc.option(fc.integer({ min: 1, max: 300 })),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('event' as const),
      nth: fc.nat(2),
      host: fc.constantFrom('hv1', 'hv2'),
      event: fc.constantFrom(...AGENT_EVENTS),
    }),
  },
  { weight: 10, arbitrary: fc.record({ do: fc.constant('answer' as const), ok: fc.nat(15).map((n) => n > 0) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('pass' as const),
      ms: fc.integer({ min: 1, max: 3000 }),
      mbps: fc.integer({ min: 0, max: 200 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('switch' as const),
      dpid: fc.constantFrom(HV1, HV2, CORE),
      up: fc.boolean(),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('agent' as const), host: fc.constantFrom('hv1', 'hv2'), up: fc.boolean() }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('cancel' as const), nth: fc.nat(2) }) },
);
const VALUES: Partial<Record<string, object>> = {
  prepare: { address: '10.0.0.2', port: 49_152, portName: 'tap1' },
  offerDisks: { address: '10.0.0.1', port: 49_153 },
  measureFetch: { fetchedBytes: 1, isPulled: false },
};

type Action = typeof action extends fc.Arbitrary<infer A> ? A : never;

const AGENTS = { hv1: [HV1, '10.0.0.1'], hv2: [HV2, '10.0.0.2'] } as const;
const guests = () => GUESTS.map((name, i) => guest(name, `52:54:00:00:00:2${i}`, `tap${i + 1}`));

function perform(f: Fabric, a: Action, unanswered: { n: number }): void {
  const nth = (n: number) => [...f.state.jobs.keys()][n];
  switch (a.do) {
    case 'migrate': {
      const busy = [...f.state.jobs.values()].some((j) => j.guest === a.guest && !isFinal(j.state));
      const id = `m-${f.state.jobs.size}`;
      if (!busy)
        f.send({
          kind: 'migrate',
          request: {
            moves: [{ guest: a.guest, destination: 'hv2' }],
            priority: a.priority,
            ...(a.options ? { options: a.options } : {}),
          },
          ids: [id],
          group: null,
        });
      break;
    }
    case 'event': {
      const migration = nth(a.nth);
      if (migration)
        f.send({ kind: 'agentMessage', host: a.host, message: { type: 'event', migration, event: a.event } });
      break;
    }
    case 'answer': {
      const c = f.commands[unanswered.n];
      if (!c) break;
      unanswered.n += 1;
      const value = VALUES[c.command.do] ?? { dirtyBytesPerS: 4e6 };
      const done = { kind: 'commandDone' as const, host: c.host, migration: c.migration, step: c.command.do };
      f.send(a.ok ? { ...done, ok: true, value } : { ...done, ok: false, error: 'refused' });
      break;
    }
    case 'pass':
      f.pass(a.ms, { [`${HV1}:1`]: { tx: a.mbps } });
      break;
    case 'switch':
      if (a.up !== f.switches.get(a.dpid)?.connected) {
        if (a.up) f.connect(a.dpid);
        else f.disconnect(a.dpid);
      }
      break;
    case 'agent': {
      const known = [...f.state.jobs.values()]
        .filter((j) => !isFinal(j.state))
        .map((j) => ({ migration: j.id, guest: j.guest, role: 'source' as const }));
      const [dpid, ip] = AGENTS[a.host as 'hv1' | 'hv2'];
      if (a.up) f.agentUp(a.host, dpid, ip, a.host === 'hv1' ? guests() : [], known);
      else f.send({ kind: 'agentDown', host: a.host });
      break;
    }
    case 'pull': {
      const id = nth(a.nth);
      if (id) f.send({ kind: 'pull', id, rateBps: a.mbps === null ? null : a.mbps * 1e6 });
      break;
    }
    case 'cancel': {
      const id = nth(a.nth);
      if (id) f.send({ kind: 'cancel', id });
    }
  }
}

function floorsHold(f: Fabric): void {
  for (const [link, s] of f.state.shares) {
    const sum = [...s.byMigration.values()].reduce((x, y) => x + y, 0);
    const capacity = f.state.topology.capacityBps(link);
    // A link whose capacity is no longer known carries no slice that a floor could be held against.
    if (capacity > 0) expect(sum).toBeLessThanOrEqual(capacity - s.floorBps + 1);
  }
  for (const { pull } of f.state.jobs.values())
    if (pull) expect(pull.sliceBps).toBeLessThanOrEqual(Math.ceil(pull.rateBps / PAYLOAD_SHARE));
}

test('floors are kept at every step, and nothing is left at the end', () => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 60, size: 'max' }), fc.boolean(), (actions, queues) => {
      const f = twoHypervisors({ queues });
      f.agentUp('hv1', HV1, '10.0.0.1', guests());
      for (let i = 0; i < 2; i++) f.pass(1000, { [`${HV1}:1`]: { tx: 160 } });
      const unanswered = { n: 0 };
      for (const a of actions) {
        perform(f, a, unanswered);
        floorsHold(f);
      }
      // Everyone returns, and every open job comes to an end.
      for (const dpid of [HV1, HV2, CORE]) if (!f.switches.get(dpid)?.connected) f.connect(dpid);
      for (const j of f.state.jobs.values()) {
        f.send({ kind: 'cancel', id: j.id });
        f.send({
          kind: 'agentMessage',
          host: 'hv1',
          message: { type: 'event', migration: j.id, event: j.resumed ? 'completed' : 'failed' },
        });
      }
      for (let i = 0; i < 4; i++) f.pass(15_000);
      // Pulls go on after the last migration; they end one by one.
      for (const j of f.state.jobs.values())
        f.send({
          kind: 'agentMessage',
          host: 'hv2',
          message: { type: 'event', migration: j.id, event: 'disksPulled' },
        });
      for (let i = 0; i < 2; i++) f.pass(1000);
      expect([...f.state.jobs.values()].filter((j) => !isFinal(j.state))).toEqual([]);
      expect(f.state.shares.size).toBe(0);
      expect([...f.qos.values()].filter((q) => q !== null)).toEqual([]);
      const left = [...f.switches.values()].flatMap((s) => s.tables.flows()).map((x) => parseCookie(x.cookie)?.feature);
      expect(left.filter((x) => x === FEATURE.stream || x === FEATURE.answer || x === FEATURE.moved)).toEqual([]);
      expect([...f.switches.values()].flatMap((s) => s.tables.meters())).toEqual([]);
    }),
    { numRuns: 100 },
  );
});
