// The config.json in which Docker's tools, and BuildKit's, look for credentials.
import type { BuildCredentials } from '../../backend.ts';

/** The key under which these tools keep what Docker Hub wants. */
const DOCKER_HUB_KEY = 'https://index.docker.io/v1/';
const DOCKER_HUB = ['docker.io', 'index.docker.io', 'registry-1.docker.io'];

interface DockerConfig {
  readonly auths: Readonly<Record<string, { readonly auth: string }>>;
}

/** Credentials by their registry's host as a config.json. Without credentials it is one that knows nobody. */
export function dockerConfig(credentials: ReadonlyMap<string, BuildCredentials>): DockerConfig {
  const entries = [...credentials].flatMap(([host, { username, password }]) => {
    const auth = Buffer.from(`${username}:${password}`).toString('base64');
    return keysOf(host).map(key => [key, { auth }] as const);
  });
  return { auths: Object.fromEntries(entries) };
}

function keysOf(host: string): readonly string[] {
  return DOCKER_HUB.includes(host) ? [host, DOCKER_HUB_KEY] : [host];
}
