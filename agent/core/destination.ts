/**
 * The destination's part of a migration as a state machine, the counterpart of `core/source.ts`: set capabilities and
 * parameters, listen on the first free port, wait for the guest to run. Capabilities come before listening, or
 * `postcopy-preempt` is refused. Pure; the driver carries the actions out. Late and duplicate events are harmless.
 *
 * A stream that breaks in post-copy leaves the guest here, waiting for pages: the machine says so (`postcopyPaused`) and
 * listens anew when ordered (`recover`), on another port: the first one stays free of listeners as long as the migration is
 * known, so that the source can ask there whether the path is back.
 */
import type { AgentCommandOf } from '../../contracts/agent.ts';
import type { EventMessage } from './driver.ts';
import { capabilitiesFor, optionParameters } from './techniques.ts';

export type DestinationPhase =
  | 'capabilities'
  | 'parameters'
  | 'incoming'
  | 'listening'
  | 'receiving'
  | 'resumed'
  | 'paused'
  | 'listeningAgain'
  | 'completed'
  | 'failed';

export interface DestinationState {
  readonly role: 'destination';
  readonly command: AgentCommandOf<'prepare'>;
  readonly phase: DestinationPhase;
  readonly address: string;
  /** Port listened on, or being tried. */
  readonly port: number;
  /** Ports to try after `port`. */
  readonly otherPorts: readonly number[];
  /** Storage mirrored, where the hypervisor takes the disks by itself: the port it will listen at. */
  readonly diskPort?: number;
  /** The guest has run here: this machine is the guest now and must not be thrown away. */
  readonly guestRan: boolean;
  /** Port listened on since the stream broke, or being tried. */
  readonly againPort: number | null;
  /** Ordered to listen anew; waits for the hypervisor to let go of the old stream. */
  readonly recoverPending: boolean;
  readonly reason: string | null;
}

export type DestinationEvent =
  | { type: 'reply'; to: 'capabilities' | 'parameters' | 'incoming' | 'listenAgain' | 'pauseCopy'; error?: string }
  /** A MIGRATION event, or a poll. */
  | { type: 'status'; status: string }
  /** RESUME, or a poll that finds the guest running. */
  | { type: 'running' }
  /** Storage on-demand: nothing is at the source any more. */
  | { type: 'pulled' }
  /** Listen anew, on one of these ports. */
  | { type: 'recover'; ports: readonly number[] }
  | { type: 'lost'; reason: string };

export type DestinationAction =
  | { do: 'setCapabilities'; capabilities: Record<string, boolean> }
  | { do: 'setParameters'; parameters: Record<string, number | string> }
  | { do: 'incoming'; address: string; port: number }
  /** All of a guest that was stopped for its copy is here: start it. */
  | { do: 'resumeGuest' }
  /** Give up a stream that may be dead without anybody having said so. */
  | { do: 'pauseCopy' }
  | { do: 'listenAgain'; address: string; port: number }
  | { do: 'event'; message: EventMessage };

export interface DestinationResult {
  state: DestinationState;
  actions: DestinationAction[];
}

/**
 * How QEMU announces the guest's new place (RARP, and the guest's own gratuitous ARP): five times over about 1.2 s, the
 * first soon after it runs. More is not needed, since Fairway's flows are in place before.
 */
const ANNOUNCE = { 'announce-initial': 50, 'announce-max': 550, 'announce-rounds': 5, 'announce-step': 100 } as const;

/** The machine's first state. `ports`: at least one, in the order to try. */
export function prepareDestination(
  command: AgentCommandOf<'prepare'>,
  address: string,
  ports: readonly number[],
): DestinationResult {
  const [port, ...otherPorts] = ports;
  const state: DestinationState = {
    role: 'destination',
    command,
    phase: 'capabilities',
    address,
    port: port ?? 0,
    otherPorts,
    guestRan: false,
    againPort: null,
    recoverPending: false,
    reason: null,
  };
  if (port === undefined) {
    return { state: { ...state, phase: 'failed', reason: 'no port is left for incoming migrations' }, actions: [] };
  }
  return { state, actions: [{ do: 'setCapabilities', capabilities: capabilitiesFor(command) }] };
}

const event = (state: DestinationState, name: EventMessage['event'], reason?: string): DestinationAction => ({
  do: 'event',
  message: {
    type: 'event',
    migration: state.command.migration,
    event: name,
    ...(reason === undefined ? {} : { reason }),
  },
});

