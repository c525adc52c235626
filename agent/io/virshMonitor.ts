/**
 * A guest's QMP by way of libvirt (`virsh qemu-monitor-command`): for what libvirt lets nobody say in its own words while a
 * guest is being copied, such as the pace of its mirrors. libvirt marks the guest with it.
 */
import { z } from 'zod';
import { FairwayError } from '../../contracts/common.ts';
import type { QmpCommands } from './qmp.ts';
import type { Virsh } from './virsh.ts';

const replySchema = z.object({
  return: z.unknown().optional(),
  error: z.object({ class: z.string(), desc: z.string() }).optional(),
});

/** Commands as `qmp.ts` has them, with the same errors for refusals by QEMU, and those of `virsh.ts`. */
export function virshMonitor(virsh: Virsh, domain: string): QmpCommands {
  return {
    async execute(command, args, timeoutMs) {
      const words = JSON.stringify({ execute: command, ...(args === undefined ? {} : { arguments: args }) });
      const text = await virsh.run(['qemu-monitor-command', '--domain', domain, '--cmd', words], timeoutMs);
      const reply = replySchema.parse(text.trim() === '' ? {} : JSON.parse(text));
      if (reply.error === undefined) return reply.return;
      throw new FairwayError(`qmp-${reply.error.class}`, `${command}: ${reply.error.desc}`);
    },
  };
}
