/**
 * The controller's state: plain readonly data, replaced and never changed in place. `step.ts` moves it on; `desired.ts`
 * derives from it what switches should hold; `views.ts` shows it to the feed.
 */
import type {
  Abilities,
  AgentHello,
  CopyOptions,
  CopyProgress,
  DiskOffer,
  GuestInfo,
  GuestSpec,
  PrepareResult,
  Stream,
} from '../../contracts/agent.ts';
import type {
  Contention,
  Direction,
  Enforcement,
  JobState,
  Labels,
  Priority,
  Reason,
  Strategy,
  Technique,
} from '../../contracts/common.ts';
import type { Decision, MigrationView, PlannedRun } from '../../contracts/feed.ts';
import type { PolicyStatus } from '../../contracts/policy.ts';
import type { CompiledPolicy, ConvergenceWatch, LinkReservation } from '../../policies/index.ts';
import { type PortRef, Topology } from '../../topology/index.ts';
import { EMPTY_TABLES, type SwitchTables } from './difference.ts';
import type { OvsPort, PortQos, TunnelKind, TunnelPort } from './events.ts';
import type { Hold, Pace } from './hold.ts';
import type { HostMoves } from './hostMoves.ts';
import type { Order } from './orders.ts';
import type { JobOverlay, Overlay } from './overlays.ts';
import type { Seal } from './packets.ts';
import type { Quench, Storm } from './quench.ts';
import type { Tries } from './retry.ts';
import { newSettling, type Settling } from './settle.ts';
import type { Instant, Telemetry } from './telemetry.ts';
import type { Detour } from './tunnels.ts';

/** What the operator told about the network; it does not change while running. */
export interface Settings {
  version: string;
  forwarding: 'managed' | 'normal';
  /** Capacity (bit/s) of a named port of a datapath, over what the switch says. */
  capacityOf(dpid: string, portName: string): number | undefined;
  defaultCapacityBps: number;
  nameOf(dpid: string): string | undefined;
  /** Datapaths whose queues we may set (their OVSDB is known). */
  hasQueues(dpid: string): boolean;
  policyStore: string;
  /** Signs the probes of discovery. */
  seal: Seal;
  /** Whether a port leads to the IP network that joins fabrics which know nothing of each other. Absent: none does. */
  leadsToIp?(dpid: string, portName: string): boolean;
  /** Absent: no switch has an address for tunnels. */
  tunnels?: TunnelSettings;
}

export interface TunnelSettings {
  kind: TunnelKind;
  /** `fallback`: where the fabric has no way for a label. */
  use: 'fallback' | 'always';
  /** Address of a datapath in the IP network; undefined: it has none, or its OVSDB is not known. */
  addressOf(dpid: string): string | undefined;
  udpPort?: number;
}

export interface SwitchState {
  connected: boolean;
  maxMeters: number;
  /** What the switch is known to hold of ours; meaningful while connected. */
  installed: SwitchTables;
  /** The write under way and what the switch will hold after it. */
  inFlight: { batch: number; target: SwitchTables } | null;
  /** Flow keys the switch refused; they are not tried again until `retryAtMs`. */
  refused: ReadonlySet<string>;
  /** What it said then; empty when nothing is refused. */
  refusedWhy: string;
  /** How often in a row a flow table had no room. */
  tableFullTimes: number;
  retryAtMs: number;
}

export const NEW_SWITCH: SwitchState = {
  connected: true,
  maxMeters: 0,
  installed: EMPTY_TABLES,
  inFlight: null,
  refused: new Set(),
  refusedWhy: '',
  tableFullTimes: 0,
  retryAtMs: 0,
};

export interface AgentState {
  connected: boolean;
  /** Null while it is connected. */
  awaySinceMs: number | null;
  host: string;
  driver: AgentHello['driver'];
  migrationIp: string | null;
  dpid: string | null;
  migrationPort: string | null;
  /** Most migrations at a time that it sends and takes, where it says so. */
  limits: NonNullable<AgentHello['limits']>;
  techniques: readonly Technique[];
  /** What its hypervisor can do; null when it did not say. */
  abilities: Abilities | null;
  guests: readonly GuestInfo[];
  /** Memory that guests may have on this host, MiB; null when it is not limited. */
  guestMemoryMiB: number | null;
  /** What rules of placement go by. */
  hostLabels: Labels;
}

