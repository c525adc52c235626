/**
 * `techniques`: every copy method moves a guest of 256 MiB over the lab's 200 Mbit/s, once while it is idle and once while it
 * writes faster than the network carries; asked for one by one through the controller's HTTP interface. One guest goes to
 * and fro under one Fairway. A copy that is not done in time is cancelled: `converged: false`.
 *
 * What is written decides what compression can do. The write-heavy guest changes one record of 64 bytes in each page of a
 * table, as databases and heaps do: whole pages are dirty, their contents are alike and compressible. With pages of random
 * bytes nothing is alike and nothing is compressible; the methods that live on that are shown with these as well.
 */
import type { CopyOptions } from '../../../contracts/agent.ts';
import { FairwayError, isFinal } from '../../../contracts/common.ts';
import type { MigrationView, SeenDowntime } from '../../../contracts/feed.ts';
import type { LabRun } from '../../../contracts/results.ts';
import { formatBytes, formatMs } from '../../../contracts/units.ts';
import { MEASURED_METHODS } from '../collect/plan.ts';
import type { FairwayInLab } from '../fairway.ts';
import { type GuestWish, guestAddress } from '../guests.ts';
import { goesOnCounting, orderDirtying, readGuestCount } from '../measure.ts';
import type { Lab } from '../network.ts';
import { noteSwitchLeftovers, type Session, startFairway, type Watched, watchGuest, withLab } from '../session.ts';
import { preciseNow, sleep } from '../shell.ts';

/** 64 MiB of it hold random data, of which half is written to. */
const TECHNIQUES_GUEST = {
  index: 0,
  memoryMiB: 256,
  filledMiB: 64,
  dirtyPagesPerS: 0,
  workingSetMiB: 32,
} as const;

/** 14,000 pages are 459 Mbit/s. The slice is 200, of which QEMU is given 180. */
type Load = Pick<GuestWish, 'dirtyPagesPerS' | 'workingSetMiB' | 'writes'>;
const IDLE: Load = { dirtyPagesPerS: 0, workingSetMiB: 32, writes: 'records' };
const HEAVY: Load = { dirtyPagesPerS: 14_000, workingSetMiB: 32, writes: 'records' };
const HEAVY_RANDOM: Load = { ...HEAVY, writes: 'random' };

/** Guests, and the methods tried on each. The last is beyond the table: where alike and compressible pages are the point. */
const LOADS = [
  { guest: 'idle', load: IDLE, methods: MEASURED_METHODS },
  { guest: 'write-heavy', load: HEAVY, methods: MEASURED_METHODS },
  {
    guest: 'write-heavy, random pages',
    load: HEAVY_RANDOM,
    methods: MEASURED_METHODS.filter((m) => m.options.xbzrle === true || m.options.multifd?.compression === 'zstd'),
  },
] as const;

/** The workload's limits: there is none here, and a migration of high priority has the whole link. */
const POLICY = {
  'sla.default.floor': '0 %',
  'sla.default.ceiling': '0 %',
  // A straggler of a guest that nobody but a client pings comes at once or not at all.
  'finish.silenceMs': 300,
};

/** A plain pre-copy of the idle guest takes 6 s; so long, and it goes round and round. */
const LIMIT_MS = 50_000;
const SETTLE_MS = 1500;
const AFTER_MS = 1000;

export interface TechniquesRun extends LabRun {
  guest: string;
  method: string;
  options: CopyOptions;
  converged: boolean;
  /** When it was cancelled, ms after its start; null: it was not. */
  cancelledAfterMs: number | null;
  /** From the stop at the source to the resume at the destination, as the agents saw it. */
  seenDowntime: SeenDowntime | null;
  /** What the guest was told to write. */
  dirtyPagesPerS: number;
  workingSetMiB: number;
  writes: string;
  /** What was left to send at the end; of a copy that was cancelled what it went round and round with. */
  remainingBytes: number;
}

export function techniques(session: Session): Promise<TechniquesRun[]> {
  return withLab(
    session,
    async (lab) => {
      const { fairway } = await startFairway(session, lab, [TECHNIQUES_GUEST], { policy: POLICY, preferGuests: true });
      try {
        const watched = await watchGuest(session, lab, TECHNIQUES_GUEST.index);
        const runs: TechniquesRun[] = [];
        for (const { guest, load, methods: all } of LOADS) {
          const methods = all.filter((m) => session.modes?.includes(modeOf(guest, m.name)) ?? true);
          if (methods.length === 0) continue;
          session.say(`${guest}: ${load.dirtyPagesPerS} pages/s in ${load.workingSetMiB} MiB`);
          await orderDirtying(lab, guestAddress(TECHNIQUES_GUEST.index), load, session.signal);
          for (const method of methods) {
            await sleep(SETTLE_MS, session.signal);
            const run = await move(session, lab, fairway, watched, { guest, load, method });
            session.say(`  ${lineOf(run)}`);
            runs.push(run);
          }
        }
        await watched.prober.stop();
        await noteSwitchLeftovers(session, lab, fairway);
        return runs;
      } finally {
        await fairway.stop();
      }
    },
    true,
  );
}

