/** The driver of a host that only has a switch: no guests, and every order to move one is refused. */
import { FairwayError } from '../../contracts/common.ts';
import type { MigrationDriver } from '../core/driver.ts';

/** @param host for the refusals' text */
export function createNoDriver(host: string): MigrationDriver {
  const refuse = () =>
    Promise.reject(new FairwayError('no-driver', `${host} runs no guests: its agent has driver "none"`, ['badInput']));
  return {
    kind: 'none',
    abilities: () => ({
      hypervisor: 'none',
      techniques: [],
      autoConverge: false,
      xbzrle: false,
      multifd: [],
      multifdPostcopy: false,
      holdsSwitchover: 'none',
    }),
    open: () => Promise.resolve(),
    launch: refuse,
    guests: () => [],
    migrations: () => [],
    pastEvents: () => [],
    setProgressPeriod: () => {},
    prepare: refuse,
    start: refuse,
    setBandwidth: refuse,
    setDowntimeLimit: refuse,
    switchToPostcopy: refuse,
    continueSwitchover: refuse,
    cancel: refuse,
    recoverIncoming: refuse,
    recoverOutgoing: refuse,
    finish: refuse,
    abandon: refuse,
    measureDirtyRate: refuse,
    close: () => Promise.resolve(),
  };
}
