/**
 * The policy document: every number and table the decisions obey, editable while migrations run.
 * `policies/` compiles and obeys it; `controller/io/` keeps it (memory, file or Redis hash `fairway:policy`, whose fields
 * are the dotted paths of this document, e.g. `reservation.medium`). Defaults are those of the algorithm (paper 002).
 *
 * Every field is made by one of the helpers below, which say its unit, range and meaning once: for the check, and for
 * `docs/policy-reference.md`, which is generated from here.
 *
 * Versions: `policy/1` only ever grows by fields that have a default; a field that changes its meaning or goes away makes
 * the next version, and a version that is not known is refused.
 */
import { z } from 'zod';
import {
  COPY_OPTIONS,
  copyOptionSchema,
  labelSchema,
  nameSchema,
  type Priority,
  strategySchema,
  techniqueSchema,
} from './common.ts';
import { parseMs, parseRateBps, parseShare } from './units.ts';

// --- How fields are made --------------------------------------------------------------------------------------------

/** How the text form of a field (Redis, command line) is read. `limit`: text with a unit, `json`: a list. */
export type FieldKind = 'number' | 'text' | 'json' | 'limit';
export interface FieldInfo {
  kind: FieldKind;
  /** Unit of the value as it is stored, or what sort of value it is. */
  unit: string;
  range: string;
  /** One sentence. */
  text: string;
}
const fields = z.registry<FieldInfo>();

/** Longest expression, in characters. */
export const MAX_EXPRESSION = 500;

/** A number in `unit`, or a text with another unit of the same kind, which is turned into it. */
function measured(
  unit: string,
  example: string,
  read: (text: string) => number | undefined,
  number: (what: string) => z.ZodNumber,
  range: string,
  text: string,
) {
  const what = `must be a number${unit === '' ? '' : ` of ${unit}`} (${range}) or a text such as "${example}"`;
  const schema = z.preprocess((v) => (typeof v === 'string' && v.length <= 100 ? (read(v) ?? v) : v), number(what));
  return schema.register(fields, { kind: 'number', unit: unit === '' ? 'share' : unit, range, text });
}

const duration = (min: number, max: number, text: string) =>
  measured(
    'ms',
    '200 ms',
    parseMs,
    (what) => z.number(what).int('must be a whole number of ms').min(min).max(max),
    `${min} – ${max}, whole`,
    text,
  );
const share = (text: string) => measured('', '50 %', parseShare, (what) => z.number(what).min(0).max(1), '0 – 1', text);
const rateBps = (text: string) =>
  measured(
    'bit/s',
    '4 Mbit/s',
    // A bare number's unit is in the field's name; as a text it comes from Redis, and is read as a number there.
    (t) => (/[a-z]/i.test(t) ? parseRateBps(t) : undefined),
    (what) => z.number(what).min(0).max(1e15),
    '0 – 10^15',
    text,
  );
const count = (min: number, max: number, text: string, unit = 'number') =>
  z
    .number(`must be a number (${min} – ${max})`)
    .int('must be a whole number')
    .min(min)
    .max(max)
    .register(fields, { kind: 'number', unit, range: `${min} – ${max}, whole`, text });
const weight = (text: string) =>
  z
    .number('must be a number (above 0, up to 10^9)')
    .positive()
    .max(1e9)
    .register(fields, { kind: 'number', unit: 'number', range: 'above 0, up to 10^9', text });
const factor = (text: string) =>
  z
    .number('must be a number (0 – 1000)')
    .min(0)
    .max(1000)
    .register(fields, { kind: 'number', unit: 'number', range: '0 – 1000', text });
const ratio = (min: number, max: number, text: string) =>
  measured('', '80 %', parseShare, (what) => z.number(what).min(min).max(max), `${min} – ${max}`, text);
const oneOf = <const T extends readonly string[]>(values: T, unit: string, text: string) =>
  z.enum(values).register(fields, { kind: 'text', unit, range: values.join(', '), text });
