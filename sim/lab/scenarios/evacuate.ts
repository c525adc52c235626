/**
 * `evacuate`: a hypervisor with four guests of mixed priorities is emptied while a workload leaves it too. Once as an operator
 * does it, by the command `fairway evacuate`, which shows its time line first; the record has that beside what happened.
 * Once as clouds do it by default: two copies at a time, in the order of the list, by QEMU's own defaults, no slices. What is made of
 * the measurements is pure (`summarise`, `inversions`, `spread`, `brokenRules`) and stands at the top.
 */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { processOf } from '../../../agent/io/guestProcess.ts';
import type { GuestSpec } from '../../../contracts/agent.ts';
import { FairwayError, PRIORITIES, type Priority, type Technique } from '../../../contracts/common.ts';
import { type MigrationView, migrationViewSchema } from '../../../contracts/feed.ts';
import { type Evacuation, evacuationSchema } from '../../../contracts/rest.ts';
import type { LabRun } from '../../../contracts/results.ts';
import { formatMs } from '../../../contracts/units.ts';
import { compiled, type FairwayInLab } from '../fairway.ts';
import { type GuestWish, guestAddress, guestSpec } from '../guests.ts';
import { goesOnCounting, Workload } from '../measure.ts';
import type { Hypervisor, Lab } from '../network.ts';
import {
  type Copy,
  copyOf,
  FIGURES,
  measured,
  noteSwitchLeftovers,
  round,
  type Session,
  settle,
  startFairway,
  summary,
  type Watched,
  watchGuest,
  withLab,
} from '../session.ts';
import { ended, preciseNow, waitFor } from '../shell.ts';
import { startTicks } from '../state.ts';
import { migratePlain, type PlainMachine, startPlain, stopPlain } from '../unmanaged.ts';

/** Small guests: five machines and those that wait for them share two cores with everything else. */
const small = (index: number, labels: Record<string, string>): GuestWish => ({
  ...{ index, memoryMiB: 128, dirtyPagesPerS: 200, workingSetMiB: 8, countMs: 1000, labels },
});

const FROM: Hypervisor = 'hv1';

/**
 * Who leaves hv1, in the order of the list: the urgent one is the third. The first two are kept apart from each other, the fourth
 * from a guest that is at hv2 already.
 */
const LEAVING: GuestWish[] = [
  small(0, { priority: 'low', apart: 'db' }),
  small(1, { priority: 'medium', apart: 'db' }),
  small(2, { priority: 'high' }),
  small(3, { priority: 'medium', apart: 'web' }),
];
const RESIDENT = small(4, { apart: 'web' });

/** What clouds have as their default of migrations at a time from one host. */
const AT_A_TIME = 2;

/** A guest's place in time, ms since the time line was shown (or, without Fairway, since the first was begun). */
export interface Span {
  startMs: number;
  endMs: number;
}

export interface EvacuatedGuest extends Span {
  guest: string;
  priority: Priority;
  destination: string;
  technique: Technique;
  /** Why this destination; empty without Fairway. */
  reason: string;
  /** As the time line had it before anything was started; null without Fairway. */
  predicted: (Span & { rateMbps: number }) | null;
  bytes: number;
  downtimeMs: number;
  clientSilenceMs: number;
  guestAlive: boolean;
}

/** The four together; `totalMs` is from the first copy's start to the last one's end. */
export interface EvacuateRun extends LabRun {
  guests: EvacuatedGuest[];
  /** From the time line's showing, or the first beginning, until the last copy's end. */
  makespanMs: number;
  /** What the time line said, and what no plan can do without; null without Fairway. */
  predictedMakespanMs: number | null;
  boundMs: number | null;
  /** Mean time of a copy. */
  meanCopyMs: number;
  /** When the last of the most urgent ended. */
  highEndMs: number;
  /** Mean over the guests of how far the end was from the predicted one; null without Fairway. */
  meanEndErrorMs: number | null;
  /** Pairs in which the less urgent guest's copy began before the more urgent one's. */
  inversions: string[];
  /** Guests of one value of `apart` that ended on one host. */
  brokenRules: string[];
  /** No machine runs at the host any more, and an evacuation of it would have nothing to do. */
  hostEmpty: boolean;
}

