// Who we are at an upstream, as docker's own config file and its helpers say.
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { askHelper, HelperFailure } from './credential-helper.ts';

/** A password, or an identity token that a token server takes in its place. */
export type Credentials = PasswordCredentials | { readonly username: string; readonly identityToken: string };

export interface PasswordCredentials {
  readonly username: string;
  readonly password: string;
}

/** The credentials for a host; undefined where there are none. */
export type FindCredentials = (host: string) => Promise<Credentials | undefined>;

export interface DockerCredentialsOptions {
  readonly configPath: string;
  /** Hears of a helper that failed: its host is then asked as if there were no credentials for it. */
  readonly onHelperFailed?: ((failure: HelperFailure) => void) | undefined;
  readonly helperTimeoutMs?: number | undefined;
}

const configSchema = z.object({
  auths: z
    .record(
      z.string(),
      z.object({
        auth: z.string().optional(),
        username: z.string().optional(),
        password: z.string().optional(),
        identitytoken: z.string().optional(),
      }),
    )
    .default({}),
  credHelpers: z.record(z.string(), z.string()).default({}),
  credsStore: z.string().optional(),
});

type DockerConfig = z.infer<typeof configSchema>;

const HELPER_TIMEOUT_MS = 10_000;
const HUB_KEYS: readonly string[] = ['https://index.docker.io/v1/', 'docker.io', 'index.docker.io'];

/**
 * Looks credentials up in docker's config file, which is read anew each time: logins change it.
 * A file or entry that cannot be used is as if it were not there; the upstream then says what it lacks.
 */
export function createDockerCredentials(options: DockerCredentialsOptions): FindCredentials {
  const { configPath, onHelperFailed, helperTimeoutMs = HELPER_TIMEOUT_MS } = options;

  async function ask(helper: string, key: string): Promise<Credentials | undefined> {
    try {
      const secret = await askHelper(helper, key, helperTimeoutMs);
      return secret && toCredentials(secret);
    } catch (error) {
      if (!(error instanceof HelperFailure)) throw error;
      onHelperFailed?.(error);
      return undefined;
    }
  }

  return async host => {
    const config = await readConfig(configPath);
    if (!config) return undefined;
    const keys = host === 'docker.io' ? HUB_KEYS : [host, `https://${host}`, `http://${host}`];
    const helper = keys.map(key => config.credHelpers[key]).find(name => name !== undefined);
    if (helper) return ask(helper, keys[0] ?? host);
    const fromFile = keys.map(key => findAuth(config, key)).find(found => found !== undefined);
    return fromFile ?? (config.credsStore ? ask(config.credsStore, keys[0] ?? host) : undefined);
  };
}

async function readConfig(path: string): Promise<DockerConfig | undefined> {
  try {
    return configSchema.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch {
    return undefined;
  }
}

function findAuth({ auths }: DockerConfig, key: string): Credentials | undefined {
  const entry = auths[key];
  const [, decodedName, decodedPassword = ''] =
    /^([^:]+):(.*)$/s.exec(Buffer.from(entry?.auth ?? '', 'base64').toString()) ?? [];
  const username = entry?.username || decodedName;
  if (entry?.identitytoken) return { username: username ?? TOKEN_NAME, identityToken: entry.identitytoken };
  const password = entry?.password || decodedPassword.replace(/\0+$/, '');
  return username && password ? { username, password } : undefined;
}

/** In place of a name, a helper says with this that the secret is an identity token. */
const TOKEN_NAME = '<token>';

function toCredentials({ username, secret }: { readonly username: string; readonly secret: string }): Credentials {
  return username === TOKEN_NAME ? { username, identityToken: secret } : { username, password: secret };
}

/** The Authorization header of the Basic scheme. RFC 7617. */
export function basic(credentials: Credentials): string {
  const password = 'password' in credentials ? credentials.password : credentials.identityToken;
  return `Basic ${Buffer.from(`${credentials.username}:${password}`).toString('base64')}`;
}
