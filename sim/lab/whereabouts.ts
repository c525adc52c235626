/**
 * Where a guest ran at every instant: what both hypervisors say, through QEMU's second control socket, so that the agents
 * notice nothing. STOP and RESUME carry QEMU's own time to the microsecond; `query-status` every few milliseconds says the
 * same once more, so that a change without its event shows too. All clocks are one machine's. The arithmetic is pure.
 */
import { existsSync } from 'node:fs';
import { connectQmp, type QmpClient } from '../../agent/io/qmp.ts';
import { FairwayError } from '../../contracts/common.ts';
import { preciseNow } from './shell.ts';

/** A hypervisor ran the guest, or was seen not to, from an instant on (ms since the epoch). */
export interface Sighting {
  host: string;
  atMs: number;
  runs: boolean;
  /** An event of QEMU's, an answer to a question, or the end of its process. */
  by: 'event' | 'answer' | 'gone';
}

/** The guest ran on a host from one instant to another. */
export interface Stay {
  host: string;
  fromMs: number;
  toMs: number;
}

/** Stays of a guest in the order they began, from each host's sightings in their order. What still runs ends at `untilMs`. */
export function staysOf(sightings: readonly Sighting[], untilMs: number): Stay[] {
  const stays: Stay[] = [];
  for (const host of new Set(sightings.map((s) => s.host))) {
    let since: number | null = null;
    for (const s of sightings.filter((x) => x.host === host)) {
      if (s.runs && since === null) since = s.atMs;
      if (!s.runs && since !== null) {
        stays.push({ host, fromMs: since, toMs: s.atMs });
        since = null;
      }
    }
    if (since !== null) stays.push({ host, fromMs: since, toMs: Math.max(since, untilMs) });
  }
  return stays.sort((a, b) => a.fromMs - b.fromMs);
}

/** For how long, ms, a guest ran on two hosts at once. */
export function twiceMs(stays: readonly Stay[]): number {
  let sum = 0;
  stays.forEach((a, i) => {
    for (const b of stays.slice(i + 1)) {
      if (a.host !== b.host) sum += Math.max(0, Math.min(a.toMs, b.toMs) - Math.max(a.fromMs, b.fromMs));
    }
  });
  return sum;
}

/** The longest time, ms, between two stays in which the guest ran nowhere. */
export function longestNowhereMs(stays: readonly Stay[]): number {
  let longest = 0;
  let end = stays[0]?.toMs ?? 0;
  for (const s of stays) {
    longest = Math.max(longest, s.fromMs - end);
    end = Math.max(end, s.toMs);
  }
  return longest;
}

const EVERY_MS = 10;
/** An answer that takes longer is one of a QEMU that waits for a page of its guest; the events go on telling. */
const ANSWER_MS = 2000;

/** Watches the machines of one guest, whenever they come and go. */
export class Whereabouts {
  readonly sightings: Sighting[] = [];
  /** Questions answered, by host. */
  readonly answers: Record<string, number> = {};
  private readonly watching: Promise<void>[];
  private stopped = false;

  /** @param monitors by host, the path of the guest's second control socket there */
  constructor(monitors: Readonly<Record<string, string>>) {
    this.watching = Object.entries(monitors).map(([host, path]) => this.watch(host, path));
  }

  /** What was seen until now. */
  stays(): Stay[] {
    return staysOf(this.sightings, preciseNow());
  }

  async stop(): Promise<void> {
    this.stopped = true;
    await Promise.all(this.watching);
  }

  private async watch(host: string, path: string): Promise<void> {
    while (!this.stopped) {
      const qmp = await this.connect(host, path);
      if (qmp !== undefined) await this.ask(host, qmp);
      await pause(EVERY_MS);
    }
  }

  private async connect(host: string, path: string): Promise<QmpClient | undefined> {
    // A socket outlives the process that listened on it; nobody answers then.
    if (!existsSync(path)) return undefined;
    try {
      return await connectQmp(path, {
        timeoutMs: ANSWER_MS,
        onEvent: (name, _data, atMs) => {
          if (name === 'STOP' || name === 'RESUME') this.saw(host, name === 'RESUME', 'event', atMs);
        },
        onClose: () => this.saw(host, false, 'gone'),
      });
    } catch {
      return undefined;
    }
  }

  private saw(host: string, runs: boolean, by: Sighting['by'], atMs = preciseNow()): void {
    this.sightings.push({ host, atMs, runs, by });
  }

  private async ask(host: string, qmp: QmpClient): Promise<void> {
    /** What an answer said otherwise than the events, and when it was asked for. */
    let doubt: { runs: boolean; atMs: number } | undefined;
    for (;;) {
      if (this.stopped) return qmp.close();
      const atMs = preciseNow();
      try {
        const answer = (await qmp.execute('query-status')) as { running?: unknown };
        const runs = answer.running === true;
        this.answers[host] = (this.answers[host] ?? 0) + 1;
        const known = this.sightings.findLast((s) => s.host === host)?.runs ?? false;
        // An event may overtake an answer on its way through this process: only the second of two that agree is believed.
        if (runs === known) doubt = undefined;
        else if (doubt?.runs === runs) this.saw(host, runs, 'answer', doubt.atMs);
        else doubt = { runs, atMs };
      } catch (error) {
        if (error instanceof FairwayError && error.code === 'qmp-closed') return;
      }
      await pause(EVERY_MS);
    }
  }
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
