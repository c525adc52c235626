/**
 * Which agents tell of a guest, by its name: an index over what agents said last, made once for each state of it. With a thousand
 * guests everything that goes over all of them would otherwise look at all of them for each. Pure.
 */
import type { GuestInfo } from '../../contracts/agent.ts';
import type { AgentState, ControllerState } from './state.ts';

export interface Reported {
  /** The first agent that tells of a guest of that name, whatever its state there, and what it tells. */
  agent: AgentState;
  info: GuestInfo;
  /** The first agent on whose host it is: neither about to come there nor stopped. Undefined where there is none. */
  on?: AgentState;
}

/** Agents are never changed in place: what was found for a map of them holds for it. */
const known = new WeakMap<ControllerState['agents'], ReadonlyMap<string, Reported>>();

/** What agents tell of the guest of that name; undefined where none does. */
export function reportedGuest({ agents }: Pick<ControllerState, 'agents'>, guest: string): Reported | undefined {
  let index = known.get(agents);
  if (index === undefined) {
    index = indexOf(agents);
    known.set(agents, index);
  }
  return index.get(guest);
}

function indexOf(agents: ControllerState['agents']): ReadonlyMap<string, Reported> {
  const index = new Map<string, Reported>();
  for (const agent of agents.values()) {
    for (const info of agent.guests) {
      const { name } = info.spec;
      const found = index.get(name) ?? { agent, info };
      if (found.on === undefined && info.state !== 'incoming' && info.state !== 'stopped') found.on = agent;
      index.set(name, found);
    }
  }
  return index;
}