const expression = (text: string) =>
  z
    .string('must be an expression such as "capacity - rate"')
    .min(1, 'is empty; write an expression such as "capacity - rate"')
    .max(MAX_EXPRESSION, `is longer than ${MAX_EXPRESSION} characters`)
    .register(fields, {
      kind: 'text',
      unit: 'expression, bit/s',
      range: `up to ${MAX_EXPRESSION} characters; kept within 0 and capacity − floor`,
      text,
    });
/** A rate ("100 Mbit/s"), a share of the link ("50 %") or an expression over `capacity`; as a number only 0. */
const limit = (text: string) =>
  z
    .union(
      [z.string().min(1).max(MAX_EXPRESSION), z.number()],
      'must be a rate such as "100 Mbit/s", a share such as "50 %" or an expression such as "0.6 * capacity"',
    )
    .register(fields, {
      kind: 'limit',
      unit: 'rate, share or expression over `capacity`, bit/s',
      range: `up to ${MAX_EXPRESSION} characters; kept within 0 and the capacity`,
      text,
    });
const technique = (text: string) => oneOf(techniqueSchema.options, 'technique', text);
const strategy = (text: string) => oneOf(strategySchema.options, 'strategy', text);

// --- The document ---------------------------------------------------------------------------------------------------

const sla = (where: string) =>
  z.strictObject({
    floor: limit(`What the workload is left ${where} at least, whatever migrates.`),
    ceiling: limit(`What the workload is left ${where} when it wants more and a migration of medium priority runs.`),
  });

/** One row of the technique table, for predominantly `in` or `out` traffic at source host and destination host. */
function row(source: string, destination: string) {
  const byPriority = (guest: string) => {
    const at = (priority: Priority) =>
      technique(
        `Technique for a guest with mainly ${guest} traffic, from a host with mainly ${source} to one with mainly ${destination} traffic, at ${priority} priority.`,
      );
    return z.strictObject({ high: at('high'), medium: at('medium'), low: at('low') });
  };
  return z.strictObject({ guestIn: byPriority('incoming'), guestOut: byPriority('outgoing') });
}

function strategies(priority: Priority) {
  const at = (contention: string) =>
    strategy(`How migrations of ${priority} priority run beside others where contention is ${contention}.`);
  return z.strictObject({ low: at('low'), moderate: at('moderate'), high: at('high') });
}

/** What overrides may set of `technique`. */
const techniqueSettings = {
  allowed: z.array(techniqueSchema).min(1).register(fields, {
    kind: 'json',
    unit: 'list of techniques',
    range: 'at least one, none twice',
    text: 'Techniques that may be chosen; every entry of the table must be among them.',
  }),
  allowedOptions: z.array(copyOptionSchema).register(fields, {
    kind: 'json',
    unit: 'list of copy options',
    range: `${COPY_OPTIONS.join(', ')}; none twice`,
    text: 'Copy options that may be asked for with a migration; `multifd` is several connections without compression.',
  }),
  convergenceRatio: ratio(
    0.05,
    1,
    'Plain pre-copy is refused when the dirty rate is more than this share of the slice: it would not converge.',
  ),
  hybridPasses: count(1, 50, 'A hybrid goes to post-copy after this many pre-copy passes.', 'passes'),
  unpaidPasses: count(
    1,
    1000,
    'A pre-copy of which this many passes in a row do not pay (each leaves more than `convergenceRatio` of what the one before had to send) does not converge either.',
    'passes',
  ),
  precopyPasses: count(
    2,
    10_000,
    'A pre-copy that needs more passes than this does not converge, and goes on as post-copy where that is allowed.',
    'passes',
  ),
  downtimeLimitMs: duration(1, 60_000, 'Downtime that pre-copy aims at.'),
};