/** Traffic of one switch port as the switch sees it: received (rx) and sent (tx), bit/s. `migrationTxBps` and `migrationRxBps` are the parts of them that are migration streams and the answers to these. */
export interface PortRate {
  atMs: number;
  rxBps: number;
  txBps: number;
  migrationTxBps: number;
  migrationRxBps: number;
}

/** Cumulative counters a rate is made from. */
export interface PortReading {
  atMs: number;
  rxBytes: number;
  txBytes: number;
  migrationTxBytes: number;
  migrationRxBytes: number;
}

/** Last reading and the rates of the window, newest last. */
export interface PortHistory {
  last: PortReading;
  rates: readonly PortRate[];
}

/** Queues of one egress port: what we want, what is being set, what holds. */
export interface QosState extends Tries {
  wanted: PortQos | null;
  inFlight: { serial: number; qos: PortQos | null } | null;
  applied: PortQos | null;
  /** The switch was restarted since: what is applied may be gone. */
  stale: boolean;
  enforcement: Enforcement;
  note: string;
}

/** Taking up a post-copy whose stream broke; `recovery.ts` moves it on. */
export interface Recovery {
  /**
   * wait: for `atMs` and both agents; listen: the destination is to listen anew; flows: switches follow its new port; order:
   * the source is to take the copy up; going: it does.
   */
  step: 'wait' | 'listen' | 'flows' | 'order' | 'going';
  /** Attempts begun. */
  attempt: number;
  /** When the stream broke. */
  sinceMs: number;
  /** wait: when the next attempt is due; else when this one is given up. */
  atMs: number;
  /** The operator was told that it takes long. */
  isLong: boolean;
}

/** One tunnel port: what we want, what is being set, what holds. */
export interface TunnelState extends Tries {
  wanted: TunnelPort | null;
  inFlight: { serial: number; port: TunnelPort | null } | null;
  applied: TunnelPort | null;
  /** The switch was away since: what is applied may be gone. */
  isStale: boolean;
  note: string;
  /** MTU by port name, as the switch said when the port was made. */
  mtus: Readonly<Record<string, number>>;
  /** When the first probe came out of it, of those that still do; null while none does. */
  provenMs: number | null;
  /** Since when probes are sent into its far end of which none came; null when one has. */
  askedMs: number | null;
  /** When the last of them was sent. */
  probedMs: number;
  /** Since when the switch says that the port is down; null while it is up. */
  downSinceMs: number | null;
  /** What was done about a tunnel that carries nothing although it is as ordered. */
  mends: Tries;
  /** The port is to be removed and then made again. */
  isMadeAnew: boolean;
}

/** A background pull of disks that were left at the source; `pull.ts` moves it on. */
export interface Pull {
  /**
   * waiting: for the end of the copy, and for its slice; running: the destination was told; stopping: it is told to stop;
   * away: the destination does not come back, and holds no slice meanwhile; stopped, failed, done: it has ended.
   */
  state: 'waiting' | 'running' | 'stopping' | 'away' | 'stopped' | 'failed' | 'done';
  /** Most that it may take, bit/s of payload, as asked for. */
  rateBps: number;
  /** Reserved for it, bit/s of frames; 0 while nothing is. */
  sliceBps: number;
  /** Rate that the destination was told last, bit/s of payload; null: none, or it may not have heard it. */
  pacedBps: number | null;
  /** The most that the destination may be taking, bit/s of whole frames, until it has answered that it takes less; absent: nothing. */
  takenBps?: number;
  /** The same after the order that is on its way. */
  toldBps?: number;
  /** An order is on its way. */
  isOrdered: boolean;
  /** How much of the disks it is through, and of how much, bytes; 0 of 0 before the first answer. */
  doneBytes: number;
  totalBytes: number;
  /** Came over the network, also for reads of the guest. */
  fetchedBytes: number;
  /** When the destination was asked last how far it is. */
  measuredMs: number;
  askedAtMs: number;
  endedAtMs: number | null;
  /** Why it stands still, or ended before all was there. */
  note: string | null;
  /** Of its slice. */
  reason: Reason | null;
}

/** The switch that a host is attached to, and the port there that carries its migration address; null where its agent does not say. */
export type Attachment = Pick<AgentState, 'dpid' | 'migrationPort'>;

