/**
 * What a migration driver is: the one interface between the agent's session with the controller (`io/agent.ts`) and
 * whatever runs guests: QEMU (`io/qemuDriver.ts`), libvirt (`io/libvirtDriver.ts`), nothing but arithmetic
 * (`io/emulatedDriver.ts`), or no guests at all. Types only. `test/integration/driverContract.ts` is what all of them keep to.
 */
import type {
  Abilities,
  AgentCommandOf,
  AgentHello,
  AgentMessage,
  DiskFetch,
  DiskOffer,
  GuestInfo,
  GuestSpec,
} from '../../contracts/agent.ts';

export type ProgressMessage = Extract<AgentMessage, { type: 'progress' }>;
export type EventMessage = Extract<AgentMessage, { type: 'event' }>;
export type GuestsMessage = Extract<AgentMessage, { type: 'guests' }>;
/** What a driver says unasked; the session sends it on as it is. */
export type DriverReport = ProgressMessage | EventMessage | GuestsMessage;
/** A migration this host has a part in, as told in `hello`. */
export type OngoingMigration = AgentHello['migrations'][number];

/** Where a prepared destination listens, and the switch port its network card is attached to. */
export interface PreparedDestination {
  address: string;
  port: number;
  portName: string;
  /** libvirt: the connection URI at which the source's libvirt daemon reaches this host's. */
  peer?: string;
  /** The stream is expected over TLS. */
  tls?: boolean;
  /** Storage `mirrored`: where the disks are taken. */
  diskPort?: number;
  /** libvirt, storage `mirrored`: where they will be. */
  diskPaths?: string[];
}

/** What a driver does for disks that stay behind (storage `on-demand`); `contracts/agent.ts` describes the commands. */
export interface DiskCommands {
  offer(command: AgentCommandOf<'offerDisks'>): Promise<DiskOffer>;
  release(command: AgentCommandOf<'releaseDisks'>): Promise<void>;
  pull(command: AgentCommandOf<'pullDisks'>): Promise<void>;
  stopPull(command: AgentCommandOf<'stopPull'>): Promise<void>;
  fetched(guest: string): Promise<DiskFetch>;
}

/**
 * Every method may reject with a FairwayError. Commands are idempotent: the same command for the same migration, sent
 * again because its answer was lost, changes nothing and answers the same.
 */
export interface MigrationDriver {
  readonly kind: AgentHello['driver'];
  /** Absent: this driver's guests have no disks that stay behind. */
  readonly disks?: DiskCommands;
  /** Finds the guests that already run here and begins to report. Called once, before any other method. */
  open(report: (message: DriverReport) => void): Promise<void>;
  /** What the hypervisor of this host can do; known once `open` has resolved. */
  abilities(): Abilities;
  /** Starts a guest here. Answers with the running guest when there already is one with this very definition. */
  launch(spec: GuestSpec): Promise<GuestInfo>;
  guests(): GuestInfo[];
  migrations(): OngoingMigration[];
  /** What was reported of each migration not yet forgotten, oldest first: told again after the controller was away. */
  pastEvents(): EventMessage[];
  /** How often progress is looked at, in ms. */
  setProgressPeriod(ms: number): void;
  prepare(command: AgentCommandOf<'prepare'>): Promise<PreparedDestination>;
  start(command: AgentCommandOf<'start'>): Promise<void>;
  setBandwidth(command: AgentCommandOf<'setBandwidth'>): Promise<void>;
  setDowntimeLimit(command: AgentCommandOf<'setDowntimeLimit'>): Promise<void>;
  switchToPostcopy(migration: string): Promise<void>;
  continueSwitchover(migration: string): Promise<void>;
  cancel(migration: string): Promise<void>;
  /** Destination: answers where it listens anew for a post-copy whose stream broke. */
  recoverIncoming(migration: string): Promise<PreparedDestination>;
  /** Source: takes a broken post-copy up again there. Rejects with `path-down` (retryable) while nothing answers. */
  recoverOutgoing(command: AgentCommandOf<'recoverOutgoing'>): Promise<void>;
  finish(migration: string): Promise<void>;
  abandon(migration: string): Promise<void>;
  /** Bytes of memory the guest dirties each second, measured over `seconds`. */
  measureDirtyRate(guest: string, seconds: number): Promise<{ dirtyBytesPerS: number }>;
  /** Stops reporting; guests go on running unless `stopGuests`. */
  close(options: { stopGuests: boolean }): Promise<void>;
}
