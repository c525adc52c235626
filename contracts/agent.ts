/**
 * What host agents and the controller say to each other: JSON texts over one WebSocket, opened by the agent at
 * `GET /agent` with `Authorization: Bearer <token>`. The agent owns the copy; the controller decides how.
 * `agent/` sends AgentMessage and obeys AgentCommand; `controller/io/agents.ts` is the other end.
 */
import { z } from 'zod';
import { labelsSchema, macSchema, nameSchema, techniqueSchema } from './common.ts';
import { termTextSchema } from './terms.ts';

export const AGENT_PROTOCOL = 'fairway-agent/1';

const finite = z.number().nonnegative();

/** A guest's disk: a file on its host. */
export const diskSchema = z.strictObject({
  /** Absolute; on a host it comes to by copying, the file goes to that agent's `diskFolder` under the same name. */
  path: z.string().min(1).max(1000),
  sizeBytes: z.number().int().min(512).multipleOf(512),
  format: z.enum(['raw', 'qcow2']).default('raw'),
});
export type Disk = z.infer<typeof diskSchema>;

/**
 * What becomes of a guest's disks when it moves. `shared`: both hosts have the same files, nothing is copied. `mirrored`: copied
 * to the destination while the guest writes, and switched with it. `on-demand`: they stay; the destination reads over the
 * network what it wants when it wants it, and keeps what is written.
 */
export const storageModeSchema = z.enum(['shared', 'mirrored', 'on-demand']);
export type StorageMode = z.infer<typeof storageModeSchema>;

/** How to start a guest, enough to start an identical machine at the destination (`-incoming defer`). */
export const guestSpecSchema = z.object({
  name: nameSchema,
  mac: macSchema,
  memoryMiB: z.number().int().min(16).max(16_777_216),
  vcpus: z.number().int().min(1).max(1024).default(1),
  machine: z.string().default('pc'),
  /** tcg, kvm, or emulated (no QEMU process). */
  accel: z.enum(['tcg', 'kvm', 'emulated']).default('tcg'),
  kernel: z.string().optional(),
  initrd: z.string().optional(),
  append: z.string().optional(),
  /** In the order in which the guest sees them. Of libvirt's guests: those that are files, and neither shared nor read-only. */
  disks: z.array(diskSchema).max(8).optional(),
  ip: z.string().optional(),
  /** What the policy's `overrides` go by; they move with the guest. The label `tenant` says whose guest it is. */
  labels: labelsSchema.optional(),
  /** Emulated guests only: how they dirty memory. */
  dirtyPagesPerS: finite.optional(),
  workingSetMiB: finite.optional(),
  /** Emulated guests only: what compression leaves of a page, and what XBZRLE leaves of one sent again. Default 1: nothing gained. */
  compressedShare: z.number().min(0).max(1).optional(),
  deltaShare: z.number().min(0).max(1).optional(),
});
export type GuestSpec = z.infer<typeof guestSpecSchema>;

export const guestInfoSchema = z.object({
  spec: guestSpecSchema,
  state: z.enum(['running', 'paused', 'incoming', 'stopped']),
  /** Name of the switch port the guest's network card is attached to. */
  portName: z.string(),
});
export type GuestInfo = z.infer<typeof guestInfoSchema>;

/** Transport 5-tuple of a migration stream, as sent by the source host. Ports may be 0 for "any". */
export const streamSchema = z.object({
  sourceIp: z.string(),
  destinationIp: z.string(),
  sourcePort: z.number().int().min(0).max(65535),
  destinationPort: z.number().int().min(0).max(65535),
});
export type Stream = z.infer<typeof streamSchema>;

/** What multifd may compress pages with; `none` only spreads them over several connections. */
export const multifdCompressionSchema = z.enum(['none', 'zlib', 'zstd']);
export type MultifdCompression = z.infer<typeof multifdCompressionSchema>;