export interface Job {
  id: string;
  /** Small number for cookies, labels and meters; unique among jobs of this controller's life. */
  number: number;
  guest: string;
  spec: GuestSpec;
  priority: Priority;
  group: string | null;
  from: string;
  to: string;
  asked: { technique: Technique | null; strategy: Strategy | null; options?: CopyOptions | null };
  deadlineAtMs: number | null;
  /** The plan says when it starts; else strategy and order of request do. */
  isPlanned: boolean;
  /** What the plan says; null before there is one, and where it has no place for the job. */
  planned: PlannedRun | null;
  /** Admitted and made ready while those before it in the plan still copy: it has no slice and does not start yet. */
  isHeld: boolean;
  /** Jobs that it waits behind, as admission last said. */
  behind: readonly string[];
  state: JobState;
  technique: Technique | null;
  strategy: Strategy | null;
  contention: Contention | null;
  enforcement: Enforcement | null;
  /** Directed links (egress ports) of the stream's path and the datapaths along it, source first. */
  links: readonly string[];
  dpids: readonly string[];
  /** When the path was changed last while the stream ran. */
  pathSinceMs: number | null;
  /** When a link of the path was lost, until switches and queues of the new one are confirmed. */
  reroutedAtMs: number | null;
  /** The command whose result is awaited. */
  awaiting: 'measureDirtyRate' | 'offerDisks' | 'prepare' | 'start' | 'continueSwitchover' | null;
  dirtyBytesPerS: number | null;
  /** Writable working set as measured before the copy; null when it was not, or no bound was seen. */
  workingSetBytes?: number | null;
  /** Of its memory, what was not zero then; null or absent when not known. */
  nonZeroBytes?: number | null;
  destination: PrepareResult | null;
  /** Where both hosts were attached when the destination was ready; absent before, and in journals of earlier versions. */
  attached?: { from: Attachment | null; to: Attachment | null };
  /** Storage on-demand: where the source lets its disks be read. */
  disksFrom?: DiskOffer | null;
  /** Storage on-demand: the destination has all of the disks. */
  disksPulled?: boolean;
  pull?: Pull | null;
  stream: Stream | null;
  phase: 'initial' | 'running' | 'switchover';
  sliceBps: number;
  /** Pace last told to the source, bit/s of payload. */
  pacedBps: number | null;
  /** The most it was ever told, bit/s of whole frames: what a controller that is started anew knows. */
  mostPacedBps?: number;
  /** The agent of its source is away, and its copy is not taken to run any more: nothing is reserved for it. */
  isReleased?: boolean;
  /** A pre-copy that may go on as post-copy when it does not converge; it is told so once. */
  mayTurnPostcopy: boolean;
  /** Whether the passes of a pre-copy pay; null before its first report. */
  watch?: ConvergenceWatch | null;
  /** The source stands stopped before switch-over and waits to be told to go on. */
  paused: boolean;
  /** The guest's traffic is directed to the destination. */
  flipped: boolean;
  resumed: boolean;
  copyEnded: boolean;
  cancelling: boolean;
  /** An agent had no room for it: it is not tried again before, unless room is made by one of the same hosts. */
  busyUntilMs: number | null;
  /** While the copy is interrupted, state `recovering`. */
  recovery: Recovery | null;
  /** How stragglers go from the old edge to the new one; undefined in records of versions that knew labels only. */
  detour?: Detour | null;
  /** The guest will be away from its home network: how that is joined to it. */
  overlay?: JobOverlay | null;
  /** Stragglers seen at the old edge, when the last came, and when its counters were read last. */
  stragglers: { packets: number; lastMs: number; readMs?: number };
  /** When the guest stopped at the source and ran at the destination, as their agents saw it. */
  stoppedAt?: Instant | null;
  resumedAt?: Instant | null;
  progress: CopyProgress | null;
  /** Estimate 0…1 of what is done. Later passes find new work; what was once shown is not taken back. */
  progressShare: number;
  requestedAtMs: number;
  startedAtMs: number | null;
  endedAtMs: number | null;
  totalMs: number | null;
  note: string | null;
  reasons: readonly Reason[];
  sliceSteps: MigrationView['sliceSteps'];
  transitions: MigrationView['transitions'];
}

/** What was planned last for the jobs that are planned; `planning.ts` keeps it. Each job has its own part of it. */
export interface GroupPlan {
  revision: number;
  madeAtMs: number;
  /** Since when reality is further from it than the policy allows; null while it is not. */
  driftedSinceMs: number | null;
  endsAtMs: number;
  /** No plan would have ended before this, as things were. */
  boundAtMs: number;
  /** By link id: what migrations of high, medium and low priority could have of it then, bit/s. */
  usableBps: ReadonlyMap<string, readonly number[]>;
  /** By job that waited then: its links, joined. */
  paths: ReadonlyMap<string, string>;
  /** By job that was running or planned then: its end. */
  endAtMs: ReadonlyMap<string, number>;
  /** Jobs it has no place for, and why. */
  refused: ReadonlyMap<string, string>;
}