/** A copy as it was, with what is known of its guest. */
export interface Evacuated extends Copy {
  guest: string;
  priority: Priority;
  destination: string;
  clientSilenceMs: number;
  guestAlive: boolean;
}

/** Starts that are this near each other were together: admission looks several times a second, not always. */
const TOGETHER_MS = 500;

/** Pairs in which the less urgent copy began before the more urgent one. */
export function inversions(guests: readonly (Span & { guest: string; priority: Priority })[]): string[] {
  const rank = (p: Priority) => PRIORITIES.indexOf(p);
  return guests.flatMap((urgent) =>
    guests
      .filter((g) => rank(g.priority) > rank(urgent.priority) && g.startMs + TOGETHER_MS < urgent.startMs)
      .map((g) => `${g.guest} (${g.priority}) began before ${urgent.guest} (${urgent.priority})`),
  );
}

/** Guests with the same label `apart` on one host, by name of the host. */
export function brokenRules(guests: readonly { guest: string; host: string; apart: string | undefined }[]): string[] {
  return guests.flatMap((a, i) =>
    guests
      .slice(i + 1)
      .filter((b) => a.apart !== undefined && a.apart === b.apart && a.host === b.host)
      .map((b) => `${a.guest} and ${b.guest} (apart=${a.apart}) are both on ${a.host}`),
  );
}

interface Placed {
  guest: string;
  apart: string | undefined;
}

/**
 * Where a cloud's scheduler would put guests: each in its turn on the host with the fewest that its rule allows.
 * @throws FairwayError `lab.noPlace`
 */
export function spread(
  leaving: readonly Placed[],
  there: readonly (Placed & { host: Hypervisor })[],
  hosts: readonly Hypervisor[],
): Map<string, Hypervisor> {
  const all = [...there];
  const found = new Map<string, Hypervisor>();
  for (const g of leaving) {
    const on = (host: Hypervisor) => all.filter((x) => x.host === host);
    const [host] = hosts
      .filter((h) => g.apart === undefined || on(h).every((x) => x.apart !== g.apart))
      .sort((a, b) => on(a).length - on(b).length);
    if (host === undefined) throw new FairwayError('lab.noPlace', `no host may take ${g.guest} (apart=${g.apart})`);
    all.push({ ...g, host });
    found.set(g.guest, host);
  }
  return found;
}

/** The copies beside what was predicted of them. `originMs` is when the time line was shown, or the first was begun. */
export function summarise(
  copies: readonly Evacuated[],
  originMs: number,
  plan: Evacuation | null,
): Omit<EvacuateRun, keyof LabRun | 'brokenRules' | 'hostEmpty'> {
  const guests = copies.map((c): EvacuatedGuest => {
    const move = plan?.moves.find((m) => m.guest === c.guest);
    return {
      guest: c.guest,
      priority: c.priority,
      destination: c.destination,
      technique: c.technique,
      reason: move?.reason ?? '',
      predicted:
        plan === null || move === undefined
          ? null
          : {
              startMs: Math.round(move.plan.startAtMs - plan.atMs),
              endMs: Math.round(move.plan.endAtMs - plan.atMs),
              rateMbps: round(move.plan.rateBps / 1e6),
            },
      startMs: Math.round(c.startMs - originMs),
      endMs: Math.round(c.startMs + c.totalMs - originMs),
      bytes: c.bytes,
      downtimeMs: c.downtimeMs,
      clientSilenceMs: c.clientSilenceMs,
      guestAlive: c.guestAlive,
    };
  });
  const errors = guests.flatMap((g) => (g.predicted === null ? [] : [Math.abs(g.endMs - g.predicted.endMs)]));
  const mean = (values: readonly number[]) => Math.round(values.reduce((a, b) => a + b, 0) / values.length);
  const urgent = PRIORITIES.find((p) => guests.some((g) => g.priority === p));
  return {
    guests,
    makespanMs: Math.max(...guests.map((g) => g.endMs)),
    predictedMakespanMs: plan === null ? null : Math.round(plan.endsAtMs - plan.atMs),
    boundMs: plan === null ? null : Math.round(plan.boundAtMs - plan.atMs),
    meanCopyMs: mean(guests.map((g) => g.endMs - g.startMs)),
    highEndMs: Math.max(...guests.filter((g) => g.priority === urgent).map((g) => g.endMs)),
    meanEndErrorMs: errors.length === 0 ? null : mean(errors),
    inversions: inversions(guests),
  };
}