/** How pages are sent, beside the technique. Both ends need the same. */
export const copyOptionsSchema = z.strictObject({
  /** Slow the guest's processors down, more with each pass that does not pay. */
  autoConverge: z.boolean().optional(),
  /** Send only what changed of a page that was sent before (XBZRLE). */
  xbzrle: z.boolean().optional(),
  /** Memory for the pages sent before that XBZRLE compares with, MiB; a power of two. */
  xbzrleCacheMiB: z
    .number()
    .int()
    .min(1)
    .max(65_536)
    .refine((n) => (n & (n - 1)) === 0, 'must be a power of two')
    .optional(),
  /** Several connections, each with its own thread, and maybe compression. */
  multifd: z
    .strictObject({ channels: z.number().int().min(1).max(255), compression: multifdCompressionSchema })
    .optional(),
  /** Must be said for a guest that has disks, and only for such a guest. */
  storage: storageModeSchema.optional(),
  /** Storage `on-demand`: fetch the rest in the background at this rate, bit/s. Without it the rest stays where it is. */
  pullBps: z.number().min(8000).optional(),
});
export type CopyOptions = z.infer<typeof copyOptionsSchema>;

/** What a host's hypervisor can do, as found by asking it. */
export const abilitiesSchema = z.object({
  /** Name and version, e.g. "QEMU 10.0.2". */
  hypervisor: z.string(),
  techniques: z.array(techniqueSchema),
  autoConverge: z.boolean(),
  xbzrle: z.boolean(),
  /** Compressions that multifd can do; empty when there is no multifd. */
  multifd: z.array(multifdCompressionSchema),
  /** multifd together with post-copy (QEMU 10.1). */
  multifdPostcopy: z.boolean(),
  /**
   * What `pauseBeforeSwitchover` means here: `stopped`: the guest stands still until it is told to continue; `held`: it
   * goes on running and the copy does not switch over while it writes memory; a quiet guest may slip through; `none`.
   */
  holdsSwitchover: z.enum(['stopped', 'held', 'none']),
  /** What can become of disks here; absent: nothing may be said of them. */
  storage: z.array(storageModeSchema).optional(),
  /** Of modes that cannot be had here: why not, and what to do about it. */
  storageRefusals: z.partialRecord(storageModeSchema, z.string()).optional(),
});
export type Abilities = z.infer<typeof abilitiesSchema>;

export const copyProgressSchema = z.object({
  phase: z.enum(['setup', 'pre-copy', 'post-copy', 'switchover', 'completed', 'failed', 'cancelled']),
  elapsedMs: finite,
  transferredBytes: finite,
  remainingBytes: finite,
  totalBytes: finite,
  passes: z.number().int().nonnegative(),
  rateBps: finite,
  dirtyBytesPerS: finite,
  /** As the hypervisor says; what a client sees is longer. */
  downtimeMs: finite.optional(),
  /** Auto-converge: by how much the guest's processors are held back, 0 to 1. */
  throttleShare: z.number().min(0).max(1).optional(),
  /** Storage `mirrored`: what the mirror has copied of the disks, zeros among it; the total grows as the guest writes. */
  disk: z.object({ transferredBytes: finite, remainingBytes: finite, totalBytes: finite }).optional(),
});
export type CopyProgress = z.infer<typeof copyProgressSchema>;

/** Rates of a network device, bit/s; `rx` is what comes in to the host, or for a guest to the guest. */
const trafficSchema = { rxBps: finite, txBps: finite };

/** How busy a host is. What did not change since the last message is absent. */
export const hostTelemetrySchema = z.object({
  /** Share of all processors' time that was not idle. */
  cpuShare: z.number().min(0).max(1).optional(),
  memoryUsedBytes: finite.optional(),
  memoryTotalBytes: finite.optional(),
  /** The device that carries migrations, when the agent knows it. */
  nic: z.object({ name: z.string(), ...trafficSchema }).optional(),
});
export type HostTelemetry = z.infer<typeof hostTelemetrySchema>;

/** What a guest does, as its host sees it. What did not change since the last message is absent. */
export const guestTelemetrySchema = z.object({
  guest: nameSchema,
  /** Bytes of distinct pages that changed per second, over the shortest window sampled. */
  dirtyBytesPerS: finite.optional(),
  /** Writable working set: what can be dirty at a time, by the estimator of docs/agent.md; null: no bound was seen. */
  workingSetBytes: finite.nullable().optional(),
  /** Of its memory, what is not zero, from a sample of its pages. */
  nonZeroBytes: finite.optional(),
  /** Of the processors it has. */
  cpuShare: z.number().min(0).max(1).optional(),
  nic: z.object(trafficSchema).optional(),
});
export type GuestTelemetry = z.infer<typeof guestTelemetrySchema>;