const silenceLimit = (priority: Priority) =>
  duration(
    100,
    86_400_000,
    `Another technique is looked for when the one chosen is predicted to keep the clients of a guest of ${priority} priority waiting for longer than this.`,
  );
const silenceLimits = { high: silenceLimit('high'), medium: silenceLimit('medium'), low: silenceLimit('low') };

/** What overrides may set of `reservation`. */
const reservationSettings = {
  high: expression('Reserved on a link for migrations of high priority.'),
  mediumInitial: expression('Reserved on a link for migrations of medium priority at their start.'),
  medium: expression('Reserved on a link for migrations of medium priority from then on, each period.'),
  low: expression('Reserved on a link for migrations of low priority, each period.'),
  minSliceBps: rateBps('A running migration is never paced below this, as far as the floors of its links allow.'),
};
const weights = {
  high: weight('Weight of a migration of high priority where several share what is reserved on a link.'),
  medium: weight('Weight of a migration of medium priority there.'),
  low: weight('Weight of a migration of low priority there.'),
};

/** By which a technique's predicted cost is made of its parts; all costs are ms of the guest's service. */
const byPriority = (text: (priority: Priority) => string) =>
  z.strictObject({ high: factor(text('high')), medium: factor(text('medium')), low: factor(text('low')) });
const costWeights = {
  degraded: factor(
    'Weight of the time that the guest runs at the destination with pages still at the source: 1 is as bad as not running at all.',
  ),
  noWayBackMs: duration(
    0,
    600_000,
    'Cost of a technique that cannot be taken back once the guest is at the destination (post-copy, hybrid).',
  ),
  duration: byPriority((p) => `Weight of the time that the whole copy takes, for migrations of ${p} priority.`),
  harm: byPriority(
    (p) => `Weight of what the workload on the links of the path is denied, for migrations of ${p} priority.`,
  ),
};
const someCostWeights = z
  .strictObject({ ...costWeights, duration: costWeights.duration.partial(), harm: costWeights.harm.partial() })
  .partial();

const vlan = z.number().int().min(1).max(4094);

/** Settings for some guests only; what is absent is taken from the next rule that has it. */
const overrideSchema = z.strictObject({
  sla: sla('on the links of such a migration').partial().optional(),
  technique: z
    .strictObject({
      ...techniqueSettings,
      silenceLimitMs: z.strictObject(silenceLimits).partial(),
      cost: someCostWeights,
    })
    .partial()
    .optional(),
  reservation: z
    .strictObject({ ...reservationSettings, weights: z.strictObject(weights).partial() })
    .partial()
    .optional(),
});
export type PolicyOverride = z.infer<typeof overrideSchema>;

const labelOverrideSchema = overrideSchema.extend({
  rank: count(
    0,
    1000,
    'Of several labels of one guest the one of higher rank counts; of equal ranks the first by name.',
  ).optional(),
  extends: z
    .string()
    .regex(
      /^[A-Za-z0-9][\w-]{0,62}\.[A-Za-z0-9][\w-]{0,62}$/,
      'must name a label as <key>.<value>, such as tier.silver',
    )
    .optional()
    .register(fields, {
      kind: 'text',
      unit: 'label',
      range: '`<key>.<value>` of another entry, without cycles',
      text: 'Another label whose settings hold where this one has none.',
    }),
});

