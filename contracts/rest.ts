/**
 * The HTTP interface under `/v1`, with `Authorization: Bearer <token>`; bodies are JSON. Errors are
 * `{ error: { code, message } }` with 400 (bad input), 401, 404, 409 (conflict) or 503 (store away, or
 * this controller stands by).
 *
 * | call | body → answer |
 * |---|---|
 * | `GET /healthz` | → `{ ok: true, version }` (no token); of a pair of controllers also `role` and `term` |
 * | `GET /v1/status` | → StatusView |
 * | `POST /v1/migrations` | MigrateRequest → 202 `{ migrations: [{ id, guest }], group }` |
 * | `GET /v1/migrations/:id` | → MigrationView |
 * | `DELETE /v1/migrations/:id` | → 202 `{ id, note }`: cancel; `note` says what stands against it, or is null |
 * | `DELETE /v1/migrations/:id?forget=true` | → 202 `{ id, note }`: give it up, because the agent that would end it does not come back |
 * | `POST /v1/migrations/:id/pull` | PullRequest → 202 MigrationView: pull the disks that it left behind, or at another rate |
 * | `DELETE /v1/migrations/:id/pull` | → 202 MigrationView: pull no more; what was fetched stays |
 * | `POST /v1/evacuations` | EvacuateRequest → 202 Evacuation (200 with `dryRun`) |
 * | `GET /v1/policy` | → PolicyView |
 * | `PATCH /v1/policy` | `{ "dotted.path": value, … }` → PolicyView, all fields or none |
 * | `GET /v1/policy/history` | → `{ edits: PolicyEdit[] }`, the newest first |
 *
 * Whoever changes the policy may say who they are in the header `fairway-author`; it is kept in the history.
 */
import { z } from 'zod';
import { copyOptionsSchema } from './agent.ts';
import { nameSchema, prioritySchema, strategySchema, techniqueSchema } from './common.ts';
import {
  migrationViewSchema,
  plannedRunSchema,
  policyViewSchema,
  ratesViewSchema,
  refusedSwitchViewSchema,
  slicesViewSchema,
  topologyViewSchema,
} from './feed.ts';
import { policyEditSchema } from './policy.ts';
import { parseRateBps } from './units.ts';

/** ms from the request until the guest is to run at its destination. */
const deadlineMs = z.number().int().min(1).max(31_536_000_000);

export const migrateRequestSchema = z.strictObject({
  /** One or more guests, all to the same or each to its own destination. Several make a group. */
  moves: z
    .array(
      z.strictObject({
        guest: nameSchema,
        destination: nameSchema,
        /** Instead of those of the request. */
        priority: prioritySchema.optional(),
        deadlineMs: deadlineMs.optional(),
      }),
    )
    .min(1)
    .max(10_000),
  priority: prioritySchema.default('medium'),
  /** Overrides of the decision, for experiments. The reason records say they were asked for. */
  technique: techniqueSchema.optional(),
  /** How pages are sent besides; refused when the policy does not allow it, or the hypervisors of a move cannot do it. */
  options: copyOptionsSchema.optional(),
  strategy: strategySchema.optional(),
  /** By when all are to be done. Moves with a deadline are planned, however few they are. */
  deadlineMs: deadlineMs.optional(),
  /** Plan them as a whole also when they are fewer than `planning.minGroup`. */
  planned: z.boolean().optional(),
});
export type MigrateRequest = z.infer<typeof migrateRequestSchema>;

export const pullRequestSchema = z.strictObject({
  /** The most it may take: bit/s of payload, or a text such as `80 Mbit/s`. */
  rate: z
    .union([z.number(), z.string().max(40)])
    .transform((rate) => parseRateBps(rate))
    .refine((bps) => bps !== undefined && bps >= 8000, 'must be a rate of at least 8 kbit/s, such as "80 Mbit/s"')
    .transform((bps) => bps as number),
});
export type PullRequest = z.output<typeof pullRequestSchema>;

