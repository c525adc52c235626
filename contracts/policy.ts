/**
 * The policy document: every number and table the decisions obey, editable while migrations run.
 * `policies/` compiles and obeys it; `controller/io/` keeps it (memory, file or Redis hash `fairway:policy`, whose fields
 * are the dotted paths of this document, e.g. `reservation.medium`). Defaults are those of the algorithm (paper 002).
 */
import { z } from 'zod';
import { strategySchema, techniqueSchema } from './common.ts';

const share = z.number().min(0).max(1);
const expression = z.string().min(1).max(500);
/** A share of the link's capacity ("50 %") or a rate ("100 Mbit/s", bit/s). */
const limit = z.union([
  z
    .string()
    .regex(
      /^\s*[0-9]+(\.[0-9]+)?\s*(%|(bit|kbit|Mbit|Gbit)(\/s|ps)?)?\s*$/,
      'must be a rate such as "100 Mbit/s" or a share such as "50 %"',
    ),
  z.number().min(0),
]);
const sla = z.strictObject({ floor: limit, ceiling: limit });
const byPriority = z.strictObject({ high: techniqueSchema, medium: techniqueSchema, low: techniqueSchema });
const strategyByContention = z.strictObject({ low: strategySchema, moderate: strategySchema, high: strategySchema });

/** One row of the technique table, for predominantly `in` or `out` traffic at source host and destination host. */
const cell = z.strictObject({ guestIn: byPriority, guestOut: byPriority });

export const policySchema = z.strictObject({
  format: z.literal('policy/1'),
  /** Step 1. in-share ≥ inShare → in; ≤ outShare → out; total below idleShare of the link → idle; else mixed. */
  direction: z.strictObject({
    windowMs: z.number().int().min(500).max(600_000),
    inShare: share,
    outShare: share,
    idleShare: share,
  }),
  /** Step 2. Keys are `<source host>-<destination host>` directions. */
  technique: z.strictObject({
    allowed: z.array(techniqueSchema).min(1),
    table: z.strictObject({ 'in-in': cell, 'out-out': cell, 'in-out': cell, 'out-in': cell }),
    /** Pre-copy is refused when dirty rate ÷ slice rate exceeds this (it would not converge). */
    convergenceRatio: z.number().min(0.05).max(1),
    /** Hybrid goes to post-copy after this many pre-copy passes. */
    hybridPasses: z.number().int().min(1).max(50),
    /** A pre-copy that needs more passes than this does not converge, and goes on as post-copy where that is allowed. */
    precopyPasses: z.number().int().min(2).max(10_000),
    /** Downtime that pre-copy aims at, ms. */
    downtimeLimitMs: z.number().int().min(1).max(60_000),
  }),
  /** Step 3. Contention of the busiest link of the path: below `moderate` low, below `high` moderate, else high. */
  strategy: z.strictObject({
    contention: z.strictObject({ moderate: share, high: share }),
    high: strategyByContention,
    medium: strategyByContention,
    low: strategyByContention,
  }),
  /**
   * Step 4. Expressions over `capacity`, `floor`, `ceiling`, `rate` (all bit/s, per link; `rate` is what the workload
   * is taken to want) with + - * / ( ) and clamp, min, max.
   */
  reservation: z.strictObject({
    high: expression,
    mediumInitial: expression,
    medium: expression,
    low: expression,
    periodMs: z.number().int().min(100).max(60_000),
    /** Changes smaller than this share of the capacity are not sent. */
    minStepShare: share,
    /** A running migration is never paced below this, bit/s. */
    minSliceBps: z.number().min(0),
    /** Weight of each priority where migrations share what is reserved on a link. */
    weights: z.strictObject({ high: z.number().positive(), medium: z.number().positive(), low: z.number().positive() }),
  }),
  /** How much the workload is taken to want, from what it was seen to send. */
  workload: z.strictObject({
    /** Added to the seen rate, so that the workload can grow into what it is left. */
    headroom: share,
    /** A workload using at least this share of what it was left is taken to want more. */
    saturatedAt: share,
  }),
  /** SLA limits of the workload per directed link; `default` where a link is not named. Keys: link ids `dpid:port`. */
  sla: z.strictObject({ default: sla, links: z.record(z.string(), sla) }),
  /** DSCP that marks migration traffic of each priority; 0 is the workload's. */
  marks: z.strictObject({
    high: z.number().int().min(1).max(63),
    medium: z.number().int().min(1).max(63),
    low: z.number().int().min(1).max(63),
  }),
  /** Step 5. */
  finish: z.strictObject({
    /** VLAN ids [from, to] reserved for straggler tunnels inside the fabric. */
    labelVlans: z.tuple([z.number().int().min(1).max(4094), z.number().int().min(1).max(4094)]),
    /** The tunnel is taken down when no straggler came for this long. */
    silenceMs: z.number().int().min(100).max(600_000),
    /** … and at the latest after this long. */
    maxDrainMs: z.number().int().min(100).max(3_600_000),
  }),
  limits: z.strictObject({
    /** Migrations at a time out of, and into, one host. */
    perHostOut: z.number().int().min(1).max(1000),
    perHostIn: z.number().int().min(1).max(1000),
  }),
});
export type PolicyDocument = z.infer<typeof policySchema>;
export type SlaLimits = z.infer<typeof sla>;