/** Tries the first of the ports that are left; without one it stays paused, and says why. */
function listenAgain(state: DestinationState, error = 'no port is left for incoming migrations'): DestinationResult {
  const [port, ...otherPorts] = state.otherPorts;
  if (port === undefined) {
    return { state: { ...state, phase: 'paused', recoverPending: false, againPort: null, reason: error }, actions: [] };
  }
  return {
    state: { ...state, phase: 'listeningAgain', recoverPending: false, againPort: port, otherPorts, reason: null },
    actions: [{ do: 'listenAgain', address: state.address, port }],
  };
}

/** One step of the destination's machine. Pure. */
export function stepDestination(state: DestinationState, e: DestinationEvent): DestinationResult {
  const nothing: DestinationResult = { state, actions: [] };
  const { phase } = state;
  // Long after the copy itself.
  if (e.type === 'pulled') return { state, actions: [event(state, 'disksPulled')] };
  if (phase === 'failed' || phase === 'completed') return nothing;
  switch (e.type) {
    case 'reply': {
      if (e.to === 'listenAgain') {
        return e.error === undefined || phase !== 'listeningAgain' ? nothing : listenAgain(state, e.error);
      }
      if (e.to === 'pauseCopy') {
        return e.error === undefined
          ? nothing
          : { state: { ...state, recoverPending: false, reason: e.error }, actions: [] };
      }
      if (phase !== e.to) return nothing;
      if (e.to === 'incoming' && e.error !== undefined) {
        const [port, ...otherPorts] = state.otherPorts;
        if (port === undefined) return { state: { ...state, phase: 'failed', reason: e.error }, actions: [] };
        return {
          state: { ...state, port, otherPorts },
          actions: [{ do: 'incoming', address: state.address, port }],
        };
      }
      if (e.error !== undefined) {
        return { state: { ...state, phase: 'failed', reason: `${e.to}: ${e.error}` }, actions: [] };
      }
      if (e.to === 'capabilities') {
        const parameters = { ...ANNOUNCE, ...optionParameters(state.command) };
        return { state: { ...state, phase: 'parameters' }, actions: [{ do: 'setParameters', parameters }] };
      }
      if (e.to === 'parameters') {
        return {
          state: { ...state, phase: 'incoming' },
          actions: [{ do: 'incoming', address: state.address, port: state.port }],
        };
      }
      return { state: { ...state, phase: 'listening' }, actions: [] };
    }
    case 'running': {
      if (state.guestRan) return nothing;
      return {
        state: { ...state, phase: 'resumed', guestRan: true },
        actions: [event(state, 'resumed')],
      };
    }
    case 'status':
      if (e.status === 'active' && phase === 'listening')
        return { state: { ...state, phase: 'receiving' }, actions: [] };
      // `completed` may come just before RESUME: the guest counts as arrived only once it runs.
      if (e.status === 'completed' && state.guestRan) return { state: { ...state, phase: 'completed' }, actions: [] };
      if (e.status === 'completed' && state.command.technique === 'stop-and-copy') {
        return { state, actions: [{ do: 'resumeGuest' }] };
      }
      if (e.status === 'postcopy-paused') {
        if (state.recoverPending) return listenAgain(state);
        if (phase === 'paused') return nothing;
        const why = phase === 'listeningAgain' ? 'it broke again' : 'the stream broke';
        const paused: DestinationState = { ...state, phase: 'paused', againPort: null };
        return { state: paused, actions: [event(paused, 'postcopyPaused', `${why}; the guest waits here for pages`)] };
      }
      if (e.status === 'postcopy-active' && (phase === 'paused' || phase === 'listeningAgain')) {
        const going: DestinationState = { ...state, phase: 'resumed', againPort: null };
        return { state: going, actions: [event(going, 'postcopyRecovered')] };
      }
      if (e.status === 'failed') {
        return { state: { ...state, phase: 'failed', reason: `the hypervisor says ${e.status}` }, actions: [] };
      }
      return nothing;
    case 'recover': {
      // The order was given before, and is obeyed.
      if (phase === 'listeningAgain' || state.recoverPending) return nothing;
      const next = { ...state, otherPorts: e.ports.filter((port) => port !== state.port) };
      if (phase === 'paused') return listenAgain(next);
      if (!state.guestRan) return nothing;
      return { state: { ...next, recoverPending: true }, actions: [{ do: 'pauseCopy' }] };
    }
    case 'lost':
      return { state: { ...state, phase: 'failed', reason: e.reason }, actions: [] };
  }
}