export const evacuateRequestSchema = z.strictObject({
  /** The host to empty. */
  host: nameSchema,
  /** Of all its guests; default: each one's label `priority`, else medium. */
  priority: prioritySchema.optional(),
  /** Of single guests, before all else. */
  priorities: z.record(nameSchema, prioritySchema).default({}),
  deadlineMs: deadlineMs.optional(),
  deadlines: z.record(nameSchema, deadlineMs).default({}),
  /** Hosts that take no guests. */
  exclude: z.array(nameSchema).max(10_000).default([]),
  /** Only say what would be done. */
  dryRun: z.boolean().default(false),
});
export type EvacuateRequest = z.infer<typeof evacuateRequestSchema>;

/** Where the guests of a host go and when, and which stay and why. Times are of the controller's clock. */
export const evacuationSchema = z.object({
  host: z.string(),
  atMs: z.number(),
  /** Null when nothing was started. */
  group: z.string().nullable(),
  moves: z.array(
    z.object({
      guest: z.string(),
      /** Not the host that is emptied where another guest makes room. */
      from: z.string(),
      destination: z.string(),
      priority: prioritySchema,
      deadlineMs: z.number().nullable(),
      /** Why this destination. */
      reason: z.string(),
      /** Null when nothing was started. */
      migration: z.string().nullable(),
      plan: plannedRunSchema,
    }),
  ),
  /** Guests that cannot be placed, and what stands against it. */
  refused: z.array(z.object({ guest: z.string(), reason: z.string() })),
  /** Guests that are on their way already, with their migrations. */
  moving: z.array(z.object({ guest: z.string(), migration: z.string(), destination: z.string() })),
  endsAtMs: z.number(),
  /** No plan for these moves would end before. */
  boundAtMs: z.number(),
});
export type Evacuation = z.infer<typeof evacuationSchema>;

export const policyPatchSchema = z.record(
  z.string().min(1).max(400),
  z.union([z.string().max(100_000), z.number(), z.boolean(), z.null()]),
);
export type PolicyPatch = z.infer<typeof policyPatchSchema>;

export const AUTHOR_HEADER = 'fairway-author';

export const policyHistorySchema = z.object({ edits: z.array(policyEditSchema) });
export type PolicyHistory = z.infer<typeof policyHistorySchema>;

export const migrateAnswerSchema = z.object({
  migrations: z.array(z.object({ id: z.string(), guest: z.string() })),
  group: z.string().nullable(),
});
export type MigrateAnswer = z.infer<typeof migrateAnswerSchema>;

/** `note`: what somebody who cancels should know, such as that the agent which would do it is away. */
export const cancelAnswerSchema = z.object({ id: z.string().optional(), note: z.string().nullable().default(null) });

/** A switch's connection. `roundTripMs` is smoothed, and null before the first echo came back. */
export const sessionViewSchema = z.object({
  dpid: z.string(),
  remote: z.string(),
  /** Version agreed on, such as `1.3`. */
  openflow: z.string(),
  tls: z.boolean(),
  roundTripMs: z.number().nullable(),
  /** Writes of several messages go as a whole (OpenFlow's bundles), or `why` not. How many were carried out, and refused. */
  bundles: z.object({ used: z.boolean(), why: z.string(), committed: z.number(), refused: z.number() }).optional(),
  /** Packet-ins the controller looked at, and those over the limits of their port or switch. */
  packetIns: z.object({ passed: z.number(), dropped: z.number() }),
});
export type SessionView = z.infer<typeof sessionViewSchema>;

export const statusViewSchema = z.object({
  version: z.string(),
  upSinceMs: z.number(),
  topology: topologyViewSchema,
  rates: ratesViewSchema,
  slices: slicesViewSchema,
  migrations: z.array(migrationViewSchema),
  policy: policyViewSchema,
  sessions: z.array(sessionViewSchema).optional(),
  /** In the last two minutes, the latest first. */
  refusedSwitches: z.array(refusedSwitchViewSchema).optional(),
  /** Where there are two controllers: how this one stands, in which term, and the address of the other. */
  pair: z.object({ role: z.enum(['primary', 'standby']), term: z.string(), peer: z.string() }).optional(),
});
export type StatusView = z.infer<typeof statusViewSchema>;
