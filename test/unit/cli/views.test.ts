/** What people see of migrations and of the network: bars, plain lines, the status page. */
import { explanationText } from '../../../cli/commands/explain.ts';
import { awayText, statusText } from '../../../cli/commands/status.ts';
import { networkNews } from '../../../cli/commands/watch.ts';
import { withLinkNames } from '../../../cli/linkNames.ts';
import { barLine, createDisplay } from '../../../cli/progress.ts';
import type { FeedEnvelope, TopologyView } from '../../../contracts/feed.ts';
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import type { StatusView } from '../../../contracts/rest.ts';
import { ProgressReport } from '../../../sim/demoReport.ts';
import { change, screen, topologyOf, view, waiting } from './samples.ts';

const done = view({ state: 'done', progressShare: 1, totalMs: 8000, downtimeMs: 120 });
describe('a bar', () => {
  test('is as full as the copy is done', () => {
    expect(barLine(view(), 200)).toContain(`[${'#'.repeat(12)}${'·'.repeat(12)}]  50 %  copying at 83.0 Mbit/s`);
    expect(barLine(view({ progressShare: 1.7 }), 200)).toContain(`[${'#'.repeat(24)}] 100 %`);
  });
  test('fits the screen', () => {
    expect(barLine(view(), 40)).toHaveLength(40);
  });
  test('says how it ended or why it waits', () => {
    expect(barLine(done, 200)).toContain('done in 8.0 s, stood still 120 ms, 100.0 MB');
    expect(barLine(view({ state: 'queued', note: 'behind m0' }), 200)).toContain('queued: behind m0');
    expect(barLine(view({ state: 'failed', note: 'no memory' }), 200)).toContain('failed: no memory');
    const none = { waits: null, binding: null, technique: null, strategy: null, rate: null, end: null, changes: [] };
    const now = { rule: 'now.agentAway', text: 'the agent of h1 has been away for 5.0 s', inputs: { hosts: 'h1' } };
    expect(barLine(view({ explanation: { atMs: 0, summary: '', ...none, now } }), 200)).toMatch(
      /copying at 83\.0 Mbit\/s; agent away: h1$/,
    );
  });
});

test('links in a text are called by the names of their ends; what is not known stays', () => {
  const dpid = (n: number) => n.toString(16).padStart(16, '0');
  const none = { connected: true, ports: [] };
  const port = (n: number, portNo: number) => ({ dpid: dpid(n), portNo });
  const topology = {
    switches: [
      { dpid: dpid(1), name: 'hv1', ...none },
      { dpid: dpid(2), name: '', ...none },
    ],
    links: [{ id: `${dpid(1)}:3`, from: port(1, 3), to: port(2, 1), capacityBps: 1e9 }],
  };
  expect(withLinkNames(`on ${dpid(1)}:3, then ${dpid(1)}:4 and ${dpid(9)}:1.`, topology)).toBe(
    `on hv1:3->${dpid(2)}, then hv1:4 and ${dpid(9)}:1.`,
  );
});

test('one that has ended is explained with its time, its standstill and its last rate', () => {
  const none = { waits: null, binding: null, technique: null, strategy: null, end: null, changes: [] };
  const reason = { rule: 'reservation.high', text: '83.0 Mbit/s: capacity - floor', inputs: {} };
  const e = { atMs: 20_000, summary: 'it is done', ...none, rate: { bps: 83e6, reason } };
  const m = { ...done, endedAtMs: 12_000 };
  const text = explanationText(m, e);
  expect(text).toMatch(/^last rate +83\.0 Mbit\/s: capacity - floor \[reservation\.high\]$/m);
  expect(text).toMatch(/^ended +8\.0 s ago, after 8\.0 s of copying; it stood still for 120 ms; 100\.0 MB in 1 pass$/m);
});