/** The time line as it was, for people: predicted and actual start and end of each. */
export function spansText(run: Pick<EvacuateRun, 'guests'>): string[] {
  const s = (ms: number) => (ms / 1000).toFixed(1).padStart(5);
  return run.guests.map((g) => {
    const said = g.predicted === null ? '' : ` (predicted ${s(g.predicted.startMs)} to ${s(g.predicted.endMs)} s)`;
    return `${g.guest} to ${g.destination}, ${g.priority}: ${s(g.startMs)} to ${s(g.endMs)} s${said}, down ${formatMs(g.downtimeMs)}`;
  });
}

export async function evacuate(session: Session): Promise<EvacuateRun[]> {
  const wide: Session = { ...session, hypervisors: 3 };
  const wanted = (mode: string) => session.modes === undefined || session.modes.includes(mode);
  const runs: EvacuateRun[] = [];
  if (wanted('unmanaged')) runs.push(await unmanaged(wide));
  if (wanted('fairway')) runs.push(await managed(wide));
  return runs;
}

const priorityOf = (wish: GuestWish): Priority => wish.labels?.priority as Priority;
const nameOf = (wish: GuestWish): string => `guest${wish.index + 1}`;
const placed = (wish: GuestWish): Placed => ({ guest: nameOf(wish), apart: wish.labels?.apart });

/** What a run needs besides its guests: a client that pings each, and the workload that leaves the host. */
async function watchAll(session: Session, lab: Lab): Promise<{ watched: Watched[]; workload: Workload }> {
  const watched: Watched[] = [];
  for (const g of LEAVING) watched.push(await watchGuest(session, lab, g.index));
  const workload = await Workload.start(lab, FIGURES.workloadMbps * 1e6, 5201, session.signal);
  await settle(session, lab, watched);
  return { watched, workload };
}

/** Puts the copies' own accounts together with what clients and the workload's receiver saw. */
async function account(
  session: Session,
  lab: Lab,
  mode: string,
  seen: { watched: readonly Watched[]; workload: Workload },
  copies: readonly (Copy & { guest: string; destination: string })[],
  origin: { ms: number; plan: Evacuation | null },
): Promise<Omit<EvacuateRun, 'brokenRules' | 'hostEmpty'>> {
  const startMs = Math.min(...copies.map((c) => c.startMs));
  const first = copies[0] as Copy;
  const together: Copy = {
    ...{ mode, startMs, technique: first.technique, strategy: first.strategy },
    reasons: [...new Set(copies.flatMap((c) => c.reasons))],
    totalMs: Math.round(Math.max(...copies.map((c) => c.startMs + c.totalMs)) - startMs),
    downtimeMs: Math.max(...copies.map((c) => c.downtimeMs)),
    bytes: copies.reduce((a, c) => a + c.bytes, 0),
    passes: copies.reduce((a, c) => a + c.passes, 0),
  };
  const whole = await measured(session, lab, together, seen.watched[0] as Watched, [seen.workload]);
  const each: Evacuated[] = [];
  for (const [i, wish] of LEAVING.entries()) {
    const copy = copies.find((c) => c.guest === nameOf(wish));
    const w = seen.watched[i] as Watched;
    if (copy === undefined) throw new FairwayError('lab.missing', `${nameOf(wish)} was not moved`);
    each.push({
      ...copy,
      priority: priorityOf(wish),
      clientSilenceMs: Math.round(w.prober.silenceMs(copy.startMs, copy.startMs + copy.totalMs + 2000)),
      guestAlive: await goesOnCounting(lab, guestAddress(w.index), w.counted, 30_000, session.signal),
    });
  }
  const own = summarise(each, origin.ms, origin.plan);
  return {
    ...whole,
    clientSilenceMs: Math.max(...own.guests.map((g) => g.clientSilenceMs)),
    guestAlive: own.guests.every((g) => g.guestAlive),
    ...own,
  };
}

