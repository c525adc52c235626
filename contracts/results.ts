/** What `fairway lab run … --json` and `fairway demo --json` print. Names and units are fixed; add fields, rename none. */
import type { Priority, Strategy, Technique } from './common.ts';

export interface LabRun {
  /** unmanaged | low | medium | high, or what the scenario compares. */
  mode: string;
  technique: Technique;
  strategy: Strategy;
  reasons: string[];
  totalMs: number;
  /** As QEMU says. */
  downtimeMs: number;
  /** Longest time without an answer that the client saw, pinging every 10 ms. */
  clientSilenceMs: number;
  bytes: number;
  passes: number;
  workloadBeforeMbps: number;
  /** In each second of the migration. */
  workloadMbps: number[];
  secondsBelowFloor: number;
  guestAlive: boolean;
  /** False: the copy did not come to an end and was cancelled. Absent: it was not the question. */
  converged?: boolean;
}

export interface LabResult<Run = LabRun> {
  format: 'lab-result/1';
  scenario: string;
  capacityMbps: number;
  floorMbps: number;
  ceilingMbps: number;
  runs: Run[];
  /** Flows, meters, queues, tunnels, namespaces, processes of ours after the run; each as a text. */
  leftovers: string[];
}

export interface DemoResult {
  format: 'demo-result/1';
  migrations: {
    vm: string;
    priority: Priority;
    technique: Technique;
    strategy: Strategy;
    reasons: string[];
    totalMs: number;
    downtimeMs: number;
    bytes: number;
    from: string;
    to: string;
    /** Mean of its slice while it was copied. */
    sliceMbps: number;
    /** Longest time the guest ran nowhere, as the data centre saw it. */
    silenceMs: number;
  }[];
  /**
   * Directed links that migrations used. `worstWorkloadMbps` is the workload's rate in its worst second, measured in the
   * data centre, not by the controller; `floorMbps` is what it was owed in that second: the floor of the link's SLA, or
   * `wantedMbps`, what it wanted to send over this link, where that was less. `beforeMbps` is its mean before the first copy.
   */
  links: {
    a: string;
    b: string;
    floorMbps: number;
    worstWorkloadMbps: number;
    capacityMbps: number;
    slaFloorMbps: number;
    wantedMbps: number;
    beforeMbps: number;
    secondsBelowFloor: number;
  }[];
  /** Flows, meters and queues of ours in the emulated switches after the run; each as a text. */
  leftovers: string[];
}
