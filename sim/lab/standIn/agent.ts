/**
 * An agent with the stand-in's driver, run as a process of its own at a hypervisor of the lab:
 * `agent.js <agent.yaml> <stand-in.json>`. The session with the controller is the ordinary agent's.
 */
import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { startAgent } from '../../../agent/io/agent.ts';
import { guestSpecSchema } from '../../../contracts/agent.ts';
import { systemClock } from '../../../contracts/clock.ts';
import { agentConfigSchema } from '../../../contracts/config.ts';
import { createLog } from '../../../contracts/log.ts';
import { ProbeControl } from './control.ts';
import { createStandInDriver, type StandInOptions } from './driver.ts';

/** What the second file holds. */
export interface StandInFile {
  options: StandInOptions;
  /** Socket of the guest. */
  socket: string;
  /** Hosts by migration address. */
  hosts: Record<string, string>;
  /** Guests that are here at the start. */
  guests: unknown[];
}

const [configFile = '', standInFile = ''] = process.argv.slice(2);
const config = agentConfigSchema.parse(parse(readFileSync(configFile, 'utf8')));
const { options, socket, hosts, guests } = JSON.parse(readFileSync(standInFile, 'utf8')) as StandInFile;
const clock = systemClock();
const control = await ProbeControl.connect(socket);
const specs = guests.map((g) => guestSpecSchema.parse(g));
const driver = createStandInDriver(options, clock, control, (address) => hosts[address], specs);
const log = createLog('info', (line) => process.stderr.write(line));
const running = await startAgent(config, { token: process.env.FAIRWAY_TOKEN ?? '', log, clock, driver });
process.once('SIGTERM', () => void running.close());