const hello = z.object({
  type: z.literal('hello'),
  protocol: z.literal(AGENT_PROTOCOL),
  /** Host name; unique among agents. An agent speaks only for this host. */
  host: nameSchema,
  /** The newest term of a pair of controllers that this agent knows of: it obeys nobody of an older one. */
  term: termTextSchema.optional(),
  /** Address that migration streams come from and go to; absent on a host that only has a switch. */
  migrationIp: z.string().optional(),
  /** Datapath the guests are attached to, and the port of it that carries `migrationIp`. */
  dpid: z.string().optional(),
  migrationPort: z.string().optional(),
  driver: z.enum(['qmp', 'libvirt', 'emulated', 'none']),
  /** Most migrations at a time that this agent sends and takes; one more is refused as `host-busy`. Absent: any number. */
  limits: z
    .object({ outgoing: z.number().int().min(1).optional(), incoming: z.number().int().min(1).optional() })
    .optional(),
  techniques: z.array(techniqueSchema),
  abilities: abilitiesSchema.optional(),
  guests: z.array(guestInfoSchema),
  /** Memory that guests may have on this host together, MiB: as configured, else as found. Absent: as much as they like. */
  guestMemoryMiB: z.number().int().positive().optional(),
  /** What rules of placement go by (`only-on`, `never-on`). */
  hostLabels: labelsSchema.optional(),
  /** Migrations this agent is a part of, so that a restarted controller can go on with them. */
  migrations: z.array(
    z.object({
      migration: z.string(),
      guest: z.string(),
      role: z.enum(['source', 'destination']),
      progress: copyProgressSchema.optional(),
    }),
  ),
});

export const agentMessageSchema = z.discriminatedUnion('type', [
  hello,
  z.object({ type: z.literal('guests'), guests: z.array(guestInfoSchema) }),
  /** At most one each period, and only what changed; all of it after `welcome`. */
  z.object({
    type: z.literal('telemetry'),
    host: hostTelemetrySchema.optional(),
    guests: z.array(guestTelemetrySchema).optional(),
  }),
  /** Source: periodic while copying, only when something changed. */
  z.object({ type: z.literal('progress'), migration: z.string(), progress: copyProgressSchema }),
  /**
   * stream: the copy's connection is known (sent by the source); preSwitchover: the source guest is stopped and waits
   * for `continueSwitchover`; postcopyStarted; resumed: the guest runs at the destination (sent by the destination);
   * postcopyPaused, postcopyRecovered: in post-copy the stream broke, or goes on again; sent by whichever end notices, with
   * the latest of the two told again after a reconnect; completed, failed, cancelled: the copy ended (sent by the source);
   * disksPulled: storage `on-demand`, the destination needs the source's disks no more (long after the end, if ever).
   */
  z.object({
    type: z.literal('event'),
    migration: z.string(),
    event: z.enum([
      'stream',
      'preSwitchover',
      'postcopyStarted',
      'postcopyPaused',
      'postcopyRecovered',
      'resumed',
      'completed',
      'failed',
      'cancelled',
      'disksPulled',
    ]),
    stream: streamSchema.optional(),
    progress: copyProgressSchema.optional(),
    reason: z.string().optional(),
    /** When the guest stopped at the source, or ran at the destination, by this host's clock (ms since the epoch). */
    stoppedAtMs: finite.optional(),
    resumedAtMs: finite.optional(),
  }),
  z.object({
    type: z.literal('result'),
    id: z.number().int(),
    ok: z.boolean(),
    error: z.string().optional(),
    code: z.string().optional(),
    /** Refused for now only: the same order may succeed later. */
    retryable: z.boolean().optional(),
    /** This host's clock when it answered, ms since the epoch: with the command's and the answer's times it bounds the difference of clocks. */
    atMs: finite.optional(),
    value: z.unknown().optional(),
  }),
]);
export type AgentMessage = z.infer<typeof agentMessageSchema>;
export type AgentHello = Extract<AgentMessage, { type: 'hello' }>;

