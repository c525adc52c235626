/**
 * `fairway lab up`: the lab's network with Fairway and one guest in it, left standing for a person to work with. What a
 * scenario does by itself is then done by hand; `docs/lab.md` has an example. `fairway lab down` ends it.
 */
import { join } from 'node:path';
import { createLog } from '../../contracts/log.ts';
import { HTTP_PORT } from './fairway.ts';
import { guestImage } from './guests.ts';
import { ADDRESS, buildNetwork, enterCommand, type Lab, type LabOptions, type Place } from './network.ts';
import { CONTENTION_GUEST } from './scenarios/contention.ts';
import { type Session, startFairway, watchGuest } from './session.ts';
import { interrupted } from './shell.ts';

export interface UpOptions {
  /** Receives progress for people, whole lines with their line end. */
  out(text: string): void;
  /** Ends the attempt; what was made is removed before the call rejects with `lab.interrupted`. */
  signal: AbortSignal;
  lab?: LabOptions;
}

/** Where things are in a lab that stands. */
export interface StandingLab {
  stateDir: string;
  capacityBps: number;
  /** Address of the controller, inside the namespace of place `ctl`. */
  url: string;
  /** File with the token that the controller, its agents and its operators share. */
  tokenFile: string;
  guests: { name: string; host: string; ip: string }[];
  places: { place: Place; namespace: string; enter: string }[];
  /** Command lines to begin with. */
  examples: string[];
}

const PLACES = ['ctl', 'hv1', 'hv2', 'core', 'wl', 'client'] as const;

/**
 * Builds the network, starts controller, agents and a guest at hv1, and returns once the guest answers the client. Needs
 * root; fails as `buildNetwork` and `FairwayInLab.start` do, leaving nothing behind.
 */
export async function labUp(options: UpOptions): Promise<StandingLab> {
  const { signal, out } = options;
  const session: Session = {
    image: await guestImage(createLog('info', out)),
    labOptions: options.lab ?? {},
    say: (text) => out(`${text}\n`),
    signal,
    keep: true,
    leftovers: [],
  };
  const lab = await buildNetwork(session.labOptions);
  try {
    const { fairway, specs } = await startFairway(session, lab, [CONTENTION_GUEST]);
    const watched = await watchGuest(session, lab, CONTENTION_GUEST.index);
    await watched.prober.stop();
    fairway.leave();
    lab.state.setOwner(false);
    const guests = specs.map((s) => ({ name: s.name, host: 'hv1', ip: s.ip ?? '' }));
    return describe(lab, fairway.tokenFile, guests);
  } catch (e) {
    await lab.state.cleanUp();
    throw signal.aborted ? interrupted() : e;
  }
}

function describe(lab: Lab, tokenFile: string, guests: StandingLab['guests']): StandingLab {
  const url = `http://${ADDRESS.management.ctl}:${HTTP_PORT}`;
  const inside = (place: Place, command: string) => `ip netns exec ${lab.ns(place)} ${command}`;
  const fairway = (words: string) => inside('ctl', `npx fairway ${words} --url ${url} --token-file ${tokenFile}`);
  const [guest] = guests;
  return {
    stateDir: lab.stateDir,
    capacityBps: lab.capacityBps,
    url,
    tokenFile,
    guests,
    places: PLACES.map((place) => ({ place, namespace: lab.ns(place), enter: enterCommand(lab, place) })),
    examples: [
      fairway('status'),
      `${inside('client', 'iperf3 -s -D')}; ${inside('wl', `iperf3 -c ${ADDRESS.data.client} -b 160M -t 60`)}`,
      inside('client', `ping -i 0.01 ${guest?.ip}`),
      fairway(`migrate ${guest?.name} --to hv2 --priority high --wait`),
      `tail -f ${join(lab.stateDir, 'ctl', 'controller.log')}`,
    ],
  };
}
