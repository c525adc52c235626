/**
 * The door to the lab for `fairway lab run`: picks a scenario, runs it, and puts its runs and what they left behind into one
 * `lab-result/1`. Neighbours: `scenarios/` say what is compared, `session.ts` how a run goes.
 */
import { readFileSync } from 'node:fs';
import { table } from '../../cli/terminal.ts';
import { FairwayError } from '../../contracts/common.ts';
import { createLog } from '../../contracts/log.ts';
import type { LabResult, LabRun } from '../../contracts/results.ts';
import { formatBytes, formatMs } from '../../contracts/units.ts';
import { guestImage } from './guests.ts';
import type { LabOptions } from './network.ts';
import { checkRequirements, DISKS, type Program, REDIS } from './requirements.ts';
import { agentFaults } from './scenarios/agentFaults.ts';
import { contention } from './scenarios/contention.ts';
import { evacuate } from './scenarios/evacuate.ts';
import { gang } from './scenarios/gang.ts';
import { moves } from './scenarios/moves.ts';
import { policyEdit } from './scenarios/policyEdit.ts';
import { readjust } from './scenarios/readjust.ts';
import { type StorageShape, storage } from './scenarios/storage.ts';
import { techniques } from './scenarios/techniques.ts';
import { FIGURES, type Session } from './session.ts';
import { interrupted } from './shell.ts';

export interface Scenario {
  /** One line. */
  about: string;
  /** Programs that not every lab needs. */
  needs?: readonly Program[];
  run(session: Session): Promise<LabRun[]>;
}

/** By name. */
export const SCENARIOS: Record<string, Scenario> = {
  contention: { about: 'one guest against a 160 Mbit/s workload: unmanaged, low, medium, high', run: contention },
  readjust: { about: 'the slice of a medium migration follows a workload that drops and returns', run: readjust },
  gang: { about: 'four guests at once: serial with low priority, parallel with high', run: gang },
  evacuate: {
    about: 'a host with four guests is emptied: by `fairway evacuate`, and two at a time as clouds do by default',
    run: evacuate,
  },
  'policy-edit': { about: 'redis-cli edits the policy while a migration runs', needs: REDIS, run: policyEdit },
  techniques: {
    about: 'every copy method on an idle and on a write-heavy guest, over 200 Mbit/s',
    run: techniques,
  },
  'agent-faults': {
    about:
      'agents, hypervisors, controller and cables fail during copies: what becomes of the guest, and where it runs',
    run: agentFaults,
  },
  storage: {
    about: 'a guest with a disk of 1 GiB moves: shared, mirrored, read on demand, and pulled under a rate',
    needs: DISKS,
    run: storage,
  },
  moves: {
    about: 'a stand-in guest moves many times by label, by VXLAN and over learning switches; then QEMU guests do',
    run: moves,
  },
};

export interface ScenarioOptions {
  /** Whether the caller will print the result as JSON; progress goes to `out` either way. */
  json: boolean;
  /** Receives progress for people, whole lines with their line end. */
  out(text: string): void;
  /** Leave the network of the last run standing. */
  keep: boolean;
  /** Ends the run early; everything is cleaned up before the call rejects with `lab.interrupted`. */
  signal: AbortSignal;
  lab?: LabOptions;
  /** `moves` only: how many times the stand-in moves in each mode (default 50), and a QEMU guest after that (default 3). */
  moves?: number;
  qemuMoves?: number;
  /** `techniques`, `storage` and `evacuate` only: the runs to make, such as `idle: pre-copy, xbzrle`; all when absent. */
  modes?: readonly string[];
  /** `storage` only: another disk than the one of 1 GiB, which takes its time. */
  storage?: StorageShape;
}

/** The runs of a scenario side by side, for people. */
export function runTable(runs: readonly LabRun[]): string {
  const rows = runs.map((r) => [
    r.mode,
    r.technique,
    r.strategy,
    r.converged === false ? `not done in ${formatMs(r.totalMs)}` : formatMs(r.totalMs),
    formatMs(r.downtimeMs),
    formatMs(r.clientSilenceMs),
    formatBytes(r.bytes),
    String(r.passes),
    String(r.workloadBeforeMbps),
    r.workloadMbps.length === 0 ? '–' : String(Math.min(...r.workloadMbps)),
    `${r.secondsBelowFloor} of ${r.workloadMbps.length}`,
    r.guestAlive ? 'yes' : 'NO',
  ]);
  const heading = ['run', 'technique', 'strategy', 'time', 'downtime', 'silence', 'sent', 'passes'];
  return table([[...heading, 'workload before', 'at worst', 's below floor', 'guest counts on'], ...rows]).trimEnd();
}

/**
 * Runs a scenario and returns what it measured. Needs root. Fails with FairwayError: `lab.scenario` for an unknown name,
 * `lab.root`, `lab.missing`, `lab.busy` (another lab of the prefix is at work), `lab.interrupted`, or what went wrong.
 */
export async function runScenario(
  name: string,
  options: ScenarioOptions,
): Promise<LabResult & { congestionControl: string }> {
  const scenario = Object.hasOwn(SCENARIOS, name) ? SCENARIOS[name] : undefined;
  if (scenario === undefined) {
    const known = Object.entries(SCENARIOS).map(([n, s]) => `${n} (${s.about})`);
    throw new FairwayError('lab.scenario', `no scenario "${name}"; there are: ${known.join('; ')}`, ['badInput']);
  }
  checkRequirements(scenario.needs);
  const say = (text: string) => options.out(`${text}\n`);
  const session: Session = {
    image: await guestImage(createLog('info', (line) => options.out(line))),
    labOptions: options.lab ?? {},
    say,
    signal: options.signal,
    keep: options.keep,
    leftovers: [],
    ...(options.moves === undefined ? {} : { moves: options.moves }),
    ...(options.qemuMoves === undefined ? {} : { qemuMoves: options.qemuMoves }),
    ...(options.modes === undefined ? {} : { modes: options.modes }),
    ...(options.storage === undefined ? {} : { storage: options.storage }),
  };
  let runs: LabRun[];
  try {
    runs = await scenario.run(session);
  } catch (e) {
    // Whatever a broken-off request or program said: the cause is the interruption.
    throw options.signal.aborted ? interrupted() : e;
  }
  const leftovers = [...new Set(session.leftovers)];
  say(runTable(runs));
  say(leftovers.length === 0 ? 'nothing was left behind' : `left behind:\n  ${leftovers.join('\n  ')}`);
  return {
    format: 'lab-result/1',
    scenario: name,
    congestionControl: readFileSync('/proc/sys/net/ipv4/tcp_congestion_control', 'utf8').trim(),
    capacityMbps: FIGURES.capacityMbps,
    floorMbps: FIGURES.floorMbps,
    ceilingMbps: FIGURES.ceilingMbps,
    runs,
    leftovers,
  };
}
