/**
 * Bundles of an emulated switch: ONF's extension 230 for OpenFlow 1.3, which 1.4 has as part of itself (§6.9 there). Messages are
 * kept until their bundle is committed, and then carried out as one by pipeline.ts. Like Open vSwitch, it takes no
 * meter-mods, and answers a commit that fails with the error of the first message that did and one of its own.
 */
import { type OfMessage, of13, ofproto_v1_3 as ofp } from 'node-openflow';
import type { FlowMod, GroupMod } from './entries.ts';
import type { FlowTables } from './flowTables.ts';
import type { OfErrorCode } from './match.ts';

type Control = Extract<OfMessage<4>, { cls: 'ONFBundleCtrlMsg' }>;
type Add = Extract<OfMessage<4>, { cls: 'ONFBundleAddMsg' }>;

/** What a switch sends for a bundle message. */
export interface BundleAnswer {
  /** Errors of messages in it, with the transaction ids of those that added them. */
  errors: (OfErrorCode & { xid: number })[];
  reply: OfMessage<4>;
}

const ONF = 0x4f4e4600;
const onfError = (exp_type: number): OfMessage<4> =>
  of13.OFPErrorMsg({ type: ofp.OFPET_EXPERIMENTER, exp_type, experimenter: ONF, data: Buffer.alloc(0) });

export class Bundles {
  readonly #open = new Map<number, { flags: number; mods: { mod: FlowMod | GroupMod; xid: number }[] }>();

  /** Adds a message. The answer, where it is refused. */
  add(m: Add): OfMessage<4> | undefined {
    const bundle = this.#open.get(m.bundle_id);
    if (bundle === undefined) return onfError(ofp.ONFERR_ET_BAD_ID);
    if (bundle.flags !== m.flags) return onfError(ofp.ONFERR_ET_BAD_FLAGS);
    const mod = m.message;
    if (mod.cls !== 'OFPFlowMod' && mod.cls !== 'OFPGroupMod') return onfError(ofp.ONFERR_ET_MSG_UNSUP);
    bundle.mods.push({ mod: mod as FlowMod | GroupMod, xid: m.xid });
    return undefined;
  }

  control(m: Control, tables: FlowTables, nowMs: number): BundleAnswer {
    const refuse = (exp_type: number, errors: BundleAnswer['errors'] = []) => ({ errors, reply: onfError(exp_type) });
    const { bundle_id, flags, type } = m;
    const bundle = this.#open.get(bundle_id);
    if (type === ofp.ONF_BCT_OPEN_REQUEST) {
      if (bundle !== undefined) return refuse(ofp.ONFERR_ET_BUNDLE_EXIST);
      this.#open.set(bundle_id, { flags, mods: [] });
    } else if (type === ofp.ONF_BCT_COMMIT_REQUEST || type === ofp.ONF_BCT_DISCARD_REQUEST) {
      if (bundle === undefined) return refuse(ofp.ONFERR_ET_BAD_ID);
      this.#open.delete(bundle_id);
      const isCommit = type === ofp.ONF_BCT_COMMIT_REQUEST;
      const wrong = isCommit
        ? tables.applyAll(
            bundle.mods.map(({ mod }) => mod),
            nowMs,
          )
        : undefined;
      if (wrong !== undefined)
        return refuse(ofp.ONFERR_ET_FAILED, [{ ...wrong.error, xid: bundle.mods[wrong.at]?.xid ?? 0 }]);
    } else return refuse(ofp.ONFERR_ET_BAD_TYPE);
    return { errors: [], reply: of13.ONFBundleCtrlMsg({ bundle_id, flags, type: type + 1 }) };
  }
}
