/**
 * The telemetry feed: JSON texts over a WebSocket at `GET /feed?topics=a,b` (all topics when absent) with
 * `Authorization: Bearer <token>` or `?token=`. First one `snapshot` per topic, then `change` envelopes; `seq` grows by
 * one per envelope and topic-independent, so that a reader sees a gap. A reader too slow for the changes is sent fresh
 * snapshots instead of what it missed (`resync: true`). `docs/feed.md` describes it for readers outside.
 */
import { z } from 'zod';
import { copyOptionsSchema, guestTelemetrySchema, hostTelemetrySchema } from './agent.ts';
import {
  contentionSchema,
  directionSchema,
  enforcementSchema,
  jobStateSchema,
  labelsSchema,
  prioritySchema,
  reasonSchema,
  strategySchema,
  techniqueSchema,
} from './common.ts';
import { policySchema, policyStatusSchema } from './policy.ts';

export const FEED_VERSION = 1;
export const topicSchema = z.enum(['topology', 'rates', 'slices', 'migrations', 'decisions', 'policy']);
export type Topic = z.infer<typeof topicSchema>;
export const TOPICS: readonly Topic[] = topicSchema.options;

const portRef = z.object({ dpid: z.string(), portNo: z.number() });

/**
 * What says how much a port or a link can carry, as docs/configuration.md explains: the configuration; in the switch's OVSDB the
 * operator (`external-ids`), the link's speed, somebody's QoS or ingress policing; the switch's description of the port; the default.
 */
export const capacitySourceSchema = z.enum([
  'configuration',
  'external-ids',
  'link-speed',
  'port-description',
  'default',
  'qos',
  'policing',
]);

/** Somebody who wanted to be served as a switch lately and was not: `why` names the cause and the cure. */
export const refusedSwitchViewSchema = z.object({
  /** Address it came from. */
  from: z.string(),
  /** As which datapath, where it came so far as to say that. */
  dpid: z.string().nullable(),
  why: z.string(),
  times: z.number(),
  sinceMs: z.number(),
  lastMs: z.number(),
});
export type RefusedSwitchView = z.infer<typeof refusedSwitchViewSchema>;

