/** The drivers' contract on real guests, driven by QMP. */
import { driverContract } from './driverContract.ts';
import { makeQmpRig } from './qmpRig.ts';
import { BUSY_GUEST, whyNoRealGuests } from './realGuests.ts';

jest.setTimeout(300_000);

const reason = whyNoRealGuests();
describe('QEMU by QMP', () =>
  driverContract({
    make: () => makeQmpRig(undefined, () => BUSY_GUEST),
    ...(reason === undefined ? {} : { skipped: reason }),
  }));