/** Value of an `offerDisks` result: where the source's disks can be read. */
export const diskOfferSchema = z.object({ address: z.string(), port: z.number().int().min(1).max(65535) });
export type DiskOffer = z.infer<typeof diskOfferSchema>;

/** Value of a `measureFetch` result: `fetchedBytes` came over the network so far; `isPulled`: the source is needed no more. */
export const diskFetchSchema = z.object({
  fetchedBytes: finite,
  isPulled: z.boolean(),
  /** A pull that runs: how much of the disks it is through, also of what was here already; `reason`: why it stands still. */
  pull: z.object({ doneBytes: finite, totalBytes: finite, reason: z.string().optional() }).optional(),
});
export type DiskFetch = z.infer<typeof diskFetchSchema>;

const migration = z.string().regex(/^[A-Za-z0-9_-]{1,40}$/);

export const agentCommandSchema = z.discriminatedUnion('do', [
  /** Destination: start the machine waiting for a stream. Result value: { address: string, port: number, portName: string }. */
  z.object({
    do: z.literal('prepare'),
    migration,
    guest: guestSpecSchema,
    technique: techniqueSchema,
    postcopyBandwidthBps: finite.optional(),
    /** A pre-copy that may be told `switchToPostcopy` later: both ends must enable it before the copy starts. */
    mayTurnPostcopy: z.boolean().optional(),
    options: copyOptionsSchema.optional(),
    /** Storage `on-demand`: as the source answered to `offerDisks`. */
    disksFrom: diskOfferSchema.optional(),
  }),
  /**
   * Source, storage `on-demand`, before the destination's `prepare`: let the guest's disks be read over the network. Result
   * value: diskOfferSchema.
   */
  z.object({ do: z.literal('offerDisks'), migration, guest: nameSchema }),
  /** Source: nobody reads the disks any more, or nobody will. A machine that is here only to serve them is removed. */
  z.object({ do: z.literal('releaseDisks'), migration, guest: nameSchema }),
  /** Destination, storage `on-demand`: fetch the rest now, or at another rate. */
  z.object({ do: z.literal('pullDisks'), guest: nameSchema, pullBps: z.number().min(8000) }),
  /** Destination, storage `on-demand`: fetch no more than the guest wants. What was fetched stays. */
  z.object({ do: z.literal('stopPull'), guest: nameSchema }),
  /** Destination, storage `on-demand`: how much was fetched. Result value: diskFetchSchema. */
  z.object({ do: z.literal('measureFetch'), guest: nameSchema }),
  /** Source: begin the copy. */
  z.object({
    do: z.literal('start'),
    migration,
    guest: nameSchema,
    technique: techniqueSchema,
    address: z.string(),
    port: z.number().int().min(1).max(65535),
    /** As the destination's `prepare` answered, where it did. */
    peer: z.string().optional(),
    tls: z.boolean().optional(),
    /** Storage `mirrored`: the port, also at `address`, that takes the disks; as `prepare` answered. */
    diskPort: z.number().int().min(1).max(65535).optional(),
    /** Driver libvirt, storage `mirrored`: where each of the guest's disks will be; as `prepare` answered. */
    diskPaths: z.array(z.string().min(1).max(1000)).max(8).optional(),
    /** Payload rate QEMU may send at, bit/s (bytes of the stream, without packet headers). */
    bandwidthBps: finite,
    /** What the path will carry during stop-and-copy, bit/s of payload. */
    switchoverBps: finite.optional(),
    downtimeLimitMs: z.number().int().positive(),
    hybridPasses: z.number().int().positive(),
    /**
     * Hybrid: go on as post-copy before `hybridPasses` when a pass does not pay, i.e. when what is to be sent next is not
     * at least this share less than what was to be sent in it.
     */
    hybridMinGain: z.number().min(0).max(1).optional(),
    /** As in `prepare`, and the same there. */
    mayTurnPostcopy: z.boolean().optional(),
    options: copyOptionsSchema.optional(),
    /** Ask for a stop before switch-over; the source then waits for `continueSwitchover`. */
    pauseBeforeSwitchover: z.boolean(),
  }),
  /** Source: change pace while running. */
  z.object({ do: z.literal('setBandwidth'), migration, bandwidthBps: finite, switchoverBps: finite.optional() }),
  /** Source: change the downtime that the copy aims at while running. */
  z.object({ do: z.literal('setDowntimeLimit'), migration, downtimeLimitMs: z.number().int().positive() }),
  z.object({ do: z.literal('switchToPostcopy'), migration }),
  z.object({ do: z.literal('continueSwitchover'), migration }),
  /** Source: stop the copy, the guest goes on here. Refused in post-copy. */
  z.object({ do: z.literal('cancel'), migration }),
  /**
   * Destination of a post-copy whose stream broke: let go of what is left of it and listen anew. Result value: as of
   * `prepare`, with another port. A guest that has not noticed yet is cut off from its source by this.
   */
  z.object({ do: z.literal('recoverIncoming'), migration }),
  /**
   * Source of a post-copy whose stream broke: take it up again at the address that `recoverIncoming` answered. Refused as
   * `path-down` (retryable) while nothing answers there.
   */
  z.object({
    do: z.literal('recoverOutgoing'),
    migration,
    address: z.string(),
    port: z.number().int().min(1).max(65535),
    bandwidthBps: finite,
    switchoverBps: finite.optional(),
  }),
  /** Source after success: remove the stopped machine. Destination: forget the migration, the guest is an ordinary one. */
  z.object({ do: z.literal('finish'), migration }),
  /** Destination after failure or cancellation: remove the machine that never ran. */
  z.object({ do: z.literal('abandon'), migration }),
  /** Measure; result value: dirtyRateResultSchema. Takes `seconds` and a quarter. */
  z.object({ do: z.literal('measureDirtyRate'), guest: nameSchema, seconds: z.number().min(0.2).max(60) }),
  /**
   * Hosts whose switch is a userspace datapath: map DSCP to the traffic class of a queue on a switch port (queue n is
   * class 1:n+1, set up through OVSDB). An empty list removes ours. Result value: { applied: boolean, detail: string };
   * applied is false where set_queue works by itself and nothing is needed.
   */
  z.object({
    do: z.literal('queueFilters'),
    portName: z.string(),
    filters: z.array(z.object({ dscp: z.number().int().min(1).max(63), queue: z.number().int().min(1).max(1000) })),
  }),
]);
export type AgentCommand = z.infer<typeof agentCommandSchema>;
export type AgentCommandOf<D extends AgentCommand['do']> = Extract<AgentCommand, { do: D }>;

