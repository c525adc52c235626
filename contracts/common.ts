/**
 * Words every process border shares: priorities, techniques, directions, reasons, job states and the one error type.
 * Neighbours: `agent.ts`, `feed.ts`, `rest.ts`, `policy.ts`, `config.ts` build their schemas from these.
 */
import { z } from 'zod';

/** Migration priority: how urgently a guest must move (paper 002, "priority level"). */
export const prioritySchema = z.enum(['high', 'medium', 'low']);
export type Priority = z.infer<typeof prioritySchema>;
/** Most urgent first; index 0 is served first. */
export const PRIORITIES: readonly Priority[] = prioritySchema.options;

/**
 * Copy technique. `hybrid` is pre-copy for some passes, then post-copy; `stop-and-copy` stops the guest first and sends
 * every page once. How pages are sent besides (compressed, with the guest slowed down, …) is a matter of CopyOptions.
 */
export const techniqueSchema = z.enum(['pre-copy', 'post-copy', 'hybrid', 'stop-and-copy']);
export type Technique = z.infer<typeof techniqueSchema>;
export const TECHNIQUES: readonly Technique[] = techniqueSchema.options;

/** Options of a copy beside its technique, by name: what a policy allows. `zlib` and `zstd` are multifd with that compression. */
export const copyOptionSchema = z.enum(['auto-converge', 'xbzrle', 'multifd', 'zlib', 'zstd']);
export type CopyOption = z.infer<typeof copyOptionSchema>;
export const COPY_OPTIONS: readonly CopyOption[] = copyOptionSchema.options;

/** How a migration runs beside the others of its group or of its links. */
export const strategySchema = z.enum(['serial', 'parallel']);
export type Strategy = z.infer<typeof strategySchema>;

/** Which way workload traffic predominantly flows, seen from the guest or host. */
export const directionSchema = z.enum(['in', 'out', 'mixed', 'idle']);
export type Direction = z.infer<typeof directionSchema>;

export const contentionSchema = z.enum(['low', 'moderate', 'high']);
export type Contention = z.infer<typeof contentionSchema>;

/** Life of a migration job. The last three are final. */
export const jobStateSchema = z.enum([
  'requested',
  'queued',
  'admitted',
  'preparing',
  'copying',
  'switching',
  'recovering',
  'draining',
  'done',
  'failed',
  'cancelled',
  'lost',
]);
export type JobState = z.infer<typeof jobStateSchema>;
/** `lost`: given up while the agent that would tell of its end was away. */
const FINAL: readonly JobState[] = ['done', 'failed', 'cancelled', 'lost'];
export const isFinal = (s: JobState): boolean => FINAL.includes(s);

/** How a slice is held on a link: by queues, by a meter as guard, or only by the pace at the source. */
export const enforcementSchema = z.enum(['queue', 'meter', 'pace']);
export type Enforcement = z.infer<typeof enforcementSchema>;

/**
 * Why something was decided. The same record is in the log, the feed, the CLI and the tests.
 * `rule` is a stable dotted name that code and tests may branch on; `text` is for people; `inputs` are the figures used
 * (with the unit in each name); `bindingLink` is the link that limited the result, where there is one.
 */
export const reasonSchema = z.object({
  rule: z.string(),
  text: z.string(),
  inputs: z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()])),
  bindingLink: z.string().optional(),
});
export type Reason = z.infer<typeof reasonSchema>;

/** Ethernet address, lower case, colon separated. */
export const macSchema = z
  .string()
  .regex(/^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$/, 'must be a MAC address such as 52:54:00:12:34:56')
  .transform((s) => s.toLowerCase());
/** Datapath id: 16 lower-case hexadecimal digits. */
export const dpidSchema = z
  .string()
  .regex(/^[0-9a-f]{16}$/, 'must be a datapath id of 16 lower-case hexadecimal digits');
/** Names that may become file names, interface names or Redis keys. */
export const nameSchema = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/, 'must be 1-63 letters, digits, _ . -');

/** Keys and values of a guest's labels; no dots, so that they can be parts of a dotted path. */
export const labelSchema = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/, 'must be 1-63 letters, digits, _ -');
/** A guest's labels, such as `{ tier: 'gold', tenant: 'acme' }`; `tenant` says whose guest it is. */
export const labelsSchema = z.record(labelSchema, labelSchema);
export type Labels = Readonly<Record<string, string>>;

/** Labels that code may branch on; the text of an error is for people only. */
export type ErrorLabel = 'retryable' | 'outcomeUnknown' | 'badInput' | 'notFound' | 'conflict' | 'unauthorized';

/** The one error type that crosses rooms. `code` is stable; `message` names the cause and, where there is one, the cure. */
export class FairwayError extends Error {
  readonly code: string;
  readonly labels: readonly ErrorLabel[];
  constructor(code: string, message: string, labels: readonly ErrorLabel[] = [], cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'FairwayError';
    this.code = code;
    this.labels = labels;
  }
  has(label: ErrorLabel): boolean {
    return this.labels.includes(label);
  }
}

/** First problem of a failed parse as `key.path: what is wrong`; several are joined by `; `. */
export function describeIssues(error: z.ZodError): string {
  return error.issues
    .slice(0, 5)
    .map((i) => `${i.path.length > 0 ? i.path.join('.') : '(document)'}: ${i.message}`)
    .join('; ');
}
