/** A job as it is when it has just been asked for. Part of `step.ts`; `evacuate.ts` makes jobs of moves that are only thought of. */
import type { MigrateRequest } from '../../contracts/rest.ts';
import { reportedGuest } from './guestHosts.ts';
import { newPull } from './pull.ts';
import type { ControllerState, Job } from './state.ts';

/** Host on which a guest is; undefined when no agent reports it. */
export function hostOf(state: ControllerState, guest: string): string | undefined {
  return reportedGuest(state, guest)?.on?.host;
}

/** Undefined when nobody has the guest. */
export function newJob(
  state: ControllerState,
  request: MigrateRequest,
  move: MigrateRequest['moves'][number],
  o: { id: string; group: string | null; nowMs: number },
): Job | undefined {
  const { id, nowMs } = o;
  const from = hostOf(state, move.guest);
  const spec = state.agents.get(from ?? '')?.guests.find((g) => g.spec.name === move.guest)?.spec;
  if (from === undefined || spec === undefined) return undefined;
  const deadlineMs = move.deadlineMs ?? request.deadlineMs;
  const isLarge = request.moves.length >= state.policy.doc.planning.minGroup;
  return {
    id,
    number: state.nextNumber,
    guest: move.guest,
    spec,
    priority: move.priority ?? request.priority,
    group: o.group,
    from,
    to: move.destination,
    asked: {
      technique: request.technique ?? null,
      strategy: request.strategy ?? null,
      options: request.options ?? null,
    },
    deadlineAtMs: deadlineMs === undefined ? null : nowMs + deadlineMs,
    // Whoever asks for a strategy wants that one.
    isPlanned: !request.strategy && (isLarge || request.planned === true || deadlineMs !== undefined),
    planned: null,
    isHeld: false,
    behind: [],
    state: 'requested',
    technique: null,
    strategy: null,
    contention: null,
    enforcement: null,
    links: [],
    dpids: [],
    pathSinceMs: null,
    reroutedAtMs: null,
    awaiting: null,
    pull: request.options?.pullBps === undefined ? null : newPull(request.options.pullBps, nowMs),
    dirtyBytesPerS: null,
    workingSetBytes: null,
    nonZeroBytes: null,
    destination: null,
    stream: null,
    phase: 'initial',
    sliceBps: 0,
    pacedBps: null,
    mayTurnPostcopy: false,
    paused: false,
    flipped: false,
    resumed: false,
    copyEnded: false,
    cancelling: false,
    recovery: null,
    busyUntilMs: null,
    stragglers: { packets: 0, lastMs: 0 },
    stoppedAt: null,
    resumedAt: null,
    progress: null,
    progressShare: 0,
    requestedAtMs: nowMs,
    startedAtMs: null,
    endedAtMs: null,
    totalMs: null,
    note: null,
    reasons: [],
    sliceSteps: [],
    transitions: [{ state: 'requested', atMs: nowMs }],
  };
}
