/** `fairway controller` and `fairway agent`: the two long-running processes, until SIGINT or SIGTERM. */
import { systemClock } from '../../contracts/clock.ts';
import { createLog, type Log, type LogLevel } from '../../contracts/log.ts';
import { type Loaded, loadAgentConfig, loadControllerConfig } from '../config.ts';
import { readToken } from '../connect.ts';
import { type Terminal, untilStopped } from '../terminal.ts';

interface ServeOptions {
  config?: string;
  set: string[];
  logLevel: LogLevel;
}

export async function controller(
  terminal: Terminal,
  o: ServeOptions & { json?: true; removeFlows?: true },
): Promise<undefined> {
  const log = createLog(o.logLevel, terminal.err);
  const config = accept(loadControllerConfig({ file: o.config, env: terminal.env, set: o.set }), log);
  const { loadToken } = await import('../../controller/io/token.ts');
  const { startController } = await import('../../controller/io/server.ts');
  const token = await loadToken(config.tokenFile, terminal.env.FAIRWAY_TOKEN);
  const running = await startController(config, { log, clock: systemClock(), token });
  const { openflowPort, httpPort } = running;
  terminal.out(
    o.json
      ? `${JSON.stringify({ openflowPort, httpPort })}\n`
      : `Switches connect to tcp:${config.openflow.host}:${openflowPort}, agents and operators to ` +
          `http://${config.http.host}:${httpPort}; the token is in ${terminal.env.FAIRWAY_TOKEN ? 'FAIRWAY_TOKEN' : config.tokenFile}.\n`,
  );
  await untilStopped(terminal.signal);
  log('info', 'controller.stopping');
  await running.close({ removeFlows: o.removeFlows === true });
}

export async function agent(terminal: Terminal, o: ServeOptions): Promise<undefined> {
  const log = createLog(o.logLevel, terminal.err);
  const config = accept(loadAgentConfig({ file: o.config, env: terminal.env, set: o.set }), log);
  const { startAgent } = await import('../../agent/io/agent.ts');
  const running = await startAgent(config, { log, token: readToken(config.tokenFile, terminal.env) });
  await untilStopped(terminal.signal);
  log('info', 'agent.stopping');
  await running.close();
}

function accept<T>(loaded: Loaded<T>, log: Log): T {
  for (const name of loaded.unknownVariables) log('warn', 'config.unknownVariable', { name });
  return loaded.config;
}
