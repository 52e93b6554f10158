// The process edge: arguments, the socket, signals and the drain.
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { serve } from '@hono/node-server';
import { Command } from 'commander';
import { type Logger, pino } from 'pino';
import pretty from 'pino-pretty';
import { z } from 'zod';
import { createApp } from './app.ts';
import type { Config } from './config/schema.ts';
import { ConfigError, loadConfig } from './config.ts';

const { version } = z
  .object({ version: z.string() })
  .parse(JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')));

const command = new Command('veneer')
  .description('A registry proxy that puts a thin layer on any container image as it is pulled.')
  .version(version)
  .option('--config <file>', 'the configuration (VENEER_CONFIG; default: ./veneer.yaml if it is there)')
  .option('--listen <host:port>', 'where to listen (VENEER_LISTEN; default: 127.0.0.1:8080)')
  .option('--data-dir <directory>', 'where data lies (VENEER_DATA_DIR; default: .veneer)')
  .action(run);

await command.parseAsync();

async function run(flags: { config?: string; listen?: string; dataDir?: string }): Promise<void> {
  const config = readConfig(flags);
  const log = createLog(config);
  const dockerConfigPath = join(process.env.DOCKER_CONFIG ?? join(homedir(), '.docker'), 'config.json');
  const app = await createApp({ config, log, version, dockerConfigPath });
  const { host, port } = config.listen;
  const server = serve({ fetch: app.fetch, hostname: host, port }, address => announce(log, config, address.port));
  server.on('error', error => {
    log.fatal({ err: error }, `cannot listen on ${host}:${port}`);
    process.exit(1);
  });
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => void drain(signal));

  /** Takes no new connection, lets requests end within the grace time, and leaves. */
  async function drain(signal: string): Promise<void> {
    log.info({ signal, graceMs: config.shutdownGraceMs }, 'draining');
    const cut = setTimeout(
      () => 'closeAllConnections' in server && server.closeAllConnections(),
      config.shutdownGraceMs,
    );
    await new Promise(resolve => server.close(resolve));
    clearTimeout(cut);
    await app.close();
    log.info('stopped');
  }
}

function readConfig(flags: { config?: string; listen?: string; dataDir?: string }): Config {
  try {
    return loadConfig({ env: process.env, flags });
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exit(1);
  }
}

function createLog({ log }: Config): Logger {
  const isPretty = (log.format ?? (process.stdout.isTTY ? 'pretty' : 'json')) === 'pretty';
  return isPretty ? pino({ level: log.level }, pretty({ sync: true })) : pino({ level: log.level });
}

function announce(log: Logger, config: Config, port: number): void {
  const address = `${config.listen.host}:${port}`;
  log.info(
    { dataDir: config.dataDir },
    `listening on http://${address}, data in ${config.dataDir}; try: docker pull ${address}/library/alpine:3`,
  );
}
