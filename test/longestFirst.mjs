/**
 * The order of test files: the longest first, so that two workers end at about the same time, on a machine that has never run
 * them as well. Only the long ones are named; the others follow in jest's own order.
 */
import Sequencer from '@jest/test-sequencer';

/** Parts of paths, about longest first among those of one runner. */
const LONG = [
  'driver-contract-libvirt',
  'property/decisions',
  'mininet',
  'learning',
  'ofdump.test',
  'storage-qmp',
  'faults/kill9',
  'faults/twoControllers',
  'faults/outages',
  'faults/islands',
];

const rank = ({ path }) => {
  const at = LONG.findIndex((part) => path.includes(part));
  return at < 0 ? LONG.length : at;
};

export default class LongestFirst extends Sequencer {
  async sort(tests) {
    return (await super.sort(tests)).sort((a, b) => rank(a) - rank(b));
  }
}