export const policySchema = z.strictObject({
  format: z.literal('policy/1', 'must be policy/1, the one version this program reads').register(fields, {
    kind: 'text',
    unit: 'format',
    range: 'policy/1',
    text: 'Format and version of the document; not to be changed.',
  }),
  /** Step 1. in-share ≥ inShare → in; ≤ outShare → out; total below idleShare of the link → idle; else mixed. */
  direction: z.strictObject({
    windowMs: duration(500, 600_000, 'Window over which rates are averaged.'),
    inShare: share('A guest or host whose incoming share of its traffic is at least this is `in`.'),
    outShare: share('A guest or host whose incoming share is at most this is `out`; between the two it is `mixed`.'),
    idleShare: share("Traffic below this share of the link's capacity is `idle`."),
    hysteresis: share(
      'A direction is kept until the incoming share is this far beyond its limit; `idle` until the traffic is this share above its limit.',
    ),
    minConfidence: share(
      'A direction of which the readings of the window are less sure than this does not replace another, and is `mixed` where there was none.',
    ),
  }),
  /** Step 2. Keys are `<source host>-<destination host>` directions. */
  technique: z.strictObject({
    ...techniqueSettings,
    silenceLimitMs: z.strictObject(silenceLimits),
    cost: z.strictObject(costWeights),
    table: z.strictObject({
      'in-in': row('incoming', 'incoming'),
      'out-out': row('outgoing', 'outgoing'),
      'in-out': row('incoming', 'outgoing'),
      'out-in': row('outgoing', 'incoming'),
    }),
  }),
  /** Step 3. Contention of the busiest link of the path: below `moderate` low, below `high` moderate, else high. */
  strategy: z.strictObject({
    contention: z.strictObject({
      moderate: share("Contention is low while the path's busiest link is used to less than this share."),
      high: share('Contention is moderate below this share and high from it on.'),
    }),
    high: strategies('high'),
    medium: strategies('medium'),
    low: strategies('low'),
  }),
  /** Step 4. Expressions over `capacity`, `floor`, `ceiling`, `rate` of one link; see docs/policy.md. */
  reservation: z.strictObject({
    ...reservationSettings,
    periodMs: duration(100, 60_000, 'Time between two re-adjustments.'),
    holdSilenceMs: duration(
      1000,
      3_600_000,
      "A migration whose source's agent is away keeps its slice at its last pace; this long after switches counted the last of its stream, its links are free again.",
    ),
    holdMs: duration(
      1000,
      86_400_000,
      'The same where nothing is known of the stream, because no switch of its path is read: it is held for this long.',
    ),
    minStepShare: share('A change smaller than this share of the capacity is not sent.'),
    weights: z.strictObject(weights),
  }),
  /** How much the workload is taken to want, from what it was seen to send. */
  workload: z.strictObject({
    headroom: share(
      'Added to the rate that was seen, as a share of it, so that the workload can grow into what it is left.',
    ),
    saturatedAt: share('A workload that uses at least this share of what it was left is taken to want more.'),
  }),
  /** SLA limits of the workload per directed link; `default` where a link is not named. Keys: link ids `dpid:port`. */
  sla: z.strictObject({ default: sla('on every link'), links: z.record(z.string(), sla('on this link')) }),
  /** DSCP that marks migration traffic of each priority; 0 is the workload's. */
  marks: z.strictObject({
    high: count(1, 63, "DSCP that marks the traffic of migrations of high priority; the workload's is 0.", 'DSCP'),
    medium: count(1, 63, 'DSCP of migrations of medium priority.', 'DSCP'),
    low: count(1, 63, 'DSCP of migrations of low priority.', 'DSCP'),
  }),
  /** Step 5. */
  finish: z.strictObject({
    labelVlans: z.tuple([vlan, vlan]).register(fields, {
      kind: 'json',
      unit: 'VLAN ids, first and last',
      range: '1 – 4094',
      text: 'VLAN ids that Fairway may use for the tunnels of stragglers inside the fabric.',
    }),
    silenceMs: duration(100, 600_000, 'A tunnel is taken down when no straggler has come for this long.'),
    maxDrainMs: duration(100, 3_600_000, 'A tunnel is taken down at the latest after this long.'),
    recoveryAlarmMs: duration(
      1000,
      86_400_000,
      'A post-copy interrupted for this long is reported as taking long, and is tried on all the same.',
    ),
  }),
  /** How links between switches are found and lost. */
  discovery: z.strictObject({
    probeMs: duration(100, 600_000, 'A signed probe is sent out of every port this often.'),
    silenceMs: duration(
      300,
      3_600_000,
      'A link between connected switches that no probe crossed for this long is lost; at least two probe periods.',
    ),
    maxAgeMs: duration(
      50,
      600_000,
      'A probe that arrives longer than this after it was sent is ignored: it may have been kept and sent again.',
    ),
    maxHostsPerPort: count(
      1,
      1_000_000,
      'Senders learned at one port, guests not counted; each costs a flow in every switch with managed forwarding.',
      'hosts',
    ),
    quenchMs: duration(
      0,
      600_000,
      'A port that goes on sending more packet-ins than it may is quenched for this long, twice as long when it goes on after that; 0 for never.',
    ),
  }),
  limits: z.strictObject({
    perHostOut: count(1, 1000, 'Migrations at a time out of one host; more are queued.', 'migrations'),
    perHostIn: count(1, 1000, 'Migrations at a time into one host; more are queued.', 'migrations'),
  }),
  /** Many moves: when they are planned as a whole, and when a plan that runs is made anew; docs/planner.md. */
  planning: z.strictObject({
    minGroup: count(
      1,
      100_000,
      'A request for at least so many guests is planned as a whole, smaller ones go by `strategy`; evacuations and moves with a deadline are always planned.',
      'guests',
    ),
    toleranceMs: duration(
      100,
      3_600_000,
      'A plan is made anew when a migration is expected to end earlier or later than planned by more than this and `toleranceShare`.',
    ),
    toleranceShare: share('The same as a share of the planned duration of the migration.'),
    capacityShare: share(
      'A plan is also made anew when what a link of it leaves to migrations has changed by more than this share of the capacity.',
    ),
    settleMs: duration(
      0,
      3_600_000,
      'What is further from the plan than that has to stay so for this long before the plan is made anew.',
    ),
    work: count(
      1,
      1_000_000_000,
      'What the search may do for each priority in one turn; more finds better plans and takes longer, 1 000 000 about half a second.',
      'look-ups',
    ),
  }),
  /**
   * Settings for some: the strongest that has a value counts, in the order guests, labels, tenants, hosts; then
   * `sla.links`, then the document's own.
   */
  overrides: z
    .strictObject({
      guests: z.record(nameSchema, overrideSchema).prefault({}),
      labels: z.record(labelSchema, z.record(labelSchema, labelOverrideSchema)).prefault({}),
      tenants: z.record(labelSchema, overrideSchema).prefault({}),
      hosts: z.record(nameSchema, overrideSchema).prefault({}),
    })
    .prefault({}),
});
export type PolicyDocument = z.infer<typeof policySchema>;

