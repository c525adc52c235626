/**
 * The tables of the algorithm as a person writes them down (`tables/*.yaml`), and one runner that holds the policies to
 * them: every cell, with the rule that gives it, and that no cell is missing.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import {
  contentionSchema,
  directionSchema,
  type FairwayError,
  PRIORITIES,
  prioritySchema,
  strategySchema,
  TECHNIQUES,
  techniqueSchema,
} from '../../contracts/common.ts';
import { DEFAULT_POLICY } from '../../contracts/policy.ts';
import { parseRateBps, parseShare } from '../../contracts/units.ts';
import {
  applyPolicyPatch,
  chooseStrategy,
  chooseTechnique,
  compilePolicy,
  contentionOf,
  reserve,
  type SliceClaim,
} from '../../policies/index.ts';

const policy = compilePolicy(DEFAULT_POLICY);
const text = (what: string, read: (s: string) => number | undefined) =>
  z.string().transform((s, context) => {
    const value = read(s);
    if (value === undefined) context.addIssue(`${JSON.stringify(s)} is no ${what}`);
    return value ?? Number.NaN;
  });
const rate = text('rate', parseRateBps);
const share = text('share', parseShare);
const size = text('size', (s) => {
  const m = /^([0-9]+) MiB$/.exec(s);
  return m ? Number(m[1]) * 2 ** 20 : undefined;
});

/** The file's cells and what stands beside them, checked. */
function table<T extends z.ZodType, H extends z.ZodRawShape>(name: string, line: T, head: H) {
  const schema = z.strictObject({ ...head, cells: z.array(line), 'beside the table': z.array(line) });
  return schema.parse(parse(readFileSync(join(import.meta.dirname, 'tables', `${name}.yaml`), 'utf8')));
}
/** A line as it reads in a test's name. */
const title = (line: object) =>
  Object.entries(line)
    .filter(([key]) => key !== 'because')
    .map(
      ([key, v]) => `${key} ${Array.isArray(v) ? v.join('+') : typeof v === 'number' && v > 1000 ? `${v / 1e6} M` : v}`,
    )
    .join(', ');

describe('technique', () => {
  const line = z.strictObject({
    source: directionSchema,
    destination: directionSchema,
    guest: directionSchema,
    priority: prioritySchema,
    is: z.string().default('calm'),
    slice: rate.optional(),
    hosts: z.array(techniqueSchema).default([...TECHNIQUES]),
    asked: techniqueSchema.optional(),
    technique: techniqueSchema.optional(),
    refused: z.string().optional(),
    because: z.string().default('technique.table'),
  });
  const guest = z.strictObject({ memory: size, dirty: rate, workingSet: size });
  const t = table('technique', line, { guests: z.record(z.string(), guest), slice: rate });

  test.each([...t.cells, ...t['beside the table']].map((l) => [title(l), l] as const))('%s', (_, l) => {
    const g = t.guests[l.is];
    if (g === undefined) throw new Error(`no guest ${l.is} is described`);
    const choose = () =>
      chooseTechnique(
        {
          priority: l.priority,
          source: l.source,
          destination: l.destination,
          guest: l.guest,
          model: { memoryBytes: g.memory, dirtyBytesPerS: g.dirty / 8, workingSetBytes: g.workingSet },
          sliceBps: l.slice ?? t.slice,
          supported: l.hosts,
          ...(l.asked === undefined ? {} : { requested: l.asked }),
        },
        policy,
      );
    if (l.refused !== undefined) {
      expect(choose).toThrow(expect.objectContaining({ code: l.refused }) as FairwayError);
      return;
    }
    const chosen = choose();
    expect({ technique: chosen.value, because: chosen.reasons.at(-1)?.rule }).toEqual({
      technique: l.technique,
      because: l.because,
    });
    expect(chosen.reasons.every((r) => r.text.length > 0)).toBe(true);
  });

  test('every cell is there, once', () => {
    const key = (l: { source: string; destination: string; guest: string; priority: string }) =>
      `${l.source}-${l.destination} ${l.guest} ${l.priority}`;
    const all = ['in', 'out'].flatMap((source) =>
      ['in', 'out'].flatMap((destination) =>
        ['in', 'out'].flatMap((g) => PRIORITIES.map((priority) => key({ source, destination, guest: g, priority }))),
      ),
    );
    expect(t.cells.map(key).sort()).toEqual(all.sort());
  });
});