const all = (t: z.infer<typeof techniqueSchema>) => ({ high: t, medium: t, low: t });

/** The document in force when nobody has written one. */
export const DEFAULT_POLICY: PolicyDocument = {
  format: 'policy/1',
  direction: { windowMs: 5000, inShare: 0.6, outShare: 0.4, idleShare: 0.01 },
  technique: {
    allowed: ['pre-copy', 'post-copy', 'hybrid'],
    table: {
      'in-in': { guestIn: all('hybrid'), guestOut: all('post-copy') },
      'out-out': { guestIn: all('post-copy'), guestOut: all('post-copy') },
      'in-out': { guestIn: all('post-copy'), guestOut: all('post-copy') },
      'out-in': { guestIn: { high: 'hybrid', medium: 'hybrid', low: 'pre-copy' }, guestOut: all('post-copy') },
    },
    convergenceRatio: 0.8,
    hybridPasses: 2,
    precopyPasses: 20,
    downtimeLimitMs: 300,
  },
  strategy: {
    contention: { moderate: 0.5, high: 0.8 },
    high: { low: 'parallel', moderate: 'parallel', high: 'parallel' },
    medium: { low: 'parallel', moderate: 'serial', high: 'serial' },
    low: { low: 'parallel', moderate: 'serial', high: 'serial' },
  },
  reservation: {
    high: 'capacity - floor',
    mediumInitial: 'capacity - ceiling',
    medium: 'capacity - clamp(rate, floor, ceiling)',
    low: 'capacity - rate',
    periodMs: 1000,
    minStepShare: 0.01,
    minSliceBps: 4_000_000,
    weights: { high: 4, medium: 2, low: 1 },
  },
  workload: { headroom: 0.05, saturatedAt: 0.98 },
  sla: { default: { floor: '50 %', ceiling: '70 %' }, links: {} },
  marks: { high: 10, medium: 12, low: 14 },
  finish: { labelVlans: [3840, 4080], silenceMs: 2000, maxDrainMs: 30_000 },
  limits: { perHostOut: 8, perHostIn: 8 },
};

/** Where the document in force came from, and what became of the last edit. Readable in Redis at `fairway:policy:status`. */
export const policyStatusSchema = z.object({
  state: z.enum(['accepted', 'refused']),
  /** Grows by one with each accepted edit. */
  revision: z.number().int(),
  /** Why it was refused, with the dotted path of the field; empty when accepted. */
  reason: z.string(),
  atMs: z.number(),
});
export type PolicyStatus = z.infer<typeof policyStatusSchema>;