test('one of a plan is explained with what it is at, and with the plan before the strategy', () => {
  const none = { waits: null, binding: null, technique: null, rate: null, end: null, changes: [] };
  const reason = { rule: 'strategy.table', text: 'low priority with high contention: serial', inputs: {} };
  const now = { rule: 'now.agentAway', text: 'the agent of h1 has been away for 5.0 s: …', inputs: {} };
  const e = {
    atMs: 20_000,
    summary: 'it is copying',
    ...none,
    now,
    strategy: { value: 'serial' as const, reasons: [reason] },
  };
  const times = { startAtMs: 12_000, endAtMs: 21_000, rateBps: 1e8, after: [], reason, lateMs: 0 };
  const text = explanationText(view({ plan: times }), e);
  expect(text).toMatch(/^now +the agent of h1 has been away for 5\.0 s: … \[now\.agentAway\]$/m);
  expect(text).toMatch(/^strategy +serial \(but the plan says when it starts\)$/m);
  expect(text).toMatch(/^plan +was to start 8\.0 s ago, ends in 1\.0 s$/m);
  const { now: _, ...before } = e;
  expect(explanationText(done, before)).toMatch(/^strategy +serial$/m);
});

test('on a screen the bars are redrawn in place, notes above them', () => {
  const s = screen(80);
  const display = createDisplay(s.terminal);
  display.show(change(view(), view({ id: 'm2', guest: 'web2' })));
  display.show(change(view({ progressShare: 0.75 })));
  display.note('away');
  const frames = s.out().split('\x1b[2A\x1b[J');
  expect(frames).toHaveLength(3);
  expect(frames[0]).toMatch(/^web1.* 50 %.*\nweb2.* 50 %.*\n$/);
  expect(frames[1]).toMatch(/^web1.* 75 %.*\nweb2.* 50 %.*\n$/);
  expect(frames[2]).toMatch(/^away\nweb1/);
});

test('elsewhere a line for each change worth one', () => {
  const s = screen();
  const display = createDisplay(s.terminal, (m) => m.guest !== 'other');
  display.show(change(view({ progressShare: 0.51 }), view({ id: 'm3', guest: 'other' })));
  display.show(change(view({ progressShare: 0.55 })));
  display.show(change(view({ progressShare: 0.61 })));
  display.show(change(done));
  display.show(change(done));
  display.show({ v: 1, seq: 9, atMs: 0, kind: 'heartbeat' });
  expect(s.out().split('\n')).toEqual([
    'm1 web1 h1 -> h2 high (post-copy, parallel): 51 % copying at 83.0 Mbit/s',
    'm1 web1 h1 -> h2 high (post-copy, parallel): 61 % copying at 83.0 Mbit/s',
    'm1 web1 h1 -> h2 high (post-copy, parallel): done in 8.0 s, stood still 120 ms, 100.0 MB',
    '',
  ]);
  expect(s.out()).not.toContain('\x1b');
});

test.each([undefined, 120])('who follows migrations reads the names of links (screen: %s)', (columns) => {
  const s = screen(columns);
  const display = createDisplay(s.terminal);
  display.show(topologyOf());
  display.show(change(waiting()));
  expect(s.out()).toMatch(/queued: serial: m0 runs on hv1:52->leaf\n$/);
  // What leads nowhere yet has the name of its switch; nothing is lost where nothing is known.
  display.show(topologyOf([]));
  display.show(change(waiting({ note: 'now 0000000000000001:52 and 0000000000000007:1' })));
  expect(s.out()).toMatch(/queued: now hv1:52 and 0000000000000007:1\n$/);
});

test('the demo names links in its bars', () => {
  const s = screen();
  const name = (text: string) => text.replace(/[0-9a-f]{16}:52/, 'hv1->leaf');
  new ProgressReport({ out: s.terminal.out, columns: 120, name }).show(waiting(), 0);
  expect(s.out()).toMatch(/queued: serial: m0 runs on hv1->leaf\n$/);
});