describe('strategy', () => {
  const line = z.strictObject({
    priority: prioritySchema,
    used: share,
    asked: strategySchema.optional(),
    contention: contentionSchema,
    strategy: strategySchema,
    because: z.string(),
  });
  const t = table('strategy', line, {});

  test.each([...t.cells, ...t['beside the table']].map((l) => [title(l), l] as const))('%s', (_, l) => {
    const links = [l.used, l.used / 2].map((used, i) => ({ id: `s${i}:1`, capacityBps: 1e9, usedBps: used * 1e9 }));
    const contention = contentionOf(links, policy);
    expect(contention.value).toBe(l.contention);
    expect(contention.reasons[0]).toMatchObject({ rule: `contention.${l.contention}`, bindingLink: 's0:1' });
    const { priority, asked } = l;
    const strategy = chooseStrategy(
      { priority, contention: contention.value, ...(asked === undefined ? {} : { requested: asked }) },
      policy,
    );
    expect({ strategy: strategy.value, because: strategy.reasons[0]?.rule }).toEqual({
      strategy: l.strategy,
      because: l.because,
    });
  });

  test('every cell is there, once', () => {
    const all = PRIORITIES.flatMap((p) => contentionSchema.options.map((c) => `${p} ${c}`));
    expect(t.cells.map((l) => `${l.priority} ${l.contention}`).sort()).toEqual(all.sort());
  });
});

describe('reservation', () => {
  const phase = z.enum(['initial', 'running', 'switchover']);
  const line = z.strictObject({
    priority: prioritySchema,
    phase,
    workload: z.union([z.literal('unknown'), rate]),
    others: z.array(prioritySchema).default([]),
    capacity: rate.optional(),
    floor: rate.optional(),
    ceiling: rate.optional(),
    left: rate.optional(),
    before: rate.optional(),
    slice: rate,
    because: z.string(),
  });
  const t = table('reservation', line, {
    link: z.strictObject({ capacity: rate, floor: rate, ceiling: rate }),
  });

  test.each([...t.cells, ...t['beside the table']].map((l) => [title(l), l] as const))('%s', (_, l) => {
    const capacityBps = l.capacity ?? t.link.capacity;
    const mbps = (bps: number) => `${bps / 1e6} Mbit/s`;
    const p = compilePolicy(
      applyPolicyPatch(DEFAULT_POLICY, {
        'sla.default.floor': mbps(l.floor ?? t.link.floor),
        'sla.default.ceiling': mbps(l.ceiling ?? t.link.ceiling),
      }),
    );
    const claim = (migration: string, priority: (typeof PRIORITIES)[number], before?: number): SliceClaim => ({
      migration,
      priority,
      links: ['s0:1'],
      phase: migration === 'm' ? l.phase : 'running',
      previousBps: before ?? null,
    });
    // A switch that is silent is taken to be full: `controller/core/reserve.ts` says so to the policies.
    const measuredBps = l.workload === 'unknown' ? capacityBps : l.workload;
    const claims = [claim('m', l.priority, l.before), ...l.others.map((other, i) => claim(`other${i}`, other))];
    const r = reserve({ links: [{ id: 's0:1', capacityBps, measuredBps, shareBps: l.left ?? null }], claims }, p);
    const slice = r.slices.get('m');
    expect({ slice: Math.round((slice?.rateBps ?? 0) / 1e3) / 1e3, because: slice?.reason.rule }).toEqual({
      slice: Math.round(l.slice / 1e3) / 1e3,
      because: l.because,
    });
    expect(slice?.reason).toMatchObject({ bindingLink: 's0:1' });
    // Whatever it is given, the workload keeps its floor.
    expect(r.links.get('s0:1')?.workloadBps).toBeGreaterThanOrEqual(Math.min(l.floor ?? t.link.floor, capacityBps));
  });

  test('every priority stands there in every phase, with a workload below the floor, up to the ceiling and above it', () => {
    const regime = (bps: number) => (bps < t.link.floor ? 'below' : bps <= t.link.ceiling ? 'between' : 'above');
    const seen = new Set(
      t.cells.map((l) => `${l.priority} ${l.phase} ${typeof l.workload === 'number' ? regime(l.workload) : ''}`),
    );
    for (const p of PRIORITIES)
      for (const ph of phase.options)
        for (const r of ['below', 'between', 'above']) expect(seen).toContain(`${p} ${ph} ${r}`);
  });
});