/** `topology`: the whole network view; sent whole on every change (changes are rare). */
export const topologyViewSchema = z.object({
  switches: z.array(
    z.object({
      dpid: z.string(),
      name: z.string(),
      connected: z.boolean(),
      ports: z.array(
        z.object({
          portNo: z.number(),
          name: z.string(),
          isUp: z.boolean(),
          capacityBps: z.number(),
          capacityFrom: capacitySourceSchema.optional(),
          /** Where somebody limits what leaves (`qos`) or enters (`policing`) to less than the capacity. */
          maxOutBps: z.number().optional(),
          maxInBps: z.number().optional(),
          /** It sent more packet-ins than it may, and none go to the controller for a while; docs/operations.md. */
          quenched: z
            .array(
              z.object({
                /** Frames of unknown senders, or LLDP frames. */
                what: z.enum(['senders', 'lldp']),
                sinceMs: z.number(),
                /** At the latest (controller's clock). */
                untilMs: z.number(),
                /** How often in a row: each time for twice as long. */
                times: z.number(),
                /** Packet-ins a second beyond its limit when that was decided. */
                overPerS: z.number(),
              }),
            )
            .optional(),
        }),
      ),
    }),
  ),
  links: z.array(
    z.object({
      id: z.string(),
      from: portRef,
      to: portRef,
      capacityBps: z.number(),
      /** What says so, and at which of its two ports (`dpid:port`). */
      capacityFrom: capacitySourceSchema.optional(),
      capacityAt: z.string().optional(),
    }),
  ),
  locations: z.array(
    z.object({
      mac: z.string(),
      ip: z.string().nullable(),
      name: z.string().nullable(),
      kind: z.enum(['guest', 'host', 'unknown']),
      at: portRef,
    }),
  ),
  /** Guests that agents report, with the labels that policies go by. */
  guests: z.array(z.object({ name: z.string(), host: z.string(), labels: labelsSchema })).optional(),
  /** Probes of link discovery that were not believed, by the port they came in at and why; counted since the start. */
  refusedProbes: z
    .array(
      z.object({
        at: portRef,
        /** In the shape of ours, without a signature. */
        unsigned: z.number(),
        /** With a signature that is not ours. */
        forged: z.number(),
        /** Signed, but sent longer ago than `discovery.maxAgeMs`. */
        stale: z.number(),
        /** Signed, and not newer than one that had come of the same link. */
        replayed: z.number(),
        /** Signed, and sent or received at a port where a guest or host is attached. */
        edge: z.number(),
      }),
    )
    .default([]),
  /**
   * Who wanted to be served as a switch in the last two minutes and was not, the latest first; absent where there is nobody. Sent when
   * somebody joins or leaves the list; `times` and `lastMs` are of that moment.
   */
  refusedSwitches: z.array(refusedSwitchViewSchema).optional(),
  /** Addresses that turned up elsewhere without a migration, since the start. */
  hostMoves: z
    .array(
      z.object({
        mac: z.string(),
        /** The last sighting elsewhere: from where, and where. */
        from: portRef,
        to: portRef,
        /** Times it was believed, and sightings that were not because the address went to and fro. */
        moves: z.number(),
        refused: z.number(),
        /** Until then (controller's clock, ms) it is left where it is; 0 when it is not. */
        heldUntilMs: z.number(),
      }),
    )
    .optional(),
  /**
   * Guests that keep their address away from home, in a fabric that only an IP network joins with theirs: the datapath at which
   * their tunnel begins, where they are, and since when. `isAway` is false on the way home.
   */
  away: z
    .array(
      z.object({
        guest: z.string(),
        home: z.string(),
        host: z.string(),
        at: portRef,
        isAway: z.boolean(),
        sinceMs: z.number(),
        /** How its tunnel stands while it is away, as probes through it and the switches tell. */
        tunnel: z
          .object({
            /** unknown: a switch at an end of it is not connected, and may go on forwarding. */
            state: z.enum(['works', 'broken', 'unknown']),
            sinceMs: z.number(),
            /** Cause and, where somebody can do something, cure. */
            why: z.string().nullable(),
            /** While another switch than `home` is looked for: which is tried; null: there is none at present. */
            instead: z.string().nullable().optional(),
          })
          .optional(),
      }),
    )
    .optional(),
  agents: z.array(
    z.object({ host: z.string(), connected: z.boolean(), dpid: z.string().nullable(), driver: z.string() }),
  ),
});
export type TopologyView = z.infer<typeof topologyViewSchema>;

/** `rates`: one entry per directed link and per guest; workload excludes migration streams. */
export const ratesViewSchema = z.object({
  links: z.array(
    z.object({
      id: z.string(),
      capacityBps: z.number(),
      workloadBps: z.number(),
      migrationBps: z.number(),
      floorBps: z.number(),
      ceilingBps: z.number(),
    }),
  ),
  guests: z.array(
    z.object({
      guest: z.string(),
      inBps: z.number(),
      outBps: z.number(),
      direction: directionSchema,
      /** As its host's agent last said; see guestTelemetrySchema. */
      telemetry: guestTelemetrySchema.omit({ guest: true }).optional(),
    }),
  ),
  hosts: z.array(
    z.object({
      host: z.string(),
      inBps: z.number(),
      outBps: z.number(),
      direction: directionSchema,
      /** As its agent last said; see hostTelemetrySchema. */
      telemetry: hostTelemetrySchema.optional(),
    }),
  ),
});
export type RatesView = z.infer<typeof ratesViewSchema>;

/** `slices`: what is reserved now on each link. */
export const slicesViewSchema = z.object({
  links: z.array(
    z.object({
      id: z.string(),
      capacityBps: z.number(),
      workloadBps: z.number(),
      enforcement: enforcementSchema,
      slices: z.array(
        z.object({
          migration: z.string(),
          priority: prioritySchema,
          rateBps: z.number(),
          /** For the pull of disks that the migration left behind, after its copy. */
          isPull: z.boolean().optional(),
        }),
      ),
    }),
  ),
});
export type SlicesView = z.infer<typeof slicesViewSchema>;

/** One step of a migration's slice: when it changed, to what and why. */
export const sliceStepSchema = z.object({ atMs: z.number(), rateBps: z.number(), reason: reasonSchema });

