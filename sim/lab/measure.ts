/**
 * What is measured in the lab, and how: the workload at its receiver, the guest's answers at a client, and the guest's
 * own counter. The measuring programs run in the namespaces of workload sender and client; the arithmetic is pure
 * (`binRates`, `longestSilence`, `parseIperfInterval`, `parsePingAnswer`) and stands at the top.
 */
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { FairwayError } from '../../contracts/common.ts';
import type { GuestWish } from './guests.ts';
import { ADDRESS, type Lab, type Place } from './network.ts';
import { attempt, inNamespace, preciseNow, prefer, spawnIn, stop, waitFor } from './shell.ts';

/** So many bits were received between two instants (ms since the epoch). */
export interface Received {
  fromMs: number;
  toMs: number;
  bits: number;
}

/**
 * Mean rate in Mbit/s in each second from `startMs` on, until `endMs`. A sample that reaches over the border of a second
 * counts for each side by its share of time. The last second is as long as what is left; one shorter than
 * `shortestMs` is left out, for a rate over a few packets says nothing.
 */
export function binRates(samples: readonly Received[], startMs: number, endMs: number, shortestMs = 300): number[] {
  const rates: number[] = [];
  for (let from = startMs; endMs > from && (endMs - from >= shortestMs || rates.length === 0); from += 1000) {
    const to = Math.min(from + 1000, endMs);
    let bits = 0;
    for (const s of samples) {
      const overlap = Math.min(to, s.toMs) - Math.max(from, s.fromMs);
      if (overlap > 0) bits += (s.bits * overlap) / (s.toMs - s.fromMs);
    }
    rates.push(bits / ((to - from) * 1000));
  }
  return rates;
}

/**
 * Longest time without an answer, ms, that touches the time between `startMs` and `endMs`: the largest gap between
 * successive answers, where the first gap begins at the last answer before `startMs` and the last ends at the first
 * after `endMs` (or at `endMs`, when there was none).
 */
export function longestSilence(answersMs: readonly number[], startMs: number, endMs: number): number {
  let last = startMs;
  let longest = 0;
  for (const at of [...answersMs].sort((a, b) => a - b)) {
    if (at <= startMs) {
      last = at;
      continue;
    }
    longest = Math.max(longest, at - last);
    last = at;
    if (at >= endMs) return longest;
  }
  return Math.max(longest, endMs - last);
}

/** One interval line of `iperf3 -f k`, times in ms since iperf3's start; undefined for any other line, sums included. */
export function parseIperfInterval(line: string): Received | undefined {
  const m = /^\[\s*\d+\]\s+([\d.]+)-([\d.]+)\s+sec\s+[\d.]+ [KMG]?Bytes\s+([\d.]+) Kbits\/sec\s*$/.exec(line);
  if (m === null) return undefined;
  const fromMs = Number(m[1]) * 1000;
  const toMs = Number(m[2]) * 1000;
  return toMs > fromMs ? { fromMs, toMs, bits: Number(m[3]) * (toMs - fromMs) } : undefined;
}

/** Instant (ms since the epoch) of an answer in a line of `ping -D`; undefined for any other line. */
export function parsePingAnswer(line: string): number | undefined {
  const m = /^\[(\d+\.\d+)\] \d+ bytes from .* time=/.exec(line);
  return m === null ? undefined : Number(m[1]) * 1000;
}

/** How often iperf3 reports; seconds of a migration are put together from these. */
const REPORT_S = 0.1;

/**
 * A TCP workload from the sender's namespace (attached to hv1's switch) to the client (attached to the core), measured by
 * the receiver in bytes that arrived in order at the application. It offers `rateBps` and, when it was held back,
 * catches up with at most 3 % more: an application with a buffer, not a bulk transfer.
 */
export class Workload {
  readonly received: Received[] = [];
  private readonly children: ChildProcess[] = [];
  private startMs = Number.POSITIVE_INFINITY;
  private readonly raw: Received[] = [];

