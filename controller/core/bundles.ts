/**
 * Which part of a write goes to a switch in one bundle, where it has bundles, and which refusals mean that it has none.
 * Pure: `difference.ts` makes the writes, `controller/io/switchWrites.ts` sends their parts.
 */
import { type OfMessage, type OfRequestError, ofproto_v1_3 as ofp } from 'node-openflow';
import { IS_SLAVE } from './roles.ts';

export interface BundledWrite {
  /** Meters to add or change. They are confirmed first, so that no flow names one that is not there. */
  before: OfMessage<4>[];
  /** Flows and groups in the order of the write: all of it or nothing, and no packet meets a part. */
  bundle: OfMessage<4>[];
  /** Meters to delete when no flow uses them any more: with a meter go its flows (OpenFlow 1.3.5 §6.4). */
  after: OfMessage<4>[];
}

/**
 * The parts of a write; undefined where no more than one message would be in the bundle, which is whole by itself.
 * Meters stay outside: a switch need not take them in bundles, and Open vSwitch does not.
 */
export function bundledWrite(messages: readonly OfMessage<4>[]): BundledWrite | undefined {
  const parts: BundledWrite = { before: [], bundle: [], after: [] };
  for (const m of messages) {
    if (m.cls === 'OFPMeterMod') (m.command === ofp.OFPMC_DELETE ? parts.after : parts.before).push(m);
    // The bundle is ordered, so barriers have nothing to add in it.
    else if (m.cls !== 'OFPBarrierRequest') parts.bundle.push(m);
  }
  return parts.bundle.length > 1 ? parts : undefined;
}

/** What a commit is answered with when a message of the bundle was to blame, in 1.3's extension and later. */
const MESSAGE_FAILED = new Set(['ONFERR_ET_FAILED', 'OFPBFC_MSG_FAILED']);

const isOfBundles = (e: OfRequestError): boolean =>
  e.type === 'OFPET_BUNDLE_FAILED' || e.type === 'OFPET_BAD_REQUEST' || e.code.startsWith('ONFERR_');
const isAdded = (e: OfRequestError): boolean =>
  e.request?.cls === 'ONFBundleAddMsg' || e.request?.cls === 'OFPBundleAddMsg';

/**
 * Why bundles are of no use with a switch that refused one with these errors; undefined where what was in it was refused, as
 * it would have been without a bundle.
 */
export function whyNoBundles(errors: readonly OfRequestError[]): string | undefined {
  const isContent = (e: OfRequestError) =>
    e.code === IS_SLAVE || MESSAGE_FAILED.has(e.code) || (isAdded(e) && !isOfBundles(e));
  return errors.some(isContent) ? undefined : [...new Set(errors.map((e) => e.symbol))].join(', ');
}