/** A time between events on two hosts, whose clocks are known to each other only within bounds. */
export const seenDowntimeSchema = z.object({ atLeastMs: z.number(), atMostMs: z.number() });
export type SeenDowntime = z.infer<typeof seenDowntimeSchema>;

/** When the plan of its group has a migration run. Made anew when reality drifts from it. */
export const plannedRunSchema = z.object({
  startAtMs: z.number(),
  endAtMs: z.number(),
  /** Mean of what is reserved for it from start to end, bit/s. */
  rateBps: z.number(),
  /** Ids of migrations whose end it waits for. */
  after: z.array(z.string()),
  reason: reasonSchema,
  /** By how much it is going to miss its deadline, ms; 0 when it is not. */
  lateMs: z.number(),
});
export type PlannedRun = z.infer<typeof plannedRunSchema>;

/** Why a migration is as it is, what would change it, and when it will be done. All of one moment, `atMs`. */
export const explanationSchema = z.object({
  atMs: z.number(),
  /** For people, one sentence. */
  summary: z.string(),
  /** Why it waits, and the ids of the migrations it waits for; null when it does not. */
  waits: z.object({ reason: reasonSchema, behind: z.array(z.string()) }).nullable(),
  /**
   * What it is at where it does not wait in the queue: what it waits for from agents or switches, or whose agent is away. Null where its
   * state says all; absent from a controller of before.
   */
  now: reasonSchema.nullable().optional(),
  /** The link that limits it. */
  binding: z
    .object({
      link: z.string(),
      capacityBps: z.number(),
      capacityFrom: capacitySourceSchema.optional(),
      workloadBps: z.number(),
      floorBps: z.number(),
      ceilingBps: z.number(),
      /** All slices on it together, and whose they are. */
      slicesBps: z.number(),
      migrations: z.array(z.string()),
    })
    .nullable(),
  technique: z.object({ value: techniqueSchema, reasons: z.array(reasonSchema) }).nullable(),
  strategy: z.object({ value: strategySchema, reasons: z.array(reasonSchema) }).nullable(),
  /** The slice it has and why it is not more; of one that has ended, the last. */
  rate: z.object({ bps: z.number(), reason: reasonSchema }).nullable(),
  /**
   * When the guest will run at its destination with all its memory. `basis`: what it is worked out from: the progress of
   * the copy, the cost model, the plan, or the ends of those it waits behind. `latestAtMs` null: it may take for ever.
   */
  end: z
    .object({
      expectedAtMs: z.number(),
      earliestAtMs: z.number(),
      latestAtMs: z.number().nullable(),
      basis: z.enum(['progress', 'model', 'plan', 'behind']),
    })
    .nullable(),
  /** What would change it; `rateBps` is what it would have then, where that can be said. */
  changes: z.array(z.object({ rule: z.string(), text: z.string(), rateBps: z.number().nullable() })),
});
export type Explanation = z.infer<typeof explanationSchema>;

/** The background pull of disks that stayed at the source (storage `on-demand`). */
export const pullViewSchema = z.object({
  /** waiting: for the copy's end or its slice; away: the destination's agent is, and nothing is reserved meanwhile. */
  state: z.enum(['waiting', 'running', 'stopping', 'away', 'stopped', 'failed', 'done']),
  /** Most that it may take, as asked for; what is reserved for it; the rate that the destination was told, null while none. bit/s. */
  rateBps: z.number(),
  sliceBps: z.number(),
  pacedBps: z.number().nullable(),
  /** How much of the disks it is through, and of how much; 0 of 0 while not known. */
  doneBytes: z.number(),
  totalBytes: z.number(),
  /** Came over the network, also for reads of the guest. */
  fetchedBytes: z.number(),
  askedAtMs: z.number(),
  endedAtMs: z.number().nullable(),
  /** Why it waits or stands still, or ended before all was there. */
  note: z.string().nullable(),
  /** Of its slice. */
  reason: reasonSchema.nullable(),
});
export type PullView = z.infer<typeof pullViewSchema>;