  private readonly lab: Lab;
  private readonly rateBps: number;
  private readonly port: number;

  private constructor(lab: Lab, rateBps: number, port: number) {
    this.lab = lab;
    this.rateBps = rateBps;
    this.port = port;
  }

  /** Starts receiver and sender; resolves when the first bytes have arrived. */
  static async start(lab: Lab, rateBps: number, port = 5201, signal?: AbortSignal): Promise<Workload> {
    const w = new Workload(lab, rateBps, port);
    await w.resume(signal);
    return w;
  }

  /** Starts sending again after `pause`. */
  async resume(signal?: AbortSignal): Promise<void> {
    const { lab, port } = this;
    const logFile = join(lab.stateDir, `iperf3-${port}.log`);
    const before = this.received.length;
    this.raw.length = 0;
    this.startMs = Number.POSITIVE_INFINITY;
    let listening = false;
    const server = spawnIn(
      lab.ns('client'),
      'iperf3',
      ['-s', '-1', '-p', String(port), '-i', String(REPORT_S), '-f', 'k', '--forceflush'],
      {
        logFile,
        onLine: (line, atMs) => {
          if (line.includes('listening')) listening = true;
          else this.onInterval(line, atMs);
        },
      },
    );
    this.track(server, 'iperf3 receiver');
    await waitFor('iperf3 receiver', () => (listening ? true : undefined), { timeoutMs: 5000, everyMs: 20, signal });
    const rates = ['-b', String(Math.round(this.rateBps)), '--fq-rate', String(Math.round(this.rateBps * 1.03))];
    const sender = spawnIn(
      lab.ns('wl'),
      'iperf3',
      ['-c', ADDRESS.data.client, '-p', String(port), '-t', '3600', '-i', '0', ...rates],
      { logFile },
    );
    this.track(sender, 'iperf3 sender');
    await waitFor('first bytes of the workload', () => (this.received.length > before ? true : undefined), {
      timeoutMs: 10_000,
      everyMs: 20,
      signal,
    });
  }

  /** Stops sending; what was received stays. */
  async pause(): Promise<void> {
    await Promise.all(this.children.splice(0).map((c) => stop(c, 'SIGTERM', 1000)));
  }

  /** Mean rate in Mbit/s in each second between two instants; see `binRates`. */
  mbps(startMs: number, endMs: number): number[] {
    return binRates(this.received, startMs, endMs);
  }

  private track(child: ChildProcess, what: string): void {
    this.children.push(child);
    if (child.pid === undefined) return;
    this.lab.state.addProcess(child.pid, what);
    prefer(child.pid);
  }

  /**
   * iperf3 gives times since its own start. A report is written at its interval's end and read a little later: the
   * smallest difference seen between the two is the best knowledge of when iperf3 started.
   */
  private onInterval(line: string, atMs: number): void {
    const interval = parseIperfInterval(line);
    if (interval === undefined || interval.toMs - interval.fromMs > 10 * REPORT_S * 1000) return;
    const startMs = Math.min(this.startMs, atMs - interval.toMs);
    this.raw.push(interval);
    const first = this.received.length - this.raw.length + 1;
    if (startMs < this.startMs) {
      this.startMs = startMs;
      this.received.length = first;
      for (const r of this.raw) this.received.push(shift(r, startMs));
    } else {
      this.received.push(shift(interval, this.startMs));
    }
  }
}

const shift = (r: Received, byMs: number): Received => ({ fromMs: r.fromMs + byMs, toMs: r.toMs + byMs, bits: r.bits });

/** Pings an address from the client, or another place, every 10 ms and remembers when each answer came. */
export class Prober {
  readonly answersMs: number[] = [];
  private child: ChildProcess | undefined;