test('the status page', () => {
  const status: StatusView = {
    version: '0.1.0',
    upSinceMs: 0,
    topology: {
      switches: [
        {
          dpid: '0000000000000001',
          name: 's1',
          connected: true,
          ports: [
            { portNo: 1, name: 'a', isUp: true, capacityBps: 1e9 },
            { portNo: 2, name: 'b', isUp: false, capacityBps: 1e9 },
          ],
        },
      ],
      links: [
        {
          id: '0000000000000001:1',
          from: { dpid: '0000000000000001', portNo: 1 },
          to: { dpid: '0000000000000002', portNo: 4 },
          capacityBps: 200e6,
        },
      ],
      locations: [
        {
          mac: '52:54:00:00:00:01',
          ip: '10.0.0.9',
          name: 'web1',
          kind: 'guest',
          at: { dpid: '0000000000000001', portNo: 2 },
        },
      ],
      refusedProbes: [],
      agents: [{ host: 'h1', connected: false, dpid: null, driver: 'qmp' }],
    },
    rates: {
      links: [
        {
          id: '0000000000000001:1',
          capacityBps: 200e6,
          workloadBps: 160e6,
          migrationBps: 1e6,
          floorBps: 0,
          ceilingBps: 0,
        },
      ],
      guests: [{ guest: 'web1', inBps: 1000, outBps: 2000, direction: 'out' }],
      hosts: [],
    },
    slices: {
      links: [
        {
          id: '0000000000000001:1',
          capacityBps: 200e6,
          workloadBps: 100e6,
          enforcement: 'queue',
          slices: [{ migration: 'm1', priority: 'high', rateBps: 100e6 }],
        },
      ],
    },
    migrations: [view(), done],
    policy: {
      policy: DEFAULT_POLICY,
      status: { state: 'refused', revision: 3, reason: 'reservation.low: unknown name', atMs: 0 },
      store: 'redis',
    },
  };
  const text = statusText(status, 120);
  const session = {
    dpid: '0000000000000001',
    remote: '192.0.2.1:5000',
    openflow: '1.4',
    tls: true,
    roundTripMs: 0.43,
    packetIns: { passed: 1, dropped: 49_000 },
  };
  expect(statusText({ ...status, sessions: [session] }, 120)).toMatch(/1 of 2 +1\.4 \(TLS\) +0\.4 ms +49000/);
  expect(statusText({ ...status, sessions: [{ ...session, tls: false, roundTripMs: null }] }, 120)).toMatch(
    /1\.4 +- +49000/,
  );
  const bundles = { used: true, why: '', committed: 5, refused: 0 };
  const withBundles = { ...session, bundles };
  expect(statusText({ ...status, sessions: [withBundles] }, 120)).toMatch(/ 49000 +yes/);
  const without = { ...session, bundles: { ...bundles, used: false, why: 'OFPET_BAD_REQUEST/OFPBRC_BAD_TYPE' } };
  expect(statusText({ ...status, sessions: [without] }, 120)).toMatch(/ 49000 +no: .*BAD_TYPE/);
  const refused = { from: '192.0.2.9', dpid: null, why: 'set protocols=OpenFlow13', times: 3, sinceMs: 0, lastMs: 0 };
  expect(statusText({ ...status, refusedSwitches: [refused] }, 120)).toMatch(
    /Refused as switches\n.*\n +192\.0\.2\.9 +- +3 +set protocols=OpenFlow13/,
  );
  expect(text).not.toContain('Refused');
  expect(text).toContain('policy revision 3 (redis), last edit refused: reservation.low: unknown name');
  expect(text).toMatch(/s1 +0000000000000001 +connected +1 of 2/);
  expect(text).toMatch(/h1 +away +qmp +-/);
  expect(text).toMatch(/web1 +10\.0\.0\.9 +s1:2 +1\.0 kbit\/s +2\.0 kbit\/s +out/);
  expect(text).toMatch(
    /s1:1 -> 0000000000000002:4 +200\.0 Mbit\/s +160\.0 Mbit\/s +1\.0 Mbit\/s +100\.0 Mbit\/s \(queue\)/,
  );
  const quench = { what: 'senders' as const, sinceMs: 0, untilMs: 5000, times: 2, overPerS: 49_700 };
  const [s1, ...others] = status.topology.switches;
  const ports = s1?.ports.map((p, i) => (i === 0 ? { ...p, quenched: [quench] } : p)) ?? [];
  const storms = { ...status.topology, switches: [...(s1 ? [{ ...s1, ports }] : []), ...others] };
  expect(text).not.toContain('Quenched');
  expect(statusText({ ...status, topology: storms }, 120)).toMatch(
    /Quenched ports\n.*\n +s1:\d+ +\S+ +new senders +49700\/s over its limit +2 times in a row/,
  );
  const from = {
    ...status.topology,
    links: status.topology.links.map((l) => ({ ...l, capacityFrom: 'external-ids' as const })),
  };
  expect(statusText({ ...status, topology: from }, 120)).toMatch(/s1:1 -> \S+ +200\.0 Mbit\/s \(external-ids\) +160/);
  expect(text.match(/#{12}/g)).toHaveLength(1); // Only what still runs.
  const queued = view({ id: 'm3', state: 'queued', note: 'serial: m1 runs on 0000000000000001:1' });
  expect(statusText({ ...status, migrations: [queued] }, 120)).toContain('m1 runs on s1:1->0000000000000002\n');
  expect(statusText({ ...status, migrations: [done] }, 120)).toContain('Migrations: none running, 1 ended');
  const figures = { doneBytes: 5e8, totalBytes: 1e9, fetchedBytes: 5e8, askedAtMs: 0, endedAtMs: null };
  const pull = {
    state: 'running' as const,
    rateBps: 8e7,
    sliceBps: 8e7,
    pacedBps: 8e7,
    ...figures,
    note: null,
    reason: null,
  };
  expect(statusText({ ...status, migrations: [{ ...done, pull }] }, 120)).toMatch(
    /Pulls of disks left behind\n +web1 +pull .* 50 % +running at 80\.0 Mbit\/s/,
  );
  expect(text).not.toContain('Pulls');
});

describe('a guest away from home', () => {
  type Away = NonNullable<TopologyView['away']>[number];
  const g: Away = { guest: 'web1', home: 'd1', host: 'h2', at: { dpid: 'd2', portNo: 2 }, isAway: true, sinceMs: 0 };
  const tunnel = (t: Partial<NonNullable<Away['tunnel']>>) => ({
    ...g,
    tunnel: { state: 'works' as const, sinceMs: 0, why: null, ...t },
  });
  const text = (x: Away) => awayText(x, (dpid) => `sw-${dpid}`);

  test('is shown with how its tunnel stands, and what is done about it', () => {
    expect(text(g)).toBe('at h2, in another network than its own: a tunnel joins it with sw-d1');
    expect(text(tunnel({}))).toBe(text(g));
    const broken = { state: 'broken' as const, why: 'port fwt2 is gone' };
    expect(text(tunnel(broken))).toMatch(/its tunnel to sw-d1 does NOT carry \(port fwt2 is gone\)$/);
    expect(text(tunnel({ ...broken, instead: 'd3' }))).toMatch(/; sw-d3 is tried in its place$/);
    expect(text(tunnel({ state: 'unknown', why: 'x', instead: null }))).toMatch(
      /may not carry \(x\); no other switch of its network can take the place of sw-d1 now$/,
    );
    expect(text({ ...g, isAway: false })).toBe('on its way home');
  });

  test('and who is refused as a switch are told by watch, each once, and when all is well again', () => {
    const news = networkNews();
    const tell = (more: Partial<TopologyView>) => {
      const data = { switches: [], links: [], locations: [], refusedProbes: [], agents: [], ...more };
      const e: FeedEnvelope = { v: 1, seq: 0, atMs: 0, kind: 'change', topic: 'topology', data };
      return news(e);
    };
    const refused = { from: '192.0.2.9', dpid: null, why: 'set protocols=OpenFlow13', times: 1, sinceMs: 0, lastMs: 0 };
    expect(news(change(view()))).toEqual([]);
    expect(tell({ away: [tunnel({})] })).toEqual([]);
    expect(tell({ refusedSwitches: [refused], away: [tunnel({ state: 'broken', why: 'gone' })] })).toEqual([
      '192.0.2.9 is refused as a switch: set protocols=OpenFlow13',
      expect.stringContaining('guest web1 is at h2, in another network than its own: its tunnel to d1 does NOT carry'),
    ]);
    const again = { ...refused, times: 2 };
    expect(tell({ refusedSwitches: [again], away: [tunnel({ state: 'broken', why: 'gone' })] })).toEqual([]);
    expect(tell({ away: [tunnel({})] })).toEqual([expect.stringContaining('a tunnel joins it with d1')]);
    const agent = (connected: boolean) => ({ agents: [{ host: 'h1', connected, dpid: null, driver: 'qmp' as const }] });
    expect(tell(agent(true))).toEqual([]);
    expect(tell(agent(false))).toEqual(['the agent of h1 is away']);
    expect(tell(agent(false))).toEqual([]);
    expect(tell(agent(true))).toEqual(['the agent of h1 is back']);
    expect(tell(agent(true))).toEqual([]);
    expect(tell({ refusedSwitches: [{ ...refused, dpid: 'd9' }] })).toEqual([
      'd9 at 192.0.2.9 is refused as a switch: set protocols=OpenFlow13',
    ]);
  });
});