function tell(session: Session, run: EvacuateRun): void {
  session.say(`  ${summary(run)}`);
  for (const line of spansText(run)) session.say(`  ${line}`);
  const said = run.predictedMakespanMs === null ? '' : ` (predicted ${formatMs(run.predictedMakespanMs)})`;
  const wrong = [...run.inversions, ...run.brokenRules, ...(run.hostEmpty ? [] : [`${FROM} is not empty`])];
  session.say(
    `  emptied in ${formatMs(run.makespanMs)}${said}; ${wrong.length === 0 ? 'all as it should be' : wrong.join('; ')}`,
  );
}

// ---- by Fairway

/** What `fairway evacuate --json` prints at its end. */
const evacuatedSchema = evacuationSchema.extend({ migrations: z.array(migrationViewSchema) });

const EVACUATE_MS = 420_000;

/** Runs the command as an operator does, from the compiled command line; its time line and progress are said as they come. */
async function evacuateHost(
  session: Session,
  lab: Lab,
  fairway: FairwayInLab,
): Promise<z.infer<typeof evacuatedSchema>> {
  const own = Object.keys(process.env).filter((name) => name.startsWith('FAIRWAY_'));
  const words = ['evacuate', FROM, '--yes', '--json', '--url', fairway.client.url, '--token-file', fairway.tokenFile];
  const child = spawn(process.execPath, [compiled('cli/main.js'), ...words], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...Object.fromEntries(own.map((name) => [name, undefined])) },
  });
  if (child.pid !== undefined) lab.state.addProcess(child.pid, 'fairway evacuate');
  let answer = '';
  createInterface({ input: child.stdout }).on('line', (line) => {
    answer += line;
  });
  createInterface({ input: child.stderr }).on('line', (line) => session.say(`  ${line}`));
  const end = () => child.kill('SIGINT');
  session.signal.addEventListener('abort', end);
  const limit = setTimeout(end, EVACUATE_MS);
  const status = await ended(child);
  clearTimeout(limit);
  session.signal.removeEventListener('abort', end);
  if (status !== 0)
    throw new FairwayError('lab.evacuate', `fairway evacuate ended with ${status}: ${answer || 'see above'}`);
  return evacuatedSchema.parse(JSON.parse(answer));
}

/** Whether the host is empty: no machine of ours runs there, and the controller knows of nothing to move. Waits a little. */
async function isEmpty(session: Session, lab: Lab, fairway: FairwayInLab): Promise<boolean> {
  const folder = `${lab.switches[FROM].runDir}/agent`;
  try {
    await waitFor(
      `the end of the last machine on ${FROM}`,
      async () => {
        if (LEAVING.some((g) => processOf(folder, nameOf(g)) !== undefined)) return undefined;
        const { moves, refused, moving } = await fairway.client.evacuate({ host: FROM, dryRun: true });
        return moves.length + refused.length + moving.length === 0 ? true : undefined;
      },
      { timeoutMs: 20_000, everyMs: 500, signal: session.signal },
    );
    return true;
  } catch (e) {
    if (e instanceof FairwayError && e.code === 'lab.timeout') return false;
    throw e;
  }
}

