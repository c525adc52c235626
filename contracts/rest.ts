/**
 * The HTTP interface under `/v1`, with `Authorization: Bearer <token>`; bodies are JSON. Errors are
 * `{ error: { code, message } }` with 400 (bad input), 401, 404, 409 (conflict) or 503 (store away).
 *
 * | call | body → answer |
 * |---|---|
 * | `GET /healthz` | → `{ ok: true, version }` (no token) |
 * | `GET /v1/status` | → StatusView |
 * | `POST /v1/migrations` | MigrateRequest → 202 `{ migrations: [{ id, guest }], group }` |
 * | `GET /v1/migrations/:id` | → MigrationView |
 * | `DELETE /v1/migrations/:id` | → 202 `{ id }` (cancel) |
 * | `GET /v1/policy` | → PolicyView |
 * | `PATCH /v1/policy` | `{ "dotted.path": value, … }` → PolicyView, all fields or none |
 */
import { z } from 'zod';
import { nameSchema, prioritySchema, strategySchema, techniqueSchema } from './common.ts';
import type { MigrationView, PolicyView, RatesView, SlicesView, TopologyView } from './feed.ts';

export const migrateRequestSchema = z.strictObject({
  /** One or more guests, all to the same or each to its own destination. Several make a group. */
  moves: z
    .array(z.strictObject({ guest: nameSchema, destination: nameSchema }))
    .min(1)
    .max(10_000),
  priority: prioritySchema.default('medium'),
  /** Overrides of the decision, for experiments. The reason records say they were asked for. */
  technique: techniqueSchema.optional(),
  strategy: strategySchema.optional(),
});
export type MigrateRequest = z.infer<typeof migrateRequestSchema>;

export const policyPatchSchema = z.record(
  z.string().min(1).max(200),
  z.union([z.string().max(1000), z.number(), z.boolean(), z.null()]),
);
export type PolicyPatch = z.infer<typeof policyPatchSchema>;

export interface MigrateAnswer {
  migrations: { id: string; guest: string }[];
  group: string | null;
}

export interface StatusView {
  version: string;
  upSinceMs: number;
  topology: TopologyView;
  rates: RatesView;
  slices: SlicesView;
  migrations: MigrationView[];
  policy: PolicyView;
}
