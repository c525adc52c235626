/**
 * The agent's telemetry: looks at the host and its guests each period and sends what changed; samples what guests dirty, one
 * guest after another, and answers the controller's own question about it. What counts as a change is `core/telemetry.ts`, the
 * working set `core/workingSet.ts`.
 */
import { readFile } from 'node:fs/promises';
import type { AgentMessage, DirtyRateResult, GuestTelemetry, HostTelemetry } from '../../contracts/agent.ts';
import type { Clock } from '../../contracts/clock.ts';
import type { AgentConfig } from '../../contracts/config.ts';
import type { Log } from '../../contracts/log.ts';
import type { MigrationDriver } from '../core/driver.ts';
import {
  type NicCounters,
  NOTHING_TOLD,
  nicRates,
  parseNetDev,
  parseProcessTicks,
  roundedMemory,
  roundedShare,
  type Told,
  telemetryMessage,
} from '../core/telemetry.ts';
import { type DirtySample, estimateDirtying } from '../core/workingSet.ts';
import { nonZeroBytes } from './guestMemory.ts';
import { processOf } from './guestProcess.ts';
import { createLoadReader } from './hostLoad.ts';

export interface TelemetryOptions {
  config: Pick<AgentConfig, 'driver' | 'runDir' | 'migrationPort'>;
  driver: MigrationDriver;
  clock: Clock;
  log: Log;
  send(message: AgentMessage): void;
  /** Least time between two messages, ms. */
  periodMs: number;
  /** Each guest's dirtying is sampled this often, ms. */
  dirtyEveryMs: number;
}

export interface Telemetry {
  /** The controller knows nothing yet, or no more: everything is told again. */
  restart(): void;
  /** Measures over `seconds` and a quarter of that; see dirtyRateResultSchema. */
  measure(guest: string, seconds: number): Promise<DirtyRateResult>;
  close(): void;
}

/** Windows of the background's samples, s: the longest shows working sets that take seconds to go through. */
const WINDOWS_S = [0.25, 1, 3] as const;
/** A sample of the background still counts for the controller's question when it is not older. */
const FRESH_MS = 60_000;
/** … and when the guest dirties at the same pace, within this factor either way. */
const SAME_PACE = 1.5;
/** Clock ticks per second in /proc (USER_HZ, 100 on Linux), as ms per tick. */
const TICK_MS = 10;
const MIB = 2 ** 20;

interface Seen {
  atMs: number;
  nics: Map<string, NicCounters>;
  /** Processor time of each guest's process, ticks. */
  ticks: Map<string, number>;
}