export const migrationViewSchema = z.object({
  id: z.string(),
  guest: z.string(),
  priority: prioritySchema,
  group: z.string().nullable(),
  from: z.string(),
  to: z.string(),
  state: jobStateSchema,
  technique: techniqueSchema.nullable(),
  /** What was asked for beside the technique; absent when nothing was. */
  options: copyOptionsSchema.optional(),
  strategy: strategySchema.nullable(),
  contention: contentionSchema.nullable(),
  enforcement: enforcementSchema.nullable(),
  path: z.array(z.string()),
  sliceBps: z.number(),
  /** 0…1; an estimate while the copy runs. */
  progressShare: z.number(),
  transferredBytes: z.number(),
  remainingBytes: z.number(),
  passes: z.number(),
  /** Storage `mirrored`: what of the disks was copied, beside the bytes of memory above; absent without a mirror. */
  disk: z.object({ transferredBytes: z.number(), remainingBytes: z.number(), totalBytes: z.number() }).optional(),
  /** Storage `on-demand`: absent while nobody has asked for it. */
  pull: pullViewSchema.optional(),
  /** As the hypervisor says. */
  downtimeMs: z.number().nullable(),
  /** From the stop at the source to the resume at the destination, by the agents' clocks; absent until both are known. */
  seenDowntime: seenDowntimeSchema.optional(),
  requestedAtMs: z.number(),
  startedAtMs: z.number().nullable(),
  endedAtMs: z.number().nullable(),
  /** From the start of the copy to its end, ms, as the controller saw it. */
  totalMs: z.number().nullable(),
  /** Why it waits, when queued; why it ended, when failed, cancelled or lost. */
  note: z.string().nullable(),
  /** By when it is to be done, where somebody said so. */
  deadlineAtMs: z.number().nullable().optional(),
  /** Present while it belongs to a plan. */
  plan: plannedRunSchema.nullable().optional(),
  /** Left out where very many migrations change at a time; `GET /v1/migrations/:id` always has it. */
  explanation: explanationSchema.optional(),
  reasons: z.array(reasonSchema),
  sliceSteps: z.array(sliceStepSchema),
  transitions: z.array(z.object({ state: jobStateSchema, atMs: z.number() })),
});
export type MigrationView = z.infer<typeof migrationViewSchema>;

/** `migrations`: snapshot is all of them; a change is one. */
export const migrationsViewSchema = z.object({ migrations: z.array(migrationViewSchema) });

/** `decisions`: every reason as it is made; the snapshot holds the last 200. */
export const decisionSchema = z.object({
  atMs: z.number(),
  migration: z.string().nullable(),
  kind: z.enum([
    'direction',
    'technique',
    'strategy',
    'reservation',
    'admission',
    'planning',
    'reroute',
    'recovery',
    'pull',
    'finish',
    'quench',
    'policy',
  ]),
  reason: reasonSchema,
});
export type Decision = z.infer<typeof decisionSchema>;
export const decisionsViewSchema = z.object({ decisions: z.array(decisionSchema) });

export const policyViewSchema = z.object({ policy: policySchema, status: policyStatusSchema, store: z.string() });
export type PolicyView = z.infer<typeof policyViewSchema>;

/** What each topic carries; snapshot and change have the same shape (for migrations and decisions a change holds only the new ones). */
export interface TopicData {
  topology: TopologyView;
  rates: RatesView;
  slices: SlicesView;
  migrations: z.infer<typeof migrationsViewSchema>;
  decisions: z.infer<typeof decisionsViewSchema>;
  policy: PolicyView;
}

const head = { v: z.literal(FEED_VERSION), seq: z.number().int(), atMs: z.number() };
const body = <T extends Topic, S extends z.ZodType>(topic: T, data: S) =>
  z.object({
    ...head,
    kind: z.enum(['snapshot', 'change']),
    topic: z.literal(topic),
    resync: z.boolean().optional(),
    data,
  });

export const feedEnvelopeSchema = z.union([
  z.object({ ...head, kind: z.literal('heartbeat') }),
  body('topology', topologyViewSchema),
  body('rates', ratesViewSchema),
  body('slices', slicesViewSchema),
  body('migrations', migrationsViewSchema),
  body('decisions', decisionsViewSchema),
  body('policy', policyViewSchema),
]);
export type FeedEnvelope = z.infer<typeof feedEnvelopeSchema>;
