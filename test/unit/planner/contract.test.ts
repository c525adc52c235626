/** Planning instances and plans at the border: what is refused, and how the message helps. */
import { parsePlan, parsePlanningInstance } from '../../../contracts/plan.ts';
import { flat, guest } from './samples.ts';

const good = () =>
  flat(
    'ab',
    [guest('v', 'a')],
    { v: 'b' },
    {
      switches: ['s'],
      links: [
        { a: 'a', b: 's', mbps: 500 },
        { a: 's', b: 'b', mbps: 500 },
      ],
      fabric: 'links',
      workload: [{ a: 'a', b: 's', mbps: 100, floor_mbps: 50 }],
    },
  );

test('unknown fields are kept', () => {
  const instance = parsePlanningInstance({
    ...good(),
    measured_runs: [[1]],
    vms: [{ ...guest('v', 'a'), colour: 'red' }],
  });
  expect(instance).toMatchObject({ measured_runs: [[1]], vms: [{ colour: 'red' }] });
});

type Draft = ReturnType<typeof good>;
const set = (change: (d: Draft) => unknown) => {
  const draft = good();
  change(draft);
  return draft;
};
test.each<[string, unknown, RegExp]>([
  ['another format', { ...good(), format: 'plan/1' }, /^format: must be "planning-instance\/1"/],
  ['no object', [], /^\(document\): must be an object$/],
  ['no hosts', { ...good(), hosts: [] }, /^hosts: must name at least one host/],
  [
    'a negative rate',
    set((d) => Object.assign(d.hosts[0] ?? {}, { nic_mbps: -1 })),
    /^hosts\.0\.nic_mbps: must be above 0/,
  ],
  ['a rate of zero', set((d) => Object.assign(d.links?.[1] ?? {}, { mbps: 0 })), /^links\.1\.mbps: must be above 0/],
  ['NaN', set((d) => Object.assign(d.vms[0] ?? {}, { memory_mb: Number.NaN })), /^vms\.0\.memory_mb: /],
  ['infinity', set((d) => Object.assign(d.links?.[0] ?? {}, { mbps: Infinity })), /^links\.0\.mbps: /],
  [
    'a rate as text',
    set((d) => Object.assign(d.links?.[0] ?? {}, { mbps: '500' })),
    /^links\.0\.mbps: must be a number/,
  ],
  ['a strange priority', set((d) => Object.assign(d.vms[0] ?? {}, { priority: 'urgent' })), /^vms\.0\.priority: /],
  [
    'an unknown host',
    set((d) => Object.assign(d.migrations[0] ?? {}, { to: 'z' })),
    /^migrations\.0\.to: no host "z"; known are a, b/,
  ],
  [
    'an unknown guest',
    set((d) => Object.assign(d.migrations[0] ?? {}, { vm: 'z' })),
    /^migrations\.0\.vm: no guest "z"; add it to vms/,
  ],
  [
    'a guest elsewhere',
    set((d) => Object.assign(d.migrations[0] ?? {}, { from: 'b', to: 'a' })),
    /^migrations\.0\.from: v is on a, not on b; correct it, or vms\.0\.host/,
  ],
  ['no move', set((d) => Object.assign(d.migrations[0] ?? {}, { to: 'a' })), /^migrations\.0\.to: v is on a already/],
  [
    'a guest moved twice',
    set((d) => d.migrations.push({ vm: 'v', from: 'a', to: 'b' })),
    /^migrations\.1\.vm: "v" is to be moved twice/,
  ],
  ['a host twice', set((d) => d.hosts.push({ id: 'a', nic_mbps: 1 })), /^hosts\.2\.id: "a" is there twice/],
  ['a switch named like a host', set((d) => d.switches?.push('b')), /^switches\.1: "b" is there twice/],
  ['a guest twice', set((d) => d.vms.push(guest('v', 'b'))), /^vms\.1\.id: "v" is there twice/],
  ['a guest on no host', set((d) => d.vms.push(guest('w', 'z'))), /^vms\.1\.host: no host "z"/],
  ['no links', set((d) => Object.assign(d, { links: [], workload: [] })), /^links: are missing; .*non-blocking/],
  [
    'a link into nowhere',
    set((d) => d.links?.push({ a: 's', b: 't', mbps: 1 })),
    /^links\.2\.b: no host or switch "t"/,
  ],
  [
    'a link twice',
    set((d) => d.links?.push({ a: 's', b: 'a', mbps: 1 })),
    /^links\.2: s and a are joined twice; write one with the sum/,
  ],
  ['a link to itself', set((d) => d.links?.push({ a: 's', b: 's', mbps: 1 })), /^links\.2: joins "s" to itself/],
  [
    'a workload without a link',
    set((d) => d.workload?.push({ a: 'a', b: 'b', mbps: 1 })),
    /^workload\.1: no link joins a and b/,
  ],
  [
    'a workload from nowhere',
    set((d) => d.workload?.push({ a: 'x', b: 'b', mbps: 1 })),
    /^workload\.1\.a: no host or switch "x"/,
  ],
  [
    'a ceiling below the floor',
    set((d) => Object.assign(d.workload?.[0] ?? {}, { ceiling_mbps: 10 })),
    /^workload\.0\.ceiling_mbps: is below floor_mbps/,
  ],
  [
    'a guest without a size',
    set((d) => d.vms.push({ id: 'w', host: 'a', memory_mb: 1 })),
    /^vms\.1\.size_units: is missing; hosts have memory_units/,
  ],
  [
    'dirtied in no time',
    set((d) => Object.assign(d.vms[0] ?? {}, { hot_dirty_mb: 5 })),
    /^vms\.0\.hot_dirty_s: must be above 0/,
  ],
  [
    'a NIC without a rate',
    flat('ab', [], {}, { hosts: [{ id: 'a' }] }),
    /^hosts\.0\.nic_mbps: is missing; with fabric "non-blocking"/,
  ],
  [
    'a rate in the wrong unit',
    set((d) => Object.assign(d.hosts[0] ?? {}, { nic_mbps: 1e10 })),
    /^hosts\.0\.nic_mbps: must be at most 1,000,000,000 \(Mbit\/s\)/,
  ],
  [
    'a guest that is larger than can be',
    set((d) => Object.assign(d.vms[0] ?? {}, { memory_mb: 1e300 })),
    /^vms\.0\.memory_mb: must be at most 1,000,000,000,000 \(MB\)/,
  ],
  [
    'a guest of more units than can be',
    set((d) => Object.assign(d.vms[0] ?? {}, { size_units: 1e308 })),
    /^vms\.0\.size_units: must be at most 1,000,000,000,000/,
  ],
  [
    'dirtied once in an age',
    set((d) => Object.assign(d.vms[0] ?? {}, { hot_dirty_mb: 1, hot_dirty_s: 1e300 })),
    /^vms\.0\.hot_dirty_s: must be at most 1,000,000,000 \(s\)/,
  ],
  [
    'a rate that runs in the wrong unit',
    set((d) => Object.assign(d.migrations[0] ?? {}, { running_mbps: 1e300 })),
    /^migrations\.0\.running_mbps: must be at most 1,000,000,000 \(Mbit\/s\)/,
  ],
  [
    'a name that would steer a screen',
    set((d) => d.switches?.push('\u001b[31mred')),
    /^switches\.1: must not contain control characters/,
  ],
])('%s is refused', (_name, value, message) => {
  expect(() => parsePlanningInstance(value)).toThrow(
    expect.objectContaining({
      code: 'plan.badInstance',
      labels: ['badInput'],
      message: expect.stringMatching(message),
    }),
  );
});

test('several problems are all named', () => {
  const draft = set((d) => d.migrations.push({ vm: 'x', from: 'y', to: 'z' }));
  expect(() => parsePlanningInstance(draft)).toThrow(/migrations\.1\.vm.*migrations\.1\.from.*migrations\.1\.to/);
});

test('a plan that is none is refused', () => {
  expect(() => parsePlan({ format: 'plan/1', migrations: [{ vm: 'v' }] })).toThrow(/migrations\.0\.start_s/);
});