// --- What is known of the fields ------------------------------------------------------------------------------------

export interface PolicyField extends FieldInfo {
  /** Dotted path; names of one's own stand as `<link>`, `<guest>`, … */
  path: string;
}

/** How the keys of an open map are called in paths, by the path of the map. */
const OPEN: Readonly<Record<string, string>> = {
  'sla.links': 'link',
  'overrides.guests': 'guest',
  'overrides.labels': 'key',
  'overrides.labels.<key>': 'value',
  'overrides.tenants': 'tenant',
  'overrides.hosts': 'host',
};

/** Every field of the document, in the order of the schema. */
export const POLICY_FIELDS: readonly PolicyField[] = learn(policySchema, '');

function learn(schema: unknown, path: string): PolicyField[] {
  const info = fields.get(schema as z.ZodType);
  if (info !== undefined) return [{ path, ...info }];
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodPrefault) return learn(schema.unwrap(), path);
  const below = (key: string) => (path === '' ? key : `${path}.${key}`);
  if (schema instanceof z.ZodObject) {
    return Object.entries(schema.shape).flatMap(([key, child]) => learn(child, below(key)));
  }
  if (schema instanceof z.ZodRecord) return learn(schema.valueType, below(`<${OPEN[path]}>`));
  throw new Error(`the policy's field ${path} says neither its unit nor its meaning`);
}

