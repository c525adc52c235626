/**
 * `fairway lab collect`: real migrations between the lab's two hypervisors, each with what was known before it and what
 * became of it, one line each in a file. The agents copy exactly as they do for a controller; the cables have the rate of the
 * row and QEMU is paced to nine tenths of it, as the controller paces a slice. One guest goes to and fro.
 */
import { loadavg } from 'node:os';
import { FairwayError } from '../../../contracts/common.ts';
import { createLog } from '../../../contracts/log.ts';
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import { PAYLOAD_SHARE } from '../../../controller/core/reserve.ts';
import { AgentsInLab, type CopyOutcome } from '../agents.ts';
import { guestAddress, guestImage, guestSpec } from '../guests.ts';
import { hostLeftovers } from '../leftovers.ts';
import { goesOnCounting, orderDirtying, Prober, readGuestCount } from '../measure.ts';
import { buildNetwork, type Lab, type LabOptions, setCableRate } from '../network.ts';
import { interrupted, preciseNow, sleep } from '../shell.ts';
import { type PlannedRow, planRows } from './plan.ts';
import { emptyRow, openRecord, type Row } from './record.ts';

export interface CollectOptions {
  out: string;
  rows: number;
  seed: number;
  signal: AbortSignal;
  lab?: LabOptions;
  /** Progress for people, one line. */
  say(text: string): void;
  /** Called after each row: how many of how many are there, and how long the rest will take, ms (null: not known yet). */
  onProgress(done: number, total: number, etaMs: number | null): void;
}

export interface Collected {
  file: string;
  seed: number;
  rows: number;
  /** Made in this call. */
  made: number;
  /** Rows of this call that were not copied to the end, by outcome. */
  cancelled: number;
  failed: number;
  meanRowMs: number | null;
  leftovers: string[];
}

const MBIT = 1e6;
/** The fastest cable of the plan, with room. */
const NETWORK_BPS = 1000 * MBIT;
/** After an order to dirty otherwise, before it is measured. */
const SETTLE_MS = 500;
/** The longer window: what is gone through in less shows as a working set. */
const MEASURE_SECONDS = 2;
/** The client listens so long after the guest is said to run. */
const AFTER_MS = 300;
/** Guests have as many addresses. */
const INDICES = 100;
/** After so many failures in a row nothing better is to be expected. */
const MAX_FAILURES = 4;

/** Memory that is not zero besides what is filled: kernel, initial RAM disk, the writer's source. */
const OWN_MIB = 45;

/** How long a copy may take: several times what one pass does; auto-converge needs many passes to slow a guest down. */
export function timeLimitMs(row: PlannedRow): number {
  const passMs = ((row.filledMiB + OWN_MIB) * 2 ** 20 * 8000) / (row.wireMbps * MBIT * PAYLOAD_SHARE);
  const patient = row.method.options.autoConverge === true;
  return Math.round(patient ? Math.min(25_000, 5 * passMs + 5000) : Math.min(15_000, 2.5 * passMs + 3000));
}

/**
 * Makes the rows of the plan that are not in the file yet.
 *
 * @throws FairwayError `lab.collect` for a file that does not fit or when copies keep failing, and what `buildNetwork` throws.
 */
export async function collect(options: CollectOptions): Promise<Collected> {
  const { signal, seed, say } = options;
  const record = openRecord(options.out, seed);
  const plan = planRows(seed, options.rows);
  const todo = plan.filter((row) => !record.done.has(row.row));
  const done = plan.length - todo.length;
  const result = { file: options.out, seed, rows: plan.length, made: 0, cancelled: 0, failed: 0 };
  if (todo.length === 0) return { ...result, meanRowMs: null, leftovers: [] };

  const image = await guestImage(createLog('info', say));
  const lab = await buildNetwork({ ...options.lab, capacityBps: NETWORK_BPS });
  let agents: AgentsInLab | undefined;
  let prober: Prober | undefined;
  const times: number[] = [];
  let failures = 0;
  try {
    agents = await AgentsInLab.open(lab, signal);
    options.onProgress(done, plan.length, null);
    let guest: { block: number; index: number } | undefined;
    let guests = 0;
    for (const row of todo) {
      if (signal.aborted) throw interrupted();
      const startedMs = preciseNow();
      if (guest === undefined || guest.block !== row.block) {
        await prober?.stop();
        guest = { block: row.block, index: guests++ % INDICES };
        await agents.useGuest(guestSpec(image, { ...row, index: guest.index, dirtyPagesPerS: 0 }));
        prober = Prober.start(lab, guestAddress(guest.index));
        await prober.waitForAnswers(50, 90_000, signal);
      }
      const made = await makeRow(lab, agents, prober as Prober, guest.index, row, seed, signal);
      record.append(made);
      result.made++;
      times.push(preciseNow() - startedMs);
      if (made.outcome === 'cancelled') result.cancelled++;
      if (made.outcome === 'failed' || made.guest_alive !== true) {
        // Whatever became of this guest: the next row has another.
        guest = undefined;
        result.failed++;
        say(`row ${row.row} (${row.method.name}): ${made.reason || 'the guest does not count any more'}`);
        if (++failures >= MAX_FAILURES) {
          throw new FairwayError('lab.collect', `${failures} copies in a row failed, the last: ${made.reason}`);
        }
      } else failures = 0;
      const mean = times.reduce((a, b) => a + b, 0) / times.length;
      options.onProgress(done + result.made, plan.length, mean * (todo.length - result.made));
    }
  } catch (e) {
    throw signal.aborted ? interrupted() : e;
  } finally {
    await prober?.stop();
    await agents?.close();
    await lab.state.cleanUp();
  }
  return {
    ...result,
    meanRowMs: Math.round(times.reduce((a, b) => a + b, 0) / times.length),
    leftovers: await hostLeftovers(lab),
  };
}

