/** A driver of which only the guests and their dirtying are of interest. */
import type { MigrationDriver } from '../../../agent/core/driver.ts';
import { createNoDriver } from '../../../agent/io/noDriver.ts';
import type { GuestInfo } from '../../../contracts/agent.ts';

export const noDriverFor = (
  guests: GuestInfo[],
  measureDirtyRate: MigrationDriver['measureDirtyRate'],
): MigrationDriver => ({ ...createNoDriver('h1'), guests: () => guests, measureDirtyRate });
