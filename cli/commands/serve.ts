/** `fairway controller` and `fairway agent`: the two long-running processes, until SIGINT or SIGTERM. */
import { systemClock } from '../../contracts/clock.ts';
import { FairwayError } from '../../contracts/common.ts';
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
  o: ServeOptions & {
    json?: true;
    removeFlows?: true;
    app?: 'fairway' | 'learning';
    listen?: { host: string; port: number };
  },
): Promise<undefined> {
  const log = createLog(o.logLevel, terminal.err);
  if (o.app === 'learning') return learning(terminal, log, o);
  if (o.listen !== undefined)
    throw new FairwayError(
      'cli.controller',
      '--listen goes with --app learning; otherwise set openflow.host and openflow.port (--set openflow.port=6653)',
      ['badInput'],
    );
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

async function learning(
  terminal: Terminal,
  log: Log,
  o: ServeOptions & { json?: true; removeFlows?: true; listen?: { host: string; port: number } },
): Promise<undefined> {
  if (o.config !== undefined || o.set.length > 0 || o.removeFlows)
    throw new FairwayError('cli.controller', '--app learning takes --listen, --log-level and --json only', [
      'badInput',
    ]);
  const { startLearning } = await import('../../controller/io/learning.ts');
  const { host, port } = o.listen ?? { host: '127.0.0.1', port: 6653 };
  const running = await startLearning({ host, port, log, clock: systemClock() });
  terminal.out(
    o.json
      ? `${JSON.stringify({ openflowPort: running.port })}\n`
      : `Switches connect to tcp:${host}:${running.port}.\n`,
  );
  await untilStopped(terminal.signal);
  await running.close();
}

export async function agent(terminal: Terminal, o: ServeOptions): Promise<undefined> {
  const log = createLog(o.logLevel, terminal.err);
  const config = accept(loadAgentConfig({ file: o.config, env: terminal.env, set: o.set }), log);
  const { startAgent } = await import('../../agent/io/agent.ts');
  let token = readToken(config.tokenFile, terminal.env);
  const latest = (): string => {
    try {
      token = readToken(config.tokenFile, terminal.env);
    } catch {
      // Being replaced just now, or gone: the last one may still do.
    }
    return token;
  };
  const running = await startAgent(config, { log, token: latest });
  await untilStopped(terminal.signal);
  const going = running.driver.migrations().map((m) => m.migration);
  log('info', 'agent.stopping', going.length === 0 ? {} : { going });
  await running.close();
}

function accept<T>(loaded: Loaded<T>, log: Log): T {
  for (const name of loaded.unknownVariables) log('warn', 'config.unknownVariable', { name });
  return loaded.config;
}