/** Why a probe was not believed. */
export type ProbeFault = 'unsigned' | 'forged' | 'stale' | 'replayed' | 'edge';

/** What link discovery remembers; `discovery.ts` keeps it. Ports and links by id (`dpid:port`). */
export interface Discovery {
  lastProbeMs: number;
  /** No link's silence began before this: probes were late by our own doing until then. */
  silentSinceMs: number;
  /** Of the next probe. */
  nextSerial: number;
  /** By datapath: when it connected first. */
  switchSinceMs: ReadonlyMap<string, number>;
  /** By datapath: when it was away last, or told nothing; `untilMs` is infinite while it is. */
  absences: ReadonlyMap<string, { fromMs: number; untilMs: number }>;
  /** Ports that changed since: when they came up last. */
  portSinceMs: ReadonlyMap<string, number>;
  /** When a sender was first seen at a port, since that came up. */
  hostSinceMs: ReadonlyMap<string, number>;
  /** Ports that led to another switch in an earlier life of the controller, and have been up all the time since this one began. */
  ledOn: ReadonlySet<string>;
  /** Sightings of senders that were not learned because their port has too many, by port. */
  crowded: ReadonlyMap<string, number>;
  /** Probes not believed, by the port they came in at. */
  refused: ReadonlyMap<string, { at: PortRef; counts: Readonly<Record<ProbeFault, number>> }>;
  /** Addresses that turned up elsewhere without a migration of ours, by address. */
  hostMoves: ReadonlyMap<string, HostMoves>;
  reportedMoves: Discovery['hostMoves'];
  /** What of `refused` was logged and published last, and when. */
  reported: Discovery['refused'];
  reportedMs: number;
}

const NONE_REFUSED: Discovery['refused'] = new Map();
const NO_MOVES: Discovery['hostMoves'] = new Map();
const NO_DISCOVERY: Discovery = {
  lastProbeMs: 0,
  silentSinceMs: 0,
  crowded: new Map(),
  nextSerial: 1,
  switchSinceMs: new Map(),
  absences: new Map(),
  portSinceMs: new Map(),
  hostSinceMs: new Map(),
  ledOn: new Set(),
  refused: NONE_REFUSED,
  hostMoves: NO_MOVES,
  reportedMoves: NO_MOVES,
  reported: NONE_REFUSED,
  reportedMs: 0,
};

export interface ControllerState {
  settings: Settings;
  startedAtMs: number;
  policy: CompiledPolicy;
  policyStatus: PolicyStatus;
  topology: Topology;
  switches: ReadonlyMap<string, SwitchState>;
  agents: ReadonlyMap<string, AgentState>;
  /** By host. */
  telemetry: ReadonlyMap<string, Telemetry>;
  /** By link id (`dpid:port`): every port's history, edge ports too. */
  ports: ReadonlyMap<string, PortHistory>;
  qos: ReadonlyMap<string, QosState>;
  /** By datapath, then by port name: what switches' databases say. */
  ovsPorts: ReadonlyMap<string, ReadonlyMap<string, OvsPort>>;
  /** Of `host NAME` and `guest NAME`, as the last readings left them. */
  directions: ReadonlyMap<string, Direction>;
  /** Tunnel ports by `dpid/name`: as ordered, and their numbers as switches tell them. */
  tunnels: ReadonlyMap<string, TunnelState>;
  tunnelPorts: ReadonlyMap<string, number>;
  /** Guests away from their home network, by name. */
  overlays: ReadonlyMap<string, Overlay>;
  /** Datapaths whose databases are known and do not answer: since when. */
  ovsdbAway: ReadonlyMap<string, number>;
  /** What the last reservation left on each link, by link id. */
  shares: ReadonlyMap<string, LinkReservation>;
  /** What the workload of each link with a slice sent when it had room last, bit/s: for forecasts while it uses all it is left. */
  unhindered: ReadonlyMap<string, number>;
  /** By job: the pace of its source, and while that one's agent is away what is known of the copy. */
  paces: ReadonlyMap<string, Pace>;
  holds: ReadonlyMap<string, Hold>;
  /** Jobs whose sources were told less for the sake of others and have not answered yet. */
  shrinking: ReadonlySet<string>;
  jobs: ReadonlyMap<string, Job>;
  /** Orders that have not been followed yet, of those that are given until they are; `orders.ts` keeps them. */
  orders: ReadonlyMap<string, Order>;
  /** Null while nothing that is planned waits. */
  plan: GroupPlan | null;
  decisions: readonly Decision[];
  discovery: Discovery;
  /** Storms of packet-ins: those that are watched, and ports that are quenched for one; `quench.ts` keeps them. */
  storms: ReadonlyMap<string, Storm>;
  quenches: ReadonlyMap<string, Quench>;
  /** By directed link: when the last probe crossed it, and its serial. */
  linkSeen: ReadonlyMap<string, { seenMs: number; serial: number }>;
  lastReservationMs: number;
  /** The network is being found again after a restart. */
  settling: Settling;
  nextNumber: number;
  nextSerial: number;
}