function managed(session: Session): Promise<EvacuateRun> {
  return withLab(
    session,
    async (lab) => {
      session.say(`fairway: ${FROM} is emptied by \`fairway evacuate\``);
      const spec = (w: GuestWish): GuestSpec => guestSpec(session.image, w);
      const guests = { [FROM]: LEAVING.map(spec), hv2: [spec(RESIDENT)] };
      const { fairway } = await startFairway(session, lab, [], { guests });
      try {
        const seen = await watchAll(session, lab);
        const done = await evacuateHost(session, lab, fairway);
        const copies = done.migrations.map((v: MigrationView) => ({
          ...copyOf(v, 'fairway'),
          guest: v.guest,
          destination: v.to,
        }));
        const run = await account(session, lab, 'fairway', seen, copies, { ms: done.atMs, plan: done });
        // Where guests are is asked of the agents, not of the plan.
        const at = (w: GuestWish) =>
          lab.hypervisors.find((hv) => processOf(`${lab.switches[hv].runDir}/agent`, nameOf(w)) !== undefined);
        const hostEmpty = await isEmpty(session, lab, fairway);
        const whole: EvacuateRun = {
          ...run,
          hostEmpty,
          brokenRules: brokenRules([...LEAVING, RESIDENT].map((w) => ({ ...placed(w), host: at(w) ?? 'nowhere' }))),
        };
        tell(session, whole);
        await noteSwitchLeftovers(session, lab, fairway);
        return whole;
      } finally {
        await fairway.stop();
      }
    },
    true,
  );
}

// ---- as clouds do it by default

function unmanaged(session: Session): Promise<EvacuateRun> {
  return withLab(session, async (lab) => {
    session.say(`unmanaged: ${AT_A_TIME} at a time by plain QEMU, in the order of the list`);
    const sources: PlainMachine[] = [];
    for (const w of LEAVING) sources.push(await startPlain(lab, FROM, guestSpec(session.image, w), false));
    const resident = await startPlain(lab, 'hv2', guestSpec(session.image, RESIDENT), false);
    const others = lab.hypervisors.filter((hv) => hv !== FROM);
    const hosts = spread(LEAVING.map(placed), [{ ...placed(RESIDENT), host: 'hv2' }], others);
    const seen = await watchAll(session, lab);
    const originMs = preciseNow();
    const left = LEAVING.map((wish, i) => ({ wish, source: sources[i] as PlainMachine }));
    const copies: (Copy & { guest: string; destination: string })[] = [];
    const open: PlainMachine[] = [resident];
    const worker = async () => {
      for (let next = left.shift(); next !== undefined; next = left.shift()) {
        const { wish, source } = next;
        const host = hosts.get(nameOf(wish)) as Hypervisor;
        const machine = await startPlain(lab, host, source.spec, true);
        open.push(machine);
        const moved = await migratePlain(source, machine, session.signal, 4444 + wish.index);
        session.say(`  ${nameOf(wish)}: at ${host} after ${formatMs(moved.totalMs)}`);
        copies.push({
          ...{ mode: 'unmanaged', technique: 'pre-copy' as const, strategy: 'parallel' as const },
          reasons: [`${AT_A_TIME} at a time, QEMU's own defaults, no controller, no queues`],
          ...{ guest: nameOf(wish), destination: host, startMs: moved.startMs, totalMs: Math.round(moved.totalMs) },
          ...{ downtimeMs: moved.downtimeMs, bytes: moved.bytes, passes: moved.passes },
        });
        await stopPlain(lab, source);
      }
    };
    await Promise.all(Array.from({ length: AT_A_TIME }, worker));
    const run = await account(session, lab, 'unmanaged', seen, copies, { ms: originMs, plan: null });
    const homes = LEAVING.map((w) => ({ ...placed(w), host: hosts.get(nameOf(w)) as string }));
    const whole: EvacuateRun = {
      ...run,
      hostEmpty: sources.every((m) => startTicks(m.pid) === undefined),
      brokenRules: brokenRules([...homes, { ...placed(RESIDENT), host: 'hv2' }]),
    };
    tell(session, whole);
    for (const m of open) m.qmp.close();
    return whole;
  });
}
