/**
 * The destination's part of a migration as a state machine, the counterpart of `core/source.ts`: set capabilities and
 * parameters, listen on the first free port, wait for the guest to run. Capabilities come before listening, or
 * `postcopy-preempt` is refused. Pure; the driver carries the actions out. Late and duplicate events are harmless.
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
  /** The guest has run here: this machine is the guest now and must not be thrown away. */
  readonly guestRan: boolean;
  readonly reason: string | null;
}

export type DestinationEvent =
  | { type: 'reply'; to: 'capabilities' | 'parameters' | 'incoming'; error?: string }
  /** A MIGRATION event, or a poll. */
  | { type: 'status'; status: string }
  /** RESUME, or a poll that finds the guest running. */
  | { type: 'running' }
  | { type: 'lost'; reason: string };

export type DestinationAction =
  | { do: 'setCapabilities'; capabilities: Record<string, boolean> }
  | { do: 'setParameters'; parameters: Record<string, number | string> }
  | { do: 'incoming'; address: string; port: number }
  /** All of a guest that was stopped for its copy is here: start it. */
  | { do: 'resumeGuest' }
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
    reason: null,
  };
  if (port === undefined) {
    return { state: { ...state, phase: 'failed', reason: 'no port is left for incoming migrations' }, actions: [] };
  }
  return { state, actions: [{ do: 'setCapabilities', capabilities: capabilitiesFor(command) }] };
}

/** One step of the destination's machine. Pure. */
export function stepDestination(state: DestinationState, e: DestinationEvent): DestinationResult {
  const nothing: DestinationResult = { state, actions: [] };
  const { phase } = state;
  if (phase === 'failed' || phase === 'completed') return nothing;
  switch (e.type) {
    case 'reply': {
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
        actions: [{ do: 'event', message: { type: 'event', migration: state.command.migration, event: 'resumed' } }],
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
      if (e.status === 'failed' || e.status === 'postcopy-paused') {
        return { state: { ...state, phase: 'failed', reason: `the hypervisor says ${e.status}` }, actions: [] };
      }
      return nothing;
    case 'lost':
      return { state: { ...state, phase: 'failed', reason: e.reason }, actions: [] };
  }
}
