/** QMP by way of virsh: what is said, and what refusals become. */
import type { Virsh } from '../../../agent/io/virsh.ts';
import { virshMonitor } from '../../../agent/io/virshMonitor.ts';

test('commands go as JSON, and a refusal by QEMU is the same error as over its own socket', async () => {
  const said: (readonly string[])[] = [];
  const answers = [
    '{"return":{"status":"active"},"id":"libvirt-7"}\n',
    '{"error":{"class":"DeviceNotFound","desc":"no job"}}',
  ];
  const virsh = {
    run: (args: readonly string[]) => {
      said.push(args);
      return Promise.resolve(answers.shift() ?? '');
    },
  } as unknown as Virsh;
  const monitor = virshMonitor(virsh, 'vm1');
  expect(await monitor.execute('query-migrate')).toEqual({ status: 'active' });
  await expect(monitor.execute('job-dismiss', { id: 'j' })).rejects.toMatchObject({ code: 'qmp-DeviceNotFound' });
  expect(await monitor.execute('cont')).toBeUndefined();
  expect(said).toEqual([
    ['qemu-monitor-command', '--domain', 'vm1', '--cmd', '{"execute":"query-migrate"}'],
    ['qemu-monitor-command', '--domain', 'vm1', '--cmd', '{"execute":"job-dismiss","arguments":{"id":"j"}}'],
    ['qemu-monitor-command', '--domain', 'vm1', '--cmd', '{"execute":"cont"}'],
  ]);
});
