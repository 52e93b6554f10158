// Who we are at an upstream: from the configuration, else from docker's own config file and its helpers.
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { z } from 'zod';

export interface Credentials {
  readonly username: string;
  readonly password: string;
}

/** The credentials for a host; undefined where there are none. */
export type FindCredentials = (host: string) => Promise<Credentials | undefined>;

const configSchema = z.object({
  auths: z
    .record(
      z.string(),
      z.object({ auth: z.string().optional(), username: z.string().optional(), password: z.string().optional() }),
    )
    .default({}),
  credHelpers: z.record(z.string(), z.string()).default({}),
  credsStore: z.string().optional(),
});

type DockerConfig = z.infer<typeof configSchema>;

const helperSchema = z.object({ Username: z.string(), Secret: z.string().min(1) });
const HELPER_NAME = /^[A-Za-z0-9._-]+$/;
const HELPER_TIMEOUT_MS = 10_000;
const HUB_KEY = 'https://index.docker.io/v1/';

/**
 * Looks credentials up in docker's config file, which is read anew each time: logins change it.
 * A file, entry or helper that cannot be used is as if it were not there; the upstream then says what it lacks.
 */
export function createDockerCredentials(configPath: string): FindCredentials {
  return async host => {
    const config = await readConfig(configPath);
    if (!config) return undefined;
    const keys =
      host === 'docker.io' ? [HUB_KEY, 'docker.io', 'index.docker.io'] : [host, `https://${host}`, `http://${host}`];
    const fromFile = keys.map(key => findAuth(config, key)).find(found => found !== undefined);
    const helper = keys.map(key => config.credHelpers[key]).find(name => name !== undefined);
    if (helper) return askHelper(helper, keys[0] ?? host);
    return fromFile ?? (config.credsStore ? askHelper(config.credsStore, keys[0] ?? host) : undefined);
  };
}

async function readConfig(path: string): Promise<DockerConfig | undefined> {
  try {
    return configSchema.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch {
    return undefined;
  }
}

function findAuth(config: DockerConfig, key: string): Credentials | undefined {
  const entry = config.auths[key];
  if (entry?.username && entry.password) return { username: entry.username, password: entry.password };
  const [, username, password] = /^([^:]+):(.+)$/s.exec(Buffer.from(entry?.auth ?? '', 'base64').toString()) ?? [];
  return username && password ? { username, password: password.replace(/\0+$/, '') } : undefined;
}

/** Runs `docker-credential-<name> get`: the host on stdin, JSON on stdout. */
function askHelper(name: string, host: string): Promise<Credentials | undefined> {
  if (!HELPER_NAME.test(name)) return Promise.resolve(undefined);
  return new Promise(resolve => {
    const child = execFile(
      `docker-credential-${name}`,
      ['get'],
      { timeout: HELPER_TIMEOUT_MS },
      (error, stdout): void => resolve(error ? undefined : parseHelper(stdout)),
    );
    // A helper that ends without reading its input is no failure of ours.
    child.stdin?.on('error', () => {});
    child.stdin?.end(host);
  });
}

function parseHelper(stdout: string): Credentials | undefined {
  try {
    const { Username, Secret } = helperSchema.parse(JSON.parse(stdout));
    return { username: Username, password: Secret };
  } catch {
    return undefined;
  }
}