/** Value of a `prepare` result: where the destination listens, and the switch port the guest will be attached to. */
export const prepareResultSchema = z.object({
  address: z.string(),
  port: z.number().int().min(1).max(65535),
  portName: z.string(),
  /** libvirt: the connection URI at which the source's libvirt daemon reaches the destination's. */
  peer: z.string().optional(),
  /** The destination expects the stream over TLS. */
  tls: z.boolean().optional(),
  /** Storage `mirrored`: where the disks are taken. */
  diskPort: z.number().int().min(1).max(65535).optional(),
  /** Driver libvirt, storage `mirrored`: where the disks will be, in the order of the guest's `disks`. */
  diskPaths: z.array(z.string()).optional(),
});
export type PrepareResult = z.infer<typeof prepareResultSchema>;
/** Value of a `measureDirtyRate` result; fields as in guestTelemetrySchema. */
export const dirtyRateResultSchema = z.object({
  dirtyBytesPerS: finite,
  workingSetBytes: finite.nullable().optional(),
  nonZeroBytes: finite.optional(),
});
export type DirtyRateResult = z.infer<typeof dirtyRateResultSchema>;

/** Controller → agent: a command with the id its `result` will carry, or a welcome after hello. */
export const controllerMessageSchema = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('welcome'),
    protocol: z.literal(AGENT_PROTOCOL),
    progressPeriodMs: z.number().int().positive(),
    /** Of a pair of controllers: the term in which this one is in charge. */
    term: termTextSchema.optional(),
  }),
  z.object({ type: z.literal('command'), id: z.number().int(), command: agentCommandSchema }),
  z.object({ type: z.literal('refused'), reason: z.string() }),
]);
export type ControllerMessage = z.infer<typeof controllerMessageSchema>;
