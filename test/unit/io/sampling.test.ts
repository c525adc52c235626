/** How often a running controller reads its switches' counters: `reservation.periodMs` of the policy in force. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { stringify } from 'yaml';
import { FairwayClient } from '../../../cli/client.ts';
import { systemClock } from '../../../contracts/clock.ts';
import { controllerConfigSchema } from '../../../contracts/config.ts';
import { silentLog } from '../../../contracts/log.ts';
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import { startController } from '../../../controller/io/server.ts';
import { EmulatedSwitch } from '../../../sim/switch/emulatedSwitch.ts';
import { Cable } from './cable.ts';
import { until } from './support.ts';

const token = 'token-of-the-counters';

test('a period that was made shorter holds at once, not when the long one is over', async () => {
  const clock = systemClock();
  const file = join(mkdtempSync(join(tmpdir(), 'fairway-sampling-')), 'policy.yaml');
  const reservation = { ...DEFAULT_POLICY.reservation, periodMs: 60_000 };
  writeFileSync(file, stringify({ ...DEFAULT_POLICY, reservation }));
  const config = controllerConfigSchema.parse({
    ...{ openflow: { port: 0 }, http: { port: 0 }, policy: { store: 'file', file } },
  });
  const server = await startController(config, { log: silentLog, clock, token, journal: null });
  const cable = await Cable.lay(server.openflowPort);
  const device = new EmulatedSwitch({
    ...{ dpid: '00000000000000a7', name: 'counted', clock, transmit: () => {} },
    controller: { host: '127.0.0.1', port: cable.port },
    ports: [{ portNo: 1, name: 'eth1', hwAddr: '02:00:00:00:00:01', speedBps: 1e9 }],
  });
  const readings = () => cable.sent.filter((m) => m.cls === 'OFPPortStatsRequest').length;
  try {
    device.start();
    const client = new FairwayClient({ url: `http://127.0.0.1:${server.httpPort}`, token, timeoutMs: 30_000 });
    await until(() => device.isConnected, 'the switch is there');
    const before = readings();
    await client.patchPolicy({ 'reservation.periodMs': 500 });
    // By the long period the next one would be due half of it after the controller's start.
    await until(() => readings() > before + 1, 'it was read twice more', 20_000);
    expect(readings()).toBeGreaterThan(before + 1);
  } finally {
    device.stop();
    await cable.close();
    await server.close();
    rmSync(dirname(file), { recursive: true });
  }
});