  static start(lab: Lab, address: string, place: Place = 'client'): Prober {
    const p = new Prober();
    p.child = spawnIn(lab.ns(place), 'ping', ['-D', '-n', '-i', '0.01', address], {
      logFile: join(lab.stateDir, 'ping.log'),
      onLine: (line) => {
        const at = parsePingAnswer(line);
        if (at !== undefined) p.answersMs.push(at);
      },
    });
    if (p.child.pid !== undefined) {
      lab.state.addProcess(p.child.pid, `ping ${address}`);
      prefer(p.child.pid);
    }
    return p;
  }

  /** Waits until answers come now, at least `count` within the last second. */
  async waitForAnswers(count: number, timeoutMs: number, signal?: AbortSignal): Promise<void> {
    await waitFor(
      'answers of the guest to ping',
      () => {
        const since = preciseNow() - 1000;
        let n = 0;
        for (let i = this.answersMs.length - 1; i >= 0 && (this.answersMs[i] as number) >= since; i--) n++;
        return n >= count ? true : undefined;
      },
      { timeoutMs, signal },
    );
  }

  /** Longest silence in ms; see `longestSilence`. */
  silenceMs(startMs: number, endMs: number): number {
    return longestSilence(this.answersMs, startMs, endMs);
  }

  async stop(): Promise<void> {
    if (this.child !== undefined) await stop(this.child, 'SIGINT', 1000);
  }
}

/** The counter that the guest serves at `http://<address>/count`, read by the client; undefined when it does not answer within 2 s. */
export async function readGuestCount(lab: Lab, address: string): Promise<number | undefined> {
  const count = await askGuest(lab, address, '/count');
  return count !== undefined && /^\d+$/.test(count) ? Number(count) : undefined;
}

/** What a guest answers over HTTP, without heads and spaces; undefined when it does not within 2 s. */
async function askGuest(lab: Lab, address: string, path: string): Promise<string | undefined> {
  const get = `exec 3<>/dev/tcp/${address}/80 && printf 'GET ${path} HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3`;
  const [command, args] = inNamespace(lab.ns('client'), 'bash', ['-c', get]);
  const got = await attempt(command, args, { timeoutMs: 2000 });
  return got.ok ? /\r?\n\r?\n([\s\S]*)$/.exec(got.stdout)?.[1]?.trim() : undefined;
}

/** Has a guest dirty its memory otherwise from now on; resolves when it does. */
export async function orderDirtying(
  lab: Lab,
  address: string,
  wish: Pick<GuestWish, 'dirtyPagesPerS' | 'workingSetMiB' | 'writes'>,
  signal?: AbortSignal,
): Promise<void> {
  const order = `${wish.dirtyPagesPerS},${wish.workingSetMiB},${wish.writes ?? 'random'}`;
  let asked = false;
  await waitFor(
    `${address} to dirty ${order}`,
    async () => {
      asked ||= (await askGuest(lab, address, `/cgi-bin/dirty?${order}`)) === order;
      return asked && (await askGuest(lab, address, '/dirty')) === order ? true : undefined;
    },
    { timeoutMs: 60_000, everyMs: 100, signal },
  );
}

/**
 * Whether a guest lives and is the one that counted to `atLeast` before it moved: its counter has grown beyond that and
 * grows again within `timeoutMs`. A guest that was started anew would count from 1.
 */
export async function goesOnCounting(
  lab: Lab,
  address: string,
  atLeast: number,
  timeoutMs = 20_000,
  signal?: AbortSignal,
): Promise<boolean> {
  let first: number | undefined;
  try {
    await waitFor(
      `counter of ${address}`,
      async () => {
        const count = await readGuestCount(lab, address);
        if (count === undefined || count < atLeast) return undefined;
        if (first === undefined) first = count;
        return count > first ? true : undefined;
      },
      { timeoutMs, everyMs: 300, signal },
    );
    return true;
  } catch (e) {
    if (e instanceof FairwayError && e.code === 'lab.timeout') return false;
    throw e;
  }
}