const all = (t: z.infer<typeof techniqueSchema>) => ({ high: t, medium: t, low: t });

/** The document in force when nobody has written one. */
export const DEFAULT_POLICY: PolicyDocument = {
  format: 'policy/1',
  direction: { windowMs: 5000, inShare: 0.6, outShare: 0.4, idleShare: 0.01, hysteresis: 0.05, minConfidence: 0.4 },
  technique: {
    allowed: ['pre-copy', 'post-copy', 'hybrid'],
    allowedOptions: [...COPY_OPTIONS],
    table: {
      'in-in': { guestIn: all('hybrid'), guestOut: all('post-copy') },
      'out-out': { guestIn: all('post-copy'), guestOut: all('post-copy') },
      'in-out': { guestIn: all('post-copy'), guestOut: all('post-copy') },
      'out-in': { guestIn: { high: 'hybrid', medium: 'hybrid', low: 'pre-copy' }, guestOut: all('post-copy') },
    },
    convergenceRatio: 0.8,
    hybridPasses: 2,
    unpaidPasses: 3,
    precopyPasses: 20,
    downtimeLimitMs: 300,
    silenceLimitMs: { high: 30_000, medium: 20_000, low: 12_000 },
    cost: {
      degraded: 0.9,
      noWayBackMs: 500,
      duration: { high: 0.4, medium: 0.2, low: 0.1 },
      harm: { high: 0.1, medium: 0.3, low: 0.5 },
    },
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
    holdSilenceMs: 10_000,
    holdMs: 600_000,
    minStepShare: 0.01,
    minSliceBps: 4_000_000,
    weights: { high: 4, medium: 2, low: 1 },
  },
  workload: { headroom: 0.05, saturatedAt: 0.98 },
  sla: { default: { floor: '50 %', ceiling: '70 %' }, links: {} },
  marks: { high: 10, medium: 12, low: 14 },
  finish: { labelVlans: [3840, 4080], silenceMs: 2000, maxDrainMs: 30_000, recoveryAlarmMs: 60_000 },
  discovery: { probeMs: 2000, silenceMs: 10_000, maxAgeMs: 5000, maxHostsPerPort: 1000, quenchMs: 5000 },
  limits: { perHostOut: 8, perHostIn: 8 },
  planning: {
    minGroup: 5,
    toleranceMs: 3000,
    toleranceShare: 0.2,
    capacityShare: 0.1,
    settleMs: 2000,
    work: 20_000,
  },
  overrides: { guests: {}, labels: {}, tenants: {}, hosts: {} },
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

/** One field that an edit changed, or would have changed: texts as in Redis; null where there is nothing. */
const policyChangeSchema = z.object({ path: z.string(), before: z.string().nullable(), after: z.string().nullable() });
export type PolicyChange = z.infer<typeof policyChangeSchema>;

/**
 * One edit, for the history that is kept of the last of them: `GET /v1/policy/history`, `fairway policy history`, the
 * Redis list `fairway:policy:history` and the file `policy.yaml.history`.
 */
export const policyEditSchema = z.object({
  atMs: z.number(),
  /** Who made it, as they said it themselves; '' when nobody said. */
  author: z.string(),
  /** Where it was made: at the controller's HTTP interface (the command line too), in the file, or in Redis. */
  via: z.enum(['http', 'file', 'redis']),
  state: z.enum(['accepted', 'refused']),
  /** The revision in force after it. */
  revision: z.number().int(),
  /** Why it was refused; empty when accepted. */
  reason: z.string(),
  changes: z.array(policyChangeSchema),
  /** How many more fields it changed than are listed. */
  more: z.number().int(),
});
export type PolicyEdit = z.infer<typeof policyEditSchema>;
