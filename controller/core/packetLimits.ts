/**
 * How many packet-ins of one switch the core is shown. Pure: token buckets over time that is given. Link discovery has
 * buckets of its own, so that no other traffic can crowd it out; every port has one, so that a storm on a port costs
 * only that port; and what all ports send together is bounded by the switch's. `controller/io/switchSession.ts` asks
 * for each packet-in before anything is copied or told; a port that goes on beyond its limits is quenched by `quench.ts`.
 */
const ETH_LLDP = 0x88cc;
const ETH_VLAN = 0x8100;

/** A port's or switch's allowance: packets/s on average, and how many at once after a rest. */
export interface Allowance {
  perSecond: number;
  burst: number;
}

export interface PacketInLimits {
  /** LLDP of one port. */
  lldpPerPort: Allowance;
  /** Everything else of one port. */
  perPort: Allowance;
  /** Everything else of all ports together. */
  perSwitch: Allowance;
}

/** A port is probed about once a second and its hosts are learnt once; this leaves room for a rack that wakes up at once. */
export const PACKET_IN_LIMITS: PacketInLimits = {
  lldpPerPort: { perSecond: 10, burst: 20 },
  perPort: { perSecond: 300, burst: 600 },
  perSwitch: { perSecond: 2000, burst: 4000 },
};

/** Ports with buckets of their own; a switch that invents more has them share one. OpenFlow 1.3.5 §7.2.1 allows 2^32. */
const MAX_PORTS = 4096;
const OTHER_PORTS = -1;

/** Spends tokens that come back with time. */
class Bucket {
  readonly #of: Allowance;
  #tokens: number;
  #atMs: number;

  constructor(of: Allowance, nowMs: number) {
    this.#of = of;
    this.#tokens = of.burst;
    this.#atMs = nowMs;
  }

  /** Tokens there are at this time. */
  level(nowMs: number): number {
    const earned = (Math.max(0, nowMs - this.#atMs) * this.#of.perSecond) / 1000;
    this.#tokens = Math.min(this.#of.burst, this.#tokens + earned);
    this.#atMs = Math.max(this.#atMs, nowMs);
    return this.#tokens;
  }

  take(nowMs: number): boolean {
    if (this.level(nowMs) < 1) return false;
    this.#tokens--;
    return true;
  }
}

interface PortBuckets {
  readonly lldp: Bucket;
  readonly other: Bucket;
  dropped: number;
  /** Of `dropped`, for the port's own limits and not told of yet; see `takeOver`. */
  overLldp: number;
  overOther: number;
}

/** What a port sent beyond its own limits in the time that `PortsOver` is of. */
export interface PortOver {
  portNo: number;
  lldp: number;
  other: number;
}
export interface PortsOver {
  windowMs: number;
  ports: PortOver[];
}

/** Packet-ins that were let through and dropped, since the session began. */
export interface PacketInCounts {
  passed: number;
  droppedLldp: number;
  /** Dropped for their port's limit. */
  droppedByPort: number;
  /** Dropped for the switch's limit. */
  droppedBySwitch: number;
}

function isLldp(frame: Uint8Array): boolean {
  const typeAt = (p: number) => ((frame[p] ?? 0) << 8) | (frame[p + 1] ?? 0);
  return (typeAt(12) === ETH_VLAN ? typeAt(16) : typeAt(12)) === ETH_LLDP;
}

export class PacketInLimiter {
  readonly counts: PacketInCounts = { passed: 0, droppedLldp: 0, droppedByPort: 0, droppedBySwitch: 0 };
  readonly #limits: PacketInLimits;
  readonly #ports = new Map<number, PortBuckets>();
  readonly #all: Bucket;
  /** Ports beyond their limits since `#overSinceMs`. */
  readonly #over = new Map<number, PortBuckets>();
  #overSinceMs: number;

  constructor(nowMs: number, limits: PacketInLimits = PACKET_IN_LIMITS) {
    this.#limits = limits;
    this.#all = new Bucket(limits.perSwitch, nowMs);
    this.#overSinceMs = nowMs;
  }

  /** Whether the core is to see this frame. */
  admits(portNo: number, frame: Uint8Array, nowMs: number): boolean {
    const port = this.#port(portNo, nowMs);
    const { counts } = this;
    if (isLldp(frame)) {
      if (port.lldp.take(nowMs)) counts.passed++;
      else {
        port.dropped++;
        port.overLldp++;
        this.#over.set(portNo, port);
        counts.droppedLldp++;
        return false;
      }
      return true;
    }
    // A port that was quiet has its first frames shown whatever the others do: theirs may have used up the switch's share.
    const wasQuiet = port.other.level(nowMs) > this.#limits.perPort.burst / 2;
    if (!port.other.take(nowMs)) {
      port.dropped++;
      port.overOther++;
      this.#over.set(portNo, port);
      counts.droppedByPort++;
      return false;
    }
    if (!this.#all.take(nowMs) && !wasQuiet) {
      port.dropped++;
      counts.droppedBySwitch++;
      return false;
    }
    counts.passed++;
    return true;
  }

  get dropped(): number {
    const { droppedLldp, droppedByPort, droppedBySwitch } = this.counts;
    return droppedLldp + droppedByPort + droppedBySwitch;
  }

  /** What ports sent beyond their own limits since this was asked last. Ports without buckets of their own are left out. */
  takeOver(nowMs: number): PortsOver {
    const windowMs = nowMs - this.#overSinceMs;
    this.#overSinceMs = nowMs;
    if (this.#over.size === 0) return { windowMs, ports: [] };
    const ports = [...this.#over]
      .filter(([portNo, p]) => this.#ports.get(portNo) === p && portNo !== OTHER_PORTS)
      .map(([portNo, p]) => ({ portNo, lldp: p.overLldp, other: p.overOther }));
    for (const p of this.#over.values()) {
      p.overLldp = 0;
      p.overOther = 0;
    }
    this.#over.clear();
    return { windowMs, ports };
  }

  /** Ports that lost most, with what they lost. Ports beyond those with buckets of their own are -1. */
  worst(howMany: number): { portNo: number; dropped: number }[] {
    return [...this.#ports]
      .map(([portNo, p]) => ({ portNo, dropped: p.dropped }))
      .filter((p) => p.dropped > 0)
      .sort((a, b) => b.dropped - a.dropped)
      .slice(0, howMany);
  }

  #port(portNo: number, nowMs: number): PortBuckets {
    const known = this.#ports.get(portNo);
    if (known) return known;
    if (this.#ports.size >= MAX_PORTS && portNo !== OTHER_PORTS) return this.#port(OTHER_PORTS, nowMs);
    const { lldpPerPort, perPort } = this.#limits;
    const fresh: PortBuckets = {
      ...{ lldp: new Bucket(lldpPerPort, nowMs), other: new Bucket(perPort, nowMs) },
      ...{ dropped: 0, overLldp: 0, overOther: 0 },
    };
    this.#ports.set(portNo, fresh);
    return fresh;
  }
}