/** One migration. What goes wrong with it is a row, too; only an interruption is thrown. */
async function makeRow(
  lab: Lab,
  agents: AgentsInLab,
  prober: Prober,
  index: number,
  row: PlannedRow,
  seed: number,
  signal: AbortSignal,
): Promise<Row> {
  const address = guestAddress(index);
  const { method } = row;
  const { technique: policy } = DEFAULT_POLICY;
  const paceBps = Math.round(row.wireMbps * MBIT * PAYLOAD_SHARE);
  const limitMs = timeLimitMs(row);
  const made: Row = {
    ...emptyRow(),
    row: row.row,
    seed,
    started_at: new Date().toISOString(),
    technique: method.technique,
    auto_converge: method.options.autoConverge === true,
    xbzrle_cache_mib: method.options.xbzrleCacheMiB ?? null,
    multifd_channels: method.options.multifd?.channels ?? null,
    multifd_compression: method.options.multifd?.compression ?? null,
    memory_mib: row.memoryMiB,
    vcpus: 1,
    filled_mib: row.filledMiB,
    ordered_dirty_pages_per_s: row.dirtyPagesPerS,
    ordered_working_set_mib: row.workingSetMiB,
    writes: row.writes,
    wire_mbps: row.wireMbps,
    pace_mbps: paceBps / MBIT,
    downtime_limit_ms: policy.downtimeLimitMs,
    hybrid_passes: policy.hybridPasses,
    time_limit_ms: limitMs,
  };
  try {
    await setCableRate(lab, row.wireMbps * MBIT);
    await orderDirtying(lab, address, row, signal);
    await sleep(SETTLE_MS, signal);
    const measured = await agents.measure(MEASURE_SECONDS);
    const counted = (await readGuestCount(lab, address)) ?? 0;
    made.measured_dirty_bytes_per_s = Math.round(measured.dirtyBytesPerS);
    made.measured_working_set_bytes =
      typeof measured.workingSetBytes === 'number' ? Math.round(measured.workingSetBytes) : null;
    made.load_average_1min = Math.round((loadavg()[0] ?? 0) * 100) / 100;
    const copied = await agents.copy({
      technique: method.technique,
      options: method.options,
      bandwidthBps: paceBps,
      switchoverBps: paceBps,
      downtimeLimitMs: policy.downtimeLimitMs,
      hybridPasses: policy.hybridPasses,
      limitMs,
    });
    Object.assign(made, outcomeOf(copied));
    await sleep(copied.endMs + AFTER_MS - preciseNow(), signal);
    made.client_silence_ms = Math.round(prober.silenceMs(copied.startMs, copied.endMs + AFTER_MS));
    made.guest_alive = await goesOnCounting(lab, address, counted, 15_000, signal);
  } catch (e) {
    if (signal.aborted) throw interrupted();
    made.outcome = 'failed';
    made.converged = false;
    made.reason = e instanceof Error ? e.message : String(e);
  }
  return made;
}

/** What became of a copy, from the agent's account and QEMU's own. */
function outcomeOf(c: CopyOutcome): Partial<Row> {
  const ram = (c.qemu.ram ?? {}) as Record<string, unknown>;
  const number = (value: unknown): number | null => (typeof value === 'number' ? value : null);
  const completed = c.outcome === 'completed';
  const gapMs =
    c.stoppedAtMs === undefined || c.resumedAtMs === undefined ? null : Math.round(c.resumedAtMs - c.stoppedAtMs);
  return {
    outcome: c.outcome,
    converged: completed,
    total_ms: number(c.qemu['total-time']) ?? Math.round(c.endMs - c.startMs),
    setup_ms: number(c.qemu['setup-time']),
    downtime_ms: completed ? number(c.qemu.downtime) : null,
    stop_to_resume_ms: completed ? gapMs : null,
    transferred_bytes: number(ram.transferred) ?? c.progress?.transferredBytes ?? null,
    passes: number(ram['dirty-sync-count']) ?? c.progress?.passes ?? null,
    normal_pages: number(ram.normal),
    duplicate_pages: number(ram.duplicate),
    postcopy_requests: number(ram['postcopy-requests']),
    postcopy_bytes: number(ram['postcopy-bytes']),
    throughput_mbps: typeof ram.mbps === 'number' ? Math.round(ram.mbps * 10) / 10 : null,
    throttle_percent: Math.round(c.throttleShare * 100),
    reason: completed ? '' : c.outcome === 'cancelled' ? 'not done within the time limit' : c.reason,
  };
}