export function createTelemetry(o: TelemetryOptions): Telemetry {
  const { config, driver, clock, log } = o;
  const readLoad = createLoadReader();
  /** The latest of each guest: its samples, and what they come to. */
  const dirtying = new Map<string, { atMs: number; samples: DirtySample[]; result: DirtyRateResult }>();
  /** A hypervisor takes one measurement of a guest at a time. */
  const queues = new Map<string, Promise<unknown>>();
  let told: Told = NOTHING_TOLD;
  let before: Seen | undefined;
  let looking = false;
  let sampling = false;
  let closed = false;

  const read = (path: string): Promise<string> => readFile(path, 'utf8').catch(() => '');
  const running = () => driver.guests().filter((g) => g.state === 'running');

  async function look(): Promise<Seen> {
    const ticks = new Map<string, number>();
    if (config.driver === 'qmp') {
      for (const { spec } of running()) {
        const pid = processOf(config.runDir, spec.name);
        const spent = pid === undefined ? undefined : parseProcessTicks(await read(`/proc/${pid}/stat`));
        if (spent !== undefined) ticks.set(spec.name, spent);
      }
    }
    return { atMs: clock.now(), nics: parseNetDev(await read('/proc/net/dev')), ticks };
  }

  /** What there is to be known now, against the reading before. */
  async function figures(): Promise<Told> {
    const now = await look();
    const ms = before === undefined ? 0 : now.atMs - before.atMs;
    const load = await readLoad();
    const port = config.migrationPort;
    const nic = port === undefined ? undefined : nicRates(before?.nics.get(port), now.nics.get(port), ms);
    const host: HostTelemetry = {
      ...(load === undefined
        ? {}
        : {
            cpuShare: roundedShare(load.cpuShare ?? 0),
            memoryUsedBytes: roundedMemory(load.memoryUsedBytes ?? 0),
            memoryTotalBytes: load.memoryTotalBytes ?? 0,
          }),
      ...(nic === undefined || port === undefined ? {} : { nic: { name: port, ...nic } }),
    };
    const guests = new Map<string, GuestTelemetry>();
    for (const { spec, portName } of running()) {
      const tap = nicRates(before?.nics.get(portName), now.nics.get(portName), ms);
      const spent = (now.ticks.get(spec.name) ?? Number.NaN) - (before?.ticks.get(spec.name) ?? Number.NaN);
      const dirty = dirtying.get(spec.name)?.result;
      guests.set(spec.name, {
        guest: spec.name,
        // What the tap received is what the guest sent.
        ...(tap === undefined ? {} : { nic: { rxBps: tap.txBps, txBps: tap.rxBps } }),
        ...(Number.isNaN(spent) || ms <= 0 ? {} : { cpuShare: roundedShare((spent * TICK_MS) / (ms * spec.vcpus)) }),
        ...(dirty === undefined ? {} : roundedDirtying(dirty)),
      });
    }
    before = now;
    return { host, guests };
  }

  async function tell(): Promise<void> {
    if (looking || closed) return;
    looking = true;
    try {
      const now = await figures();
      const message = telemetryMessage(told, now);
      told = now;
      if (message !== undefined && !closed) o.send(message);
    } catch (error) {
      log('warn', 'telemetry', { error });
    } finally {
      looking = false;
    }
  }

  /** One window after another, behind whatever else is measured of this guest. */
  function sample(guest: string, windows: readonly number[]): Promise<DirtySample[]> {
    const mine = (queues.get(guest) ?? Promise.resolve()).then(async () => {
      const samples: DirtySample[] = [];
      for (const seconds of windows) {
        const { dirtyBytesPerS } = await driver.measureDirtyRate(guest, seconds);
        samples.push({ seconds, bytes: dirtyBytesPerS * seconds });
      }
      return samples;
    });
    queues.set(
      guest,
      mine.catch(() => undefined),
    );
    return mine;
  }

  async function estimate(guest: string, samples: DirtySample[]): Promise<DirtyRateResult> {
    const memoryMiB = driver.guests().find((g) => g.spec.name === guest)?.spec.memoryMiB;
    if (memoryMiB === undefined) return estimateDirtying(samples, Number.POSITIVE_INFINITY);
    const memoryBytes = memoryMiB * MIB;
    // While pages are fetched after a post-copy, reading one that is missing would wait for it.
    const isMoving = driver.migrations().some((m) => m.guest === guest);
    const pid = config.driver === 'qmp' && !isMoving ? processOf(config.runDir, guest) : undefined;
    const content = pid === undefined ? undefined : await nonZeroBytes(pid, memoryBytes, Math.random);
    return { ...estimateDirtying(samples, memoryBytes), ...(content === undefined ? {} : { nonZeroBytes: content }) };
  }

  /** In the background: guests that stay where they are, the one longest not looked at first. */
  async function sampleNext(): Promise<void> {
    if (sampling || closed) return;
    const moving = new Set(driver.migrations().map((m) => m.guest));
    const names = running().map((g) => g.spec.name);
    for (const name of dirtying.keys()) if (!names.includes(name)) dirtying.delete(name);
    for (const name of queues.keys()) if (!names.includes(name)) queues.delete(name);
    const atMs = (name: string) => dirtying.get(name)?.atMs ?? Number.NEGATIVE_INFINITY;
    const due = names
      .filter((name) => !moving.has(name) && clock.now() - atMs(name) >= o.dirtyEveryMs)
      .sort((a, b) => atMs(a) - atMs(b))[0];
    if (due === undefined) return;
    sampling = true;
    try {
      const samples = await sample(due, WINDOWS_S);
      dirtying.set(due, { atMs: clock.now(), samples, result: await estimate(due, samples) });
    } catch (error) {
      // A guest that just left, or a hypervisor that is busy: next time.
      log('debug', 'dirty-sample', { guest: due, error });
    } finally {
      sampling = false;
    }
  }

  const stop = clock.every(o.periodMs, () => {
    void tell();
    if (config.driver !== 'none') void sampleNext();
  });

  return {
    restart() {
      told = NOTHING_TOLD;
      void tell();
    },
    async measure(guest, seconds) {
      const fresh = await sample(guest, [seconds / 4, seconds]);
      const past = dirtying.get(guest);
      const pace = (samples: readonly DirtySample[]) => {
        const window = samples.at(1) ?? samples[0];
        return window === undefined ? 0 : window.bytes / window.seconds;
      };
      const ratio = past === undefined ? 0 : pace(past.samples) / pace(fresh);
      const counts =
        past !== undefined && clock.now() - past.atMs < FRESH_MS && ratio < SAME_PACE && ratio > 1 / SAME_PACE;
      const longer = counts ? past.samples.filter((s) => s.seconds > seconds) : [];
      const result = await estimate(guest, [...fresh, ...longer]);
      dirtying.set(guest, { atMs: past?.atMs ?? Number.NEGATIVE_INFINITY, samples: past?.samples ?? fresh, result });
      return result;
    },
    close() {
      closed = true;
      stop();
    },
  };
}

const roundedDirtying = (d: DirtyRateResult): DirtyRateResult => ({
  dirtyBytesPerS: Number(d.dirtyBytesPerS.toPrecision(3)),
  ...(d.workingSetBytes === undefined
    ? {}
    : { workingSetBytes: d.workingSetBytes === null ? null : Number(d.workingSetBytes.toPrecision(3)) }),
  ...(d.nonZeroBytes === undefined ? {} : { nonZeroBytes: roundedMemory(d.nonZeroBytes) }),
});