const modeOf = (guest: string, method: string): string => `${guest}: ${method}`;

interface Move {
  guest: string;
  load: Load;
  method: (typeof MEASURED_METHODS)[number];
}

async function move(
  session: Session,
  lab: Lab,
  fairway: FairwayInLab,
  watched: Watched,
  { guest, load, method }: Move,
): Promise<TechniquesRun> {
  const { signal } = session;
  const address = guestAddress(watched.index);
  const counted = (await readGuestCount(lab, address)) ?? 0;
  const view = await moveView(session, fairway, method);
  const startMs = view.startedAtMs;
  if (startMs === null || (view.state !== 'done' && view.state !== 'cancelled')) {
    throw new FairwayError(
      'lab.migration',
      `${guest}, ${method.name}: ended ${view.state}: ${view.note ?? 'no reason'}`,
    );
  }
  const converged = view.state === 'done';
  const endedMs = view.endedAtMs ?? preciseNow();
  const totalMs = Math.round(view.totalMs ?? endedMs - startMs);
  const untilMs = startMs + totalMs + AFTER_MS;
  await sleep(Math.max(0, untilMs - preciseNow()), signal);
  return {
    mode: modeOf(guest, method.name),
    guest,
    method: method.name,
    technique: method.technique,
    options: method.options,
    strategy: view.strategy ?? 'parallel',
    reasons: view.reasons.map((r) => r.text),
    converged,
    cancelledAfterMs: converged ? null : totalMs,
    totalMs,
    downtimeMs: converged ? Math.round(view.downtimeMs ?? 0) : 0,
    seenDowntime: converged ? (view.seenDowntime ?? null) : null,
    clientSilenceMs: Math.round(watched.prober.silenceMs(startMs, untilMs)),
    bytes: view.transferredBytes,
    remainingBytes: view.remainingBytes,
    passes: view.passes,
    dirtyPagesPerS: load.dirtyPagesPerS,
    workingSetMiB: load.workingSetMiB,
    writes: load.writes ?? 'random',
    // Nothing but the migration uses the network.
    workloadBeforeMbps: 0,
    workloadMbps: [],
    secondsBelowFloor: 0,
    guestAlive: await goesOnCounting(lab, address, counted, 30_000, signal),
  };
}

/** Asks for the move to wherever the guest is not, cancels it when it takes too long, and answers what became of it. */
async function moveView(session: Session, fairway: FairwayInLab, method: Move['method']): Promise<MigrationView> {
  const { topology } = await fairway.client.status();
  const at = topology.guests?.find((g) => g.name === GUEST_NAME)?.host;
  const destination = at === 'hv1' ? 'hv2' : 'hv1';
  const { migrations } = await fairway.client.migrate({
    moves: [{ guest: GUEST_NAME, destination }],
    priority: 'high',
    technique: method.technique,
    ...(Object.keys(method.options).length === 0 ? {} : { options: method.options }),
  });
  const id = migrations[0]?.id ?? '';
  let isCancelled = false;
  return fairway.until(
    `end of ${method.name}`,
    LIMIT_MS * 5,
    async () => {
      const view = await fairway.client.migration(id);
      if (isFinal(view.state)) return view;
      const tooLong = view.startedAtMs !== null && preciseNow() - view.startedAtMs > LIMIT_MS;
      if (view.state === 'copying' && tooLong && !isCancelled) {
        isCancelled = true;
        // Refused when it is about to switch over after all, or already runs there: then it ends by itself.
        await fairway.client.cancel(id).catch((e: unknown) => {
          if (!(e instanceof FairwayError && e.has('conflict'))) throw e;
        });
      }
      return undefined;
    },
    session.signal,
  );
}

const GUEST_NAME = `guest${TECHNIQUES_GUEST.index + 1}`;

function lineOf(r: TechniquesRun): string {
  const { seenDowntime: seen } = r;
  const stood =
    seen === null ? '' : ` (the agents saw ${Math.round(seen.atLeastMs)} to ${Math.round(seen.atMostMs)} ms)`;
  const end = r.converged ? `done in ${formatMs(r.totalMs)}` : `NOT DONE after ${formatMs(r.totalMs)}, cancelled`;
  return (
    `${r.method}: ${end}, ${formatBytes(r.bytes)} in ${r.passes} passes, down ${formatMs(r.downtimeMs)}${stood}, ` +
    `client silent ${formatMs(r.clientSilenceMs)}, guest ${r.guestAlive ? 'goes on counting' : 'DOES NOT COUNT'}`
  );
}