export function initialState(
  settings: Settings,
  policy: CompiledPolicy,
  status: PolicyStatus,
  nowMs: number,
): ControllerState {
  return {
    settings,
    startedAtMs: nowMs,
    policy,
    policyStatus: status,
    topology: Topology.empty,
    switches: new Map(),
    agents: new Map(),
    telemetry: new Map(),
    ports: new Map(),
    qos: new Map(),
    ovsPorts: new Map(),
    directions: new Map(),
    tunnels: new Map(),
    tunnelPorts: new Map(),
    overlays: new Map(),
    ovsdbAway: new Map(),
    shares: new Map(),
    unhindered: new Map(),
    paces: new Map(),
    holds: new Map(),
    shrinking: new Set(),
    jobs: new Map(),
    orders: new Map(),
    plan: null,
    decisions: [],
    discovery: NO_DISCOVERY,
    storms: new Map(),
    quenches: new Map(),
    linkSeen: new Map(),
    lastReservationMs: 0,
    settling: newSettling(nowMs),
    nextNumber: 1,
    nextSerial: 1,
  };
}

/** Job states in which the copy's stream needs its slice. */
const SLICED: readonly JobState[] = ['admitted', 'preparing', 'copying', 'switching', 'recovering'];
export const needsSlice = (j: Job): boolean =>
  SLICED.includes(j.state) &&
  !j.isHeld &&
  !j.copyEnded &&
  j.isReleased !== true &&
  j.technique !== null &&
  j.dpids.length > 0;
/**
 * Whether a job's copy is over and its disks are being pulled: it has a slice for that, of low priority. One that is to stop
 * goes on until its destination has answered.
 */
export const pullsNow = (j: Job): boolean =>
  j.copyEnded &&
  j.resumed &&
  (j.state === 'draining' || j.state === 'done') &&
  (j.pull?.state === 'waiting' ||
    j.pull?.state === 'running' ||
    (j.pull?.state === 'stopping' && (j.pull.takenBps ?? 0) > 0));
export const attachmentOf = (agent: AgentState | undefined): Attachment | null =>
  agent ? { dpid: agent.dpid, migrationPort: agent.migrationPort } : null;

/**
 * Where a job's source or destination is attached: as its agent said, or, where that has not been heard of since this controller
 * was started, as the journal has it from when the job was prepared.
 */
export const attachedAt = (
  { agents }: Pick<ControllerState, 'agents'>,
  job: Pick<Job, 'from' | 'to' | 'attached'>,
  end: 'from' | 'to',
): Attachment | undefined => agents.get(job[end]) ?? job.attached?.[end] ?? undefined;

/** Whether a guest runs at its destination only when all of its memory is there. */
export const isSentWhole = (j: Job): boolean => j.technique === 'pre-copy' || j.technique === 'stop-and-copy';
/** Whether all of a guest's memory is known to be at its destination, whether or not the source has said so. */
export const isAllThere = (j: Job): boolean => j.copyEnded || (j.resumed && isSentWhole(j));
/** The priority of what a job has reserved now. */
export const slicePriority = (j: Job): Priority => (pullsNow(j) ? 'low' : j.priority);
/** Job states in which something is under way at agents or switches. */
const ACTIVE: readonly JobState[] = ['admitted', 'preparing', 'copying', 'switching', 'recovering', 'draining'];
export const isActive = (j: Job): boolean => ACTIVE.includes(j.state);

export function withEntry<K, V>(map: ReadonlyMap<K, V>, key: K, value: V): ReadonlyMap<K, V> {
  return new Map(map).set(key, value);
}
export function withoutEntry<K, V>(map: ReadonlyMap<K, V>, key: K): ReadonlyMap<K, V> {
  if (!map.has(key)) return map;
  const next = new Map(map);
  next.delete(key);
  return next;
}
